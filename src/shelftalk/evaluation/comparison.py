"""All models of a run compared: per-user tables, metrics with intervals, slices and paired differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import polars as pl

from shelftalk.data.splitting import Part, Split
from shelftalk.errors import SettingsError
from shelftalk.evaluation.evaluator import evaluate_ranking, evaluate_rating, evaluate_retrieval, summarise
from shelftalk.evaluation.metrics import metric_names
from shelftalk.evaluation.significance import intervals_side_by_side, paired_difference
from shelftalk.evaluation.slices import slices_of_models
from shelftalk.recommender import TaskName, convention
from shelftalk.records import Request

COMPARED: dict[TaskName, tuple[str, ...]] = {
    "retrieval": ("recall@10", "ndcg@10"),
    "ranking": ("ndcg@10", "hr@1"),
    "rating": ("rmse",),
}
"""The metrics of each task in which models are compared pairwise, the main one first; fixed before any
result was seen."""

OnPiece = Callable[[str, int], None]
"""(what was done, how many of the `pieces` of a comparison that was)."""


def ignore_piece(text: str, pieces: int) -> None:
    """Progress that is not shown."""


def pieces(answers: Mapping[TaskName, Mapping[str, Any]]) -> int:
    """The pieces of work of a comparison: a table, intervals and slices per task and model, and a difference
    per pair of models and compared metric."""
    return sum(
        3 * len(by_model) + len(COMPARED[task]) * math.comb(len(by_model), 2)
        for task, by_model in answers.items()
    )


@dataclass(frozen=True)
class Comparison:
    """`metrics` as metrics.json holds them; `tables` by name: one per task (a row per user or rating and
    model), slices, differences."""

    metrics: dict[str, dict[str, dict[str, Any]]]
    tables: dict[str, pl.DataFrame]


def compare(
    split: Split,
    answers: Mapping[TaskName, Mapping[str, Any]],
    resamples: int,
    seed: int,
    on_piece: OnPiece = ignore_piece,
) -> Comparison:
    """Measure the test part's answers, task -> model -> rankings or estimates in the order of
    the split's requests. `on_piece` is told of all `pieces(answers)`.

    Raises InvalidAnswer for a ranking that holds what it must not, and SettingsError where no model answered
    any task.
    """
    metrics: dict[str, dict[str, dict[str, Any]]] = {}
    tables: dict[str, pl.DataFrame] = {}
    slices: list[pl.DataFrame] = []
    differences: list[dict[str, Any]] = []
    popularity = dict(zip(split.dataset.item_ids, split.popularity.tolist(), strict=True))
    for task, by_model in answers.items():
        if not by_model:
            continue
        requests, truths = requests_of(split, task, "test")
        frames = {
            name: per_user_table(task, answered, requests, truths, split)
            for name, answered in by_model.items()
        }
        on_piece(f"{task}: figures per user", len(frames))
        metrics[task] = {}
        intervals = intervals_side_by_side(frames, metric_names(task), resamples, seed)
        for name, frame in frames.items():
            metrics[task][name] = summarise(frame, task)
            metrics[task][f"{name}.ci"] = {metric: list(ends) for metric, ends in intervals[name].items()}
        on_piece(f"{task}: intervals", len(frames))
        slices.append(
            _labelled(slices_of_models(frames, popularity, task, COMPARED[task], resamples, seed), task=task)
        )
        on_piece(f"{task}: slices", len(frames))
        tables[task] = pl.concat([_labelled(frame, model=name) for name, frame in frames.items()])
        differences += _differences(task, frames, resamples, seed, on_piece)
    if not slices:
        raise SettingsError(
            "none of the models answers a task that the data supports; name another one in --models."
        )
    tables["slices"] = pl.concat(slices, how="diagonal")
    tables["differences"] = pl.DataFrame(differences, schema=_DIFFERENCE)
    return Comparison(metrics, tables)


_DIFFERENCE = (
    {"task": pl.String, "first": pl.String, "second": pl.String, "metric": pl.String}
    | {name: pl.Float64 for name in ("value", "low", "high", "p")}
    | {"n": pl.Int64}
)


def requests_of(split: Split, task: TaskName, part: Part) -> tuple[list[Request], list[Any]]:
    """The task's requests in a part of the split, and their truths."""
    if task == "rating":
        return split.rating_requests(part)
    return split.ranking_requests(part) if task == "ranking" else split.retrieval_requests(part)


def per_user_table(
    task: TaskName, answers: Any, requests: Sequence[Request], truths: Sequence[Any], split: Split
) -> pl.DataFrame:
    """The per-user (or per-rating) table of the answers. Raises InvalidAnswer."""
    if task == "rating":
        return evaluate_rating(answers, requests, truths)
    if task == "ranking":
        return evaluate_ranking(answers, requests, truths)
    return evaluate_retrieval(answers, requests, truths, split.dataset.item_ids)


def _differences(
    task: TaskName, frames: Mapping[str, pl.DataFrame], resamples: int, seed: int, on_piece: OnPiece
) -> list[dict[str, Any]]:
    """Every model against every later one of the experiment's list that has learned from the same parts: a
    model that was fitted again on validation too has an advantage that is no merit."""
    pairs = [pair for pair in combinations(frames, 2) if convention(pair[0]) == convention(pair[1])]
    rows = []
    for metric in COMPARED[task]:
        for first, second in pairs:
            difference = paired_difference(frames[first], frames[second], metric, resamples, seed=seed)
            names = {"task": task, "first": first, "second": second, "metric": metric}
            rows.append({**names, **asdict(difference)})
            on_piece(f"{task}: {first} against {second}", 1)
    return rows


def _labelled(frame: pl.DataFrame, **labels: str) -> pl.DataFrame:
    """The labels as first columns."""
    return frame.select(*(pl.lit(value).alias(name) for name, value in labels.items()), pl.all())
