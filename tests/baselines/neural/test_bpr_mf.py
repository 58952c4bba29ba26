"""bpr_mf: its loss by the formula, its negatives, and the vectors of known and unknown users."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from shelftalk.baselines.neural.bpr_mf import BprMf, fit_bpr_mf
from shelftalk.baselines.neural.settings import BprMfSettings
from shelftalk.data.dataset import make_dataset
from shelftalk.data.splitting import NONE, TEST, TRAIN, VALIDATION, Split
from shelftalk.testing.exams import UNKNOWN_USER, exam_split
from shelftalk.testing.worlds import START, tiny_world

SETTINGS = BprMfSettings(width=4, decay=(0.5,), epochs=3, patience=0, learning_rate=1e-2)


def arrays(network: BprMf) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return tuple(tensor.detach().numpy() for tensor in (network.users, network.items, network.bias))


def test_the_loss_is_that_of_the_formula():
    network = BprMf(exam_split(), SETTINGS, seed=0)
    torch.nn.init.normal_(network.bias, generator=torch.Generator().manual_seed(0))
    triples = torch.tensor([[0, 5, 5], [3, 4, 8], [9, 2, 3]])
    p, q, b = arrays(network)
    expected = []
    for u, i, j in triples.T.tolist():
        difference = p[u] @ q[i] + b[i] - p[u] @ q[j] - b[j]
        squares = sum(float(vector @ vector) for vector in (p[u], q[i], q[j]))
        expected.append(-np.log(1 / (1 + np.exp(-difference))) + 0.5 / 2 * squares)
    assert network.loss(*triples).item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_each_training_event_is_compared_once_an_epoch_with_an_item_that_its_user_did_not_take(
    monkeypatch: pytest.MonkeyPatch,
):
    split, seen = exam_split(), []
    network = BprMf(split, SETTINGS.model_copy(update={"batch_size": 64}), seed=0)
    monkeypatch.setattr(network, "loss", lambda *triple: seen.append(torch.stack(triple)) or network.bias[0])
    list(network.losses(1))
    users, items, wrong = torch.cat(seen, 1).numpy()
    taken = set(zip(split.training_users.tolist(), split.training_items.tolist(), strict=True))
    assert sorted(zip(users.tolist(), items.tolist(), strict=True)) == sorted(taken)
    assert not taken.intersection(zip(users.tolist(), wrong.tolist(), strict=True))


def test_a_known_user_has_an_own_vector_whatever_the_history_and_an_unknown_one_that_of_the_rule():
    split = exam_split()
    model = fit_bpr_mf(split, SETTINGS, seed=0)
    p, q, b = arrays(model.network)
    known = split.retrieval_requests("test")[0][4]
    row = split.dataset.user_ids.index(known.user)
    unknown = replace(known, user=UNKNOWN_USER)
    mean = np.mean([q[split.dataset.row_of[item]] for item in known.history], axis=0)
    vector = np.linalg.norm(p, axis=1).mean() * mean / np.linalg.norm(mean)
    empty = replace(unknown, history=(), ratings=())
    scores = model.item_scores([known, replace(known, history=(), ratings=()), unknown, empty])
    assert scores[0] == pytest.approx(q @ p[row] + b, abs=1e-5)
    assert np.array_equal(scores[0], scores[1])
    assert scores[2] == pytest.approx(q @ vector + b, abs=1e-5)
    assert scores[3] == pytest.approx(b, abs=1e-6)


def test_a_user_who_took_the_whole_catalogue_has_nothing_to_compare_with():
    world = tiny_world(users=30, items=14, events=(6, 8), ratings=False)
    everything = world.items.select("item_id").with_columns(user_id=pl.lit("all"), timestamp=pl.lit(START))
    events = pl.concat([world.events.select(everything.columns), everything.cast({"timestamp": pl.Int64})])
    data = make_dataset(world.items, events)
    event_part, ends = np.full(len(data.events), TRAIN, np.uint8), data.bounds[1:]
    ends = ends[[user != "all" for user in data.user_ids]]
    event_part[ends - 1], event_part[ends - 2] = TEST, VALIDATION
    split = Split(data, event_part, np.full(len(event_part), NONE, np.uint8), {})
    model = fit_bpr_mf(split, SETTINGS, seed=0)
    assert np.isfinite(model.item_scores(split.retrieval_requests("test")[0])).all()
