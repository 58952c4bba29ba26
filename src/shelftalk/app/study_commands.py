"""The commands that train several models, or none, or read many runs: ablate, compare, tune, plan, probe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from shelftalk.app.guard import guarded
from shelftalk.app.options import (
    Data,
    ExperimentFile,
    Interactions,
    Items,
    Json,
    Seed,
    experiment_of,
    path_option,
)

commands = typer.Typer()


@commands.command()
def ablate(
    grid: Annotated[
        Path, typer.Argument(help="Grid file (TOML): variants of one experiment, seeds, tokens each.")
    ],
    out: Annotated[
        Path | None, path_option("--out", "The ablation's folder; by default runs/ablations/NAME.")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="Seeds by comma, in place of the file's: 0,1,2.")
    ] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Train every variant of a grid on the same number of
    tokens, and compare them. Finished runs are skipped."""

    def work() -> None:
        from shelftalk.app.console import Progress, print_notes, print_tables
        from shelftalk.studies.ablation.grid import load_grid, read_seeds
        from shelftalk.studies.ablation.report import as_json as result_as_json
        from shelftalk.studies.ablation.report import printed_tables
        from shelftalk.studies.ablation.study import ablate

        wanted = load_grid(grid, read_seeds(seeds) if seeds else None, data)
        folder = out or Path("runs") / "ablations" / wanted.settings.name
        with Progress() as progress:
            result, page = ablate(wanted, folder, progress, progress.print_line)
        if as_json:
            typer.echo(result_as_json(result), nl=False)
        else:
            print_tables(printed_tables(result))
            print_notes(result.notes)
            typer.echo(f"Report: {page}")

    guarded(work)


@commands.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Finished run folders, in any number.")],
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference",
            help="Models to compare with, by comma: of each task the first one that answered it. "
            "item_knn and bias without it.",
        ),
    ] = None,
    out: Annotated[
        Path | None, path_option("--out", "Folder for compare.html, .md, .csv, .tex and .json.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Many runs in one table: mean and spread over seeds, paired
    differences to a reference, costs. Nothing is evaluated anew."""

    def work() -> None:
        from shelftalk.app.console import print_tables
        from shelftalk.studies.comparing.evaluated_run import evaluated_runs
        from shelftalk.studies.comparing.report import as_json as result_as_json
        from shelftalk.studies.comparing.report import printed_tables, write_comparison
        from shelftalk.studies.comparing.result import compare_runs

        wanted = [name.strip() for name in (reference or "").split(",") if name.strip()]
        result = compare_runs(evaluated_runs(runs), wanted)
        page = write_comparison(result, out) if out else None
        if as_json:
            typer.echo(result_as_json(result), nl=False)
        else:
            print_tables(printed_tables(result))
            typer.echo("\n".join([*result.sentences, *([f"Report: {page}"] if page else [])]))

    guarded(work)


@commands.command()
def tune(
    experiment: Annotated[Path, typer.Argument(help="Experiment file (TOML) that is tuned.")],
    space: Annotated[
        Path, typer.Argument(help="Space file (TOML): settings with ranges or choices, trials, tokens each.")
    ],
    out: Annotated[
        Path | None, path_option("--out", "The search's folder; by default runs/tuning/NAME.")
    ] = None,
    trials: Annotated[
        int | None, typer.Option("--trials", min=1, help="Trials in all, in place of the file's number.")
    ] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Search a declared space of settings on the validation part,
    and write the best as an experiment. The same command goes on."""

    def work() -> None:
        from shelftalk.app.console import Progress, print_notes, print_tables
        from shelftalk.studies.tuning.report import as_json as result_as_json
        from shelftalk.studies.tuning.report import printed_tables
        from shelftalk.studies.tuning.space import load_space
        from shelftalk.studies.tuning.study import tune

        wanted = load_space(experiment, space, trials, data)
        with Progress() as progress:
            result, page = tune(
                wanted, out or Path("runs") / "tuning" / wanted.settings.name, progress, progress.print_line
            )
        if as_json:
            typer.echo(result_as_json(result), nl=False)
        else:
            print_tables(printed_tables(result))
            print_notes(result.notes)
            typer.echo(f"Report: {page}")

    guarded(work)


@commands.command("plan")
def plan_command(
    experiment: ExperimentFile = None,
    gpu: Annotated[
        str, typer.Option("--gpu", help="The GPU to plan for, such as a100-80gb or rtx-4090.")
    ] = "a100-80gb",
    gpus: Annotated[int, typer.Option("--gpus", min=1, help="How many of them, beside one.")] = 1,
    price: Annotated[
        float | None, typer.Option("--price", min=0, help="What one costs for an hour, in any currency.")
    ] = None,
    utilisation: Annotated[
        float, typer.Option("--utilisation", min=0.01, max=1, help="Share of its peak that a GPU reaches.")
    ] = 0.3,
    lora_rank: Annotated[
        int, typer.Option("--lora-rank", min=1, help="Rank of the adapters that are estimated too.")
    ] = 16,
    users: Annotated[
        int, typer.Option("--users", min=1, help="Users whose samples are looked at; the rest is scaled.")
    ] = 2000,
    seed: Seed = None,
    data: Data = None,
    interactions: Interactions = None,
    items: Items = None,
    as_json: Json = False,
) -> None:
    """The dry run before spending: samples, tokens, memory, hours and
    cost of a training. What cannot work ends with exit code 2."""

    def work() -> None:
        from shelftalk.app.console import Progress, print_plan
        from shelftalk.studies.planning.plan import Hardware, plan
        from shelftalk.studies.planning.tables import rendered

        given = experiment_of(experiment, seed, None, data, interactions, items)
        with Progress() as progress:
            planned = plan(given, Hardware(gpu, gpus, price, utilisation, lora_rank), users, progress)
        print_plan(rendered(planned), planned.values() if as_json else None)
        if planned.refused:
            raise typer.Exit(2)

    guarded(work)


@commands.command()
def probe(
    run: Annotated[
        Path | None,
        path_option("--run", "A finished run folder: probe its model on real data (validation part only)."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A smaller world and no controls: a minute or two.")
    ] = False,
    seeds: Annotated[str, typer.Option("--seeds", help="Seeds by comma; each has a world of its own.")] = "0",
    tasks: Annotated[
        str | None, typer.Option("--tasks", help="Auxiliary tasks to probe, by comma; all without it.")
    ] = None,
    number: Annotated[
        int, typer.Option("--questions", min=1, help="Questions of each kind, with --run.")
    ] = 1000,
    out: Annotated[
        Path | None,
        path_option("--out", "Folder for probe.html, .md and .json; by default runs/probe, or the run's."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Does the knowledge go in? Ask models, trained with each
    auxiliary task and without, for facts that no text tells."""

    def work() -> None:
        from shelftalk.app.console import Progress, print_tables
        from shelftalk.runtime.run_folder import alone_in
        from shelftalk.studies.probing.report import probed_run, probed_world, tables, write_probe

        folder = out or run or Path("runs") / "probe"
        with alone_in(folder):
            with Progress() as progress:
                result = (
                    probed_run(run, number, progress) if run else probed_world(seeds, tasks, quick, progress)
                )
            path = write_probe(result, folder)
        if as_json:
            typer.echo(json.dumps(result, indent=1))
        else:
            print_tables(tables(result))
            typer.echo(f"Report: {path}")

    guarded(work)
