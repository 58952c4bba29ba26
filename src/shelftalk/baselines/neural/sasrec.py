"""sasrec: self-attention over the history, trained to name each next item.

Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018: causal attention with learnt
positions, one table of item vectors for reading and for scoring. Its loss against one sampled item
under-trains it; cross-entropy over the whole catalogue, or over enough sampled items, does not (Klenitskiy
and Vasilev, "Turning Dross Into Gold Loss", RecSys 2023; the study "eSASRec", RecSys 2025). Layers normalise
what they read, not what they return.

Legend: B histories, L the longest of them, P items of all of them, R requests, I items, H width, A heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import sqrt
from typing import Any

import numpy as np
import torch
from torch import nn

from shelftalk import seeds
from shelftalk.baselines.neural.fitting import Fit, Network, Trainings, batches, torch_generator
from shelftalk.baselines.neural.losses import sampled_cross_entropy, softmax_cross_entropy
from shelftalk.baselines.neural.settings import SampledSasRecSettings, SasRecSettings
from shelftalk.baselines.neural.trained_scorer import TrainedSoftmax, fit_scorer
from shelftalk.baselines.scored_catalogue import ScoredCatalogue
from shelftalk.data.splitting import Split
from shelftalk.errors import SettingsError
from shelftalk.ragged import Ragged, ragged, slices
from shelftalk.tasks.windows import windows

DEVIATION = 0.02
"""Standard deviation of the weights before training, as in BERT and its descendants."""


def fit_sasrec(split: Split, settings: SasRecSettings, seed: int) -> TrainedSoftmax:
    """Train by cross-entropy over all items. Raises SettingsError for a width that the heads do not
    divide."""
    return _fit("sasrec", split, settings, seed)


def fit_sasrec_sampled(split: Split, settings: SampledSasRecSettings, seed: int) -> TrainedSoftmax:
    """Train by cross-entropy over the next item and uniformly drawn ones. Raises as `fit_sasrec` does."""
    return _fit("sasrec_sampled", split, settings, seed)


def _fit(name: str, split: Split, settings: SasRecSettings, seed: int) -> TrainedSoftmax:
    for width in settings.width:
        if width % settings.heads:
            raise SettingsError(
                f"baselines.{name}.width = {width} cannot be divided among {settings.heads} heads; set heads "
                "to a divisor of it, such as 1."
            )
    return fit_scorer(
        TrainedSoftmax,
        name,
        split,
        settings,
        seed,
        lambda variant: SasRec(len(split.dataset.items), variant, seed, split),
    )


def opened_sasrec(
    name: str, catalogue: ScoredCatalogue, weights: Mapping[str, np.ndarray], facts: Mapping[str, Any]
) -> TrainedSoftmax:
    """A trained network made of its weights. `facts`: width, heads, blocks and max_history. Raises
    RuntimeError for weights of another network."""
    settings = SasRecSettings(
        width=(facts["width"],),
        heads=facts["heads"],
        blocks=facts["blocks"],
        max_history=facts["max_history"],
    )
    network = SasRec(len(catalogue.item_ids), settings, seed=0)
    network.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in weights.items()})
    fit = Fit(settings, epoch=0, trained=0, ndcg=None)
    return TrainedSoftmax(catalogue, {}, network.eval(), Trainings(fit, (fit,)), name)


class SasRec(Network):
    """Vectors of so many items and of ages, blocks of attention, and the training part that they learn from.

    An item's age is its distance from the end of the history, 0 the latest. Without a split it answers, and
    cannot be trained.
    """

    def __init__(self, items: int, settings: SasRecSettings, seed: int, split: Split | None = None) -> None:
        super().__init__()
        (width,), (dropout,) = settings.width, settings.dropout
        self.split, self.settings, self.seed = split, settings, seed
        self.drop = Dropout(dropout)
        with torch.device("meta"):  # so that making them draws nothing from torch's global generator
            self.items: Any = nn.Embedding(items, width)
            self.ages = nn.Embedding(settings.max_history, width)
            self.blocks = nn.ModuleList(
                Block(width, settings.heads, self.drop) for _ in range(settings.blocks)
            )
            self.norm = nn.LayerNorm(width)
        self.to_empty(device="cpu")
        draw(self, torch_generator(seed, "sasrec weights"))

    def losses(self, epoch: int) -> Iterator[torch.Tensor]:
        """Every history is cut into windows at random; each item of a window but its first is predicted from
        those before it."""
        assert self.split is not None
        rng = seeds.generator(self.seed, "sasrec batches", epoch)
        self.drop.generator = torch_generator(self.seed, "sasrec dropout", epoch)
        _, start, stop, _ = windows(self.split.training_bounds, self.settings.max_history + 1, rng)
        several = stop - start > 1
        start, stop = start[several], stop[several]
        events = self.split.dataset.event_item.astype(np.int64)
        for batch in batches(len(start), self.settings.batch_size, rng):
            hidden = self(slices(events, start[batch], stop[batch] - 1))
            targets = torch.from_numpy(slices(events, start[batch] + 1, stop[batch]).values)
            yield self.loss(hidden, targets, len(batch), rng)

    def loss(
        self, hidden: torch.Tensor, targets: torch.Tensor, rows: int, rng: np.random.Generator
    ) -> torch.Tensor:
        """Of the next items `targets` [P] after `hidden` [P, H], which are of so many histories."""
        if not isinstance(self.settings, SampledSasRecSettings):
            return softmax_cross_entropy(hidden, self.items.weight, targets)
        drawn = rng.integers(len(self.items.weight), size=(rows, self.settings.negatives))
        return sampled_cross_entropy(hidden, self.items.weight, targets, torch.from_numpy(drawn))

    def forward(self, histories: Ragged) -> torch.Tensor:
        """[P, H]: what each item of the histories, and those before it, predict the next one from.

        Only attention sees histories as rows of one length, filled up at their ends; a causal mask is all
        that it needs, since no item looks at what stands after it.
        """
        lengths = histories.lengths
        longest = int(lengths.max(initial=0))
        cells = torch.from_numpy(histories.row_ids * longest + histories.positions)  # [P] of [B, L]
        ages = torch.from_numpy(lengths[histories.row_ids] - 1 - histories.positions)
        vectors = self.items(torch.from_numpy(histories.values)) * sqrt(self.items.embedding_dim)
        hidden = self.drop(vectors + self.ages(ages))
        for block in self.blocks:
            hidden = block(hidden, cells, len(histories), longest)
        result: torch.Tensor = self.norm(hidden)
        return result

    def item_scores(self, users: list[int], histories: list[list[int]]) -> torch.Tensor:
        """[R, I] logits from the last items of each history; 0 for an empty one. The user does not matter."""
        recent = ragged(history[-self.settings.max_history :] for history in histories)
        given = torch.from_numpy(recent.lengths > 0)
        scores = torch.zeros(len(histories), len(self.items.weight))
        last = torch.from_numpy(recent.ends)[given]
        scores[given] = self(recent)[last] @ self.items.weight.T
        return scores


class Block(nn.Module):
    """Attention, then a feed-forward layer, each added to what it read."""

    def __init__(self, width: int, heads: int, drop: Dropout) -> None:
        super().__init__()
        self.heads, self.drop = heads, drop
        self.before_attention, self.before_feed_forward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.mixed = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, hidden: torch.Tensor, cells: torch.Tensor, rows: int, longest: int) -> torch.Tensor:
        """[P, H] -> [P, H]; `cells` [P] are the positions of the items in a grid of `rows` by `longest`."""
        projected = self.query_key_value(self.before_attention(hidden))  # [P, 3 H]
        grid = projected.new_zeros(rows * longest, projected.shape[1]).index_copy(0, cells, projected)
        of_head = hidden.shape[1] // self.heads
        attended = self._attend(grid.view(rows, longest, 3, self.heads, of_head)).flatten(0, 1)[cells]
        hidden = hidden + self.drop(self.mixed(attended))
        inner = self.drop(self.inner(self.before_feed_forward(hidden)).relu())
        result: torch.Tensor = hidden + self.drop(self.outer(inner))
        return result

    def _attend(self, grid: torch.Tensor) -> torch.Tensor:
        """[B, L, 3, A, H / A] queries, keys and values -> [B, L, H]; no cell attends to a later one."""
        query, key, value = grid.permute(2, 0, 3, 1, 4)  # each [B, A, L, H / A]
        later = torch.ones(grid.shape[1], grid.shape[1], dtype=torch.bool).triu(1)
        logits = (query @ key.mT / sqrt(query.shape[-1])).masked_fill(later, -torch.inf)
        result: torch.Tensor = (self.drop(logits.softmax(-1)) @ value).transpose(1, 2).flatten(2)
        return result


class Dropout(nn.Module):
    """As torch's, with a generator of its own."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share, self.generator = share, torch.Generator()

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """In training, a share of the values is set to 0 and the others are scaled up for it."""
        if not self.training or not self.share:
            return values
        kept = torch.empty_like(values).bernoulli_(1 - self.share, generator=self.generator)
        return values * kept.div_(1 - self.share)


def draw(network: nn.Module, generator: torch.Generator) -> None:
    """Weights of matrices and vectors from a normal distribution; biases 0, scales of normalisation 1."""
    for part in network.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=DEVIATION, generator=generator)
        if isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
        if isinstance(part, nn.Linear | nn.LayerNorm):
            nn.init.zeros_(part.bias)
