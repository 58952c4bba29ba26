"""The protocols that every model is evaluated and served by: popularity, kNN and the language model alike."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any, Literal, Protocol, runtime_checkable

from shelftalk.errors import SettingsError, UnknownItem
from shelftalk.records import Contribution, Explanation, Ranking, Request, Text
from shelftalk.settings import Settings

TaskName = Literal["retrieval", "ranking", "rating"]
ALIGNED = "aligned"
"""The name of the language model among the models of a run."""
ALIGNED_WITH_PRIOR = "aligned+prior"
"""The language model combined with priors."""
REFIT = "@refit"
"""Ends the name of a baseline that, after it was chosen on validation, is fitted again on training and
validation: another convention, which is compared with no other."""


def is_refit(model: str) -> bool:
    """Whether the name is that of a model fitted again."""
    return model.endswith(REFIT)


def base_name(model: str) -> str:
    """The name of the model as it is chosen: "item_knn" of "item_knn@refit"."""
    return model.removesuffix(REFIT)


def convention(model: str) -> str:
    """What a model has learned from."""
    return "refit" if is_refit(model) else "train-only"


@runtime_checkable
class Recommender(Protocol):
    """Retrieval: the best `k` items of the whole catalogue for each request.

    The eligible items are the catalogue items that pass the request's filter, without its history and its
    excluded items. Each ranking holds min(k, number of eligible items) of them, each once: a filter is
    applied before the search, not to its results, so it never shortens a ranking that could be full; without
    eligible items the ranking is empty. There is one ranking per request, in their order; the same requests
    give the same rankings. Raises UnknownItem for an id outside the catalogue, in history, excluded items or
    filter, UnknownLabel for a category or brand that no item has, and SettingsError for a `k` that is no
    whole number or below 0. A user who is not in the data is answered from the history; a model that cannot,
    since it has scores for its users alone, raises BadRequest.
    """

    name: str

    def recommend(self, requests: Sequence[Request], k: int) -> list[Ranking]: ...


def check_k(k: int) -> None:
    """Raises SettingsError for a `k` that is no number of items."""
    if not isinstance(k, Integral) or isinstance(k, bool):
        raise SettingsError(f"k={k!r} is no whole number of items; give one, such as 10.")
    if k < 0:
        raise SettingsError(f"k={k} items cannot be recommended; ask for 0 or more.")


def check_items(
    requests: Sequence[Request], catalogue: Container[str], task: TaskName, reads_text: bool = False
) -> None:
    """Raises UnknownItem for an id outside the catalogue, in the fields of the requests that the task reads;
    and for a Text in a history, unless the model `reads_text`."""
    for request in requests:
        of_task = {"retrieval": request.excluded, "ranking": request.candidates, "rating": (request.item,)}
        for item in (*request.history, *of_task[task]):
            if item in catalogue or (reads_text and isinstance(item, Text)):
                continue
            if isinstance(item, Text):
                raise UnknownItem(
                    f'the request of user "{request.user}" holds the text "{item[:80]}", and this model '
                    "knows items by their ids alone; give ids, or ask the language model."
                )
            words = "leave it out of the request, or add it to the catalogue and train again"
            if reads_text:
                words = f"give words as shelftalk.Text(...), {words}"
            raise UnknownItem(
                f'item "{item}" in the request of user "{request.user}" is not in the catalogue; {words}.'
            )


def candidate_rows(
    requests: Sequence[Request], row_of: Mapping[str, int], reads_text: bool = False
) -> list[list[int]]:
    """The catalogue rows of each request's candidates. Raises UnknownItem as every ranker does."""
    check_items(requests, row_of, "ranking", reads_text)
    return [[row_of[item] for item in request.candidates] for request in requests]


