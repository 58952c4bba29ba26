"""The result of an ablation, as one record made of the runs' files alone: metrics, differences, costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from shelftalk.evaluation.evaluator import summarise
from shelftalk.evaluation.multiple_testing import holm
from shelftalk.evaluation.over_seeds import Gap, gap, pooled_noise
from shelftalk.pipeline.stages import data_sentences, reading_notes
from shelftalk.recommender import TaskName
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.studies.ablation.grid import ITEM_KNN, AblationSettings, Grid
from shelftalk.studies.token_budget.run import BudgetRun, read_tables

COMPARED: dict[TaskName, tuple[str, ...]] = {
    "retrieval": ("recall@10", "ndcg@10"),
    "ranking": ("hr@1", "ndcg@10"),
    "rating": ("rmse",),
}
"""The metrics in which variants are compared; fixed before any result was seen."""
COSTS = (
    "tokens", "targets", "samples", "tokens_per_sample", "epochs_seen", "steps", "best_step",
    "training_seconds", "tokens_per_second", "peak_gigabytes", "parameters", "vocabulary",
    "evaluation_seconds",
)  # fmt: skip
"""The costs that are reported beside the metrics, in the order of the table."""
Tables = Mapping[str, pl.DataFrame]


@dataclass(frozen=True)
class VariantResult:
    """One row of the table. Metrics are named "retrieval ndcg@10"; values are means over the seeds."""

    name: str
    settings: Mapping[str, Any]
    metrics: Mapping[str, float]
    per_seed: Mapping[str, Sequence[float]]
    costs: Mapping[str, float | None]


@dataclass(frozen=True)
class VariantGap:
    """A variant minus the baseline on the same users: the mean over the seeds with its 95 % interval over
    users and seeds.

    `p` is of the same distribution, `p_holm` adjusted by Holm for all variants of the metric. `users_low`,
    `users_high` and `p_users` (a paired randomisation test on the means over the seeds) cover other users
    only, the seeds taken as given.
    """

    variant: str
    metric: str
    value: float
    low: float
    high: float
    p: float
    p_holm: float
    users_low: float
    users_high: float
    p_users: float
    per_seed: Sequence[float]

    @property
    def clear(self) -> bool:
        """Whether it is more than chance: no zero in the interval, and the adjusted p below .05."""
        return (self.low > 0 or self.high < 0) and self.p_holm < 0.05


@dataclass(frozen=True)
class Ablation:
    """Everything that an ablation reports."""

    name: str
    part: str
    baseline: str
    tokens: int
    seeds: Sequence[int]
    evaluated: Mapping[str, int]
    """Task -> users (rating: ratings) that each figure is a mean over."""
    variants: Sequence[VariantResult]
    gaps: Sequence[VariantGap]
    runs: Sequence[Mapping[str, Any]]
    """One flat row per run."""
    sentences: Sequence[str]
    """What has to be known to read the figures."""
    notes: Sequence[str] = ()
    """Values of the data that are not what they look like, or were not kept as they are."""

    @property
    def read_beside(self) -> list[str]:
        """The sentences, and the notes as such."""
        return [*self.sentences, *(f"Note: {note}" for note in self.notes)]


def result_of(grid: Grid, runs: Sequence[BudgetRun], item_knn: RunFolder | None = None) -> Ablation:
    """Collect finished runs. Raises StageMissing for a run that is not finished."""
    settings = grid.settings
    tables = {v.name: [read_tables(run.folder) for run in runs if run.name == v.name] for v in grid.variants}
    rows = [_run_row(run, read_tables(run.folder)) for run in runs]
    rows_of = {v.name: [row for row in rows if row["variant"] == v.name] for v in grid.variants}
    variants = [
        VariantResult(v.name, v.settings, *_figures(tables[v.name]), _costs(rows_of[v.name]))
        for v in grid.variants
    ]
    if item_knn is not None:
        tables[ITEM_KNN] = [read_tables(item_knn)] * len(settings.seeds)
        variants.append(VariantResult(ITEM_KNN, {}, *_figures(tables[ITEM_KNN]), dict.fromkeys(COSTS)))
    baseline, prepared = grid.baseline.name, runs[0].shared.needed("prepare")
    gaps = _gaps(tables, baseline, settings)
    return Ablation(
        name=settings.name,
        part=settings.part,
        baseline=baseline,
        tokens=settings.tokens,
        seeds=settings.seeds,
        evaluated={task: len(table) for task, table in tables[baseline][0].items()},
        variants=variants,
        gaps=gaps,
        runs=rows,
        sentences=[*_sentences(grid, rows, gaps), *data_sentences(prepared)],
        notes=reading_notes(prepared),
    )


def compared_metrics(tables: Tables) -> list[tuple[TaskName, str]]:
    """The compared (task, metric) pairs that tables hold."""
    return [(task, metric) for task, metrics in COMPARED.items() if task in tables for metric in metrics]


def _figures(tables: Sequence[Tables]) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Mean over the seeds, and the value of each, by "task metric"."""
    per_seed = {
        f"{task} {metric}": [summarise(of_seed[task], task)[metric] for of_seed in tables]
        for task, metric in compared_metrics(tables[0])
    }
    return {name: float(np.mean(values)) for name, values in per_seed.items()}, per_seed


