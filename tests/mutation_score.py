"""How many mutants of `make mutants` each module's tests killed, from the records that mutmut keeps.

`python -m tests.mutation_score [FOLDER]` prints the table and what no test killed, and writes
benchmarks/results/mutants.json.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import harness

KILLED = "killed"
OUTCOMES = (KILLED, "survived", "timeout", "no tests", "crashed")
NAMES = {0: "survived", 1: KILLED, 3: KILLED, 5: "no tests", 33: "no tests", 36: "timeout"}
"""Exit code of mutmut's worker -> outcome; any other one is a crash."""


def outcomes_by_module(folder: Path) -> dict[str, dict[str, str | None]]:
    """Module -> mutant -> outcome; None for one that was not run. Modules of which none was run are left
    out."""
    found: dict[str, dict[str, str | None]] = {}
    for path in sorted(folder.glob("src/**/*.meta")):
        codes = json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]
        if any(code is not None for code in codes.values()):
            module = str(path.relative_to(folder / "src")).removesuffix(".meta")
            found[module] = {
                name: None if code is None else NAMES.get(code, "crashed") for name, code in codes.items()
            }
    return found


def rows(outcomes: dict[str, dict[str, str | None]]) -> list[dict[str, Any]]:
    """One per module: its mutants, how many were run, and what became of those."""
    counts = {module: Counter(mutants.values()) for module, mutants in outcomes.items()}
    return [
        {
            "module": module,
            "mutants": count.total(),
            "run": count.total() - count[None],
            **{outcome: count[outcome] for outcome in OUTCOMES},
        }
        for module, count in counts.items()
    ]


def table(counted: Sequence[dict[str, Any]]) -> str:
    """Markdown."""
    columns = ("mutants", "run", *OUTCOMES)
    lines = [f"| module | {' | '.join(columns)} |", f"| --- |{' ---: |' * len(columns)}"]
    lines += [f"| `{row['module']}` | {' | '.join(str(row[name]) for name in columns)} |" for row in counted]
    return "\n".join(lines)


def main(arguments: Sequence[str], results: Path = harness.RESULTS) -> None:
    """Print and write the score of the records in a folder, "mutants" where none is named."""
    outcomes = outcomes_by_module(Path(arguments[0] if arguments else "mutants"))
    counted = rows(outcomes)
    every = [pair for mutants in outcomes.values() for pair in mutants.items()]
    left = {name: outcome for name, outcome in every if outcome not in (KILLED, None)}
    harness.write_result("mutants", False, 0, [], [*counted, {"not killed": left}], folder=results)
    print(table(counted))
    print("".join(f"{outcome}: {name}\n" for name, outcome in left.items()), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
