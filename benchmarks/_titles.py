"""Titles like a catalogue's, of any number: a chain of words in which each follows another as it does
in the real titles."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np

from shelftalk.data.plain_text import plain_text

END = 0
"""The word number of a title's beginning and end."""
MAX_CHARACTERS = 120
MADE_AT_ONCE = 200_000


def titles_like(real: Sequence[str], number: int, seed: int) -> list[str]:
    """`number` different titles over the words of `real`: beginnings are shared as they are there, and
    lengths are about theirs."""
    corpus, words = _corpus(real)
    draw = np.random.default_rng(seed)
    titles: dict[str, None] = {}
    while len(titles) < number:
        for row in _walks(corpus, draw, MADE_AT_ONCE):
            title = plain_text(" ".join(words[word] for word in row[: row.index(END)]), MAX_CHARACTERS)
            titles[title] = None
    return list(titles)[:number]


def _corpus(real: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """All titles' word numbers in one row, an END before, between and after them; and the words."""
    split = [title.split() for title in real if title.strip()]
    number = {
        word: position for position, word in enumerate(dict.fromkeys(chain.from_iterable(split)), END + 1)
    }
    return np.array([END, *chain.from_iterable([*map(number.__getitem__, title), END] for title in split)]), [
        "",
        *number,
    ]


def _walks(corpus: np.ndarray, draw: np.random.Generator, number: int) -> list[list[int]]:
    """Word numbers of as many titles: each word is drawn among those that follow the one before it,
    ends included."""
    positions = np.argsort(corpus[:-1], kind="stable")  # by word
    bounds = np.searchsorted(corpus[:-1][positions], np.arange(corpus.max() + 2))
    word, steps = np.full(number, END), []
    while not steps or (word != END).any():
        first, stop = bounds[word], bounds[word + 1]
        following = corpus[positions[first + (draw.random(number) * (stop - first)).astype(np.int64)] + 1]
        word = following if not steps else np.where(word == END, END, following)  # an ended title stays so
        steps.append(word)
    return np.array(steps).T.tolist()
