"""Ids as numbers, orders of many rows, and what large data sets do otherwise than small ones."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shelftalk.data import coding, dataset, splitting
from shelftalk.data.coding import codes_of, event_codes, sorted_rows, stable_order
from shelftalk.data.dataset import Dataset
from shelftalk.data.splitting import TEST, Split, SplitSettings, split_dataset
from shelftalk.testing.worlds import tiny_world

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "values",
    [
        RNG.integers(0, 5, 1000),
        RNG.integers(-(2**63), 2**63 - 1, 1000),
        RNG.integers(0, 2**64 - 1, 1000, dtype=np.uint64),
        np.array([3, 3, 3], np.int32),
        np.array([], np.int64),
    ],
    ids=["few values", "all of 64 bits", "unsigned", "equal", "none"],
)
def test_order_is_that_of_a_stable_argsort(values: np.ndarray) -> None:
    assert stable_order(values).tolist() == np.argsort(values, kind="stable").tolist()


def test_rows_are_sorted_by_several_columns() -> None:
    keys = [RNG.integers(0, 4, 500), np.zeros(500, np.int64), RNG.integers(0, 4, 500)]
    order, equal = sorted_rows(keys)
    rows = sorted(range(500), key=lambda row: (keys[0][row], keys[2][row]))
    pairs = [(keys[0][row], keys[2][row]) for row in rows]
    assert order.tolist() == rows
    assert equal.tolist() == [
        bool(at) and pair == pairs[at - 1] for at, pair in enumerate(pairs)
    ]  # the first has none before it


@pytest.mark.parametrize("bits", [64, 60, 4, 0])
def test_ids_with_equal_hashes_keep_numbers_of_their_own(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only some bits of a hash differ, and where none does."""
    ids = pl.Series([f"id {number}" for number in RNG.integers(0, 60, 400)])
    plain = pl.Series.hash
    shift = np.uint64(64 - bits) if bits else np.uint64(0)

    def hashed(series: pl.Series, seed: int) -> pl.Series:
        values = plain(series, seed).to_numpy()
        return pl.Series((values >> shift) << shift if bits else np.zeros(len(values), np.uint64))

    monkeypatch.setattr(pl.Series, "hash", hashed)
    codes, distinct = codes_of(ids)
    assert distinct.to_list() == sorted(set(ids.to_list()))
    assert distinct.gather(pl.Series(codes)).to_list() == ids.to_list()


def test_codes_of_some_events_are_those_of_their_frame() -> None:
    events = tiny_world().events
    kept = RNG.random(len(events)) < 0.3
    some, anew = event_codes(events).filter(kept), event_codes(events.filter(pl.Series(kept)))
    assert some.users.to_list() == anew.users.to_list() and some.items.to_list() == anew.items.to_list()
    assert (some.user == anew.user).all() and (some.item == anew.item).all()


def test_a_large_data_set_is_saved_and_opened_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = split_dataset(tiny_world(), SplitSettings(ranking_negatives=5), 0)
    small.save(tmp_path / "small")
    for where, name, value in (
        (dataset, "WHOLE_FRAME", 50),
        (dataset, "ROW_GROUP", 16),
        (dataset, "FINGERPRINT_ROWS", 7),
        (splitting, "ONE_BY_ONE", 3),
        (splitting, "DRAWN_AT_ONCE", 4),
    ):
        monkeypatch.setattr(where, name, value)
    Split(
        Dataset(small.dataset.items, small.dataset.columns),
        small.event_part,
        small.rating_part,
        small.candidates,
    ).save(tmp_path / "large")
    one, other = Split.load(tmp_path / "small"), Split.load(tmp_path / "large")
    assert other.dataset.events.equals(one.dataset.events)
    assert other.fingerprint() == small.fingerprint()
    assert pl.read_parquet(tmp_path / "large/events.parquet").equals(
        pl.read_parquet(tmp_path / "small/events.parquet")
    )


def test_candidates_of_many_events_are_untaken_distinct_and_evenly_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The held-out item is at any place, and no untaken item is preferred."""
    monkeypatch.setattr(splitting, "ONE_BY_ONE", 0)
    monkeypatch.setattr(splitting, "DRAWN_AT_ONCE", 7)
    data, places, drawn = tiny_world(), Counter[int](), Counter[int]()
    for seed in range(60):
        split = split_dataset(data, SplitSettings(ranking_negatives=6), seed)
        events = split.held_out_events("test")
        for event, row in zip(events.tolist(), split.candidates["test"].tolist(), strict=True):
            user = split.event_user[event]
            taken = set(data.event_item[data.bounds[user] : data.bounds[user + 1]].tolist())
            own = int(data.event_item[event])
            assert len(set(row)) == 7 and own in row and taken.isdisjoint(set(row) - {own})
            places[row.index(own)] += 1
            drawn.update(set(row) - {own})
    assert set(places) == set(range(7)) and max(places.values()) < 2 * min(places.values())
    assert (split.event_part == TEST).sum() == len(events)
    free = Counter[int]()
    for user in split.event_user[events].tolist():
        taken = set(data.event_item[data.bounds[user] : data.bounds[user + 1]].tolist())
        free.update(
            {item: 1 / (len(data.items) - len(taken)) for item in range(len(data.items)) if item not in taken}
        )
    share = np.array([drawn[item] / (60 * 6 * free[item]) for item in free])
    assert abs(share.mean() - 1) < 0.1 and share.std() < 0.25
    assert coding.distinct(np.array([1, 1, 4])).tolist() == [1, 4]
