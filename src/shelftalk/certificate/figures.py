"""Figures recomputed: ranks against per-user tables, tables against means, and all of an evaluation again.

The means are computed here by formulas of their own, from ranks and errors alone, so that an error in
evaluation/ would show; everything else that an evaluation writes is computed again by evaluation/ itself.

Legend: R requests of the test part.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from shelftalk.certificate.answers import Answers, RequestArrays
from shelftalk.runtime.run_folder import RunFolder

TOLERANCE = 1e-9
"""Largest difference of a figure computed again: another machine may add in another order."""
RATING_FORMULAS: dict[str, pl.Expr] = {
    "rmse": ((pl.col("estimate") - pl.col("truth")) ** 2).mean().sqrt(),
    "mae": (pl.col("estimate") - pl.col("truth")).abs().mean(),
}
RANK_GAINS: dict[str, pl.Expr] = {
    "recall": pl.lit(1.0),
    "hr": pl.lit(1.0),
    "ndcg": 1.0 / (pl.col("rank") + 1.0).log(2.0),
    "mrr": 1.0 / pl.col("rank"),
}
"""Metric -> what a rank within the cutoff gains; there is one relevant item."""


@dataclass(frozen=True)
class Deviation:
    """A printed figure that does not follow: where, what is printed and what it should be."""

    where: str
    printed: Any
    computed: Any

    def __str__(self) -> str:
        return f"{self.where} is {_shown(self.printed)}, and {_shown(self.computed)} follows"


def gain(metric: str) -> pl.Expr | None:
    """What a row of a per-user table contributes to a metric such as "ndcg@10"; None for other metrics."""
    name, at, cutoff = metric.partition("@")
    if name not in RANK_GAINS or not cutoff.isdigit():
        return None
    within = pl.col("rank").is_not_null() & (pl.col("rank") <= int(cutoff))
    return pl.when(within).then(RANK_GAINS[name]).otherwise(0.0)


def means(table: pl.DataFrame, task: str, metrics: list[str]) -> dict[str, dict[str, float]]:
    """Model -> metric -> its value, for the metrics that there is a formula for here."""
    if task == "rating":
        formulas = {name: RATING_FORMULAS[name] for name in metrics if name in RATING_FORMULAS}
    else:
        formulas = {name: one.mean() for name in metrics if (one := gain(name)) is not None}
    columns = ["model", *(("truth", "estimate") if task == "rating" else ("rank",))]
    grouped = table.select(columns).group_by("model", maintain_order=True)
    frame = grouped.agg(**formulas)
    return {row.pop("model"): row for row in frame.iter_rows(named=True)}


def printed_metrics(folder: RunFolder) -> dict[str, dict[str, Any]]:
    """metrics.json, task by task."""
    content = json.loads(folder.metrics.read_text("utf-8"))
    return {task: models for task, models in content.items() if task != "split"}


def deviations_of_means(
    printed: Mapping[str, Mapping[str, Any]], tables: Mapping[Any, pl.DataFrame]
) -> tuple[int, list[Deviation], float]:
    """The printed metrics against the per-user tables: how many were computed, those that deviate, and the
    largest difference."""
    number, wrong, largest = 0, [], 0.0
    for task, models in printed.items():
        names = [name for name in models if not name.endswith(".ci")]
        computed = means(tables[task], task, list(dict.fromkeys(m for name in names for m in models[name])))
        for name in names:
            for metric, value in computed.get(name, {}).items():
                number += 1
                largest = max(largest, abs(models[name].get(metric, math.inf) - value))
                if not close(models[name].get(metric), value):
                    wrong.append(Deviation(f"{task}, {name}: {metric}", models[name].get(metric), value))
        if missing := sorted(set(names) ^ set(computed)):
            wrong.append(Deviation(f"{task}: the models", names, missing))
    return number, wrong, largest


def deviations_of_ranks(
    table: pl.DataFrame, requests: RequestArrays, answers: Answers, where: str
) -> list[Deviation]:
    """The rows of one model in a per-user table against the lists it was made of; the first of each kind."""
    users, items = (pl.Series(values) for values in (requests.user, requests.catalogue))
    truth = items.gather(pl.Series(requests.truth.astype(np.int64)))
    expected = pl.DataFrame(
        {
            "user": users,
            "item": truth,
            "rank": pl.Series(answers.ranks).fill_nan(None).replace(np.inf, None),
            "history_length": pl.Series(requests.history.astype(np.int64)),
        }
    )
    if wrong := _other_rows(table, expected.select("user", "item"), where):
        return wrong
    if not table["user"].equals(users) or not table["item"].equals(truth):
        table = expected.select("user", "item").join(
            table, on=["user", "item"], how="left", maintain_order="left"
        )
    deviations = []
    gains = {name: one for name in table.columns if (one := gain(name)) is not None}
    computed = expected.with_columns(**gains)
    for name in ("rank", "history_length", *gains):
        deviations += list(_first_difference(table, computed, name, where))
    return deviations


def deviations_of_errors(table: pl.DataFrame, expected: pl.DataFrame, where: str) -> list[Deviation]:
    """The rows of one model in the per-rating table against its estimates."""
    keys = ["user", "item"]
    if wrong := _other_rows(table, expected.select(keys), where):
        return wrong
    aligned = expected.select(keys).join(table, on=keys, how="left", maintain_order="left")
    error = pl.col("estimate") - pl.col("truth")
    computed = expected.with_columns(squared_error=error**2, absolute_error=error.abs())
    names = ("truth", "estimate", "squared_error", "absolute_error")
    return [one for name in names for one in _first_difference(aligned, computed, name, where)]


def deviations_of_tables(printed: pl.DataFrame, computed: pl.DataFrame, where: str) -> list[Deviation]:
    """Two tables that should be one: columns, number of rows, and the first cell that differs."""
    if printed.columns != computed.columns or len(printed) != len(computed):
        one, other = ([len(frame), *frame.columns] for frame in (printed, computed))
        return [Deviation(f"{where}: rows and columns", one, other)]
    labels = [name for name, kind in computed.schema.items() if kind == pl.String]
    for name in [*labels, *(name for name in computed.columns if name not in labels)]:
        shown, follows = printed[name], computed[name]
        at = _first_unequal(shown, follows)
        if at is not None:
            row = ", ".join(str(computed[label][at]) for label in labels if label != name)
            return [Deviation(f"{where} ({row}): {name}", shown[at], follows[at])]
    return []


def deviations_of_values(printed: Any, computed: Any, where: str) -> Iterator[Deviation]:
    """Two JSON values that should be one, leaf by leaf."""
    if isinstance(printed, Mapping) and isinstance(computed, Mapping):
        for key in dict.fromkeys([*computed, *printed]):
            yield from deviations_of_values(printed.get(key), computed.get(key), f"{where}, {key}")
    elif isinstance(printed, list) and isinstance(computed, list) and len(printed) == len(computed):
        for number, (one, other) in enumerate(zip(printed, computed, strict=True)):
            yield from deviations_of_values(one, other, f"{where}[{number}]")
    elif not close(printed, computed):
        yield Deviation(where, printed, computed)


def within(value: Any, other: Any) -> Any:
    """What of a nested value has its place in the other one: keys that the other lacks are left out."""
    if isinstance(value, Mapping) and isinstance(other, Mapping):
        return {key: within(value[key], other[key]) for key in other if key in value}
    if isinstance(value, list) and isinstance(other, list) and len(value) == len(other):
        return [within(one, another) for one, another in zip(value, other, strict=True)]
    return value


def close(one: Any, other: Any) -> bool:
    """Equal, or numbers within TOLERANCE of each other."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other))
    if not numbers:
        return bool(one == other)
    result: bool = one == other or abs(one - other) <= TOLERANCE * max(1.0, abs(other))
    return result


