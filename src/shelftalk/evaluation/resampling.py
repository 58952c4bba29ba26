"""Resampled totals of many users, in the time that a few values take.

Drawing each of a million users some thousand times takes minutes. Two facts shorten it:

- Users with equal values are drawn alike. How often a group of n of U users is drawn is multinomial with
  probability n / U, so one number per group stands for the n draws of its users. Metrics of one relevant item
  have as many values as a list has positions, so the groups are few, and the distribution is the same.
- Where nearly every user has a value of their own (errors of ratings), the totals of that many independent
  draws are normal, with the users' covariance: the central limit theorem.

Likewise where two models are exchanged by a coin for each user: the signs of a group of n sum to
2 Binomial(n, 1/2) - n.

Legend: U users, M metrics, C columns, G groups, B resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

CELLS = 4_000_000
"""Random weights held at a time: 32 MB of float64."""
MANY_USERS = 100_000
"""More users than this are drawn by groups; up to this many, one by one."""
MOST_GROUPS = 5_000
"""Of more different values than this, the totals are drawn from their normal limit."""


def resampled_totals(
    blocks: Sequence[np.ndarray], resamples: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """For each block, [U] or [U, M], its totals over U users drawn with replacement: [B] or [B, M].

    The blocks are drawn together. Up to MANY_USERS each is multiplied by itself, so that one block does not
    change how the totals of another are rounded.
    """
    users = len(blocks[0])
    if users <= MANY_USERS:
        weights = bootstrap_weights(users, resamples, rng)
        products = [[drawn @ block for block in blocks] for drawn in weights]
        return [np.concatenate(of_block) for of_block in zip(*products, strict=True)]
    columns = np.column_stack(blocks)  # [U, C]
    values, sizes = grouped(columns)  # [G, C], [G]
    if len(sizes) > MOST_GROUPS:
        totals = _normal_totals(columns, resamples, rng)
    else:
        drawn = (rng.multinomial(users, sizes / users, rows) for rows in chunks(resamples, len(sizes)))
        totals = np.concatenate([rows.astype(np.float64) @ values for rows in drawn])  # [B, C]
    widths = np.cumsum([1 if block.ndim == 1 else block.shape[1] for block in blocks])
    split = np.split(totals, widths[:-1], axis=1)
    return [part[:, 0] if block.ndim == 1 else part for part, block in zip(split, blocks, strict=True)]


def _normal_totals(values: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """[B, C] totals of U draws from `values` [U, C], in the limit of many: mean U m, covariance U S."""
    covariance = np.atleast_2d(np.cov(values, rowvar=False, bias=True)) * len(values)
    return rng.multivariate_normal(values.sum(axis=0), covariance, resamples, method="eigh")


def exchanged_sums(half_gap: np.ndarray, draws: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Sums of `half_gap` [n] with a sign by a fair coin for each, as [rows] at a time, `draws` in all."""
    if len(half_gap) <= MANY_USERS:
        for rows in chunks(draws, len(half_gap)):
            signs = rng.integers(0, 2, (rows, len(half_gap)), dtype=np.int8) * 2.0 - 1.0  # [rows, n]
            yield signs @ half_gap
        return
    values, sizes = grouped(np.abs(half_gap)[:, None])  # [G, 1], [G]
    if len(sizes) > MOST_GROUPS:
        yield rng.normal(0.0, np.sqrt((half_gap**2).sum()), draws)
        return
    for rows in chunks(draws, len(sizes)):
        yield (2.0 * rng.binomial(sizes, 0.5, (rows, len(sizes))) - sizes) @ values[:, 0]


def bootstrap_weights(users: int, resamples: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """[rows, U] float64 at a time: how often each user was drawn, `users` draws with replacement per row."""
    for rows in chunks(resamples, users):
        drawn = rng.integers(0, users, (rows, users)) + np.arange(rows)[:, None] * users
        yield np.bincount(drawn.ravel(), minlength=rows * users).reshape(rows, users).astype(np.float64)


def grouped(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different rows of [U, M] in ascending order, [G, M], and how many users have each, [G] int64."""
    columns = [f"{number}" for number in range(values.shape[1])]
    groups = pl.from_numpy(values, schema=columns).group_by(columns).len("users").sort(columns)
    return groups.select(columns).to_numpy(), groups["users"].to_numpy().astype(np.int64)


def chunks(total: int, width: int) -> Iterator[int]:
    """Row counts that sum to `total`, each with rows * width within CELLS."""
    size = max(1, CELLS // max(1, width))
    return (min(size, total - start) for start in range(0, total, size))
