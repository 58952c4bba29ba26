"""Split: one partition for all tasks of a model, label by label.

The label of retrieval and ranking is *that* the user took an item; the label of rating prediction is the
value. An event held out for retrieval is in no training text and no count; an event whose rating is held out
is an event without a rating.

A scheme (split_schemes.py) decides which events are held out. In every scheme a user's training events come
first; what comes after them is a target, of the validation or of the test part, or shown in histories of
requests alone (CONTEXT). A user may have none of any of these.

Legend: U users, E events, I items.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from shelftalk import seeds
from shelftalk.data.coding import distinct, in_threads
from shelftalk.data.dataset import Dataset
from shelftalk.data.k_core import core_of
from shelftalk.data.protocol import (
    CONTEXT,
    LEAST_EVENTS,
    NONE,
    PART_NUMBER,
    PARTS,
    RANDOM_SPLIT,
    TEST,
    TRAIN,
    VALIDATION,
    Part,
    Protocol,
    Scheme,
    SplitSettings,
)
from shelftalk.data.split_schemes import check_times, divide
from shelftalk.errors import NothingLeft, SettingsError, TooFewEvents
from shelftalk.ragged import Ragged, slices
from shelftalk.records import Request

__all__ = [
    "CONTEXT",
    "LEAST_EVENTS",
    "LEAST_RATERS",
    "NONE",
    "PARTS",
    "PART_NUMBER",
    "RANDOM_SPLIT",
    "TEST",
    "TRAIN",
    "VALIDATION",
    "Part",
    "Protocol",
    "Scheme",
    "Split",
    "SplitSettings",
    "TrainingCore",
    "split_dataset",
    "split_leave_one_out",
]
LEAST_RATERS = 2
"""Fewest users with a test rating for an interval of the error: resampling one user always gives the same."""
ONE_BY_ONE = 40_000
"""Events of a part up to which the ranking candidates are drawn for one event after the other."""
DRAWN_AT_ONCE = 65_536
"""Events of a larger part whose candidates are drawn at once."""
PROTOCOL_FILE = "protocol.json"
UNNAMED = (Protocol(), Protocol("random"))
"""The protocols of versions that did not name theirs: fingerprints of their splits stay as they were."""
MAX_RATING_VALUES = 100
"""A scale of more values has too few examples of each for a model to learn them."""
RATING_HISTORY = 3000
"""Most recent training events that a rating request shows: an account with n ratings has a request for every
tenth, so that their whole histories would take the square of n."""


@dataclass(frozen=True, eq=False)
class Split:
    """A dataset with each event and each rating in its part.

    `event_part` [E] uint8: TRAIN, VALIDATION, TEST or CONTEXT; within a user TRAIN comes before all others.
    `rating_part` [E] uint8: TRAIN, VALIDATION, TEST, or NONE (no rating, or drawn for training but not a
    training event). `candidates`
    part -> [events of the part, 1 + negatives] int32 catalogue rows, shuffled; the event's own item is among
    them. `protocol` states how the events were divided.
    """

    dataset: Dataset
    event_part: np.ndarray
    rating_part: np.ndarray
    candidates: dict[str, np.ndarray]
    protocol: Protocol = Protocol()

    @property
    def scheme(self) -> Scheme:
        """How the events were divided."""
        return self.protocol.scheme

    @cached_property
    def event_user(self) -> np.ndarray:
        """[E] int64 user number of each event."""
        return np.repeat(np.arange(len(self.dataset.user_ids)), np.diff(self.dataset.bounds))

    @cached_property
    def training_bounds(self) -> np.ndarray:
        """[U, 2] int64: user u's training events are the rows [u, 0] : [u, 1], oldest first."""
        first = self.dataset.bounds[:-1]
        return np.stack([first, first + np.bincount(self.training_users, minlength=len(first))], axis=1)

    @cached_property
    def visible_rating(self) -> np.ndarray:
        """[E] float64: the rating where a model may see it, NaN elsewhere. Prompts and means read it."""
        return np.where(self.rating_part == TRAIN, self.dataset.event_rating, np.nan)

    @cached_property
    def visible_rating_values(self) -> np.ndarray:
        """[n] float64: the distinct values of `visible_rating`, ascending."""
        return pl.Series(self.visible_rating).unique().drop_nans().sort().to_numpy()

    @cached_property
    def training_items(self) -> np.ndarray:
        """[training events] int32 catalogue rows: the events that may be counted."""
        result: np.ndarray = self.dataset.event_item[self.event_part == TRAIN]
        return result

    @cached_property
    def training_users(self) -> np.ndarray:
        """[training events] int64 user numbers, aligned with `training_items`."""
        result: np.ndarray = self.event_user[self.event_part == TRAIN]
        return result

    @cached_property
    def popularity(self) -> np.ndarray:
        """[I] int64: training events per catalogue row; 0 for an item never seen in training."""
        return np.bincount(self.training_items, minlength=len(self.dataset.items))

    @cached_property
    def why_no_rating_task(self) -> str:
        """Why the data does not allow rating prediction, as half a sentence; "" where it does."""
        if not self.dataset.has_ratings:
            return "the interactions have no ratings"
        if not all((self.rating_part == part).any() for part in PART_NUMBER.values()):
            return "there are too few ratings for a training, a validation and a test part"
        values = self.visible_rating_values
        if len(values) == 1:
            return f"every rating of the training part is {values[0]:g}, so there is nothing to predict"
        if len(values) > MAX_RATING_VALUES:
            return (
                f"there are {len(values)} different ratings; round them to at most {MAX_RATING_VALUES} values"
            )
        if len(distinct(self.event_user[self.rating_part == TEST])) < LEAST_RATERS:
            return "the test part has ratings of one user alone, so its error would have no interval"
        return ""

    def refitted(self) -> Split:
        """The split on which a model that was chosen on validation is fitted once more: events and ratings of
        the validation part, and what is before it, are for training, and there is no validation part. What
        the test part holds out, and the gap before it in a split by time, trains no more than before."""
        row, validated = np.arange(len(self.event_part)), self.event_part == VALIDATION
        if (end := self.protocol.training_ends("test")) is not None:
            before = self.dataset.event_second < end
        else:
            last = np.full(len(self.dataset.user_ids), -1)
            np.maximum.at(last, self.event_user[validated], row[validated])
            before = row <= last[self.event_user]
        trains = (self.event_part == TRAIN) | (before & (self.event_part != TEST))
        event_part = np.where(trains, TRAIN, np.where(validated, CONTEXT, self.event_part)).astype(np.uint8)
        free = ~np.isnan(self.dataset.event_rating) & (self.rating_part != TEST)
        rating_part = np.where(free & trains, TRAIN, np.where(self.rating_part == TEST, TEST, NONE))
        test = {part: rows for part, rows in self.candidates.items() if part == "test"}
        return replace(self, event_part=event_part, rating_part=rating_part.astype(np.uint8), candidates=test)

    def of_users(self, kept: np.ndarray) -> Split:
        """The split of the users where `kept` [U] is true: the same catalogue, their events, ratings and
        candidates alone."""
        events = kept[self.event_user]
        candidates: dict[str, np.ndarray] = {
            part: self.candidates[part][events[self.held_out_events(part)]]
            for part in PARTS
            if part in self.candidates
        }
        return replace(
            self,
            dataset=self.dataset.filter_events(events),
            event_part=self.event_part[events],
            rating_part=self.rating_part[events],
            candidates=candidates,
        )

    def held_out_events(self, part: Part) -> np.ndarray:
        """[n] event rows that `part` holds out, ascending: the targets of its retrieval and ranking requests,
        in their order."""
        return np.flatnonzero(self.event_part == PART_NUMBER[part])

    def held_out_ratings(self, part: Part) -> np.ndarray:
        """[n] event rows whose rating `part` holds out, ascending: its rating requests, in their order."""
        return np.flatnonzero(self.rating_part == PART_NUMBER[part])

    def evaluated_users(self, part: Part) -> np.ndarray:
        """[n] user numbers, ascending, of whom `part` holds out an event."""
        return distinct(self.event_user[self.held_out_events(part)])

    def retrieval_requests(
        self, part: Part, positions: Sequence[int] | None = None
    ) -> tuple[list[Request], list[str]]:
        """One request per held-out event, and its item; test histories include the validation item.
        `positions`: those of the requests that are wanted, by default all."""
        events = self.held_out_events(part)
        wanted = events if positions is None else events[list(positions)]
        pairs = [self._history_request(event) for event in wanted.tolist()]
        return [request for request, _ in pairs], [truth for _, truth in pairs]

    def ranking_requests(
        self, part: Part, positions: Sequence[int] | None = None
    ) -> tuple[list[Request], list[str]]:
        """As `retrieval_requests`, with the fixed candidates of the part."""
        ids = self.dataset.item_ids
        requests, truths = self.retrieval_requests(part, positions)
        rows_of = self.candidates[part] if positions is None else self.candidates[part][list(positions)]
        candidates = [tuple(ids[row] for row in rows) for rows in rows_of.tolist()]
        pairs = zip(requests, candidates, strict=True)
        return [Request(r.user, r.history, r.ratings, candidates=c) for r, c in pairs], truths

    def rating_requests(
        self, part: Part, positions: Sequence[int] | None = None
    ) -> tuple[list[Request], list[float]]:
        """One request per rating of the part, or per one at `positions` of these; its history holds the
        training events before the rated one, at most RATING_HISTORY of them, the latest."""
        data, rated = self.dataset, self.held_out_ratings(part)
        wanted = rated if positions is None else rated[list(positions)]
        requests, truths = [], []
        owner = -1  # one user after the other, so that their requests share the values
        for event in wanted.tolist():
            user = int(self.event_user[event])
            first, last = self.training_bounds[user].tolist()
            if user != owner:
                owner, (items, ratings) = user, self._history(first, last)
            shown = slice(max(0, min(event, last) - first - RATING_HISTORY), min(event, last) - first)
            item = data.item_ids[data.event_item[event]]
            requests.append(Request(data.user_ids[user], items[shown], ratings[shown], item=item))
            truths.append(float(data.event_rating[event]))
        return requests, truths

    @cached_property
    def shortened_users(self) -> np.ndarray:
        """User numbers, ascending, of whom a rating request shows RATING_HISTORY events and not all."""
        rated = np.flatnonzero(np.isin(self.rating_part, [PART_NUMBER[part] for part in PARTS]))
        users = self.event_user[rated]
        bounds = self.training_bounds[users]
        before = (
            np.minimum(rated, bounds[:, 1]) - bounds[:, 0]
        )  # [rated] training events before the rated one
        return np.unique(users[before > RATING_HISTORY])

    def _history_request(self, event: int) -> tuple[Request, str]:
        user = int(self.event_user[event])
        history, ratings = self._history(int(self.dataset.bounds[user]), event)
        item = self.dataset.item_ids[self.dataset.event_item[event]]
        return Request(self.dataset.user_ids[user], history, ratings), item

    def _history(self, first: int, stop: int) -> tuple[tuple[str, ...], tuple[float | None, ...]]:
        """Items and visible ratings of the event rows first : stop."""
        ids = self.dataset.item_ids
        history = tuple(ids[row] for row in self.dataset.event_item[first:stop].tolist())
        ratings = self.visible_rating[first:stop].tolist()
        return history, tuple(None if rating != rating else rating for rating in ratings)  # NaN is unknown

    def fingerprint(self) -> str:
        """SHA-256 over dataset and partition."""
        digest = hashlib.sha256(self.dataset.fingerprint().encode())
        for array in (self.event_part, self.rating_part, *self.candidates.values()):
            digest.update(array.tobytes())
        if self.protocol not in UNNAMED:
            digest.update(json.dumps(asdict(self.protocol)).encode())
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        """Write the dataset, partition.parquet (one row per event), candidates.parquet (a column per part,
        a row per held-out event of it, nulls after the last) and protocol.json into `folder`."""
        self.dataset.save(folder)
        pl.DataFrame({"event_part": self.event_part, "rating_part": self.rating_part}).write_parquet(
            folder / "partition.parquet"
        )
        _write_candidates(self.candidates, folder / "candidates.parquet")
        (folder / PROTOCOL_FILE).write_text(json.dumps(asdict(self.protocol), indent=1) + "\n", "utf-8")

    @classmethod
    def load(cls, folder: Path) -> Split:
        """Read what `save` wrote."""
        parts = pl.read_parquet(folder / "partition.parquet", glob=False)
        dataset = Dataset.load(folder)
        return cls(
            dataset,
            parts["event_part"].to_numpy(),
            parts["rating_part"].to_numpy(),
            _read_candidates(folder / "candidates.parquet"),
            _saved_protocol(folder, dataset),
        )


