"""Writes docs/cli.md from the program. `make docs` runs it; a test compares the page with the program."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from shelftalk.app.cli import app

PAGE = Path(__file__).parent / "cli.md"
KINDS = {float: "NUMBER", Path: "PATH", int: "NUMBER", str: "TEXT", list[str]: "TEXT"}
HEAD = """# The command line

*Written by `make docs` from the program; a test compares the two.*

Settings are read from an experiment file; the options below change a few of them for one call. An error that
you can fix is one sentence on standard error with exit code 2. Ctrl-C ends with 130 and loses nothing: the
same command continues.
"""


def page() -> str:
    """The whole page."""
    root: Any = typer.main.get_command(app)
    return "\n".join([HEAD, *_lines("shelftalk", root)])


def _lines(name: str, command: Any) -> Iterator[str]:
    """A command and those below it."""
    arguments = "".join(f" [{p.name.upper()}]" for p in command.params if not _is_option(p))
    below = getattr(command, "commands", {})
    yield f"## `{name}{arguments}{' COMMAND' if below else ''}`\n"
    yield textwrap.fill((command.help or "").strip(), 110, break_on_hyphens=False) + "\n"
    for parameter in command.params:
        yield textwrap.fill(f"- {_parameter(parameter)}", 110, subsequent_indent="  ", break_on_hyphens=False)
    if command.params:
        yield ""
    for title, inner in below.items():
        yield from _lines(f"{name} {title}", inner)


def _parameter(parameter: Any) -> str:
    """One argument or option with its kind and its help; a default where it says something."""
    name = parameter.opts[0] if _is_option(parameter) else parameter.name.upper()
    if _is_option(parameter) and not parameter.is_flag:
        name += f" {KINDS[parameter.type_descriptor.annotation]}"
    default = "" if parameter.default in (None, False) else f" Default: `{parameter.default}`."
    return f"`{name}`: {parameter.help}{default}"


def _is_option(parameter: Any) -> bool:
    return parameter.opts[0].startswith("-")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
