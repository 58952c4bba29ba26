"""Figures and differences over the seeds of a comparison.

With one seed they are those of the run's own report. With several seeds on one test part they cover the users
and the seeds (evaluation/over_seeds.py). Where each seed has a test part of its own, such as ratings
divided by seed, the seeds are all that can be resampled: Student's t over the values of the seeds.

Legend: S seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import stats

from shelftalk.evaluation.evaluator import summarise
from shelftalk.evaluation.metrics import RATING_COLUMNS
from shelftalk.evaluation.over_seeds import gap
from shelftalk.evaluation.significance import paired_difference
from shelftalk.recommender import TaskName

RESAMPLES = 2000


@dataclass(frozen=True)
class Figure:
    """A metric of one model: the mean over the seeds, their standard deviation (None with one seed), and the
    95 % interval over the users of one run (None with several seeds)."""

    mean: float
    deviation: float | None
    low: float | None
    high: float | None
    per_seed: tuple[float, ...]


@dataclass(frozen=True)
class Paired:
    """A difference on the same requests: value, 95 % interval, two-sided p, and what they cover."""

    value: float
    low: float
    high: float
    p: float
    covers: str
    per_seed: tuple[float, ...]


USERS = "users"
SEEDS = "seeds"
BOTH = "users and seeds"


def figure(per_seed: Sequence[float], interval: Sequence[float] | None) -> Figure:
    """From the value of each seed and, of a single run, its own interval."""
    deviation = float(np.std(per_seed, ddof=1)) if len(per_seed) > 1 else None
    low, high = interval if interval is not None and len(per_seed) == 1 else (None, None)
    return Figure(float(np.mean(per_seed)), deviation, low, high, tuple(per_seed))


def paired(
    first: Sequence[pl.DataFrame],
    second: Sequence[pl.DataFrame],
    task: TaskName,
    metric: str,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Paired:
    """First minus second, given as one per-user table for each seed in the same order; the two tables of a
    seed hold the same requests, those of different seeds need not.

    Raises ValueError where the two tables of a seed differ in their requests.
    """
    values = [
        summarise(a, task)[metric] - summarise(b, task)[metric] for a, b in zip(first, second, strict=True)
    ]
    if len(values) == 1:
        one = paired_difference(first[0], second[0], metric, resamples, seed=seed)
        return Paired(one.value, one.low, one.high, one.p, USERS, tuple(values))
    sides = _by_user(first), _by_user(second)
    if not _same_users([*sides[0], *sides[1]]):
        return _over_seeds_alone(values)
    whole = gap(*sides, metric, resamples, seed)
    return Paired(whole.value, whole.low, whole.high, whole.p, BOTH, whole.per_seed)


def paired_means(
    first: Sequence[pl.DataFrame],
    second: Sequence[pl.DataFrame],
    metric: str,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Paired:
    """First minus second where the two have no seed in common but all tables hold the same requests: each
    request's mean over the seeds of the one against that of the other. The interval covers other users."""
    one = paired_difference(_mean(first, metric), _mean(second, metric), metric, resamples, seed=seed)
    return Paired(one.value, one.low, one.high, one.p, USERS, (one.value,))


def _over_seeds_alone(values: Sequence[float]) -> Paired:
    """Mean, interval and p by Student's t with S - 1 degrees of freedom."""
    mean, freedom = float(np.mean(values)), len(values) - 1
    error = float(np.std(values, ddof=1) / np.sqrt(len(values)))
    half = error * float(stats.t.ppf(0.975, freedom))
    p = 2 * float(stats.t.sf(abs(mean) / error, freedom)) if error else float(mean == 0)
    return Paired(mean, mean - half, mean + half, p, SEEDS, tuple(values))


def _by_user(tables: Sequence[pl.DataFrame]) -> list[pl.DataFrame]:
    """The tables with a running number within the user in place of the item: under another seed a user may be
    asked for another item, and is the same user."""
    number = pl.int_range(pl.len()).over("user").cast(pl.String)
    return [table.sort("user", "item").with_columns(item=number) for table in tables]


def _same_users(tables: Sequence[pl.DataFrame]) -> bool:
    """Whether all tables hold the same users, each with as many rows."""
    first, *others = (table.select("user", "item").sort("user", "item") for table in tables)
    return all(first.equals(other) for other in others)


def _mean(tables: Sequence[pl.DataFrame], metric: str) -> pl.DataFrame:
    """One row per user and item, the metric's column averaged over the tables."""
    column = RATING_COLUMNS.get(metric, metric)
    together = pl.concat([table.select("user", "item", column) for table in tables])
    return together.group_by("user", "item").agg(pl.col(column).mean()).sort("user", "item")
