"""A trained network as a recommender, and the one way in which all of them are fitted.

Legend: R requests, I items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch.nn.functional import embedding_bag

from shelftalk.baselines.neural.fitting import Network, Trainings, fit_best
from shelftalk.baselines.neural.settings import FittingSettings, tuple_fields
from shelftalk.baselines.scored_catalogue import ItemScorer, ScoredCatalogue, scored_catalogue
from shelftalk.baselines.validation import mean_ndcg, validation_sample
from shelftalk.data.splitting import Split
from shelftalk.ragged import Ragged
from shelftalk.records import Request


@dataclass(frozen=True, eq=False)
class TrainedScorer(ItemScorer):
    """A trained network over the catalogue.

    `user_row`: user id -> the row of a user with training events. `trainings`: those that were tried, and the
    one that validation chose.
    """

    catalogue: ScoredCatalogue
    user_row: dict[str, int]
    network: Network
    trainings: Trainings
    name: str

    def item_scores(self, requests: Sequence[Request]) -> np.ndarray:
        """[R, I] float32: the network's scores. Raises UnknownItem for an id outside the catalogue."""
        return network_scores(self.network, self.catalogue, self.user_row, requests)

    def describe(self) -> dict[str, Any]:
        """The settings that were chosen on validation, the NDCG@10 that they reached there, and the budget:
        how many trainings were tried and how many epochs they had."""
        best = self.trainings.best
        chosen = {name: getattr(best.settings, name)[0] for name in tuple_fields(best.settings)}
        budget = {"fits": len(self.trainings.tried), "epochs": self.trainings.epochs}
        return {**chosen, "epoch": best.epoch, "validation ndcg@10": best.ndcg, **budget}

    def selection(self) -> list[str]:
        """What was chosen on validation and with which budget, as a sentence."""
        best, tried = self.trainings.best, self.trainings.tried
        chosen = [f"{name} {getattr(best.settings, name)[0]:g}" for name in tuple_fields(best.settings)]
        reached = "no validation" if best.ndcg is None else f"validation ndcg@10 {best.ndcg:.4f}"
        fits = f"{len(tried)} training{'s' if len(tried) > 1 else ''}"
        budget = f"{fits}, {self.trainings.epochs} epochs in all"
        return [f"{self.name}: {', '.join([*chosen, f'epoch {best.epoch}'])} ({reached}; {budget})."]

    def chosen_settings(self) -> FittingSettings:
        """The settings that train as many epochs by the recipe chosen, without a choice and without a look at
        validation."""
        best = self.trainings.best
        return best.settings.model_copy(update={"epochs": best.epoch, "patience": 0})


@dataclass(frozen=True, eq=False)
class TrainedSoftmax(TrainedScorer):
    """One whose scores are logits: their softmax is the probability of each item."""

    def scores(self, requests: Sequence[Request]) -> np.ndarray:
        """[R, I] float32 that sum to 1 over the catalogue."""
        return torch.from_numpy(self.item_scores(requests)).softmax(1).numpy()


Scorer = TypeVar("Scorer", bound=TrainedScorer)


def fit_scorer(
    kind: type[Scorer],
    name: str,
    split: Split,
    settings: FittingSettings,
    seed: int,
    build: Callable[[Any], Network],
) -> Scorer:
    """Train the network that `build` makes of one variant of the settings, for each of them, and choose by
    NDCG@10 on validation. Raises as `fit_best` does."""
    catalogue = scored_catalogue(split)
    with_events = np.unique(split.training_users).tolist()
    user_row = {split.dataset.user_ids[row]: row for row in with_events}
    requests, truths = validation_sample(split, settings.validation_users, seed, name)

    def ndcg(network: Network) -> float:
        return mean_ndcg(
            catalogue,
            lambda batch: network_scores(network, catalogue, user_row, batch),
            requests,
            truths,
        )

    network, trainings = fit_best(build, settings, ndcg)
    return kind(catalogue, user_row, network, trainings, name)


def network_scores(
    network: Network, catalogue: ScoredCatalogue, user_row: dict[str, int], requests: Sequence[Request]
) -> np.ndarray:
    """[R, I] float32, some requests at a time."""
    scores = np.empty((len(requests), len(catalogue.item_ids)), np.float32)
    start = 0
    for batch in catalogue.batches(requests):
        histories = [catalogue.rows(request.history, request.user) for request in batch]
        users = [user_row.get(request.user, -1) for request in batch]
        with torch.inference_mode():
            scores[start : start + len(batch)] = network.item_scores(users, histories).numpy()
        start += len(batch)
    return scores


def mean_vectors(vectors: torch.Tensor, histories: Ragged) -> torch.Tensor:
    """[R, H] the mean of the rows of `vectors` [I, H] in each history; 0 for an empty one."""
    offsets = torch.from_numpy(histories.offsets[:-1])
    return embedding_bag(torch.from_numpy(histories.values), vectors, offsets, mode="mean")
