"""bpr_mf: matrix factorisation by pairwise preference.

    score(u, i) = p_u q_i + b_i
    loss        = -ln sigmoid(score(u, i) - score(u, j)) + decay / 2 (|p_u|^2 + |q_i|^2 + |q_j|^2)

over the training events (u, i), each with an item j drawn uniformly from those that u did not take in
training (Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009).

A user with training events has a vector, whatever the history of the request: what came after training is
excluded and changes nothing else. The vector of an unknown user has the direction of the mean of the item
vectors in the history, and the mean length of the known users' vectors; with an empty history it is 0, which
leaves b_i.

Legend: U users, R requests, I items, P training events of a batch, H width.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.nn.functional import normalize

from shelftalk import seeds
from shelftalk.baselines.neural.fitting import Network, batches, torch_generator
from shelftalk.baselines.neural.losses import bpr_loss
from shelftalk.baselines.neural.settings import BprMfSettings
from shelftalk.baselines.neural.trained_scorer import TrainedSoftmax, fit_scorer, mean_vectors
from shelftalk.data.splitting import Split
from shelftalk.ragged import ragged
from shelftalk.tasks.negatives import Negatives

DEVIATION = 0.05
"""Standard deviation of the vectors before training."""


def fit_bpr_mf(split: Split, settings: BprMfSettings, seed: int) -> TrainedSoftmax:
    """Train on pairs. The softmax of its scores is the Plackett-Luce model, of which the loss is the case of
    two items."""
    return fit_scorer(
        TrainedSoftmax, "bpr_mf", split, settings, seed, lambda variant: BprMf(split, variant, seed)
    )


class BprMf(Network):
    """`users` [U, H], `items` [I, H] and `bias` [I], and the training part that they learn from."""

    def __init__(self, split: Split, settings: BprMfSettings, seed: int) -> None:
        super().__init__()
        (self.decay,) = settings.decay
        self.split, self.settings, self.seed = split, settings, seed
        self.negatives = Negatives(split)
        generator = torch_generator(seed, "bpr_mf weights")
        users, items = len(split.dataset.user_ids), len(split.dataset.items)
        self.users = nn.Parameter(DEVIATION * torch.randn(users, settings.width, generator=generator))
        self.items = nn.Parameter(DEVIATION * torch.randn(items, settings.width, generator=generator))
        self.bias = nn.Parameter(torch.zeros(items))

    def losses(self, epoch: int) -> Iterator[torch.Tensor]:
        """Each training event once, with one item that its user did not take; a user who took all has
        none."""
        rng = seeds.generator(self.seed, "bpr_mf batches", epoch)
        users, items = self.split.training_users, self.split.training_items.astype(np.int64)
        wanted = self.negatives.available(users, np.ones_like(users))
        wrong = self.negatives.draw(users, wanted, items, rng).values
        triples = torch.from_numpy(np.stack([users[wanted > 0], items[wanted > 0], wrong]))
        for batch in batches(triples.shape[1], self.settings.batch_size, rng):
            yield self.loss(*triples[:, torch.from_numpy(batch)])

    def loss(self, users: torch.Tensor, items: torch.Tensor, wrong: torch.Tensor) -> torch.Tensor:
        """Mean over the triples, three times [P]."""
        of_user, of_item, of_wrong = self.users[users], self.items[items], self.items[wrong]  # [P, H]
        squares = of_user.square().sum(1) + of_item.square().sum(1) + of_wrong.square().sum(1)
        right = (of_user * of_item).sum(1) + self.bias[items]
        return (
            bpr_loss(right, (of_user * of_wrong).sum(1) + self.bias[wrong]) + self.decay / 2 * squares.mean()
        )

    def item_scores(self, users: list[int], histories: list[list[int]]) -> torch.Tensor:
        """[R, I] scores."""
        rows = torch.tensor(users, dtype=torch.int64)
        vectors = torch.where((rows < 0)[:, None], self.unknown(histories), self.users[rows])
        return vectors @ self.items.T + self.bias

    def unknown(self, histories: list[list[int]]) -> torch.Tensor:
        """[R, H] the vectors of unknown users of these histories."""
        length = self.users[np.unique(self.split.training_users)].norm(dim=1).mean()
        result: torch.Tensor = length * normalize(mean_vectors(self.items, ragged(histories)))
        return result
