"""Writes docs/settings.md from the settings classes. `make docs` runs it; a test compares the two."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from shelftalk.experiment import Experiment
from shelftalk.settings import Settings

PAGE = Path(__file__).parent / "settings.md"
HEAD = """# Settings

*Written by `make docs` from the settings classes; a test compares the two.*

An experiment file (TOML) sets any of these; what it leaves out has the default, or the value of the recipe or
file that it `extends` ([how](how-to.md#-run-it-on-your-own-data)). An unknown key is an error that names the
nearest known one. `shelftalk show experiment my-shop.toml` prints the whole experiment, each setting with its
sentence: a file to start your own from.
"""


def page() -> str:
    """The whole page: the top level, then a heading for each section."""
    return "\n".join([HEAD, *_section(Experiment(), "")]).rstrip() + "\n"


def _section(settings: Settings, name: str) -> Iterator[str]:
    """A table of the section's own settings, then the sections inside it."""
    if name:
        yield f"## `[{name}]`\n"
        yield f"{' '.join((type(settings).__doc__ or '').split())}\n"
    inner: dict[str, Settings] = {}
    rows = []
    for field, info in type(settings).model_fields.items():
        value = getattr(settings, field)
        if isinstance(value, Settings):
            inner[field] = value
        elif (
            isinstance(value, Mapping) and value and all(isinstance(one, Settings) for one in value.values())
        ):
            inner |= {f"{field}.{key}": one for key, one in value.items()}
        else:
            rows.append(f"| `{field}` | {_default(settings, field)} | {_sentence(info)} |")
    if rows:
        yield from ("| setting | default | what it is |", "| --- | --- | --- |", *rows, "")
    for field, one in inner.items():
        yield from _section(one, f"{name}.{field}" if name else field)


def _default(settings: Settings, field: str) -> str:
    value: Any = settings.model_dump(mode="json", include={field})[field]
    return "not set" if value is None else f"`{json.dumps(value, ensure_ascii=False)}`"


def _sentence(info: FieldInfo) -> str:
    """The field's sentence on one line of a table."""
    return " ".join((info.description or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
