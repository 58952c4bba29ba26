"""ItemIndex: how an item is named to the model, one-to-one over the whole catalogue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
from pydantic import Field

from shelftalk.data.similarity import COUNTED_EVENTS
from shelftalk.errors import DuplicateName, reading
from shelftalk.records import Segment
from shelftalk.settings import Role, Settings

VECTORS_FILE = "symbol_vectors.parquet"
LAST_LEVEL = "<z_"
"""Prefix of the symbols that number the items of one code; those of no other level have it."""
LEAK = (
    "the names are numbers in order of appearance, which leak held-out items: the next item is often the "
    "next number. Figures of this run show the leak and must not be compared with others; "
    'choose index.scheme = "numbers" for random numbers.'
)


class IndexSettings(Settings):
    """How items are named to the model. Each field has the schemes that read it."""

    role = Role(stages=("index",), tunable=True, changes_loss=True)
    scheme: str = "atomic"
    """A name of parts.INDEXINGS: "atomic", "semantic", "collaborative", "titles", "mixed" or "numbers", and
    "sequential", which leaks; or "package.module:function"."""
    disambiguate: bool = True
    """Titles: add a suffix to repeated titles; otherwise a duplicate is an error."""
    levels: int = Field(2, ge=1, le=8)
    """Semantic: levels of residual k-means, before the level that numbers collisions."""
    codes: int = Field(64, ge=2, le=4096)
    """Semantic: codes per level of residual k-means."""
    dimensions: int = Field(64, ge=2, le=1024)
    """Semantic, atomic, collaborative: dimensions kept of each of the text and the co-occurrence vectors."""
    text_weight: float = Field(0.3, ge=0, le=1)
    """Semantic, atomic: share of the text vectors in the squared distance; the rest is co-occurrence."""
    encoder: str = Field("tfidf", min_length=1)
    """Semantic, atomic, collaborative: what makes vectors of item texts, "tfidf" or a sentence encoder
    (folder or hub name)."""
    co_occurrence_events: int = Field(COUNTED_EVENTS, ge=1)
    """Semantic, atomic, collaborative: most recent training events of one user that count in co-occurrence;
    its memory is their square."""
    start_vectors: bool = True
    """Semantic, atomic, collaborative: whether the embeddings of symbols start from vectors of their items,
    or random."""
    clusters: int = Field(20, ge=2, le=1024)
    """Collaborative: children of a node of the cluster tree."""
    leaf_items: int = Field(50, ge=1, le=4096)
    """Collaborative: most items of a node that is not divided further; the last symbol numbers them."""
    ids: Literal["atomic", "semantic", "collaborative", "numbers", "sequential"] = "atomic"
    """Mixed: the scheme of the id before the title."""
    title_characters: int = Field(60, ge=1, le=120)
    """Mixed: budget of the title after the id; longer ones are cut between words."""

    continues: Annotated[str, Role(stages=("index", "write"), tunable=False, why="it names files")] = ""
    """A folder that `shelftalk append` made: its items keep their names, and samples are written of the
    training events that the model named there has not learned from; "" for none."""

    @property
    def reads_co_occurrence(self) -> bool:
        """Whether the names, or the vectors of their symbols, are made of training co-occurrence."""
        scheme = self.ids if self.scheme == "mixed" else self.scheme
        return scheme in ("semantic", "collaborative") or (scheme == "atomic" and self.start_vectors)


@dataclass(frozen=True, eq=False)
class ItemIndex:
    """Item <-> name: `item(name(i)) == i` for the whole catalogue, and no name is a prefix of another.

    `symbols`: the names are runs of vocabulary symbols ("<a_12><b_7><z_0>"), each of them one token to the
    model; otherwise they are free text. `symbol_vectors` [S, D] float32, in the order of `vocabulary`: what
    the embedding of each symbol starts from; None for a random start. `end` closes every
    name; it is "" where the names are prefix-free without it (a fixed number of symbols or digits). Raises
    DuplicateName where two items would share a name.

    `words`, aligned with `names`: free text after each name ("<i_17> Toy Story"), "" for none. The name alone
    identifies the item, so two items may have the same words. `leaks`: the names depend on held-out events.
    """

    scheme: str
    item_ids: tuple[str, ...]
    names: tuple[str, ...]
    symbols: bool
    end: str
    symbol_vectors: np.ndarray | None = None
    words: tuple[str, ...] = ()
    leaks: bool = False

    def __post_init__(self) -> None:
        if len(self._item_of) < len(self.item_ids):
            seen: dict[str, str] = {}
            for item, name in zip(self.item_ids, self.names, strict=True):
                if name in seen:
                    raise DuplicateName(
                        f'items "{seen[name]}" and "{item}" are both named "{name[:80]}"; '
                        'set index.disambiguate = true or choose index.scheme = "semantic".'
                    )
                seen[name] = item

    @cached_property
    def _name_of(self) -> dict[str, str]:
        return dict(zip(self.item_ids, self.names, strict=True))

    @cached_property
    def _item_of(self) -> dict[str, str]:
        return dict(zip(self.names, self.item_ids, strict=True))

    @cached_property
    def _words_of(self) -> dict[str, str]:
        return dict(zip(self.item_ids, self.words, strict=True)) if self.words else {}

    @property
    def includes_title(self) -> bool:
        """Whether names contain the title, so that prompts need not show it beside them."""
        return self.scheme == "titles" or bool(self.words)

    def words_of(self, item: str) -> str:
        """The text after the item's name, "" for none."""
        return self._words_of.get(item, "")

    def name(self, item: str) -> str:
        """The item's name, without words and end. Raises KeyError for an item outside the catalogue."""
        return self._name_of[item]

    def item(self, name: str) -> str:
        """The item of a name. Raises KeyError for a name that no item has."""
        return self._item_of[name]

    def segments(self, item: str, bears_loss: bool = False, closed: bool = True) -> tuple[Segment, ...]:
        """The name as the model reads and generates it: name, words and, if `closed`, end."""
        name = Segment(self._name_of[item], bears_loss, self.symbols)
        words = self.words_of(item)
        segments = (name, Segment(f" {words}", bears_loss)) if words else (name,)
        return (*segments, Segment(self.end, bears_loss)) if self.end and closed else segments

    def free_text(self, item: str) -> str:
        """The free text of the name, without its end; "" for a name of symbols alone."""
        texts = (segment.text for segment in self.segments(item, closed=False) if not segment.symbols)
        return "".join(texts).lstrip()

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """The symbols that the names use, sorted; empty for names of free text."""
        return (
            tuple(sorted({symbol for name in self.names for symbol in split_symbols(name)}))
            if self.symbols
            else ()
        )

    def statistics(self) -> dict[str, Any]:
        """Facts to check before any training: lengths, collisions, vocabulary."""
        lengths = np.array([len(split_symbols(name)) if self.symbols else len(name) for name in self.names])
        facts = {
            "scheme": self.scheme,
            "items": len(self.item_ids),
            "length": f"{lengths.min()} to {lengths.max()} (mean {lengths.mean():.1f}) "
            + ("symbols" if self.symbols else "characters"),
            "symbols in the vocabulary": len(self.vocabulary),
        }
        if self.words:
            characters = np.array([len(words) for words in self.words])
            facts["words"] = (
                f"{characters.min()} to {characters.max()} (mean {characters.mean():.1f}) characters"
            )
        if self.has_last_level:
            facts["items that differ in the last level only"] = (
                f"{self.collisions} ({self.collisions / len(self.names):.1%})"
            )
        if self.leaks:
            facts["warning"] = LEAK
        return facts

    @property
    def has_last_level(self) -> bool:
        """Whether the last symbol of each name only numbers the items that share the others."""
        return self.symbols and all(split_symbols(name)[-1].startswith(LAST_LEVEL) for name in self.names)

    @property
    def collisions(self) -> int:
        """Items that share all symbols but the last with another item; 0 without such a last level."""
        if not self.has_last_level:
            return 0
        stems = Counter(name[: name.rindex("<")] for name in self.names)
        return sum(count for count in stems.values() if count > 1)

    def save(self, path: Path) -> None:
        """Write item_id, name and, if there are any, words, one row per item; scheme, symbols, end and leaks
        go into the file's metadata. Symbol vectors, if any, go into symbol_vectors.parquet beside it."""
        facts = {
            "scheme": self.scheme,
            "symbols": str(self.symbols),
            "end": self.end.encode("unicode_escape").decode(),
        }
        columns = {
            "item_id": self.item_ids,
            "name": self.names,
            **({"words": self.words} if self.words else {}),
        }
        pl.DataFrame(columns).write_parquet(path, metadata={**facts, "leaks": str(self.leaks)})
        vectors = path.with_name(VECTORS_FILE)
        vectors.unlink(missing_ok=True)  # those of an earlier index in this folder
        if self.symbol_vectors is not None:
            pl.DataFrame({"symbol": self.vocabulary, "vector": self.symbol_vectors}).write_parquet(vectors)

    @classmethod
    def load(cls, path: Path) -> ItemIndex:
        """Read what `save` wrote. Raises UnreadableFile where the file is something else."""
        with reading(f'"{path}" is not an item index', "run `shelftalk index` again"):
            facts, frame = pl.read_parquet_metadata(path), pl.read_parquet(path, glob=False)
            symbols = facts["symbols"] == "True"
            _check_names(frame, symbols)
            end = facts["end"].encode().decode("unicode_escape")
            file = path.with_name(VECTORS_FILE)
            vectors = pl.read_parquet(file, glob=False)["vector"].to_numpy() if file.exists() else None
            words = tuple(frame["words"]) if "words" in frame.columns else ()
            # files of version 0.1.0 lack it: none of its schemes leaks
            leaks = facts.get("leaks") == "True"
            return cls(
                facts["scheme"],
                tuple(frame["item_id"]),
                tuple(frame["name"]),
                symbols,
                end,
                vectors,
                words,
                leaks,
            )


def _check_names(frame: pl.DataFrame, symbols: bool) -> None:
    """Raises ValueError for a table that holds no names of items, each item once."""
    texts = frame.select("item_id", "name", *(["words"] if "words" in frame.columns else []))
    if (
        set(texts.dtypes) != {pl.String}
        or texts.null_count().sum_horizontal().item()
        or texts["item_id"].is_duplicated().any()
    ):
        raise ValueError("it does not hold a name for each item")
    if symbols and not texts["name"].str.contains(r"^(<[^<>]+>)+$").all():
        raise ValueError("a name does not consist of symbols")


def with_last_level(stems: Sequence[str]) -> tuple[str, ...]:
    """Each stem with a last level: "<z_0>", "<z_1>" ... for the items of one stem, in catalogue order."""
    seen: Counter[str] = Counter()
    names = []
    for stem in stems:
        names.append(f"{stem}{LAST_LEVEL}{seen[stem]}>")
        seen[stem] += 1
    return tuple(names)


def split_symbols(name: str) -> list[str]:
    """ "<a_12><b_7>" -> ["<a_12>", "<b_7>"]. Symbols hold no ">" inside."""
    return [symbol + ">" for symbol in name.split(">")[:-1]]
