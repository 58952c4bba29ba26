"""An ablation from the grid to its report: prepare, check everything, run what is not finished, compare."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import tomli_w

from shelftalk.errors import AnotherExperiment, SettingsError, ShelftalkError
from shelftalk.evaluation.evaluator import summarise
from shelftalk.fresh_backbone import check_backbone
from shelftalk.runtime.progress import FINISHED, OnProgress, silent
from shelftalk.runtime.run_folder import alone_in, beside, holds_something, remove_parts, space_needed
from shelftalk.stages import data_sentences
from shelftalk.studies.ablation import variant_run
from shelftalk.studies.ablation.grid import Grid
from shelftalk.studies.ablation.report import write_reports
from shelftalk.studies.ablation.result import COMPARED, Ablation, result_of
from shelftalk.studies.ablation.variant_run import VariantRun, run_of
from shelftalk.studies.token_budget.progress import Shares
from shelftalk.studies.token_budget.run import tables_of

GRID_FILE = "grid.toml"


def no_op(line: str) -> None:
    """A line that nobody reads."""


def ablate(
    grid: Grid, out: Path, progress: OnProgress = silent, say: Callable[[str], None] = no_op
) -> tuple[Ablation, Path]:
    """Every variant with every seed, then the report in `out`: ablation.json, ablation.md, ablation.html.

    Finished runs with unchanged settings are skipped, an interrupted one continues. `say` gets what became of
    the data, and a line per finished run. Returns the result and the path of the page. Raises
    AnotherExperiment for a folder that holds something else, InUse where another process works in it, and
    what the stages raise.
    """
    with alone_in(out):
        return _ablate(grid, out, progress, say)


def _ablate(grid: Grid, out: Path, progress: OnProgress, say: Callable[[str], None]) -> tuple[Ablation, Path]:
    claim(out, grid)
    runs = [run_of(variant, seed, out) for seed in grid.settings.seeds for variant in grid.variants]
    _prepare(runs, progress)
    _check(runs)
    for sentence in data_sentences(runs[0].shared.needed("prepare")):
        say(sentence)
    shares = Shares(progress, "runs", len(runs), "")
    for number, run in enumerate(runs):
        hears = shares.training(number, f"{run.variant.name}, seed {run.seed}")
        say(f"{number + 1}/{len(runs)} " + _run(run, grid, hears))
    shares.finish()
    base = next(run for run in runs if run.variant == grid.baseline)
    item_knn = (
        variant_run.ask_item_knn(base.variant, base.shared, out, grid.settings, progress)
        if grid.settings.compare_item_knn
        else None
    )
    found = result_of(grid, runs, item_knn)
    return found, write_reports(found, out)


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


def _prepare(runs: Sequence[VariantRun], progress: OnProgress) -> None:
    """Data, split and index of every run, each of them once."""
    different = list({run.shared.path: run for run in runs}.values())
    for number, run in enumerate(different):
        progress("prepare", number, len(different), run.variant.name)
        with _by_name(run):
            variant_run.prepare(run)
    progress("prepare", len(different), len(different), FINISHED)


def _check(runs: Sequence[VariantRun]) -> None:
    """Before the first run starts: every task of every variant is built, wordings and all, and all are asked
    the same."""
    splits: dict[str, str] = {}
    for run in {run.variant.name: run for run in runs}.values():
        found = run.parts
        with _by_name(run):
            check_backbone(run.experiment)
            found.served  # noqa: B018 - builds every task
        splits[run.variant.name] = found.split.fingerprint()
    first, *others = splits
    for name in others:
        if splits[name] != splits[first]:
            raise SettingsError(
                f'the variants "{first}" and "{name}" divide different data, so they cannot be compared user by user; '
                "let all variants share the data and split settings."
            )


def _run(run: VariantRun, grid: Grid, progress: OnProgress) -> str:
    """Train and ask one run, and say in a line how it went."""
    with _by_name(run):
        trained = variant_run.train(run, grid.settings.tokens, progress)
        asked = variant_run.ask(run, grid.settings, progress)
    tables = tables_of(run.folder)
    shown = [(task, metrics[-1]) for task, metrics in COMPARED.items() if task in tables]
    figures = [f"{task} {metric} {summarise(tables[task], task)[metric]:.4f}" for task, metric in shown]
    cost = f"{trained.facts['tokens']:,} tokens in {trained.seconds:.0f} s"
    again = "unchanged, skipped" if trained.skipped and asked.skipped else cost
    return f"{run.variant.name}, seed {run.seed}: {', '.join(figures)} ({again})"


@contextmanager
def _by_name(run: VariantRun) -> Iterator[None]:
    """What goes wrong in a variant is told with its name."""
    try:
        yield
    except ShelftalkError as error:
        raise type(error)(f'variant "{run.variant.name}": {error}') from error
