"""Untrusted text -> token ids, none of which means anything but text.

A tokenizer may find a control token in plain text even with split_special_tokens=True: T5's has "</s>" among
its pieces, others have "<tool_call>" as an ordinary added word. Searching the text for such words is not
enough, since a tokenizer normalises it first: full-width brackets (U+FF1C, U+FF1E) become "<" and ">", and
control characters vanish. So the ids that come out are checked, and a text with a forbidden id is split
inside that token and tokenised again, piece by piece.

Example, with a tokenizer that has "</s>" as a piece:

    "red </s> hat"           ->  red, </s>, hat: </s> is forbidden
    "red </" and "s> hat"    ->  red, <, / and s, >, hat: none is
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
"""Added words that free text may use: T5's tokenizer has no piece for a line break."""
TOKENISED_AT_ONCE = 10_000
"""Texts that are handed to the tokenizer in one call."""
_SENTINEL = re.compile(r"<extra_id_\d+>")
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_ALLOWED, _FORBIDDEN, _FORBIDDEN_WHERE_SPELLED = range(3)
"""Whether an id may come out of free text. The last: the unknown token and bytes, which stand for what a
tokenizer has no piece for, but not for a text that spells their name, such as "<unk>"."""


class FreeText:
    """Tokenises free text with a tokenizer. The vocabulary is read here: tokens added later are not checked.

    No text yields the id of a special token, of an added one (but TEXT_WORDS) or of a sentinel. The unknown
    token and the bytes that a tokenizer falls back to may come out, but a text that spells one of them
    ("<unk>", "<0x0A>") is split as well.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._kind = _kinds(tokenizer)
        fallbacks = [re.escape(str(tokenizer.unk_token))] if tokenizer.unk_token else []
        self._spelled = re.compile("|".join([*fallbacks, _BYTE.pattern]))

    def ids(self, text: str) -> list[int]:
        """The token ids of one text."""
        ids = self._encoded(text)
        return ids if self._is_allowed(text, np.array(ids, np.int64)) else self._joined(self.split(text))

    def batch(self, texts: Sequence[str]) -> Ragged:
        """[texts] int32: as `ids`, for many texts, which the tokenizer divides among the
        processor's cores."""
        values, lengths = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)]
        for start in range(0, len(texts), TOKENISED_AT_ONCE):
            batch = list(texts[start : start + TOKENISED_AT_ONCE])
            rows = self._tokenizer(
                batch, add_special_tokens=False, split_special_tokens=True, return_attention_mask=False
            )["input_ids"]
            for row in self._rows_to_check(rows):
                if not self._is_allowed(batch[row], np.array(rows[row], np.int64)):
                    rows[row] = self._joined(self.split(batch[row]))
            # arrays at once: lists of numbers take ten times the memory
            lengths.append(np.fromiter(map(len, rows), np.int64))
            values.append(np.fromiter(itertools.chain.from_iterable(rows), np.int32))
        return Ragged(np.concatenate(values), offsets_of(np.concatenate(lengths)))

    def split(self, text: str) -> list[str]:
        """The text in pieces that yield no forbidden id when each is tokenised on its own: cut in the middle
        of every forbidden token. A single character that is such a token is left out."""
        ids = np.array(self._encoded(text), np.int64)
        if self._is_allowed(text, ids):
            return [text]
        if len(text) == 1:
            return []
        middles = ((start + stop) // 2 for start, stop in self._forbidden_spans(text))
        cuts = sorted({min(max(1, middle), len(text) - 1) for middle in middles})
        pieces = (text[start:stop] for start, stop in itertools.pairwise([0, *cuts, len(text)]))
        return [part for piece in pieces for part in self.split(piece)]

    def _encoded(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))

    def _joined(self, pieces: Sequence[str]) -> list[int]:
        return [token for piece in pieces for token in self._encoded(piece)]

    def _rows_to_check(self, rows: Sequence[Sequence[int]]) -> list[int]:
        """The rows that hold an id which is not always allowed, ascending."""
        owner = np.repeat(np.arange(len(rows)), np.fromiter(map(len, rows), np.int64))
        values = np.fromiter(itertools.chain.from_iterable(rows), np.int64)
        result: list[int] = np.unique(owner[self._kind[values] != _ALLOWED]).tolist()
        return result

    def _is_allowed(self, text: str, ids: np.ndarray) -> bool:
        kinds = self._kind[ids]
        if (kinds == _FORBIDDEN).any():
            return False
        return not (kinds == _FORBIDDEN_WHERE_SPELLED).any() or not self._spells_a_fallback(text, ids)

    def _spells_a_fallback(self, text: str, ids: np.ndarray) -> bool:
        """Whether the text spells the name of the unknown token or of a byte, and was tokenised as such."""
        if not self._is_spelled_in(text):
            return False
        fallbacks = np.flatnonzero(self._kind[ids] == _FORBIDDEN_WHERE_SPELLED).tolist()
        offsets = self._offsets(text)
        return any(self._is_spelled_in(text[slice(*offsets[position])]) for position in fallbacks)

    def _forbidden_spans(self, text: str) -> list[tuple[int, int]]:
        """The characters, start : stop, of each token that is forbidden here."""
        spans = []
        for token, (start, stop) in zip(self._encoded(text), self._offsets(text), strict=True):
            kind = self._kind[token]
            spelled = kind == _FORBIDDEN_WHERE_SPELLED and self._is_spelled_in(text[start:stop])
            if kind == _FORBIDDEN or spelled:
                spans.append((start, stop))
        return spans

    def _offsets(self, text: str) -> list[tuple[int, int]]:
        """The characters of each token, start : stop; the whole text where the tokenizer has no offsets."""
        whole = (0, len(text))
        if not self._tokenizer.is_fast:
            return [whole] * len(self._encoded(text))
        encoding = self._tokenizer(
            text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
        )
        return [(start, stop) if start < stop else whole for start, stop in encoding["offset_mapping"]]

    def _is_spelled_in(self, text: str) -> bool:
        return self._spelled.search(self._normal(text)) is not None

    def _normal(self, text: str) -> str:
        """The text as the tokenizer's model gets it."""
        normalizer = self._tokenizer.backend_tokenizer.normalizer if self._tokenizer.is_fast else None
        return normalizer.normalize_str(text) if normalizer else text