@runtime_checkable
class Ranker(Protocol):
    """Ranking: the request's candidates, all of them, best first; equal scores are allowed and mean "no
    preference".

    Candidates are ranked as given: neither history, filter nor excluded items remove any of them; one that is
    given twice is ranked twice, and without any the ranking is empty. Raises UnknownItem for an
    id outside the catalogue, in history or candidates.
    """

    name: str

    def rank(self, requests: Sequence[Request]) -> list[Ranking]: ...


@runtime_checkable
class Rater(Protocol):
    """Rating prediction: for each request, the rating its user would give `request.item`, on the data's own
    scale.

    A history may have no ratings, or unknown ones. Raises UnknownItem for an id outside the
    catalogue, in history or `item`.
    """

    name: str

    def rate(self, requests: Sequence[Request]) -> list[float]: ...


@runtime_checkable
class FindsSimilar(Protocol):
    """Similar items: the `k` other items of the catalogue nearest to one of them, nearest first.

    What "near" means is the model's own and stands where the method is. The ranking's user is "". Raises
    UnknownItem for an id outside the catalogue, and SettingsError for a `k` that is no number of items.
    """

    name: str

    def similar(self, item: str, k: int) -> Ranking: ...


@runtime_checkable
class Explainer(Protocol):
    """Why: by how much the score of `item` after the history falls when each entry of the history is left
    out, from the scorer that recommends.

    Each left-out entry is a request of its own, in which older items move up where the model reads only the
    latest ones. The falls are not shares of the score and need not sum to it. Raises UnknownItem for an id
    outside the catalogue.
    """

    name: str

    def why(self, history: Sequence[str], item: str) -> Explanation: ...


@runtime_checkable
class Tuned(Protocol):
    """A model that chose something on the validation part."""

    def selection(self) -> list[str]:
        """What was chosen, a sentence each; with the number of settings that were tried where it is known."""


@runtime_checkable
class Repeatable(Protocol):
    """A model that can be fitted again, on other data too, without choosing anything."""

    def chosen_settings(self) -> Settings:
        """The settings of the fit with one value for each that was tried: a fit with them reads no validation
        part."""


def without_text(request: Request) -> Request:
    """The request with the ids of its history alone, and their ratings."""
    kept = [position for position, entry in enumerate(request.history) if not isinstance(entry, Text)]
    if len(kept) == len(request.history):
        return request
    history = tuple(request.history[position] for position in kept)
    ratings = tuple(request.ratings[position] for position in kept) if request.ratings else ()
    return replace(request, history=history, ratings=ratings)


def leave_one_out(history: Sequence[str], item: str) -> list[Request]:
    """The request of the whole history, then one without each of its entries in turn."""
    entries = Request("", tuple(history), item=item).history
    shorter = (entries[:position] + entries[position + 1 :] for position in range(len(entries)))
    return [Request("", rest, item=item) for rest in (entries, *shorter)]


def explanation(
    history: Sequence[str], item: str, scores_of: Callable[[list[Request]], Sequence[float]]
) -> Explanation:
    """Leave one out: `scores_of` gives the score of the item after each of some requests, which it is asked
    once for all of them."""
    requests = leave_one_out(history, item)
    whole, *without = scores_of(requests)
    pairs = zip(requests[0].history, without, strict=True)
    return Explanation(item, whole, tuple(Contribution(entry, whole - score) for entry, score in pairs))


def tasks_of(model: object) -> tuple[TaskName, ...]:
    """The tasks that a recommender answers."""
    protocols: dict[TaskName, type] = {"retrieval": Recommender, "ranking": Ranker, "rating": Rater}
    return tuple(task for task, protocol in protocols.items() if isinstance(model, protocol))


def answer(model: Any, task: TaskName, requests: Sequence[Request], k: int) -> list[Any]:
    """One answer per request, in their order: a Ranking (retrieval: the k best; ranking: all candidates) or a
    rating. Raises as the recommender does."""
    answers: list[Any]
    if task == "retrieval":
        answers = model.recommend(requests, k)
    else:
        answers = model.rank(requests) if task == "ranking" else model.rate(requests)
    return answers
