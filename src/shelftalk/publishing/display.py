"""Answers that show themselves: a table with titles in a notebook, and lines of text in a terminal.

Titles are foreign text: they are shown on one line, without control characters, and escaped as HTML.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, NamedTuple

import polars as pl

from shelftalk.data.plain_text import plain_text
from shelftalk.records import Explanation, Ranking, Text

TITLE = 80
"""Characters of a title that are shown."""
ID = 60
"""Characters of an item id that are shown."""


class RankedItem(NamedTuple):
    """One item of an answer."""

    item: str
    title: str
    score: float


@dataclass(frozen=True)
class RankedItems(Sequence[RankedItem]):
    """Items, best first, with titles and scores: iterate over it, index it, or let a notebook show it.

    `ranking`: the same as the plain value that batches return.
    """

    ranking: Ranking
    titles: tuple[str, ...]
    heading: str = "score"

    @property
    def items(self) -> tuple[str, ...]:
        """The item ids, best first."""
        return self.ranking.items

    @property
    def scores(self) -> tuple[float, ...]:
        """Higher is better."""
        return self.ranking.scores

    def __len__(self) -> int:
        return len(self.ranking.items)

    def __getitem__(self, position: Any) -> Any:
        rows = list(zip(self.items, self.titles, self.scores, strict=True))[position]
        return [RankedItem(*row) for row in rows] if isinstance(position, slice) else RankedItem(*rows)

    def to_polars(self) -> pl.DataFrame:
        """Columns item, title, score."""
        return pl.DataFrame(
            {"item": self.items, "title": self.titles, "score": self.scores},
            schema={"item": pl.String, "title": pl.String, "score": pl.Float64},
        )

    def __str__(self) -> str:
        return _text(("", "item", "title", self.heading), list(self._rows()))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return _table(("", "item", "title", self.heading), list(self._rows()))

    def _rows(self) -> Iterator[tuple[str, ...]]:
        for number, row in enumerate(self, 1):
            yield str(number), row.item, row.title, f"{row.score:.4f}"


@dataclass(frozen=True)
class Reasons:
    """Why an item is recommended: by how much its score falls when an entry of the history is left out.

    `explanation` is the plain value; a notebook shows the entries with the largest fall first.
    """

    explanation: Explanation
    title: str
    titles: tuple[str, ...]

    def to_polars(self) -> pl.DataFrame:
        """Columns entry (an item id, or the text), title, fall, in the order of the history."""
        contributions = self.explanation.contributions
        columns = {
            "entry": [str(one.entry) for one in contributions],
            "title": list(self.titles),
            "fall": [one.fall for one in contributions],
        }
        return pl.DataFrame(columns, schema={"entry": pl.String, "title": pl.String, "fall": pl.Float64})

    def __str__(self) -> str:
        return f"{self._headline()}\n{_text(('without', 'title', 'falls by'), list(self._rows()))}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<p>{escape(self._headline())}</p>" + _table(
            ("without", "title", "falls by"), list(self._rows())
        )

    def _headline(self) -> str:
        name = plain_text(self.title, TITLE) or plain_text(self.explanation.item, ID)
        return f"{name}: score {self.explanation.score:.4f}"

    def _rows(self) -> Iterator[tuple[str, ...]]:
        pairs = zip(self.explanation.contributions, self.titles, strict=True)
        for one, title in sorted(pairs, key=lambda pair: -pair[0].fall):
            yield ("text" if isinstance(one.entry, Text) else one.entry), title, f"{one.fall:+.4f}"


def titles_of(entries: Sequence[str], title_of: Mapping[str, str]) -> tuple[str, ...]:
    """The title of each item, and the words of a text."""
    return tuple(str(entry) if isinstance(entry, Text) else title_of.get(entry, "") for entry in entries)


def _shown(row: Sequence[str]) -> list[str]:
    return [plain_text(cell, TITLE) for cell in row]


def _text(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of one width each; the last one, numbers, to the right."""
    lines = [list(heads), *map(_shown, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column == len(widths) - 1 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table, every cell of it escaped."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in _shown(row)) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
