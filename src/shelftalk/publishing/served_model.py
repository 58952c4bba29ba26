"""ServedModel: what `shelftalk.load` returns. One history or many requests by the same methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import polars as pl

from shelftalk.errors import BadRequest, SettingsError
from shelftalk.publishing.display import RankedItems, Reasons, titles_of
from shelftalk.recommender import Rater, tasks_of
from shelftalk.records import Filter, Ranking, Request, Text

if TYPE_CHECKING:  # torch is loaded with a language model
    from shelftalk.decoding.language_model import LanguageModelRecommender

Requests = Sequence[Request]
History = str | Sequence[str]
"""Item ids and texts (`Text`), oldest first; or a single string, which is one text."""


class ServedModel:
    """A recommender that was opened from a folder or a hub.

    Each method takes either one history and gives an answer that a notebook shows with titles, or a sequence
    of `Request` and gives a plain value for each, which is the way for many at once. A history is a sequence
    of item ids and of `Text("a film like Alien")`; a single string is one text; an empty history is that of
    somebody of whom nothing is known, and so is an empty sequence.

    `recommender` is the model inside, `items` the frame of its catalogue (item_id, title, brand, categories,
    price, description).
    """

    def __init__(self, recommender: Any, items: pl.DataFrame) -> None:
        self.recommender = recommender
        self.items = items

    def __repr__(self) -> str:
        return f"ServedModel({self.name!r}, {len(self.items):,} items, {', '.join(self.tasks)})"

    @property
    def name(self) -> str:
        """Which of a run's models answers: "aligned+prior" where the folder holds its prior, "aligned" where
        not, or the name of a student."""
        result: str = self.recommender.name
        return result

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """What it answers: "retrieval", "ranking", and "rating" where it was trained on ratings."""
        given = tasks_of(self.recommender)
        model = self._language_model
        trained = (
            given if model is None else tuple(task for task in given if task in (*model.tasks, "ranking"))
        )
        return tuple(task for task in trained if task != "rating" or self._rates)

    @property
    def language_model(self) -> LanguageModelRecommender:
        """The language model alone. Raises SettingsError where there is none, as in a student."""
        if self._language_model is None:
            raise SettingsError(
                f'"{self.name}" is no language model; open the folder of its teacher instead.'
            )
        result: LanguageModelRecommender = self._language_model
        return result

    @overload
    def recommend(self, history: Requests, k: int = 10) -> list[Ranking]: ...
    @overload
    def recommend(
        self, history: History, k: int = 10, filters: Filter | None = None, excluded: Sequence[str] = ()
    ) -> RankedItems: ...
    def recommend(
        self,
        history: Requests | History,
        k: int = 10,
        filters: Filter | None = None,
        excluded: Sequence[str] = (),
    ) -> list[Ranking] | RankedItems:
        """The k best items of the catalogue, none of the history; `filters` and `excluded` say what else may
        not come back. Of requests, which have filters of their own, a ranking each.

        Raises BadRequest, UnknownItem, UnknownLabel and SettingsError, each a sentence with the remedy.
        """
        if _are_requests(history):
            self._refuse(filters is not None or bool(excluded), "filters and excluded items")
            return list(self.recommender.recommend(history, k))
        request = Request("", self._entries(history), filter=filters, excluded=tuple(excluded))
        return self._shown(self.recommender.recommend([request], k)[0])

    @overload
    def rank(self, history: Requests) -> list[Ranking]: ...
    @overload
    def rank(self, history: History, candidates: Sequence[str]) -> RankedItems: ...
    def rank(
        self, history: Requests | History, candidates: Sequence[str] | None = None
    ) -> list[Ranking] | RankedItems:
        """The candidates, likeliest first."""
        if _are_requests(history):
            self._refuse(candidates is not None, "candidates")
            return list(self.recommender.rank(history))
        if candidates is None:
            raise BadRequest("rank needs candidates; give a sequence of item ids beside the history.")
        request = Request("", self._entries(history), candidates=tuple(candidates))
        return self._shown(self.recommender.rank([request])[0])

    @overload
    def rate(self, history: Requests) -> list[float]: ...
    @overload
    def rate(self, history: History, item: str, ratings: Sequence[float | None] = ()) -> float: ...
    def rate(
        self, history: Requests | History, item: str | None = None, ratings: Sequence[float | None] = ()
    ) -> list[float] | float:
        """The rating that would be given to `item`, on the scale of the data. `ratings`: those of the
        history, None where unknown. Raises SettingsError for a model that knows no ratings."""
        if "rating" not in self.tasks:
            raise SettingsError(
                f'"{self.name}" was not trained on ratings; ask it {" or ".join(self.tasks)}.'
            )
        if _are_requests(history):
            self._refuse(item is not None or bool(ratings), "an item and ratings")
            return list(self.recommender.rate(history))
        if item is None:
            raise BadRequest("rate needs an item; give its id beside the history.")
        request = Request("", self._entries(history), tuple(ratings), item=item)
        return float(self.recommender.rate([request])[0])

    def similar(self, item: str, k: int = 10) -> RankedItems:
        """The k items nearest to one, by what the model itself has of them (see `similar` of the model
        inside)."""
        return self._shown(self.recommender.similar(item, k), "similarity")

    def why(self, history: History, item: str) -> Reasons:
        """By how much the score of `item` falls when each entry of the history is left out; the score is a
        log-probability in nats, of a combination with a prior the weighted sum of two."""
        explanation = self.recommender.why(self._entries(history), item)
        entries = [one.entry for one in explanation.contributions]
        return Reasons(explanation, self._title_of[item], titles_of(entries, self._title_of))

    def ratings(self, requests: Requests) -> Any:
        """The language model's distribution over rating values, for each request."""
        return self.language_model.ratings(requests)

    def with_settings(self, **changes: object) -> ServedModel:
        """The same with other settings of the search, such as beams=80."""
        model = self.language_model.with_settings(**changes)
        combined = self.recommender is not self._language_model
        return ServedModel(replace(self.recommender, model=model) if combined else model, self.items)

    @property
    def _language_model(self) -> Any:
        inside = getattr(self.recommender, "model", self.recommender)
        return inside if hasattr(inside, "backbone") else None

    @property
    def _rates(self) -> bool:
        model, weights = self._language_model, getattr(self.recommender, "weights", None)
        if model is None:
            return isinstance(self.recommender, Rater)
        return "rating" in model.tasks and (weights is None or "rating" in weights)

    @cached_property
    def _title_of(self) -> dict[str, str]:
        """Item id -> title, else brand and categories."""
        names = self.items.select("item_id", "title", "brand", "categories").iter_rows()
        return {item: title or f"{brand} {kinds}".strip() for item, title, brand, kinds in names}

    def _entries(self, history: Any) -> tuple[str, ...]:
        if isinstance(history, str):
            if not isinstance(history, Text) and history in self._title_of:
                raise BadRequest(
                    f'"{history}" is an item id; give the history as a sequence: ["{history}"], or, if the '
                    "words themselves are meant, shelftalk.Text(...)."
                )
            return (Text(history),)
        return tuple(history)

    def _shown(self, ranking: Ranking, heading: str = "score") -> RankedItems:
        return RankedItems(ranking, titles_of(ranking.items, self._title_of), heading)

    def _refuse(self, given: bool, what: str) -> None:
        if given:
            raise BadRequest(f"requests have {what} of their own; give them in each Request.")


def _are_requests(given: Requests | History) -> bool:
    """Whether it is a batch: a sequence that begins with a Request."""
    return not isinstance(given, str) and len(given) > 0 and isinstance(given[0], Request)
