"""Items named by id and title beside each other, read and said as one: "<i_17> Toy Story".

Cao et al. (Findings of NAACL 2024) show titles beside item ids. Here the model also says both: the id decides
which item it is, and the title behind it ties the id to what it stands for.
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
    a line break.

    Since the id alone tells items apart, titles need no suffix, and an item without any text is its id alone.
    `text_vectors` [I, D] are handed to the id scheme; raises SettingsError where it reads none.
    """
    id_scheme = IDS[settings.ids]
    takes_vectors = "text_vectors" in signature(id_scheme).parameters
    if text_vectors is not None and not takes_vectors:
        raise SettingsError(
            f'ids by "{settings.ids}" read no text vectors; set index.encoder = "tfidf" or index.ids = "semantic".'
        )
    named = id_scheme(split, settings, seed, **({"text_vectors": text_vectors} if takes_vectors else {}))
    words = titles.first_texts(split.dataset.items, settings.title_characters)
    return replace(named, scheme="mixed", words=tuple(words), end="\n")
