"""simplex: the vector of a user, what an event is predicted from, and which wrong items count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from shelftalk.baselines.neural.settings import SimpleXSettings
from shelftalk.baselines.neural.simplex import SimpleX, fit_simplex
from shelftalk.ragged import Ragged, ragged
from shelftalk.testing.exams import UNKNOWN_USER, exam_split

SETTINGS = SimpleXSettings(
    width=4, history_weight=(0.3,), margin=(0.1,), negatives=60, max_history=4, epochs=3, patience=0
)


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def test_the_loss_is_that_of_the_formula():
    network = SimpleX(exam_split(), SETTINGS, seed=0)
    torch.nn.init.normal_(network.of_history, generator=torch.Generator().manual_seed(0))
    e, v, map_ = (tensor.detach().numpy() for tensor in (network.users, network.items, network.of_history))
    users, items, wrong, histories = [2, 7], [5, 1], [9, 3, 5], [[4, 6], [8]]
    counted = np.array([[True, True, False], [True, True, True]])
    expected = []
    for row, (user, item) in enumerate(zip(users, items, strict=True)):
        vector = unit(0.7 * e[user] + 0.3 * np.mean(v[histories[row]], axis=0) @ map_)
        costs = [
            max(0.0, float(vector @ unit(v[other])) - 0.1)
            for other, counts in zip(wrong, counted[row], strict=True)
            if counts
        ]
        expected.append(1 - vector @ unit(v[item]) + SETTINGS.negative_weight * np.mean(costs))
    rows = (torch.tensor(numbers) for numbers in (users, items, wrong))
    loss = network.loss(*rows, torch.from_numpy(counted), ragged(histories))
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_an_event_is_predicted_from_the_other_items_and_compared_with_items_that_its_user_did_not_take(
    monkeypatch: pytest.MonkeyPatch,
):
    split, network = exam_split(), SimpleX(exam_split(), SETTINGS, seed=0)
    training = [
        split.dataset.event_item[first:stop].tolist() for first, stop in split.training_bounds.tolist()
    ]
    events = []

    def loss(
        users: torch.Tensor,
        items: torch.Tensor,
        wrong: torch.Tensor,
        counted: torch.Tensor,
        histories: Ragged,
    ) -> torch.Tensor:
        assert len(wrong) == SETTINGS.negatives
        for row, (user, item) in enumerate(zip(users.tolist(), items.tolist(), strict=True)):
            assert histories[row].tolist() == [other for other in training[user][-4:] if other != item]
            assert counted[row].tolist() == [other not in training[user] for other in wrong.tolist()]
            events.append((user, item))
        return network.items.sum()

    monkeypatch.setattr(network, "loss", loss)
    list(network.losses(1))
    expected = zip(split.training_users.tolist(), split.training_items.tolist(), strict=True)
    assert sorted(events) == sorted(expected)


def test_a_user_is_the_weighted_sum_of_what_is_known():
    split = exam_split()
    model = fit_simplex(split, SETTINGS, seed=0)
    e, v, map_ = (
        tensor.detach().numpy()
        for tensor in (model.network.users, model.network.items, model.network.of_history)
    )
    known = split.retrieval_requests("test")[0][4]
    own = e[split.dataset.user_ids.index(known.user)]
    recent = [split.dataset.row_of[item] for item in known.history[-4:]]
    of_history = np.mean(v[recent], axis=0) @ map_
    bare = replace(known, history=(), ratings=())
    requests = [known, replace(known, user=UNKNOWN_USER), bare]
    units = v / np.linalg.norm(v, axis=1, keepdims=True)
    vectors = [0.7 * own + 0.3 * of_history, of_history, own]
    for scores, vector in zip(model.item_scores(requests), vectors, strict=True):
        assert scores == pytest.approx(units @ unit(vector), abs=1e-5)
