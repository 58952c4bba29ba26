"""Naming the items of a split by the scheme that the settings name."""

from __future__ import annotations

from pathlib import Path

from threadpoolctl import threadpool_limits

from shelftalk import parts
from shelftalk.data.similarity import item_texts
from shelftalk.data.splitting import Split
from shelftalk.errors import SettingsError
from shelftalk.indexing.continued import continued
from shelftalk.indexing.item_index import IndexSettings, ItemIndex
from shelftalk.tasks.continued_training import INDEX


def build_index(split: Split, settings: IndexSettings, seed: int) -> ItemIndex:
    """Name the items, and make the text vectors for that if `settings.encoder` is a sentence encoder.

    On one processor the index is the same to the byte whatever the number of threads: sums that threads
    divide among themselves are rounded otherwise, so that one thread computes it.

    Raises UnknownPart for a scheme that there is not, and SettingsError where an encoder is named and the
    scheme reads no text vectors.
    """
    if settings.continues:
        return continued(ItemIndex.load(Path(settings.continues) / INDEX), split, settings)
    scheme = parts.declared(parts.INDEXINGS, settings.scheme, "index scheme")
    build = parts.load(parts.INDEXINGS, settings.scheme, "index scheme")
    if settings.encoder == "tfidf":
        with threadpool_limits(1):
            index: ItemIndex = build(split, settings, seed)
        return index
    if not scheme.reads_text_vectors:
        raise SettingsError(
            f'index.encoder = "{settings.encoder}" makes text vectors, which the scheme "{settings.scheme}" '
            'does not read; set index.encoder = "tfidf" or choose index.scheme = "semantic".'
        )
    from shelftalk.models.sentence_encoder import encode_texts

    vectors = encode_texts(item_texts(split.dataset.items), settings.encoder)
    with threadpool_limits(1):
        index = build(split, settings, seed, text_vectors=vectors)
    return index
