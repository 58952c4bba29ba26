"""Probes: what a data set gives away by itself, before any model has learned from it.

Each is a share with its 95 % interval and a sentence. One test target per user is looked at, the last, so
that the intervals are over independent users: exact ones for counts (Clopper and Pearson, 1934).

Legend: n users of the test part, E events, I items.
"""

from __future__ import annotations

import os.path
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import polars as pl
from scipy.special import bdtr, betaincinv

from shelftalk import seeds
from shelftalk.data.coding import codes_of, stable_order
from shelftalk.data.dataset import Dataset
from shelftalk.data.splitting import TEST, TRAIN, Split
from shelftalk.ragged import concatenated_ranges, offsets_of

NEXT = 10
"""Length of the list that is guessed from the order of items alone."""
PAIRS = 5000
"""Most targets, drawn by seed, whose co-occurrences are looked up one by one."""
EVENTS_AT_ONCE = 4_000_000
"""Events of histories that are looked at together: what bounds the memory."""
NORMAL_95 = 1.959964


@dataclass(frozen=True, slots=True)
class Probe:
    """One question to the data. `value` is a share of `n`, `low` and `high` the ends of its 95 % interval;
    None where there is nothing to measure. `expected` is what data would show that gives nothing away. `p` is
    two-sided: of a coin for pairs, and for an order of items of finding as many items before as after."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    sentence: str
    expected: float | None = None
    p: float | None = None


def probe_data(split: Split, file_order: Sequence[str] = (), seed: int = 0) -> list[Probe]:
    """All probes of a split. `file_order`: the item ids in the order of the catalogue's file, where it is
    known. Only the draw of at most PAIRS targets depends on the seed."""
    targets = _Targets(split)
    ranks = _ranks(split.dataset.item_ids, file_order)
    return [
        *(_order_coded(targets, name, rank) for name, rank in ranks.items()),
        _tied(targets),
        *(_tie_order(targets, name, rank) for name, rank in ranks.items()),
        _repeated(targets),
        _same_title(targets),
        _others_later(targets),
        _others_future(targets, seed),
        _same_history(targets),
    ]


def _ranks(item_ids: Sequence[str], file_order: Sequence[str]) -> dict[str, np.ndarray]:
    """Name of an order -> [I] position of each catalogue row in it; an order that is both has one entry."""
    row_of = {item: row for row, item in enumerate(item_ids)}
    by_id, by_file = id_order(item_ids), np.array([row_of[item] for item in file_order if item in row_of])
    if len(by_file) < len(item_ids):
        orders = {"id": by_id}
    elif np.array_equal(by_id, by_file):
        orders = {"id and catalogue file": by_id}
    else:
        orders = {"id": by_id, "catalogue file": by_file}
    return {name: np.argsort(rows) for name, rows in orders.items()}


def id_order(item_ids: Sequence[str]) -> np.ndarray:
    """[I] positions of the ids in ascending order: by number where each is a number after one and the same
    beginning ("i9" before "i10"), else as text ("B00A" before "B00B")."""
    prefix = os.path.commonprefix(list(item_ids)).rstrip("0123456789")
    numbers = [item[len(prefix) :] for item in item_ids]
    if all(number.isascii() and number.isdigit() for number in numbers):
        return np.array(sorted(range(len(numbers)), key=lambda row: int(numbers[row])))
    return np.array(sorted(range(len(item_ids)), key=item_ids.__getitem__))


class _Targets:
    """The last test target of each user [n], and what the probes read of it."""

    def __init__(self, split: Split) -> None:
        self.split, self.data = split, split.dataset
        rows = np.flatnonzero(split.event_part == TEST)
        last = np.append(split.event_user[rows][1:] != split.event_user[rows][:-1], True)[: len(rows)]
        self.row = rows[last]
        self.user = split.event_user[self.row]
        self.first = self.data.bounds[self.user]
        self.item, self.previous = self.data.event_item[self.row], self.data.event_item[self.row - 1]
        self.n = len(self.row)

    def histories(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Of all histories one after the other, some at a time: the number of the target, and the event
        row."""
        lengths = self.row - self.first
        before = offsets_of(lengths)
        cuts = np.searchsorted(before, np.arange(0, before[-1], EVENTS_AT_ONCE))
        for start, stop in pairwise(np.unique(np.append(cuts, self.n)).tolist()):
            rows = concatenated_ranges(self.first[start:stop], lengths[start:stop])
            yield np.repeat(np.arange(start, stop), lengths[start:stop]), rows

    @cached_property
    def gap(self) -> np.ndarray:
        """[n] seconds from the event before the target to it."""
        return self.data.seconds_before(self.row)

    @cached_property
    def timed(self) -> bool:
        """Whether every event has a time, and the split an order."""
        return self.data.ordered and self.data.has_times

    @cached_property
    def training(self) -> np.ndarray:
        """Event rows that train."""
        return np.flatnonzero(self.split.event_part == TRAIN)