def _write_candidates(candidates: dict[str, np.ndarray], path: Path) -> None:
    """A column per part, a list per held-out event of it, nulls after the last."""
    most = max(map(len, candidates.values()), default=0)
    frame = pl.DataFrame({part: _lists(rows, 0, most) for part, rows in candidates.items()})
    if most <= ONE_BY_ONE:
        frame.write_parquet(path)
        return
    with pq.ParquetWriter(path, frame[:0].to_arrow().schema, compression="zstd") as writer:
        for start in range(0, most, DRAWN_AT_ONCE):
            stop = min(start + DRAWN_AT_ONCE, most)
            columns = {part: _lists(rows, start, stop) for part, rows in candidates.items()}
            writer.write_table(pl.DataFrame(columns).to_arrow().cast(writer.schema))


def _lists(rows: np.ndarray, start: int, stop: int) -> pl.Series:
    """The rows start : stop as lists of whole numbers, null after the last row."""
    some = rows[start:stop]
    values = pl.Series(some.astype(np.int64).reshape(len(some), -1), dtype=pl.Array(pl.Int64, some.shape[1]))
    lists = values.arr.to_list() if len(some) else pl.Series([], dtype=pl.List(pl.Int64))
    return lists.extend_constant(None, stop - start - len(some))


def _read_candidates(path: Path) -> dict[str, np.ndarray]:
    """Part -> [n, width] int32, what `_write_candidates` wrote; some row groups at a time."""
    file = pq.ParquetFile(path)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in file.schema_arrow.names}
    for batch in file.iter_batches(DRAWN_AT_ONCE):
        for name, lists in zip(batch.schema.names, batch.columns, strict=True):
            held = lists.drop_null()
            if len(held):
                parts[name].append(held.flatten().to_numpy().astype(np.int32).reshape(len(held), -1))
    return {name: np.concatenate(some) if some else np.empty(0, np.int32) for name, some in parts.items()}


