"""Soft targets from a teacher's scores: by hand, by brute force, and in the loss of either family."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shelftalk.models.text_encoder import Encoded, SoftTargets
from shelftalk.ragged import ragged
from shelftalk.records import Sample, Segment
from shelftalk.tasks.samples import Tables, samples_of
from shelftalk.training.distillation import Distillation, TeacherScores, soft_targets
from shelftalk.training.packing import side_by_side
from tests.training.test_packing import nano

A, B, C = 0, 1, 2
NAMES = ragged([[5, 1], [5, 2], [7]])


def as_dicts(soft: SoftTargets) -> list[dict[int, float]]:
    """[L] token -> weight, where there is any."""
    rows = zip(soft.tokens.tolist(), soft.weights.tolist(), strict=True)
    summed: list[dict[int, float]] = []
    for tokens, weights in rows:
        summed.append({})
        for token, weight in zip(tokens, weights, strict=True):
            if weight > 0:
                summed[-1][token] = summed[-1].get(token, 0) + weight
    return summed


def test_the_example_of_the_module() -> None:
    soft = soft_targets(NAMES, np.array([A]), np.array([[B, C]]), np.array([[0.3, 0.2]], np.float32))
    first, second = as_dicts(soft)
    assert first == pytest.approx({5: 0.3, 7: 0.2})
    assert second == pytest.approx({2: 0.5})


def test_where_no_item_of_the_teacher_goes_on_as_the_target_does_the_target_is_alone() -> None:
    soft = soft_targets(NAMES, np.array([A]), np.array([[C]]), np.array([[0.5]], np.float32))
    assert as_dicts(soft) == [{7: 0.5}, {}]


@given(st.data())
def test_they_are_the_teachers_probabilities_given_the_tokens_so_far(data: st.DataObject) -> None:
    tokens = st.lists(st.integers(1, 3), min_size=1, max_size=4).map(lambda row: (*row, 9))  # 9 ends a name
    names = data.draw(st.lists(tokens, min_size=2, max_size=8, unique=True))
    target = data.draw(st.integers(0, len(names) - 1))
    number = len(names)
    drawn = data.draw(st.lists(st.integers(0, 5), min_size=number, max_size=number))
    weights = 0.4 * np.array(drawn, float) / max(sum(drawn), 1)
    row = ragged([list(name) for name in names])
    items = np.arange(len(names))[None]
    soft = as_dicts(soft_targets(row, np.array([target]), items, weights[None].astype(np.float32)))
    for depth in range(len(names[target])):
        expected: dict[int, float] = {}
        for name, weight in zip(names, weights.tolist(), strict=True):
            if len(name) > depth and name[:depth] == names[target][:depth] and weight > 0:
                expected[name[depth]] = expected.get(name[depth], 0) + weight
        left = sum(expected.values())
        scaled = {token: weights.sum() * weight / left for token, weight in expected.items()}
        assert soft[depth] == pytest.approx(scaled, rel=1e-4)


def test_a_teachers_scores_become_probabilities_by_temperature() -> None:
    scores = np.array([[4.0, 1.0], [0.0, 0.0]], np.float32)
    teacher = TeacherScores({}, {}, np.zeros(2, int), np.zeros(2, int), np.zeros((2, 2), np.int32), scores)
    assert teacher.probabilities(1).ravel().tolist() == pytest.approx([0.8, 0.2, 0, 0])
    assert teacher.probabilities(2).ravel().tolist() == pytest.approx([2 / 3, 1 / 3, 0, 0])


def taught(items: tuple[str, ...], first: int) -> Encoded:
    """The sample of user "v" over `items`, whose names bear loss from `first` on, with its soft targets.

    The teacher was asked before v took b (it expects c) and before v took c (it expects a and b alike); its
    rows are in the order of users u, v, as a split has them, and the file numbers both the other way round.
    """
    rows = {"a": A, "b": B, "c": C}
    teacher = TeacherScores(
        {"u": 0, "v": 1},
        rows,
        np.array([0, 1, 1, 1]),
        np.array([B, A, B, C]),
        np.array([[A, A], [A, A], [C, A], [A, B]], np.int32),
        np.array([[1, 0], [0, 0], [1, 0], [1, 1]], np.float32),
    )
    tables = Tables(["c", "b", "a"], ["v", "u"])
    texts = [Segment(item, number >= first) for number, item in enumerate(items)]
    samples = samples_of([Sample("retrieval", "one", "v", items, tuple(texts))], tables)
    ids = [token for item in items for token in NAMES[rows[item]].tolist()]
    loss = [number >= first for number, item in enumerate(items) for _ in NAMES[rows[item]]]
    encoded = Encoded(np.array(ids, np.int32), np.array(loss))
    return Distillation(teacher, NAMES, "retrieval", 0.5, 1.0).add(samples, [encoded])[0]


def test_each_item_that_bears_loss_gets_what_the_teacher_expected_before_it() -> None:
    soft = taught(("a", "b", "c"), 1).soft
    assert soft is not None
    assert as_dicts(soft) == [{7: 0.5}, {}, {5: 0.5}]
    whole = taught(("a", "b", "c"), 0).soft
    assert whole is not None and as_dicts(whole) == [{}, {}, {7: 0.5}, {}, {5: 0.5}]


def test_an_item_that_the_teacher_was_not_asked_about_keeps_its_own_target() -> None:
    soft = taught(("b", "a", "a"), 2).soft
    assert soft is not None and as_dicts(soft) == [{}, {}]


def test_other_names_than_those_of_the_last_items_are_refused() -> None:
    one = np.zeros(1, int)
    scores = np.zeros((1, 1), np.float32)
    teacher = TeacherScores({"v": 0}, {"a": A}, one, one, np.zeros((1, 1), np.int32), scores)
    samples = samples_of([Sample("retrieval", "one", "v", ("a",), ())], Tables(["a"], ["v"]))
    wrong = Encoded(np.array([5, 2], np.int32), np.array([True, True]))
    with pytest.raises(ValueError, match="names of the sample's last items"):
        Distillation(teacher, NAMES, "retrieval", 0.5, 1.0).add(samples, [wrong])


@pytest.mark.parametrize("family", ["decoder-only", "encoder-decoder"])
def test_the_loss_is_the_cross_entropy_to_the_soft_targets(family: str) -> None:
    backbone = nano(family)
    plain = [
        Encoded(np.array(ids, np.int32), np.arange(5) >= 3) for ids in ([9, 8, 7, 6, 5], [4, 5, 6, 7, 8])
    ]
    tokens = np.array([[11, 12], [13, 14]], np.int32)
    weights = np.array([[0.3, 0.2], [0.0, 0.0]], np.float32)
    soft = Encoded(plain[0].ids, plain[0].bears_loss, soft=SoftTargets(tokens, weights))
    own = backbone.label_log_probs(backbone.collate(plain)).detach()  # of tokens 6, 5, 7, 8
    others = [
        float(backbone.label_log_probs(backbone.collate([replaced(plain[0], token)])).detach()[0])
        for token in (11, 12)
    ]
    loss = float(backbone.loss(backbone.collate([soft, plain[1]])).detach())
    expected = -(0.5 * own[0] + 0.3 * others[0] + 0.2 * others[1] + own[1:].sum())
    assert loss == pytest.approx(float(expected), abs=1e-4)


def replaced(sample: Encoded, token: int) -> Encoded:
    """The sample with another first token that bears loss, and nothing after it."""
    ids = np.append(sample.ids[:3], token).astype(np.int32)
    return Encoded(ids, np.arange(4) >= 3)


def test_samples_with_and_without_soft_targets_share_a_row_and_lose_what_a_first_token_has() -> None:
    backbone = nano()
    loss = np.array([True, True, False, True])
    tokens, weights = np.array([[11], [12], [13]], np.int32), np.array([[0.1], [0.2], [0.3]], np.float32)
    soft = Encoded(np.array([9, 8, 7, 6], np.int32), loss, soft=SoftTargets(tokens, weights))
    plain = Encoded(np.array([5, 4], np.int32), np.array([True, True]))
    row = side_by_side([plain, soft])
    assert row.soft is not None
    assert as_dicts(row.soft) == [{}, pytest.approx({12: 0.2}), pytest.approx({13: 0.3})]
    alone = sum(float(backbone.loss(backbone.collate([one])).detach()) for one in (plain, soft))
    with torch.no_grad():
        assert float(backbone.loss(backbone.collate([row]))) == pytest.approx(alone, abs=1e-4)
