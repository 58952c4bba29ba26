"""The plain values that stages pass to each other: they print well, compare by value and need no model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

from shelftalk.errors import BadRequest


@dataclass(frozen=True, slots=True)
class Item:
    """One row of the catalogue. Text fields are "" and the price None where the shop gave none."""

    id: str
    title: str = ""
    brand: str = ""
    categories: str = ""
    price: float | None = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class Nouns:
    """The words of prompts for an item, several items, a user, and taking an item."""

    noun: str = "item"
    nouns: str = "items"
    person: str = "customer"
    took: str = "bought"

    def placeholders(self) -> dict[str, str]:
        """Placeholder of a template -> word."""
        return {
            "noun": self.noun,
            "nouns": self.nouns,
            "Nouns": self.nouns.capitalize(),
            "person": self.person,
            "took": self.took,
        }


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a sample's text.

    `bears_loss`: the model is trained to generate it. `symbols`: the text is a run of vocabulary symbols such
    as "<a_12><b_7>", each of them one token; otherwise it is free text, in which nothing is ever read as a
    symbol.
    """

    text: str
    bears_loss: bool = False
    symbols: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """One training text: ordered segments, and where they came from.

    `items` are the items whose names or texts occur in it, in the order of occurrence; `user` is "" for a
    sample about items alone. The user id itself is in no segment.
    """

    task: str
    template: str
    user: str
    items: tuple[str, ...]
    segments: tuple[Segment, ...]

    @property
    def text(self) -> str:
        return "".join(segment.text for segment in self.segments)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which items may come back. Every condition that is given must hold; () and None give none, except in
    `only`.

    `categories`: any of these labels. The labels of an item are its `categories` text as a whole and the
    parts of it between ";", ">" and "|": "Beauty > Hair Care > Shampoos" has four. `brands`: any of these.
    Labels and brands are compared as a whole, ignoring case and extra white space; one that no item has is an
    error where the filter is used, not an empty answer. `min_price`, `max_price`: inclusive bounds, on the
    data's own scale; an item without a price passes neither. `only`: item ids, for instance of what is in
    stock; () lets nothing pass.

    Hashable, so that one mask serves all requests of one filter. Raises BadRequest for a list or a single
    text where a tuple of texts belongs, for a price that is no number, and for prices between which there is
    nothing.
    """

    categories: tuple[str, ...] = ()
    brands: tuple[str, ...] = ()
    min_price: float | None = None
    max_price: float | None = None
    only: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("categories", "brands", "only"):
            value = getattr(self, name)
            if not isinstance(value, tuple) and not (name == "only" and value is None):
                raise BadRequest(f"filter: {name} is {type(value).__name__}; give a tuple of texts.")
            for one in value or ():
                if not isinstance(one, str):
                    raise BadRequest(f"filter: {one!r} in {name} is no text; give a tuple of texts.")
        for name in ("min_price", "max_price"):
            price = getattr(self, name)
            if price is None:
                continue
            if not isinstance(price, Real) or price != price:  # NaN differs from itself
                raise BadRequest(f"filter: {name} {price!r} is no number; give a price or None.")
        if self.min_price is not None and self.max_price is not None and not self.min_price <= self.max_price:
            raise BadRequest(
                f"filter: no price lies between min_price {self.min_price} and max_price {self.max_price}; "
                "swap or widen them."
            )


class Text(str):
    """An entry of a history in words instead of an item id, for what the catalogue does not have: Text("a
    film like Alien").

    A model that reads text is shown it as it is shown the text of an item, on one line and cut at
    `text.max_characters`; one of names alone reads the items most similar by text in its place. It is never
    taken for an item id, and equals no other text than a Text. Raises BadRequest for what holds no printable
    character.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Text:
        if not isinstance(text, str) or not any(c.isprintable() and not c.isspace() for c in text):
            raise BadRequest(f"{text!r} says nothing of an item; give some words, or leave it out.")
        return super().__new__(cls, text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Text) and str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:  # that of str would not ask __eq__
        return not self == other

    def __hash__(self) -> int:
        return hash((Text, str(self)))

    def __repr__(self) -> str:
        return f"Text({str.__repr__(self)})"


@dataclass(frozen=True, slots=True)
class Request:
    """The input of a recommender: a history (item ids or `Text`, oldest first) and, per task, candidates or
    one item to rate.

    `ratings` is either empty or as long as `history`, None where a rating is unknown; NaN, which tables have
    there, becomes None. `user` identifies the request in the answer; a recommender may look it up, and must
    answer for unknown users too. `filter` and `excluded` apply to retrieval alone: each recommended item
    passes the filter and is neither in the history nor among the excluded items. Any sequence of ids becomes
    a tuple; an id may occur more than once.

    Raises BadRequest for an id that is no text, for a single text or None where item ids belong, for ratings
    that are not as many as the history, and for a rating that is no finite number.
    """

    user: str
    history: tuple[str, ...]
    ratings: tuple[float | None, ...] = ()
    candidates: tuple[str, ...] = ()
    item: str = ""
    filter: Filter | None = None
    excluded: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("user", "item"):
            if not isinstance(one := getattr(self, name), str):
                raise self._refusal(f"{name} {one!r} is no text", f'ids are texts: give "{one}"')
        for name in ("history", "candidates", "excluded"):
            object.__setattr__(self, name, self._sequence(name, "item ids"))
            for one in getattr(self, name):
                if not isinstance(one, str):
                    raise self._refusal(f"{one!r} in {name} is no text", f'ids are texts: give "{one}"')
        ratings = self._sequence("ratings", "numbers")
        # histories may be thousands of ratings long, and most are plain numbers
        if not all(one is None or (type(one) is float and -math.inf < one < math.inf) for one in ratings):
            ratings = tuple(map(self._rating, ratings))
        object.__setattr__(self, "ratings", ratings)
        if self.ratings and len(self.ratings) != len(self.history):
            raise self._refusal(
                f"{len(self.ratings)} ratings for {len(self.history)} items",
                "give one for each item of the history, None where unknown",
            )
        if self.filter is not None and not isinstance(self.filter, Filter):
            raise self._refusal(f"filter is {type(self.filter).__name__}", "give a Filter, or None")

    def _sequence(self, name: str, holds: str) -> tuple[Any, ...]:
        value = getattr(self, name)
        if isinstance(value, str | bytes):  # a sequence too, whose characters would be taken for ids
            raise self._refusal(f"{name} is one text", f"give a tuple of {holds}")
        try:
            return tuple(value)
        except TypeError:
            raise self._refusal(f"{name} is {type(value).__name__}", f"give a tuple of {holds}") from None

    def _rating(self, value: Any) -> float | None:
        if value is None:
            return None
        if not isinstance(value, Real) or math.isinf(value):
            remedy = "give the number on the data's own scale, or None where unknown"
            raise self._refusal(f"the rating {value!r} is no finite number", remedy)
        return None if math.isnan(value) else float(value)

    def _refusal(self, what: str, remedy: str) -> BadRequest:
        return BadRequest(f"request of user {self.user!r}: {what}; {remedy}.")


@dataclass(frozen=True, slots=True)
class Ranking:
    """Items, best first, with their scores (higher is better, never increasing along the list)."""

    user: str
    items: tuple[str, ...]
    scores: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.items) != len(self.scores):
            raise ValueError(
                f"ranking of user {self.user!r}: {len(self.items)} items but {len(self.scores)} scores"
            )


@dataclass(frozen=True, slots=True)
class Contribution:
    """One entry of a history, and by how much a recommended item's score falls when it alone is left out:
    below 0 where the score rises."""

    entry: str
    fall: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an item is recommended: its score after the whole history, and what each entry of the history
    contributes, in the order of the history."""

    item: str
    score: float
    contributions: tuple[Contribution, ...]
