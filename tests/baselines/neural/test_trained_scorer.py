"""What holds of every trained baseline: what it may see, what it repeats, and what it says it chose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from shelftalk.baselines.neural import trained_scorer
from shelftalk.baselines.neural.bpr_mf import fit_bpr_mf
from shelftalk.baselines.neural.sasrec import fit_sasrec, fit_sasrec_sampled
from shelftalk.baselines.neural.settings import (
    BprMfSettings,
    FittingSettings,
    SampledSasRecSettings,
    SasRecSettings,
    SimpleXSettings,
)
from shelftalk.baselines.neural.simplex import fit_simplex
from shelftalk.baselines.neural.trained_scorer import TrainedScorer, mean_vectors
from shelftalk.baselines.popularity import fit_popularity
from shelftalk.data.dataset import make_dataset
from shelftalk.data.splitting import TEST, TRAIN, VALIDATION, Split, SplitSettings, split_leave_one_out
from shelftalk.errors import NothingLeft
from shelftalk.ragged import ragged
from shelftalk.records import Request
from shelftalk.testing.exams import RankerExam, RecommenderExam, exam_split
from shelftalk.testing.worlds import replace_held_out

Fit = Callable[[Split, Any, int], TrainedScorer]


@dataclass(frozen=True)
class Case:
    """A model with settings under which it is trained in a second."""

    fit: Fit
    settings: FittingSettings

    def fitted(self, split: Split, seed: int = 0, **changed: Any) -> TrainedScorer:
        return self.fit(split, self.settings.model_copy(update=changed), seed)


SASREC = Case(fit_sasrec, SasRecSettings(width=(16,), batch_size=16, learning_rate=5e-3, epochs=6))
SAMPLED = Case(
    fit_sasrec_sampled,
    SampledSasRecSettings(width=(16,), batch_size=16, learning_rate=5e-3, epochs=6, negatives=20),
)
BPR_MF = Case(fit_bpr_mf, BprMfSettings(width=8, decay=(1e-3,), learning_rate=1e-2, batch_size=64, epochs=6))
SIMPLEX = Case(
    fit_simplex,
    SimpleXSettings(width=8, margin=(0.4,), negatives=50, learning_rate=1e-2, batch_size=64, epochs=6),
)
CASES = [SASREC, SAMPLED, BPR_MF, SIMPLEX]
every_model = pytest.mark.parametrize("case", CASES, ids=["sasrec", "sasrec_sampled", "bpr_mf", "simplex"])


class _Exam(RecommenderExam, RankerExam):
    """Retrieval and ranking, without a choice. A score differs by rounding with the batch around it."""

    tolerance = 1e-5
    case: Case

    def build(self, split: Split) -> TrainedScorer:
        return self.case.fitted(split, epochs=3, patience=0)

    def requests(self) -> list[Request]:
        return exam_split().ranking_requests("test")[0][:20]


class TestSasRec(_Exam):
    case = SASREC


class TestSasRecSampled(_Exam):
    case = SAMPLED


class TestBprMf(_Exam):
    case = BPR_MF


class TestSimpleX(_Exam):
    case = SIMPLEX


del _Exam


def with_other_items(part: int) -> Split:
    """The exam's split with other items in one of the held-out parts."""
    split, other = exam_split(), replace_held_out(exam_split(), seed=9)
    events = split.dataset.events.with_columns(
        item_id=pl.when(pl.Series(split.event_part == part))
        .then(other.dataset.events["item_id"])
        .otherwise(pl.col("item_id"))
    )
    return split_leave_one_out(make_dataset(split.dataset.items, events), SplitSettings(), seed=0)


def weights(model: TrainedScorer) -> dict[str, torch.Tensor]:
    return model.network.state_dict()


def same_weights(one: TrainedScorer, other: TrainedScorer) -> bool:
    return all(torch.equal(weights(one)[name], weights(other)[name]) for name in weights(one))


@every_model
def test_other_test_items_change_no_bit_of_the_weights(case: Case):
    fitted, other = case.fitted(exam_split()), case.fitted(with_other_items(TEST))
    assert same_weights(fitted, other) and fitted.trainings == other.trainings


@every_model
def test_validation_items_decide_when_training_ends(case: Case):
    fitted, other = case.fitted(exam_split()), case.fitted(with_other_items(VALIDATION))
    assert fitted.trainings != other.trainings


@every_model
def test_validation_items_do_not_reach_the_weights_of_a_fixed_number_of_epochs(case: Case):
    fixed = {"patience": 0, "epochs": 3}
    assert same_weights(
        case.fitted(exam_split(), **fixed), case.fitted(with_other_items(VALIDATION), **fixed)
    )


@every_model
def test_the_same_seed_gives_the_same_weights_another_one_others_and_torchs_own_is_left_alone(case: Case):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    fitted = case.fitted(exam_split(), epochs=2)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert same_weights(fitted, case.fitted(exam_split(), epochs=2))
    assert not same_weights(fitted, case.fitted(exam_split(), seed=1, epochs=2))