def _saved_protocol(folder: Path, dataset: Dataset) -> Protocol:
    """Folders of older versions have no file of it, and one of UNNAMED."""
    path = folder / PROTOCOL_FILE
    if not path.exists():
        return Protocol() if dataset.ordered else Protocol("random")
    values = json.loads(path.read_text("utf-8"))
    return Protocol(**values | {"cuts": values["cuts"] and tuple(values["cuts"])})


@dataclass(frozen=True)
class TrainingCore:
    """The k-core filter on training events alone: `k`, and whether the catalogue keeps items without a
    training event in the core."""

    k: int
    whole_catalogue: bool


def split_dataset(
    dataset: Dataset, settings: SplitSettings, seed: int, core: TrainingCore | None = None
) -> Split:
    """Divide events by the scheme of `settings`, and ratings besides: at random, but by time where the events
    are.

    By leave-one-out two events are held out of every user with LEAST_EVENTS or more: the last is the test,
    the last but one validation. A random split takes the order from the events first. All events of other
    users are training.

    With a `core` the filter is applied after the split: training events of users and items with fewer than k
    of them are removed, repeatedly until there are none, and so are users without any left. The catalogue
    stays whole, or keeps the items with a training event in the core; then held-out events of other items are
    dropped, and their users are not evaluated in that part. What is held out has no influence on which events
    and ratings remain for training.

    Raises SettingsError for a scheme without the order or the times that it needs, TooFewEvents where nobody
    can be evaluated, and NothingLeft for a core without events or a catalogue with too few items for the
    ranking candidates.
    """
    scheme = settings.scheme or ("leave_one_out" if dataset.ordered else "random")
    protocol = Protocol(scheme, settings.ties, settings.last if scheme == "leave_last_n" else 1)
    dataset = _in_order(dataset, protocol, seed)
    event_part, protocol = divide(dataset, settings, protocol, seed)
    if core is not None:
        dataset, event_part = _in_training_core(dataset, event_part, core.k)
    rating_part = _divide_ratings(dataset, event_part, settings, protocol, seed)
    if core is not None and not core.whole_catalogue:
        dataset, event_part, rating_part = _trained_catalogue(dataset, event_part, rating_part)
    split = Split(dataset, event_part, rating_part, {}, protocol)
    _check_evaluated(split)
    _check_negatives(split, settings.ranking_negatives)
    negatives = settings.ranking_negatives
    assert split.event_user.size  # computed before the threads read it
    candidates = in_threads(lambda part: _draw_candidates(split, part, negatives, seed), PARTS)
    return replace(split, candidates=dict(zip(PARTS, candidates, strict=True)))


