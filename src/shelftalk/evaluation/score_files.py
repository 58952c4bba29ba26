"""The results of another system as answers of a run: a score file `user, item, score`, checked row by row.

Parquet, CSV, TSV or JSON lines with the columns user, item and score (or user_id and item_id), or a TREC run
file, whose lines are `user Q0 item rank score tag`; of those the score counts, not the rank, as in trec_eval.
Higher is better. Nothing is repaired: what does not answer the requests of the run is refused, by user and
item.

    retrieval   the 20 best rows of each user are the list; it may be shorter
    ranking     a user's rows are exactly the candidates
    rating      the rows are exactly the test ratings, and the score is the estimate

Equal scores of one user are put in catalogue order, which is that of a seeded hash, so that no order of a
file decides. A ranking's metrics do not depend on it: there they share their mean rank.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from shelftalk.data.sources import table as cells
from shelftalk.data.sources.formats import FORMATS
from shelftalk.data.sources.reading import read_table
from shelftalk.data.sources.table import Table, identifiers
from shelftalk.data.sources.text_files import DETECTED, TextForm, open_text, read_text
from shelftalk.data.splitting import Split
from shelftalk.declarations import FileFormat
from shelftalk.errors import BadScores, MissingColumn, UnreadableFile
from shelftalk.evaluation.comparison import requests_of
from shelftalk.evaluation.metrics import LIST_LENGTH
from shelftalk.recommender import TaskName
from shelftalk.records import Request

COLUMNS = {"user": ("user", "user_id"), "item": ("item", "item_id"), "score": ("score",)}
"""Our column -> its names in a file, the first that is there."""
TREC_FIELDS = ("user", "Q0", "item", "rank", "score", "tag")


@dataclass(frozen=True, eq=False)
class ImportedAnswers:
    """`frame`: a row per request in the split's order, as rankings/ has them; `sentences`: what a reader must
    know about them."""

    frame: pl.DataFrame
    sentences: list[str]


def read_scores(path: Path) -> pl.DataFrame:
    """user, item (String) and score (Float64, finite) of a file.

    Raises MissingFile, UnreadableFile, MissingColumn, and BadValue for a cell, by row and column.
    """
    table = read_table(path, [name for names in COLUMNS.values() for name in names], SCORE_FORMATS)
    columns = {ours: _column(table, ours) for ours in COLUMNS}
    scores = cells.blank_as_null(cells.one_type(table, columns["score"])).cast(pl.Float64, strict=False)
    no_number = ~scores.is_finite().fill_null(False)
    remedy = "is not a finite number; give each row a score, or leave the row out."
    cells.refuse(table, columns["score"], no_number, remedy)
    ids = {ours: identifiers(table, columns[ours]) for ours in ("user", "item")}
    return pl.DataFrame({**ids, "score": scores})


def imported_answers(path: Path, split: Split, task: TaskName, drop_seen: bool = False) -> ImportedAnswers:
    """The answers to the test part that a score file holds. `drop_seen`: rows of items in the user's history
    are left out, where they are refused otherwise (retrieval alone).

    Raises what `read_scores` does, and BadScores for rows that do not answer the requests.
    """
    scores = read_scores(path)
    requests, _ = requests_of(split, task, "test")
    _check_one_request_each(requests, task)
    given = _Given(path.name, scores, split, requests)
    given.check_pairs()
    given.check_users()
    if task == "rating":
        return given.ratings()
    return given.rankings() if task == "ranking" else given.lists(drop_seen)


@dataclass(frozen=True, eq=False)
class _Given:
    """The rows of one file, and the requests that they answer."""

    file: str
    scores: pl.DataFrame
    split: Split
    requests: Sequence[Request]

    def check_pairs(self) -> None:
        again = self.scores.select("user", "item").filter(~pl.struct("user", "item").is_first_distinct())
        self._refuse(again, "is there twice", "keep one score for each user and item")

    def check_users(self) -> None:
        users = self._users()
        unknown = self.scores.join(users, on="user", how="anti", maintain_order="left")
        if len(unknown):
            raise BadScores(
                f'{self.file}: user "{unknown["user"][0]}" is not evaluated in this run '
                f"({unknown['user'].n_unique():,} such users); leave their rows out."
            )
        missing = users.join(self.scores, on="user", how="anti", maintain_order="left")
        if len(missing):
            raise BadScores(
                f'{self.file} has no row for user "{missing["user"][0]}", and {len(missing):,} of the '
                f"{len(users):,} users of the test part have none; give each of them one at least."
            )

    def lists(self, drop_seen: bool) -> ImportedAnswers:
        """The best items of each user."""
        self._check_items()
        histories = self._pairs([request.history for request in self.requests])
        seen = self.scores.join(histories, on=["user", "item"], how="semi", maintain_order="left")
        sentences, scores = [], self.scores
        if drop_seen:
            scores = scores.join(histories, on=["user", "item"], how="anti", maintain_order="left")
            sentences += [f"{len(seen):,} rows of items in the user's history were left out."] * bool(
                len(seen)
            )
            if gone := set(self.scores["user"].unique()) - set(scores["user"].unique()):
                raise BadScores(
                    f'{self.file}: all rows of user "{min(gone)}" are items of their history; give one other '
                    "item at least."
                )
        else:
            remedy = "leave such rows out, or give --drop-seen"
            self._refuse(seen, "is in that user's history", remedy)
        listed = self._best_first(scores, LIST_LENGTH)
        return ImportedAnswers(listed, [*sentences, *self._short(listed), *_ties(scores)])

    def rankings(self) -> ImportedAnswers:
        """All candidates of each user."""
        candidates = self._pairs([request.candidates for request in self.requests])
        self._check_exactly(candidates, "is not among that user's candidates", "a candidate of that user")
        return ImportedAnswers(self._best_first(self.scores, None), [])

    def ratings(self) -> ImportedAnswers:
        """The estimate of each test rating."""
        wanted = self._pairs([(request.item,) for request in self.requests])
        self._check_exactly(wanted, "is no rating of the test part", "a rating of the test part")
        frame = wanted.join(self.scores, on=["user", "item"], how="left", maintain_order="left")
        return ImportedAnswers(frame.rename({"score": "estimate"}), [])

    def _check_items(self) -> None:
        items = self.split.dataset.items.select(item="item_id")
        unknown = self.scores.join(items, on="item", how="anti", maintain_order="left")
        self._refuse(unknown, "is not in the catalogue", "leave such rows out")

    def _check_exactly(self, wanted: pl.DataFrame, fault: str, what: str) -> None:
        """Raises BadScores unless the file holds exactly the wanted pairs."""
        pair = ["user", "item"]
        self._refuse(
            self.scores.join(wanted, on=pair, how="anti", maintain_order="left"), fault, "leave such rows out"
        )
        missing = wanted.join(self.scores, on=pair, how="anti", maintain_order="left")
        self._refuse(missing, f"is {what} and has no score", "add it")

    def _refuse(self, wrong: pl.DataFrame, fault: str, remedy: str) -> None:
        """Raises BadScores for the first of the `wrong` rows."""
        if len(wrong):
            user, item = wrong.row(0)[:2]
            number = f" ({len(wrong):,} such pairs)" if len(wrong) > 1 else ""
            raise BadScores(f'{self.file}: item "{item}" of user "{user}" {fault}{number}; {remedy}.')

    def _best_first(self, scores: pl.DataFrame, most: int | None) -> pl.DataFrame:
        """user, items, scores in the order of the requests; equal scores in catalogue order."""
        order = self.split.dataset.items.select(item="item_id").with_row_index("catalogue row")
        ordered = scores.join(order, on="item", how="left").sort(
            "score", "catalogue row", descending=[True, False]
        )
        columns = [pl.col("item"), pl.col("score")]
        best = [column.head(most) for column in columns] if most is not None else columns
        lists = ordered.group_by("user", maintain_order=True).agg(*best)
        return (
            self._users()
            .join(lists, on="user", how="left", maintain_order="left")
            .rename({"item": "items", "score": "scores"})
        )

    def _short(self, listed: pl.DataFrame) -> list[str]:
        """A sentence where lists hold fewer items than there are."""
        left = [len(self.split.dataset.items) - len({*request.history}) for request in self.requests]
        full = pl.Series(left).clip(upper_bound=LIST_LENGTH)
        lengths = listed["items"].list.len().cast(pl.Int64)
        short = lengths.filter(lengths < full)
        if not len(short):
            return []
        return [
            f"{len(short):,} of its {len(listed):,} lists hold fewer than {LIST_LENGTH} items (the shortest "
            f"{min(short.to_list())}): what they leave out is not found."
        ]

    def _users(self) -> pl.DataFrame:
        """The users of the requests, each once, in their order."""
        users = dict.fromkeys(request.user for request in self.requests)
        return pl.DataFrame({"user": list(users)}, schema={"user": pl.String})

    def _pairs(self, items: Sequence[Sequence[str]]) -> pl.DataFrame:
        """user and item of every item of every request."""
        users = [request.user for request in self.requests]
        schema: dict[str, Any] = {"user": pl.String, "item": pl.List(pl.String)}
        frame = pl.DataFrame({"user": users, "item": [list(of) for of in items]}, schema=schema)
        return frame.explode("item").drop_nulls()


def _ties(scores: pl.DataFrame) -> list[str]:
    """A sentence where the order within a list, or its end, is decided among equal scores."""
    best = scores.group_by("user").agg(
        pl.col("score").top_k(LIST_LENGTH + 1).n_unique() < pl.len().clip(upper_bound=LIST_LENGTH + 1)
    )
    tied = int(best["score"].sum())
    if not tied:
        return []
    return [
        f"{tied:,} of its lists have equal scores among the first items: these are in catalogue order, that "
        "of a seeded hash of the id, not in that of the file."
    ]


def _check_one_request_each(requests: Sequence[Request], task: TaskName) -> None:
    """Raises BadScores where user (and item, of a rating) do not say which request is answered."""
    keys = [(request.user, request.item if task == "rating" else "") for request in requests]
    again = [user for (user, _), number in Counter(keys).items() if number > 1]
    if again:
        raise BadScores(
            f'user "{again[0]}" has several {task} requests in this run, and a row of a score file names its '
            "request by the user alone; use a run with one request each, such as split.scheme = "
            '"leave_one_out".'
        )


def _column(table: Table, ours: str) -> str:
    """The name that a column has in the file."""
    for name in COLUMNS[ours]:
        if name in table.names:
            return name
    raise MissingColumn(
        f'{table.path.name} has no column "{ours}" but {", ".join(table.names)}; name its columns user, item '
        "and score."
    )


def _read_trec(path: Path, wanted: Collection[str], form: TextForm = DETECTED) -> Table:
    """A TREC run file: six fields a line, with white space between them. Raises UnreadableFile."""
    return read_text(path, form, lambda encoding: _trec_table(path, encoding))


def _trec_table(path: Path, encoding: str) -> Table:
    rows: list[tuple[str, str, str, int]] = []
    with open_text(path, encoding) as file:
        for number, line in enumerate(file, start=1):
            fields = line.split()
            if fields and len(fields) != len(TREC_FIELDS):
                raise UnreadableFile(
                    f"{path.name}, line {number}: {len(fields)} fields, and a TREC run file has "
                    f"{len(TREC_FIELDS)} ({' '.join(TREC_FIELDS)}); correct it, or give a file that ends "
                    "in .csv, .tsv or .parquet."
                )
            if fields:
                rows.append((fields[0], fields[2], fields[4], number))
    names = ["user", "item", "score"]
    schema: dict[str, Any] = {**dict.fromkeys(names, pl.String), "line": pl.Int64}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    return Table(path, names, frame.select(names), frame["line"], "line")


SCORE_FORMATS = {**FORMATS, **dict.fromkeys((".trec", ".run", ".txt"), FileFormat(_read_trec, is_text=True))}
"""Ending of a score file -> its reader."""
