"""THE BORDER: plain text above, tensors below. No other package calls a tokenizer or handles ids, start
tokens and padding. Here is the model; its tokenizer is that of `text_encoder.py`.

Legend: B samples, T tokens, L labels (tokens that bear loss), R requests, N nodes, V vocabulary, H hidden
width. Log-probabilities are in nats.
"""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from shelftalk.declarations import Family
from shelftalk.models.allowed_tokens import AllowedTokens, masked_to_sets, restricted_to
from shelftalk.models.attention import use_full_precision_attention
from shelftalk.models.label_scores import LabelScores
from shelftalk.models.positions import position_limit
from shelftalk.models.settings import FAMILIES
from shelftalk.models.text_encoder import Encoded, TextEncoder, joined_soft_targets
from shelftalk.models.token_tree import Prefilled
from shelftalk.ragged import Ragged
from shelftalk.records import Segment
from shelftalk.tasks.samples import Samples

LENGTH_STEP = 32
"""Samples whose lengths round up to the same multiple of this count as of one length, on every machine."""
LARGEST_TABLE = 2**24
"""Numbers in one table of log-probabilities [states, V] where only some of them are needed."""
NOT_COUNTED = -100


@dataclass(frozen=True)
class Padding:
    """Batches are padded to a multiple of `length` tokens, their labels to a multiple of `labels`."""

    length: int
    labels: int


FEW_SHAPES = Padding(LENGTH_STEP, 256)
"""For half precision: the processor's library builds and keeps a kernel for every new shape, which took
two thirds of a step and gigabytes of memory when every batch had a shape of its own. GPUs prefer round
shapes too."""
TIGHT = Padding(8, 16)
"""For full precision on a processor, whose kernels fit any shape: padding was a tenth of a step's work."""


