"""The item trie for those who stay with transformers' `generate`: greedy, sampling or beams, always inside
the trie.

Example: names "red scarf", "red hat" and "blue cap" (a token per word). What each row may be given next:

    generated so far     where it is                                 next tokens
    (nothing)            at the root                                 blue, red
    red                  at an inner node                            hat, scarf
    blue                 at the leaf "blue", 0 tokens into its tail  cap
    blue cap             at that leaf, 1 token into its tail         the end token: the name is whole
    blue hat             outside the trie                            the end token

Legend: N rows of a batch (R prompts, each of them B beams or samples, side by side), G generated tokens,
V vocabulary.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessor, PreTrainedModel

from shelftalk.decoding.exclusions import Exclusions
from shelftalk.decoding.item_trie import Trie
from shelftalk.errors import IllegalMove, NothingLeft, SettingsError
from shelftalk.ragged import Ragged, offsets_of, vstack

OUTSIDE = -1
"""The node of a row that has left the trie."""
FILLER_SCORE = -1e8
"""transformers gives a beam that it had nothing for -1e9 or -inf; no name is so unlikely."""
TOKEN_BITS = 32
DENSE = 64
"""Where more than one in so many scores is kept, the others are masked; else the few are copied."""


class TrieLogitsProcessor(LogitsProcessor):  # type: ignore[misc]
    """Leaves to each row the tokens that go on with a name of `trie`, and after a whole name the
    token `end` alone.

    `prompt_length`: columns of `input_ids` before what is generated: the width of the padded prompts of a
    decoder-only model, 1 for an encoder-decoder (its start token). `exclusions`: what each prompt may not be
    given, or one row for all of them; rows of a batch are assigned evenly to its prompts, as `generate` does.

    A row that has left the trie, as transformers' beams of the score -inf do where there are fewer names than
    beams, is given `end` alone. Nothing is kept between calls: a row's node is computed from its tokens, one
    step down for all rows at once, by binary search.

    Raises NothingLeft where all names are excluded for a prompt, SettingsError where rows and prompts do not
    go together.
    """

    def __init__(
        self, trie: Trie, end: int, prompt_length: int, exclusions: Exclusions | None = None
    ) -> None:
        self.trie, self.end, self.prompt_length = trie, end, prompt_length
        self.exclusions = exclusions or Exclusions(trie, [[]])
        if (nothing := self.exclusions.num_allowed() == 0).any():
            raise NothingLeft(
                f"no name may be given to prompt {int(nothing.argmax())}; exclude fewer, or leave it out."
            )

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """[N, V]: the scores of the tokens that may follow `input_ids` [N, prompt_length + G], -inf for
        all others."""
        sets, set_index = self._allowed_sets(input_ids[:, self.prompt_length :].cpu().numpy())
        if sets.lengths[set_index].sum() * DENSE > scores.numel():
            return _masked(scores, sets, set_index)
        allowed = sets.take(set_index)
        row, token = (
            torch.from_numpy(array).to(scores.device) for array in (allowed.row_ids, allowed.values)
        )
        processed = torch.full_like(scores, -torch.inf)
        processed[row, token] = scores[row, token]
        return processed

    def allowed(self, generated: np.ndarray) -> Ragged:
        """[N] the tokens that may follow each row of `generated` [N, G]; never none."""
        sets, set_index = self._allowed_sets(generated)
        return sets.take(set_index)

    def _allowed_sets(self, generated: np.ndarray) -> tuple[Ragged, np.ndarray]:
        """Sets of tokens, and [N] which of them may follow each row of `generated`: one for all rows of one
        prompt at one node."""
        node, tail_position = self._walk(generated)
        rows = len(node)

        # At an inner node: the children below which an item is allowed, once per pair of prompt and node.
        inner = np.flatnonzero((node != OUTSIDE) & ~self._at_leaf(node))
        keys = self._requests(rows)[inner] * len(self.trie) + node[inner]
        pairs, pair = np.unique(keys, return_inverse=True)
        after_inner = self._allowed_children(*np.divmod(pairs, len(self.trie)))

        # Elsewhere, and where nothing is allowed: one token for each row.
        single = Ragged(self._next_or_end(node, tail_position), np.arange(rows + 1))
        set_index = len(after_inner) + np.arange(rows)
        set_index[inner] = np.where(after_inner.lengths[pair] > 0, pair, set_index[inner])
        return vstack([after_inner, single]), set_index

    def items(
        self, sequences: torch.Tensor, scores: torch.Tensor | None = None, length_penalty: float = 0.0
    ) -> np.ndarray:
        """[N] the item of each of `sequences` [N, prompt_length + G], what `generate` returned.

        `scores` [N], the `sequences_scores` of a beam search, made with `length_penalty`: a beam that
        transformers filled up for want of names is -1. Raises IllegalMove for any other sequence that is not
        a name, whole, or is excluded for its prompt.
        """
        generated = sequences[:, self.prompt_length :].cpu().numpy()
        node, tail_position = self._walk(generated)
        leaf = np.flatnonzero(self._at_leaf(node))
        tail_lengths = self.trie.tail_lengths(node[leaf])
        whole = leaf[tail_position[leaf] >= tail_lengths]
        items, length = np.full(len(node), -1), np.full(len(node), generated.shape[1])
        items[whole] = self.trie.items_at(node[whole])
        length[leaf] += tail_lengths - tail_position[leaf]  # tokens of the name, without padding
        excluded = self.exclusions.excludes(self._requests(len(node)), np.maximum(items, 0))
        filler = np.zeros(len(node), bool)
        if scores is not None:
            penalty = np.maximum(1, length).astype(float) ** length_penalty
            filler = scores.cpu().numpy() < FILLER_SCORE / penalty
        if (illegal := ((items < 0) | excluded) & ~filler).any():
            row = int(illegal.argmax())
            raise IllegalMove(
                f"sequence {row} is no name that may be given: {generated[row].tolist()}; pass `scores` of a "
                "beam search, and see that `generate` runs with this processor and the settings of "
                "`generation_config`."
            )
        return np.where(filler, -1, items)

    def _next_or_end(self, node: np.ndarray, tail_position: np.ndarray) -> np.ndarray:
        """[N] the next token of the tail where a row is inside one, else the end."""
        token = np.full(len(node), self.end)
        leaf = np.flatnonzero(self._at_leaf(node))
        tails = self.trie.tails(node[leaf])
        inside = tail_position[leaf] < tails.lengths
        token[leaf[inside]] = tails.values[(tails.offsets[:-1] + tail_position[leaf])[inside]]
        return token

    def _allowed_children(self, request: np.ndarray, node: np.ndarray) -> Ragged:
        """[N] the tokens to the children of each node below which the request beside it may be
        given an item."""
        origin, child = self.trie.children(node)
        allowed = self.exclusions.allows_below(request[origin], child)
        counts = np.bincount(origin[allowed], minlength=len(node))
        return Ragged(self.trie.tokens_to(child[allowed]), offsets_of(counts))

    def _at_leaf(self, node: np.ndarray) -> np.ndarray:
        """[N] bool."""
        result: np.ndarray = (node != OUTSIDE) & self.trie.is_leaf(
            np.where(node == OUTSIDE, self.trie.root, node)
        )
        return result

    def _requests(self, rows: int) -> np.ndarray:
        """[N] the prompt of each row."""
        requests = self.exclusions.requests
        if rows % requests:
            raise SettingsError(
                f"{rows} rows cannot be divided among the {requests} prompts of `exclusions`; make it for "
                "the prompts of this batch."
            )
        return np.arange(rows) // (rows // requests)

    def _walk(self, generated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[N] the deepest node of each row, OUTSIDE for one that has left the trie; and [N] how many tokens a
        row at a leaf has generated after it, more than its tail has where it has gone on after its name."""
        # Down the trie, one token per round, until all rows are at a leaf or outside.
        rows, steps = generated.shape
        node, depth = np.full(rows, self.trie.root), np.full(rows, steps)
        inner = np.arange(rows)
        for step in range(steps):
            node[inner] = self._child(node[inner], generated[inner, step])
            inner = inner[node[inner] != OUTSIDE]
            at_leaf = self.trie.is_leaf(node[inner])
            depth[inner[at_leaf]] = step + 1
            inner = inner[~at_leaf]
            if not len(inner):
                break

        # Along the tails: a row that has generated another token is outside.
        tail_position = steps - depth
        leaf = np.flatnonzero(self._at_leaf(node))
        tails = self.trie.tails(node[leaf])
        passed = tails.filter_values(tails.positions < np.repeat(tail_position[leaf], tails.lengths))
        row = leaf[passed.row_ids]
        node[row[generated[row, depth[row] + passed.positions] != passed.values]] = OUTSIDE
        return node, tail_position

    def _child(self, node: np.ndarray, token: np.ndarray) -> np.ndarray:
        """[N] the child that a token leads to, or OUTSIDE."""
        distinct, group = np.unique(node, return_inverse=True)
        origin, child = self.trie.children(distinct)
        keys = (origin << TOKEN_BITS) | self.trie.tokens_to(child)  # ascending: by node, then by token
        wanted = (group << TOKEN_BITS) | token
        index = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[index] == wanted, child[index], OUTSIDE)


