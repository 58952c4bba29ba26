"""tale: the closed form against rows written one by one, weights by hand, and what is aimed at on Beauty."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shelftalk.baselines.linear import LinearItems
from shelftalk.baselines.tale import TaleSettings, fit_tale, matrices_of, trend, weighed_by
from shelftalk.data.dataset import Dataset, make_dataset
from shelftalk.data.splitting import Split, SplitSettings, split_dataset, split_leave_one_out
from shelftalk.testing.exams import RankerExam, RecommenderExam, exam_split
from shelftalk.testing.worlds import DAY, tiny_world

BEAUTY = Path(__file__).resolve().parents[3] / "shared" / "data" / "beauty"
FIXED = TaleSettings(
    l2=(3.0,), source_days=(4.0,), source_events=(2.0,), source_floor=(0.3,), history_decay=(0.8,)
)


class TestTale(RecommenderExam, RankerExam):
    def build(self, split: Split) -> LinearItems:
        return fit_tale(split, FIXED, seed=0)


class TestTaleDividedByTrend(RecommenderExam):
    def build(self, split: Split) -> LinearItems:
        return fit_tale(split, FIXED.model_copy(update={"trend_days": (60.0,)}), seed=0)


def without_times(world: Dataset) -> Dataset:
    return make_dataset(world.items, world.events.with_columns(timestamp=None, nanosecond=None))


def rows_one_by_one(split: Split, trend_days: float) -> tuple[np.ndarray, np.ndarray]:
    """S and T of the module's docstring, with FIXED."""
    data, size = split.dataset, len(split.dataset.items)
    times = data.events["timestamp"].to_list()
    training = [row for row in range(len(times)) if split.event_part[row] == 0]

    def divisor(event: int) -> float:
        if not trend_days:
            return 1.0
        near = [
            row
            for row in training
            if data.event_item[row] == data.event_item[event]
            and 0 <= times[event] - times[row] <= trend_days * DAY
        ]
        return len(near) ** 0.5

    s, t = [], []
    for first, stop in split.training_bounds.tolist():
        for target in range(first + 1, stop):
            source_row, target_row = np.zeros(size), np.zeros(size)
            for source in range(first, target):
                if times[0] is None:
                    weight = np.exp(-(target - source - 1) / 2.0)
                else:
                    weight = np.exp(-(times[target] - times[source]) / DAY / 4.0)
                source_row[data.event_item[source]] = max(weight, 0.3) / divisor(source)
            target_row[data.event_item[target]] = 1 / divisor(target)
            s.append(source_row)
            t.append(target_row)
    return np.array(s), np.array(t)


@pytest.mark.parametrize(("world", "trend_days"), [("times", 0.0), ("times", 60.0), ("positions", 0.0)])
def test_weights_are_those_of_the_closed_form(world: str, trend_days: float):
    split = exam_split()
    if world == "positions":
        split = split_leave_one_out(without_times(tiny_world()), SplitSettings(), seed=0)
    model = fit_tale(split, FIXED.model_copy(update={"trend_days": (trend_days,)}), seed=0)
    s, t = (rows[:, model.items] for rows in rows_one_by_one(split, trend_days))
    expected = np.linalg.solve(s.T @ s + 3 * np.eye(s.shape[1]), s.T @ t)
    assert model.weights == pytest.approx(expected, abs=1e-5)


def test_without_an_order_every_other_item_of_a_user_is_a_source():
    split = split_dataset(tiny_world().without_order(0), SplitSettings(), seed=0)
    assert weighed_by(split) == ()
    source, target = matrices_of(split, {})(0, 3)
    assert source.tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 0]] and (target == np.eye(3)).all()
    model = fit_tale(split, FIXED, seed=0)
    assert model.history_decay == 1.0 and len(model.recommend(split.retrieval_requests("test")[0], 10)) > 0


def test_only_what_the_data_has_is_tried():
    timeless = split_leave_one_out(without_times(tiny_world()), SplitSettings(), seed=0)
    assert weighed_by(timeless) == ("source_events", "source_floor")
    assert weighed_by(exam_split()) == ("source_days", "source_floor", "trend_days")
    assert fit_tale(timeless, TaleSettings(), seed=0).choice.tried == 2 * 2 * 3


def test_a_trend_is_the_training_events_of_the_item_in_the_days_up_to_the_event():
    split = exam_split()
    days = split.dataset.events["timestamp"].to_numpy() / DAY
    found = trend(split, days, 30.0)
    item, training = split.dataset.event_item, split.event_part == 0
    for event in range(0, len(days), 17):
        near = training & (item == item[event]) & (days <= days[event]) & (days >= days[event] - 30)
        assert found[event] == max(near.sum(), 1)


@pytest.mark.slow
@pytest.mark.skipif(not BEAUTY.is_dir(), reason="the Beauty data is not beside this repository")
def test_beauty_reaches_what_is_aimed_at_with_the_settings_known_for_it():
    items = pl.read_parquet(BEAUTY / "items.parquet")
    events = pl.read_parquet(BEAUTY / "interactions.parquet").with_columns(pl.col("user_id").cast(pl.String))
    split = split_leave_one_out(make_dataset(items, events), SplitSettings(), seed=0)
    known = TaleSettings(l2=(100.0,), source_days=(0.5,), source_floor=(0.4,), history_decay=(0.8,))
    requests, truths = split.retrieval_requests("test")
    lists = [ranking.items for ranking in fit_tale(split, known, seed=0).recommend(requests, 10)]
    ranks = np.array(
        [row.index(truth) + 1 if truth in row else np.inf for row, truth in zip(lists, truths, strict=True)]
    )
    assert (ranks <= 10).mean() >= 0.086
    assert np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0).mean() >= 0.053
