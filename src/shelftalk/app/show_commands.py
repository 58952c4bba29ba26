"""shelftalk show: what the model sees, what names cost, and what the data gives away."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shelftalk.app.guard import guarded
from shelftalk.app.options import Data, ExperimentFile, Interactions, Items, Json, Seed, experiment_of

commands = typer.Typer(help="Show what the model sees, and what the data gives away.", no_args_is_help=True)


@commands.command("sample")
def show_sample(
    task: Annotated[
        str, typer.Argument(help="Kind of sample, such as retrieval or masked_items.")
    ] = "retrieval",
    experiment: ExperimentFile = None,
    number: Annotated[int, typer.Option("--number", help="Which one of the first epoch, from 0.")] = 0,
    seed: Seed = None,
    data: Data = None,
    interactions: Interactions = None,
    items: Items = None,
) -> None:
    """One training sample as the model sees it, token by token; tokens that bear loss are marked."""

    def work() -> None:
        from shelftalk.app.console import Progress, print_notes, print_sample
        from shelftalk.app.inspecting import sample_tokens

        with Progress() as progress:
            name, template, tokens, notes = sample_tokens(
                experiment_of(experiment, seed, None, data, interactions, items), task, number, progress
            )
        print_sample(name, template, tokens)
        print_notes(notes)

    guarded(work)


@commands.command("index")
def show_index(
    experiment: ExperimentFile = None,
    schemes: Annotated[
        str | None, typer.Option("--schemes", help="Index schemes by comma; all that do not leak without it.")
    ] = None,
    seed: Seed = None,
    data: Data = None,
    interactions: Interactions = None,
    items: Items = None,
    as_json: Json = False,
) -> None:
    """What each way of naming items costs in tokens, before any training: one row per scheme."""

    def work() -> None:
        from shelftalk.app.console import Progress, print_index_figures
        from shelftalk.app.inspecting import index_figures

        wanted = [name.strip() for name in (schemes or "").split(",") if name.strip()]
        with Progress() as progress:
            figures = index_figures(
                experiment_of(experiment, seed, None, data, interactions, items), wanted, progress
            )
        print_index_figures(figures, as_json)

    guarded(work)


@commands.command("data")
def show_data(
    of: Annotated[
        Path | None, typer.Argument(help="A run folder, or an experiment file; MovieLens without one.")
    ] = None,
    seed: Seed = None,
    data: Data = None,
    interactions: Interactions = None,
    items: Items = None,
    as_json: Json = False,
) -> None:
    """What the data gives away by itself: item order, order of ties, repeats, other users' future, copies."""

    def work() -> None:
        from shelftalk.app.console import Progress, print_probes
        from shelftalk.app.inspecting import data_probes, probes_of
        from shelftalk.pipeline.run import open_run

        if of is not None and of.is_dir():
            print_probes(probes_of(open_run(of).folder.needed("prepare")), as_json)
            return
        with Progress() as progress:
            probes = data_probes(experiment_of(of, seed, None, data, interactions, items), progress)
        print_probes(probes, as_json)

    guarded(work)


@commands.command("experiment")
def show_experiment(experiment: ExperimentFile = None, seed: Seed = None, data: Data = None) -> None:
    """The experiment with every default resolved, as TOML: a file to start your own from."""

    def work() -> None:
        from shelftalk.settings import commented_toml

        typer.echo(commented_toml(experiment_of(experiment, seed, None, data, None, None)), nl=False)

    guarded(work)
