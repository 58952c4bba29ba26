"""The plain values that travel between stages: they print well, compare by value and need no model to make."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real


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
class Segment:
    """A piece of a sample's text.

    `bears_loss`: the model is trained to say it. `symbols`: the text is a run of vocabulary symbols such as
    "<a_12><b_7>", each of them one token; otherwise it is free text, in which nothing is ever read as a symbol.
    """

    text: str
    bears_loss: bool = False
    symbols: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """One training text: ordered segments, and where they came from.

    `items` are the items whose names or texts occur in it, in the order of occurrence; `user` is "" for a sample about
    items alone. The user id itself is in no segment.
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
    """Which items may come back. Every condition that is given must hold; () and None give none, except in `only`.

    `categories`: any of these labels. The labels of an item are its text of categories as a whole and what stands in it between
    ";", ">" and "|": "Beauty > Hair Care > Shampoos" has four. `brands`: any of these. Labels and brands are met whole, whatever the
    case and the space around words; one that no item has is an error where the filter is used, not an empty answer.
    `min_price`, `max_price`: bounds that are themselves allowed, on the data's own scale; an item without a price passes neither.
    `only`: item ids, for instance of what is in stock; () lets nothing pass.

    Hashable, so that one mask serves all requests of one filter. Raises ValueError for a list or a lone text where a tuple of
    texts belongs, for a price that is no number, and for prices between which there is nothing.
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
                raise ValueError(f"filter: {name} is {type(value).__name__}; give a tuple of texts")
            if (strange := next((one for one in value or () if not isinstance(one, str)), None)) is not None:
                raise ValueError(f"filter: {strange!r} in {name} is no text; give a tuple of texts")
        for name in ("min_price", "max_price"):
            price = getattr(self, name)
            if price is not None and not (isinstance(price, Real) and price == price):  # NaN differs from itself
                raise ValueError(f"filter: {name} {price!r} is no number; give a price, or None for no bound")
        if self.min_price is not None and self.max_price is not None and not self.min_price <= self.max_price:
            raise ValueError(f"filter: no price lies between min_price {self.min_price} and max_price {self.max_price}")


@dataclass(frozen=True, slots=True)
class Request:
    """What a recommender is asked: a history (item ids, oldest first) and, per task, candidates or one item to rate.

    `ratings` is either empty or as long as `history`, None where a rating is unknown. `user` identifies the request in
    the answer; a recommender may look it up, and must answer for users that it has never seen. `filter` and `excluded` bind
    retrieval alone: what comes back passes the filter and is neither in the history nor among the excluded items.

    Raises ValueError for a lone text where item ids belong, and for ratings that are not as many as the history.
    """

    user: str
    history: tuple[str, ...]
    ratings: tuple[float | None, ...] = ()
    candidates: tuple[str, ...] = ()
    item: str = ""
    filter: Filter | None = None
    excluded: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("history", "candidates", "excluded"):
            if isinstance(getattr(self, name), str):  # its characters might be items
                raise ValueError(f"request of user {self.user!r}: {name} is one text; give a tuple of item ids")
        if self.ratings and len(self.ratings) != len(self.history):
            raise ValueError(f"request of user {self.user!r}: {len(self.ratings)} ratings for {len(self.history)} items")


@dataclass(frozen=True, slots=True)
class Ranking:
    """Items, best first, with their scores (higher is better, never increasing along the list)."""

    user: str
    items: tuple[str, ...]
    scores: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.items) != len(self.scores):
            raise ValueError(f"ranking of user {self.user!r}: {len(self.items)} items but {len(self.scores)} scores")
