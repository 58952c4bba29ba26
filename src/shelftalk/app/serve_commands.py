"""The command that answers over HTTP."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from shelftalk.app.guard import guarded
from shelftalk.app.options import path_option

commands = typer.Typer()
NEEDED = ("fastapi", "uvicorn", "prometheus_client")


@commands.command()
def serve(
    folder: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A published model, or a finished run folder.")
    ],
    model: Annotated[
        str | None, typer.Option("--model", help='Which model of a run; "aligned" by default.')
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option("--also", help="NAME=FOLDER: one more model beside it, to be compared. Repeatable."),
    ] = None,
    retriever: Annotated[
        Path | None,
        path_option("--retriever", "A student's folder: it retrieves candidates, and MODEL re-ranks them."),
    ] = None,
    candidates: Annotated[
        int, typer.Option("--candidates", min=1, help="Items that the retriever finds for each request.")
    ] = 100,
    store: Annotated[
        str | None,
        typer.Option("--store", help="A file (SQLite) or postgresql://...; by default a file beside MODEL."),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Its port; 0 for a free one.")] = 8000,
    api_key_file: Annotated[
        Path | None, path_option("--api-key-file", "API keys, one a line; needed beyond this machine.")
    ] = None,
    tls_certificate: Annotated[
        Path | None, path_option("--tls-certificate", "Certificate chain (PEM), with --tls-key.")
    ] = None,
    tls_key: Annotated[Path | None, path_option("--tls-key", "Its private key (PEM).")] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="One more name that this machine is called by. Repeatable."),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option("--limit", help="name=value: queue_limit, max_batch, seconds, max_body ... Repeatable."),
    ] = None,
    log_bodies: Annotated[
        bool, typer.Option("--log-bodies", help="Log what callers send, histories included.")
    ] = False,
) -> None:
    """Answer over HTTP, with a page to try it: recommendations for histories and users, over a catalogue that
    changes while it is served."""

    def work() -> None:
        from shelftalk.errors import SettingsError

        if missing := [name for name in NEEDED if find_spec(name) is None]:
            raise SettingsError(
                f'serving needs {", ".join(missing)}; install it with: pip install "shelftalk[serve]"'
            )
        from shelftalk.serving.guarding import Keys
        from shelftalk.serving.running import Address, Retriever, default_store, limits, prepare

        others = {}
        for text in also or []:
            name, separator, path = text.partition("=")
            if not (separator and name and path):
                raise SettingsError(f'"{text}" names no model; write --also NAME=FOLDER.')
            others[name] = Path(path)
        running = prepare(
            folder,
            Address(host, port, tls_certificate, tls_key, tuple(allow_host or ())),
            store or default_store(folder),
            model,
            others,
            Keys.of_file(api_key_file) if api_key_file else None,
            limits(limit or []),
            log_bodies=log_bodies,
            retriever=Retriever(retriever, candidates) if retriever else None,
        )
        typer.echo(f"{', '.join(running.service.engine.models)} at {running.url} (Ctrl+C ends it)")
        running.run()

    guarded(work)