def split_leave_one_out(dataset: Dataset, settings: SplitSettings, seed: int) -> Split:
    """`split_dataset` by leave-one-out: each user's last event is the test, the last but one validation."""
    return split_dataset(dataset, settings.model_copy(update={"scheme": "leave_one_out"}), seed)


def _in_order(dataset: Dataset, protocol: Protocol, seed: int) -> Dataset:
    """The dataset in the order that the protocol divides: as it is, without one, or with ties shuffled.

    Raises SettingsError where there is none, or where ties are to be shuffled and there are no times.
    """
    if protocol.ties == "shuffled":
        check_times(dataset, 'split.ties = "shuffled" orders by time', 'leave split.ties = "shuffled" out')
        return dataset.with_shuffled_ties(seed)
    if protocol.scheme == "random":
        return dataset.without_order(seed)
    if not dataset.ordered:
        raise SettingsError(
            f'split.scheme = "{protocol.scheme}" holds out what came last, and the interactions have no '
            "order; name the column that orders them in data.interactions_columns.timestamp if the files are "
            'your own, or set split.scheme = "random".'
        )
    return dataset


def _in_training_core(dataset: Dataset, event_part: np.ndarray, k: int) -> tuple[Dataset, np.ndarray]:
    """The k-core of the training events, and what else there is of its users and of those of whom nothing
    trains."""
    training = event_part == TRAIN
    kept = np.zeros(len(event_part), bool)
    lengths = np.diff(dataset.bounds)
    users = np.repeat(np.arange(len(lengths)), lengths)
    kept[training], _ = core_of(users[training], dataset.event_item[training], k)
    trained, remain = (np.bincount(users[which], minlength=len(lengths)) > 0 for which in (training, kept))
    kept |= ~training & ~(trained & ~remain)[users]
    return dataset.filter_events(kept), event_part[kept]


