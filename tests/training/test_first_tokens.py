"""A budget of tokens: whole samples of one epoch after another, and none beyond the one that reaches it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from shelftalk.errors import SettingsError
from shelftalk.models.text_encoder import Encoded
from shelftalk.training.budget import Budgeted, Epoch, first_tokens

LENGTHS = [3, 5, 2]
TASKS = ["one", "other", "one"]


def sample(length: int) -> Encoded:
    return Encoded(np.zeros(length, np.int32), np.arange(length) == length - 1)


def taken(budget: int, made: list[int]) -> Budgeted:
    """The first tokens of epochs of three samples; `made` gets the length of each sample that was
    asked for."""

    def samples() -> Iterator[Encoded]:
        for length in LENGTHS:
            made.append(length)
            yield sample(length)

    return first_tokens(lambda number: Epoch(TASKS, samples()), budget)


@pytest.mark.parametrize(
    ("budget", "epochs", "by_task", "seen"),
    [
        (1, [[3]], {"one": 3}, 1 / 3),
        (3, [[3]], {"one": 3}, 1 / 3),
        (4, [[3, 5]], {"one": 3, "other": 5}, 2 / 3),
        (10, [[3, 5, 2]], {"one": 5, "other": 5}, 1),
        (21, [[3, 5, 2], [3, 5, 2], [3]], {"one": 13, "other": 10}, 2 + 1 / 3),
    ],
)
def test_samples_are_taken_until_the_budget_is_reached_and_counted(
    budget: int, epochs: list[list[int]], by_task: dict[str, int], seen: float
) -> None:
    made: list[int] = []
    first = taken(budget, made)
    assert [[len(one) for one in epoch] for epoch in first.epochs] == epochs
    assert first.tokens_by_task == by_task and first.tokens == sum(by_task.values())
    assert [len(one) for one in first.all] == made, "nothing after the cut is encoded"
    assert first.targets == len(made) and first.epochs_seen == pytest.approx(seen)


def test_an_epoch_without_samples_is_refused_and_not_looked_for_without_end() -> None:
    with pytest.raises(SettingsError, match="switch another task on"):
        first_tokens(lambda number: Epoch((), ()), 10)
