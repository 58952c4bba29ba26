"""Which figures a document states, and whether the files that it names hold them.

A document names the sources of its figures in comments, which no reader sees:

    <!-- figures: run.quick.json, ablation.json(data=beauty, row=variant), notes.templates -->

names files of benchmarks/results/, a file's rows with the given values, and tables of notes.toml: figures
that no result file keeps, each table with what was measured, when, how, and why no file holds it. A comment
holds up to the next one or the next heading.

A figure is, outside code, links and the first column of tables:
- a number with a decimal point, or with a comma between thousands;
- a whole number with a unit of UNITS, or that is all of a table's cell;
- two numbers in brackets: an interval, whose ends must be side by side in a file.
No figures are versions (0.1.0), names (SmolLM2-135M, recall@10), exponents (2e-4), other whole numbers, "95
%" (the level of every interval), and what follows arXiv, Python and License.

A figure is in a file if a number among its claims and runs, rounded to as many places, is the same. Signs
count; 18.8 % may be there as .188, 1.4 ms as .0014 s. Texts in a file are searched for numbers too.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS

NOTES = "notes"
UNITS: dict[str, tuple[float, ...]] = {
    "%": (100, 1), "ms": (1e3, 1), "ns": (1e9, 1), "minutes": (1 / 60, 1), "hours": (1 / 3600, 1),
    "GB": (1, 1e-3), "M": (1e-6,), "million": (1e-6,),
}  # fmt: skip
"""Unit -> what a file's number may have to be multiplied by to be in it; by 1 in units that are not here."""
NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d*\.\d+|\d+)"
SIGNED = rf"[+±-]?{NUMBER}"
UNIT = r"(?:%|×|(?:times|ms|ns|seconds?|minutes?|hours?|s|GB|MB|M|million|(?:\w+ )?a second)\b)"
FIGURE = re.compile(rf"(?<![\w.,@%-])({SIGNED})(?![\w%]|[.,]\d|-\w)(?: ({UNIT}))?")
INTERVAL = re.compile(rf"\[({SIGNED}), ({SIGNED})\]")
LIST = re.compile(r"(?:,| and| to| or| /) ")  # between numbers that share the unit of the last one
COMMENT = re.compile(r"^<!-- figures: (.*) -->$")
NOT_FIGURES = re.compile(
    r"`[^`]*`|\]\([^)]*\)|<[^>]*>|95 %|(?:arXiv|Python|License) [\d.]+|\*|\\|\b\d+\.\d+\.\d+\b"
)


@dataclass(frozen=True)
class Figure:
    """A number, or the ends of an interval, as a document writes it; its line, and the sources named
    there."""

    text: str
    unit: str
    line: int
    sources: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.text} {self.unit}".strip()


@dataclass
class Numbers:
    """The numbers of result files, intervals as pairs, and the texts of notes."""

    values: list[float] = field(default_factory=list)
    pairs: list[tuple[float, float]] = field(default_factory=list)
    noted: set[str] = field(default_factory=set)

    def hold(self, figure: Figure) -> bool:
        """Whether the figure is among them."""
        if str(figure) in self.noted:
            return True
        scales = UNITS.get(figure.unit, (1.0,))
        if ends := INTERVAL.fullmatch(figure.text):
            return any(_same(ends[1], low) and _same(ends[2], high) for low, high in self.pairs)
        return any(_same(figure.text, value * scale) for value in self.values for scale in scales)


def figures(document: str) -> list[Figure]:
    """Every figure of a Markdown document, in its order."""
    return [figure for line, sources, text in _texts(document) for figure in _in_text(text, line, sources)]


def numbers(sources: Sequence[str], folder: Path = RESULTS) -> Numbers:
    """All that the named sources hold. Raises FileNotFoundError or KeyError for one that there is not."""
    result = Numbers()
    for source in sources:
        if source.startswith(f"{NOTES}."):
            result.noted |= set(notes(folder)[source.removeprefix(f"{NOTES}.")]["figures"])
        else:
            name, _, condition = source.partition("(")
            content = json.loads((folder / name).read_text(encoding="utf-8"))
            runs = content["runs"]
            _collect(_rows(runs, source, condition) if condition else [content["claims"], runs], result)
    return result