def _trained_catalogue(
    dataset: Dataset, event_part: np.ndarray, rating_part: np.ndarray
) -> tuple[Dataset, np.ndarray, np.ndarray]:
    """The catalogue of items with a training event, and the events of these items. Raises TooFewEvents where
    a part loses all."""
    trained = np.zeros(len(dataset.items), bool)
    trained[dataset.event_item[event_part == TRAIN]] = True
    kept = trained[dataset.event_item]
    if set(np.unique(event_part[kept])) < set(np.unique(event_part)):
        raise TooFewEvents(
            "all that a part holds out is of items without a training event in the core; set "
            'data.catalogue = "all" to keep them.'
        )
    return dataset.filter_events(kept).filter_items(trained), event_part[kept], rating_part[kept]


def _divide_ratings(
    dataset: Dataset, event_part: np.ndarray, settings: SplitSettings, protocol: Protocol, seed: int
) -> np.ndarray:
    """[E] uint8. Drawn by position alone, so that no item or value decides another rating's part; of users
    who are held out whole none is drawn. A split by time divides ratings by its times."""
    has_rating = ~np.isnan(dataset.event_rating)
    if protocol.cuts is not None:
        validation_start, test_start = (dataset.event_second >= cut for cut in protocol.cuts)
        parts = np.where(test_start, TEST, np.where(validation_start, VALIDATION, event_part))
        return np.where(has_rating & (parts != CONTEXT), parts, NONE).astype(np.uint8)
    if protocol.scheme == "by_user":
        has_rating &= event_part == TRAIN
    rated = np.flatnonzero(has_rating)
    rated = seeds.generator(seed, "rating split").permutation(rated)
    validation = round(len(rated) * settings.rating_validation)
    test = round(len(rated) * settings.rating_test)
    parts = np.full(len(event_part), NONE, np.uint8)
    parts[rated] = TRAIN
    parts[rated[:validation]] = VALIDATION
    parts[rated[validation : validation + test]] = TEST
    # an event held out for retrieval is in no training text of any task
    parts[(parts == TRAIN) & (event_part != TRAIN)] = NONE
    return parts