def _masked(scores: torch.Tensor, sets: Ragged, set_index: np.ndarray) -> torch.Tensor:
    """[N, V] scores where many rows share many tokens, as at the root of a large trie: one mask for each set
    that is used."""
    used, mask_index = np.unique(set_index, return_inverse=True)
    allowed = sets.take(used)
    row, token, index = (
        torch.from_numpy(array).to(scores.device) for array in (allowed.row_ids, allowed.values, mask_index)
    )
    forbidden = torch.ones(len(used), scores.shape[1], dtype=torch.bool, device=scores.device)
    forbidden[row, token] = False
    return scores.masked_fill(forbidden[index], -torch.inf)


class _IsolatedConfig(GenerationConfig):  # type: ignore[misc]
    """Takes no default from a checkpoint. `generate` fills whatever a given config leaves unset from the
    model's own generation file, and many a setting (forced, suppressed and bad tokens, stop strings) can only
    be left unset."""

    def update(
        self, defaults_only: bool = False, allow_custom_entries: bool = False, **settings: Any
    ) -> dict[str, Any]:
        # `generate` passes the model's own settings in this way, and nothing else
        from_checkpoint = defaults_only and allow_custom_entries
        return {} if from_checkpoint else super().update(defaults_only, allow_custom_entries, **settings)


