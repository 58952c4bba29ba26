"""Several seeds: the mean of a model with its spread, and differences between models, with intervals that
cover the users and the seeds.

A figure is uncertain for two reasons: other users could have been drawn, and other seeds. The two are
crossed, since the same users are evaluated under every seed. Users are many and are resampled, all seeds of a
user together. Seeds are few: of three of them the bootstrap's interval would be their range, which covers the
truth in 75 of 100 cases. Their part is therefore drawn from Student's t around the mean over the seeds. Its
scale is the deviation of the values of the seeds or, where several variants were trained under the same
seeds, the spread that is left in the table of variants times seeds when the means of both are taken out,
pooled over the variants as in a two-way analysis of variance (so it is taken to be alike for all of them). It
includes what is peculiar to a user under one seed; so the part of the users is reduced to what all seeds have
in common, and nothing is counted twice.

Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13. Owen, "The pigeonhole bootstrap",
Annals of Applied Statistics 1(2), 2007 (crossed factors).

Legend: V variants, S seeds, U users, B resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from shelftalk import seeds as random_streams
from shelftalk.evaluation.metrics import RATING_COLUMNS
from shelftalk.evaluation.resampling import bootstrap_weights
from shelftalk.evaluation.significance import (
    ROUNDING,
    Difference,
    metrics_of_sums,
    paired_difference,
    sums_per_user,
)


@dataclass(frozen=True)
class OverSeeds:
    """A metric of one model under several seeds: the mean with its 95 % interval over users and seeds, the
    standard deviation over the seeds (None with one seed), the lowest and the highest value, and each."""

    mean: float
    deviation: float | None
    lowest: float
    highest: float
    low: float
    high: float
    per_seed: tuple[float, ...]


@dataclass(frozen=True)
class Gap:
    """First minus second: the mean over the seeds with its 95 % interval and two-sided p over users and
    seeds, and the value of each seed.

    `users` is the same with the seeds taken as given: its interval and its p, that of a paired randomisation
    test, cover other users only.
    """

    value: float
    low: float
    high: float
    p: float
    per_seed: tuple[float, ...]
    users: Difference


@dataclass(frozen=True)
class SeedNoise:
    """The standard error that the choice of seeds gives to the mean over the seeds of one difference, and its
    degrees of freedom."""

    deviation: float
    freedom: int


def pooled_noise(values: np.ndarray) -> SeedNoise | None:
    """From a metric's values [V, S]: the residuals of the additive model variant + seed. None for one seed or
    one variant.

    deviation = sqrt(2 sum(residuals^2) / freedom / S), freedom = (V - 1)(S - 1)
    """
    freedom = (values.shape[0] - 1) * (values.shape[1] - 1)
    if freedom == 0:
        return None
    residuals = (
        values - values.mean(axis=1, keepdims=True) - values.mean(axis=0, keepdims=True) + values.mean()
    )
    return SeedNoise(float(np.sqrt(2 * (residuals**2).sum() / freedom / values.shape[1])), freedom)


def over_seeds(
    tables: Sequence[pl.DataFrame], metric: str, resamples: int = 2000, seed: int = 0
) -> OverSeeds:
    """`metric` of a model, given as one per-user table per seed.

    With one seed the interval covers the users alone. Raises ValueError unless all tables hold the same
    number of rows of the same users.
    """
    sums, counts = _sums(tables, metric)
    rng = random_streams.generator(seed, "one model over seeds", metric)
    per_seed = _metric_of_each(np.ones((1, len(counts))), sums, counts, metric)[0]
    weights = bootstrap_weights(len(counts), resamples, rng)
    resampled = np.concatenate([_metric_of_each(w, sums, counts, metric) for w in weights])  # [B, S]
    low, high, _ = crossed_interval(per_seed, resampled, _own_noise(per_seed), rng)
    deviation = float(per_seed.std(ddof=1)) if len(per_seed) > 1 else None
    ends = float(per_seed.min()), float(per_seed.max())
    return OverSeeds(float(per_seed.mean()), deviation, *ends, low, high, tuple(per_seed.tolist()))


def gap(
    first: Sequence[pl.DataFrame],
    second: Sequence[pl.DataFrame],
    metric: str,
    resamples: int = 2000,
    seed: int = 0,
    noise: SeedNoise | None = None,
) -> Gap:
    """`metric` of first minus second, each given as one per-user table per seed, in the order of the seeds.

    `noise` is that of the seeds, by default that of these two alone. With one seed the interval covers the
    users alone. Raises ValueError unless all tables hold the same users and items.
    """
    over_seeds = paired_difference(
        _mean_table(first, metric), _mean_table(second, metric), metric, resamples, seed=seed
    )
    sums_a, counts = _sums(first, metric)
    sums_b, others = _sums(second, metric)
    if not np.array_equal(counts, others):
        raise ValueError("the tables of two seeds differ in their rows per user; compare tables of one split")
    rng = random_streams.generator(seed, "users and seeds", metric)
    per_seed = _gaps(np.ones((1, len(counts))), sums_a, sums_b, counts, metric)[0]
    weights = bootstrap_weights(len(counts), resamples, rng)
    resampled = np.concatenate([_gaps(w, sums_a, sums_b, counts, metric) for w in weights])  # [B, S]
    low, high, p = crossed_interval(per_seed, resampled, noise or _own_noise(per_seed), rng)
    return Gap(float(per_seed.mean()), low, high, p, tuple(per_seed.tolist()), over_seeds)


def crossed_interval(
    per_seed: np.ndarray, resampled: np.ndarray, noise: SeedNoise | None, rng: np.random.Generator
) -> tuple[float, float, float]:
    """The 95 % interval of the mean over the seeds, and its two-sided p-value: how often chance alone goes as
    far from zero.

    `per_seed` [S]: the difference under each seed; `resampled` [B, S]: the same for users drawn with
    replacement; without `noise` the users' part is the whole spread.
    """
    middle = per_seed.mean()
    spread = resampled.mean(axis=1) - middle  # [B]
    if noise is not None and len(per_seed) > 1:
        spread = spread * np.sqrt(_common_share(resampled)) + noise.deviation * rng.standard_t(
            noise.freedom, len(spread)
        )
    low, high = np.percentile(middle + spread, [2.5, 97.5])
    as_far = int((np.abs(spread) >= abs(middle) - ROUNDING).sum())
    return float(low), float(high), (as_far + 1) / (len(spread) + 1)


def _common_share(resampled: np.ndarray) -> float:
    """Of the users' variance of the mean over the seeds, the share that all seeds have in common: the
    covariance between them."""
    covariance = np.cov(resampled, rowvar=False)
    seeds = len(covariance)
    common = (covariance.sum() - np.trace(covariance)) / (seeds * (seeds - 1))
    whole = covariance.mean()
    return float(np.clip(common / whole, 0, 1)) if whole > 0 else 0.0


def _gaps(
    weights: np.ndarray, first: np.ndarray, second: np.ndarray, counts: np.ndarray, metric: str
) -> np.ndarray:
    """[B, U] weights -> [B, S] metric of first minus metric of second under each seed."""
    sides = (_metric_of_each(weights, sums, counts, metric) for sums in (first, second))
    result: np.ndarray = np.subtract(*sides)
    return result


def _metric_of_each(weights: np.ndarray, sums: np.ndarray, counts: np.ndarray, metric: str) -> np.ndarray:
    """[B, U] weights, [S, U] sums -> [B, S] metric under each seed."""
    return metrics_of_sums(weights @ sums.T, weights @ counts, [metric] * len(sums))


def _own_noise(per_seed: np.ndarray) -> SeedNoise | None:
    """The noise of the seeds that the values [S] of one model, or of one difference, show by themselves:
    their deviation / sqrt(S), with S - 1 degrees of freedom."""
    return pooled_noise(np.stack([per_seed, 0 * per_seed]))


def _sums(tables: Sequence[pl.DataFrame], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """[S, U] per-user sums, users in the order of their ids, and [U] rows per user, which are the same under
    every seed. Raises ValueError where they are not."""
    users = [table["user"].unique().sort() for table in tables]
    per_table = [sums_per_user(table, [metric]) for table in tables]
    same = (
        users[0].equals(others) and np.array_equal(per_table[0][1], counts)
        for others, (_, counts) in zip(users, per_table, strict=True)
    )
    if not all(same):
        raise ValueError(
            "the tables of two seeds differ in their users or rows per user; compare tables of one split"
        )
    return np.stack([sums[:, 0] for sums, _ in per_table]), per_table[0][1]


def _mean_table(tables: Sequence[pl.DataFrame], metric: str) -> pl.DataFrame:
    """One row per user and item, the metric's column averaged over the seeds. Raises ValueError for tables of
    different rows."""
    column = RATING_COLUMNS.get(metric, metric)
    together = pl.concat([table.select("user", "item", column) for table in tables])
    mean = together.group_by("user", "item").agg(pl.col(column).mean(), seeds=pl.len()).sort("user", "item")
    if (mean["seeds"] != len(tables)).any():
        raise ValueError(
            "the runs of two seeds were not evaluated on the same users and items; compare runs of one split"
        )
    return mean.drop("seeds")