class Backbone(ABC):
    """A language model and its text encoder: text -> ids, loss, prefill, log-probabilities.

    Invariant, which one exam checks for every backbone: a sample's loss equals minus the sum of the step
    log-probabilities along its targets.
    """

    family: str
    """Its name in FAMILIES."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        bf16: bool = False,
        fp16: bool = False,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.bf16 = bf16
        self.fp16 = fp16
        self.allowed_tokens: AllowedTokens | None = None
        """The sets of tokens that samples name (`Encoded.sets`), for training on such samples."""
        if bf16 and self.device.type == "cpu":
            use_full_precision_attention(model)
        self.text_encoder = TextEncoder(tokenizer)

    # --- text -> ids (see TextEncoder) -------------------------------------------------------------------

    def encode(self, segments: Sequence[Segment]) -> Encoded:
        """See TextEncoder.encode."""
        return self.text_encoder.encode(segments)

    def encode_samples(self, samples: Samples) -> list[Encoded]:
        """See TextEncoder.encode_samples."""
        return self.text_encoder.encode_samples(samples)

    def encode_names(self, names: Sequence[Sequence[Segment]]) -> Ragged:
        """See TextEncoder.encode_names."""
        return self.text_encoder.encode_names(names)

    def tokens(self, text: str, symbols: bool) -> list[int]:
        """See TextEncoder.tokens."""
        return self.text_encoder.tokens(text, symbols)

    # --- where symbols start -----------------------------------------------------------------------------

    @torch.no_grad()
    def start_symbols_from(self, symbols: Sequence[str], vectors: np.ndarray, spread: float) -> None:
        """Add `vectors` [S, D] to the embeddings of `symbols`, so that similar symbols start close
        to each other.

        The vectors are projected on their principal axes, cut to the model's width and scaled to `spread`
        times the standard deviation of the embeddings. Output embeddings follow where they are tied.
        """
        centred = vectors - vectors.mean(axis=0)
        _, _, axes = np.linalg.svd(centred, full_matrices=False)
        embeddings = self.model.get_input_embeddings().weight
        projected = centred @ axes[: embeddings.shape[1]].T  # [S, min(D, H)]
        rows = [self.text_encoder.symbol_ids[symbol] for symbol in symbols]
        projected *= spread * float(embeddings[rows].std()) / max(float(projected.std()), 1e-9)
        embeddings[rows, : projected.shape[1]] += torch.from_numpy(projected).to(embeddings)

    @torch.no_grad()
    def start_symbols_from_texts(self, texts: Mapping[str, Sequence[str]]) -> None:
        """Set each symbol's embedding to the mean of the embeddings of its texts' tokens.

        `texts`: symbol -> what it stands for, such as the titles of the items whose names hold it. A symbol
        without a text keeps its embedding. An output layer of its own (FLAN-T5's) is set from its own rows.
        """
        layers = (self.model.get_input_embeddings(), self.model.get_output_embeddings())
        # one matrix where they are tied
        matrices = {layer.weight.data_ptr(): layer.weight for layer in layers}.values()
        originals = [weight.clone() for weight in matrices]
        for symbol, symbol_texts in texts.items():
            tokens = [token for text in symbol_texts for token in self.tokens(text, symbols=False)]
            if tokens:
                for weight, original in zip(matrices, originals, strict=True):
                    weight[self.text_encoder.symbol_ids[symbol]] = original[tokens].mean(dim=0)

    # --- ids -> tensors ----------------------------------------------------------------------------------

    @abstractmethod
    def collate(self, samples: Sequence[Encoded]) -> dict[str, torch.Tensor]:
        """A training batch: padded tensors with the position of every label. Where a sample has soft
        targets, `soft_tokens` and `soft_weights` [L, N] too (see `soft_labels`); where one has sets of
        allowed tokens, what `labels_by_set` gives."""

    @abstractmethod
    def label_log_probs(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """[L] float32 log-probability of each label of the batch, in the order of samples and tokens; where
        the batch has soft targets, the mean of their log-probabilities by weight; of a label of a set, among
        the tokens of that set."""

    @abstractmethod
    def prefill(self, prompts: Sequence[Encoded]) -> Prefilled:
        """Run the model over the prompts once."""

    # --- states -> log-probabilities ---------------------------------------------------------------------

    @abstractmethod
    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """[..., H] -> [..., V]: the output layer."""

    def logits_of(self, states: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """[..., H] -> [..., A]: the output layer's logits of `tokens` [A] alone. For training: another thread
        must not call the model meanwhile."""
        layer = self.model.get_output_embeddings()
        if type(layer) is not torch.nn.Linear:  # with adapters' rows beside it
            return self.logits(states)[..., tokens]
        with restricted_to(layer, tokens):
            return self.logits(states)

    @torch.no_grad()
    def log_probs(self, states: torch.Tensor) -> torch.Tensor:
        """[..., H] -> [..., V] float32."""
        return self._exact_logits(states).log_softmax(-1)

    @torch.no_grad()
    def log_probs_of(self, states: torch.Tensor, owner: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """[C] float32: the log-probability of `tokens[c]` after `states[owner[c]]`, for states [X, H] and
        ascending owners.

        Logits are computed for so many states at a time that no table is larger than LARGEST_TABLE numbers.
        """
        needed, owner = owner.unique_consecutive(return_inverse=True)
        size = max(1, LARGEST_TABLE // self.model.get_output_embeddings().weight.shape[0])
        starts = range(0, len(needed), size)
        bounds = torch.searchsorted(owner, torch.tensor([*starts, len(needed)], device=owner.device)).tolist()
        log_probs = torch.empty(len(owner), device=states.device)
        for start, first, stop in zip(starts, bounds, bounds[1:], strict=False):
            logits = self._exact_logits(states[needed[start : start + size]])  # [size, V]
            row = owner[first:stop] - start
            log_probs[first:stop] = logits[row, tokens[first:stop]] - logits.logsumexp(-1)[row]
        return log_probs

    @torch.no_grad()
    def log_probs_among(
        self,
        states: torch.Tensor,
        owner: torch.Tensor,
        tokens: torch.Tensor,
        sets: Ragged,
        set_of: np.ndarray,
        temperature: float,
    ) -> torch.Tensor:
        """[C] float32, as `log_probs_of`, but each token among those of a set alone, with logits divided by
        `temperature`: `sets` [U] rows of tokens, and `set_of` [X] the set of each of the states that have an
        owner, which holds all tokens that are asked of it."""
        needed, owner = owner.unique_consecutive(return_inverse=True)
        distinct, position = np.unique(sets.values, return_inverse=True)
        allowed, column, row, set_of_state = (
            torch.from_numpy(array).to(states.device) for array in (distinct, position, sets.row_ids, set_of)
        )
        outside = torch.ones(len(sets), len(allowed), dtype=torch.bool, device=states.device)  # [U, A]
        outside[row, column] = False
        size = max(1, LARGEST_TABLE // self.model.get_output_embeddings().weight.shape[0])
        starts = range(0, len(needed), size)
        bounds = torch.searchsorted(owner, torch.tensor([*starts, len(needed)], device=owner.device)).tolist()
        log_probs, asked = torch.empty(len(owner), device=states.device), torch.searchsorted(allowed, tokens)
        for start, first, stop in zip(starts, bounds, bounds[1:], strict=False):
            some = slice(start, start + size)
            logits = self._exact_logits(states[needed[some]])[:, allowed] / temperature  # [size, A]
            total = logits.masked_fill(outside[set_of_state[some]], -torch.inf).logsumexp(-1)
            of_state = owner[first:stop] - start
            log_probs[first:stop] = logits[of_state, asked[first:stop]] - total[of_state]
        return log_probs

    def _exact_logits(self, states: torch.Tensor) -> torch.Tensor:
        """[..., V] float32, in the weights' own precision: bf16 would make neighbouring scores equal."""
        with torch.autocast(self.device.type, enabled=False):
            return self.logits(states.to(self.model.dtype)).float()

    @property
    def declaration(self) -> Family:
        """What its family can do."""
        return FAMILIES[self.family]

    # --- loss, precision, files --------------------------------------------------------------------------

    def _scores_of_labels(self, states: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """[L] what `label_log_probs` returns, from the states [L, H] before the labels of a batch."""
        labels = batch["labels"]
        counted = labels != NOT_COUNTED
        tokens, weights = batch.get("soft_tokens", labels[:, None].clamp(min=0)), batch.get("soft_weights")
        if "set_rows" not in batch:
            return _log_probs(self.logits(states), tokens, weights)[counted]
        assert self.allowed_tokens is not None  # or the batch would have no sets
        scores = torch.zeros(len(labels), device=states.device)
        for rows, of_sets in ((batch["any_rows"], False), (batch["set_rows"], True)):
            if not len(rows):
                continue
            index = rows.clamp(min=0)
            their_tokens, their_weights = tokens[index], None if weights is None else weights[index]
            if of_sets:
                allowed = self.allowed_tokens.tokens.to(states.device)
                logits = self.logits_of(states[index], allowed) / self.allowed_tokens.temperature
                logits = masked_to_sets(logits, batch)
                if their_weights is not None:  # a soft target without weight may be any token
                    their_tokens = their_tokens.where(their_weights > 0, their_tokens[:, :1])
                their_tokens = torch.searchsorted(allowed, their_tokens).clamp(max=len(allowed) - 1)
            else:
                logits = self.logits(states[index])
            real = rows >= 0
            log_probs = _log_probs(logits, their_tokens, their_weights)
            scores = scores.index_put((rows[real],), log_probs[real])
        return scores[counted]

    def loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Minus the sum of the label log-probabilities, in nats; of a batch with soft targets the
        cross-entropy to them."""
        return -self.label_log_probs(batch).sum()

    def precision(self) -> AbstractContextManager[Any]:
        """Autocast to bf16 or fp16 where the backbone was made for it, else full precision."""
        if self.fp16:
            return torch.autocast(self.device.type, torch.float16)
        return torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else nullcontext()

    @cached_property
    def full_precision_on_cpu(self) -> bool:
        """Whether it computes in fp32 on a processor, whose kernels fit any shape."""
        return self.device.type == "cpu" and not (self.bf16 or self.fp16)

    @property
    def padding(self) -> Padding:
        """The multiples to which batches and labels are padded."""
        return TIGHT if self.full_precision_on_cpu else FEW_SHAPES

    @property
    def device(self) -> torch.device:
        result: torch.device = self.model.device
        return result

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(weight.numel() for weight in self.model.parameters())

    @cached_property
    def positions(self) -> int | None:
        """The most tokens that the model can read at once, None without such a limit (see position_limit)."""
        return position_limit(self.model)

    @property
    def pad(self) -> int:
        return int(self.tokenizer.pad_token_id)

    def save(self, folder: Path) -> None:
        """Weights as safetensors and the tokenizer: a folder that transformers opens."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        # safetensors gives its files to their owner alone, and a service may run as another user
        for weights in folder.glob("*.safetensors"):
            shutil.copymode(folder / "config.json", weights)


def padded(
    rows: Sequence[np.ndarray], pad: int, step: int, left: bool = False, most: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """[B, T] int64 ids and [B, T] bool, true where a token is real. T is a multiple of `step`, at
    most `most`."""
    longest = max(len(row) for row in rows)
    width = rounded_up(longest, step)
    width = width if most is None else max(longest, min(width, most))
    ids = np.full((len(rows), width), pad, np.int64)
    real = np.zeros((len(rows), width), bool)
    for number, row in enumerate(rows):
        columns = slice(width - len(row), width) if left else slice(0, len(row))
        ids[number, columns] = row
        real[number, columns] = True
    return torch.from_numpy(ids), torch.from_numpy(real)


def padded_labels(
    positions: torch.Tensor, labels: torch.Tensor, step: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions and labels padded to a multiple of `step` with labels that are not counted."""
    missing = (0, rounded_up(len(labels), step) - len(labels))
    pad = torch.nn.functional.pad
    return pad(positions, missing), pad(labels, missing, value=NOT_COUNTED)


def rounded_up(length: int, step: int) -> int:
    """The next multiple of `step`."""
    return -(-length // step) * step


def soft_labels(
    samples: Sequence[Encoded], kept: np.ndarray, labels: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The soft targets of a batch: `soft_tokens` [L, 1 + N] int64, each label's own token first, and
    `soft_weights` [L, 1 + N] float32, which sum to 1. Empty without any soft target.

    `kept`: which of the tokens that bear loss in the samples are labels; `labels` [L] may be padded.
    """
    soft = joined_soft_targets(samples)
    if soft is None:
        return {}
    soft = soft.take(kept)
    missing = (0, 0, 0, len(labels) - len(soft.tokens))
    tokens, weights = (
        torch.nn.functional.pad(torch.from_numpy(values), missing) for values in (soft.tokens, soft.weights)
    )
    own = 1 - weights.sum(1, keepdim=True)
    return {
        "soft_tokens": torch.cat([labels[:, None].clamp(min=0), tokens.long()], dim=1),
        "soft_weights": torch.cat([own, weights], dim=1),
    }


def _log_probs(logits: torch.Tensor, tokens: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """[L] see LabelScores."""
    log_probs: torch.Tensor = LabelScores.apply(logits, tokens, weights)  # type: ignore[no-untyped-call]
    return log_probs