def _order_coded(targets: _Targets, name: str, rank: np.ndarray) -> Probe:
    """Recall of the items that follow the last one of the history in an order that tells nothing of taste.
    `rank` [I]: the position of each catalogue row. The items before it are the control: only an order that
    follows the histories prefers those after."""
    step = rank[targets.item] - rank[targets.previous]
    after, before = (int(((sign * step >= 1) & (sign * step <= NEXT)).sum()) for sign in (1, -1))
    taken = np.zeros(targets.n, np.int64)
    for owner, rows in targets.histories():
        seen = rank[targets.data.event_item[rows]] - rank[targets.previous[owner]]
        of, number = np.unique(owner[(seen >= 1) & (seen <= NEXT)], return_counts=True)
        taken[of] = number
    items, lengths = len(rank), targets.row - targets.first
    left = np.minimum(NEXT, items - 1 - rank[targets.previous]) - taken
    chance = float((left / np.maximum(1, items - lengths)).mean())
    value, low, high = _share(after, targets.n)
    test = _even_odds(after, after + before) if after + before else 1.0
    sentence = (
        f"Guessing the {NEXT} items that follow a history's last one in {name} order, without any learning, "
        f"finds the test item of {_percent(value, low, high)} of the users; drawn at random they would find "
        f"{chance:.2%}, and the {NEXT} before it find {before / targets.n:.2%}"
    )
    verdict = "follows" if test < 0.05 and after > before else "shows no sign of following"
    return Probe(
        f"order-coded items: {name} order", value, low, high, targets.n,
        f"{sentence}: that order {verdict} the order in which users take items.", chance, float(test),
    )  # fmt: skip


def _tied(targets: _Targets) -> Probe:
    """How many users' test item has the time of the item before it."""
    name = "test item at the time of the one before"
    if not targets.timed:
        return _nothing(name, "The interactions have no times (or no order), so ties cannot be seen.")
    tied = int((targets.gap == 0).sum())
    value, low, high = _share(tied, targets.n)
    return Probe(
        name, value, low, high, targets.n,
        f"Of {_percent(value, low, high)} of the users ({tied:,} of {targets.n:,}) the test item has the "
        "same time as the one before it, so that the order of these two is not a matter of time.",
    )  # fmt: skip


def _tie_order(targets: _Targets, name: str, rank: np.ndarray) -> Probe:
    """Of the tied pairs, in how many the later item is the higher one of an order; a coin gives a half."""
    label = f"tied test item is the higher one: {name} order"
    if not targets.timed:
        return _nothing(label, "The interactions have no times (or no order), so ties cannot be seen.")
    tied = targets.gap == 0
    n, higher = int(tied.sum()), int((rank[targets.item] > rank[targets.previous])[tied].sum())
    if not n:
        return _nothing(label, "No test item has the time of the one before it.")
    value, low, high = _share(higher, n)
    p = _even_odds(higher, n)
    meaning = (
        "part of every sequential figure on this order of ties is the order of items"
        if p < 0.05
        else "no more than a coin would give"
    )
    return Probe(
        label, value, low, high, n,
        f"In {higher:,} of {n:,} such pairs ({_percent(value, low, high)}) the test item is the later one in "
        f"{name} order, where a coin would give a half ({_p(p)}): {meaning}.", 0.5, p,
    )  # fmt: skip


