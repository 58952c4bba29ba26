"""Items named by numbers in order of first appearance: the numbering of P5, which LEAKS. For measuring the
leak.

P5 (Geng et al., RecSys 2022) numbered items along the users' histories, the held-out items included, so that
the next item is often the next number (jeykigung/P5, issue 3). OpenP5 later numbered all training parts
first.
"""

from __future__ import annotations

import numpy as np

from shelftalk.data.splitting import Split
from shelftalk.indexing.item_index import IndexSettings, ItemIndex


def build(split: Split, settings: IndexSettings, seed: int) -> ItemIndex:
    """Name each item by a number of fixed width, counted user by user along whole histories, oldest event
    first.

    THE ONE SCHEME THAT READS HELD-OUT EVENTS, by design: it is used only where it is named, and `leaks` of
    the index is true. Users are in the dataset's order, a seeded hash independent of the file, but along one
    history the order is that of P5. Items that nobody took come last, in catalogue
    order.
    """
    ids = split.dataset.item_ids
    taken, first = np.unique(split.dataset.event_item, return_index=True)
    seen = taken[np.argsort(first)]
    order = np.concatenate([seen, np.setdiff1d(np.arange(len(ids)), seen)])
    number_of = np.empty(len(ids), np.int64)
    number_of[order] = np.arange(len(ids))
    width = len(str(len(ids) - 1))
    names = tuple(f"{number:0{width}d}" for number in number_of.tolist())
    return ItemIndex("sequential", tuple(ids), names, symbols=False, end="", leaks=True)
