"""Any transformers model over a list of strings: the likeliest of them after a prompt, and the
log-probability of each.

The model and the tokenizer stay as they are: nothing is added to them, and the model's own generation
settings are not read.

Legend: R prompts, S strings that are in the list now, N numbers (every string that ever was in the list keeps
its own). Scores are log-probabilities in nats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, get_args

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from shelftalk.decoding.any_model import check_agreement, encoded, eval_mode, wrapped
from shelftalk.decoding.beam_search import beam_search
from shelftalk.decoding.catalogue_scores import score_catalogue
from shelftalk.decoding.exact_search import exact_top
from shelftalk.decoding.exclusions import Exclusions
from shelftalk.decoding.item_trie import ItemTrie, Trie, build_trie
from shelftalk.decoding.live_trie import LiveTrie
from shelftalk.decoding.scoring import candidate_table, score_items
from shelftalk.decoding.settings import Finish
from shelftalk.decoding.top_items import TopItems
from shelftalk.errors import BadValue, DuplicateName, SettingsError, UnknownItem
from shelftalk.models.text_encoder import Encoded, TextEncoder
from shelftalk.models.token_tree import Prefilled
from shelftalk.ragged import Ragged, hstack, ragged
from shelftalk.records import Segment

Prompt = str | Sequence[int]
Scored = list[tuple[str, float]]


class ConstrainedDecoder:
    """What a language model would generate if it could generate only one of `strings`.

    `model`: a transformers model, decoder-only with full attention or of the T5 family, on the device and in
    the precision that it is in. `tokenizer`: its own. `strings`: what may be generated, each once.

    A string is tokenised on its own, with `prefix` before it (" " where it continues the prompt's last line,
    so that "hat" has the tokens that " hat" has within a text), and never yields a special token, whatever it
    holds. It ends in the token `end`, the tokenizer's end token by default: so one string may begin another,
    and scores include that the string ends there.

    A prompt is a text, tokenised as the tokenizer does by default, or a list of token ids (of a chat
    template, say). An empty one is the tokenizer's begin token. Prompts of similar length share a batch of
    `batch_size`; `on_batch` is called with (done, all) prompts.

    Raises SettingsError for a model that is not supported, BadValue for a list without strings or a string
    without tokens, DuplicateName for two strings of the same tokens. `top`, `rank` and `log_probs` raise
    BadValue for a prompt that is too long for the model's positions.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        strings: Sequence[str],
        *,
        prefix: str = "",
        end: int | None = None,
        batch_size: int = 16,
        on_batch: Callable[[int, int], None] | None = None,
    ) -> None:
        if batch_size < 1:
            raise SettingsError("a batch holds at least one prompt; give batch_size=1 or more.")
        self.prefix, self.end = prefix, _end(tokenizer, end)
        self.batch_size, self.on_batch = batch_size, on_batch
        trie = string_trie(tokenizer, strings, prefix, self.end)
        self.trie: Trie = trie
        self._texts = list(strings)
        self._number = {text: number for number, text in enumerate(self._texts)}
        # [N] tokens of each string and its end
        self._lengths = trie.names(np.arange(len(self._texts))).lengths
        self._backbone = wrapped(model, tokenizer, self.end)
        check_agreement(self._backbone, trie.names(np.array([0]))[0])

    @property
    def strings(self) -> list[str]:
        """The S strings that may be generated now, in the order in which they came."""
        return [self._texts[number] for number in self._live]

    def add(self, strings: Sequence[str]) -> None:
        """More strings, after those there are; one that was removed has its old number again. What was built
        is kept: it costs what is new. Raises as the constructor does."""
        _check_list(strings)
        removed = set(self.trie.removed.tolist())
        restored = [self._number[text] for text in strings if self._number.get(text) in removed]
        new = [text for text in strings if self._number.get(text) not in removed]
        _check_texts(new, self._number)
        trie = self._live_trie().with_restored(restored)
        if new:
            rows = _names(self._backbone.tokenizer, new, self.prefix, self.end)
            try:
                trie = trie.with_names([rows[row].tolist() for row in range(len(rows))])
            except DuplicateName:
                texts = [*self._texts, *new]
                raise _same_tokens(self._backbone.tokenizer, texts, self.prefix, self.end) from None
            self._lengths = np.concatenate([self._lengths, rows.lengths])
        self._number |= {text: number for number, text in enumerate(new, len(self._texts))}
        self._texts += new
        self.trie = trie

    def remove(self, strings: Sequence[str]) -> None:
        """Fewer strings. Raises UnknownItem for one that is not in the list."""
        self.trie = self._live_trie().without(self._numbers(strings, live=True))

    def top(
        self,
        prompts: Sequence[Prompt],
        k: int = 10,
        *,
        search: Literal["beam", "exact"] = "beam",
        beams: int = 40,
        length_penalty: float = 0.0,
        finish: Finish = "replay",
        exact_limit: int = 0,
        excluded: Sequence[Sequence[str]] | None = None,
        allowed: Sequence[str] | np.ndarray | None = None,
    ) -> list[Scored]:
        """For each prompt the k best strings and their log-probabilities, best first; fewer only where fewer
        are allowed.

        `search`: "beam" keeps the best `beams` prefixes (k, where k is more) and may miss a string; "exact"
        finds the k likeliest of all, whatever it costs, or raises SettingsError where it would decode more
        than `exact_limit` tokens after a prompt (0: no limit). `length_penalty` a, of a beam search alone:
        order and score by log-probability / (tokens of the string and its end) ** a. `finish`: see
        `beam_search`. `excluded`: strings that each prompt may not be given. `allowed`: the only strings that
        may be given, or a mask over `strings`, [S] bool for all prompts or [R, S] for each. Both are kept
        inside the search, so k strings come back if k are allowed. Raises UnknownItem for a string that never
        was in the list.
        """
        _check_search(k, search, beams, length_penalty, finish, exact_limit)
        masks, excluded_numbers = self._masks(allowed, len(prompts)), self._excluded(excluded, len(prompts))
        results: list[Scored] = [[] for _ in prompts]
        with eval_mode(self._backbone.model):
            for batch, prefilled in self._batches(prompts):
                exclusions = _exclusions(self.trie, excluded_numbers, masks, batch)
                if search == "exact":
                    top = _proven_top(prefilled, self.trie, exclusions, k, exact_limit)
                else:
                    top = beam_search(prefilled, self.trie, exclusions, max(k, beams), length_penalty, finish)
                for prompt, items, scores in zip(batch.tolist(), top.items[:, :k], top.scores, strict=True):
                    results[prompt] = self._scored(items, scores)
        return results

    def rank(self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]]) -> list[Scored]:
        """For each prompt its own candidates, strings of the list, and their exact log-probabilities,
        best first."""
        if len(candidates) != len(prompts):
            raise BadValue(
                f"{len(prompts)} prompts have {len(candidates)} lists of candidates; give one list per "
                "prompt."
            )
        rows = [self._numbers(row, live=True) for row in candidates]
        results: list[Scored] = [[] for _ in prompts]
        with eval_mode(self._backbone.model):
            for batch, prefilled in self._batches(prompts):
                table = candidate_table([rows[prompt] for prompt in batch])
                log_probs = score_items(prefilled, self.trie, table)
                for prompt, items, scores in zip(batch.tolist(), table, log_probs, strict=True):
                    order = np.argsort(-scores, kind="stable")
                    results[prompt] = self._scored(items[order], scores[order])
        return results

    def log_probs(self, prompts: Sequence[Prompt], strings: Sequence[str] | None = None) -> np.ndarray:
        """[R, S] float64: the exact log-probability of each of `strings`, by default of all `strings` of the
        list, whose shared prefixes are decoded once after each prompt."""
        numbers = self._live if strings is None else np.array(self._numbers(strings, live=True), np.int64)
        scores = np.zeros((len(prompts), len(numbers)))
        with eval_mode(self._backbone.model):
            for batch, prefilled in self._batches(prompts):
                if strings is None:
                    scores[batch] = score_catalogue(prefilled, self.trie)[:, numbers]
                else:
                    scores[batch] = score_items(prefilled, self.trie, np.tile(numbers, (len(batch), 1)))
        return scores

    # --- texts and numbers -------------------------------------------------------------------------------

    @property
    def _live(self) -> np.ndarray:
        """[S] the numbers of `strings`."""
        return np.setdiff1d(np.arange(len(self._texts)), self.trie.removed)

    def _live_trie(self) -> LiveTrie:
        return self.trie if isinstance(self.trie, LiveTrie) else LiveTrie(self.trie)  # type: ignore[arg-type]

    def _numbers(self, strings: Sequence[str], live: bool) -> list[int]:
        _check_list(strings)
        removed = set(self.trie.removed.tolist()) if live else set()
        for text in strings:
            if text not in self._number or self._number[text] in removed:
                raise UnknownItem(
                    f'"{_short(text)}" is not among the strings of this decoder; add it first or leave it '
                    "out."
                )
        return [self._number[text] for text in strings]

    def _scored(self, items: np.ndarray, scores: np.ndarray) -> Scored:
        return [
            (self._texts[item], score)
            for item, score in zip(items.tolist(), scores.tolist(), strict=False)
            if item >= 0
        ]

    def _excluded(self, excluded: Sequence[Sequence[str]] | None, prompts: int) -> list[list[int]]:
        if excluded is None:
            return [[] for _ in range(prompts)]
        if len(excluded) != prompts or any(isinstance(row, str) for row in excluded):
            raise BadValue(
                "`excluded` must hold one list of strings per prompt; give an empty list to a prompt that "
                "excludes none."
            )
        return [self._numbers(row, live=False) for row in excluded]

    def _masks(self, allowed: Sequence[str] | np.ndarray | None, prompts: int) -> np.ndarray | None:
        """[1, N] bool for all prompts alike, or [R, N]."""
        if allowed is None:
            return None
        live = self._live
        if not isinstance(allowed, np.ndarray):
            texts = all(isinstance(text, str) for text in allowed)
            allowed = np.isin(live, self._numbers(allowed, live=False)) if texts else np.array(allowed)
        if allowed.dtype != bool or allowed.shape not in ((len(live),), (prompts, len(live))):
            raise BadValue(
                f"`allowed` must be strings or a bool mask of the shape [{len(live)}] or [{prompts}, "
                f"{len(live)}]."
            )
        masks = np.zeros((len(np.atleast_2d(allowed)), len(self._texts)), bool)
        masks[:, live] = allowed
        return masks

    # --- prompts -----------------------------------------------------------------------------------------

    def _encoded(self, prompts: Sequence[Prompt]) -> list[Encoded]:
        if isinstance(prompts, str):
            raise BadValue("one prompt was given in place of a list of prompts; put it in a list.")
        _check_prompts(prompts, self._backbone.model.get_input_embeddings().weight.shape[0])
        texts = [prompt for prompt in prompts if isinstance(prompt, str)]
        ids = iter(self._backbone.tokenizer(texts, return_attention_mask=False)["input_ids"] if texts else [])
        rows = [list(next(ids)) if isinstance(prompt, str) else list(prompt) for prompt in prompts]
        rows = [self._as_prompt(row) for row in rows]
        self._check_length(max(map(len, rows), default=0))
        return [encoded(row) for row in rows]

    def _check_length(self, prompt: int) -> None:
        """Raises BadValue where a prompt of so many tokens and the longest string are more than the model has
        positions for."""
        positions = self._backbone.positions
        if positions is None:
            return
        string = int(self._lengths[self._live].max(initial=1)) - 1  # the end token is not read
        if prompt + string > positions:
            raise BadValue(
                f"a prompt has {prompt} tokens and the longest string {string}, and this model has positions "
                f"for {positions}; shorten the prompt to {max(0, positions - string)} tokens, leave long "
                "strings out, or choose a model with more positions."
            )

    def _as_prompt(self, ids: list[int]) -> list[int]:
        """The prompt as the backbone takes it: T5's without its end token, which the backbone adds itself; no
        other one empty."""
        tokenizer = self._backbone.tokenizer
        if self._backbone.declaration.encoder:
            return ids[:-1] if ids and ids[-1] == tokenizer.eos_token_id else ids
        if not ids and tokenizer.bos_token_id is None:
            raise BadValue(
                "an empty prompt leaves this model nothing to read, since its tokenizer has no begin token; "
                "write something in it."
            )
        return ids or [tokenizer.bos_token_id]

    def _batches(self, prompts: Sequence[Prompt]) -> Iterator[tuple[np.ndarray, Prefilled]]:
        """Indices of the prompts of each batch, and these prefilled: prompts of similar length together, so
        that little is padding."""
        ids = self._encoded(prompts)
        order = np.argsort([-len(row) for row in ids], kind="stable")
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            yield batch, self._backbone.prefill([ids[prompt] for prompt in batch])
            if self.on_batch:
                self.on_batch(start + len(batch), len(prompts))


