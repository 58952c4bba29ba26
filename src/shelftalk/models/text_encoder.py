"""Text -> token ids, for a tokenizer alone: every backbone has one, and what needs no weights uses it by itself.

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

REMEMBERED = 200_000
"""Texts whose tokens are remembered; more would take memory without end on random spans."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """A sample as token ids: `ids` [T] int32 and `bears_loss` [T] bool.

    Several samples may stand in one, which a decoder-only backbone trains as if each stood alone: `starts`
    are the places of their first tokens, ascending from 0.
    """

    ids: np.ndarray
    bears_loss: np.ndarray
    starts: tuple[int, ...] = (0,)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def prompt_length(self) -> int:
        """Tokens before the first that bears loss."""
        return int(self.bears_loss.argmax()) if self.bears_loss.any() else len(self.ids)


class TextEncoder:
    """Segments of text and symbols as token ids. Free text never yields a symbol or a control token, whatever it holds.

    Symbols that the tokenizer learns after the first call are not known.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._known: dict[tuple[str, bool], list[int]] = {}

    @cached_property
    def symbol_ids(self) -> dict[str, int]:
        """Symbol -> token id, of every token that was added to the tokenizer."""
        return self.tokenizer.get_added_vocab()

    @cached_property
    def _free_text(self) -> FreeText:
        return FreeText(self.tokenizer)

    def _of_symbols(self, run: str) -> list[int]:
        return [self.symbol_ids[symbol] for symbol in split_symbols(run)]

    def encode(self, segments: Sequence[Segment]) -> Encoded:
        """Token ids of the segments, each tokenised on its own, so that an item has the same tokens wherever
        it stands.

        Free text never yields a symbol or control token, whatever it holds. Raises KeyError for a symbol that
        is not in the vocabulary.
        """
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
        """[I] the token ids (int32) of each name, as `encode` gives them, for a whole catalogue: free texts
        go to the tokenizer in batches, which it divides among the processor's cores."""
        pieces = dict.fromkeys((segment.text, segment.symbols) for name in names for segment in name)
        ordered = sorted(pieces, key=lambda piece: piece[1])  # free texts first
        free = [text for text, symbols in ordered if not symbols]
        symbols = ragged(self._of_symbols(text) for text, symbols in ordered if symbols)
        rows = vstack([self._free_text.batch(free), Ragged(symbols.values.astype(np.int32), symbols.offsets)])
        number = {piece: position for position, piece in enumerate(ordered)}
        positions = ragged([number[segment.text, segment.symbols] for segment in name] for name in names)
        tokens = rows.take(positions.values)
        return Ragged(tokens.values, tokens.merge_rows(positions.offsets).offsets)

    def tokens(self, text: str, symbols: bool) -> list[int]:
        """Token ids of one segment's text; remembered, since items and wordings recur."""
        known = self._known.get((text, symbols))
        if known is None:
            known = self._of_symbols(text) if symbols else self._free_text.ids(text)
            if len(self._known) < REMEMBERED:
                self._known[text, symbols] = known
        return known

    def knows(self, symbols: Sequence[str]) -> bool:
        """Whether each of the symbols is one token of the vocabulary."""
        return self.symbol_ids.keys() >= set(symbols)

    def show(self, encoded: Encoded) -> list[tuple[str, bool]]:
        """Each token as text, and whether it bears loss."""
        return [
            (self.tokenizer.decode([token]), bool(loss))
            for token, loss in zip(encoded.ids, encoded.bears_loss, strict=True)
        ]
