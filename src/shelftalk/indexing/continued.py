"""An index that goes on: items keep the names that a trained model knows, and new ones get names that it can
read.

A new item of a symbol scheme with a last level is named as one more of the items whose texts are the most
similar to its own, so that its name begins with symbols that have a meaning already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from shelftalk.data.similarity import text_vectors
from shelftalk.data.splitting import Split
from shelftalk.errors import SettingsError
from shelftalk.indexing import titles
from shelftalk.indexing.item_index import LAST_LEVEL, IndexSettings, ItemIndex, split_symbols

ROWS_AT_ONCE = 512
"""New items whose texts are compared with all others at a time."""


def continued(known: ItemIndex, split: Split, settings: IndexSettings) -> ItemIndex:
    """The names of `known`, and a new name for every item of the split that it lacks, in catalogue order.

    Titles are titles; numbers go on after the highest one; a name of symbols with a last level gets the next
    one of the nearest item by text; an atomic name is a new symbol. Raises SettingsError where numbers of
    this width are used up, and for a scheme of one's own or names in order of appearance.
    """
    catalogue = split.dataset.item_ids
    name_of = dict(zip(known.item_ids, known.names, strict=True))
    new = [item for item in catalogue if item not in name_of]
    if new:
        name_of |= zip(new, _new_names(known, split, new, settings), strict=True)
    words: tuple[str, ...] = ()
    if known.words:
        texts = titles.first_texts(split.dataset.items, settings.title_characters)
        words = tuple(known.words_of(item) or text for item, text in zip(catalogue, texts, strict=True))
    names = tuple(name_of[item] for item in catalogue)
    return ItemIndex(known.scheme, tuple(catalogue), names, known.symbols, known.end, None, words)


def _new_names(known: ItemIndex, split: Split, new: Sequence[str], settings: IndexSettings) -> Sequence[str]:
    if known.scheme == "titles":
        return _titles(known, split, new)
    scheme = settings.ids if known.scheme == "mixed" else known.scheme
    if scheme == "numbers":
        return _numbers(known, len(new))
    if scheme == "atomic":
        first = 1 + max(int(name[3:-1]) for name in known.names)
        return [f"<i_{number}>" for number in range(first, first + len(new))]
    if known.has_last_level:
        return list(_after_the_nearest(known, split, new))
    raise SettingsError(
        f'items cannot join an index of the scheme "{known.scheme}"; train a run of all data anew.'
    )


def _titles(known: ItemIndex, split: Split, new: Sequence[str]) -> list[str]:
    texts = titles.first_texts(split.dataset.items, titles.MAX_CHARACTERS)
    row_of, taken, names = split.dataset.row_of, set(known.names), []
    for item in new:
        text = texts[row_of[item]] or "untitled"
        name, number = text, 1
        while name in taken:
            number += 1
            name = f"{text} [{number}]"
        taken.add(name)
        names.append(name)
    return names


def _numbers(known: ItemIndex, wanted: int) -> list[str]:
    width, first = len(known.names[0]), 1 + max(map(int, known.names))
    if len(str(first + wanted - 1)) > width:
        raise SettingsError(
            f"{wanted:,} new items need more than the {width} digits of the known names; train a run of all "
            'data anew, or choose index.scheme = "semantic" for it.'
        )
    return [f"{number:0{width}d}" for number in range(first, first + wanted)]


def _after_the_nearest(known: ItemIndex, split: Split, new: Sequence[str]) -> Iterator[str]:
    """Names that begin as that of the nearest known item by text, the first in the catalogue of equal ones;
    their last level counts on."""
    data = split.dataset
    of_known = np.array([data.row_of[item] for item in known.item_ids if item in data.row_of])
    vectors = text_vectors(data.items)
    ids, compared = data.item_ids, vectors[of_known].T.tocsr()
    stems = Counter[str]()
    for name in known.names:
        symbols = split_symbols(name)
        stem = "".join(symbols[:-1])
        stems[stem] = max(stems[stem], int(symbols[-1][len(LAST_LEVEL) : -1]) + 1)
    for start in range(0, len(new), ROWS_AT_ONCE):
        rows = [data.row_of[item] for item in new[start : start + ROWS_AT_ONCE]]
        for nearest in np.asarray((vectors[rows] @ compared).argmax(axis=1)).ravel().tolist():
            stem = "".join(split_symbols(known.name(ids[of_known[nearest]]))[:-1])
            yield f"{stem}{LAST_LEVEL}{stems[stem]}>"
            stems[stem] += 1
