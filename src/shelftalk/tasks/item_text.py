"""How an item stands in a prompt: its name, and beside it the words that say what it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from shelftalk.data.dataset import Dataset
from shelftalk.data.plain_text import plain_text
from shelftalk.indexing.item_index import ItemIndex
from shelftalk.records import Item, Segment
from shelftalk.settings import Role, Settings


class TextSettings(Settings):
    """What is shown of an item beside its name."""

    role = Role(stages=("write",), tunable=True, changes_loss=True)
    fields: tuple[Literal["title", "brand", "categories", "price", "description"], ...] = ("title",)
    """Catalogue fields shown beside an item's name, in this order; none: names alone. Empty fields are passed
    over."""
    max_characters: int = Field(60, ge=1)
    """Budget of the text beside one name; longer texts are cut between words."""
    user_ids: bool = False
    """Whether prompts name the user, by a symbol of their own; the method advises against it, and strangers
    have none."""


class ItemText:
    """Renders items: `line` as they stand in a history, `name` as the model says them. Cached, since items
    recur."""

    def __init__(self, dataset: Dataset, index: ItemIndex, settings: TextSettings) -> None:
        self.index = index
        self.settings = settings
        self._dataset = dataset
        # the title is the name already where titles are the names: showing it twice would only cost tokens
        self._fields = tuple(
            field for field in settings.fields if not (index.includes_title and field == "title")
        )
        self._beside: dict[str, str] = {}
        self.bare = (
            self if not self._fields else ItemText(dataset, index, settings.model_copy(update={"fields": ()}))
        )
        """The same with names alone."""

    def name(self, item: str, bears_loss: bool = False) -> list[Segment]:
        """The item's name, its end included."""
        return list(self.index.segments(item, bears_loss))

    def listed(self, item: str) -> list[Segment]:
        """The name alone as it stands among others, a space behind it where neither symbols nor an end part
        them."""
        return self.name(item) if self.index.symbols or self.index.end else [*self.name(item), Segment(" ")]

    def beside(self, item: str) -> str:
        """The text beside the name, on one line; "" where the catalogue knows nothing."""
        if item not in self._beside:
            texts = (_text(self._dataset.item(item), field) for field in self._fields)
            self._beside[item] = plain_text(
                ", ".join(text for text in texts if text), self.settings.max_characters
            )
        return self._beside[item]

    def line(self, item: str, bears_loss: bool = False) -> list[Segment]:
        """One line of a history: name and text. Loss, if any, is on the name alone."""
        name, text = self.name(item, bears_loss), self._spaced(item)
        if self.index.end and not text:
            return name  # its end has closed the line
        return [*name, Segment(f"{text}\n")]

    def asked(self, item: str) -> list[Segment]:
        """A line up to where its rating stands; the name without its end, which would close the line."""
        return [*self.index.segments(item, closed=False), Segment(f"{self._spaced(item)}:")]

    def lines(self, items: Sequence[str]) -> list[Segment]:
        """A history: one line per item."""
        return [segment for item in items for segment in self.line(item)]

    def _spaced(self, item: str) -> str:
        text = self.beside(item)
        return f" {text}" if text else ""


def _text(item: Item, field: str) -> str:
    if field == "price":
        return "" if item.price is None else f"price {item.price:g}"
    return " ".join(getattr(item, field).split())
