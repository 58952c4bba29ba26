"""recent_popularity: what is recent by days, by events and not at all."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from shelftalk.baselines.popularity import fit_popularity
from shelftalk.baselines.recent_popularity import (
    RecentPopularity,
    RecentPopularitySettings,
    fit_recent_popularity,
)
from shelftalk.data.dataset import make_dataset
from shelftalk.data.splitting import Split, SplitSettings, split_dataset, split_leave_one_out
from shelftalk.testing.exams import RankerExam, RecommenderExam, exam_split
from shelftalk.testing.worlds import DAY, tiny_world

FIXED = RecentPopularitySettings(days=(60.0,), events=(2,))


class TestRecentPopularity(RecommenderExam, RankerExam):
    def build(self, split: Split) -> RecentPopularity:
        return fit_recent_popularity(split, FIXED, seed=0)


def test_the_days_before_the_last_training_event_count():
    split = exam_split()
    times = split.dataset.events["timestamp"].to_list()
    training = [row for row in range(len(times)) if split.event_part[row] == 0]
    last = max(times[row] for row in training)
    expected = np.zeros(len(split.dataset.items))
    for row in training:
        if last - times[row] < 60 * DAY:
            expected[split.dataset.event_item[row]] += 1
    model = fit_recent_popularity(split, FIXED, seed=0)
    assert model.counts.tolist() == expected.tolist() and 0 < expected.sum() < len(training)
    assert model.selection()[0].startswith("recent_popularity: days 60 (")


def test_without_times_the_last_events_of_each_user_count():
    world = tiny_world()
    timeless = make_dataset(world.items, world.events.with_columns(timestamp=None, nanosecond=None))
    split = split_leave_one_out(timeless, SplitSettings(), seed=0)
    expected = np.zeros(len(split.dataset.items))
    for first, stop in split.training_bounds.tolist():
        for row in range(max(first, stop - 2), stop):
            expected[split.dataset.event_item[row]] += 1
    model = fit_recent_popularity(split, FIXED, seed=0)
    assert model.counts.tolist() == expected.tolist()
    assert model.selection()[0].startswith("recent_popularity: events 2 (")


def test_without_an_order_it_is_popularity():
    split = split_dataset(tiny_world().without_order(0), SplitSettings(), seed=0)
    model = fit_recent_popularity(split, RecentPopularitySettings(), seed=0)
    assert model.counts.tolist() == fit_popularity(split).counts.tolist()
    assert "all training events, since they have no order (" in model.selection()[0]
    assert model.chosen_settings() == RecentPopularitySettings()


def test_the_length_of_the_past_is_chosen_on_validation():
    """Long ago everybody took "old", lately everybody takes "new"."""
    rows = []
    for user in range(40):
        start = (0 if user < 25 else 1000) * DAY + 10**9
        items = ["old" if user < 25 else f"x{user}", f"y{user}", "new" if user >= 25 else f"z{user}"]
        items += [] if user < 38 else ["late"]
        rows += [(f"u{user}", item, start + n * DAY) for n, item in enumerate((*items, f"w{user}"))]
    schema = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64}
    events = pl.DataFrame(rows, schema=schema, orient="row")
    world = make_dataset(events.select(pl.col("item_id").unique().sort()), events)
    split = split_leave_one_out(world, SplitSettings(ranking_negatives=1), seed=0)
    tried = RecentPopularitySettings(days=(5000.0, 30.0))
    model = fit_recent_popularity(split, tried, seed=0)
    singles = {
        days: fit_recent_popularity(split, RecentPopularitySettings(days=(days,)), seed=0).choice.value
        for days in tried.days
    }
    assert model.choice.value == max(singles.values()) and singles[30.0] != singles[5000.0]
    assert model.choice.settings.days == (max(singles, key=singles.__getitem__),)


@pytest.mark.parametrize("wrong", [{"days": (0.0,)}, {"events": (0,)}, {"days": ()}])
def test_settings_out_of_range_are_refused(wrong: dict):
    with pytest.raises(ValueError, match="days|events"):
        RecentPopularitySettings(**wrong)