def _kinds(tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """[V] the kind of every token id: _ALLOWED, _FORBIDDEN or _FORBIDDEN_WHERE_SPELLED."""
    added = tokenizer.added_tokens_decoder
    pieces = tokenizer.get_vocab() if _finds_any_piece(tokenizer) else {}
    highest = max(len(tokenizer) - 1, *added, *pieces.values(), *tokenizer.all_special_ids)
    kinds = np.full(highest + 1, _ALLOWED, np.int8)
    for piece, token in pieces.items():
        word = piece.lstrip("▁")
        if _BYTE.fullmatch(word):
            kinds[token] = _FORBIDDEN_WHERE_SPELLED
        elif word in tokenizer.all_special_tokens or _SENTINEL.fullmatch(word):
            kinds[token] = _FORBIDDEN
    # an added word of one character, as some tokenizers have them for rare letters, is text
    kinds[[token for token, word in added.items() if word.special or len(word.content) > 1]] = _FORBIDDEN
    kinds[tokenizer.all_special_ids] = _FORBIDDEN
    kinds[[token for token, word in added.items() if word.content in TEXT_WORDS]] = _ALLOWED
    if tokenizer.unk_token_id is not None and not _has_another_role(tokenizer):
        kinds[tokenizer.unk_token_id] = _FORBIDDEN_WHERE_SPELLED
    return kinds


def _finds_any_piece(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a text can yield every entry of the vocabulary, as in SentencePiece's unigram models; BPE
    yields only what its merges make."""
    return tokenizer.is_fast and isinstance(tokenizer.backend_tokenizer.model, models.Unigram)


def _has_another_role(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the unknown token is a control token too, as GPT-2's "<|endoftext|>" is."""
    roles = tokenizer.special_tokens_map
    return any(word == tokenizer.unk_token for role, word in roles.items() if role != "unk_token")
