"""A name for an item that joined after training, by the scheme of the index. No tensor is needed.

| scheme | the name of a new item | what it rests on |
| --- | --- | --- |
| titles | its title, as at training | exact |
| mixed | an id as below, its title after it | the title exact, the id as below |
| atomic | a new symbol | approximate: its embedding is made of those of similar texts (new_symbols.py) |
| semantic | codes of the frozen quantiser | approximate: the text's half of each centre decides |
| collaborative | the leaf of the most similar item by text, with a free last symbol | approximate |
| numbers | a free number | arbitrary: numbers say nothing, so the model cannot know the item |

The quantiser of the semantic scheme clustered vectors of text and co-occurrence side by side; a new item has
no co-occurrence, so that the other half is unknown and left out of the distance. The text's half of a centre
is the mean of its members' text vectors, at the second level of their residuals, and so on; members and texts
are both in the catalogue, so nothing of the training has to be kept.

Legend: I items of the trained catalogue, F text features, D dimensions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np
import polars as pl
from scipy.sparse import csr_matrix

from shelftalk import seeds
from shelftalk.data.text_space import TextSpace
from shelftalk.errors import SettingsError
from shelftalk.indexing.item_index import LAST_LEVEL, IndexSettings, ItemIndex, split_symbols
from shelftalk.indexing.item_vectors import fitted_dense_vectors
from shelftalk.indexing.titles import MAX_CHARACTERS, first_texts
from shelftalk.records import Item
from shelftalk.serving.live_catalogue import frame_of, text_of

SUFFIXES = 1000
"""Most items of one title."""
_LEVEL = re.compile(r"<([a-y])_\d+>")


class NewNames:
    """Names for new items beside those of an index. `names`: every name that is given, old and new."""

    def __init__(
        self,
        index: ItemIndex,
        items: pl.DataFrame,
        settings: IndexSettings | None = None,
        seed: int = 0,
    ) -> None:
        self._index = index
        self._items = items
        self._settings = settings or IndexSettings()
        self._seed = seed
        self.names = set(index.names)

    @cached_property
    def kind(self) -> str:
        """The row of the table above. Raises SettingsError where none fits."""
        return _kind(self._index)

    @cached_property
    def texts(self) -> TextSpace:
        """Made at first use: nothing but new items needs it."""
        return TextSpace(self._items)

    def candidates(self, item: Item) -> Iterator[str]:
        """Names that nobody has, the best first. The caller takes the first that fits and adds it to `names`.

        Raises SettingsError where the scheme has no free name left."""
        free = (name for name in getattr(self, f"_{self.kind}")(item) if name not in self.names)
        yield from free
        raise SettingsError(
            f'the index scheme "{self._index.scheme}" of this model has no free name for item "{item.id}"; '
            "remove items that are gone, or train again with them in the catalogue."
        )

    def words(self, item: Item) -> str:
        """The text after the name, where the index has such texts."""
        if not self._index.words:
            return ""
        return first_texts(frame_of([item]), self._settings.title_characters)[0]

    def _titles(self, item: Item) -> Iterator[str]:
        title = first_texts(frame_of([item]), MAX_CHARACTERS)[0] or "untitled"
        yield title
        yield from (f"{title} [{number}]" for number in range(2, SUFFIXES))

    def _atomic(self, item: Item) -> Iterator[str]:
        number = len(self.names)
        yield from (f"<i_{number + more}>" for more in range(len(self.names) + 1))

    def _numbers(self, item: Item) -> Iterator[str]:
        width = len(self._index.names[0])
        start = seeds.number(0, "new number", item.id) % 10**width
        yield from (f"{(start + more) % 10**width:0{width}d}" for more in range(10**width))

    def _semantic(self, item: Item) -> Iterator[str]:
        _, reduced = self._reduced
        residual, stem = reduced(self.texts.vector(text_of(item)))[0], ""
        for symbols, centres in self._centres:
            code = int(((centres - residual) ** 2).sum(axis=1).argmin())
            residual, stem = residual - centres[code], stem + symbols[code]
        yield from self._numbered(stem)

    def _collaborative(self, item: Item) -> Iterator[str]:
        rows, _ = self.texts.nearest(text_of(item), number=1)
        nearest = int(rows[0]) if len(rows) else 0
        yield from self._numbered("".join(split_symbols(self._index.names[nearest])[:-1]))

    def _numbered(self, stem: str) -> Iterator[str]:
        """The stem with each last symbol, which numbers the items of one code; first those that the model has
        learnt, then new ones."""
        yield from (f"{stem}{LAST_LEVEL}{number}>" for number in range(len(self.names) + 1))

    @cached_property
    def last_symbols(self) -> list[str]:
        """The symbols of the last level that the model has learnt."""
        return [symbol for symbol in self._index.vocabulary if symbol.startswith(LAST_LEVEL)]

    @cached_property
    def _reduced(self) -> tuple[np.ndarray, Callable[[csr_matrix], np.ndarray]]:
        """The text vectors as the quantiser saw them, and what makes them of others."""
        return fitted_dense_vectors(self.texts.vectors, self._settings.dimensions, self._seed, "text")

    @cached_property
    def _centres(self) -> list[tuple[list[str], np.ndarray]]:
        """Per level: its symbols, and the text's half of their centres [codes, D]."""
        symbols = [split_symbols(name)[:-1] for name in self._index.names]
        residuals, levels = self._reduced[0], []
        for column in zip(*symbols, strict=True):
            codes = sorted(set(column))
            number = {symbol: code for code, symbol in enumerate(codes)}
            member = np.array([number[symbol] for symbol in column])
            sums = np.zeros((len(codes), residuals.shape[1]))
            np.add.at(sums, member, residuals)
            centres = sums / np.bincount(member)[:, None]
            residuals = residuals - centres[member]
            levels.append((codes, centres))
        return levels


def _kind(index: ItemIndex) -> str:
    """How new names are made, by what the names look like: an own scheme may be like a built-in one. Raises
    SettingsError for names that none of them make."""
    if not index.symbols:
        digits = all(name.isascii() and name.isdigit() for name in index.names)
        return "numbers" if digits and len({len(name) for name in index.names}) == 1 else "titles"
    if index.has_last_level:
        levels = {tuple(_LEVEL.findall(name)) for name in index.names}
        same = len(levels) == 1 and len(next(iter(levels))) == len(split_symbols(index.names[0])) - 1
        return "semantic" if same else "collaborative"
    if all(len(split_symbols(name)) == 1 for name in index.names):
        return "atomic"
    raise SettingsError(
        f'names of the index scheme "{index.scheme}" cannot be made for new items; train with '
        'index.scheme = "atomic", "semantic" or "titles" to add items while serving.'
    )
