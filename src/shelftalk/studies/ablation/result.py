"""What an ablation found, as one plain record made of the runs' files alone: metrics, differences, costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from shelftalk.evaluation.evaluator import summarise
from shelftalk.recommender import TaskName
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.stages import data_sentences
from shelftalk.studies.ablation.grid import ITEM_KNN, AblationSettings, Grid
from shelftalk.studies.ablation.intervals import SeedNoise, gap, holm, pooled_noise
from shelftalk.studies.ablation.variant_run import VariantRun
from shelftalk.studies.token_budget.run import tables_of

COMPARED: dict[TaskName, tuple[str, ...]] = {
    "retrieval": ("recall@10", "ndcg@10"),
    "ranking": ("hr@1", "ndcg@10"),
    "rating": ("rmse",),
}
"""The metrics in which variants are compared; fixed before any result was seen."""
COSTS = (
    "tokens", "targets", "samples", "tokens_per_sample", "epochs_seen", "steps", "best_step", "training_seconds",
    "tokens_per_second", "peak_gigabytes", "parameters", "vocabulary", "evaluation_seconds",
)  # fmt: skip
"""What stands beside the gains, in the order of the table."""
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

    `p` is of the same chances, `p_holm` adjusted by Holm for all variants of the metric. `users_low`,
    `users_high` and `p_users` (a paired randomisation test on the means over the seeds) speak of other users
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
        """Whether more than chance is seen: the interval without zero in it, and the adjusted p below .05."""
        return (self.low > 0 or self.high < 0) and self.p_holm < 0.05


@dataclass(frozen=True)
class Ablation:
    """Everything that the files of an ablation say."""

    name: str
    part: str
    baseline: str
    tokens: int
    seeds: Sequence[int]
    asked: Mapping[str, int]
    """Task -> users (rating: ratings) behind each figure."""
    variants: Sequence[VariantResult]
    gaps: Sequence[VariantGap]
    runs: Sequence[Mapping[str, Any]]
    """One flat row per run."""
    sentences: Sequence[str]
    """What has to be known to read the figures."""


def result_of(grid: Grid, runs: Sequence[VariantRun], item_knn: RunFolder | None = None) -> Ablation:
    """Collect finished runs. Raises StageMissing for a run that is not finished."""
    settings = grid.settings
    tables = {
        v.name: [tables_of(run.folder) for run in runs if run.variant.name == v.name] for v in grid.variants
    }
    rows = [_run_row(run, tables_of(run.folder)) for run in runs]
    variants = [
        VariantResult(
            v.name,
            v.settings,
            *_figures(tables[v.name]),
            _costs([row for row in rows if row["variant"] == v.name]),
        )
        for v in grid.variants
    ]
    if item_knn is not None:
        tables[ITEM_KNN] = [tables_of(item_knn)] * len(settings.seeds)
        variants.append(VariantResult(ITEM_KNN, {}, *_figures(tables[ITEM_KNN]), dict.fromkeys(COSTS)))
    baseline = grid.baseline.name
    asked = {task: len(table) for task, table in tables[baseline][0].items()}
    gaps = _gaps(tables, baseline, settings)
    told = [*_sentences(grid, rows, gaps), *data_sentences(runs[0].shared.needed("prepare"))]
    return Ablation(
        settings.name,
        settings.part,
        baseline,
        settings.tokens,
        settings.seeds,
        asked,
        variants,
        gaps,
        rows,
        told,
    )


def measured(tables: Tables) -> list[tuple[TaskName, str]]:
    """The compared (task, metric) pairs that tables hold."""
    return [(task, metric) for task, metrics in COMPARED.items() if task in tables for metric in metrics]


def _figures(tables: Sequence[Tables]) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Mean over the seeds, and the value of each, by "task metric"."""
    per_seed = {
        f"{task} {metric}": [summarise(of_seed[task], task)[metric] for of_seed in tables]
        for task, metric in measured(tables[0])
    }
    return {name: float(np.mean(values)) for name, values in per_seed.items()}, per_seed


