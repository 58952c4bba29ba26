"""What callers send and get: every field with its limits, which the OpenAPI document states too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from shelftalk.records import Filter, Item, Text
from shelftalk.serving.service import Wanted
from shelftalk.serving.store import Event, StoredItem

NO_NUL = r"^[^\x00]*$"
"""PostgreSQL keeps no NUL character."""
Id = Annotated[str, Field(min_length=1, max_length=512, pattern=NO_NUL)]
Line = Annotated[str, Field(max_length=2000, pattern=NO_NUL)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Message(BaseModel):
    """Closed to unknown keys, so that a misspelt one is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Words(Message):
    """An entry of a history in words, for what the catalogue does not have."""

    text: Annotated[str, Field(min_length=1, max_length=2000, pattern=NO_NUL)]
    """What it is, such as "a film like Alien"."""


class FilterMessage(Message):
    """Which items may come back; every condition that is given must hold."""

    categories: tuple[Line, ...] = Field((), max_length=100)
    """Any of these labels."""
    brands: tuple[Line, ...] = Field((), max_length=100)
    """Any of these."""
    min_price: Finite | None = None
    """The lowest price."""
    max_price: Finite | None = None
    """The highest price."""
    only: tuple[Id, ...] | None = Field(None, max_length=10_000)
    """Item ids; nothing else comes back."""


class Question(Message):
    """Whom a question is about: a history, or the key of a user whose events are the history, or both."""

    history: tuple[Id | Words, ...] | None = Field(None, max_length=100_000)
    """Item ids or words, oldest first. Without one, the events of `user`."""
    user: Id | None = None
    """The key of a user: what they have taken is not recommended."""
    model: Annotated[str, Field(max_length=100)] | None = None
    """Which of the models answers; by default the first."""

    def wanted(self, **more: Any) -> Wanted:
        """As the service takes it."""
        entries = self.history
        history = (
            None
            if entries is None
            else tuple(Text(entry.text) if isinstance(entry, Words) else entry for entry in entries)
        )
        return Wanted(history, self.user, model=self.model, **more)


class RecommendQuestion(Question):
    """Which items come next?"""

    k: int = Field(10, ge=1, le=1000)
    """How many items."""
    filter: FilterMessage | None = None
    """Which items may come back."""
    excluded: tuple[Id, ...] = Field((), max_length=10_000)
    """Items that may not."""


class RankQuestion(Question):
    """In which order are these candidates taken?"""

    candidates: tuple[Id, ...] = Field(min_length=1, max_length=10_000)
    """Item ids."""


class RateQuestion(Question):
    """Which rating would this item get?"""

    item: Id
    """The item."""
    ratings: tuple[Finite | None, ...] = Field((), max_length=100_000)
    """The rating of each entry of the history, null where unknown."""


class WhyQuestion(Question):
    """Which entries of the history raise the score of this item?"""

    item: Id
    """The item."""


class SimilarQuestion(Message):
    """Which items are like this one?"""

    item: Id
    """The item."""
    k: int = Field(10, ge=1, le=1000)
    """How many items."""
    model: Annotated[str, Field(max_length=100)] | None = None
    """Which of the models answers; by default the first."""


class Scored(Message):
    """An item of a list."""

    item: str
    """Its id."""
    title: str
    """Its title."""
    score: float
    """The model's own; higher is better."""


class ListAnswer(Message):
    """Items, best first."""

    model: str
    """The model that answered."""
    items: tuple[Scored, ...]
    """Best first."""


class RateAnswer(Message):
    """A rating on the scale of the data."""

    model: str
    """The model that answered."""
    item: str
    """The item."""
    rating: float
    """The expected rating."""


class Reason(Message):
    """What one entry of the history does."""

    entry: str
    """The item id, or the words."""
    title: str
    """The item's title."""
    fall: float
    """By how much the score falls when this entry is left out; below 0 where it rises."""


class WhyAnswer(Message):
    """Leave one out: the score of an item, and what each entry of the history adds to it."""

    model: str
    """The model that answered."""
    item: str
    """The item."""
    score: float
    """Its score after the whole history."""
    reasons: tuple[Reason, ...]
    """In the order of the history."""


class ItemTexts(Message):
    """An item without its id."""

    title: Line = ""
    """Its title."""
    brand: Line = ""
    """Its brand."""
    categories: Line = ""
    """Its categories."""
    price: Annotated[float, Field(allow_inf_nan=False, ge=-1e12, le=1e12)] | None = None
    """Its price."""
    description: Annotated[str, Field(max_length=20_000, pattern=NO_NUL)] = ""
    """Its description."""
    hidden: bool = False
    """Whether it is kept from being recommended."""
    expires_in: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] | None = None
    """Seconds from now after which it is not recommended any more; null for never."""

    def stored(self, item_id: str, now: float) -> StoredItem:
        """As the store keeps it."""
        item = Item(item_id, self.title, self.brand, self.categories, self.price, self.description)
        return StoredItem(item, self.hidden, None if self.expires_in is None else now + self.expires_in)


