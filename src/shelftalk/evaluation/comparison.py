"""All models of a run side by side: per-user tables, metrics with intervals, slices and paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from shelftalk.data.splitting import Split
from shelftalk.errors import SettingsError
from shelftalk.evaluation.evaluator import evaluate_ranking, evaluate_rating, evaluate_retrieval, summarise
from shelftalk.evaluation.metrics import Task
from shelftalk.evaluation.significance import bootstrap_intervals, paired_difference
from shelftalk.evaluation.slices import slice_metrics
from shelftalk.records import Ranking, Request

COMPARED: dict[Task, tuple[str, ...]] = {
    "retrieval": ("recall@10", "ndcg@10"),
    "ranking": ("ndcg@10", "hr@1"),
    "rating": ("rmse",),
}
"""The metrics of each task in which models are compared pairwise, the main one first; fixed before any result was seen."""


@dataclass(frozen=True)
class Comparison:
    """`metrics` as metrics.json holds them; `tables` by name: one per task (a row per user or rating and model), slices,
    differences."""

    metrics: dict[str, dict[str, dict[str, Any]]]
    tables: dict[str, pl.DataFrame]


def compare(split: Split, answers: Mapping[Task, Mapping[str, Any]], resamples: int, seed: int) -> Comparison:
    """Measure the test part's answers, task -> model -> rankings or estimates in the order of the split's requests.

    Raises InvalidAnswer for a ranking that holds what it must not, and SettingsError where no model answered any task.
    """
    metrics: dict[str, dict[str, dict[str, Any]]] = {}
    tables: dict[str, pl.DataFrame] = {}
    slices: list[pl.DataFrame] = []
    differences: list[dict[str, Any]] = []
    popularity = dict(zip(split.dataset.item_ids, split.popularity.tolist(), strict=True))
    for task, of_models in answers.items():
        frames = {name: _evaluated(task, given, split) for name, given in of_models.items()}
        if not frames:
            continue
        metrics[task] = {}
        for name, frame in frames.items():
            metrics[task][name] = summarise(frame, task)
            intervals = bootstrap_intervals(frame, task, resamples, seed)
            metrics[task][f"{name}.ci"] = {metric: list(ends) for metric, ends in intervals.items()}
            slices.append(_labelled(slice_metrics(frame, popularity, task), task=task, model=name))
        tables[task] = pl.concat([_labelled(frame, model=name) for name, frame in frames.items()])
        differences += _differences(task, frames, resamples, seed)
    if not slices:
        raise SettingsError("none of the models answers a task that the data supports; name another one in --models.")
    tables["slices"] = pl.concat(slices, how="diagonal")
    tables["differences"] = pl.DataFrame(differences, schema=_DIFFERENCE)
    return Comparison(metrics, tables)


def retrieval_figures(
    rankings: Sequence[Ranking], requests: Sequence[Request], truths: Sequence[str], split: Split
) -> dict[str, float]:
    """The retrieval metrics of one set of rankings."""
    return summarise(evaluate_retrieval(rankings, requests, truths, split.dataset.item_ids), "retrieval")


_DIFFERENCE = (
    {"task": pl.String, "first": pl.String, "second": pl.String, "metric": pl.String}
    | {name: pl.Float64 for name in ("value", "low", "high", "p")}
    | {"n": pl.Int64}
)


def _evaluated(task: Task, given: Any, split: Split) -> pl.DataFrame:
    if task == "rating":
        return evaluate_rating(given, *split.rating_requests("test"))
    if task == "ranking":
        return evaluate_ranking(given, *split.ranking_requests("test"))
    return evaluate_retrieval(given, *split.retrieval_requests("test"), split.dataset.item_ids)


def _differences(task: Task, frames: Mapping[str, pl.DataFrame], resamples: int, seed: int) -> list[dict[str, Any]]:
    """Every model against every one that stands behind it in the experiment's list."""
    names = list(frames)
    pairs = [(first, second) for place, first in enumerate(names) for second in names[place + 1 :]]
    rows = []
    for metric in COMPARED[task]:
        for first, second in pairs:
            found = paired_difference(frames[first], frames[second], metric, resamples, seed=seed)
            rows.append({"task": task, "first": first, "second": second, "metric": metric, **asdict(found)})
    return rows


def _labelled(frame: pl.DataFrame, **labels: str) -> pl.DataFrame:
    """The labels as first columns."""
    return frame.select(*(pl.lit(value).alias(name) for name, value in labels.items()), pl.all())
