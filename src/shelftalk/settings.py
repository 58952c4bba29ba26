"""Settings: the base of every settings class, and settings written as TOML that explains itself."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import tomli_w
from pydantic import BaseModel, ConfigDict

COMMENT_WIDTH = 100


class Settings(BaseModel):
    """A section of an experiment, or of another TOML file: frozen, closed to unknown keys. The string under a
    field is its description."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def commented_toml(settings: Settings) -> str:
    """The settings as TOML, each with its sentence above it; what is not set stands there as a comment."""
    return "\n".join(_table(settings, "")).strip() + "\n"


def _table(settings: Settings, name: str) -> Iterator[str]:
    """The lines of one table: its plain values first, then the tables inside it, as TOML wants them."""
    inner: list[tuple[str, Any]] = []
    for field, info in type(settings).model_fields.items():
        value = getattr(settings, field)
        if isinstance(value, Settings) or (isinstance(value, Mapping) and _holds_settings(value)):
            inner.append((field, value))
            continue
        yield from textwrap.wrap(
            info.description or "", COMMENT_WIDTH, initial_indent="# ", subsequent_indent="# "
        )
        plain = settings.model_dump(mode="json", include={field})[field]
        yield f"# {field} is not set" if plain is None else _assignment(field, plain)
    for field, value in inner:
        for key, one in [("", value)] if isinstance(value, Settings) else value.items():
            path = ".".join(part for part in (name, field, _key(key)) if part)
            yield from ("", f"[{path}]")
            yield from _table(one, path)


def _holds_settings(value: Mapping[str, Any]) -> bool:
    return any(isinstance(one, Settings) for one in value.values())


def _assignment(name: str, value: Any) -> str:
    """One line of TOML; a table in it is written inline."""
    if isinstance(value, Mapping):
        pairs = ", ".join(_assignment(_key(key), one) for key, one in value.items())
        return f"{name} = {{ {pairs} }}" if pairs else f"{name} = {{}}"
    if isinstance(value, list):
        return f"{name} = [{', '.join(_assignment('_', one).removeprefix('_ = ') for one in value)}]"
    return tomli_w.dumps({"_": value}).strip().replace("_", name, 1)


def _key(name: str) -> str:
    """A key of TOML, quoted where it has to be."""
    bare = all(character.isascii() and (character.isalnum() or character in "_-") for character in name)
    return name if bare else tomli_w.dumps({name: 0}).rsplit(" = ", 1)[0]
