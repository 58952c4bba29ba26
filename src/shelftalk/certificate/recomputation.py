"""An evaluation computed again from the answers of its models: metrics, intervals, slices and differences.

All of it, where that takes seconds. Of a run with very many users the means are always computed again; the
random draws of intervals and p-values are repeated as far as DRAWS allows, and what is left is compared with
the normal approximation, unless `complete` asks for everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from shelftalk.certificate.figures import (
    Deviation,
    close,
    deviations_of_tables,
    deviations_of_values,
    within,
)
from shelftalk.certificate.run_files import RunFiles
from shelftalk.evaluation import comparison
from shelftalk.evaluation.comparison import COMPARED
from shelftalk.evaluation.metrics import LIST_LENGTH, RATING_COLUMNS
from shelftalk.evaluation.resampling import MANY_USERS
from shelftalk.evaluation.significance import intervals_side_by_side, sums_per_user
from shelftalk.evaluation.slices import slice_metrics
from shelftalk.pipeline.answer_files import as_answers, in_order_of_requests
from shelftalk.recommender import TaskName

ENTRIES = 20_000_000
"""Most entries of lists that are held as Python objects: about 2 GB."""
DRAWS = 4_000_000_000
"""Most random draws: about two minutes of one core."""
PERMUTATIONS = 10_000
NORMAL = 1.96
WITHIN = 0.25
"""How far an end that is not drawn again may be from the normal approximation, as a share of the distance
between value and end."""
Tables = Mapping[TaskName, pl.DataFrame]


@dataclass
class Recomputed:
    """What an evaluation computed again deviates in, by kind: "rank", "metric", "interval", "slice" or
    "difference"; and what was not computed again."""

    deviations: list[tuple[str, Deviation]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    figures: int = 0

    def add(self, kind: str, deviations: list[Deviation]) -> None:
        """Note deviations of one kind."""
        self.deviations += [(kind, one) for one in deviations]


def recomputed(
    files: RunFiles, tables: Tables, printed: dict[str, Any], complete: bool, same_program: bool = True
) -> Recomputed:
    """Compare `printed` (metrics.json) and the files of evaluation/ with what follows from the answers;
    `tables` are the per-user tables. Of a run that another program evaluated, what that one did not compute
    is left out.

    Raises what the evaluator raises for answers that it refuses."""
    result = Recomputed(figures=sum(1 for _ in _leaves(printed)))
    users = {task: table["user"].n_unique() for task, table in tables.items()}
    if not complete and _entries(files) > ENTRIES:
        result.left_out.append(
            "ranks are computed by this check alone, not by the evaluator too, since there are very many "
            "lists; --complete does both"
        )
    elif complete or _draws(files, users) <= DRAWS:
        computed = _from_answers(files)
        computed = computed if same_program else _known_to_both(files, computed, printed)
        _compare_all(result, files, printed, computed)
        return result
    if complete or _draws(files, users) <= DRAWS:
        computed = _from_tables(files, tables)
        computed = computed if same_program else _known_to_both(files, computed, printed)
        _compare_all(result, files, within(printed, computed.metrics), computed)
    else:
        _compare_some(result, files, tables, printed, users)
    return result


def by_model(table: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Model -> its rows of a per-user table."""
    parts = table.partition_by("model", maintain_order=True, include_key=True, as_dict=True)
    return {str(name): part.drop("model") for (name,), part in parts.items()}


def _from_answers(files: RunFiles) -> comparison.Comparison:
    experiment, split = files.experiment, files.split
    answers: dict[TaskName, dict[str, Any]] = {}
    for task in files.tasks:
        answers[task] = {}
        for name in files.answered(task):
            frame = pl.read_parquet(files.folder.ranking(task, name), glob=False)
            ordered = in_order_of_requests(frame, split, task, files.folder, f"recommend.{name}")
            answers[task][name] = as_answers(ordered, task)
    evaluation = experiment.evaluation
    return comparison.compare(
        split, answers, evaluation.resamples, experiment.seed, evaluation.correction, files.imported
    )


def _from_tables(files: RunFiles, tables: Tables) -> comparison.Comparison:
    frames = {task: by_model(table) for task, table in tables.items()}
    popularity, evaluation = comparison.popularity_of(files.split), files.experiment.evaluation
    of_lists = {
        name: pl.read_parquet(path, glob=False)
        for name in ("lists", "recommended")
        if (path := files.folder.evaluation(name)).exists()
    }
    return comparison.compare_tables(
        frames, popularity, evaluation.resamples, files.experiment.seed, evaluation.correction, of_lists
    )


def _known_to_both(
    files: RunFiles, computed: comparison.Comparison, printed: dict[str, Any]
) -> comparison.Comparison:
    """What was computed, without the metrics, tables and columns that are not in the run's files."""
    paths = {name: files.folder.evaluation(name) for name in computed.tables}
    known = {name: pl.read_parquet_schema(path) for name, path in paths.items() if path.exists()}
    tables = {
        name: computed.tables[name].select(
            [column for column in computed.tables[name].columns if column in names]
        )
        for name, names in known.items()
    }
    return comparison.Comparison(within(computed.metrics, printed), tables)


