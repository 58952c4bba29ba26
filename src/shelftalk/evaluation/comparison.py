"""All models of a run compared: per-user tables, metrics with intervals, slices, what lists are like, and
paired differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import polars as pl

from shelftalk.data.splitting import Part, Split
from shelftalk.errors import SettingsError
from shelftalk.evaluation.beyond_accuracy import ListMeasures, list_metrics, ratios_per_user, shifted
from shelftalk.evaluation.evaluator import (
    evaluate_ranking,
    evaluate_rating,
    evaluate_retrieval,
    summarise,
    with_further_metrics,
)
from shelftalk.evaluation.metrics import further_names, metric_names
from shelftalk.evaluation.multiple_testing import CORRECTIONS, Correction
from shelftalk.evaluation.power import smallest_effect
from shelftalk.evaluation.significance import (
    Ratios,
    intervals_side_by_side,
    paired_differences,
    sums_per_user,
)
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


PERMUTATIONS = 10_000
"""Exchanges of a randomisation test, where that is enough for the number of comparisons."""
PERMUTATIONS_PER_COMPARISON = 40
"""The least: the smallest p there can be, times the number of comparisons, must stay below .05."""


@dataclass(frozen=True)
class Comparison:
    """`metrics` as metrics.json holds them; `tables` by name: one per task (a row per user or rating and
    model), slices, differences, and of retrieval lists (a row per list and model) and recommended (a row per
    catalogue item and model: how many lists hold it)."""

    metrics: dict[str, dict[str, dict[str, Any]]]
    tables: dict[str, pl.DataFrame]


def compare(
    split: Split,
    answers: Mapping[TaskName, Mapping[str, Any]],
    resamples: int,
    seed: int,
    correction: Correction = "holm",
    short_lists: Collection[str] = (),
    on_piece: OnPiece = ignore_piece,
) -> Comparison:
    """Measure the test part's answers, task -> model -> rankings or estimates in the order of
    the split's requests. `on_piece` is told of all `pieces(answers)`.

    `short_lists`: the models whose lists may hold fewer items than there are. Raises InvalidAnswer for a
    ranking that holds what it must not, and SettingsError where no model answered any task.
    """
    frames: dict[TaskName, dict[str, pl.DataFrame]] = {}
    of_lists: dict[str, pl.DataFrame] = {}
    for task, by_model in answers.items():
        if not by_model:
            continue
        requests, truths = requests_of(split, task, "test")
        frames[task] = {
            name: per_user_table(task, answered, requests, truths, split, full=name not in short_lists)
            for name, answered in by_model.items()
        }
        on_piece(f"{task}: figures per user", len(by_model))
        if task == "retrieval":
            of_lists = _tables_of_lists(by_model, requests, truths, split)
    return compare_tables(frames, popularity_of(split), resamples, seed, correction, of_lists, on_piece)


def compare_tables(
    frames_of: Mapping[TaskName, Mapping[str, pl.DataFrame]],
    popularity: Mapping[str, int],
    resamples: int,
    seed: int,
    correction: Correction,
    of_lists: Mapping[str, pl.DataFrame],
    on_piece: OnPiece = ignore_piece,
) -> Comparison:
    """As `compare`, from the saved tables: task -> model -> its per-user table, and the tables "lists" and
    "recommended" of retrieval. Raises SettingsError without any."""
    metrics: dict[str, dict[str, dict[str, Any]]] = {}
    tables: dict[str, pl.DataFrame] = {}
    slices: list[pl.DataFrame] = []
    differences: list[dict[str, Any]] = []
    for task, frames in frames_of.items():
        lists = of_lists if task == "retrieval" else {}
        metrics[task] = measured(frames, task, resamples, seed, lists)
        on_piece(f"{task}: intervals", len(frames))
        slices.append(
            _labelled(slices_of_models(frames, popularity, task, COMPARED[task], resamples, seed), task=task)
        )
        on_piece(f"{task}: slices", len(frames))
        tables |= {task: _of_all_models(frames), **lists}
        differences += _differences(task, frames, resamples, seed, correction, on_piece)
    if not slices:
        raise SettingsError(
            "none of the models answers a task that the data supports; name another one in --models."
        )
    tables["slices"] = pl.concat(slices, how="diagonal")
    tables["differences"] = pl.DataFrame(differences, schema=_DIFFERENCE)
    return Comparison(metrics, tables)


def popularity_of(split: Split) -> dict[str, int]:
    """Item -> its training events, for all of the catalogue."""
    return dict(zip(split.dataset.item_ids, split.popularity.tolist(), strict=True))


_DIFFERENCE = (
    {"task": pl.String, "first": pl.String, "second": pl.String, "metric": pl.String}
    | {name: pl.Float64 for name in ("value", "low", "high", "p")}
    | {"n": pl.Int64}
    | {name: pl.Float64 for name in ("p_adjusted", "smallest_effect")}
)


def measured(
    frames: Mapping[str, pl.DataFrame],
    task: TaskName,
    resamples: int,
    seed: int,
    of_lists: Mapping[str, pl.DataFrame],
) -> dict[str, dict[str, Any]]:
    """MODEL -> metric -> value, and MODEL.ci -> metric -> [low, high], from the saved tables: a per-user
    table of each model, and of retrieval the tables "lists" and "recommended" of all models.

    The metrics of the task's tables come first, then the further ones, then those of lists; coverage and Gini
    index have no interval.
    """
    further = {name: with_further_metrics(frame, task) for name, frame in frames.items()}
    lists = {name: of_lists["lists"].filter(model=name) for name in frames} if of_lists else {}
    ratios: dict[str, Ratios] = {name: _ratios(frame, task) for name, frame in further.items()}
    for name, table in lists.items():
        ratios[name] = {**ratios[name], **ratios_per_user(table)}
    intervals = intervals_side_by_side(frames, metric_names(task), resamples, seed, ratios)
    values: dict[str, dict[str, Any]] = {}
    for name, frame in further.items():
        means = {metric: float(frame[metric].to_numpy().mean()) for metric in further_names(task)}
        values[name] = {**summarise(frame, task), **means}
        if name in lists:
            counts = of_lists["recommended"].filter(model=name)["lists"].to_numpy()
            values[name] |= list_metrics(lists[name], counts)
        values[f"{name}.ci"] = {
            metric: [shifted(metric, end) for end in ends] for metric, ends in intervals[name].items()
        }
    return values


def _ratios(frame: pl.DataFrame, task: TaskName) -> Ratios:
    """The further metrics of a per-user table as sums over its rows by their numbers."""
    names = further_names(task)
    if not names:
        return {}
    sums, counts = sums_per_user(frame, names)
    return {name: (sums[:, position], counts) for position, name in enumerate(names)}


def _tables_of_lists(
    by_model: Mapping[str, Any], requests: Sequence[Request], truths: Sequence[str], split: Split
) -> dict[str, pl.DataFrame]:
    """The tables "lists" and "recommended" of all models."""
    measures = ListMeasures(split, requests)
    lists: dict[str, pl.DataFrame] = {}
    recommended: dict[str, pl.DataFrame] = {}
    for name, rankings in by_model.items():
        listed = measures.listed(rankings)
        lists[name] = measures.table(listed, truths)
        recommended[name] = pl.DataFrame({"item": split.dataset.item_ids, "lists": measures.counts(listed)})
    return {"lists": _of_all_models(lists), "recommended": _of_all_models(recommended)}


def _of_all_models(frames: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    return pl.concat([_labelled(frame, model=name) for name, frame in frames.items()])


def requests_of(split: Split, task: TaskName, part: Part) -> tuple[list[Request], list[Any]]:
    """The task's requests in a part of the split, and their truths."""
    if task == "rating":
        return split.rating_requests(part)
    return split.ranking_requests(part) if task == "ranking" else split.retrieval_requests(part)


