"""Settings: the base of every settings class, what depends on a setting, and settings as commented TOML.

A setting's role is declared beside it, and whoever needs it asks for it here:

    class TrainingSettings(Settings):
        role = Role(stages=("train",), tunable=True)  # of every field, but for what a field's own role gives
        trackers: Annotated[tuple[str, ...], Role(stages=())] = ("tensorboard",)
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import tomli_w
from pydantic import BaseModel, ConfigDict

COMMENT_WIDTH = 100


@dataclass(frozen=True)
class Role:
    """What depends on a setting. What a field's own role
    leaves out (None) is as in the role of its section."""

    stages: tuple[str, ...] | None = None
    """The stages whose files depend on it, beside the report, which shows
    every setting: "prepare", "index", "write", "train", "recommend" for the
    models whose settings these are, "recommend.MODEL" for one, "evaluate"."""
    tunable: bool | None = None
    """Whether a tuner may change it."""
    why: str | None = None
    """Why a tuner may not, where it may change other settings of the section."""
    budgeted: bool | None = None
    """Whether a training on a budget of tokens does not depend on it, since the budget takes its place."""
    changes_loss: bool | None = None
    """Whether it changes what the validation samples hold,
    so that losses before and after cannot be compared."""

    def within(self, section: Role) -> Role:
        """This role, completed by that of the section."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(section, **{name: value for name, value in given.items() if value is not None})


class Settings(BaseModel):
    """A section of an experiment, or of another TOML file: frozen, closed to unknown keys. The string under a
    field is its description."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    role: ClassVar[Role] = Role()
    """The role of every field that declares no other."""

    @classmethod
    def role_of(cls, field: str) -> Role:
        """The role of a field: its own, `Annotated[..., Role(...)]`,
        or its section's, completed by that of this class."""
        info = cls.model_fields[field]
        own = next((role for role in info.metadata if isinstance(role, Role)), Role()).within(cls.role)
        section = _section(info.annotation)
        return section.role.within(own) if section else own

    @classmethod
    def fields_where(cls, condition: Callable[[Role], bool]) -> dict[str, Any]:
        """The fields whose role fulfils the condition, as `model_dump` takes them to include or exclude: True
        for a whole field, a dict for some fields of a section."""
        chosen: dict[str, Any] = {}
        for field, info in cls.model_fields.items():
            section = _section(info.annotation)
            if condition(cls.role_of(field)):
                chosen[field] = True
            elif section and (inner := section.fields_where(condition)):
                chosen[field] = inner
        return chosen

    def role_at(self, path: Sequence[str]) -> Role:
        """The role of a setting by its path, such as ("tasks", "rating", "targets"), completed by those of
        the tables that it is in. A path that leads nowhere has the role of the last table that there is."""
        role, value = Role(), self
        for key in path:
            if isinstance(value, Mapping) and key in value:
                value = value[key]
            elif isinstance(value, Settings) and key in type(value).model_fields:
                role, value = value.role_of(key).within(role), getattr(value, key)
        return role

    def read_by(self, stage: str) -> dict[str, Any]:
        """The fields that a stage's files depend on, as JSON values."""
        return self.model_dump(
            mode="json", include=self.fields_where(lambda role: stage in (role.stages or ()))
        )


def commented_toml(settings: Settings) -> str:
    """The settings as TOML, each with its sentence above it; what is not set stands there as a comment."""
    return "\n".join(_table(settings, "")).strip() + "\n"


def _section(annotation: Any) -> type[Settings] | None:
    """The class of a field that is a section."""
    return annotation if isinstance(annotation, type) and issubclass(annotation, Settings) else None


def _table(settings: Settings, name: str) -> Iterator[str]:
    """The lines of one table: its plain values first, then the tables inside it, as TOML wants them."""
    inner: list[tuple[str, Any]] = []
    for field, info in type(settings).model_fields.items():
        value = getattr(settings, field)
        if isinstance(value, Settings) or (isinstance(value, Mapping) and _holds_settings(value)):
            inner.append((field, value))
            continue
        yield from _comment(info.description or "")
        plain = settings.model_dump(mode="json", include={field})[field]
        yield f"# {field} is not set" if plain is None else _assignment(field, plain)
    for field, value in inner:
        for key, one in [("", value)] if isinstance(value, Settings) else value.items():
            path = ".".join(part for part in (name, field, _key(key)) if part)
            yield from ("", f"[{path}]")
            yield from _table(one, path)


def _comment(sentence: str) -> list[str]:
    """The lines of a comment; nothing in the sentence is divided, names of settings and values are in it."""
    return textwrap.wrap(
        sentence,
        COMMENT_WIDTH,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )


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
