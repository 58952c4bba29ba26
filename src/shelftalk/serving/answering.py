"""What a service asks of a model, whichever it is, over a catalogue that changes.

A model is asked by one thread alone: it is refreshed, then it answers a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from shelftalk.data.text_space import TextSpace
from shelftalk.errors import MissingFile, SettingsError, UnknownItem
from shelftalk.recommender import explanation
from shelftalk.records import Ranking, Request
from shelftalk.serving.live_catalogue import LiveCatalogue
from shelftalk.serving.live_scores import LiveRatings, LiveScores
from shelftalk.serving.store import StoredItem

Task = Literal["recommend", "rank", "rate", "similar", "why"]
TASKS: tuple[Task, ...] = ("recommend", "rank", "rate", "similar", "why")


class NotOffered(SettingsError):
    """The model does not answer this kind of question."""


@dataclass(frozen=True)
class Asked:
    """One question of a batch. `request` holds the history and, by task, the candidates, the item to rate, or
    the item that similar ones or reasons are wanted for."""

    request: Request
    k: int = 10


class AnsweringModel:
    """A recommender and its live catalogue. `recommender` answers what it has methods for; `similar` is its
    own or that of the catalogue's owner."""

    def __init__(self, recommender: Any, rows: LiveCatalogue, version: str = "") -> None:
        self.recommender = recommender
        self.rows = rows
        self.version = version
        self.name: str = recommender.name

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What it answers."""
        ranks = hasattr(self.recommender, "rank")
        offered: dict[Task, bool] = {
            "recommend": hasattr(self.recommender, "recommend"),
            "rank": ranks,
            "rate": hasattr(self.recommender, "rate") and self._rates(),
            "similar": self._similar() is not None,
            "why": ranks,
        }
        return tuple(task for task in TASKS if offered[task])

    def refresh(self, changes: Sequence[StoredItem], now: float) -> list[str]:
        """See LiveCatalogue.refresh."""
        return self.rows.refresh(changes, now)

    def answer(self, task: Task, questions: Sequence[Asked]) -> list[Any]:
        """One answer per question, which are of one task and one k: a Ranking, a rating or an Explanation.
        Raises as recommenders do, and NotOffered."""
        if task not in self.tasks:
            raise NotOffered(
                f'the model "{self.name}" does not answer {task}; it answers {", ".join(self.tasks)}.'
            )
        requests = [asked.request for asked in questions]
        if task == "recommend":
            return list(self.recommender.recommend(requests, questions[0].k))
        if task == "rank":
            return list(self.recommender.rank(requests))
        if task == "rate":
            return list(self.recommender.rate(requests))
        for request in requests:
            if request.item not in self.rows.dataset.row_of:
                raise UnknownItem(
                    f'item "{request.item}" is not in the catalogue; add it, or correct its id.'
                )
        if task == "similar":
            similar = self._similar()
            assert similar is not None
            return [similar(asked.request.item, asked.k) for asked in questions]
        return [self._why(request) for request in requests]

    def _why(self, request: Request) -> Any:
        """Leave one out, by the scores of `rank`, which are those that lists are ordered by."""

        def scores_of(requests: list[Request]) -> list[float]:
            asked = [replace(one, candidates=(request.item,)) for one in requests]
            return [ranking.scores[0] for ranking in self.recommender.rank(asked)]

        own = getattr(self.recommender, "why", None)
        return (
            own(request.history, request.item)
            if own
            else explanation(request.history, request.item, scores_of)
        )

    def _similar(self) -> Callable[[str, int], Any] | None:
        method: Callable[[str, int], Any] | None = getattr(self.rows, "similar", None)
        return method

    def _rates(self) -> bool:
        tasks = getattr(self.recommender, "tasks", None)
        weights = getattr(self.recommender, "weights", None)
        return "rating" in tasks if tasks is not None else weights is None or "rating" in weights


class TwoStage(AnsweringModel):
    """A quick model retrieves candidates and a better one re-ranks them; what else is asked, the better one
    answers alone.

    Both have one catalogue, and both get every change of it. A history in words is read by the re-ranker
    alone.
    """

    def __init__(self, ranker: AnsweringModel, retriever: AnsweringModel, candidates: int) -> None:
        """`candidates`: how many items are retrieved for each request, at least the k that it asks for.
        Raises SettingsError for models of different catalogues, and for a ranker that does not rank."""
        super().__init__(ranker.recommender, ranker.rows, ranker.version)
        self.name = f"{retriever.name}+{ranker.name}"
        self._ranker, self._retriever, self._candidates = ranker, retriever, candidates
        if candidates < 1:
            raise SettingsError(f"{candidates} candidates cannot be re-ranked; give --candidates 100 or so.")
        if ranker.rows.dataset.item_ids != retriever.rows.dataset.item_ids:
            raise SettingsError(
                f'the retriever "{retriever.name}" and the model "{ranker.name}" have different catalogues; '
                "name a student that was taught by this model."
            )
        if "rank" not in ranker.tasks:
            raise SettingsError(f'the model "{ranker.name}" cannot re-rank; leave --retriever out.')

    def refresh(self, changes: Sequence[StoredItem], now: float) -> list[str]:
        """See LiveCatalogue.refresh; what either refuses is told."""
        refused = [*self._ranker.refresh(changes, now), *self._retriever.refresh(changes, now)]
        return list(dict.fromkeys(refused))

    def answer(self, task: Task, questions: Sequence[Asked]) -> list[Any]:
        if task != "recommend":
            return self._ranker.answer(task, questions)
        k = questions[0].k
        wider = [replace(asked, k=max(k, self._candidates)) for asked in questions]
        retrieved = self._retriever.answer("recommend", wider)
        known = self._ranker.rows.dataset.row_of  # what the ranker refused has no row
        requests = [
            replace(asked.request, candidates=tuple(item for item in ranking.items if item in known))
            for asked, ranking in zip(questions, retrieved, strict=True)
        ]
        some = [Asked(request, k) for request in requests if request.candidates]
        ranked = iter(self._ranker.answer("rank", some) if some else ())
        # where everything is excluded or hidden, nothing was retrieved
        lists = [
            next(ranked) if request.candidates else Ranking(request.user, (), ()) for request in requests
        ]
        return [replace(one, items=one.items[:k], scores=one.scores[:k]) for one in lists]


class LiveScorer(LiveCatalogue):
    """The live catalogue of a model that is no language model."""


def answering(recommender: Any, items: Any, settings: Any = None, seed: int = 0) -> AnsweringModel:
    """Any recommender over a catalogue that changes from now on: the language model, alone or with a prior,
    and every model that scores its whole catalogue. `items`: the frame of its catalogue; `settings` and
    `seed`: those of its index. Raises SettingsError for a model that can be none of them."""
    from shelftalk.decoding.language_model import LanguageModelRecommender
    from shelftalk.decoding.prior import AlignedWithPrior
    from shelftalk.serving.live_model import LiveLanguageModel

    if isinstance(recommender, LanguageModelRecommender):
        live = LiveLanguageModel(recommender, settings, seed)
        return AnsweringModel(live.model, live)
    if isinstance(recommender, AlignedWithPrior):
        live = LiveLanguageModel(recommender.model, settings, seed)
        prior, rating_prior = LiveScores(recommender.prior, live, live.new_names.texts), None
        weights = dict(recommender.weights)
        if recommender.rating_prior is not None:
            rating_prior = LiveRatings(recommender.rating_prior, live, live.new_names.texts)
        else:
            weights.pop("rating", None)
        combined = replace(
            recommender, model=live.model, prior=prior, rating_prior=rating_prior, weights=weights
        )
        return AnsweringModel(combined, live)
    if hasattr(recommender, "scores"):
        rows = LiveScorer(items)
        return AnsweringModel(LiveScores(recommender, rows, TextSpace(items)), rows)
    raise SettingsError(
        f'the model "{getattr(recommender, "name", "")}" does not score every item, so it cannot be served '
        'over a catalogue that changes; name another model, such as "aligned" or "item_knn".'
    )


def open_answering(path: Path, model: str | None = None) -> AnsweringModel:
    """The model of a published folder, a student's or one of a hub, or of a run folder by its name there
    ("aligned" by default).

    Raises MissingFile where the path is neither, and as opening does.
    """
    from shelftalk.publishing.contents import FACTS, is_published
    from shelftalk.publishing.loading import folder_of
    from shelftalk.runtime.run_folder import RunFolder

    path = folder_of(path)
    if is_published(path):
        return _opened_folder(path, model)
    if RunFolder(path).experiment.exists():
        return _opened_run(path, model)
    raise MissingFile(
        f'"{path}" is neither a published model (no {FACTS}) nor a run; name a folder that '
        "`shelftalk publish` or `shelftalk run` made."
    )


def _opened_folder(path: Path, model: str | None) -> AnsweringModel:
    from shelftalk.experiment import read_toml, validated
    from shelftalk.indexing.item_index import IndexSettings
    from shelftalk.publishing.contents import EXPERIMENT, is_student, read_facts, read_student_facts
    from shelftalk.publishing.opening import open_published

    recommender, items = open_published(path)
    if model is not None and model != recommender.name:
        raise SettingsError(
            f'"{path}" holds the model "{recommender.name}", not "{model}"; leave --model out, or name the '
            "run."
        )
    if is_student(path):
        result = answering(recommender, items)
        result.version = read_student_facts(path).split[:12]
        return result
    text = read_toml(path / EXPERIMENT, "experiment")
    settings = validated(IndexSettings, text.get("index", {}), "index", EXPERIMENT)
    result = answering(recommender, items, settings, int(text.get("seed", 0)))
    result.version = read_facts(path).split[:12]
    return result


def _opened_run(path: Path, model: str | None) -> AnsweringModel:
    from shelftalk.pipeline.run import open_run
    from shelftalk.recommender import ALIGNED

    run = open_run(path)
    result = answering(
        run.model(model or ALIGNED), run.split.dataset.items, run.experiment.index, run.experiment.seed
    )
    result.version = run.split.fingerprint()[:12]
    return result
