"""Experiment files that come with the package, for `extends = "NAME"`."""

from __future__ import annotations

from pathlib import Path

BEST = "best"
"""The recipe of the command line where it is given no experiment file."""
_FOLDER = Path(__file__).parent


def recipe_names() -> list[str]:
    """The names of all recipes."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def recipe_file(name: str) -> Path:
    """The file of a recipe."""
    return _FOLDER / f"{name}.toml"
