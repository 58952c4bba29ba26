"""Items named by id and title, read and generated as one: "<i_17> Toy Story".

Cao et al. (Findings of NAACL 2024) show titles beside item ids. Here the model also generates both: the id
identifies the item, and the title after it relates the id to its meaning.
"""

from __future__ import annotations

from dataclasses import replace
from inspect import signature

import numpy as np

from shelftalk.data.splitting import Split
from shelftalk.errors import SettingsError
from shelftalk.indexing import atomic, collaborative, numbers, semantic, sequential, titles
from shelftalk.indexing.item_index import IndexSettings, ItemIndex

IDS = {
    "atomic": atomic.build,
    "semantic": semantic.build,
    "collaborative": collaborative.build,
    "numbers": numbers.build,
    "sequential": sequential.build,
}


def build(
    split: Split, settings: IndexSettings, seed: int, text_vectors: np.ndarray | None = None
) -> ItemIndex:
    """The names of `settings.ids`, each with the title as its words, cut to `settings.title_characters`, and
    a line break as its end.

    Since ids are unique, titles need no suffix, and an item without any text is its id alone.
    `text_vectors` [I, D] are passed to the id scheme; raises SettingsError where it reads none.
    """
    id_scheme = IDS[settings.ids]
    takes_vectors = "text_vectors" in signature(id_scheme).parameters
    if text_vectors is not None and not takes_vectors:
        raise SettingsError(
            f'ids by "{settings.ids}" read no text vectors; '
            'set index.encoder = "tfidf" or index.ids = "semantic".'
        )
    named = id_scheme(split, settings, seed, **({"text_vectors": text_vectors} if takes_vectors else {}))
    words = titles.first_texts(split.dataset.items, settings.title_characters)
    return replace(named, scheme="mixed", words=tuple(words), end="\n")
