"""Is a difference more than chance? Percentile bootstrap intervals and a paired randomisation test,
both over users.

Users are what was sampled, so users are what is resampled: all ratings of a user go together. Every
metric here is f(sum over users of numerator / sum over users of count), with f the square root for RMSE
and the identity otherwise.

Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13 (percentile intervals). Smucker,
Allan, Carterette, "A comparison of statistical significance tests for information retrieval evaluation", CIKM
2007 (randomisation test). Phipson and Smyth, "Permutation p-values should never be zero", 2010 (the + 1 in
numerator and denominator).

Legend: U users, M metrics, B resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from shelftalk import seeds
from shelftalk.evaluation.metrics import RATING_COLUMNS, metric_names
from shelftalk.recommender import TaskName

CELLS = 4_000_000
"""Random weights held at a time: 32 MB of float64."""
ROUNDING = 1e-12
"""Differences closer than this are equal; metrics are sums of few distinct values, so ties are common."""


@dataclass(frozen=True)
class Difference:
    """First minus second: value, 95 % interval, two-sided p, and the number of users compared."""

    value: float
    low: float
    high: float
    p: float
    n: int


def bootstrap_intervals(
    frame: pl.DataFrame, task: TaskName, resamples: int = 2000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """The 95 % percentile interval (low, high) of each metric of the task, by resampling users.

    Independent of the order of the rows. Raises ValueError for an empty frame.
    """
    return intervals_side_by_side({"": frame}, metric_names(task), resamples, seed)[""]


Ratios = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Metric -> [U] numerators and [U] denominators, users in the order of their ids: sums whose ratio it is."""


def intervals_side_by_side(
    frames: Mapping[str, pl.DataFrame],
    names: list[str],
    resamples: int = 2000,
    seed: int = 0,
    ratios: Mapping[str, Ratios] | None = None,
) -> dict[str, dict[str, tuple[float, float]]]:
    """Model -> metric -> interval as `bootstrap_intervals` gives it; users are drawn once for all models,
    which saves their time.

    `ratios`: by model, further metrics, which are not columns of the frames. Raises ValueError for empty
    frames, and unless all hold the same rows.
    """
    first, *others = frames.values()
    for other in others:
        _check_same_rows(first, other)
    summed = [sums_per_user(frame, names) for frame in frames.values()]
    sums, counts = np.hstack([sums for sums, _ in summed]), summed[0][1]  # [U, models * M], [U]
    columns = [(model, name) for model in frames for name in names]
    ratio_columns = [(model, name) for model, of_model in (ratios or {}).items() for name in of_model]
    pairs = [(ratios or {})[model][name] for model, name in ratio_columns]
    further = np.stack([ends for pair in pairs for ends in pair], axis=1) if pairs else sums[:, :0]
    weights = bootstrap_weights(len(counts), resamples, seeds.generator(seed, "bootstrap"))
    # products apart: further columns must not change how those of the others are rounded
    summed_up, rows, summed_further = _resampled([sums, counts, further], weights)
    values = metrics_of_sums(summed_up, rows, [name for _, name in columns])  # [B, models * M]
    values = np.hstack([values, summed_further[:, ::2] / summed_further[:, 1::2]])
    low, high = np.percentile(values, [2.5, 97.5], axis=0)
    intervals: dict[str, dict[str, tuple[float, float]]] = {model: {} for model in frames}
    for position, (model, name) in enumerate([*columns, *ratio_columns]):
        intervals[model][name] = (float(low[position]), float(high[position]))
    return intervals


def _resampled(blocks: Sequence[np.ndarray], weights: Iterator[np.ndarray]) -> list[np.ndarray]:
    """For each block [U, ...] its sums over the drawn users [B, ...]."""
    products = [[w @ block for block in blocks] for w in weights]
    return [np.concatenate(of_block) for of_block in zip(*products, strict=True)]