@every_model
def test_the_chosen_settings_repeat_the_fit_without_a_look_at_validation(
    case: Case, monkeypatch: pytest.MonkeyPatch
):
    fitted = case.fitted(exam_split(), patience=2, epochs=30)
    settings = fitted.chosen_settings()
    assert type(settings) is type(case.settings)
    assert all(len(value) == 1 for _, value in settings if isinstance(value, tuple))
    assert (settings.patience, settings.epochs) == (0, fitted.trainings.best.epoch)

    def no_validation(*_: Any) -> float:
        raise AssertionError("validation was measured")

    monkeypatch.setattr(trained_scorer, "mean_ndcg", no_validation)
    assert same_weights(fitted, case.fit(exam_split(), settings, 0))


@every_model
def test_the_chosen_settings_fit_a_split_whose_validation_part_is_training(case: Case):
    split = exam_split()
    part = np.where(split.event_part == VALIDATION, TRAIN, split.event_part).astype(np.uint8)
    refitted = case.fit(
        Split(split.dataset, part, split.rating_part, split.candidates),
        case.fitted(split, epochs=2).chosen_settings(),
        0,
    )
    requests, _ = split.retrieval_requests("test")
    assert np.isfinite(refitted.item_scores(requests)).all() and refitted.trainings.best.ndcg is None


@every_model
def test_it_learns_what_the_world_repeats(case: Case):
    """Items of the tiny world follow one another; popularity knows nothing of it."""
    split = exam_split()
    requests, truths = split.retrieval_requests("test")

    def recall(model: Any) -> float:
        lists = [ranking.items for ranking in model.recommend(requests, 20)]
        return float(np.mean([truth in items for truth, items in zip(truths, lists, strict=True)]))

    fitted = case.fitted(split, epochs=60, patience=0, learning_rate=1e-2)
    assert recall(fitted) > recall(fit_popularity(split)) + 0.1


@every_model
def test_what_was_chosen_and_tried_is_said(case: Case):
    name = next(name for name, value in case.settings if isinstance(value, tuple))
    values = (16, 8) if name == "width" else (0.25, 0.5)
    fitted = case.fitted(exam_split(), **{name: values}, epochs=2, patience=1)
    best, tried = fitted.trainings.best, fitted.trainings.tried
    assert [getattr(fit.settings, name) for fit in tried] == [(value,) for value in values]
    assert best.ndcg == max(fit.ndcg for fit in tried if fit.ndcg is not None)
    (sentence,) = fitted.selection()
    epochs = sum(fit.trained for fit in tried)
    assert sentence.startswith(f"{fitted.name}: {name} {getattr(best.settings, name)[0]:g}, ")
    assert sentence.endswith(
        f"epoch {best.epoch} (validation ndcg@10 {best.ndcg:.4f}; 2 trainings, {epochs} epochs in all)."
    )
    assert fitted.describe()["fits"] == 2 and fitted.describe()["epochs"] == epochs
    assert fitted.describe()[name] == getattr(best.settings, name)[0]


@every_model
def test_scores_for_a_prior_are_none_below_0_and_in_the_order_of_the_answers(case: Case):
    fitted = case.fitted(exam_split(), epochs=2)
    requests = exam_split().retrieval_requests("test")[0][:9]
    scores, logits = fitted.scores(requests), fitted.item_scores(requests)
    assert scores.shape == logits.shape and (scores >= 0).all()
    if case is SIMPLEX:
        assert np.array_equal(scores, np.maximum(logits, 0))
    else:
        assert scores.sum(1) == pytest.approx(np.ones(9), abs=1e-5)
        expected = np.exp(logits - logits.max(1, keepdims=True))
        assert scores == pytest.approx(expected / expected.sum(1, keepdims=True), abs=1e-6)


@pytest.mark.parametrize("case", [SASREC, SAMPLED, SIMPLEX], ids=["sasrec", "sasrec_sampled", "simplex"])
def test_an_unknown_user_without_a_history_gets_the_popular_items(case: Case):
    requests = [Request("nobody", ()), *exam_split().retrieval_requests("test")[0][:1]]
    popular, _ = fit_popularity(exam_split()).recommend(requests, 20)
    nothing, known = case.fitted(exam_split(), epochs=2).recommend(requests, 20)
    assert nothing.items == popular.items and set(nothing.scores) == {0.0}
    assert set(known.scores) != {0.0}


def test_a_training_part_without_events_is_refused_in_a_sentence():
    split = exam_split()
    nothing = Split(
        split.dataset, np.full_like(split.event_part, VALIDATION), split.rating_part, split.candidates
    )
    for case in CASES:
        with pytest.raises(NothingLeft, match="nothing to train on"):
            case.fitted(nothing)


def test_the_mean_of_a_history_is_that_of_its_items_and_0_without_any():
    vectors = torch.tensor([[1.0, 2.0], [3.0, 0.0], [5.0, 7.0]])
    means = mean_vectors(vectors, ragged([[0, 1], [], [2, 2, 0]]))
    assert means.tolist() == [[2.0, 1.0], [0.0, 0.0], pytest.approx([11 / 3, 16 / 3])]
