"""The item trie for those who stay with transformers' `generate`: greedy, sampling or beams, always inside the trie.

Legend: N rows of a batch (R prompts, each of them B beams or samples, side by side), G generated tokens, V vocabulary, C tokens that
may follow, of all rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessor, PreTrainedModel

from shelftalk.decoding.hiding import Hidden
from shelftalk.decoding.item_trie import Trie
from shelftalk.errors import IllegalMove, NothingLeft, SettingsError
from shelftalk.tasks.ragged import Ragged, bounds_of, stacked

LEFT = -1
"""The node of a row that has left the trie."""
FILLED_UP = -1e8
"""transformers gives a beam that it had nothing for -1e9 or -inf; no name is so unlikely."""
TOKEN_BITS = 32
DENSE = 64
"""Where more than one in so many scores is left, rows are masked and not picked."""


class TrieLogitsProcessor(LogitsProcessor):
    """Leaves to each row the tokens that go on with a name of `trie`, and behind a whole name the token `end` alone.

    `prompt_length`: columns of `input_ids` in front of what is generated: the width of the padded prompts of a decoder-only model, 1
    for an encoder-decoder (its start token). `hidden`: what each prompt may not be given, or one row for all of them; rows of a batch
    are dealt evenly to its prompts, as `generate` does.

    A row that has left the trie, as transformers' beams of the score -inf do where there are fewer names than beams, is given `end`
    alone. Nothing is kept between calls: a row's place is found from its tokens, one step down for all rows at once, by binary search.

    Raises NothingLeft where all names are hidden from a prompt, SettingsError where rows and prompts do not go together.
    """

    def __init__(self, trie: Trie, end: int, prompt_length: int, hidden: Hidden | None = None) -> None:
        self.trie, self.end, self.prompt_length = trie, end, prompt_length
        self.hidden = hidden or Hidden(trie, [[]])
        if (nothing := self.hidden.left() == 0).any():
            raise NothingLeft(f"no name may be given to prompt {int(nothing.argmax())}; hide fewer from it, or leave it out.")

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """[N, V]: the scores of the tokens that may follow `input_ids` [N, prompt_length + G], -inf for all others."""
        choices, chosen = self._choices(input_ids[:, self.prompt_length :].cpu().numpy())
        if choices.lengths[chosen].sum() * DENSE > scores.numel():
            return _masked_alike(scores, choices, chosen)
        rows = choices.take(chosen)
        row, token = (torch.from_numpy(places).to(scores.device) for places in (rows.owner, rows.values))
        masked = torch.full_like(scores, -torch.inf)
        masked[row, token] = scores[row, token]
        return masked

    def allowed(self, generated: np.ndarray) -> Ragged:
        """[N] the tokens that may follow each row of `generated` [N, G]; never none."""
        choices, chosen = self._choices(generated)
        return choices.take(chosen)

    def _choices(self, generated: np.ndarray) -> tuple[Ragged, np.ndarray]:
        """Rows of tokens, and [N] which of them each row of `generated` is given: one for all that stand alike."""
        node, said = self._walk(generated)
        single = Ragged(self._next_or_end(node, said), np.arange(len(node) + 1))
        inner = np.flatnonzero((node != LEFT) & ~self._at_leaf(node))
        pairs, pair = np.unique(self._requests(len(node))[inner] * len(self.trie) + node[inner], return_inverse=True)
        follows = self._open_tokens(*np.divmod(pairs, len(self.trie)))
        chosen = len(follows) + np.arange(len(node))
        chosen[inner] = np.where(follows.lengths[pair] > 0, pair, chosen[inner])
        return stacked([follows, single]), chosen

    def items(self, sequences: torch.Tensor, scores: torch.Tensor | None = None, length_penalty: float = 0.0) -> np.ndarray:
        """[N] the item of each of `sequences` [N, prompt_length + G], what `generate` returned.

        `scores` [N], the `sequences_scores` of a beam search, made with `length_penalty`: a beam that transformers filled up for want of
        names is -1. Raises IllegalMove for any other sequence that is not a name, whole, or is hidden from its prompt.
        """
        generated = sequences[:, self.prompt_length :].cpu().numpy()
        node, said = self._walk(generated)
        leaf = np.flatnonzero(self._at_leaf(node))
        tails = self.trie.tails(node[leaf])
        whole = leaf[said[leaf] >= tails.lengths]
        items, length = np.full(len(node), -1), np.full(len(node), generated.shape[1])
        items[whole] = self.trie.items_at(node[whole])
        length[leaf] += tails.lengths - said[leaf]
        hidden = self.hidden.of(self._requests(len(node)), np.maximum(items, 0))
        filled = np.zeros(len(node), bool)
        if scores is not None:
            filled = scores.cpu().numpy() < FILLED_UP / np.maximum(1, length).astype(float) ** length_penalty
        if (strange := ((items < 0) | hidden) & ~filled).any():
            row = int(strange.argmax())
            raise IllegalMove(
                f"sequence {row} is no name that may be given: {generated[row].tolist()}; pass `scores` of a beam search, and see that "
                "`generate` runs with this processor and the settings of `generation_config`."
            )
        return np.where(filled, -1, items)

    def _next_or_end(self, node: np.ndarray, said: np.ndarray) -> np.ndarray:
        """[N] the next token of the tail where a row stands in one, else the end."""
        token = np.full(len(node), self.end)
        leaf = np.flatnonzero(self._at_leaf(node))
        tails = self.trie.tails(node[leaf])
        more = said[leaf] < tails.lengths
        token[leaf[more]] = tails.values[(tails.bounds[:-1] + said[leaf])[more]]
        return token

    def _open_tokens(self, request: np.ndarray, node: np.ndarray) -> Ragged:
        """The tokens to the children of each node that are open to the request beside it."""
        origin, child = self.trie.children(node)
        live = self.hidden.open(request[origin], child)
        return Ragged(self.trie.tokens_to(child[live]), bounds_of(np.bincount(origin[live], minlength=len(node))))

    def _at_leaf(self, node: np.ndarray) -> np.ndarray:
        """[N] bool."""
        return (node != LEFT) & self.trie.is_leaf(np.where(node == LEFT, self.trie.root, node))

    def _requests(self, rows: int) -> np.ndarray:
        """[N] the prompt of each row."""
        if rows % self.hidden.requests:
            raise SettingsError(
                f"{rows} rows cannot be dealt to the {self.hidden.requests} prompts of `hidden`; make it for the prompts of this batch."
            )
        return np.arange(rows) // (rows // self.hidden.requests)

    def _walk(self, generated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[N] the deepest node of each row, LEFT for one that has left the trie; and [N] how much of the tail a row at a leaf has said,
        more than there is where it has gone on behind its name."""
        rows, steps = generated.shape
        node, depth = np.full(rows, self.trie.root), np.full(rows, steps)
        inner = np.arange(rows)
        for step in range(steps):
            node[inner] = self._child(node[inner], generated[inner, step])
            inner = inner[node[inner] != LEFT]
            ends = self.trie.is_leaf(node[inner])
            depth[inner[ends]] = step + 1
            inner = inner[~ends]
            if not len(inner):
                break
        said = steps - depth
        leaf = np.flatnonzero(self._at_leaf(node))
        tails = self.trie.tails(node[leaf])
        seen = tails.kept(tails.place < np.repeat(said[leaf], tails.lengths))
        row = leaf[seen.owner]
        node[row[generated[row, depth[row] + seen.place] != seen.values]] = LEFT
        return node, said

    def _child(self, node: np.ndarray, token: np.ndarray) -> np.ndarray:
        """[N] the child that a token leads to, or LEFT."""
        at, group = np.unique(node, return_inverse=True)
        origin, child = self.trie.children(at)
        keys = (origin << TOKEN_BITS) | self.trie.tokens_to(child)  # ascending: by node, then by token
        wanted = (group << TOKEN_BITS) | token
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[place] == wanted, child[place], LEFT)


