"""The one door: what can be evaluated or served. Popularity, kNN and the language model all go through it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from shelftalk.errors import SettingsError
from shelftalk.records import Ranking, Request


@runtime_checkable
class Recommender(Protocol):
    """Retrieval: the best `k` items of the whole catalogue for each request.

    What may come back is every catalogue item that passes the request's filter, less its history and its excluded items. Each
    ranking holds min(k, how many these are) of them, each once: a filter is applied to what is searched, not to what was found,
    so it costs no answers, and one that leaves nothing gets an empty ranking. The answer keeps the order of the requests, none for
    none; the same requests give the same answers. Raises UnknownItem for an id outside the catalogue, in whichever part of a
    request, UnknownLabel for a category or brand that no item has, and SettingsError for a `k` below 0.
    """

    name: str

    def recommend(self, requests: Sequence[Request], k: int) -> list[Ranking]: ...


def check_wanted(k: int) -> None:
    """Raises SettingsError for fewer items than none."""
    if k < 0:
        raise SettingsError(f"k={k} items cannot be recommended; ask for 0 or more.")


@runtime_checkable
class Ranker(Protocol):
    """Ranking: the request's candidates, all of them, best first; equal scores are allowed and mean "no preference".

    Candidates are chosen by whoever asks: neither history, filter nor excluded items take any of them away.
    """

    name: str

    def rank(self, requests: Sequence[Request]) -> list[Ranking]: ...


@runtime_checkable
class Rater(Protocol):
    """Rating prediction: for each request, the rating its user would give `request.item`, on the data's own scale."""

    name: str

    def rate(self, requests: Sequence[Request]) -> list[float]: ...