def paired_difference(
    frame_a: pl.DataFrame,
    frame_b: pl.DataFrame,
    metric: str,
    resamples: int = 2000,
    permutations: int = 10_000,
    seed: int = 0,
) -> Difference:
    """`metric` of a minus that of b on the same users: bootstrap interval, and p under random exchange of a
    and b per user.

    Rows are matched by user and item (the truth, or the item rated). Raises ValueError unless both frames
    hold the same rows.
    """
    _check_same_rows(frame_a, frame_b)
    (sums_a, counts), (sums_b, _) = sums_per_user(frame_a, [metric]), sums_per_user(frame_b, [metric])
    both = np.hstack([sums_a, sums_b])  # [U, 2]
    value = float(_gap(both.sum(axis=0, keepdims=True), counts.sum(keepdims=True), metric)[0])
    rng = seeds.generator(seed, "paired bootstrap", metric)
    weights = bootstrap_weights(len(counts), resamples, rng)
    resampled = np.concatenate([_gap(w @ both, w @ counts, metric) for w in weights])  # [B]
    low, high = np.percentile(resampled, [2.5, 97.5])
    p = _randomisation_p(
        both, float(counts.sum()), metric, permutations, seeds.generator(seed, "randomisation", metric)
    )
    return Difference(value, float(low), float(high), p, len(counts))


def _randomisation_p(
    both: np.ndarray, total: float, metric: str, permutations: int, rng: np.random.Generator
) -> float:
    """Two-sided p of the observed gap among gaps with a and b exchanged, each user by a fair coin.

    Users on whom a and b agree change nothing by the exchange, so they are left out.
    """
    half_gap = (both[:, 0] - both[:, 1]) / 2
    half_gap = half_gap[half_gap != 0]
    middle = both.sum() / 2  # sum of a = middle + signed half gaps, sum of b = middle - them
    observed = abs(_gap(both.sum(axis=0, keepdims=True), np.array([total]), metric)[0])
    as_large = 0
    for rows in _chunks(permutations, len(half_gap)):
        signs = rng.integers(0, 2, (rows, len(half_gap)), dtype=np.int8) * 2.0 - 1.0  # [rows, U]
        shift = signs @ half_gap
        gaps = _gap(np.stack([middle + shift, middle - shift], axis=1), np.full(rows, total), metric)
        as_large += int((np.abs(gaps) >= observed - ROUNDING).sum())
    return (as_large + 1) / (permutations + 1)


def sums_per_user(frame: pl.DataFrame, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """[U, M] sums of the metrics' columns and [U] row counts, users in the order of their ids."""
    if frame.is_empty():
        raise ValueError("no rows to resample")
    columns = [pl.col(RATING_COLUMNS.get(name, name)).sum() for name in names]
    users = frame.group_by("user").agg(*columns, rows=pl.len()).sort("user")
    return users.drop("user", "rows").to_numpy(), users["rows"].to_numpy().astype(np.float64)


def metrics_of_sums(sums: np.ndarray, counts: np.ndarray, names: list[str]) -> np.ndarray:
    """[B, M] sums and [B] counts -> [B, M] metrics."""
    means = sums / counts[:, None]
    return np.stack(
        [np.sqrt(means[:, m]) if name == "rmse" else means[:, m] for m, name in enumerate(names)], axis=1
    )


def _gap(sums: np.ndarray, counts: np.ndarray, metric: str) -> np.ndarray:
    """[B, 2] sums of a and b -> [B] metric of a minus metric of b."""
    values = metrics_of_sums(sums, counts, [metric, metric])
    return values[:, 0] - values[:, 1]


def bootstrap_weights(users: int, resamples: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """[rows, U] float64 at a time: how often each user was drawn, `users` draws with replacement per row."""
    for rows in _chunks(resamples, users):
        drawn = rng.integers(0, users, (rows, users)) + np.arange(rows)[:, None] * users
        yield np.bincount(drawn.ravel(), minlength=rows * users).reshape(rows, users).astype(np.float64)


def _chunks(total: int, width: int) -> Iterator[int]:
    """Row counts that sum to `total`, each with rows * width within CELLS."""
    size = max(1, CELLS // max(1, width))
    return (min(size, total - start) for start in range(0, total, size))


def _check_same_rows(frame_a: pl.DataFrame, frame_b: pl.DataFrame) -> None:
    keys_a, keys_b = (frame.select("user", "item").sort("user", "item") for frame in (frame_a, frame_b))
    if not keys_a.equals(keys_b):
        raise ValueError(
            "the two models were not evaluated on the same users and items; compare frames of one split"
        )
