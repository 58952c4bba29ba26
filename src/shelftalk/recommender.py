"""The one door: what can be evaluated or served. Popularity, kNN and the language model all go through it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from shelftalk.records import Ranking, Request


@runtime_checkable
class Recommender(Protocol):
    """Retrieval: the best `k` items of the whole catalogue for each request.

    The answer keeps the order of the requests. Each ranking holds min(k, what is left) distinct catalogue items, none
    of them in the request's history; the same requests give the same answers.
    """

    name: str

    def recommend(self, requests: Sequence[Request], k: int) -> list[Ranking]: ...


@runtime_checkable
class Ranker(Protocol):
    """Ranking: the request's candidates, all of them, best first; equal scores are allowed and mean "no preference"."""

    name: str

    def rank(self, requests: Sequence[Request]) -> list[Ranking]: ...


@runtime_checkable
class Rater(Protocol):
    """Rating prediction: for each request, the rating its user would give `request.item`, on the data's own scale."""

    name: str

    def rate(self, requests: Sequence[Request]) -> list[float]: ...