class NewItem(ItemTexts):
    """An item."""

    id: Id
    """Its id."""


class ItemsMessage(Message):
    """Items to add or change, all or none."""

    items: tuple[NewItem, ...] = Field(min_length=1, max_length=1000)
    """The items."""


class ItemChange(Message):
    """What of an item changes; what is not given stays."""

    title: Line | None = None
    """Its title."""
    brand: Line | None = None
    """Its brand."""
    categories: Line | None = None
    """Its categories."""
    price: Annotated[float, Field(allow_inf_nan=False, ge=-1e12, le=1e12)] | None = None
    """Its price; null takes it away."""
    description: Annotated[str, Field(max_length=20_000, pattern=NO_NUL)] | None = None
    """Its description."""
    hidden: bool | None = None
    """Whether it is kept from being recommended."""
    expires_in: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] | None = None
    """Seconds from now after which it is not recommended any more; null for never."""


class ItemAnswer(Message):
    """An item of the catalogue."""

    id: str
    """Its id."""
    title: str
    """Its title."""
    brand: str
    """Its brand."""
    categories: str
    """Its categories."""
    price: float | None
    """Its price."""
    description: str
    """Its description."""
    hidden: bool
    """Whether it is hidden."""
    expires_at: float | None
    """When it expires, in Unix seconds; null for never."""


class ItemsAnswer(Message):
    """Some items of the catalogue."""

    total: int
    """How many there are."""
    items: tuple[ItemAnswer, ...]
    """Those from the offset on."""


class EventMessage(Message):
    """A user takes an item."""

    user: Id
    """Your key of the user."""
    key: Id
    """Your key of the event: sent again, it changes nothing."""
    item: Id
    """The item."""
    time: Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)] | None = None
    """When, in Unix seconds; now where it is not given."""
    rating: Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)] | None = None
    """The rating that was given."""

    def event(self) -> Event:
        """As the store keeps it."""
        return Event(self.user, self.key, self.item, self.time, self.rating)


class EventsMessage(Message):
    """Events to append, all or none."""

    events: tuple[EventMessage, ...] = Field(min_length=1, max_length=1000)
    """The events."""


class EventsAnswer(Message):
    """What became of events."""

    new: int
    """How many were not there before."""


class UserEvent(Message):
    """An event of a user."""

    key: str
    """Its key."""
    item: str
    """The item."""
    time: float
    """When, in Unix seconds."""
    rating: float | None
    """The rating, null where there is none."""


class UserAnswer(Message):
    """Everything that is kept of a user."""

    user: str
    """The key."""
    events: tuple[UserEvent, ...]
    """Oldest first."""


class DeletedAnswer(Message):
    """What was deleted."""

    deleted: int
    """How many events."""


class ModelAnswer(Message):
    """A model of the service."""

    model: str
    """The name to ask it by."""
    kind: str
    """Its name where it was trained."""
    version: str
    """The beginning of the hash of the split that it was trained on."""
    tasks: tuple[str, ...]
    """What it answers."""


class ModelsAnswer(Message):
    """The models of the service, the default one first."""

    models: tuple[ModelAnswer, ...]
    """The models."""


class ReloadMessage(Message):
    """Which model to open again."""

    model: Annotated[str, Field(max_length=100)] | None = None
    """By default the first."""


class StateAnswer(Message):
    """Whether the process works."""

    state: str
    """"ok", or what it waits for."""


class ErrorText(Message):
    """What is wrong."""

    code: str
    """A word for programs."""
    message: str
    """A sentence with the remedy."""
    request_id: str
    """Stands in the log as well."""


class ErrorAnswer(Message):
    """The body of every error."""

    error: ErrorText
    """What is wrong."""


def item_answer(stored: StoredItem) -> ItemAnswer:
    """An item as callers get it."""
    item = stored.item
    return ItemAnswer(
        id=item.id,
        title=item.title,
        brand=item.brand,
        categories=item.categories,
        price=item.price,
        description=item.description,
        hidden=stored.hidden,
        expires_at=stored.expires_at,
    )


def user_events(events: Sequence[Event]) -> tuple[UserEvent, ...]:
    """Events as callers get them."""
    return tuple(
        UserEvent(key=event.key, item=event.item, time=event.time or 0.0, rating=event.rating)
        for event in events
    )


def filter_of(message: FilterMessage | None) -> Filter | None:
    """As recommenders take it. Raises BadRequest."""
    return None if message is None else Filter(**message.model_dump())
