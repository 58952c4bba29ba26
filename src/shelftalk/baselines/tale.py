"""tale: every item predicted from all earlier ones of its user, near ones weighing more, in closed form.

    B = (S^T S + l2 I)^-1 S^T T

S and T have a row for every training event but a user's first: T is 1 at the item taken, S holds at each
earlier item of the user max(exp(-d / source_days), source_floor), with d days between the two events (where
the data has no times: the events between them, and source_events). With trend_days, cells of S and T are
divided by the square root of the item's training events in the trend_days up to the event of the cell.

Park, Yoon, Choi, Lee, "Temporal linear item-item model for sequential recommendation", WSDM 2025. A request
has no times, so its history is weighted by age. Without an order all other items of a user are the source of
each, with weight 1.

Legend: E events, n training events of a user.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.sparse import csr_matrix

from shelftalk.baselines.linear import (
    LinearItems,
    LinearSettings,
    Positive,
    ages,
    fit_linear,
    inverse,
    times,
    trained_items,
    user_sums,
)
from shelftalk.data.splitting import TRAIN, Split

DAY = 86_400  # seconds
Matrices = Callable[[int, int], tuple[np.ndarray, np.ndarray]]


class TaleSettings(LinearSettings):
    """What tale tries on validation."""

    l2: tuple[Positive, ...] = Field((100.0, 500.0), min_length=1)
    """Strengths of the L2 penalty on B to try; above 0. Each costs an inverse."""
    source_days: tuple[Positive, ...] = Field((0.5, 4.0), min_length=1)
    """Days after which the weight of an earlier item has fallen to 1/e, to try. Each costs an inverse."""
    source_events: tuple[Positive, ...] = Field((1.0, 5.0), min_length=1)
    """The same in events, where the data has no times. Each costs an inverse."""
    source_floor: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field((0.4,), min_length=1)
    """Lowest weights of an earlier item to try, each from 0 to 1. Each costs an inverse."""
    trend_days: tuple[Annotated[float, Field(ge=0)], ...] = Field((0.0,), min_length=1)
    """Days of an item's trend to divide by, to try; 0 does not divide. Each costs an inverse."""


def fit_tale(split: Split, settings: TaleSettings, seed: int) -> LinearItems:
    """Solve for every combination of settings, and choose on validation (see `fit_linear`)."""
    items, shape = trained_items(split, settings, "tale"), weighed_by(split)

    @lru_cache(maxsize=1)
    def sums(*values: float) -> tuple[csr_matrix, csr_matrix]:
        given = dict(zip(shape, values, strict=True))
        return user_sums(split, items, settings.user_events, matrices_of(split, given))

    def solve(solved: TaleSettings, items: np.ndarray) -> np.ndarray:
        gram, moves = sums(*(getattr(solved, name)[0] for name in shape))
        return times(inverse(gram, solved.l2[0]), moves)

    return fit_linear(split, settings, seed, "tale", (*shape, "l2"), solve)


def weighed_by(split: Split) -> tuple[str, ...]:
    """The settings that shape S and T for this data."""
    if not split.dataset.ordered:
        return ()
    if not split.dataset.has_times:
        return ("source_events", "source_floor")
    return ("source_days", "source_floor", "trend_days")


def matrices_of(split: Split, given: dict[str, float]) -> Matrices:
    """First and last + 1 row of a user's training events -> S and T, [n, n]: a column for each target, of
    which the first has no source."""
    if not given:
        return lambda first, stop: (1.0 - np.eye(stop - first), np.eye(stop - first))
    data, floor = split.dataset, given["source_floor"]
    days = data.event_second / DAY if "source_days" in given else np.empty(0)  # [E]
    trend_days = given.get("trend_days", 0.0)
    scale = trend(split, days, trend_days) ** -0.5 if trend_days else np.ones(len(data.event_item))

    def matrices(first: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        age = ages(stop - first)
        if "source_days" in given:
            taken = days[first:stop]
            distance = np.abs(taken[None, :] - taken[:, None]) / given["source_days"]
        else:
            distance = np.maximum(age, 0) / given["source_events"]
        source = np.where(age >= 0, np.maximum(np.exp(-distance), floor), 0.0)
        return source * scale[first:stop, None], np.diag(scale[first:stop])

    return matrices


def trend(split: Split, days: np.ndarray, length: float) -> np.ndarray:
    """[E]: the training events of each event's item in the `length` days up to it; at least 1."""
    training, item = split.event_part == TRAIN, split.dataset.event_item.astype(np.float64)
    far = 2 * (days.max() - days.min() + length + 1)  # sorts by item first, then by day
    position = item * far + (days - days.min())
    counted = np.sort(position[training])
    within = np.searchsorted(counted, position, "right") - np.searchsorted(counted, position - length, "left")
    result: np.ndarray = np.maximum(within, 1)
    return result
