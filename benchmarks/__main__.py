"""python -m benchmarks NAME [--quick] | --list"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import harness
from shelftalk.runtime.machine import set_thread_waiting

NOT_BENCHMARKS = {"__main__", "harness"}


def names() -> list[str]:
    """Every benchmark as it is called on the command line; a module that begins with an underscore is shared
    code."""
    modules = (info.name for info in pkgutil.iter_modules([str(Path(__file__).parent)]))
    return sorted(
        name.replace("_", "-") for name in modules if name not in NOT_BENCHMARKS and not name.startswith("_")
    )


def module(name: str) -> Any:
    """The module of a benchmark."""
    return importlib.import_module(f"benchmarks.{name.replace('-', '_')}")


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if every claim holds, 1 if one does not, 2 for a name that nobody has."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure what the project claims."
    )
    parser.add_argument("name", nargs="?", help="which benchmark")
    parser.add_argument(
        "--quick", action="store_true", help="the same comparison, smaller: about five minutes"
    )
    parser.add_argument("--list", action="store_true", help="every benchmark with its claims")
    given = parser.parse_args(arguments)
    console = Console(highlight=False)
    if given.list:
        for name in names():
            console.print(
                f"{name}\n" + "\n".join(f"  - {claim}" for claim in module(name).CLAIMS), markup=False
            )
        return 0
    if given.name not in names():
        print(f"there is no benchmark {given.name!r}; known are: {', '.join(names())}.", file=sys.stderr)
        return 2
    return _measure(given.name, given.quick, console)


def _measure(name: str, quick: bool, console: Console) -> int:
    """Run one, keep its result, print its claims."""
    measured = harness.code()  # before: a commit made while it runs is not what is measured
    set_thread_waiting()  # as the command line does
    result = module(name).main(quick)
    path = harness.write_result(name, quick, result.seed, result.claims, result.runs, result.data, measured)
    console.print(_table(name, result))
    console.print(f"Written: {path}", soft_wrap=True, markup=False)
    return 0 if all(claim.holds for claim in result.claims) else 1


def _table(name: str, result: harness.Result) -> Table:
    table = Table(title=name, title_justify="left")
    for column in ("claim", "measured", "target", "holds"):
        table.add_column(column)
    for claim in result.claims:
        measured = f"{claim.value:.4g}" if isinstance(claim.value, float) else str(claim.value)
        table.add_row(claim.claim, measured, claim.target, "yes" if claim.holds else "NO")
    return table


if __name__ == "__main__":
    sys.exit(main())
