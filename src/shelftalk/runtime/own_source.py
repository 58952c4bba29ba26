"""The code of a part that is the user's own, as hashes: what the part does depends on that code."""

from __future__ import annotations

import ast
import importlib.util
import site
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import metadata
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from shelftalk.runtime.file_hashes import sha256


def source_of(address: str) -> dict[str, Any]:
    """What "package.module:Thing" is made of, by hash and version, without importing anything.

    `modules`: name -> SHA-256 of its file, for the module and all that it imports, directly or through
    others, but for the standard library, installed distributions and shelftalk itself. `distributions`: name
    -> version of the installed ones that these import. `not_looked_at`: the module itself where it has no
    file, as one that was made in memory. Files that the code reads, and modules that it imports by a computed
    name, are not known.
    """
    first = address.partition(":")[0]
    modules: dict[str, str] = {}
    installed: set[str] = set()
    waiting, seen = [*_with_parents(first)], set[str]()
    while waiting:
        name = waiting.pop()
        spec = None if name in seen or _is_known(name) else _spec(name)
        seen.add(name)
        if spec is None or spec.origin is None:  # no module, or a package without a file of its own
            continue
        path = Path(spec.origin)
        if _is_installed(path):
            installed.add(name.partition(".")[0])
        elif path.is_file():
            modules[name] = sha256(path)
            if path.suffix == ".py":
                waiting += _imported(path, name, spec.submodule_search_locations is not None)
    lacking = [] if first in modules or first.partition(".")[0] in installed else [first]
    return {
        "modules": dict(sorted(modules.items())),
        "distributions": _versions(installed),
        "not_looked_at": lacking,
    }


def left_out(sources: Mapping[str, Any], sentences: Sequence[str] = ()) -> dict[str, list[str]]:
    """The fact "left_out" of a stage, if there is any: the sentences given, and one for each of its own parts
    (address -> `source_of`) whose code cannot be watched for changes."""
    unwatched = [
        f'The code of "{name}" has no file, so a change is not noticed; choose another --out when it changes.'
        for name, source in sources.items()
        if source["not_looked_at"]
    ]
    return {"left_out": [*sentences, *unwatched]} if sentences or unwatched else {}


def _is_known(name: str) -> bool:
    return name.partition(".")[0] in {*sys.stdlib_module_names, "shelftalk"}


def _spec(name: str) -> ModuleSpec | None:
    """Where a module comes from; None where there is none of that name."""
    parent, _, _ = name.rpartition(".")
    try:
        if not parent:
            return importlib.util.find_spec(name)
        above = _spec(parent)
        return (
            PathFinder.find_spec(name, above.submodule_search_locations)
            if above and above.submodule_search_locations
            else None
        )
    except (ImportError, ValueError):  # a module in memory that was never looked for has no spec
        return None


def _is_installed(path: Path) -> bool:
    folders = {
        sysconfig.get_path("purelib"),
        sysconfig.get_path("platlib"),
        *site.getsitepackages(),
        site.getusersitepackages(),
    }
    return any(
        path.is_relative_to(folder) or path.is_relative_to(Path(folder).resolve()) for folder in folders
    )


def _imported(path: Path, name: str, is_package: bool) -> Iterator[str]:
    """The names that the import statements of a file may
    mean; of `from m import n`, m.n may be a module too."""
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError:  # loading it says so
        return
    package = name if is_package else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from _with_parents(base)
            yield from (f"{base}.{alias.name}" for alias in node.names if base)


def _with_parents(name: str) -> list[str]:
    """ "a.b.c" -> a, a.b, a.b.c: importing a module runs the packages that it is in."""
    parts = name.split(".") if name else []
    return [".".join(parts[: number + 1]) for number in range(len(parts))]


def _versions(top_levels: set[str]) -> dict[str, str]:
    names = {name for top in top_levels for name in _distributions().get(top, ())}
    return {name: metadata.version(name) for name in sorted(names)}


@cache
def _distributions() -> Mapping[str, Sequence[str]]:
    """Top-level package -> the installed distributions that offer it; a process looks once."""
    return metadata.packages_distributions()
