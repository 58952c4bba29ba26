"""Which data to read, and how: the `data` section of an experiment."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from shelftalk.data.dataset import Order
from shelftalk.data.filters import FilterSettings
from shelftalk.data.sources.layouts import LAYOUTS
from shelftalk.data.sources.text_files import TextForm
from shelftalk.data.splitting import TrainingCore
from shelftalk.errors import nearest
from shelftalk.records import Nouns
from shelftalk.settings import Role, Settings

EventColumn = Literal["user_id", "item_id", "position", "timestamp", "rating"]
Catalogue = Literal["interacted", "all"]
ItemColumn = Literal["item_id", "title", "brand", "categories", "price", "description"]


def _published(given: dict[str, Any]) -> bool:
    """Whether the source is a published data set with its own protocol, and not the user's files."""
    return not (given.get("interactions") or given.get("folder"))


def _k_core_of(given: dict[str, Any]) -> int:
    return 5 if _published(given) else 0


def _catalogue_of(given: dict[str, Any]) -> Catalogue:
    return "interacted" if _published(given) else "all"


_NOUN = Role(stages=("write",))
_SOURCE = Role(stages=("prepare", "write"))  # the nouns of prompts go by the source
NOUNS_OF_BUNDLED = {"movielens-small": Nouns("film", "films", "viewer", "watched")}


class DataSettings(Settings):
    """Which data to read, and how. By default, without any of interactions, folder or bundled: MovieLens."""

    role = Role(stages=("prepare",))
    interactions: Annotated[str | None, _SOURCE] = None
    """File of who took what, when (.parquet, .csv, .tsv, JSON lines, .arrow or .feather; of the text formats
    also .gz and .zst); needs `items` beside it."""
    items: str | None = None
    """File of the catalogue, one row per item; any of the same formats."""
    folder: Annotated[str | None, _SOURCE] = None
    """Folder that holds one file interactions.* and one file items.*, or a published data set as it was
    published, instead of naming the two."""
    layout: str | None = None
    """Which published data set the folder holds, such as "movielens-1m" or "amazon-2014"; by default it is
    recognised by its files."""
    encoding: str | None = None
    """Encoding of all text files, by Python's name; by default UTF-8, or what is detected and noted."""
    separator: str | None = Field(None, min_length=1, max_length=1)
    """The character between the cells of .csv and .tsv files; by default detected from the header."""
    bundled: Annotated[Literal["movielens-small"] | None, _SOURCE] = None
    """Data set that comes with the package; "movielens-small" where nothing else is given."""
    interactions_columns: dict[EventColumn, str] = Field(default_factory=dict)
    """Our column name -> the name in the interactions file, for those that differ."""
    items_columns: dict[ItemColumn, str] = Field(default_factory=dict)
    """Our column name -> the name in the items file, for those that differ."""
    order: Order | None = None
    """What orders a user's events: "timestamp" (a column "position" is not read) or "position" (equal ones by
    time, if there are times). Without it the position does, unless a user has one twice and there are times:
    then the time, and equal times by position."""
    k_core: int = Field(default_factory=_k_core_of, ge=0)
    """Users and items with fewer events than this are removed, repeatedly until none is left; 0 or 1 removes
    none. By default 5 for bundled data, as it is published with, and 0 for your own."""
    k_core_on: Literal["all", "training"] = "all"
    """Which events the filter counts: "all", the held-out ones included, as in the literature; or those of
    the training part alone."""
    catalogue: Catalogue = Field(default_factory=_catalogue_of)
    """Whether items without any event that the filter counts and keeps are removed from the catalogue
    ("interacted") or stay in it ("all"). By default "interacted" for bundled data and "all" for your own:
    everything in the items file can be recommended."""
    repeats: Literal["first", "last", "highest", "refuse"] = "first"
    """Which event is kept where a user takes an item again: the first, the last, or the last of those that
    are rated highest; "refuse" makes a repeat an error."""
    filters: FilterSettings = FilterSettings()
    item_noun: Annotated[str | None, _NOUN] = None
    """What prompts call an item; by default "film" for MovieLens, else "item"."""
    items_noun: Annotated[str | None, _NOUN] = None
    """What prompts call several items; by default "films" for MovieLens, else "items"."""
    user_noun: Annotated[str | None, _NOUN] = None
    """What prompts call a user; by default "viewer" for MovieLens, else "customer"."""
    took: Annotated[str | None, _NOUN] = None
    """The verb for taking an item, in the past tense; by default "watched" for MovieLens, else "bought"."""

    @field_validator("interactions", "items", "folder")
    @classmethod
    def _named(cls, path: str | None) -> str | None:
        if path is not None and not path.strip():
            raise ValueError("is an empty path; name a file or a folder, or leave the setting out")
        return path

    @field_validator("layout")
    @classmethod
    def _known_layout(cls, layout: str | None) -> str | None:
        if layout is not None and layout not in LAYOUTS:
            raise ValueError(f'there is no layout "{layout}"; {nearest(layout, LAYOUTS)}')
        return layout

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, encoding: str | None) -> str | None:
        try:
            "".encode(encoding or "utf-8")
        except LookupError as error:
            raise ValueError(
                f'Python knows no text encoding "{encoding}"; name one such as "latin-1" or "gb18030"'
            ) from error
        return encoding

    @model_validator(mode="after")
    def _one_source(self) -> DataSettings:
        if (self.interactions is None) != (self.items is None):
            raise ValueError("data.interactions and data.items belong together; set both or neither")
        given = [name for name in ("interactions", "folder", "bundled") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"data.{given[0]} and data.{given[1]} name two sources; set one of them")
        if self.layout is not None and self.folder is None:
            raise ValueError("data.layout is that of data.folder; set both, or leave data.layout out")
        return self

    @property
    def text_form(self) -> TextForm:
        """How text files are written, where it is given."""
        return TextForm(self.encoding, self.separator)

    @property
    def bundled_name(self) -> str | None:
        """The bundled data set to read, or None where files or a folder are given."""
        if self.interactions is not None or self.folder is not None:
            return None
        return self.bundled or "movielens-small"

    @property
    def training_core(self) -> TrainingCore | None:
        """The k-core filter that the split applies; None where it applies to all events before the split."""
        return TrainingCore(self.k_core, self.catalogue == "all") if self.k_core_on == "training" else None

    @property
    def nouns(self) -> Nouns:
        """The nouns as set; those not set come from the source."""
        own = NOUNS_OF_BUNDLED.get(self.bundled_name or "", Nouns())
        return Nouns(
            self.item_noun or own.noun,
            self.items_noun or own.nouns,
            self.user_noun or own.person,
            self.took or own.took,
        )
