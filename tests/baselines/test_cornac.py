"""Real models of Cornac, where it is installed: the exams, and scores worked out without it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shelftalk import parts
from shelftalk.baselines.cornac_adapter import CornacRecommender
from shelftalk.data.splitting import TRAIN, Split
from shelftalk.errors import BadRequest
from shelftalk.records import Request
from shelftalk.testing.exams import UNKNOWN_USER, RankerExam, RaterExam, RecommenderExam, exam_split
from shelftalk.testing.worlds import tiny_world
from tests.end_to_end.tiny import call, save_world, write_experiment

pytest.importorskip("cornac", reason="Cornac is not installed: pip install shelftalk[cornac]")


def fitted(name: str, split: Split, **settings: Any) -> Any:
    declared = parts.declared(parts.MODELS, name, "model")
    return declared.load()(split, declared.settings(**settings), 0)


class _PerUser(RecommenderExam, RankerExam):
    """The exams but for what needs an answer to a user who is not in the data: that is refused."""

    def test_an_unknown_user_is_answered_from_the_history(self) -> None:
        with pytest.raises(BadRequest, match="is none of them"):
            self.built.recommend([replace(self.requests()[0], user=UNKNOWN_USER)], 10)

    def test_an_unknown_user_and_an_empty_history_are_ranked(self) -> None:
        request = replace(self.requests()[0], history=(), ratings=())
        (ranking,) = self.built.rank([request])
        assert sorted(ranking.items) == sorted(request.candidates)
        with pytest.raises(BadRequest, match="is none of them"):
            self.built.rank([replace(request, user=UNKNOWN_USER)])

    def test_an_empty_history_is_answered(self) -> None:
        (ranking,) = self.built.recommend([Request(self.requests()[0].user, ())], 10)
        assert len(set(ranking.items)) == 10

    def test_k_beyond_what_is_left_returns_what_is_left(self) -> None:
        catalogue, user = exam_split().dataset.item_ids, self.requests()[0].user
        (ranking,) = self.built.recommend([Request(user, tuple(catalogue[:-3]))], 10)
        assert sorted(ranking.items) == sorted(catalogue[-3:])


class TestEase(_PerUser):
    def build(self, split: Split) -> CornacRecommender:
        return fitted("cornac:EASE", split, lamb=50)


class TestBpr(_PerUser):
    def build(self, split: Split) -> CornacRecommender:
        return fitted("cornac:BPR", split, max_iter=5)


class TestMfOfRatings(_PerUser, RaterExam):
    def build(self, split: Split) -> CornacRecommender:
        return fitted("cornac:MF", split)

    def requests(self) -> list[Request]:
        """Requests with candidates and an item to rate, for all three exams."""
        requests, _ = exam_split().ranking_requests("test")
        return [replace(request, item=request.candidates[0]) for request in requests[:20]]

    def test_an_unknown_user_is_rated_with_and_without_ratings_shown(self) -> None:
        with pytest.raises(BadRequest, match="is none of them"):
            self.built.rate([replace(self.requests()[0], user=UNKNOWN_USER)])

    def test_nan_means_an_unknown_rating_as_none_does(self) -> None:
        """Ratings in a request are not looked at."""
        request = self.requests()[0]
        bare = replace(request, ratings=())
        assert self.built.rate([request]) == self.built.rate([bare])


class TestGru4Rec(RecommenderExam, RankerExam):
    tolerance = 1e-4

    def build(self, split: Split) -> CornacRecommender:
        return fitted("cornac:GRU4Rec", split, batch_size=16, n_epochs=2, n_sample=32)


class TestBert4Rec(RecommenderExam, RankerExam):
    tolerance = 1e-4

    def build(self, split: Split) -> CornacRecommender:
        return fitted("cornac:BERT4Rec", split, embedding_dim=16, n_epochs=2, n_sample=32)


def training_matrix(split: Split) -> np.ndarray:
    """[users, items] 1 where the user took the item in training."""
    taken = np.zeros((len(split.dataset.user_ids), len(split.dataset.items)))
    taken[split.training_users, split.training_items] = 1
    return taken


def test_ease_is_the_closed_form_of_its_paper() -> None:
    """B = I - P diag(1 / P) with P = (X'X + lambda I)^-1 (Steck, WWW 2019), among the items of training."""
    split = exam_split()
    taken = training_matrix(split)
    known = taken.any(axis=0)
    inverse = np.linalg.inv(taken[:, known].T @ taken[:, known] + 50 * np.eye(known.sum()))
    weights = np.eye(len(inverse)) - inverse / np.diag(inverse)
    expected = taken[:, known] @ weights
    model = fitted("cornac:EASE", split, lamb=50, posB=False)
    scores = model.item_scores([Request(user, ()) for user in split.dataset.user_ids])
    assert np.allclose(scores[:, known], expected, atol=1e-5)


def test_most_popular_counts_training_events_and_the_global_average_is_that_of_visible_ratings() -> None:
    split = exam_split()
    user = split.dataset.user_ids[0]
    (scores,) = fitted("cornac:MostPop", split).item_scores([Request(user, ())])
    counts = training_matrix(split).sum(axis=0)
    assert scores.tolist() == np.maximum(counts, counts[counts > 0].min()).tolist()
    ratings = split.dataset.event_rating[(split.rating_part == TRAIN)]
    request = Request(user, (), item=split.dataset.item_ids[0])
    assert fitted("cornac:GlobalAvg", split).rate([request]) == pytest.approx([ratings.mean()])


def test_a_run_evaluates_models_of_cornac_beside_ours_and_says_what_they_see(tmp_path: Path) -> None:
    models = ["popularity", "bias", "cornac:MF", "cornac:EASE", "cornac:SPop"]
    experiment = write_experiment(
        tmp_path / "tiny.toml",
        save_world(tiny_world(), tmp_path / "data"),
        models=models,
        baselines={"cornac:EASE": {"lamb": 20}},
    )
    arguments = ("run", experiment, "--out", tmp_path / "run", "--json")
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    metrics = json.loads(result.stdout)["metrics"]
    assert set(models) - {"bias"} <= set(metrics["retrieval"])
    assert metrics["rating"]["cornac:MF"]["rmse"] < 2 and "cornac:EASE" not in metrics["rating"]
    assert "has not seen the validation item" in (tmp_path / "run" / "report.md").read_text("utf-8")
    again = json.loads(call(*arguments).stdout)
    assert all(stage["skipped"] for stage in again["stages"])