def string_trie(
    tokenizer: PreTrainedTokenizerBase, strings: Sequence[str], prefix: str = "", end: int | None = None
) -> ItemTrie:
    """The trie of strings, tokenised as ConstrainedDecoder says; string i is item i. It needs no model.

    Raises SettingsError without an end token, BadValue for a list without strings, a string without tokens or
    one that holds the end token, DuplicateName for two strings of the same tokens.
    """
    if not len(strings):
        raise BadValue("there is nothing to generate from an empty list of strings; give at least one.")
    _check_texts(strings, {})
    end = _end(tokenizer, end)
    try:
        return build_trie(_names(tokenizer, strings, prefix, end))
    except DuplicateName:
        raise _same_tokens(tokenizer, strings, prefix, end) from None


def _names(tokenizer: PreTrainedTokenizerBase, strings: Sequence[str], prefix: str, end: int) -> Ragged:
    """[S] the tokens of each string, then the end token."""
    rows = TextEncoder(tokenizer).encode_names([[Segment(prefix + text)] for text in strings])
    if not rows.lengths.all():
        text = strings[int(rows.lengths.argmin())]
        raise BadValue(f'"{_short(text)}" has no token in this tokenizer; leave it out.')
    if (rows.values == end).any():
        text = strings[int(rows.row_ids[(rows.values == end).argmax()])]
        raise BadValue(f'"{_short(text)}" holds the end token {end}; choose another `end`, or leave it out.')
    return hstack([rows, ragged([[end]] * len(rows))])


