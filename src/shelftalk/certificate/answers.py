"""Answer files against the requests of a split, by arrays and some requests at a time: what in them is not
valid, and the rank of each truth.

This is written independently of the evaluator, which it checks, and without an object per request.

Legend: R requests of the test part, N rows of a file read at a time, I items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from shelftalk.data.splitting import PART_NUMBER, Split
from shelftalk.errors import ChangedFile

BATCH = 20_000
"""Lists read at a time."""
LISTED = 20
"""Items that a retrieval list must hold, where the catalogue has as many that the user has not taken."""
FAULTS = ("invalid", "repeated", "excluded", "seen", "short", "unordered", "unanswered")
"""What must not occur in answers.

`invalid`: an item outside the catalogue, or a number that is not finite. `repeated`: an item that stands in
the same list before. `excluded`: an item that a ranking request does not offer. `seen`: an item of the
history, where it must be left out. `short`: a list of another length than the request asks for. `unordered`:
a score above the one before it. `unanswered`: a request without an answer, or with a second one.
"""
OnLists = Callable[[int], None]
"""Called with the number of answers read."""


@dataclass(frozen=True, eq=False)
class RequestArrays:
    """The requests of retrieval and ranking in the test part, in the split's order.

    `user` [R] ids, `event` [R] event rows, `truth` [R] catalogue rows, `history` [R] lengths; `taken`: sorted
    keys user * I + item of all events, and `taken_at` their event rows; `candidates` [R, C] catalogue rows.
    """

    catalogue: pa.Array
    user: pa.Array
    user_number: np.ndarray
    event: np.ndarray
    truth: np.ndarray
    history: np.ndarray
    taken: np.ndarray
    taken_at: np.ndarray
    candidates: np.ndarray

    def event_of(self, keys: np.ndarray) -> np.ndarray:
        """The event row of each key user * I + item, and one after all others where there is no event."""
        at = np.minimum(np.searchsorted(self.taken, keys), len(self.taken) - 1)
        return np.where(self.taken[at] == keys, self.taken_at[at], len(self.taken))


def request_arrays(split: Split) -> RequestArrays:
    """The requests of a split's test part as arrays."""
    data, items = split.dataset, len(split.dataset.items)
    event = split.held_out_events("test")
    number = split.event_user[event]
    keys = split.event_user * items + data.event_item
    order = np.argsort(keys)
    first = data.bounds[:-1]
    users = data.columns.user_ids
    return RequestArrays(
        catalogue=_texts(data.items["item_id"]),
        user=_texts(users.gather(number)),
        user_number=number,
        event=event,
        truth=data.event_item[event],
        history=event - first[number],
        taken=keys[order],
        taken_at=order,
        candidates=split.candidates["test"],
    )


@dataclass
class Answers:
    """What a file of answers holds: counts of FAULTS, the lists, and the rank of each truth."""

    lists: int
    ranks: np.ndarray
    """[R] inf where the truth is not in the list, NaN where there is no answer."""
    faults: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FAULTS, 0))
    first: dict[str, str] = field(default_factory=dict)
    """Fault -> the first user in whose answers it occurs."""

    def count(self, fault: str, occurs: np.ndarray, users: Any) -> None:
        """Count where `occurs` [n] is true; `users(position)` names the user of a position."""
        number = int(np.count_nonzero(occurs))
        if number:
            self.faults[fault] += number
            self.first.setdefault(fault, users(int(np.argmax(occurs))))