def _check_evaluated(split: Split) -> None:
    """Raises TooFewEvents where a part holds nothing out."""
    if all(len(split.held_out_events(part)) for part in PARTS):
        return
    number = split.protocol.last
    each = "one each to train, validate and test"
    remedy = "give interactions over a longer time, or of more users"
    if number > 1:
        each = f"one to train, {number} to validate and {number} to test"
        remedy = f"set split.last below {number}, or {remedy}"
    raise TooFewEvents(
        f"none of the {len(split.dataset.user_ids):,} users has {2 * number + 1} interactions, {each}; "
        f"{remedy}."
    )


def _check_negatives(split: Split, negatives: int) -> None:
    """Raises NothingLeft where an evaluated user leaves fewer untaken items than `negatives`, naming the
    number that each of them leaves."""
    dataset = split.dataset
    users = np.union1d(*(split.evaluated_users(part) for part in PARTS))
    untaken = len(dataset.items) - np.diff(dataset.bounds)[users]
    least, user = int(untaken.min()), dataset.user_ids[int(users[untaken.argmin()])]
    if least >= negatives:
        return
    short = int((untaken < negatives).sum())
    remedy = "add items that this user never took"
    if least:
        remedy = f"set split.ranking_negatives = {least} in an experiment file"
    raise NothingLeft(
        f"{short} of {len(users)} users leave fewer than {negatives} untaken items for ranking, "
        f'user "{user}" only {least}; {remedy}.'
    )


def _draw_candidates(split: Split, part: Part, negatives: int, seed: int) -> np.ndarray:
    """[events of the part, 1 + negatives] int32: the held-out item among items that the user never took, in
    shuffled order. Parts of up to ONE_BY_ONE events are drawn as by all earlier versions; larger ones some
    events at a time, by whole columns."""
    events = split.held_out_events(part)
    if len(events) <= ONE_BY_ONE:
        return _drawn_one_by_one(split, events, negatives, seeds.generator(seed, "ranking candidates", part))
    rows = np.empty((len(events), 1 + negatives), np.int32)
    for chunk, start in enumerate(range(0, len(events), DRAWN_AT_ONCE)):
        some = slice(start, start + DRAWN_AT_ONCE)
        rng = seeds.generator(seed, "ranking candidates", part, chunk)
        rows[some] = _drawn_by_columns(split, events[some], negatives, rng)
    return rows


