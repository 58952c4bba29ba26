"""Related items: each task passes the exam, and its answers are what counting by hand gives."""

from __future__ import annotations

from collections import Counter, defaultdict

import polars as pl
import pytest
from scipy.sparse import csr_matrix

from shelftalk.data.dataset import make_dataset
from shelftalk.data.similarity import transition_counts
from shelftalk.data.splitting import Split, SplitSettings, split_dataset, split_leave_one_out
from shelftalk.records import Sample
from shelftalk.tasks.related_items import (
    CoOccurringItems,
    NextItems,
    NextItemsSettings,
    RelatedItemsSettings,
    SimilarItems,
    strongest_relations,
)
from shelftalk.tasks.task import Task, TaskContext
from shelftalk.testing.task_exams import (
    CountedItemTaskExam,
    ItemTaskExam,
    exam_context,
    exam_index,
    training_histories,
    world_split,
)
from shelftalk.testing.worlds import tiny_world
from tests.tasks.answers import with_a_neighbour


def followers(split: Split, within: int) -> dict[str, Counter[str]]:
    """Item -> the items after it in training histories, counted the slow way."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for items in training_histories(split).values():
        for position, item in enumerate(items):
            for steps, later in enumerate(items[position + 1 : position + 1 + within], 1):
                if later != item:
                    counts[item][later] += 1 / steps
    return counts


def companions(split: Split) -> dict[str, set[str]]:
    """Item -> the other items of the users who took it."""
    together: dict[str, set[str]] = defaultdict(set)
    for items in map(set, training_histories(split).values()):
        for item in items:
            together[item] |= items - {item}
    return together


class TestNextItems(CountedItemTaskExam):
    def build(self, context: TaskContext) -> NextItems:
        return NextItems(NextItemsSettings(), context)

    def gone_through(self, split: Split) -> set[str]:
        return {item for item, after in followers(split, 3).items() if after}


class TestCoOccurringItems(CountedItemTaskExam):
    def build(self, context: TaskContext) -> CoOccurringItems:
        return CoOccurringItems(RelatedItemsSettings(), context)

    def gone_through(self, split: Split) -> set[str]:
        return {item for item, others in companions(split).items() if others}


class TestSimilarItems(ItemTaskExam):
    def build(self, context: TaskContext) -> SimilarItems:
        return SimilarItems(RelatedItemsSettings(), context)

    def gone_through(self, split: Split) -> set[str]:
        return with_a_neighbour(split)


@pytest.mark.parametrize("within", [1, 3])
def test_what_came_next_is_counted_as_by_hand(within):
    split = world_split("tiny")
    counts, ids = transition_counts(split, within).tocoo(), split.dataset.item_ids
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    for row, column, value in zip(counts.row, counts.col, counts.data, strict=True):
        counted[ids[row]][ids[column]] += value
    expected = {item: after for item, after in followers(split, within).items() if after}
    assert counted.keys() == expected.keys()
    for item, after in expected.items():
        assert counted[item] == pytest.approx(after)


def test_the_largest_relations_come_first_and_equal_ones_in_the_order_of_the_catalogue():
    relations = strongest_relations(
        csr_matrix([[9, 1, 3, 1], [0, 0, 0, 0], [2, 0, 9, 0], [1, 1, 1, 0]], dtype=float), 2
    )
    assert relations.items.tolist() == [[2, 1], [0, 0], [0, 0], [0, 1]]
    assert relations.strength.tolist() == [[3, 1], [0, 0], [2, 0], [1, 1]]


def answer(sample: Sample) -> list[str]:
    return [segment.text for segment in sample.segments if segment.symbols and segment.bears_loss]


@pytest.mark.parametrize(
    ("task", "related"),
    [
        (NextItems, lambda split: {item: set(after) for item, after in followers(split, 3).items()}),
        (CoOccurringItems, companions),
    ],
)
def test_answers_are_distinct_related_items_and_all_are_drawn_in_time(task, related):
    split, seen = world_split("tiny"), defaultdict(set)
    index, expected = exam_index(split), related(split)
    settings = task.settings_type(weight=1, answers=3, strongest=1000)
    built: Task = task(settings, exam_context(split))
    for epoch in range(60):
        for sample in built.samples(epoch):
            item, *others = sample.items
            assert answer(sample) == [index.name(other) for other in others]
            assert len(set(others)) == len(others) == min(3, len(expected[item]))
            seen[item] |= set(others)
    assert all(others <= expected[item] for item, others in seen.items())
    few = [item for item in seen if len(expected[item]) <= 6]
    assert few and all(seen[item] == expected[item] for item in few)


def test_an_item_that_follows_three_times_as_often_is_named_first_three_times_as_often():
    items = tiny_world().items
    first, second, third, *rest = items["item_id"].to_list()[:9]
    users = [[first, second, *rest[:2]]] * 30 + [[first, third, *rest[:2]]] * 10
    events = [
        {"user_id": f"u{number}", "item_id": item, "position": position}
        for number, history in enumerate(users)
        for position, item in enumerate(history)
    ]
    split = split_leave_one_out(make_dataset(items, pl.DataFrame(events)), SplitSettings(), seed=0)
    task = NextItems(NextItemsSettings(weight=1, answers=1, within=1), exam_context(split))
    named = Counter(
        sample.items[1] for epoch in range(400) for sample in task.samples(epoch) if sample.items[0] == first
    )
    assert set(named) == {second, third} and named.total() == 400
    assert abs(named[second] / named.total() - 0.75) < 0.07  # 3.2 standard deviations


def test_data_without_an_order_has_nothing_that_comes_next():
    data = tiny_world()
    split = split_dataset(
        make_dataset(data.items, data.events.select("user_id", "item_id")), SplitSettings(), 0
    )
    assert not split.dataset.ordered
    task = NextItems(NextItemsSettings(weight=1), exam_context(split))
    assert len(task.samples(0)) == 0
    assert len(CoOccurringItems(RelatedItemsSettings(weight=1), exam_context(split)).samples(0)) > 0