def _gaps(
    tables: Mapping[str, Sequence[Tables]], baseline: str, settings: AblationSettings
) -> list[VariantGap]:
    """Every variant against the baseline in every metric that both have, the metrics in order."""
    found: list[VariantGap] = []
    for task, metric in measured(tables[baseline][0]):
        others = {name: of for name, of in tables.items() if name != baseline and task in of[0]}
        trained = [name for name in (baseline, *others) if name != ITEM_KNN]
        values = [[summarise(of_seed[task], task)[metric] for of_seed in tables[name]] for name in trained]
        noise = pooled_noise(np.array(values))
        theirs = [of_seed[task] for of_seed in tables[baseline]]
        of_metric = [
            _variant_gap(
                name,
                (task, metric),
                [of_seed[task] for of_seed in of],
                theirs,
                settings.resamples,
                noise if name in trained else None,
            )
            for name, of in others.items()
        ]
        adjusted = holm([one.p for one in of_metric])
        found += [replace(one, p_holm=p) for one, p in zip(of_metric, adjusted, strict=True)]
    return found


def _variant_gap(
    name: str,
    position: tuple[str, str],
    own: Sequence[pl.DataFrame],
    theirs: Sequence[pl.DataFrame],
    resamples: int,
    noise: SeedNoise | None,
) -> VariantGap:
    seen = gap(own, theirs, position[1], resamples, noise=noise)
    users = (seen.users.low, seen.users.high, seen.users.p)
    return VariantGap(
        name, " ".join(position), seen.value, seen.low, seen.high, seen.p, seen.p, *users, seen.per_seed
    )


def _run_row(run: VariantRun, tables: Tables) -> dict[str, Any]:
    """One run: its metrics and costs."""
    trained, asked = run.folder.needed("train").facts, run.folder.needed("evaluate").facts
    figures, _ = _figures([tables])
    known = {**trained, "tokens_per_sample": trained["tokens"] / trained["samples"], **asked}
    shares = {f"tokens of {task}": tokens for task, tokens in sorted(trained["tokens_by_task"].items())}
    return {
        "variant": run.variant.name,
        "seed": run.seed,
        **figures,
        **{name: known[name] for name in COSTS},
        **shares,
    }


def _costs(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Means over the seeds; None where no run knows."""
    known = {name: [row[name] for row in rows if row[name] is not None] for name in COSTS}
    return {name: float(np.mean(values)) if values else None for name, values in known.items()}


def _sentences(grid: Grid, rows: Sequence[Mapping[str, Any]], gaps: Sequence[VariantGap]) -> list[str]:
    settings, seeds = grid.settings, len(grid.settings.seeds)
    reading = [row["tokens"] for row in rows]
    told = [
        f"Every run read {min(reading):,} to {max(reading):,} training tokens, prompts and targets together; how many of them bear "
        "loss is left to each mixture and stands among the costs.",
        "No run stopped early. As in a normal run, the weights are those of the best validation (training.judged_by, training.best_by), "
        "so a run may be evaluated as it was before its last step.",
        "Differences are paired: the same users, held-out items and candidates under every variant and seed. "
        + (
            f"Their 95 % intervals cover other users (resampled) and other seeds (Student's t, the spread between {seeds} seeds "
            "pooled over the variants)."
            if seeds > 1
            else "With one seed their 95 % intervals cover other users only, not other seeds."
        ),
        "p is how often these chances alone go as far from zero, adjusted by Holm for the variants of one metric. A difference is "
        "marked where its interval is clear of zero and the adjusted p is below .05. ablation.json also holds p_users, of a paired "
        "randomisation test over users on the means over the seeds: it knows nothing of other seeds.",
    ]
    if settings.part == "test":
        told.append("These are figures of the test part: whatever is chosen by them has seen it.")
    if len({gap.metric for gap in gaps}) > 1:
        told.append("Metrics are not adjusted for each other.")
    return told
