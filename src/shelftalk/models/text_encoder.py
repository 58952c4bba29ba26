"""Segments of text -> token ids. It needs a tokenizer and no weights: every backbone holds one, and names can
be tokenised, and checked, before a model is loaded.

Example, with the symbols <a_1> and <b_0> in the vocabulary:

    segment                                      ids          bears_loss
    Segment("Next: ")                            [41, 7, 5]   [F, F, F]
    Segment("<a_1><b_0>", True, symbols=True)    [903, 911]   [T, T]
    encoded together                             [41, 7, 5, 903, 911]

Legend: T tokens, I items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from transformers import PreTrainedTokenizerBase

from shelftalk.indexing.item_index import split_symbols
from shelftalk.models.free_text import FreeText
from shelftalk.ragged import Ragged, ragged, vstack
from shelftalk.records import Segment
from shelftalk.tasks.samples import Samples

ANY_TOKEN = -1
"""The set of a label that may be any token of the vocabulary."""
CACHE_SIZE = 200_000
"""Texts whose tokens are cached; without a limit, texts that never recur would fill the memory."""


@dataclass(frozen=True, eq=False)
class SoftTargets:
    """What may stand in place of each of L tokens: `tokens` [L, N] int32 and `weights` [L, N] float32, none
    below 0. A row's weights sum to 1 at most; the rest is the token's own."""

    tokens: np.ndarray
    weights: np.ndarray

    def take(self, rows: np.ndarray) -> SoftTargets:
        """The rows that a mask [L] or row numbers choose."""
        return SoftTargets(self.tokens[rows], self.weights[rows])


@dataclass(frozen=True, eq=False)
class Encoded:
    """A sample as token ids: `ids` [T] int32 and `bears_loss` [T] bool. For the L tokens that bear loss:
    `soft` where it has soft targets, and `sets` [L] int32 where some are one of a set of tokens alone,
    ANY_TOKEN for those that are not (see allowed_tokens.py).

    Several samples may share one row, which a decoder-only backbone trains as if each stood alone: `starts`
    are the positions of their first tokens, ascending from 0.
    """

    ids: np.ndarray
    bears_loss: np.ndarray
    starts: tuple[int, ...] = (0,)
    soft: SoftTargets | None = None
    sets: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def prompt_length(self) -> int:
        """Tokens before the first that bears loss."""
        return int(self.bears_loss.argmax()) if self.bears_loss.any() else len(self.ids)


def joined_soft_targets(samples: Sequence[Encoded]) -> SoftTargets | None:
    """The soft targets of all tokens that bear loss, in the order of the samples; None where no sample has
    any. Rows of a sample without them have no weight."""
    width = next((sample.soft.tokens.shape[1] for sample in samples if sample.soft), 0)
    if not width:
        return None
    parts = [sample.soft or _no_soft_targets(int(sample.bears_loss.sum()), width) for sample in samples]
    tokens, weights = ([getattr(part, name) for part in parts] for name in ("tokens", "weights"))
    return SoftTargets(np.concatenate(tokens), np.concatenate(weights))


def joined_sets(samples: Sequence[Encoded]) -> np.ndarray | None:
    """The sets of all tokens that bear loss, in the order of the samples; None where no sample has any."""
    if all(sample.sets is None for sample in samples):
        return None
    return np.concatenate([sets_of(sample) for sample in samples])


def sets_of(sample: Encoded) -> np.ndarray:
    """[L] int32: the set of each token that bears loss, ANY_TOKEN for none."""
    if sample.sets is None:
        return np.full(int(sample.bears_loss.sum()), ANY_TOKEN, np.int32)
    return sample.sets


def _no_soft_targets(number: int, width: int) -> SoftTargets:
    return SoftTargets(np.zeros((number, width), np.int32), np.zeros((number, width), np.float32))


class TextEncoder:
    """Tokenises segments of free text and of symbols.

    Invariants: each segment is tokenised on its own, so that encode([a, b]) is encode([a]) followed by
    encode([b]) and an item has the same tokens in every prompt; each symbol is one token; free text never
    yields the id of a symbol or control token, whatever it holds. `encode`, `encode_samples` and
    `encode_names` give the same tokens.

    The vocabulary is read at the first call: add all symbols to the tokenizer before it.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._cache: dict[tuple[str, bool], list[int]] = {}

    @cached_property
    def symbol_ids(self) -> dict[str, int]:
        """Symbol -> token id, of every token that was added to the tokenizer."""
        result: dict[str, int] = self.tokenizer.get_added_vocab()
        return result

    @cached_property
    def _free_text(self) -> FreeText:
        return FreeText(self.tokenizer)

    def has_symbols(self, symbols: Sequence[str]) -> bool:
        """Whether each of the symbols is one token of the vocabulary."""
        return self.symbol_ids.keys() >= set(symbols)

    def tokens(self, text: str, symbols: bool) -> list[int]:
        """Token ids of one segment's text: free text, or (`symbols`) a run of symbols. Cached, since items
        and templates recur. Raises KeyError for a symbol that is not in the vocabulary."""
        cached = self._cache.get((text, symbols))
        if cached is None:
            cached = self._symbol_tokens(text) if symbols else self._free_text.ids(text)
            if len(self._cache) < CACHE_SIZE:
                self._cache[text, symbols] = cached
        return cached

    def encode(self, segments: Sequence[Segment]) -> Encoded:
        """The segments of one sample, in their order. Raises KeyError for a symbol that is not in
        the vocabulary."""
        ids: list[int] = []
        loss: list[bool] = []
        for segment in segments:
            tokens = self.tokens(segment.text, segment.symbols)
            ids += tokens
            loss += [segment.bears_loss] * len(tokens)
        return Encoded(np.array(ids, np.int32), np.array(loss, bool))

    def encode_samples(self, samples: Samples) -> list[Encoded]:
        """As `encode`, for many samples at once: every distinct piece of text is tokenised once."""
        codes, position = np.unique(samples.text.values, return_inverse=True)
        pieces = [samples.tables.pieces[code >> 1] for code in codes.tolist()]
        tokens = ragged(self.tokens(piece.text, piece.symbols) for piece in pieces).take(position)
        loss = np.repeat(samples.text.values & 1 == 1, tokens.lengths)
        ids, bounds = tokens.values.astype(np.int32), tokens.merge_rows(samples.text.offsets).offsets.tolist()
        return [
            Encoded(ids[start:stop], loss[start:stop])
            for start, stop in zip(bounds, bounds[1:], strict=False)
        ]

    def encode_names(self, names: Sequence[Sequence[Segment]]) -> Ragged:
        """[I] rows of int32 token ids: each name as `encode` gives it, for a whole catalogue. Free text goes
        to the tokenizer in batches, which it divides among the processor's cores."""
        # Every distinct piece once: free text first, then runs of symbols.
        distinct = dict.fromkeys((segment.text, segment.symbols) for name in names for segment in name)
        pieces = sorted(distinct, key=lambda piece: piece[1])
        free = self._free_text.batch([text for text, symbols in pieces if not symbols])
        symbols = ragged(self._symbol_tokens(text) for text, symbols in pieces if symbols)
        tokens = vstack([free, Ragged(symbols.values.astype(np.int32), symbols.offsets)])

        # Each name is the tokens of its pieces, one after another.
        row = {piece: number for number, piece in enumerate(pieces)}
        rows = ragged([row[segment.text, segment.symbols] for segment in name] for name in names)
        tokens = tokens.take(rows.values)
        return Ragged(tokens.values, tokens.merge_rows(rows.offsets).offsets)

    def show(self, encoded: Encoded) -> list[tuple[str, bool]]:
        """[T] each token as text, and whether it bears loss."""
        return [
            (self.tokenizer.decode([token]), bool(loss))
            for token, loss in zip(encoded.ids, encoded.bears_loss, strict=True)
        ]

    def _symbol_tokens(self, text: str) -> list[int]:
        return [self.symbol_ids[symbol] for symbol in split_symbols(text)]
