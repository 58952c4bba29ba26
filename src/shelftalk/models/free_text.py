"""Untrusted text -> token ids, none of which means anything but text.

A tokenizer may read a control token in plain text although it is told to split special tokens: T5's has
"</s>" among its pieces, others have "<tool_call>" as an ordinary added word. Searching the text for such
words is not enough, since a tokenizer normalises it first: full-width brackets (U+FF1C, U+FF1E) become "<"
and ">", and control characters vanish. So the ids that come out are looked at, and a text that has an id
which is not for text is cut inside that token and read again, part by part.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import numpy as np
from tokenizers import models
from transformers import PreTrainedTokenizerBase

from shelftalk.ragged import Ragged, offsets_of

TEXT_WORDS = ("\n",)
"""Added words that free text may use: the pieces of T5's tokenizer cannot say a line break."""
TOKENISED_AT_ONCE = 10_000
"""Texts that are handed to the tokenizer in one call."""
_SENTINEL = re.compile(r"<extra_id_\d+>")
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_TEXT, _NEVER, _UNLESS_SPELLED = range(3)


class FreeText:
    """Reads text with a tokenizer as it stands at the first text: tokens that are added later are not known
    to it.

    No text yields the id of a special token, of an added one (but TEXT_WORDS) or of a sentinel. The unknown
    token and the bytes that a tokenizer falls back to are what some texts honestly are; a text that spells
    one of them ("<unk>", "<0x0A>") is cut as well.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._kind = _kinds(tokenizer)
        fallbacks = [re.escape(str(tokenizer.unk_token))] if tokenizer.unk_token else []
        self._spelled = re.compile("|".join([*fallbacks, _BYTE.pattern]))

    def ids(self, text: str) -> list[int]:
        """The token ids of one text."""
        ids = self._encoded(text)
        return ids if self._is_text(text, np.array(ids, np.int64)) else self._concatenated(self.parts(text))

    def batch(self, texts: Sequence[str]) -> Ragged:
        """[texts] int32: as `ids`, for many texts, which the tokenizer divides among the processor's
        cores."""
        values, lengths = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)]
        for start in range(0, len(texts), TOKENISED_AT_ONCE):
            part = list(texts[start : start + TOKENISED_AT_ONCE])
            rows = self._tokenizer(
                part, add_special_tokens=False, split_special_tokens=True, return_attention_mask=False
            )["input_ids"]
            for row in self._suspects(rows):
                if not self._is_text(part[row], np.array(rows[row], np.int64)):
                    rows[row] = self._concatenated(self.parts(part[row]))
            lengths.append(np.fromiter(map(len, rows), np.int64))
            values.append(
                np.fromiter(itertools.chain.from_iterable(rows), np.int32)
            )  # lists of numbers would take ten times as much
        return Ragged(np.concatenate(values), offsets_of(np.concatenate(lengths)))

    def parts(self, text: str) -> list[str]:
        """The text in pieces that are nothing but text when each is read on its own: cut in the middle of
        every token that is not. A single character that is such a token is left out."""
        ids = np.array(self._encoded(text), np.int64)
        if self._is_text(text, ids):
            return [text]
        if len(text) == 1:
            return []
        middles = ((start + stop) // 2 for start, stop in self._spans(text))
        cuts = sorted({min(max(1, middle), len(text) - 1) for middle in middles})
        pieces = (text[start:stop] for start, stop in itertools.pairwise([0, *cuts, len(text)]))
        return [part for piece in pieces for part in self.parts(piece)]

    def _encoded(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))

    def _concatenated(self, parts: Sequence[str]) -> list[int]:
        return [token for part in parts for token in self._encoded(part)]

    def _suspects(self, rows: Sequence[Sequence[int]]) -> list[int]:
        """The rows that hold an id which is not always text, ascending."""
        owner = np.repeat(np.arange(len(rows)), np.fromiter(map(len, rows), np.int64))
        values = np.fromiter(itertools.chain.from_iterable(rows), np.int64)
        return np.unique(owner[self._kind[values] != _TEXT]).tolist()

    def _is_text(self, text: str, ids: np.ndarray) -> bool:
        kinds = self._kind[ids]
        if (kinds == _NEVER).any():
            return False
        return not (kinds == _UNLESS_SPELLED).any() or not self._spells_a_fallback(text, ids)

    def _spells_a_fallback(self, text: str, ids: np.ndarray) -> bool:
        """Whether the unknown token or a byte stands in the text by name, and was read as such."""
        if not self._spelled.search(self._normal(text)):
            return False
        fallbacks = np.flatnonzero(self._kind[ids] == _UNLESS_SPELLED).tolist()
        offsets = self._offsets(text)
        return any(
            self._spelled.search(self._normal(text[slice(*offsets[position])])) for position in fallbacks
        )

    def _spans(self, text: str) -> list[tuple[int, int]]:
        """Where the tokens stand that are not text."""
        found = []
        for token, (start, stop) in zip(self._encoded(text), self._offsets(text), strict=True):
            kind = self._kind[token]
            if kind == _NEVER or (
                kind == _UNLESS_SPELLED and self._spelled.search(self._normal(text[start:stop]))
            ):
                found.append((start, stop))
        return found

    def _offsets(self, text: str) -> list[tuple[int, int]]:
        """The characters of each token, from : to; all of them where the tokenizer does not say."""
        whole = (0, len(text))
        if not self._tokenizer.is_fast:
            return [whole] * len(self._encoded(text))
        read = self._tokenizer(
            text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
        )
        return [(start, stop) if start < stop else whole for start, stop in read["offset_mapping"]]

    def _normal(self, text: str) -> str:
        """The text as the tokenizer's model sees it."""
        normalizer = self._tokenizer.backend_tokenizer.normalizer if self._tokenizer.is_fast else None
        return normalizer.normalize_str(text) if normalizer else text


def _kinds(tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """[V] for every token id: may it come out of a text always, never, or unless the text spells it."""
    added = tokenizer.added_tokens_decoder
    pieces = tokenizer.get_vocab() if _reads_by_piece(tokenizer) else {}
    kinds = np.full(
        1 + max(len(tokenizer) - 1, *added, *pieces.values(), *tokenizer.all_special_ids), _TEXT, np.int8
    )
    for piece, token in pieces.items():
        word = piece.lstrip("▁")
        if _BYTE.fullmatch(word):
            kinds[token] = _UNLESS_SPELLED
        elif word in tokenizer.all_special_tokens or _SENTINEL.fullmatch(word):
            kinds[token] = _NEVER
    # an added word of one character, as some tokenizers have them for rare letters, is text
    kinds[[token for token, word in added.items() if word.special or len(word.content) > 1]] = _NEVER
    kinds[tokenizer.all_special_ids] = _NEVER
    kinds[[token for token, word in added.items() if word.content in TEXT_WORDS]] = _TEXT
    if tokenizer.unk_token_id is not None and not _has_another_role(tokenizer):
        kinds[tokenizer.unk_token_id] = _UNLESS_SPELLED
    return kinds


def _reads_by_piece(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether any entry of the vocabulary can be read in a text, as in SentencePiece's unigram models; merges
    reach only theirs."""
    return tokenizer.is_fast and isinstance(tokenizer.backend_tokenizer.model, models.Unigram)


def _has_another_role(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the unknown token is a control token too, as GPT-2's "<|endoftext|>" is."""
    roles = tokenizer.special_tokens_map
    return any(word == tokenizer.unk_token for role, word in roles.items() if role != "unk_token")
