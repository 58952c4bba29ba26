"""Linear item-item models in closed form: what ease, slist and tale share.

    score = x B        x: the history's items, each weighted by history_decay^age

B is solved for the T items with a training event; all others score 0. The models differ in their sums over
users and in what they make of the inverse:

    G = sum over users of S_u S_u^T,  K = sum over users of S_u T_u^T,  P = (G + l2 I)^-1

where S_u [n, m] holds the weight of each of a user's n training items as a source of each of m targets, and
T_u [n, m] its weight as a target.

Legend: R requests, I items, T items with a training event, n training events of a user.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import Field
from scipy.linalg import lapack
from scipy.sparse import csr_matrix

from shelftalk.baselines.histories import history_weights
from shelftalk.baselines.scored_catalogue import ItemScorer, ScoredCatalogue, scored_catalogue
from shelftalk.baselines.validation import (
    VALIDATION_USERS,
    Choice,
    Chosen,
    choose,
    mean_ndcg,
    validation_sample,
    variants,
)
from shelftalk.data.similarity import COUNTED_EVENTS, not_counted
from shelftalk.data.splitting import Split
from shelftalk.errors import SettingsError
from shelftalk.records import Request
from shelftalk.settings import Settings

Factor = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
UserMatrices = Callable[[int, int], tuple[np.ndarray, np.ndarray]]
"""First and last + 1 row of a user's training events -> S_u [n, m] and T_u [n, m]."""
BYTES = 8
"""Of memory per cell of [T, T]: the matrix that is solved, and the best one so far."""
ROWS = 1024
"""Rows of a [T, T] matrix that are computed at a time."""
DENSE = 0.05
"""Share of cells from which on a dense product is faster than a sparse one."""
BUFFERED_CELLS = 1_000_000
"""Cells of users' matrices that are kept before they are summed."""


class LinearSettings(Settings):
    """What a linear model tries on validation, and how large it may become."""

    l2: tuple[Positive, ...] = Field((100.0,), min_length=1)
    """Strengths of the L2 penalty on B to try; above 0. Each costs an inverse."""
    history_decay: tuple[Factor, ...] = Field((0.7, 0.8, 0.9), min_length=1)
    """Factors per step of age in the history of a request to try, each above 0 and up to 1."""
    user_events: int = Field(COUNTED_EVENTS, ge=1)
    """Most recent training events of one user that count; time and memory are their square."""
    max_items: int = Field(20_000, ge=1)
    """Items with a training event at most: time is their cube, and memory 8 bytes times their square, 3.2 GB
    for 20,000."""
    keep_most_taken: bool = False
    """Where there are more: solve for the `max_items` most taken ones, the others scoring 0, and say so; else
    it is an error."""
    validation_users: int = Field(VALIDATION_USERS, ge=1)
    """Validation users at most, drawn by seed; with more of them the choice varies less and takes longer."""


SettingsT = TypeVar("SettingsT", bound=LinearSettings)


@dataclass(frozen=True, eq=False)
class LinearItems(Chosen, ItemScorer):
    """`items` [T] catalogue rows of the items with a training event, `weights` [T, T] float32: B."""

    catalogue: ScoredCatalogue
    items: np.ndarray
    weights: np.ndarray
    history_decay: float
    choice: Choice[Any]
    name: str
    notes: tuple[str, ...] = ()

    def item_scores(self, requests: Sequence[Request]) -> np.ndarray:
        """[R, I] float32: x B, 0 for an item without a training event. Raises UnknownItem for an id outside
        the catalogue."""
        return linear_scores(self.catalogue, self.items, self.weights, self.history_decay, requests)


def fit_linear(
    split: Split,
    settings: SettingsT,
    seed: int,
    name: str,
    solved_by: Sequence[str],
    solve: Callable[[SettingsT, np.ndarray], np.ndarray],
) -> LinearItems:
    """Solve for B with every combination of the settings `solved_by`, and choose it and the history's decay
    by NDCG@10 on validation. Without an order all items of a history weigh the same.

    `solve(settings, items [T]) -> B [T, T]` float32. Raises SettingsError for a catalogue above
    `settings.max_items`, unless the most taken are kept.
    """
    if not split.dataset.ordered:
        settings = settings.model_copy(update={"history_decay": (1.0,)})
    items, catalogue = trained_items(split, settings, name), scored_catalogue(split)
    requests, truths = validation_sample(split, settings.validation_users, seed, name)
    qualities: dict[SettingsT, float] = {}
    for solved in variants(settings, *solved_by):
        weights = solve(solved, items)
        reached: dict[SettingsT, float] = {}
        for variant in variants(solved, "history_decay"):
            score = partial(linear_scores, catalogue, items, weights, variant.history_decay[0])
            reached[variant] = mean_ndcg(catalogue, score, requests, truths)
        if not qualities or max(reached.values()) > max(qualities.values()):
            best = weights
        qualities |= reached
        del weights  # before the next ones are made
    choice = choose(name, (*solved_by, "history_decay"), qualities, "ndcg@10")
    notes = [
        *not_counted(split, settings.user_events, f"baselines.{name}.user_events"),
        *_left_out(split, items, name),
    ]
    decay = choice.settings.history_decay[0]
    return LinearItems(catalogue, items, best, decay, choice, name, tuple(notes))