def _check_texts(strings: Sequence[str], known: dict[str, int]) -> None:
    """Raises BadValue or DuplicateName for an empty string or one that comes twice."""
    _check_list(strings)
    seen: set[str] = set()
    for text in strings:
        if not isinstance(text, str):
            raise BadValue(f"{text!r} is among the strings and is no text; give texts alone.")
        if not text:
            raise BadValue(
                "an empty string is among the strings, and it has no token to generate; leave it out."
            )
        if text in seen or text in known:
            raise DuplicateName(f'"{_short(text)}" is among the strings twice; give each once.')
        seen.add(text)


def _check_prompts(prompts: Sequence[Prompt], vocabulary: int) -> None:
    """Raises BadValue for what is neither text nor token ids of the model."""
    for prompt in prompts:
        if isinstance(prompt, int | np.integer):
            raise BadValue(
                "the token ids of one prompt were given in place of a list of prompts; put them in a list."
            )
        if not hasattr(prompt, "__len__"):
            raise BadValue(f"{prompt!r} is no prompt; give a text or a list of token ids.")
        if not isinstance(prompt, str) and len(prompt) and not 0 <= min(prompt) <= max(prompt) < vocabulary:
            raise BadValue(
                f"a prompt holds a token id that this model does not have (0 to {vocabulary - 1}); use its "
                "own tokenizer."
            )


