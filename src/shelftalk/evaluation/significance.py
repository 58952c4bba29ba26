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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from shelftalk import seeds
from shelftalk.evaluation.metrics import RATING_COLUMNS, metric_names
from shelftalk.evaluation.resampling import MANY_USERS, exchanged_sums, resampled_totals
from shelftalk.recommender import TaskName

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
    summed = {model: sums_per_user(frame, names) for model, frame in frames.items()}
    counts = next(iter(summed.values()))[1]  # [U]
    together = [list(frames)] if len(counts) <= MANY_USERS else [[model] for model in frames]
    intervals: dict[str, dict[str, tuple[float, float]]] = {model: {} for model in frames}
    for models in together:  # of many users, equal values are rarer over all models
        sums = np.hstack([summed[model][0] for model in models])  # [U, models * M]
        of_models = [(model, name) for model in models for name in (ratios or {}).get(model, {})]
        pairs = [(ratios or {})[model][name] for model, name in of_models]
        values = _resampled_metrics(sums, counts, names * len(models), pairs, resamples, seed)
        low, high = np.percentile(values, [2.5, 97.5], axis=0)  # of [B, models * M + ratios]
        columns = [(model, name) for model in models for name in names] + of_models
        for (model, name), *ends in zip(columns, low.tolist(), high.tolist(), strict=True):
            intervals[model][name] = (ends[0], ends[1])
    return intervals


def _resampled_metrics(
    sums: np.ndarray,
    counts: np.ndarray,
    names: list[str],
    ratios: Sequence[tuple[np.ndarray, np.ndarray]],
    resamples: int,
    seed: int,
) -> np.ndarray:
    """[B, columns of `sums` and ratios] metrics over resampled users; `names` are those of the columns."""
    rng = seeds.generator(seed, "bootstrap")
    further = [ends for ratio in ratios for ends in ratio]
    blocks = [sums, counts, *([np.stack(further, axis=1)] if further else [])]
    if len(counts) <= MANY_USERS:
        totals, rows, *rest = resampled_totals(blocks, resamples, rng)
    else:  # apart, since the users of equal ranks are few groups and those of equal lists are not
        totals, rows = resampled_totals(blocks[:2], resamples, rng)
        rest = [resampled_totals([block], resamples, rng)[0] for block in blocks[2:]]
    values = metrics_of_sums(totals, rows, names)
    return np.hstack([values, *(block[:, ::2] / block[:, 1::2] for block in rest)])


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
    frames = {"a": frame_a, "b": frame_b}
    return paired_differences(frames, [("a", "b")], metric, resamples, permutations, seed)[0]


def paired_differences(
    frames: Mapping[str, pl.DataFrame],
    pairs: Sequence[tuple[str, str]],
    metric: str,
    resamples: int = 2000,
    permutations: int = 10_000,
    seed: int = 0,
) -> list[Difference]:
    """`paired_difference` of each pair of models; users are drawn once for all pairs, which saves the time of
    drawing and changes no figure. Raises ValueError unless all frames hold the same rows."""
    if not pairs:
        return []
    first, *others = frames.values()
    for other in others:
        _check_same_rows(first, other)
    summed = {model: sums_per_user(frame, [metric]) for model, frame in frames.items()}
    counts = next(iter(summed.values()))[1]  # [U]
    both = [np.hstack([summed[a][0], summed[b][0]]) for a, b in pairs]  # each [U, 2]
    resampled = _resampled_gaps(both, counts, metric, resamples, seed)
    return [
        _difference(of_pair, counts, metric, gaps, permutations, seed)
        for of_pair, gaps in zip(both, resampled, strict=True)
    ]


def _resampled_gaps(
    both: Sequence[np.ndarray], counts: np.ndarray, metric: str, resamples: int, seed: int
) -> list[np.ndarray]:
    """[B] gaps of each pair over resampled users; up to MANY_USERS by the same draws."""
    rng = seeds.generator(seed, "paired bootstrap", metric)
    if len(counts) <= MANY_USERS:
        *totals, rows = resampled_totals([*both, counts], resamples, rng)
        return [_gap(of_pair, rows, metric) for of_pair in totals]
    apart = (resampled_totals([sums, counts], resamples, rng) for sums in both)
    return [_gap(of_pair, rows, metric) for of_pair, rows in apart]


def _difference(
    both: np.ndarray, counts: np.ndarray, metric: str, resampled: np.ndarray, permutations: int, seed: int
) -> Difference:
    """The difference of a pair from its sums [U, 2] and its resampled gaps [B]."""
    value = float(_gap(both.sum(axis=0, keepdims=True), counts.sum(keepdims=True), metric)[0])
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
    for shift in exchanged_sums(half_gap, permutations, rng):  # [rows]
        gaps = _gap(np.stack([middle + shift, middle - shift], axis=1), np.full(len(shift), total), metric)
        as_large += int((np.abs(gaps) >= observed - ROUNDING).sum())
    return (as_large + 1) / (permutations + 1)


def sums_per_user(frame: pl.DataFrame, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """[U, M] sums of the metrics' columns and [U] row counts, users in the order of their ids."""
    if frame.is_empty():
        raise ValueError("no rows to resample")
    columns = [pl.col(RATING_COLUMNS.get(name, name)).sum() for name in names]
    # sorted before: the sums of unsorted groups are rounded as the threads divide them
    users = frame.sort("user", "item").group_by("user", maintain_order=True).agg(*columns, rows=pl.len())
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
    result: np.ndarray = values[:, 0] - values[:, 1]
    return result


def _check_same_rows(frame_a: pl.DataFrame, frame_b: pl.DataFrame) -> None:
    keys_a, keys_b = (frame.select("user", "item").sort("user", "item") for frame in (frame_a, frame_b))
    if not keys_a.equals(keys_b):
        raise ValueError(
            "the two models were not evaluated on the same users and items; compare frames of one split"
        )