def linear_scores(
    catalogue: ScoredCatalogue,
    items: np.ndarray,
    weights: np.ndarray,
    decay: float,
    requests: Sequence[Request],
) -> np.ndarray:
    """[R, I] float32: x B at `items` [T], 0 elsewhere."""
    history = history_weights(requests, catalogue, decay)
    scores = np.zeros((len(requests), len(catalogue.item_ids)), np.float32)
    scores[:, items] = history[:, items] @ weights
    return scores


def trained_items(split: Split, settings: LinearSettings, name: str) -> np.ndarray:
    """[T] catalogue rows with a training event, ascending; of more than `max_items` the most taken, where
    those are to be kept, else SettingsError is raised."""
    items, most = np.flatnonzero(split.popularity), settings.max_items
    if len(items) <= most:
        return items
    if settings.keep_most_taken:
        return np.sort(np.argsort(-split.popularity, kind="stable")[:most])
    raise SettingsError(
        f"{name} solves for a matrix of {len(items):,} x {len(items):,} items, which takes "
        f"{BYTES * len(items) ** 2 / 1e9:.1f} GB and the limit is {most:,} items; set "
        f"baselines.{name}.max_items = {len(items)} if there is as much memory, or "
        f"baselines.{name}.keep_most_taken = true, or leave {name} out."
    )


def _left_out(split: Split, items: np.ndarray, name: str) -> list[str]:
    """A sentence on the items that are not solved for, if any."""
    trained = int(np.count_nonzero(split.popularity))
    if len(items) == trained:
        return []
    return [
        f"{name}: the {len(items):,} most taken of {trained:,} items; the others score 0 "
        f"(baselines.{name}.max_items)."
    ]


def user_sums(
    split: Split, items: np.ndarray, events: int, matrices: UserMatrices
) -> tuple[csr_matrix, csr_matrix]:
    """G and K, [T, T] float32 each: sums over users of S S^T and S T^T, of the most recent `events` training
    events of each, cells of other items than `items` left out."""
    row_of = np.full(len(split.dataset.items), -1)
    row_of[items] = np.arange(len(items))
    gram, moves = _CellSum(len(items)), _CellSum(len(items))
    for first, stop in split.training_bounds.tolist():
        first = max(first, stop - events)
        if stop - first < 2:
            continue  # nobody to be a source of, or a target
        source, target = matrices(first, stop)
        rows = row_of[split.dataset.event_item[first:stop]]
        gram.add(rows, source @ source.T)
        moves.add(rows, source @ target.T)
    return gram.total(), moves.total()


class _CellSum:
    """A sum of users' matrices [n, n] on the rows and columns of their items."""

    def __init__(self, size: int) -> None:
        self._sum = csr_matrix((size, size), dtype=np.float32)
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._cells = 0

    def add(self, rows: np.ndarray, cells: np.ndarray) -> None:
        nonzero = np.nonzero(cells)
        if rows.min() < 0:  # an item that is not counted
            counted = (rows[nonzero[0]] >= 0) & (rows[nonzero[1]] >= 0)
            nonzero = nonzero[0][counted], nonzero[1][counted]
        self._parts.append((cells[nonzero], rows[nonzero[0]], rows[nonzero[1]]))
        self._cells += len(nonzero[0])
        if self._cells > BUFFERED_CELLS:
            self._flush()

    def total(self) -> csr_matrix:
        self._flush()
        return self._sum

    def _flush(self) -> None:
        if not self._parts:
            return
        values, rows, columns = map(np.concatenate, zip(*self._parts, strict=True))
        self._sum = self._sum + csr_matrix((values.astype(np.float32), (rows, columns)), self._sum.shape)
        self._parts, self._cells = [], 0


def inverse(gram: csr_matrix, l2: float) -> np.ndarray:
    """[T, T] float32: (gram + l2 I)^-1 of a symmetric `gram`, by Cholesky factors, all in one matrix."""
    matrix = gram.astype(np.float32).toarray()
    matrix[np.diag_indices(len(matrix))] += l2
    # LAPACK's lower triangle is numpy's upper one; both routines work in place
    factor, failed = lapack.spotrf(matrix.T, lower=1, overwrite_a=1)
    if not failed:
        factor, failed = lapack.spotri(factor, lower=1, overwrite_c=1)
    if failed:
        raise SettingsError(
            f"the sums over users cannot be inverted with l2 = {l2:g} in single precision; try a higher l2."
        )
    result = factor.T
    for start in range(0, len(result), ROWS):
        stop = min(start + ROWS, len(result))
        square = np.triu(result[start:stop, start:stop])
        result[start:stop, start:stop] = square + np.triu(square, 1).T
        result[stop:, start:stop] = result[start:stop, stop:].T
    returned: np.ndarray = result
    return returned


def times(matrix: np.ndarray, other: csr_matrix) -> np.ndarray:
    """`matrix` other, [T, T], in the memory of `matrix`."""
    dense = other.nnz > DENSE * len(matrix) ** 2
    right = other.toarray() if dense else other
    for start in range(0, len(matrix), ROWS):
        matrix[start : start + ROWS] = matrix[start : start + ROWS] @ right
    return matrix


def ages(length: int) -> np.ndarray:
    """[n, n]: how many events before the target t (a column) the source s (a row) is; 0 for the last one
    before it, below 0 for the target itself and later ones."""
    position = np.arange(length)
    return position[None, :] - position[:, None] - 1
