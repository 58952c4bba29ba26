"""Items named by random numbers: a seeded permutation, since those in order of appearance leak the answer."""

from __future__ import annotations

from shelftalk import seeds
from shelftalk.data.splitting import Split
from shelftalk.indexing.item_index import IndexSettings, ItemIndex


def build(split: Split, settings: IndexSettings, seed: int) -> ItemIndex:
    """Name each item by a number of fixed width, "0000" to "3495", a seeded permutation of the catalogue."""
    ids = split.dataset.item_ids
    width = len(str(len(ids) - 1))
    numbers = seeds.generator(seed, "item numbers").permutation(len(ids))
    return ItemIndex(
        "numbers", tuple(ids), tuple(f"{number:0{width}d}" for number in numbers), symbols=False, end=""
    )