def _drawn_one_by_one(
    split: Split, events: np.ndarray, negatives: int, rng: np.random.Generator
) -> np.ndarray:
    """[events, 1 + negatives] int32 candidates, see `_draw_candidates`."""
    dataset = split.dataset
    rows = np.empty((len(events), 1 + negatives), np.int32)
    for position, (event, user) in enumerate(zip(events, split.event_user[events], strict=True)):
        taken = dataset.event_item[dataset.bounds[user] : dataset.bounds[user + 1]]
        # the n-th untaken row is n plus the taken rows before it: no list of the catalogue per user
        untaken_before = np.sort(taken) - np.arange(len(taken))
        drawn = rng.choice(len(dataset.items) - len(taken), negatives, replace=False)
        drawn += np.searchsorted(untaken_before, drawn, side="right")
        rows[position] = rng.permutation(np.append(drawn, dataset.event_item[event]))
    return rows


def _drawn_by_columns(
    split: Split, events: np.ndarray, negatives: int, rng: np.random.Generator
) -> np.ndarray:
    """As `_drawn_one_by_one`, by other draws: items are drawn from the catalogue, and drawn again where they
    were taken or are in the row already. No item is preferred by that. Rows of users who leave few items are
    drawn one by one."""
    dataset, items = split.dataset, len(split.dataset.items)
    users = split.event_user[events]
    first, stop = dataset.bounds[users], dataset.bounds[users + 1]
    rows = np.empty((len(events), 1 + negatives), np.int32)
    rows[:, 0] = dataset.event_item[events]
    crowded = items - (stop - first) < np.maximum(2 * negatives, items // 2)
    wide = np.flatnonzero(~crowded)
    if len(wide):
        drawn = rng.integers(0, items, (len(wide), negatives), dtype=np.int32)
        _redraw(drawn, slices(dataset.event_item, first[wide], stop[wide]), items, rng)
        position = rng.integers(0, negatives + 1, len(wide))  # of the held-out item
        rows[wide, 1:] = drawn
        rows[wide, 0], rows[wide, position] = rows[wide, position], rows[wide, 0]
    rows[crowded] = _drawn_one_by_one(split, events[crowded], negatives, rng)
    return rows


def _redraw(drawn: np.ndarray, taken: Ragged, items: int, rng: np.random.Generator) -> None:
    """Draw again, in place, until each row of `drawn` [n, negatives] has distinct items, and none of its row
    of `taken` [n]; rows stay in random order."""
    rows = faulty = np.flatnonzero(_faults(np.sort(drawn, axis=1), taken, items).any(axis=1))
    while len(rows):
        some = np.sort(drawn[rows], axis=1)
        wrong = _faults(some, taken.take(rows), items)
        some[wrong] = rng.integers(0, items, int(wrong.sum()), dtype=np.int32)
        drawn[rows] = some
        rows = rows[wrong.any(axis=1)]
    drawn[faulty] = rng.permuted(drawn[faulty], axis=1)


def _faults(drawn: np.ndarray, taken: Ragged, items: int) -> np.ndarray:
    """[n, negatives] bool: which items of the rows `drawn`, each ascending, are there again, or taken."""
    wrong = np.zeros(drawn.shape, bool)
    np.equal(drawn[:, 1:], drawn[:, :-1], out=wrong[:, 1:])
    keys = (drawn + (np.arange(len(drawn), dtype=np.int64) * items)[:, None]).ravel()  # ascending
    wanted = taken.values + taken.row_ids * items
    position = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    wrong.reshape(-1)[position[keys[position] == wanted]] = True
    return wrong