def _check_list(strings: Sequence[str]) -> None:
    """Raises BadValue for a text in place of a list, which would be a list of its letters."""
    if isinstance(strings, str):
        raise BadValue("one string was given in place of a list of strings; put it in a list.")


def _same_tokens(
    tokenizer: PreTrainedTokenizerBase, strings: Sequence[str], prefix: str, end: int
) -> DuplicateName:
    """The error that names two strings which the tokenizer cannot tell apart."""
    rows, seen = _names(tokenizer, strings, prefix, end), dict[bytes, str]()
    for number, text in enumerate(strings):
        other = seen.setdefault(rows[number].tobytes(), text)
        if other != text:
            return DuplicateName(
                f'"{_short(other)}" and "{_short(text)}" are the same tokens to this tokenizer; change one '
                "of them, or leave it out."
            )
    raise AssertionError("names that end in one token begin each other only where they are equal")


def _end(tokenizer: PreTrainedTokenizerBase, end: int | None) -> int:
    token = tokenizer.eos_token_id if end is None else end
    if token is None:
        raise SettingsError(
            "the tokenizer names no end token; give `end`, the id of a token that closes a string."
        )
    return int(token)


# --- searching -------------------------------------------------------------------------------------------


def _check_search(
    k: int, search: str, beams: int, length_penalty: float, finish: str, exact_limit: int
) -> None:
    if search not in ("beam", "exact"):
        raise SettingsError(f'search="{search}" is not known; choose "beam" or "exact".')
    if finish not in get_args(Finish):
        raise SettingsError(f'finish="{finish}" is not known; choose "replay" or "retire".')
    if k < 1 or beams < 1 or length_penalty < 0 or exact_limit < 0:
        raise SettingsError(
            "k and beams must be at least 1, length_penalty and exact_limit not negative; change what is not."
        )
    if search == "exact" and length_penalty:
        raise SettingsError(
            'an exact search is by log-probability alone; leave length_penalty at 0 or choose search="beam".'
        )


def _exclusions(
    trie: Trie, excluded: Sequence[Sequence[int]], masks: np.ndarray | None, batch: np.ndarray
) -> Exclusions:
    """Those of the prompts `batch`; masks [1, N] are for all prompts, [R, N] one for each."""
    rows = [excluded[prompt] for prompt in batch]
    if masks is None:
        return Exclusions(trie, rows)
    if len(masks) == 1:
        return Exclusions(trie, rows, masks, np.zeros(len(rows), np.int64))
    return Exclusions(trie, rows, masks[batch], np.arange(len(rows)))


def _proven_top(prefilled: Prefilled, trie: Trie, exclusions: Exclusions, k: int, limit: int) -> TopItems:
    top = exact_top(prefilled, trie, exclusions, k, limit=limit)
    if not top.proven.all():
        raise SettingsError(
            f"the exact search decoded {limit} tokens after {int((~top.proven).sum())} of {len(top.proven)} "
            'prompts without coming to an end; raise exact_limit or choose search="beam".'
        )
    return top


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