def read_retrieval(path: Path, requests: RequestArrays, on_lists: OnLists) -> Answers:
    """Check a file of retrieval lists; the rank of a truth is its position in the list."""
    answers, number = _begun(path, requests)
    items = len(requests.catalogue)
    for rows, batch in _batches(path, number, on_lists):
        lists = _Lists(batch, rows, requests)
        known = lists.item >= 0
        answers.count("invalid", ~known, lists.user_of)
        keys = requests.user_number[rows][lists.owner] * items + lists.item
        answers.count("seen", known & (requests.event_of(keys) < requests.event[rows][lists.owner]),
                      lists.user_of)  # fmt: skip
        wanted = np.minimum(LISTED, items - requests.history[rows])
        _count_common(answers, lists, wanted)
        is_truth = lists.item == requests.truth[rows][lists.owner]
        ranks = np.full(len(rows), np.inf)
        np.minimum.at(ranks, lists.owner[is_truth], lists.position[is_truth] + 1.0)
        answers.ranks[rows] = ranks
    return answers


def read_ranking(path: Path, requests: RequestArrays, on_lists: OnLists) -> Answers:
    """Check a file of ranked candidates; the rank of a truth is the mean over all orders of equal scores."""
    answers, number = _begun(path, requests)
    items, width = len(requests.catalogue), requests.candidates.shape[1]
    for rows, batch in _batches(path, number, on_lists):
        lists = _Lists(batch, rows, requests)
        answers.count("invalid", lists.item < 0, lists.user_of)
        offered = np.sort((np.arange(len(rows))[:, None] * items + requests.candidates[rows]).ravel())
        keys = lists.owner * items + lists.item
        answers.count("excluded", (lists.item >= 0) & ~_among(keys, offered), lists.user_of)
        _count_common(answers, lists, np.full(len(rows), width))
        answers.ranks[rows] = _mean_ranks(lists, requests.truth[rows])
    return answers


def read_ratings(path: Path, split: Split, on_lists: OnLists) -> tuple[Answers, pl.DataFrame]:
    """Check a file of estimates; also the requests (user, item, truth) with their estimates, null where there
    is none."""
    data = split.dataset
    events = pl.Series(np.flatnonzero(split.rating_part == PART_NUMBER["test"]))
    wanted = data.events.select("user_id", "item_id", "rating").select(pl.all().gather(events))
    wanted.columns = ["user", "item", "truth"]
    given = pl.read_parquet(path, glob=False)
    on_lists(len(given))
    answers = Answers(len(given), np.full(len(wanted), np.nan))
    pairs = given.group_by("user", "item").agg(pl.col("estimate").first(), times=pl.len())
    joined = wanted.join(pairs, on=["user", "item"], how="left", maintain_order="left")
    unknown = len(given) - int(joined["times"].sum())
    times = joined["times"].fill_null(0).to_numpy()
    users = joined["user"]
    answers.count("unanswered", times != 1, lambda at: users[at])
    answers.faults["unanswered"] += unknown
    estimates = joined["estimate"].fill_null(0.0).to_numpy()
    answers.count("invalid", ~np.isfinite(estimates), lambda at: users[at])
    return answers, joined.drop("times")


class _Lists:
    """N lists as flat arrays: `owner` list number, `position` in it from 0, `item` catalogue row or -1,
    `score`."""

    def __init__(self, batch: pa.RecordBatch, rows: np.ndarray, requests: RequestArrays) -> None:
        self.length = pc.fill_null(pc.list_value_length(batch["items"]), 0).to_numpy().astype(np.int64)
        start = np.cumsum(self.length) - self.length
        self.owner = np.repeat(np.arange(len(rows)), self.length)
        self.position = np.arange(len(self.owner)) - start[self.owner]
        row = pc.index_in(_plain(batch["items"].flatten()), value_set=requests.catalogue)
        self.item = pc.fill_null(row, -1).to_numpy(zero_copy_only=False).astype(np.int64)
        self.score = batch["scores"].flatten().to_numpy(zero_copy_only=False)
        if len(self.score) != len(self.item):
            raise ChangedFile("an answer has another number of scores than of items")
        self._rows, self._user = rows, requests.user

    def user_of(self, at: int) -> str:
        """The user of an entry of the flat arrays."""
        return self.user(int(self.owner[at]))

    def user(self, number: int) -> str:
        """The user of a list."""
        return str(self._user[int(self._rows[number])].as_py())


