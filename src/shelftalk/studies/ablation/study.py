"""An ablation from the grid to its report: prepare, check everything, run what is not finished, compare."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomli_w

from shelftalk.errors import AnotherExperiment, SettingsError, ShelftalkError
from shelftalk.evaluation.evaluator import summarise
from shelftalk.parts import SERVED
from shelftalk.pipeline.fresh_backbone import check_backbone
from shelftalk.pipeline.run import Run
from shelftalk.pipeline.stages import data_sentences, reading_notes
from shelftalk.runtime.progress import FINISHED, OnProgress, silent
from shelftalk.runtime.run_folder import (
    RunFolder,
    alone_in,
    beside,
    holds_something,
    remove_parts,
    space_needed,
)
from shelftalk.studies.ablation.grid import ITEM_KNN, Grid, Variant
from shelftalk.studies.ablation.report import write_reports
from shelftalk.studies.ablation.result import COMPARED, Ablation, result_of
from shelftalk.studies.token_budget import run as token_budget
from shelftalk.studies.token_budget.progress import StudyProgress
from shelftalk.studies.token_budget.run import (
    BudgetRun,
    EvaluationSample,
    budget_run,
    evaluate_model,
    read_tables,
)

GRID_FILE = "grid.toml"


def no_log(line: str) -> None:
    """A log that nobody reads."""


def ablate(
    grid: Grid, out: Path, progress: OnProgress = silent, log: Callable[[str], None] = no_log
) -> tuple[Ablation, Path]:
    """Every variant with every seed, then the report in `out`: ablation.json, ablation.md, ablation.html.

    Finished runs with unchanged settings are skipped, an interrupted one continues. `log` gets sentences
    about the data, and a line per finished run. Returns the result and the path of the page. Raises
    AnotherExperiment for a folder that holds something else, InUse where another process works in it, and
    what the stages raise.
    """
    with alone_in(out):
        return _ablate(grid, out, progress, log)


def run_of(variant: Variant, seed: int, out: Path) -> BudgetRun:
    """The run of a variant with a seed. Data and split are drawn by the base experiment's seed, names of
    items by the run's."""
    folder = out / "runs" / f"{variant.folder}.seed-{seed}"
    return budget_run(variant.name, variant.experiment, seed, folder, out / "shared")


def _ablate(grid: Grid, out: Path, progress: OnProgress, log: Callable[[str], None]) -> tuple[Ablation, Path]:
    claim(out, grid)
    runs = [run_of(variant, seed, out) for seed in grid.settings.seeds for variant in grid.variants]
    _prepare(runs, progress)
    _check(runs)
    prepared = runs[0].shared.needed("prepare")
    for sentence in [*data_sentences(prepared), *(f"Note: {note}" for note in reading_notes(prepared))]:
        log(sentence)
    whole = StudyProgress(progress, "runs", len(runs), "")
    for number, run in enumerate(runs):
        of_run = whole.training(number, f"{run.name}, seed {run.seed}")
        log(f"{number + 1}/{len(runs)} " + _run(run, grid, of_run))
    whole.finish()
    item_knn = None
    if grid.settings.compare_item_knn:
        item_knn = _evaluate_item_knn(runs[grid.variants.index(grid.baseline)], grid, out, progress)
    result = result_of(grid, runs, item_knn)
    return result, write_reports(result, out)


def claim(out: Path, grid: Grid) -> None:
    """Make the folder this ablation's and keep the grid in it. Raises AnotherExperiment for a folder of
    something else."""
    if out.exists() and not out.is_dir():
        raise AnotherExperiment(f'"{out}" is a file, and an ablation needs a folder; choose another --out.')
    if holds_something(out) and not (out / GRID_FILE).exists():
        raise AnotherExperiment(
            f'"{out}" is not empty and not an ablation of shelftalk; choose another --out.'
        )
    shared = grid.settings.model_dump(mode="json", exclude_none=True)
    variants = [{"name": variant.name, **variant.settings} for variant in grid.variants]
    remove_parts(out)
    with space_needed(out), beside(out / GRID_FILE) as part:
        part.write_text(tomli_w.dumps({"ablation": shared, "variant": variants}), encoding="utf-8")


def _prepare(runs: Sequence[BudgetRun], progress: OnProgress) -> None:
    """Data, split and index of every run, each of them once."""
    different = list({run.shared.path: run for run in runs}.values())
    for number, run in enumerate(different):
        progress("prepare", number, len(different), run.name)
        with _errors_named_by(run):
            token_budget.prepare(run)
    progress("prepare", len(different), len(different), FINISHED)


def _check(runs: Sequence[BudgetRun]) -> None:
    """Before the first run starts: every task of every variant is built, with its templates, and all are
    evaluated on the same split."""
    splits: dict[str, str] = {}
    for run in {run.name: run for run in runs}.values():
        opened = run.open()
        with _errors_named_by(run):
            check_backbone(run.seeded)
            opened.served  # noqa: B018 - builds every task
        splits[run.name] = opened.split.fingerprint()
    first, *others = splits
    for name in others:
        if splits[name] != splits[first]:
            raise SettingsError(
                f'the variants "{first}" and "{name}" divide different data, so they cannot be compared user '
                "by user; let all variants share the data and split settings."
            )


def _run(run: BudgetRun, grid: Grid, progress: OnProgress) -> str:
    """Train and evaluate one run, and describe it in a line."""
    with _errors_named_by(run):
        trained = token_budget.train(run, grid.settings.tokens, progress)
        evaluated = token_budget.evaluate(run, _sample(grid, run), progress)
    tables = read_tables(run.folder)
    shown = [(task, metrics[-1]) for task, metrics in COMPARED.items() if task in tables]
    figures = [f"{task} {metric} {summarise(tables[task], task)[metric]:.4f}" for task, metric in shown]
    cost = f"{trained.facts['tokens']:,} tokens in {trained.seconds:.0f} s"
    again = "unchanged, skipped" if trained.skipped and evaluated.skipped else cost
    return f"{run.name}, seed {run.seed}: {', '.join(figures)} ({again})"


def _evaluate_item_knn(base: BudgetRun, grid: Grid, out: Path, progress: OnProgress) -> RunFolder:
    """item_knn on the data of the baseline, evaluated on the same requests; the folder with its tables."""
    folder, experiment, sample = RunFolder(out / ITEM_KNN), base.experiment, _sample(grid, base)
    inputs = {
        "prepare": base.shared.needed("prepare").fingerprint,
        "item_knn": experiment.settings_of(ITEM_KNN).model_dump(mode="json"),
        **sample.inputs,
    }

    def work() -> dict[str, Any]:
        progress("evaluate", 0, 1, ITEM_KNN)
        run = Run(base.shared, experiment)
        model = run.model(ITEM_KNN)
        facts = evaluate_model(model, folder, run, sample)
        progress("evaluate", 1, 1, FINISHED)
        return {"chosen": model.selection(), **facts}

    folder.do("evaluate", inputs, work, [folder.evaluation(task) for task in SERVED])
    return folder


def _sample(grid: Grid, run: BudgetRun) -> EvaluationSample:
    """Drawn by the base experiment's seed: the same for all variants and seeds."""
    settings = grid.settings
    return EvaluationSample(
        settings.part, settings.users, settings.ratings, run.experiment.seed, study="ablation"
    )


@contextmanager
def _errors_named_by(run: BudgetRun) -> Iterator[None]:
    """Errors inside the block begin with the variant's name."""
    try:
        yield
    except ShelftalkError as error:
        raise type(error)(f'variant "{run.name}": {error}') from error
