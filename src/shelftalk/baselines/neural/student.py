"""A sasrec that is taught by a recommender: its lists, and its vectors of items.

    loss = cross-entropy of the next item  +  w * sum over a list of  -q_j log p(j)
    q_j ~ exp(-rank_j / positions) * p_teacher(j)^(1 / T)          by position and by the teacher's confidence
    vector of item i = A z_i + d_i                                 z_i the teacher's vector, A and d_i learned

After Cui et al., "Distillation matters" (DLLM2Rec), RecSys 2024, arXiv 2405.00338: ranking distillation that
weighs an item by its position and by the teacher's confidence, and embeddings with an offset of the student's
own. Their third weight, by the agreement of teacher and student, is left out. What is trained is stored as a
plain sasrec: the vectors are computed once.

Legend: P lists, N items of a list, I items, D dimensions of the teacher's vectors, H width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from pydantic import Field
from torch import nn

from shelftalk import seeds
from shelftalk.baselines.neural.fitting import torch_generator
from shelftalk.baselines.neural.sasrec import DEVIATION, SasRec
from shelftalk.baselines.neural.settings import SasRecSettings
from shelftalk.baselines.neural.trained_scorer import TrainedSoftmax, fit_scorer
from shelftalk.data.splitting import Split
from shelftalk.ragged import Ragged

LOGITS = 2**22
"""Logits of lists computed at a time."""


class StudentSettings(SasRecSettings):
    """As those of sasrec, and how much the teacher counts."""

    list_weight: float = Field(1.0, ge=0)
    """Weight of the teacher's lists beside the next item; 0 ignores them."""
    positions: float = Field(10.0, gt=0)
    """Positions of a list after which an item counts a third of what the first one does."""
    temperature: float = Field(1.0, gt=0)
    """The teacher's probabilities count to the power of 1 over this: above 1 its items become more alike."""
    vectors: bool = True
    """Whether the vectors of items are made of the teacher's."""


@dataclass(frozen=True, eq=False)
class Lessons:
    """What the teacher gives: `histories` [P] of catalogue rows, and after each its best items `items` [P, N]
    with `log_probs` [P, N], -inf where there are fewer; `vectors` [I, D] of length 1."""

    histories: Ragged
    items: np.ndarray
    log_probs: np.ndarray
    vectors: np.ndarray

    def weights(self, settings: StudentSettings) -> np.ndarray:
        """[P, N] float32 q, rows that sum to one, or to 0 where the list is empty."""
        highest = np.maximum(self.log_probs.max(axis=1, keepdims=True), np.finfo(np.float32).min)
        confidence = np.exp((self.log_probs - highest) / settings.temperature)
        weights = np.exp(-np.arange(self.items.shape[1]) / settings.positions) * confidence
        total = weights.sum(axis=1, keepdims=True)
        result: np.ndarray = np.divide(weights, total, where=total > 0, out=np.zeros_like(weights))
        return result.astype(np.float32)


def fit_student(
    split: Split, lessons: Lessons, settings: StudentSettings, seed: int, name: str = "student"
) -> TrainedSoftmax:
    """Train until validation gets no better, as every trained baseline is. Raises as `fit_scorer` does."""
    model = fit_scorer(
        TrainedSoftmax,
        name,
        split,
        settings,
        seed,
        lambda variant: Student(split, lessons, variant, seed),
    )
    student = model.network
    assert isinstance(student, Student)
    plain = SasRec(len(split.dataset.items), student.settings, seed)
    weights = {key: value for key, value in student.state_dict().items() if not key.startswith("items.")}
    plain.load_state_dict({**weights, "items.weight": student.items.weight.detach()})
    return replace(model, user_row={}, network=plain.eval())


class Student(SasRec):
    """A sasrec whose item vectors come from the teacher's, and which also learns its lists."""

    settings: StudentSettings

    def __init__(self, split: Split, lessons: Lessons, settings: StudentSettings, seed: int) -> None:
        super().__init__(len(split.dataset.items), settings, seed, split)
        self.lessons = lessons
        self._weights = torch.from_numpy(lessons.weights(settings))
        if settings.vectors:
            self.items = ProjectedVectors(self.items, lessons.vectors, seed)

    def losses(self, epoch: int) -> Iterator[torch.Tensor]:
        """As of sasrec, and with each batch some of the lists, so that an epoch goes through all of them as
        often as through the histories, or once where they are more."""
        rng = seeds.generator(self.seed, "student lists", epoch)
        order = rng.permutation(len(self.lessons.histories))
        rows = max(1, min(self.settings.batch_size, LOGITS // len(self.lessons.vectors)))
        start = 0
        for loss in super().losses(epoch):
            if not self.settings.list_weight or not len(order):
                yield loss
                continue
            chosen = order[start : start + rows]
            start = start + rows if start + rows < len(order) else 0
            yield loss + self.settings.list_weight * self._list_loss(chosen)

    def _list_loss(self, chosen: np.ndarray) -> torch.Tensor:
        """The mean over lists of the cross-entropy to the teacher's weights, over all items."""
        histories = self.lessons.histories.take(chosen)
        hidden = self(histories)[torch.from_numpy(histories.ends)]
        log_probs = (hidden @ self.items.weight.T).log_softmax(1)
        listed = log_probs.gather(1, torch.from_numpy(self.lessons.items[chosen].astype(np.int64)))
        result: torch.Tensor = -(self._weights[torch.from_numpy(chosen)] * listed).sum(1).mean()
        return result


class ProjectedVectors(nn.Module):
    """In place of a table of item vectors: those of the teacher, projected, plus an offset for each item."""

    teacher: torch.Tensor

    def __init__(self, offsets: nn.Embedding, vectors: np.ndarray, seed: int) -> None:
        super().__init__()
        self.embedding_dim, size = offsets.embedding_dim, vectors.shape[1]
        self.register_buffer("teacher", torch.from_numpy(vectors.astype(np.float32)))
        self.offsets = nn.Parameter(offsets.weight.detach().clone())
        projection = torch.empty(size, self.embedding_dim)
        # of a vector of length 1 it makes one whose numbers deviate as those that are drawn
        projection.normal_(0, DEVIATION, generator=torch_generator(seed, "student projection"))
        self.projection = nn.Parameter(projection)

    @property
    def weight(self) -> torch.Tensor:
        """[I, H]"""
        result: torch.Tensor = self.teacher @ self.projection + self.offsets
        return result

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """[..., H] the vectors of catalogue rows."""
        return nn.functional.embedding(rows, self.weight)