def generation_config(
    model: PreTrainedModel, trie: Trie, end: int, beams: int = 1, **settings: Any
) -> GenerationConfig:
    """A fresh configuration for `generate`, of which nothing is taken from the model's own generation file: a
    temperature, top_k or repetition penalty on top of a trie makes other items win (AkaliKong/MiniOneRec#49).

    Greedy, or a beam search of `beams` that returns all of them with `sequences_scores`, the sums of their
    log-probabilities (no length penalty, no heuristic end). `settings`: any field of GenerationConfig, such
    as do_sample=True or num_return_sequences=5.

    Raises SettingsError for less than one beam and for a field that GenerationConfig does not have.
    """
    if beams < 1:
        raise SettingsError(f"beams={beams} is no number of beams; give 1 (greedy) or more.")
    if unknown := settings.keys() - GenerationConfig().to_dict().keys():
        raise SettingsError(
            f'"{min(unknown)}" is no field of GenerationConfig; correct the name or leave it out.'
        )
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
    return _IsolatedConfig(**(fixed | settings))


def longest_name(trie: Trie) -> int:
    """Tokens of the longest name, its end included."""
    node = trie.leaves_of(np.arange(trie.items))
    lengths = trie.tail_lengths(node)
    while (below_root := trie.parents(node) >= 0).any():
        lengths = lengths + below_root
        node = np.where(below_root, trie.parents(node), node)
    return int(lengths.max())
