"""shelftalk fetch, import: data from elsewhere, as a folder that a run can read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shelftalk.app.guard import guarded
from shelftalk.app.options import Json, path_option

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
