"""shelftalk fetch, import, inspect: data from elsewhere, and what there is to know about data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shelftalk.app.guard import guarded
from shelftalk.app.options import Interactions, Items, Json, Seed, experiment_of, path_option

commands = typer.Typer()


@commands.command()
def fetch(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A public data set, such as ml-1m or amazon-2014:Beauty; all are listed without."
        ),
    ] = None,
    to: Annotated[Path | None, path_option("--to", "The folder to put it in; by default data/NAME.")] = None,
    as_json: Json = False,
) -> None:
    """Download a public data set: continued where it was interrupted, verified by SHA-256, unpacked.
    Without a network it says which file to put where."""

    def work() -> None:
        from shelftalk.app.console import Progress, print_fetched, print_public_sets
        from shelftalk.data.sources.fetching import fetch, public_set, public_sets

        if name is None:
            print_public_sets(public_sets(), as_json)
            return
        wanted = public_set(name)
        folder = to or Path("data") / wanted.name.replace(":", "-")
        with Progress() as progress:
            done = fetch(wanted, folder, progress)
        print_fetched(wanted, folder, done, as_json)

    guarded(work)


@commands.command("inspect")
def inspect_data(
    of: Annotated[
        Path | None,
        typer.Argument(help="A folder of data, a run folder or an experiment file; MovieLens without one."),
    ] = None,
    interactions: Interactions = None,
    items: Items = None,
    out: Annotated[
        Path | None, path_option("--out", "The page to write; by default NAME-data.html here.")
    ] = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """One page about a data set, before any model: counts, long tail, histories, times, titles, ratings, odd
    accounts, the tasks that it supports, and what will go wrong."""

    def work() -> None:
        from shelftalk.app.console import Progress, print_inspection
        from shelftalk.app.inspecting import inspect_source
        from shelftalk.pipeline.run import open_run
        from shelftalk.report.inspection import write_inspection

        if of is not None and (of / "experiment.toml").is_file():
            experiment = open_run(of).experiment
        elif of is not None and (of.is_dir() or not of.suffix):
            experiment = experiment_of(None, seed, None, of, None, None)
        else:
            experiment = experiment_of(of, seed, None, None, interactions, items)
        with Progress() as progress:
            record = inspect_source(experiment, progress)
        path = write_inspection(record, out or Path(f"{experiment.name}-data.html"))
        print_inspection(record, path, as_json)

    guarded(work)


@commands.command("import")
def import_queries(
    database: Annotated[
        str,
        typer.Option(
            "--database",
            help="duckdb:FILE, duckdb: (queries over files), adbc:DRIVER:URI, or an address of SQLAlchemy.",
        ),
    ],
    interactions: Annotated[
        str, typer.Option("--interactions", metavar="SQL", help="Query of who took what, when.")
    ],
    items: Annotated[str, typer.Option("--items", metavar="SQL", help="Query of the catalogue.")],
    out: Annotated[Path, path_option("--out", "The folder to make.")],
    as_json: Json = False,
) -> None:
    """Write what two SQL queries return as a folder of data, which a run then reads with --data."""

    def work() -> None:
        from shelftalk.app.console import Progress, print_imported
        from shelftalk.data.sources.sql import write_queries

        with Progress() as progress:
            rows = write_queries(database, interactions, items, out, progress)
        print_imported(out, rows, as_json)

    guarded(work)
