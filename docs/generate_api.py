"""Writes docs/api.md from `shelftalk.__all__`. `make docs` runs it; a test compares the two."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import shelftalk

PAGE = Path(__file__).parent / "api.md"
WIDTH, WIDE = 110, 1000
HEAD = """# Python

*Written by `make docs` from the package; a test compares the two.*

What is on this page is what you may rely on: exactly `shelftalk.__all__`. Everything else may change between
minor versions. `import shelftalk` loads neither torch nor transformers; they come when a language model does.
"""


def page() -> str:
    """The whole page: a heading for each public name."""
    text = "\n".join([HEAD, *(line for name in shelftalk.__all__ for line in _entry(name))])
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def _entry(name: str) -> Iterator[str]:
    """A name with its signature and docstring; of a class its public methods and properties too."""
    value = getattr(shelftalk, name)
    yield f"## `shelftalk.{name}`\n"
    if not callable(value):
        yield f"`{value!r}`\n"
        return
    if _is_called(value):
        yield from ("```python", f"{name}{_signature(value)}", "```\n")
    yield f"{inspect.getdoc(value)}\n"
    for member, kind in vars(value).items() if inspect.isclass(value) else ():
        function = kind.func if isinstance(kind, cached_property) else getattr(kind, "fget", kind)
        if member.startswith("_") or not inspect.isfunction(function):
            continue
        shown = f"`.{member}`" if function is not kind else f"`.{member}{_signature(function, WIDE)}`"
        sentences = " ".join(inspect.cleandoc(function.__doc__ or "").split())
        yield textwrap.fill(
            f"{shown}: {sentences}" if sentences else shown,
            WIDTH,
            initial_indent="- ",
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    if inspect.isclass(value):
        yield ""


def _is_called(value: Any) -> bool:
    """Whether users call it: protocols and errors they do not, and an experiment's fields have a page."""
    if not inspect.isclass(value):
        return True
    return not (issubclass(value, (BaseModel, Exception)) or getattr(value, "_is_protocol", False))


def _signature(value: Any, width: int = WIDTH - 20) -> str:
    """Parameters with their annotations as they are written; one a line where they are too many for one."""
    signature = inspect.signature(value)
    parameters = [_parameter(one) for one in signature.parameters.values() if one.name != "self"]
    result = "" if inspect.isclass(value) else f" -> {signature.return_annotation}"
    on_one_line = f"({', '.join(parameters)}){result}"
    if len(on_one_line) <= width:
        return on_one_line
    return "\n".join(["(", *(f"    {one}," for one in parameters), f"){result}"])


def _parameter(parameter: inspect.Parameter) -> str:
    """A parameter as in the source; a default that is no plain value by its name, or as "..."."""
    text, default = f"{parameter.name}: {parameter.annotation}", parameter.default
    if default is inspect.Parameter.empty:
        return text
    if isinstance(default, (str, int, float, tuple, type(None))):
        return f"{text} = {default!r}"
    return f"{text} = {getattr(default, '__name__', '...')}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