def per_user_table(
    task: TaskName,
    answers: Any,
    requests: Sequence[Request],
    truths: Sequence[Any],
    split: Split,
    full: bool = True,
) -> pl.DataFrame:
    """The per-user (or per-rating) table of the answers; lists that need not be `full` may hold fewer items
    than there are. Raises InvalidAnswer."""
    if task == "rating":
        return evaluate_rating(answers, requests, truths)
    if task == "ranking":
        return evaluate_ranking(answers, requests, truths)
    return evaluate_retrieval(answers, requests, truths, split.dataset.item_ids, full=full)


def _differences(
    task: TaskName,
    frames: Mapping[str, pl.DataFrame],
    resamples: int,
    seed: int,
    correction: Correction,
    on_piece: OnPiece,
) -> list[dict[str, Any]]:
    """Every model against every later one of the experiment's list that has learned from the same parts: a
    model that was fitted again on validation too has an advantage that is no merit. p-values are adjusted for
    the number of pairs in one metric of the task."""
    pairs = [pair for pair in combinations(frames, 2) if convention(pair[0]) == convention(pair[1])]
    permutations = max(PERMUTATIONS, PERMUTATIONS_PER_COMPARISON * len(pairs))
    rows = []
    for metric in COMPARED[task]:
        of_metric: list[dict[str, Any]] = []
        differences = paired_differences(frames, pairs, metric, resamples, permutations, seed)
        for (first, second), difference in zip(pairs, differences, strict=True):
            sides = frames[first], frames[second]
            names = {"task": task, "first": first, "second": second, "metric": metric}
            effect = {"smallest_effect": smallest_effect(*sides, metric)}
            of_metric.append({**names, **asdict(difference), **effect})
            on_piece(f"{task}: {first} against {second}", 1)
        adjusted = CORRECTIONS[correction]([row["p"] for row in of_metric])
        rows += [{**row, "p_adjusted": p} for row, p in zip(of_metric, adjusted, strict=True)]
    return rows


def _labelled(frame: pl.DataFrame, **labels: str) -> pl.DataFrame:
    """The labels as first columns."""
    return frame.select(*(pl.lit(value).alias(name) for name, value in labels.items()), pl.all())
