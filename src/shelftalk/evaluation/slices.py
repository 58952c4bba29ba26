"""Where a model is good: metrics by the item's popularity in training and by the length of the history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import polars as pl

from shelftalk.evaluation.evaluator import summarise
from shelftalk.evaluation.significance import intervals_side_by_side
from shelftalk.recommender import TaskName

HISTORY_STARTS = (0, 5, 10, 20, 50, 100)
"""First history length of each bin."""
NEVER_SEEN = "never seen"


def slice_metrics(frame: pl.DataFrame, popularity: Mapping[str, int], task: TaskName) -> pl.DataFrame:
    """One row per slice that holds a row of `frame`: slice_kind, slice, users (distinct), and
    the task's metrics.

    `popularity` counts the training events of every catalogue item. The items seen in training are cut into
    thirds by their count, equal counts together, and items never seen are a slice of their own; so slices are
    the same for all models and parts. Raises ValueError for an evaluated item that `popularity` does not
    hold.
    """
    rows = [
        {"slice_kind": kind, "slice": label, "users": part["user"].n_unique(), **summarise(part, task)}
        for kind, label, part in _sliced(frame, popularity)
    ]
    return pl.DataFrame(rows)


def slices_of_models(
    frames: Mapping[str, pl.DataFrame],
    popularity: Mapping[str, int],
    task: TaskName,
    bounded: Sequence[str],
    resamples: int,
    seed: int,
) -> pl.DataFrame:
    """`slice_metrics` of every model, with `METRIC.low` and `METRIC.high`, the 95 % interval, for the
    metrics of `bounded`.

    All frames hold the same requests in the same order. A slice in which all users are alike, such as one
    without a single hit, has no interval: its ends are null.
    """
    tables = {model: slice_metrics(frame, popularity, task) for model, frame in frames.items()}
    sliced = [_sliced(frame, popularity) for frame in frames.values()]
    bounds: list[dict[str, object]] = []
    for parts in zip(*sliced, strict=True):
        kind, label, _ = parts[0]
        by_model = {model: part for model, (_, _, part) in zip(frames, parts, strict=True)}
        intervals = intervals_side_by_side(by_model, [*bounded], resamples, seed)
        for model in frames:
            ends = {metric: _ends(intervals[model][metric]) for metric in bounded}
            bounds.append({"model": model, "slice_kind": kind, "slice": label, **_flat(ends)})
    measured = pl.concat(
        [table.select(pl.lit(model).alias("model"), pl.all()) for model, table in tables.items()]
    )
    schema = {f"{metric}.{end}": pl.Float64 for metric in bounded for end in ("low", "high")}
    return measured.join(
        pl.DataFrame(bounds, schema_overrides=schema),
        on=["model", "slice_kind", "slice"],
        how="left",
        maintain_order="left",
    )


def _ends(interval: tuple[float, float]) -> tuple[float | None, float | None]:
    low, high = interval
    return (low, high) if high > low else (None, None)


def _flat(ends: Mapping[str, tuple[float | None, float | None]]) -> dict[str, float | None]:
    return {
        f"{metric}.{end}": value
        for metric, pair in ends.items()
        for end, value in zip(("low", "high"), pair, strict=True)
    }


def _sliced(frame: pl.DataFrame, popularity: Mapping[str, int]) -> Iterator[tuple[str, str, pl.DataFrame]]:
    """Kind, label and rows of every slice that holds a row."""
    if unknown := sorted(set(frame["item"]) - popularity.keys()):
        raise ValueError(
            f'item "{unknown[0]}" was evaluated but has no training count; give the counts of the whole '
            "catalogue"
        )
    counts = (
        frame.select(pl.col("item").replace_strict(popularity, return_dtype=pl.Int64)).to_series().to_numpy()
    )
    kinds = {
        "item popularity": (counts, popularity_starts(popularity), "event"),
        "history length": (frame["history_length"].to_numpy(), HISTORY_STARTS, "item"),
    }
    for kind, (values, starts, unit) in kinds.items():
        yield from ((kind, label, part) for label, part in _parts(frame, values, starts, unit))


def popularity_starts(popularity: Mapping[str, int]) -> tuple[int, ...]:
    """First training count of each slice: 0, 1, and where the second and last third of the
    seen items begin."""
    seen = np.sort([count for count in popularity.values() if count > 0])
    cuts = [int(seen[len(seen) * third // 3]) for third in (1, 2)] if len(seen) else []
    return tuple(sorted({0, 1, *cuts}))


def _parts(
    frame: pl.DataFrame, values: np.ndarray, starts: Sequence[int], unit: str
) -> list[tuple[str, pl.DataFrame]]:
    """Label and rows of each bin that is not empty, in ascending order."""
    bins = np.searchsorted(starts, values, side="right") - 1
    ends = [*(start - 1 for start in starts[1:]), None]
    labels = [_label(start, end, unit) for start, end in zip(starts, ends, strict=True)]
    return [(labels[number], frame.filter(pl.Series(bins == number))) for number in np.unique(bins).tolist()]


def _label(start: int, end: int | None, unit: str) -> str:
    """ "never seen", "1 event", "2-12 events", "13 or more events"."""
    if unit == "event" and end == 0:
        return NEVER_SEEN
    if end is None:
        return f"{start} or more {unit}s"
    return f"{start}-{end} {unit}s" if end > start else f"{start} {unit}{'' if start == 1 else 's'}"