def _count_common(answers: Answers, lists: _Lists, wanted: np.ndarray) -> None:
    """Faults of both kinds of lists; `wanted` [N] items each."""
    answers.count("short", lists.length != wanted, lists.user)
    keys = lists.owner * (int(lists.item.max(initial=0)) + 1) + lists.item
    order = np.argsort(keys, kind="stable")
    again = np.zeros(len(keys), bool)
    again[order[1:]] = (np.diff(keys[order]) == 0) & (lists.item[order[1:]] >= 0)
    answers.count("repeated", again, lists.user_of)
    score, same = lists.score, np.append(False, np.diff(lists.owner) == 0)
    above = np.append(False, ~(score[1:] <= score[:-1])) & same if len(score) else same[:0]
    answers.count("unordered", above, lists.user_of)
    answers.count("invalid", np.isnan(score), lists.user_of)


def _mean_ranks(lists: _Lists, truth: np.ndarray) -> np.ndarray:
    """[N] 1 + the candidates with a higher score + half of the others with an equal one."""
    is_truth = lists.item == truth[lists.owner]
    own = np.full(len(truth), np.nan)
    own[lists.owner[is_truth]] = lists.score[is_truth]
    own_of = own[lists.owner]
    higher = np.bincount(lists.owner, lists.score > own_of, len(truth))
    equal = np.bincount(lists.owner, lists.score == own_of, len(truth))
    return np.where(np.isnan(own), np.inf, 1.0 + higher + (equal - 1.0) / 2.0)


def _begun(path: Path, requests: RequestArrays) -> tuple[Answers, np.ndarray]:
    """An empty result, and for each row of the file the number of its request, -1 where there is none."""
    users = _plain(parquet.read_table(path, columns=["user"])["user"].combine_chunks())
    answers = Answers(len(users), np.full(len(requests.user), np.nan))
    if users.equals(requests.user):
        return answers, np.arange(len(users))
    number = _requests_of(users, requests.user)
    times = np.bincount(number[number >= 0], minlength=len(requests.user))
    answers.count("unanswered", times != 1, lambda at: str(requests.user[at].as_py()))
    answers.count("unanswered", number < 0, lambda at: str(users[at].as_py()))
    return answers, number


def _requests_of(users: pa.Array, requested: pa.Array) -> np.ndarray:
    """[rows] the request that each row answers, -1 for none: the n-th row of a user answers the n-th
    request."""
    number = pl.int_range(pl.len()).over("user").alias("number")
    given, wanted = (
        pl.DataFrame({"user": pl.Series(values)}).with_columns(number) for values in (users, requested)
    )
    joined = given.join(
        wanted.with_row_index("request"), on=["user", "number"], how="left", maintain_order="left"
    )
    return joined["request"].cast(pl.Int64).fill_null(-1).to_numpy()


def _batches(path: Path, number: np.ndarray, on_lists: OnLists) -> Iterator[tuple[np.ndarray, Any]]:
    """Requests and answers, some at a time; answers to no request are left out, they are counted already."""
    start = 0
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH, columns=["items", "scores"]):
            rows = number[start : start + len(batch)]
            start += len(batch)
            known = rows >= 0
            if not known.all():
                batch, rows = batch.filter(pa.array(known)), rows[known]
            if len(rows):
                yield rows, batch
            on_lists(len(known))


def _among(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Whether each value is one of the sorted `among`."""
    at = np.minimum(np.searchsorted(among, values), max(len(among) - 1, 0))
    return among[at] == values if len(among) else np.zeros(len(values), bool)


def _texts(values: pl.Series) -> pa.Array:
    return _plain(values.to_arrow())


def _plain(values: Any) -> pa.Array:
    """As large_string, in which both sides of a look-up must be."""
    values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    return pc.cast(values, pa.large_string())
