"""The result of a comparison of runs, as one record made of their files alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import polars as pl

from shelftalk.errors import SettingsError, UnknownPart, nearest
from shelftalk.evaluation.comparison import COMPARED
from shelftalk.evaluation.evaluator import summarise
from shelftalk.evaluation.metrics import metric_names
from shelftalk.evaluation.multiple_testing import holm
from shelftalk.recommender import TaskName, convention
from shelftalk.report.content import CostRow
from shelftalk.report.costs import costs
from shelftalk.studies.comparing.evaluated_run import EvaluatedRun
from shelftalk.studies.comparing.statistics import USERS, Figure, Paired, figure, paired, paired_means

REFERENCES = ("item_knn", "bias", "popularity", "global_mean")
"""What is compared with where no reference is named: the first of these that answered the task."""
NOT_SHOWN = ("ndcg@1",)
"""With one relevant item it is the hit rate at 1."""


Repeated = tuple[str, str, str]
"""Two runs and a model of which both hold the same answers."""


@dataclass(frozen=True, eq=False)
class Answered:
    """One model's answers in one run."""

    run: EvaluatedRun
    model: str
    table: pl.DataFrame


@dataclass(frozen=True, eq=False)
class Entry:
    """One model, all of whose runs differ in their seed alone. `label` is the model's name, with that of its
    experiment where another entry has the same model."""

    model: str
    recipe: str
    answered: tuple[Answered, ...]
    label: str = ""

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of its runs."""
        return tuple(one.run.seed for one in self.answered)


@dataclass(frozen=True)
class ModelFigures:
    """One entry as it is reported."""

    label: str
    model: str
    seeds: tuple[int, ...]
    runs: tuple[str, ...]
    figures: Mapping[str, Figure]
    """Metric -> figure."""


@dataclass(frozen=True)
class PairedRow:
    """One entry minus the reference in one metric, over the seeds that both have. `paired` is None where one
    of the two alone was refitted; `why_not` says so."""

    label: str
    metric: str
    seeds: tuple[int, ...]
    paired: Paired | None
    p_holm: float | None
    why_not: str = ""

    @property
    def clear(self) -> bool:
        """Whether it is more than chance: no zero in the interval, and the adjusted p below .05."""
        if self.paired is None or self.p_holm is None:
            return False
        return (self.paired.low > 0 or self.paired.high < 0) and self.p_holm < 0.05


@dataclass(frozen=True)
class PartResult:
    """The entries of one task that were evaluated on the same test part or, where the seed decides a part of
    the test, on the same ones: their figures may stand in one table."""

    task: TaskName
    number: int
    """From 1 within the task."""
    of: int
    """How many tables the task has: figures of two tables do not compare."""
    n: int
    """Users, or ratings, of the first run."""
    runs: tuple[str, ...]
    entries: tuple[ModelFigures, ...]
    reference: str
    """The label of the entry that the others are compared with."""
    differences: tuple[PairedRow, ...]
    test_parts: int
    """How many test parts every entry was evaluated on; several where each seed has one of its own."""
    seeds: tuple[int, ...]
    """The seeds of all its runs."""

    @property
    def unit(self) -> str:
        """What is counted by `n`."""
        return "ratings" if self.task == "rating" else "users"


@dataclass(frozen=True)
class Comparison:
    """Everything that a comparison reports."""

    parts: tuple[PartResult, ...]
    costs: tuple[CostRow, ...]
    """By label, means over the runs."""
    runs: tuple[Mapping[str, Any], ...]
    """One flat row per run."""
    sentences: tuple[str, ...]
    """What has to be known to read the figures."""


def compare_runs(runs: Sequence[EvaluatedRun], references: Sequence[str] = ()) -> Comparison:
    """Group models by what their answers depend on, tasks by their test parts, and compare.

    Raises SettingsError for the same folder twice and for runs without a task, UnknownPart for a reference
    that no run has evaluated, and what reading a run raises.
    """
    _check(runs, references)
    parts: list[PartResult] = []
    repeated: list[Repeated] = []
    for task in COMPARED:
        entries, again = _entries(task, runs)
        repeated += again
        groups = _tables(task, entries)
        parts += [
            _part_result(task, number, len(groups), group, references)
            for number, group in enumerate(groups, 1)
        ]
    rows = tuple(_run_row(run) for run in runs)
    sentences = (*_sentences(parts, runs), *_about_repeated(repeated))
    return Comparison(tuple(parts), _costs(runs, parts), rows, sentences)


def _check(runs: Sequence[EvaluatedRun], references: Sequence[str]) -> None:
    folders = [run.run.folder.path.resolve() for run in runs]
    twice = next((folder for folder in folders if folders.count(folder) > 1), None)
    if twice is not None:
        raise SettingsError(f'the run "{twice}" is named twice; name each folder once.')
    known = list(dict.fromkeys(model for run in runs for task in run.metrics for model in run.models(task)))
    if not known:
        raise SettingsError(
            "none of the runs has a figure to compare; evaluate one with `shelftalk run` first."
        )
    for name in references:
        if name not in known:
            raise UnknownPart(f'no run has evaluated a model "{name}"; {nearest(name, known)}')


# --- which answers belong together ---


def _entries(task: TaskName, runs: Sequence[EvaluatedRun]) -> tuple[list[Entry], list[Repeated]]:
    """The models of a task, each with its runs in the order of their seeds, and the answers that several
    folders hold alike: those count once."""
    collected: dict[tuple[str, str], list[Answered]] = {}
    repeated: list[Repeated] = []
    for run in runs:
        for model, table in run.tables(task).items():
            of_entry = collected.setdefault((model, run.recipe(model)), [])
            same = next((one for one in of_entry if _repeats(one, run, table, task)), None)
            if same is None:
                of_entry.append(Answered(run, model, table))
            else:
                repeated.append((same.run.name, run.name, model))
    entries = [
        Entry(model, recipe, tuple(sorted(answered, key=lambda one: one.run.seed)))
        for (model, recipe), answered in collected.items()
    ]
    labelled = zip(entries, _labels(entries), strict=True)
    return [replace(entry, label=label) for entry, label in labelled], repeated


def _about_repeated(repeated: Sequence[Repeated]) -> list[str]:
    """A sentence for each two folders that hold the same answers."""
    models: dict[tuple[str, str], list[str]] = {}
    for first, second, model in repeated:
        models.setdefault((first, second), []).append(model)
    return [
        f"{first} and {second} hold the same answers of {', '.join(dict.fromkeys(of_both))}: they count once."
        for (first, second), of_both in models.items()
    ]


def _repeats(known: Answered, run: EvaluatedRun, table: pl.DataFrame, task: TaskName) -> bool:
    """Whether another folder holds the same answers under the same seed."""
    same_part = known.run.test_parts[task] == run.test_parts[task]
    return known.run.seed == run.seed and same_part and known.table.equals(table)


def _labels(entries: Sequence[Entry]) -> list[str]:
    """The model's name; where several entries have it, with the name of the experiment or, where that does
    not tell them apart either, of the first run."""
    labels = [entry.model for entry in entries]
    first = [entry.answered[0].run for entry in entries]
    for names in ([run.run.experiment.name for run in first], [run.name for run in first]):
        labels = [
            f"{entry.model} ({name})" if labels.count(label) > 1 else label
            for entry, label, name in zip(entries, labels, names, strict=True)
        ]
    return labels


def _tables(task: TaskName, entries: Sequence[Entry]) -> list[list[Entry]]:
    """The entries that may stand in one table: for each set of test parts that some entry was evaluated on,
    all entries that were evaluated on the whole set, with their runs on it alone; those of most models
    first."""
    parts = [{one.run.test_parts[task] for one in entry.answered} for entry in entries]
    different = list({frozenset(of_entry): None for of_entry in parts})
    tables = [
        [
            _restricted(entry, task, wanted)
            for entry, of_entry in zip(entries, parts, strict=True)
            if wanted <= of_entry
        ]
        for wanted in different
    ]
    return sorted(tables, key=len, reverse=True)  # stable


def _restricted(entry: Entry, task: TaskName, wanted: frozenset[str]) -> Entry:
    return replace(entry, answered=tuple(one for one in entry.answered if one.run.test_parts[task] in wanted))


# --- figures and differences ---


def _part_result(
    task: TaskName, number: int, of: int, entries: Sequence[Entry], references: Sequence[str]
) -> PartResult:
    reference = _reference(entries, references)
    differences = [
        row
        for metric in COMPARED[task]
        for row in _adjusted(
            [_difference(entry, reference, task, metric) for entry in entries if entry is not reference]
        )
    ]
    runs = list(dict.fromkeys(one.run.name for entry in entries for one in entry.answered))
    return PartResult(
        task=task,
        number=number,
        of=of,
        n=entries[0].answered[0].table.height,
        runs=tuple(runs),
        entries=tuple(_figures(entry, task) for entry in entries),
        reference=reference.label,
        differences=tuple(differences),
        test_parts=len({one.run.test_parts[task] for entry in entries for one in entry.answered}),
        seeds=tuple(sorted({seed for entry in entries for seed in entry.seeds})),
    )


def _reference(entries: Sequence[Entry], references: Sequence[str]) -> Entry:
    """The first of the named, else of the usual ones, that is among the entries; of several with the same
    model the one with the most runs."""
    for name in (*references, *REFERENCES):
        of_model = [entry for entry in entries if name in (entry.model, entry.label)]
        if of_model:
            return max(of_model, key=lambda entry: len(entry.answered))
    return entries[0]


def _figures(entry: Entry, task: TaskName) -> ModelFigures:
    per_run = [summarise(one.table, task) for one in entry.answered]
    intervals = entry.answered[0].run.metrics[task].get(f"{entry.model}.ci", {})
    figures = {
        metric: figure([values[metric] for values in per_run], intervals.get(metric))
        for metric in metric_names(task)
        if metric not in NOT_SHOWN
    }
    return ModelFigures(
        entry.label, entry.model, entry.seeds, tuple(one.run.name for one in entry.answered), figures
    )


def _difference(entry: Entry, reference: Entry, task: TaskName, metric: str) -> PairedRow:
    if convention(entry.model) != convention(reference.model):
        why = "one of the two was refitted on training and validation, the other saw the training part alone"
        return PairedRow(entry.label, metric, (), None, None, why)
    settings = entry.answered[0].run.run.experiment
    resamples, seed = settings.evaluation.resamples, settings.seed
    pairs = list(_pairs(entry, reference, task))
    if pairs:
        first, second = ([pair[side].table for pair in pairs] for side in (0, 1))
        one = paired(first, second, task, metric, resamples, seed)
        return PairedRow(entry.label, metric, tuple(pair[0].run.seed for pair in pairs), one, None)
    first, second = ([one.table for one in side.answered] for side in (entry, reference))
    one = paired_means(first, second, metric, resamples, seed)
    return PairedRow(entry.label, metric, (*entry.seeds, *reference.seeds), one, None)


def _pairs(entry: Entry, reference: Entry, task: TaskName) -> Iterator[tuple[Answered, Answered]]:
    """Runs of both with the same seed and the same test part, each run once."""
    left = list(reference.answered)
    for one in entry.answered:
        key = (one.run.seed, one.run.test_parts[task])
        other = next((o for o in left if (o.run.seed, o.run.test_parts[task]) == key), None)
        if other is not None:
            left.remove(other)
            yield one, other


def _adjusted(rows: Sequence[PairedRow]) -> list[PairedRow]:
    """With p adjusted for the number of comparisons in the metric."""
    adjusted = iter(holm([row.paired.p for row in rows if row.paired is not None]))
    return [row if row.paired is None else replace(row, p_holm=next(adjusted)) for row in rows]


# --- what stands beside them ---


def _costs(runs: Sequence[EvaluatedRun], parts: Sequence[PartResult]) -> tuple[CostRow, ...]:
    """Means over the runs of each entry, in the order of their first figures."""
    of_run = {run.name: {row.model: row for row in _costs_of(run)} for run in runs}
    of_entry: dict[tuple[str, str], dict[str, CostRow]] = {}
    for entry in (entry for part in parts for entry in part.entries):
        known = {name: of_run[name][entry.model] for name in entry.runs if entry.model in of_run[name]}
        of_entry.setdefault((entry.label, entry.model), {}).update(known)
    return tuple(_mean_cost(label, list(rows.values())) for (label, _), rows in of_entry.items() if rows)


def _costs_of(run: EvaluatedRun) -> tuple[CostRow, ...]:
    requests = {str(task): run.tables(task)[run.models(task)[0]].height for task in run.metrics}
    return costs(run.run, requests)[0]


def _mean_cost(label: str, rows: Sequence[CostRow]) -> CostRow:
    tasks = dict.fromkeys(task for row in rows for task in row.seconds_per_1000)
    per_task = {task: _mean(row.seconds_per_1000.get(task) for row in rows) for task in tasks}
    return CostRow(
        label,
        rows[0].chosen if len(rows) == 1 else (),
        fit_seconds=_mean(row.fit_seconds for row in rows),
        training_seconds=_mean(row.training_seconds for row in rows),
        seconds_per_1000={task: seconds for task, seconds in per_task.items() if seconds is not None},
        together=_mean(row.together for row in rows),
        peak_memory_mb=_mean(row.peak_memory_mb for row in rows),
    )


def _mean(values: Iterator[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _run_row(run: EvaluatedRun) -> dict[str, Any]:
    evaluated = run.run.folder.needed("evaluate")
    return {
        "run": run.name,
        "experiment": run.run.experiment.name,
        "seed": run.seed,
        "models": sorted({model for task in run.metrics for model in run.models(task)}),
        "test_evaluations": run.test_evaluations,
        "version": evaluated.version,
        "test_parts": {task: part[:12] for task, part in run.test_parts.items()},
    }


def _sentences(parts: Sequence[PartResult], runs: Sequence[EvaluatedRun]) -> list[str]:
    several = any(len(entry.seeds) > 1 for part in parts for entry in part.entries)
    sentences = [
        "Runs of which all but the seed is the same are one row: the mean over the seeds and, after ±, their "
        "standard deviation. A row of one run has the 95 % interval over its users."
        if several
        else "Intervals in brackets are 95 %, over the users of a run.",
        "Differences are paired: the same users, held-out items and candidates on both sides, under the same "
        "seed. p is adjusted by Holm for the number of rows of one metric; a difference is marked where its "
        "interval does not hold zero and the adjusted p is below .05.",
    ]
    covered = {row.paired.covers for part in parts for row in part.differences if row.paired}
    if covered - {USERS}:
        sentences.append(
            "The last column names what an interval covers: other users, other seeds, or both. Where each "
            "seed divides the data anew and users have different numbers of requests, it covers the seeds "
            "alone, by Student's t."
        )
    if any(part.test_parts > 1 for part in parts):
        sentences.append(
            "Where the seed decides a part of the test (ties in time, candidates, the division of ratings), "
            "each seed has a test part of its own, and models are compared seed by seed."
        )
    if any(part.of > 1 for part in parts):
        sentences.append(
            "Not all runs were evaluated on the same test parts, that is, on the same users, items, "
            "candidates and ratings. A table holds the models that were evaluated on all of its test parts, "
            "and the runs on these alone; figures of two tables say nothing about each other."
        )
    if any(len({row.seeds for row in part.differences}) > 1 for part in parts):
        sentences.append("A difference is over the seeds that both models have, which its row names.")
    many = [f"{run.name}: {run.test_evaluations}" for run in runs if run.test_evaluations > 1]
    if many:
        sentences.append(
            f"The test part was evaluated more than once in {', '.join(many)}: whatever was changed in "
            "between has seen it."
        )
    return sentences
