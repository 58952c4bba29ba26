"""The language model through the one door: it keeps every recommender's promises before it has
learned anything."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from shelftalk.data.splitting import Split
from shelftalk.decoding.language_model import LanguageModelRecommender
from shelftalk.decoding.settings import DecodingSettings
from shelftalk.errors import UnknownItem, UnknownPart
from shelftalk.indexing import titles
from shelftalk.indexing.item_index import IndexSettings, ItemIndex
from shelftalk.models.nano import build_nano
from shelftalk.models.settings import NanoSettings
from shelftalk.records import Request
from shelftalk.runtime.distributed import World
from shelftalk.tasks.ranking import RankingSettings, RankingTask
from shelftalk.tasks.rating import RatingSettings, RatingTask
from shelftalk.tasks.retrieval import RetrievalSettings, RetrievalTask
from shelftalk.tasks.task import ServedTask
from shelftalk.testing.exams import UNKNOWN_USER, RankerExam, RaterExam, RecommenderExam, exam_split
from shelftalk.testing.task_exams import exam_context, exam_index

SETTINGS = DecodingSettings(beams=20, batch_size=8)


def untrained(
    split: Split,
    index: ItemIndex,
    family: str = "decoder-only",
    settings: DecodingSettings = SETTINGS,
    held_out_template: bool = False,
    vocabulary: int = 320,
) -> LanguageModelRecommender:
    context = exam_context(split, index)
    tasks: dict[str, ServedTask] = {
        "retrieval": RetrievalTask(RetrievalSettings(max_history=4), context),
        "ranking": RankingTask(RankingSettings(max_history=4), context),
        "rating": RatingTask(RatingSettings(max_history=4), context),
    }
    texts = [sample.text for task in tasks.values() for sample in task.samples(0)[:20]]
    size = NanoSettings(family=family, vocabulary=vocabulary, width=32, layers=2, heads=2)
    backbone = build_nano(texts, index.vocabulary, size, seed=0)
    torch.manual_seed(1)
    with torch.no_grad():
        backbone.model.get_input_embeddings().weight.normal_(std=0.4)  # answers that differ from each other
    return LanguageModelRecommender(backbone, index, tasks, settings, held_out_template=held_out_template)


class TestDecoderOnly(RecommenderExam, RankerExam):
    tolerance = 1e-4

    def build(self, split: Split) -> LanguageModelRecommender:
        return untrained(split, exam_index(split))

    def requests(self) -> list[Request]:
        return exam_split().ranking_requests("test")[0][:12]


class TestEncoderDecoder(TestDecoderOnly):
    def build(self, split: Split) -> LanguageModelRecommender:
        return untrained(split, exam_index(split), "encoder-decoder")


class TestDecoderOnlyAsRater(RaterExam):
    tolerance = 1e-4

    def build(self, split: Split) -> LanguageModelRecommender:
        return untrained(split, exam_index(split))


class TestEncoderDecoderAsRater(TestDecoderOnlyAsRater):
    def build(self, split: Split) -> LanguageModelRecommender:
        return untrained(split, exam_index(split), "encoder-decoder")


class TestNamedByTitles(RecommenderExam):
    """Names of many lengths, of which some begin others."""

    tolerance = 1e-4

    def build(self, split: Split) -> LanguageModelRecommender:
        return untrained(split, titles.build(split, IndexSettings(), seed=0))

    def requests(self) -> list[Request]:
        return exam_split().retrieval_requests("test")[0][:12]


class TestRankingPrompt(RankerExam):
    """Candidates scored after the prompt that lists them."""

    tolerance = 1e-4

    def build(self, split: Split) -> LanguageModelRecommender:
        return untrained(split, exam_index(split), settings=replace_settings(ranking_prompt="ranking"))

    def requests(self) -> list[Request]:
        return exam_split().ranking_requests("test")[0][:8]


def replace_settings(**more: object) -> DecodingSettings:
    return SETTINGS.model_copy(update=more)


@pytest.fixture(scope="module")
def model() -> LanguageModelRecommender:
    return untrained(exam_split(), exam_index(exam_split()))


@pytest.mark.parametrize("prompt", ["retrieval", "ranking"])
def test_a_ranking_score_is_the_log_probability_of_the_name_after_the_prompt_that_is_set(
    model: LanguageModelRecommender, prompt: str
):
    request = exam_split().ranking_requests("test")[0][0]
    (ranking,) = model.with_settings(ranking_prompt=prompt).rank([request])
    for item, score in list(zip(ranking.items, ranking.scores, strict=True))[:10]:
        sample = [*model.prompt(prompt, request), *model.index.segments(item, bears_loss=True)]
        with torch.no_grad():
            loss = float(model.backbone.loss(model.backbone.collate([model.backbone.encode(sample)])))
        assert score == pytest.approx(-loss, abs=1e-4)


def rating_probabilities(model: LanguageModelRecommender, request: Request) -> np.ndarray:
    """[V] of each rating text, scaled to sum to one, token by token."""
    sample = model.backbone.encode(model.prompt("rating", request))
    likelihoods = []
    for text in model.tasks["rating"].context.rating_texts.values():
        tokens = model.backbone.tokens(text, symbols=False)
        chain = torch.arange(-1, len(tokens) - 1)[None]
        prefilled = model.backbone.prefill([sample])
        following = torch.cat(
            [prefilled.log_probs[:, None], prefilled.extend(chain, torch.tensor([tokens]))], dim=1
        )[0]
        steps = [float(following[position, token]) for position, token in enumerate(tokens)]
        likelihoods.append(math.exp(sum(steps)))
    return np.array(likelihoods) / sum(likelihoods)


def test_a_rating_is_the_expected_value_over_the_rating_texts_and_not_the_likeliest_of_them():
    model = untrained(exam_split(), exam_index(exam_split()), vocabulary=400)  # most rating texts are a token
    with torch.no_grad():
        model.backbone.model.get_input_embeddings().weight.mul_(0.2)  # no token is far likelier than another
    requests = exam_split().rating_requests("test")[0][:5]
    values = np.array(list(model.tasks["rating"].context.rating_texts))
    probabilities = np.stack([rating_probabilities(model, request) for request in requests])  # [R, V]
    means, modes = probabilities @ values, values[probabilities.argmax(axis=1)]
    assert (abs(means - modes) > 0.4).all()
    assert model.rate(requests) == pytest.approx(means.tolist(), abs=1e-4)
    variances = probabilities @ values**2 - means**2
    assert model.ratings(requests).deviations == pytest.approx(np.sqrt(variances), abs=1e-4)


def test_more_items_than_beams_can_be_asked_for(model: LanguageModelRecommender):
    (ranking,) = model.recommend([Request(UNKNOWN_USER, ())], 50)
    assert len(set(ranking.items)) == 50


def test_the_whole_catalogue_comes_back_in_the_order_of_its_exact_scores(model: LanguageModelRecommender):
    request = exam_split().retrieval_requests("test")[0][0]
    (ranking,) = model.recommend([request], len(model.index.item_ids))
    rows = [model.row_of[item] for item in ranking.items]
    assert np.allclose(model.log_probs([request], [rows])[0], ranking.scores, rtol=0, atol=1e-4)
    assert {*ranking.items, *request.history} == set(model.index.item_ids)


def test_a_wording_that_training_never_saw_can_be_asked(model: LanguageModelRecommender):
    request = exam_split().retrieval_requests("test")[0][0]
    other = model.with_template(held_out=True)
    assert other.prompt("retrieval", request) != model.prompt("retrieval", request)
    assert other.recommend([request], 5) != model.recommend([request], 5)
    assert not model.held_out_template and other.with_template(held_out=False).recommend(
        [request], 5
    ) == model.recommend([request], 5)


@pytest.mark.parametrize(
    ("method", "where"),
    [
        ("recommend", "history"),
        ("rank", "history"),
        ("rank", "candidates"),
        ("rate", "history"),
        ("rate", "item"),
    ],
)
def test_an_item_of_another_catalogue_is_refused(model: LanguageModelRecommender, method: str, where: str):
    request = Request(UNKNOWN_USER, ("i1",), candidates=("i2", "i3"), item="i4")
    request = replace(request, **{where: "i-of-another" if where == "item" else ("i-of-another",)})
    with pytest.raises(UnknownItem, match="i-of-another"):
        model.recommend([request], 3) if method == "recommend" else getattr(model, method)([request])


def test_a_task_that_the_model_does_not_serve_is_named():
    split = exam_split()
    model = untrained(split, exam_index(split))
    model.tasks = {"retrieval": model.tasks["retrieval"]}
    with pytest.raises(UnknownPart, match="not trained to serve rating; ask it retrieval"):
        model.rate([Request("u", ("i1",), item="i2")])


def test_progress_is_told_after_each_batch():
    split = exam_split()
    model, calls = untrained(split, exam_index(split)), []
    model.on_batch = lambda done, of: calls.append((done, of))
    model.recommend(split.retrieval_requests("test")[0][:20], 3)
    assert calls == [(8, 20), (16, 20), (20, 20)]


@pytest.mark.parametrize("number", [20, 25])  # an odd number of batches, and an even one
def test_of_several_processes_the_first_tells_of_all_requests(number: int):
    split = exam_split()
    model, calls = untrained(split, exam_index(split)), []
    model.on_batch, model.processes = lambda done, of: calls.append((done, of)), World(0, 2)
    assert len(list(model._batches("retrieval", split.retrieval_requests("test")[0][:number]))) == 2
    assert calls == [(16, number), (number, number)]
