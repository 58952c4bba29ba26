"""The order within one time: as published, or drawn by seed where only times decide."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from shelftalk.data.dataset import Dataset, make_dataset
from shelftalk.data.splitting import Protocol, Split, SplitSettings, split_dataset, split_leave_one_out
from shelftalk.errors import SettingsError
from shelftalk.experiment import load_experiment
from shelftalk.report.ledger import facts_of

ONE = SplitSettings(ranking_negatives=1)
SHUFFLED = ONE.model_copy(update={"ties": "shuffled"})


def days(users: int = 200, ordered: bool = True) -> Dataset:
    """Each user takes two items on day 1, three on day 2 and one on day 3; positions follow item numbers
    within a day."""
    rows = [
        (f"u{user}", f"i{(user + position) % 40:02}", position, (1, 1, 2, 2, 2, 3)[position])
        for user in range(users)
        for position in range(6)
    ]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "position", "timestamp"], orient="row")
    items = pl.DataFrame({"item_id": [f"i{number:02}" for number in range(40)]})
    return make_dataset(items, events if ordered else events.drop("position"), seed=0)


def items_of(data: Dataset) -> list[list[str]]:
    ids = data.events["item_id"].to_list()
    return [ids[first:stop] for first, stop in pairwise(data.bounds)]


def test_shuffling_moves_events_within_one_time_and_nowhere_else():
    before, after = items_of(days()), items_of(days().with_shuffled_ties(0))
    for one, other in zip(before, after, strict=True):
        assert [set(one[:2]), set(one[2:5]), one[5]] == [set(other[:2]), set(other[2:5]), other[5]]
    kept = np.mean([one[:2] == other[:2] for one, other in zip(before, after, strict=True)])
    assert 0.35 < kept < 0.65  # of 200 coins, within four standard deviations of a half
    first_of_day_two = [
        before.index(one)
        for before, one in zip([items[2:5] for items in before], [items[2] for items in after], strict=True)
    ]
    assert min(np.bincount(first_of_day_two, minlength=3)) > 40  # of 200 / 3 = 67


def test_the_shuffled_order_depends_on_the_seed_and_not_on_the_file():
    data = days()
    again = make_dataset(data.items.reverse(), data.events.reverse(), seed=0)
    assert again.with_shuffled_ties(7).fingerprint() == data.with_shuffled_ties(7).fingerprint()
    assert items_of(data.with_shuffled_ties(7)) != items_of(data.with_shuffled_ties(8))


def test_a_split_of_shuffled_ties_says_so_and_has_another_fingerprint(tmp_path):
    published, shuffled = (split_dataset(days(), settings, 0) for settings in (ONE, SHUFFLED))
    assert (published.protocol, shuffled.protocol) == (
        Protocol(),
        Protocol("leave_one_out", "shuffled"),
    )
    assert published.fingerprint() != shuffled.fingerprint()
    assert published.protocol.note == "" and "drawn by seed" in shuffled.protocol.note
    shuffled.save(tmp_path)
    assert Split.load(tmp_path).protocol == shuffled.protocol
    assert Split.load(tmp_path).fingerprint() == shuffled.fingerprint()


def test_published_figures_stand_beside_the_published_order_alone():
    assert facts_of(split_dataset(days(), ONE, 0)).events == "leave-one-out"
    assert facts_of(split_dataset(days(), SHUFFLED, 0)).events == "another"


def test_where_only_times_order_the_data_shuffling_changes_nothing():
    data = days(ordered=False)
    one, other = (split_dataset(data, settings, 0) for settings in (ONE, SHUFFLED))
    assert one.dataset.fingerprint() == other.dataset.fingerprint()


def test_without_times_there_is_nothing_to_shuffle_and_the_remedy_works():
    data = days()
    data = make_dataset(data.items, data.events.drop("timestamp", "nanosecond"))
    with pytest.raises(SettingsError, match="1,200 of 1,200 interactions have no time") as caught:
        split_dataset(data, SHUFFLED, 0)
    assert str(caught.value).endswith('or leave split.ties = "shuffled" out.')
    split_dataset(data, ONE, 0)


def test_positions_against_the_times_are_refused_and_the_remedy_works():
    data = days()
    back = data.events.with_columns(
        timestamp=pl.when((pl.col("user_id") == "u3") & (pl.col("position") == 5))
        .then(0)
        .otherwise("timestamp")
    )
    with pytest.raises(
        SettingsError, match="1 interactions have a later position and an earlier time"
    ) as caught:
        split_dataset(make_dataset(data.items, back), SHUFFLED, 0)
    assert 'set data.order = "timestamp"' in str(caught.value)
    by_time = make_dataset(data.items, back, 0, ("timestamp", "nanosecond"))
    assert split_dataset(by_time, SHUFFLED, 0).protocol.ties == "shuffled"


def test_a_fraction_of_a_second_is_no_tie():
    events = days().events.with_columns(nanosecond=pl.col("position") * 100, timestamp=pl.lit(5))
    data = make_dataset(days().items, events)
    assert items_of(data.with_shuffled_ties(0)) == items_of(data)
    assert np.nanmin(data.seconds_since_previous) > 0


def test_ties_of_a_random_split_are_refused():
    with pytest.raises(SettingsError, match="there are no ties to shuffle"):
        load_experiment(None, {"split": {"scheme": "random", "ties": "shuffled"}})


def test_splits_of_older_versions_are_of_the_published_order(tmp_path):
    for data in (days(), days().without_order(0)):
        split = split_dataset(data, ONE, 0)
        split.save(tmp_path)
        (tmp_path / "protocol.json").unlink()
        assert Split.load(tmp_path).fingerprint() == split.fingerprint()
        assert Split.load(tmp_path).scheme == split.scheme


def test_leave_one_out_by_name_keeps_the_ties_of_the_settings():
    assert split_leave_one_out(days(), SHUFFLED, 0).protocol.ties == "shuffled"