def _compare_all(
    result: Recomputed, files: RunFiles, printed: dict[str, Any], computed: comparison.Comparison
) -> None:
    """Every figure that an evaluation writes."""
    for deviation in deviations_of_values(printed, computed.metrics, "metrics.json"):
        result.add("interval" if ".ci," in deviation.where else "metric", [deviation])
    kinds = {"slices": "slice", "differences": "difference"}
    for name, frame in computed.tables.items():
        path = files.folder.evaluation(name)
        if path.exists():
            deviations = deviations_of_tables(
                pl.read_parquet(path, glob=False), frame, f"evaluation/{path.name}"
            )
            result.add(kinds.get(name, "rank"), deviations)
        else:
            result.add(kinds.get(name, "rank"), [Deviation(f"evaluation/{path.name}", None, "a table")])


def _compare_some(
    result: Recomputed,
    files: RunFiles,
    tables: Tables,
    printed: dict[str, Any],
    users: Mapping[TaskName, int],
) -> None:
    """Values in full; intervals of metrics as far as DRAWS allows, the others by the normal approximation."""
    evaluation, seed, left = files.experiment.evaluation, files.experiment.seed, DRAWS
    popularity = comparison.popularity_of(files.split)
    slices = pl.read_parquet(files.folder.evaluation("slices"), glob=False)
    differences = pl.read_parquet(files.folder.evaluation("differences"), glob=False)
    for task, table in tables.items():
        frames = by_model(table)
        _compare_slices(result, slices.filter(pl.col("task") == task), frames, popularity, task)
        rows = differences.filter(pl.col("task") == task)
        _compare_differences(result, rows, frames, printed[task])
        cost = users[task] * evaluation.resamples
        names = [name for name in printed[task] if not name.endswith(".ci")]
        if cost > left:
            result.left_out.append(f"the intervals of {task}")
            continue
        left -= cost
        metrics = [
            name for name in printed[task][names[0]] if name in table.columns or name in RATING_COLUMNS
        ]
        ends = intervals_side_by_side(frames, metrics, evaluation.resamples, seed)
        for name in names:
            of_model = {metric: list(pair) for metric, pair in ends[name].items()}
            shown = {metric: printed[task][f"{name}.ci"].get(metric) for metric in metrics}
            where = f"metrics.json, {task}, {name}.ci"
            result.add("interval", list(deviations_of_values(shown, of_model, where)))
    result.left_out.append(
        "intervals of slices and differences, and p-values, were not drawn again: those of differences lie "
        "where the normal approximation has them; --complete draws all"
    )


def _compare_slices(
    result: Recomputed,
    printed: pl.DataFrame,
    frames: Mapping[str, pl.DataFrame],
    popularity: Mapping[str, int],
    task: TaskName,
) -> None:
    for name, frame in frames.items():
        computed = slice_metrics(frame, popularity, task)
        shown = printed.filter(pl.col("model") == name).select(
            [column for column in computed.columns if column in printed.columns]
        )
        result.add("slice", deviations_of_tables(shown, computed, f"evaluation/slices.parquet, {name}"))


def _compare_differences(
    result: Recomputed, rows: pl.DataFrame, frames: Mapping[str, pl.DataFrame], printed: Mapping[str, Any]
) -> None:
    """The value of each difference, and whether its interval lies where the normal approximation has it."""
    for row in rows.iter_rows(named=True):
        first, second, metric = row["first"], row["second"], row["metric"]
        where = f"evaluation/differences.parquet, {first} and {second}: {metric}"
        value = printed[first][metric] - printed[second][metric]
        if not close(row["value"], value):
            result.add("difference", [Deviation(where, row["value"], value)])
        if metric in RATING_COLUMNS:
            continue
        (a, counts), (b, _) = sums_per_user(frames[first], [metric]), sums_per_user(frames[second], [metric])
        gaps = (a - b)[:, 0] - value * counts
        margin = NORMAL * float(gaps.std()) * float(np.sqrt(len(gaps))) / float(counts.sum())
        for end, expected in (("low", value - margin), ("high", value + margin)):
            if abs(row[end] - expected) > WITHIN * margin:
                result.add("difference", [Deviation(f"{where}, {end}", row[end], expected)])


def _entries(files: RunFiles) -> int:
    """Entries of all lists of the run."""
    requests = len(files.split.held_out_events("test"))
    width = {"retrieval": LIST_LENGTH, "ranking": files.split.candidates["test"].shape[1]}
    return sum(requests * width.get(task, 0) * len(files.answered(task)) for task in files.tasks)


def _draws(files: RunFiles, users: Mapping[TaskName, int]) -> int:
    """Random draws of the evaluation: intervals, slices of two kinds, and each difference with its test. More
    than MANY_USERS are not drawn one by one, which takes no time to speak of."""
    resamples, draws = files.experiment.evaluation.resamples, 0
    for task, number in users.items():
        if number > MANY_USERS:
            continue
        pairs = len(list(combinations(files.answered(task), 2))) * len(COMPARED[task])
        draws += number * (3 * resamples + pairs * (resamples + PERMUTATIONS))
    return draws


def _leaves(value: Any) -> Iterator[Any]:
    """The numbers in nested mappings and lists."""
    if isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _leaves(inner)
    else:
        yield value