def _gaps(
    tables: Mapping[str, Sequence[Tables]], baseline: str, settings: AblationSettings
) -> list[VariantGap]:
    """Every variant against the baseline in every metric that both have, the metrics in order."""
    gaps: list[VariantGap] = []
    for task, metric in compared_metrics(tables[baseline][0]):
        per_seed = {name: [of_seed[task] for of_seed in of] for name, of in tables.items() if task in of[0]}
        trained = [baseline, *(name for name in per_seed if name not in (baseline, ITEM_KNN))]
        values = [[summarise(table, task)[metric] for table in per_seed[name]] for name in trained]
        noise = pooled_noise(np.array(values))
        of_metric = []
        for name in per_seed:
            if name != baseline:
                one = gap(
                    per_seed[name],
                    per_seed[baseline],
                    metric,
                    settings.resamples,
                    noise=noise if name in trained else None,
                )
                of_metric.append(_variant_gap(name, f"{task} {metric}", one))
        adjusted = holm([one.p for one in of_metric])
        gaps += [replace(one, p_holm=p) for one, p in zip(of_metric, adjusted, strict=True)]
    return gaps


def _variant_gap(name: str, metric: str, one: Gap) -> VariantGap:
    """Not adjusted yet: `p_holm` is `p`."""
    users = (one.users.low, one.users.high, one.users.p)
    return VariantGap(name, metric, one.value, one.low, one.high, one.p, one.p, *users, one.per_seed)


def _run_row(run: BudgetRun, tables: Tables) -> dict[str, Any]:
    """One run: its metrics and costs."""
    trained, evaluated = run.folder.needed("train").facts, run.folder.needed("evaluate").facts
    figures, _ = _figures([tables])
    known = {**trained, "tokens_per_sample": trained["tokens"] / trained["samples"], **evaluated}
    shares = {f"tokens of {task}": tokens for task, tokens in sorted(trained["tokens_by_task"].items())}
    return {
        "variant": run.name,
        "seed": run.seed,
        **figures,
        **{name: known[name] for name in COSTS},
        **shares,
    }


def _costs(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Means over the seeds; None where no run has a value."""
    known = {name: [row[name] for row in rows if row[name] is not None] for name in COSTS}
    return {name: float(np.mean(values)) if values else None for name, values in known.items()}


def _sentences(grid: Grid, rows: Sequence[Mapping[str, Any]], gaps: Sequence[VariantGap]) -> list[str]:
    settings, seeds = grid.settings, len(grid.settings.seeds)
    read = [row["tokens"] for row in rows]
    sentences = [
        f"Every run read {min(read):,} to {max(read):,} training tokens, prompts and targets together; how "
        "many of them bear loss depends on the mixture and is among the costs.",
        "No run stopped early. As in a normal run, the weights are those of the best validation "
        "(training.judged_by, training.best_by), so a run may be evaluated as it was before its last step.",
        "Differences are paired: the same users, held-out items and candidates under every variant and seed. "
        + (
            "Their 95 % intervals cover other users (resampled) and other seeds (Student's t, the spread "
            f"between {seeds} seeds pooled over the variants)."
            if seeds > 1
            else "With one seed their 95 % intervals cover other users only, not other seeds."
        ),
        "p is how often chance alone goes as far from zero, adjusted by Holm for the variants of one metric. "
        "A difference is marked where its interval does not hold zero and the adjusted p is below .05. "
        "ablation.json also holds p_users, of a paired randomisation test over users on the means over the "
        "seeds: it does not cover other seeds.",
    ]
    if settings.part == "test":
        sentences.append("These are figures of the test part: whatever is chosen by them was chosen on it.")
    if len({gap.metric for gap in gaps}) > 1:
        sentences.append("Metrics are not adjusted for each other.")
    return sentences
