"""How an item is rendered in a prompt: its name, and beside it a text from the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from shelftalk.data.dataset import Dataset
from shelftalk.data.plain_text import plain_text
from shelftalk.indexing.item_index import ItemIndex
from shelftalk.records import Item, Segment
from shelftalk.settings import Role, Settings
from shelftalk.tasks.samples import text_codes


class TextSettings(Settings):
    """What is shown of an item beside its name."""

    role = Role(stages=("write",), tunable=True, changes_loss=True)
    fields: tuple[Literal["title", "brand", "categories", "price", "description"], ...] = ("title",)
    """Catalogue fields shown beside an item's name, in order; none: names alone. Empty fields are skipped."""
    max_characters: int = Field(60, ge=1)
    """Budget of the text beside one name; longer texts are cut between words."""
    user_ids: bool = False
    """Whether prompts name the user, by a symbol of their own; the method advises against it, and unknown
    users have none."""


class ItemText:
    """Renders items: `line` as in a history, `name` as the model generates them. Texts are cached."""

    def __init__(self, dataset: Dataset, index: ItemIndex, settings: TextSettings) -> None:
        self.index = index
        self.settings = settings
        self._dataset = dataset
        # where titles are the names, showing the title again would only cost tokens
        self._fields = tuple(
            field for field in settings.fields if not (index.includes_title and field == "title")
        )
        self._details: dict[str, str] = {}
        names_only = settings.model_copy(update={"fields": ()})
        self.names_only = ItemText(dataset, index, names_only) if self._fields else self
        """The same with names alone."""

    def name(self, item: str, bears_loss: bool = False) -> list[Segment]:
        """The item's name, its end included."""
        return list(self.index.segments(item, bears_loss))

    def candidate(self, item: str) -> list[Segment]:
        """The name as one of several candidates, followed by a space where neither symbols nor an end
        separate names."""
        return self.name(item) if self.index.symbols or self.index.end else [*self.name(item), Segment(" ")]

    def details(self, item: str) -> str:
        """The text beside the name, on one line; "" where the catalogue has none."""
        if item not in self._details:
            texts = (_text(self._dataset.item(item), field) for field in self._fields)
            self._details[item] = plain_text(
                ", ".join(text for text in texts if text), self.settings.max_characters
            )
        return self._details[item]

    def line(self, item: str, bears_loss: bool = False) -> list[Segment]:
        """One line of a history: name and text. Loss, if any, is on the name alone."""
        name, text = self.name(item, bears_loss), self._spaced(item)
        if self.index.end and not text:
            return name  # its end is the line break
        return [*name, Segment(f"{text}\n")]

    def before_rating(self, item: str) -> list[Segment]:
        """A line up to its rating; the name is without its end, which would be a line break."""
        return [*self.index.segments(item, closed=False), Segment(f"{self._spaced(item)}:")]

    def lines(self, items: Sequence[str]) -> list[Segment]:
        """A history: one line per item."""
        return [segment for item in items for segment in self.line(item)]

    def text_pieces(self, texts: Sequence[str]) -> tuple[list[Segment], dict[str, list[list[int]]]]:
        """Texts in place of items, as an item is shown whose text these words are: their pieces for
        `Tables.with_texts`, and by form ("line", "before_rating") the codes of each text."""
        end = [Segment(self.index.end)] if self.index.end else []
        pieces: list[Segment] = []
        codes: dict[str, list[list[int]]] = {"line": [], "before_rating": []}
        for shown in map(self._shown, texts):
            forms = {
                "line": [Segment(shown if end else f"{shown}\n"), *end],
                "before_rating": [Segment(f"{shown}:")],
            }
            for form, segments in forms.items():
                codes[form].append(text_codes(len(pieces), len(segments)))
                pieces += segments
        return pieces, codes

    def _shown(self, text: str) -> str:
        """Where the title is the name nothing stands before it, elsewhere a space does."""
        plain = plain_text(text, self.settings.max_characters)
        return plain if self.index.includes_title and not self.index.symbols else f" {plain}"

    def _spaced(self, item: str) -> str:
        text = self.details(item)
        return f" {text}" if text else ""


def _text(item: Item, field: str) -> str:
    if field == "price":
        return "" if item.price is None else f"price {item.price:g}"
    return " ".join(getattr(item, field).split())