def _repeated(targets: _Targets) -> Probe:
    """Test targets that are in their own history."""
    repeated = sum(
        len(np.unique(owner[targets.data.event_item[rows] == targets.item[owner]]))
        for owner, rows in targets.histories()
    )
    value, low, high = _share(repeated, targets.n)
    return Probe(
        "test item repeats one of its history", value, low, high, targets.n,
        f"{repeated:,} of {targets.n:,} test items repeat an item of their history (when data is read, one "
        "interaction of a user and an item is kept).", 0.0,
    )  # fmt: skip


def _same_title(targets: _Targets) -> Probe:
    """Test targets whose title is that of another item of their history: the same thing under another id."""
    titles = targets.data.items["title"].str.to_lowercase().str.strip_chars()
    code, _ = codes_of(titles)
    titled, repeated = (titles != "").to_numpy(), 0
    for owner, rows in targets.histories():
        of_history, of_target = targets.data.event_item[rows], targets.item[owner]
        same = titled[of_target] & (code[of_history] == code[of_target]) & (of_history != of_target)
        repeated += len(np.unique(owner[same]))
    value, low, high = _share(repeated, targets.n)
    return Probe(
        "test item has a title of its history", value, low, high, targets.n,
        f"{repeated:,} of {targets.n:,} test items ({_percent(value, low, high)}) have the title of another "
        "item of their history.", 0.0,
    )  # fmt: skip


def _others_later(targets: _Targets) -> Probe:
    """How much of the training part is later than a test target: what a model could not have known then."""
    name = "training interactions later than a test item"
    if not targets.timed:
        return _nothing(name, "The interactions have no times, so other users' future cannot be seen.")
    second = targets.data.event_second
    trained = np.sort(second[targets.training])
    later = 1 - np.searchsorted(trained, second[targets.row], side="right") / max(1, len(trained))  # [n]
    value, error = float(later.mean()), NORMAL_95 * float(later.std()) / np.sqrt(targets.n)
    low, high = max(0.0, value - error), min(1.0, value + error)
    if not later.any():
        none = "No training interaction is later than the test item of any user."
        return Probe(name, 0.0, 0.0, 0.0, targets.n, none, 0.0)
    median = 1 - np.searchsorted(trained, np.median(second[targets.row]), side="right") / max(1, len(trained))
    return Probe(
        name, value, low, high, targets.n,
        f"{_percent(value, low, high)} of the training interactions are later than a test item, in the mean "
        f"over test items, and {median:.1%} are later than the median one: other users' future.", 0.0,
    )  # fmt: skip


def _others_future(targets: _Targets, seed: int) -> Probe:
    """Of the targets that some user took in training together with the history's last item, those whom only
    users did that completed the pair after the target."""
    name = "co-occurrence with the last item comes from later users alone"
    if not targets.timed:
        return _nothing(name, "The interactions have no times, so other users' future cannot be seen.")
    second, rows = targets.data.event_second, targets.training
    rows = rows[stable_order(targets.data.event_item[rows])]  # by item, within it by user
    items, users, times = targets.data.event_item[rows], targets.split.event_user[rows], second[rows]
    bounds = np.searchsorted(items, np.arange(len(targets.data.items) + 1))
    drawn = np.sort(seeds.generator(seed, "probed pairs").permutation(targets.n)[:PAIRS])
    together = only_later = some_later = 0
    for target in drawn.tolist():
        one, other = sorted(
            (
                slice(bounds[item], bounds[item + 1])
                for item in (targets.item[target], targets.previous[target])
            ),
            key=lambda rows: rows.stop - rows.start,
        )
        right = np.searchsorted(users[other], users[one]).clip(max=max(0, other.stop - other.start - 1))
        left = np.flatnonzero(users[other][right] == users[one]) if other.stop > other.start else right
        if len(left):
            completed = np.maximum(times[one][left], times[other][right[left]])
            later = completed > second[targets.row[target]]
            together, only_later, some_later = (
                together + 1, only_later + bool(later.all()), some_later + bool(later.any()),
            )  # fmt: skip
    if not together:
        return _nothing(name, "No test item was taken in training together with its history's last item.")
    value, low, high = _share(only_later, together)
    return Probe(
        name, value, low, high, together,
        f"Of {len(drawn):,} test items {together:,} were taken in training together with their history's "
        f"last item; for {some_later / together:.1%} of these a later user did so too, and for "
        f"{_percent(value, low, high)} only later users did.", 0.0,
    )  # fmt: skip


