"""Prompt templates in TOML files, checked when they are loaded.

A filled-in value is never searched for placeholders, so a title that holds braces stays a title.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from shelftalk.errors import MissingFile, TemplateError, nearest
from shelftalk.ragged import Ragged, hstack, repeated, vstack
from shelftalk.records import Nouns, Segment
from shelftalk.tasks.samples import Tables

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class Template:
    """The text of one task's samples. `question` may be repeated with other values after one source."""

    name: str
    source: str
    target: str
    question: str = ""
    held_out: bool = False

    @cached_property
    def ends_with_history(self) -> bool:
        return self.source.endswith("{history}")


def load_templates(
    task: str,
    placeholders: Iterable[str],
    path: str | None = None,
    optional: Iterable[str] = (),
    answers: Iterable[str] = (),
    questions: Iterable[str] = (),
) -> list[Template]:
    """The templates of a task: from the built-in file, or the user's own at `path`.

    `answers` are the placeholders of the target and `questions` those of the question; the others are of the
    source. Without `answers` each may appear anywhere. Raises MissingFile, or TemplateError for a file that
    is not TOML, an unknown key or placeholder, a placeholder that is in the wrong part, or missing and not
    `optional`, a question where the task has none, two templates of one name, or no template to train with.
    """
    text = read_templates(task, path)
    where = template_file(task, path)
    try:
        rows = tomllib.loads(text).get("template", [])
    except tomllib.TOMLDecodeError as error:
        raise TemplateError(
            f'the template file "{where}" is not valid TOML: {error}; correct that line.'
        ) from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise TemplateError(
            f'"template" in "{where}" is not a list of tables; begin each template with [[template]].'
        )
    templates = [_template(row, where) for row in rows]
    check_templates(templates, where, placeholders, optional, answers, questions)
    return templates


def template_file(task: str, path: str | None) -> str:
    """What messages call the file of a task's templates."""
    return path or f"{task}.toml"


def check_templates(
    templates: Sequence[Template],
    where: str,
    placeholders: Iterable[str],
    optional: Iterable[str] = (),
    answers: Iterable[str] = (),
    questions: Iterable[str] = (),
) -> None:
    """Raises TemplateError as `load_templates` does; `where` is what messages call their origin."""
    own = {*placeholders}
    for template in templates:
        _check_placeholders(template, own, own.difference(optional), where)
        if answers:
            _check_parts(template, own, {*answers}, {*questions}, where)
    if len({template.name for template in templates}) < len(templates):
        raise TemplateError(f'two templates of "{where}" have one name; give each its own.')
    if all(template.held_out for template in templates):
        raise TemplateError(
            f'"{where}" has no template to train with; add a [[template]] without held_out = true.'
        )


def fill(text: str, values: Mapping[str, str | list[Segment]]) -> list[Segment]:
    """The text with its placeholders replaced: strings become part of the text around them, lists of segments
    are kept as they are."""
    parts: list[str | list[Segment]] = _parts(text, values)
    return [segment for part in parts for segment in ([Segment(part)] if isinstance(part, str) else part)]


def fill_columns(
    texts: Sequence[str], choice: np.ndarray, values: Mapping[str, str | Ragged], tables: Tables
) -> Ragged:
    """As `fill`, for N samples at once: sample n has the text `texts[choice[n]]`, and row n of each column of
    piece codes."""
    groups = [np.flatnonzero(choice == number) for number in range(len(texts))]
    filled = []
    for text, rows in zip(texts, groups, strict=True):
        parts: list[str | Ragged] = _parts(text, values)
        columns = (
            repeated([tables.code(Segment(p))], len(rows)) if isinstance(p, str) else p.take(rows)
            for p in parts
        )
        filled.append(hstack([repeated([], len(rows)), *columns]))
    position = np.empty(len(choice), np.int64)
    position[np.concatenate(groups)] = np.arange(len(choice))
    return vstack(filled).take(position)


def _parts(text: str, values: Mapping[str, Any]) -> list[Any]:
    """The text split at the values that are not strings, without empty strings: "{x} b" -> [x, " b"]."""
    parts: list[Any] = []
    string = ""
    for number, part in enumerate(_PLACEHOLDER.split(text)):
        value = part if number % 2 == 0 else values[part]
        if isinstance(value, str):
            string += value
            continue
        parts += [string, value] if string else [value]
        string = ""
    return [*parts, string] if string else parts


def read_templates(task: str, path: str | None) -> str:
    """The TOML text of a task's templates: the built-in file, or the one at `path`. See `load_templates`."""
    if path is None:
        return resources.files("shelftalk.tasks").joinpath(f"templates/{task}.toml").read_text("utf-8")
    try:
        return Path(path).read_text("utf-8")
    except FileNotFoundError as error:
        raise MissingFile(
            f'there is no template file "{path}"; correct the path in the experiment file.'
        ) from error
    except UnicodeDecodeError as error:
        raise TemplateError(f'the template file "{path}" is not UTF-8 text; save it as UTF-8.') from error


def _check_placeholders(template: Template, own: set[str], needed: set[str], where: str) -> None:
    known = own.union(Nouns().placeholders())
    used = _PLACEHOLDER.findall(template.source + template.question + template.target)
    for name in used:
        if name not in known:
            raise TemplateError(
                f'template "{template.name}" of "{where}" has an unknown placeholder "{{{name}}}"; '
                f"{nearest(name, known)}"
            )
    if missing := sorted(needed.difference(used)):
        raise TemplateError(
            f'template "{template.name}" of "{where}" lacks the placeholder "{{{missing[0]}}}"; add it.'
        )


def _check_parts(
    template: Template, own: set[str], answers: set[str], questions: set[str], where: str
) -> None:
    if template.question and not questions:
        raise TemplateError(
            f'template "{template.name}" of "{where}" has a question, and this task has none; '
            "move it to the source."
        )
    parts = {"target": answers, "question": questions, "source": own - answers - questions}
    for part, names in parts.items():
        for name in own.intersection(_PLACEHOLDER.findall(getattr(template, part))) - names:
            right = next(other for other, theirs in parts.items() if name in theirs)
            raise TemplateError(
                f'template "{template.name}" of "{where}" has "{{{name}}}" in its {part}; '
                f"move it to the {right}."
            )


def _template(row: dict[str, Any], where: str) -> Template:
    known = {"name": str, "source": str, "target": str, "question": str, "held_out": bool}
    for key, value in row.items():
        if key not in known:
            raise TemplateError(f'a template of "{where}" has an unknown key "{key}"; {nearest(key, known)}')
        if not isinstance(value, known[key]):
            raise TemplateError(
                f'"{key}" in a template of "{where}" must be a {known[key].__name__}; correct that line.'
            )
    if missing := [key for key in ("name", "source", "target") if key not in row]:
        raise TemplateError(f'a template of "{where}" lacks "{missing[0]}"; add it.')
    return Template(**row)