def notes(folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """The figures that no result file keeps, by name."""
    return tomllib.loads((folder / f"{NOTES}.toml").read_text(encoding="utf-8"))


def sources_of(comment: str) -> tuple[str, ...]:
    """ "a.json, b.json(x=1, y=2)" -> ("a.json", "b.json(x=1, y=2)")."""
    return tuple(part.strip() for part in re.split(r",\s*(?![^(]*\))", comment) if part.strip())


def _rows(rows: Sequence[dict[str, Any]], source: str, condition: str) -> list[dict[str, Any]]:
    wanted = dict(pair.split("=", 1) for pair in condition.removesuffix(")").split(", "))
    chosen = [row for row in rows if all(str(row.get(name)) == value for name, value in wanted.items())]
    if not chosen:
        raise KeyError(f"{source} names no row")
    return chosen


def _texts(document: str) -> Iterator[tuple[int, tuple[str, ...], str]]:
    """Line number, sources and text of every line, and of every cell of a table's body but the first."""
    sources: tuple[str, ...] = ()
    in_code, row = False, 0
    for number, line in enumerate(document.splitlines(), 1):
        row = row + 1 if line.startswith("|") else 0
        if line.lstrip().startswith("```"):
            in_code = not in_code
        elif in_code:
            continue
        elif comment := COMMENT.match(line):
            sources = sources_of(comment[1])
        elif line.startswith("#"):
            sources = ()
        elif row > 2:  # after the header and the rule
            yield from ((number, sources, f"|{cell.strip()}|") for cell in _plain(line).split("|")[2:-1])
        elif not row:
            yield number, sources, _plain(line)


def _plain(line: str) -> str:
    return NOT_FIGURES.sub("", line)


def _in_text(text: str, line: int, sources: tuple[str, ...]) -> Iterator[Figure]:
    for interval in INTERVAL.finditer(text):
        yield Figure(interval[0], "", line, sources)
    text = INTERVAL.sub(";", text)
    matches: list[Figure] = []
    unit, following = "", len(text)
    for match in reversed(list(FIGURE.finditer(text))):
        shared = unit if LIST.fullmatch(text[match.end() : following]) else ""
        written, unit, following = match[1], match[2] or shared, match.start()
        if "." in written or "," in written or unit or text == f"|{match[0]}|":
            matches.append(Figure(written, unit, line, sources))
    yield from reversed(matches)


def _collect(content: Any, numbers: Numbers) -> None:
    if isinstance(content, dict):
        for value in content.values():
            _collect(value, numbers)
        for name, low in content.items():
            high = content.get(f"{name.removesuffix('low')}high")
            if name.endswith("low") and isinstance(low, float | int) and isinstance(high, float | int):
                numbers.pairs.append((low, high))
    elif isinstance(content, list):
        if len(content) == 2 and all(isinstance(end, float | int) for end in content):
            numbers.pairs.append((content[0], content[1]))
        for value in content:
            _collect(value, numbers)
    elif isinstance(content, str):
        numbers.pairs += [(_value(low), _value(high)) for low, high in INTERVAL.findall(content)]
        numbers.values += [_value(match[1]) for match in FIGURE.finditer(content)]
    elif isinstance(content, float | int) and not isinstance(content, bool):
        numbers.values.append(float(content))


def _value(written: str) -> float:
    return float(written.replace(",", "").replace("±", ""))


def _same(written: str, value: float) -> bool:
    """Whether `value`, rounded to the places of the number as written, is that number."""
    positions = len(written.partition(".")[2])
    return abs(_value(written) - value) <= 0.5 * 10**-positions * (1 + 1e-6)