def _same_history(targets: _Targets) -> Probe:
    """Users whose whole sequence of items is another user's too: one person twice, or a script."""
    data = targets.data
    several = np.flatnonzero(np.diff(data.bounds) > 1)
    alike = several[_same_as_another(_sequence_hashes(data)[several])]
    sequences = [
        data.event_item[data.bounds[user] : data.bounds[user + 1]].tobytes() for user in alike.tolist()
    ]
    same = int(pl.Series(sequences, dtype=pl.Binary).is_duplicated().sum())
    if not len(several):
        return _nothing("same items in the same order", "No user has two interactions.")
    value, low, high = _share(same, len(several))
    return Probe(
        "same items in the same order", value, low, high, len(several),
        f"{same:,} of {len(several):,} users with two interactions or more ({_percent(value, low, high)}) "
        "took the same items in the same order as another user.", 0.0,
    )  # fmt: skip


def _sequence_hashes(data: Dataset) -> np.ndarray:
    """[U] uint64 of the items of each user and their order: equal sequences have equal ones."""
    hashes = np.empty(len(data.bounds) - 1, np.uint64)
    before, at = data.bounds, 0
    while at < len(hashes):
        stop = max(at + 1, int(np.searchsorted(before, before[at] + EVENTS_AT_ONCE)) - 1)
        rows = slice(before[at], before[stop])
        position = np.arange(before[at], before[stop]) - np.repeat(
            before[at:stop], np.diff(before[at : stop + 1])
        )
        mixed = (data.event_item[rows].astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= (position.astype(np.uint64) + np.uint64(1)) * np.uint64(0xC2B2AE3D27D4EB4F)
        mixed ^= mixed >> np.uint64(29)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(32)
        hashes[at:stop] = np.add.reduceat(mixed, before[at:stop] - before[at])
        at = stop
    return hashes


def _same_as_another(values: np.ndarray) -> np.ndarray:
    """[n] bool: whether a value is there more than once."""
    ordered = np.sort(values)
    result: np.ndarray = np.isin(values, ordered[1:][ordered[1:] == ordered[:-1]])
    return result


def _nothing(name: str, why: str) -> Probe:
    return Probe(name, None, None, None, 0, why)


def _even_odds(count: int, n: int) -> float:
    """The two-sided p of `count` of n where both outcomes are equally likely: an exact binomial test."""
    return min(1.0, 2 * float(bdtr(min(count, n - count), n, 0.5)))


def _share(count: int, n: int) -> tuple[float, float, float]:
    """The share and the ends of its exact 95 % interval."""
    low = float(betaincinv(count, n - count + 1, 0.025)) if count else 0.0
    high = float(betaincinv(count + 1, n - count, 0.975)) if count < n else 1.0
    return count / n, low, high


def _p(p: float) -> str:
    """A probability; below what a float holds, a bound."""
    return f"p = {p:.2g}" if p > 1e-99 else "p < 1e-99"


def _percent(value: float, low: float, high: float) -> str:
    """As in "43.5 % [42.8, 44.1]": three digits, so that rare things are not 0.0 %."""
    digits = 1 if value >= 0.1 else 2
    return f"{value:.{digits}%} [{100 * low:.{digits}f}, {100 * high:.{digits}f}]"
