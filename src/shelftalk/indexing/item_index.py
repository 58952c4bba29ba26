"""ItemIndex: how an item is named to the model, one-to-one over the whole catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from shelftalk.errors import DuplicateName, UnreadableFile
from shelftalk.records import Segment

VECTORS_FILE = "symbol_vectors.parquet"


class IndexSettings(BaseModel):
    """How items are named to the model. Which fields count depends on the scheme."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scheme: str = "atomic"
    """A name of parts.INDEXINGS: "atomic", "semantic", "titles" or "numbers"; or "package.module:function"."""
    disambiguate: bool = True
    """Titles: tell items of one title apart by a suffix; otherwise a duplicate is an error."""
    levels: int = Field(2, ge=1, le=8)
    """Semantic: levels of residual k-means before the level that tells collisions apart."""
    codes: int = Field(64, ge=2, le=4096)
    """Semantic: codes per level of residual k-means."""
    dimensions: int = Field(64, ge=2, le=1024)
    """Semantic, atomic: dimensions kept of each of the text and the co-occurrence vectors."""
    text_weight: float = Field(0.3, ge=0, le=1)
    """Semantic, atomic: share of the text vectors in the squared distance; the rest is training co-occurrence."""


@dataclass(frozen=True, eq=False)
class ItemIndex:
    """Item <-> name: `item(name(i)) == i` for the whole catalogue, and no name is the beginning of another.

    `symbols`: the names are runs of vocabulary symbols ("<a_12><b_7><z_0>"), each of them one token to the model;
    otherwise they are free text. `symbol_vectors` [S, D] float32, in the order of `vocabulary`: what each symbol means, for a
    backbone to start from; None where the scheme knows nothing. `end` closes every name; it is "" where the names are
    prefix-free without it (a fixed number of symbols or digits). Raises DuplicateName where two items would share a name.
    """

    scheme: str
    item_ids: tuple[str, ...]
    names: tuple[str, ...]
    symbols: bool
    end: str
    symbol_vectors: np.ndarray | None = None

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

    def name(self, item: str) -> str:
        """The item's name, without its end. Raises KeyError for an item that is not in the catalogue."""
        return self._name_of[item]

    def item(self, name: str) -> str:
        """The item of a name. Raises KeyError for a name that no item has."""
        return self._item_of[name]

    def segments(self, item: str, bears_loss: bool = False) -> tuple[Segment, ...]:
        """The name as the model reads and says it, its end included."""
        name = Segment(self._name_of[item], bears_loss, self.symbols)
        return (name, Segment(self.end, bears_loss)) if self.end else (name,)

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """The symbols that the names use, sorted; empty for names of free text."""
        return tuple(sorted({symbol for name in self.names for symbol in split_symbols(name)})) if self.symbols else ()

    def statistics(self) -> dict[str, Any]:
        """Facts to look at before any training: lengths, collisions, vocabulary."""
        lengths = np.array([len(split_symbols(name)) if self.symbols else len(name) for name in self.names])
        facts = {
            "scheme": self.scheme,
            "items": len(self.item_ids),
            "length": f"{lengths.min()} to {lengths.max()} (mean {lengths.mean():.1f}) "
            + ("symbols" if self.symbols else "characters"),
            "symbols in the vocabulary": len(self.vocabulary),
        }
        if self.scheme == "semantic":
            stems = [name[: name.rindex("<")] for name in self.names]
            shared = len(stems) - sum(1 for count in _counts(stems).values() if count == 1)
            facts["items told apart by the last level only"] = f"{shared} ({shared / len(stems):.1%})"
        return facts

    def save(self, path: Path) -> None:
        """Write item_id and name, one row per item; scheme, symbols and end go into the file's metadata. Symbol vectors, if
        any, go into symbol_vectors.parquet beside it."""
        facts = {"scheme": self.scheme, "symbols": str(self.symbols), "end": self.end.encode("unicode_escape").decode()}
        pl.DataFrame({"item_id": self.item_ids, "name": self.names}).write_parquet(path, metadata=facts)
        beside = path.with_name(VECTORS_FILE)
        beside.unlink(missing_ok=True)  # those of an index that stood here before
        if self.symbol_vectors is not None:
            pl.DataFrame({"symbol": self.vocabulary, "vector": self.symbol_vectors}).write_parquet(beside)

    @classmethod
    def load(cls, path: Path) -> ItemIndex:
        """Read what `save` wrote. Raises UnreadableFile where the file is something else."""
        refusal = UnreadableFile(f'"{path}" is not an item index; run `shelftalk index` again.')
        try:
            facts, frame = pl.read_parquet_metadata(path), pl.read_parquet(path, glob=False)
        except pl.exceptions.PolarsError as error:
            raise refusal from error
        if "scheme" not in facts:
            raise refusal
        end = facts["end"].encode().decode("unicode_escape")
        beside = path.with_name(VECTORS_FILE)
        vectors = pl.read_parquet(beside, glob=False)["vector"].to_numpy() if beside.exists() else None
        return cls(facts["scheme"], tuple(frame["item_id"]), tuple(frame["name"]), facts["symbols"] == "True", end, vectors)


def split_symbols(run: str) -> list[str]:
    """ "<a_12><b_7>" -> ["<a_12>", "<b_7>"]. Symbols hold no ">" inside."""
    return [symbol + ">" for symbol in run.split(">")[:-1]]


def _counts(values: Sequence[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return counts