def _masked_alike(scores: torch.Tensor, choices: Ragged, chosen: np.ndarray) -> torch.Tensor:
    """[N, V] where many rows share many tokens, as at the root of a large trie: one mask for all that stand alike."""
    used, place = np.unique(chosen, return_inverse=True)
    rows = choices.take(used)
    row, token, alike = (torch.from_numpy(places).to(scores.device) for places in (rows.owner, rows.values, place))
    closed = torch.ones(len(used), scores.shape[1], dtype=torch.bool, device=scores.device)
    closed[row, token] = False
    return scores.masked_fill(closed[alike], -torch.inf)


class _Own(GenerationConfig):
    """Takes no default from a checkpoint. `generate` fills whatever a given config leaves open from the model's own generation file,
    and many a setting (forced, suppressed and bad tokens, stop strings) can only be left open."""

    def update(self, defaults_only: bool = False, allow_custom_entries: bool = False, **settings: Any) -> dict[str, Any]:
        theirs = defaults_only and allow_custom_entries  # how `generate` brings the model's own settings, and those alone
        return {} if theirs else super().update(defaults_only, allow_custom_entries, **settings)


def generation_config(model: PreTrainedModel, trie: Trie, end: int, beams: int = 1, **settings: Any) -> GenerationConfig:
    """A fresh configuration for `generate`, of which nothing is taken from the model's own generation file: a temperature, top_k or
    repetition penalty on top of a trie makes other items win (AkaliKong/MiniOneRec#49).

    Greedy, or a beam search of `beams` that returns all of them with `sequences_scores`, the sums of their log-probabilities (no
    length penalty, no heuristic end). `settings`: any field of GenerationConfig, such as do_sample=True or num_return_sequences=5.

    Raises SettingsError for less than one beam and for a field that GenerationConfig does not have.
    """
    if beams < 1:
        raise SettingsError(f"beams={beams} is no number of beams; give 1 (greedy) or more.")
    if strange := settings.keys() - GenerationConfig().to_dict().keys():
        raise SettingsError(f'"{min(strange)}" is no field of GenerationConfig; mend the name or leave it out.')
    fixed: dict[str, Any] = {
        "max_new_tokens": longest_name(trie),
        "do_sample": False,
        "eos_token_id": end,
        "pad_token_id": end,
        "decoder_start_token_id": getattr(model.config, "decoder_start_token_id", None),
        "return_dict_in_generate": True,
    }
    if beams > 1:
        fixed |= {
            "num_beams": beams,
            "num_return_sequences": beams,
            "length_penalty": 0.0,
            "early_stopping": "never",
            "output_scores": True,
        }
    if settings.get("do_sample"):
        fixed["top_k"] = 0  # transformers' own default would leave fifty
    return _Own(**(fixed | settings))


def longest_name(trie: Trie) -> int:
    """Tokens of the longest name, its end included."""
    leaf = trie.leaves_of(np.arange(trie.items))
    lengths, node = trie.tails(leaf).lengths, leaf
    while (below := trie.parents(node) >= 0).any():
        lengths = lengths + below
        node = np.where(below, trie.parents(node), node)
    return int(lengths.max())