def _other_rows(table: pl.DataFrame, expected: pl.DataFrame, where: str) -> list[Deviation]:
    """Users or ratings that the table lacks, has twice, or should not have."""
    keys = ["user", "item"]
    given = table.select(keys)
    if given.equals(expected):
        return []
    lacking = expected.join(given, on=keys, how="anti")
    added = given.join(expected, on=keys, how="anti")
    if len(lacking):
        known = added.filter(pl.col("user") == lacking["user"][0])
        if len(known):
            user = lacking["user"][0]
            return [Deviation(f'{where}: the item of user "{user}"', known["item"][0], lacking["item"][0])]
        return [Deviation(f'{where}: the rows of user "{lacking["user"][0]}"', 0, 1)]
    if len(given) != len(expected):
        user = (added if len(added) else given.filter(given.is_duplicated()))["user"][0]
        return [Deviation(f'{where}: the rows, of user "{user}" among others', len(given), len(expected))]
    return []


def _first_difference(
    table: pl.DataFrame, expected: pl.DataFrame, column: str, where: str
) -> Iterator[Deviation]:
    if column not in table.columns:
        yield Deviation(f"{where}: {column}", None, "a column")
        return
    at = _first_unequal(table[column], expected[column])
    if at is not None:
        user = expected["user"][at]
        yield Deviation(f'{where}: {column} of user "{user}"', table[column][at], expected[column][at])


def _first_unequal(one: pl.Series, other: pl.Series) -> int | None:
    """The first position at which two series of one length differ by more than TOLERANCE, null being equal
    to null."""
    if other.dtype.is_numeric() and one.dtype.is_numeric():
        gap = (one - other).abs() > TOLERANCE * other.abs().clip(1.0)
        unequal = gap.fill_null(False) | (one.is_null() != other.is_null())
        unequal |= (
            one.is_nan() != other.is_nan() if one.dtype.is_float() and other.dtype.is_float() else False
        )
    else:
        unequal = one.cast(pl.String).ne_missing(other.cast(pl.String))
    return unequal.arg_max() if unequal.any() else None


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 80 else text[:79] + "…"
