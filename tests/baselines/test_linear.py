"""What linear models share, against dense algebra: inverse, product, sums over users, and the size limit."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from shelftalk.baselines import linear
from shelftalk.baselines.ease import EaseSettings, fit_ease
from shelftalk.baselines.linear import ages, inverse, times, trained_items, user_sums
from shelftalk.baselines.slist import SlistSettings, fit_slist
from shelftalk.baselines.tale import TaleSettings, fit_tale
from shelftalk.data.dataset import make_dataset
from shelftalk.data.splitting import SplitSettings, split_leave_one_out
from shelftalk.errors import SettingsError
from shelftalk.records import Request
from shelftalk.testing.exams import exam_split
from shelftalk.testing.worlds import tiny_world


def positive(size: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(size + 3, size))
    return (rows.T @ rows).astype(np.float32)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 100))
def test_the_inverse_in_blocks_is_that_of_numpy(size: int, rows: int, seed: int):
    gram = positive(size, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "ROWS", rows)
        found = inverse(csr_matrix(gram), 2.0)
    expected = np.linalg.inv(gram.astype(np.float64) + 2 * np.eye(size))
    assert found == pytest.approx(expected, abs=1e-4)
    assert (found == found.T).all()


def test_what_cannot_be_inverted_is_refused_and_the_remedy_helps():
    gram = csr_matrix(np.diag([1.0, -3.0]))
    with pytest.raises(SettingsError, match="try a higher l2"):
        inverse(gram, 1.0)
    assert inverse(gram, 10.0) == pytest.approx(np.diag([1 / 11, 1 / 7]))


@pytest.mark.parametrize("share", [0.01, 0.5])
def test_the_product_in_place_is_the_product(monkeypatch: pytest.MonkeyPatch, share: float):
    monkeypatch.setattr(linear, "ROWS", 7)
    rng = np.random.default_rng(0)
    left = rng.normal(size=(30, 30)).astype(np.float32)
    right = csr_matrix(np.where(rng.random((30, 30)) < share, 1.5, 0).astype(np.float32))
    expected = left @ right.toarray()
    found = times(left, right)
    assert found is left and found == pytest.approx(expected, abs=1e-5)


def test_ages_count_the_events_between_a_source_and_its_target():
    assert ages(3).tolist() == [[-1, 0, 1], [-2, -1, 0], [-3, -2, -1]]


def test_sums_over_users_are_those_of_a_loop_over_cells(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(linear, "BUFFERED_CELLS", 40)  # summed in several steps
    split, events = exam_split(), 4
    items = np.flatnonzero(split.popularity)
    rng = np.random.default_rng(0)
    drawn = {
        int(stop): (
            rng.random((min(int(stop - first), events), 3)),
            rng.random((min(int(stop - first), events), 3)),
        )
        for first, stop in split.training_bounds
    }
    gram, moves = user_sums(split, items, events, lambda first, stop: drawn[stop])
    size = len(split.dataset.items)
    expected = np.zeros((2, size, size))
    for first, stop in split.training_bounds:
        rows = split.dataset.event_item[max(first, stop - events) : stop]
        if len(rows) < 2:
            continue
        for n, m in ((n, m) for n in range(len(rows)) for m in range(len(rows))):
            source, target = drawn[int(stop)]
            expected[0, rows[n], rows[m]] += source[n] @ source[m]
            expected[1, rows[n], rows[m]] += source[n] @ target[m]
    assert gram.toarray() == pytest.approx(expected[0][np.ix_(items, items)], rel=1e-5)
    assert moves.toarray() == pytest.approx(expected[1][np.ix_(items, items)], rel=1e-5)


def test_a_catalogue_above_the_limit_is_refused_and_the_remedy_helps():
    split, one = exam_split(), EaseSettings(l2=(10.0,), max_items=50)
    number = len(trained_items(split, EaseSettings(), "ease"))
    with pytest.raises(SettingsError, match=f"set baselines.ease.max_items = {number}") as refusal:
        fit_ease(split, one, seed=0)
    (remedy,) = re.findall(r"max_items = (\d+)", str(refusal.value))
    assert fit_ease(split, one.model_copy(update={"max_items": int(remedy)}), seed=0).name == "ease"


@pytest.mark.parametrize(
    ("fit", "given_settings"),
    [
        (fit_ease, EaseSettings(l2=(10.0,))),
        (fit_slist, SlistSettings(l2=(10.0,), alpha=(0.3,), history_decay=(0.7,))),
        (fit_tale, TaleSettings(l2=(10.0,), source_days=(1.0,), history_decay=(0.7,))),
    ],
)
def test_the_most_taken_items_alone_are_solved_for_and_the_others_score_0(fit, given_settings):
    split = exam_split()
    kept = np.sort(np.argsort(-split.popularity, kind="stable")[:50])
    model = fit(split, given_settings.model_copy(update={"max_items": 50, "keep_most_taken": True}), seed=0)
    assert np.array_equal(model.items, kept) and model.weights.shape == (50, 50)
    whole = np.count_nonzero(split.popularity)
    assert model.selection()[-2].startswith(f"{model.name}: the 50 most taken of {whole} items")
    left_out = np.setdiff1d(np.arange(len(split.dataset.items)), kept)
    requests = split.retrieval_requests("test")[0][:9]
    scores = model.item_scores(requests)
    assert not scores[:, left_out].any() and scores[:, kept].any()


def test_sums_of_some_items_are_cells_of_the_sums_of_all():
    split = exam_split()
    every = np.flatnonzero(split.popularity)
    some = every[::3]
    matrices = lambda first, stop: (np.ones((stop - first, 2)), np.ones((stop - first, 2)))  # noqa: E731
    at = np.searchsorted(every, some)
    for whole, part in zip(
        user_sums(split, every, 9, matrices), user_sums(split, some, 9, matrices), strict=True
    ):
        assert np.array_equal(part.toarray(), whole.toarray()[np.ix_(at, at)]) and part.nnz


def test_items_that_nobody_took_cost_no_matrix_and_score_0():
    world = tiny_world()
    unsold = pl.concat([world.items, world.items.with_columns(item_id=pl.col("item_id") + " unsold")])
    split = split_leave_one_out(make_dataset(unsold, world.events), SplitSettings(), seed=0)
    model = fit_ease(split, EaseSettings(l2=(10.0,)), seed=0)
    trained = np.flatnonzero(split.popularity)
    assert len(model.items) == len(model.weights) == len(trained) < len(split.dataset.items)
    requests = split.retrieval_requests("test")[0][:5]
    scores = model.item_scores(requests)
    assert not scores[:, split.popularity == 0].any() and scores[:, trained].any()
    assert not model.item_scores(
        [Request("u", (split.dataset.item_ids[int(np.argmin(split.popularity))],))]
    ).any()


def test_a_prior_gets_no_score_below_0():
    model = fit_ease(exam_split(), EaseSettings(l2=(10.0,)), seed=0)
    requests = exam_split().retrieval_requests("test")[0]
    assert model.item_scores(requests).min() < 0 <= model.scores(requests).min()


def test_events_beyond_the_most_recent_ones_are_not_counted_and_a_note_says_so():
    model = fit_ease(exam_split(), EaseSettings(l2=(10.0,), user_events=3), seed=0)
    assert "set baselines.ease.user_events = " in model.selection()[0]
    whole = fit_ease(exam_split(), EaseSettings(l2=(10.0,)), seed=0)
    assert len(whole.selection()) == 1 and not np.allclose(whole.weights, model.weights)
