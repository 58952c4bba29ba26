"""Preferences and ranking lists: whose items they hold, and that no position and no order reveals which."""

from __future__ import annotations

from collections import Counter

import pytest

from shelftalk.data.splitting import Split
from shelftalk.records import Sample
from shelftalk.tasks.pairwise_preference import PairwisePreference, PairwisePreferenceSettings
from shelftalk.tasks.ranking import RankingSettings, RankingTask
from shelftalk.testing.task_exams import (
    exam_context,
    exam_index,
    training_histories,
    world_split,
)
from tests.tasks.answers import FULL, answer


def questions(sample: Sample, split: Split) -> list[tuple[str, str, str]]:
    """(first, second, preferred) of each question."""
    index = exam_index(split)
    names = [(index.item(s.text), s.bears_loss) for s in sample.segments if s.symbols]
    ends = [position for position, (_, bears_loss) in enumerate(names) if bears_loss]
    return [(names[end - 2][0], names[end - 1][0], names[end][0]) for end in ends]


def test_the_preferred_item_is_the_users_own_and_the_other_is_not():
    split = world_split("tiny")
    taken = training_histories(split)
    task = PairwisePreference(
        PairwisePreferenceSettings(**FULL, max_history=4, questions=2), exam_context(split)
    )
    flips, held_out, total = 0, 0, 0
    for epoch in range(20):
        for sample in task.samples(epoch):
            mine = taken[sample.user]
            for first, second, preferred in questions(sample, split):
                (other,) = {first, second} - {preferred}
                assert preferred in mine and other not in mine
                shown = [item for item in sample.items if item in mine]
                assert mine.index(preferred) > mine.index(shown[0]) or len(shown) == 1
                flips += preferred == second
                total += 1
                held_out += other in set(split.dataset.events.filter(user_id=sample.user)["item_id"])
    assert flips / total == pytest.approx(0.5, abs=0.04)
    assert held_out > 0


def test_preferences_are_about_the_items_after_the_history_in_their_order():
    split = world_split("tiny")
    taken = training_histories(split)
    task = PairwisePreference(PairwisePreferenceSettings(**FULL), exam_context(split))
    for sample in task.samples(0):
        preferred = [row[2] for row in questions(sample, split)]
        shown = len(sample.items) - 2 * len(preferred)
        assert (*sample.items[:shown], *preferred) == tuple(taken[sample.user])


def test_a_samples_items_stand_in_the_order_of_their_occurrence():
    split = world_split("tiny")
    for sample in PairwisePreference(PairwisePreferenceSettings(**FULL), exam_context(split)).samples(0):
        names = [exam_index(split).item(s.text) for s in sample.segments if s.symbols and not s.bears_loss]
        assert list(sample.items) == names


def ranking_lists(split: Split, number: int, **more: int) -> list[tuple[Sample, list[str], str]]:
    """(sample, candidates, positive) over some epochs."""
    task = RankingTask(RankingSettings(**FULL, **more), exam_context(split))
    index = exam_index(split)
    lists = []
    for epoch in range(number):
        for sample in task.samples(epoch):
            ends = ("Candidates: ", "comes next? ", "best among ")
            position = next(n for n, s in enumerate(sample.segments) if s.text.endswith(ends))
            shown = [index.item(s.text) for s in sample.segments[position:] if s.symbols and not s.bears_loss]
            lists.append((sample, shown, answer(sample, split)))
    return lists


def test_a_ranking_list_holds_one_positive_among_distinct_negatives_of_a_number_in_range():
    split = world_split("tiny")
    taken = training_histories(split)
    numbers = Counter()
    for sample, shown, positive in ranking_lists(split, 4, min_negatives=2, max_negatives=30):
        assert len(set(shown)) == len(shown) and [item for item in shown if item in taken[sample.user]] == [
            positive
        ]
        assert list(sample.items[-len(shown) :]) == shown
        numbers[len(shown) - 1] += 1
    assert min(numbers) == 2 and 25 <= max(numbers) <= 30


def test_one_number_of_negatives_may_be_set():
    split = world_split("tiny")
    assert {len(shown) for _, shown, _ in ranking_lists(split, 1, min_negatives=99, max_negatives=99)} == {
        100
    }


def test_fewer_negatives_than_the_least_are_refused():
    with pytest.raises(ValueError, match="min_negatives"):
        RankingSettings(min_negatives=20, max_negatives=10)


def test_the_positive_is_at_every_position_of_a_ranking_list_equally_often():
    lists = ranking_lists(world_split("tiny"), 20, min_negatives=4, max_negatives=4)
    positions = Counter(shown.index(positive) for _, shown, positive in lists)
    assert set(positions) == set(range(5)) and max(positions.values()) < 1.2 * min(positions.values())


def test_held_out_items_may_be_candidates_of_a_training_list():
    split = world_split("tiny")
    events = {user: set(rows["item_id"]) for (user,), rows in split.dataset.events.group_by("user_id")}
    assert any(
        events[sample.user].intersection(shown) - {positive}
        for sample, shown, positive in ranking_lists(split, 5)
    )


def test_a_ranking_history_ends_before_its_target_and_targets_differ():
    split = world_split("tiny")
    taken = training_histories(split)
    targets: dict[str, list[str]] = {}
    for sample, shown, positive in ranking_lists(split, 1, samples_per_user=3):
        history = sample.items[: -len(shown)]
        assert list(history) == taken[sample.user][: taken[sample.user].index(positive)]
        targets.setdefault(sample.user, []).append(positive)
    assert all(len(set(items)) == len(items) == min(3, len(taken[user])) for user, items in targets.items())
