"""Similar items and reasons: the promises of both, and what they mean for a language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from shelftalk.baselines.item_knn import fit_item_knn
from shelftalk.baselines.popularity import fit_popularity
from shelftalk.data.splitting import Split
from shelftalk.decoding.item_vectors import centred_unit_vectors, nearest, symbol_vectors
from shelftalk.decoding.language_model import LanguageModelRecommender
from shelftalk.decoding.prior import AlignedWithPrior
from shelftalk.indexing import titles
from shelftalk.indexing.item_index import IndexSettings, split_symbols
from shelftalk.log_linear import FLOOR
from shelftalk.records import Request
from shelftalk.testing.exams import ExplainerExam, FindsSimilarExam, exam_split
from shelftalk.testing.task_exams import exam_index
from tests.decoding.test_language_model import untrained
from tests.decoding.test_prior import KNN, combined


class TestSymbols(FindsSimilarExam, ExplainerExam):
    tolerance = 1e-4

    def build(self, split: Split) -> LanguageModelRecommender:
        return untrained(split, exam_index(split))


class TestTitlesOfAnEncoderDecoder(FindsSimilarExam, ExplainerExam):
    tolerance = 1e-4

    def build(self, split: Split) -> LanguageModelRecommender:
        return untrained(split, titles.build(split, IndexSettings(), seed=0), "encoder-decoder")

    def score(self, history: Sequence[str], item: str) -> float:
        model: Any = self.built  # beams miss items that a long list would hold
        (scores,) = model.log_probs([Request("", tuple(history))], [[model.row_of[item]]])
        return float(scores[0])


class TestItemKnn(FindsSimilarExam, ExplainerExam):
    def build(self, split: Split) -> Any:
        return fit_item_knn(split, KNN, seed=0)


class TestPopularity(FindsSimilarExam, ExplainerExam):
    def build(self, split: Split) -> Any:
        return fit_popularity(split)


class TestWithPrior(ExplainerExam):
    tolerance = 1e-6

    def build(self, split: Split) -> AlignedWithPrior:
        return combined(split, 0.4)

    def test_every_fall_is_that_of_the_score_without_the_entry(self) -> None:
        """The formula by hand, over the pool of the whole history."""
        model: Any = self.built
        history, item = self.case()
        whole = Request("", history)
        rankings = model.model.recommend([whole], 20) + model.prior.recommend([whole], 20)
        pool = sorted({model.model.row_of[item] for ranking in rankings for item in ranking.items})

        def score(request: Request) -> float:
            of_model = np.exp(model.model.scores([request])[0, pool])
            of_prior = model.prior.scores([request])[0, pool].astype(float)
            of_prior += FLOOR * (of_prior.max() or 1.0)
            log_probs = [np.log(weights / weights.sum()) for weights in (of_model, of_prior)]
            return float((0.6 * log_probs[0] + 0.4 * log_probs[1])[pool.index(model.model.row_of[item])])

        answer = model.why(history, item)
        assert answer.score == pytest.approx(score(whole), abs=1e-6)
        for position, one in enumerate(answer.contributions):
            without = score(Request("", history[:position] + history[position + 1 :]))
            assert one.fall == pytest.approx(answer.score - without, abs=1e-6)


def test_the_pool_of_a_reason_is_that_of_the_whole_history() -> None:
    """So its score is the one in the list of recommendations."""
    model = combined(exam_split(), 0.4)
    history = tuple(exam_split().dataset.item_ids[20:24])
    (ranking,) = model.recommend([Request("", history)], 5)
    for item, score in zip(ranking.items, ranking.scores, strict=True):
        assert model.why(history, item).score == pytest.approx(score, abs=1e-9)


def test_all_requests_of_a_reason_are_scored_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = untrained(exam_split(), exam_index(exam_split())), []
    log_probs = model.log_probs
    monkeypatch.setattr(
        model, "log_probs", lambda r, rows, *a: calls.append(len(r)) or log_probs(r, rows, *a)
    )
    model.why(exam_split().dataset.item_ids[:4], exam_split().dataset.item_ids[9])
    assert calls == [5]


def test_an_item_before_the_last_that_are_read_changes_nothing() -> None:
    """Prompts of this model show the last four."""
    model, items = untrained(exam_split(), exam_index(exam_split())), exam_split().dataset.item_ids
    falls = [one.fall for one in model.why(items[:7], items[9]).contributions]
    assert falls[:3] == pytest.approx([0, 0, 0], abs=1e-5) and min(map(abs, falls[3:])) > 1e-3


def test_vectors_of_symbols_are_means_without_the_level_that_numbers_collisions() -> None:
    model = untrained(exam_split(), exam_index(exam_split()))
    vectors = symbol_vectors(model.backbone, model.index)
    weight = model.backbone.model.get_input_embeddings().weight.detach().numpy()
    token = model.backbone.text_encoder.symbol_ids
    for row, name in list(enumerate(model.index.names))[:10]:
        symbols = split_symbols(name)
        kept = symbols[:-1] if model.index.has_last_level else symbols
        assert np.allclose(vectors[row], weight[[token[symbol] for symbol in kept]].mean(axis=0), atol=1e-6)


def test_neighbours_by_hand() -> None:
    vectors = centred_unit_vectors(np.array([[2.0, 0], [0, 2], [2, 0.1], [0, -2], [-4, -0.1]], np.float32))
    rows, cosines = nearest(vectors, 0, 2)
    assert rows[0] == 2 and cosines[0] == pytest.approx(1, abs=0.01) and cosines[1] < cosines[0]
    same = centred_unit_vectors(np.array([[1.0, 0], [1, 0], [0, 1], [1, 0]], np.float32))
    assert nearest(same, 1, 2)[0].tolist() == [0, 3]  # of equal ones the first rows
