"""simplex: cosines between items and users, who are in part the mean of their history.

    u          = (1 - w) e_user + w V mean of v_i over the last items i of the history
    loss(u, i) = 1 - cos(u, v_i) + negative_weight mean over wrong items j of max(0, cos(u, v_j) - margin)

over the training events (Mao et al., "SimpleX: A Simple and Strong Baseline for Collaborative Filtering",
CIKM 2021, with its mean aggregation). The item of the event is left out of the history that it is predicted
from, as it is in every request.

An unknown user is V times the mean of the history alone, a known one without a history e_user alone; an
unknown user without a history has the cosine 0 with every item.

Legend: U users, R requests, I items, P training events of a batch, N drawn items, H width.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import nn
from torch.nn.functional import normalize

from shelftalk import seeds
from shelftalk.baselines.neural.fitting import Network, batches, torch_generator
from shelftalk.baselines.neural.losses import cosine_contrastive_loss
from shelftalk.baselines.neural.settings import SimpleXSettings
from shelftalk.baselines.neural.trained_scorer import TrainedScorer, fit_scorer, mean_vectors
from shelftalk.data.splitting import Split
from shelftalk.ragged import Ragged, ragged, slices

DEVIATION = 0.1
"""Standard deviation of the vectors before training."""


def fit_simplex(split: Split, settings: SimpleXSettings, seed: int) -> TrainedScorer:
    """Train by the cosine contrastive loss."""
    return fit_scorer(
        TrainedScorer, "simplex", split, settings, seed, lambda variant: SimpleX(split, variant, seed)
    )


class SimpleX(Network):
    """`users` [U, H], `items` [I, H] and `of_history` [H, H], the formula's e, v and V, and the training part
    that they learn from."""

    def __init__(self, split: Split, settings: SimpleXSettings, seed: int) -> None:
        super().__init__()
        (self.history_weight,), (self.margin,) = settings.history_weight, settings.margin
        self.split, self.settings, self.seed = split, settings, seed
        users, items, width = len(split.dataset.user_ids), len(split.dataset.items), settings.width
        generator = torch_generator(seed, "simplex weights")
        self.users = nn.Parameter(DEVIATION * torch.randn(users, width, generator=generator))
        self.items = nn.Parameter(DEVIATION * torch.randn(items, width, generator=generator))
        self.of_history = nn.Parameter(torch.eye(width))

    def losses(self, epoch: int) -> Iterator[torch.Tensor]:
        """Each training event once; the wrong items of a batch are drawn uniformly, and those that a user
        took in training do not count for them."""
        rng = seeds.generator(self.seed, "simplex batches", epoch)
        split, size = self.split, (len(self.users), len(self.items))
        events = split.dataset.event_item.astype(np.int64)
        users, items = split.training_users, split.training_items.astype(np.int64)
        taken = csr_matrix((np.ones(len(users), np.float32), (users, items)), size)
        first, stop = split.training_bounds.T
        recent = slices(events, np.maximum(first, stop - self.settings.max_history), stop)
        for batch in batches(len(users), self.settings.batch_size, rng):
            wrong = rng.integers(len(self.items), size=self.settings.negatives)
            counted = torch.from_numpy(taken[users[batch]][:, wrong].toarray() == 0)
            histories = recent.take(users[batch])
            others = histories.filter_values(histories.values != items[batch][histories.row_ids])
            event = torch.from_numpy(users[batch]), torch.from_numpy(items[batch])
            yield self.loss(*event, torch.from_numpy(wrong), counted, others)

    def loss(
        self,
        users: torch.Tensor,
        items: torch.Tensor,
        wrong: torch.Tensor,
        counted: torch.Tensor,
        histories: Ragged,
    ) -> torch.Tensor:
        """Mean over the events of `users` [P] and `items` [P], after `histories` [P]; `counted` [P, N] of the
        items `wrong` [N]."""
        of_user = normalize(self.user_vectors(users, histories))
        right = (of_user * normalize(self.items[items])).sum(1)
        cosines = of_user @ normalize(self.items[wrong]).T  # [P, N]
        return cosine_contrastive_loss(right, cosines, counted, self.margin, self.settings.negative_weight)

    def user_vectors(self, users: torch.Tensor, histories: Ragged) -> torch.Tensor:
        """[R, H] for the rows of users, -1 an unknown one, and their histories."""
        own = torch.where((users < 0)[:, None], 0.0, self.users[users])
        of_history = mean_vectors(self.items, histories) @ self.of_history
        return (1 - self.history_weight) * own + self.history_weight * of_history

    def item_scores(self, users: list[int], histories: list[list[int]]) -> torch.Tensor:
        """[R, I] cosines."""
        recent = ragged(history[-self.settings.max_history :] for history in histories)
        vectors = self.user_vectors(torch.tensor(users, dtype=torch.int64), recent)
        return normalize(vectors) @ normalize(self.items).T
