"""The commands that use a published model: batch, distil, constraints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from shelftalk.app.guard import guarded
from shelftalk.app.options import Json, path_option

commands = typer.Typer()
Model = Annotated[str, typer.Argument(help="A published folder, or owner/model on a hub.")]


@commands.command()
def batch(
    model: Model,
    requests: Annotated[
        Path,
        path_option(
            "--requests", "The requests, a row each: .parquet, .csv, .tsv or .jsonl with the column history."
        ),
    ],
    out: Annotated[
        Path, path_option("--out", "The answers, in the same order: .parquet, .csv, .tsv or .jsonl.")
    ],
    k: Annotated[int, typer.Option("--k", help="Items for each request.")] = 10,
    task: Annotated[str, typer.Option("--task", help="retrieval, ranking or rating.")] = "retrieval",
    engine: Annotated[
        str, typer.Option("--engine", help="local: processes of this machine; ray: Ray Data.")
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Processes; by default one for each core, or one with a GPU."),
    ] = None,
    shard_size: Annotated[int, typer.Option("--shard-size", help="Requests in a shard.")] = 1024,
    keep_bad_rows: Annotated[
        bool,
        typer.Option(
            "--keep-bad-rows", help="A request that cannot be answered becomes a row with an error."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Answer a file of requests of any length, in constant memory. The same command continues after an
    interruption and makes the same file to the byte."""

    def work() -> None:
        from shelftalk.app.console import Progress
        from shelftalk.batch.run import answer_file
        from shelftalk.publishing.loading import folder_of

        with Progress() as progress:
            done = answer_file(
                folder_of(model),
                requests,
                out,
                k,
                task,  # type: ignore[arg-type]  # what it does not answer is refused
                engine,  # type: ignore[arg-type]
                workers,
                shard_size,
                keep_bad_rows,
                progress,
            )
        facts = {"out": str(done.out), "requests": done.rows, "seconds": round(done.seconds, 1)}
        words = f"{done.rows:,} requests answered in {done.seconds:.0f} s: {done.out}"
        if done.answered < done.rows:
            words = (
                f"{done.rows:,} requests, {done.answered:,} of them now in {done.seconds:.0f} s: {done.out}"
            )
        typer.echo(json.dumps({**facts, "answered now": done.answered}, indent=1) if as_json else words)

    guarded(work)


@commands.command()
def distil(
    model: Model,
    run: Annotated[Path, path_option("--run", "The run that it was published from: its training histories.")],
    out: Annotated[Path, path_option("--out", "The folder of the student.")],
    prefixes: Annotated[
        int, typer.Option("--prefixes", help="Prefixes of each training history that the teacher answers.")
    ] = 8,
    as_json: Json = False,
) -> None:
    """Teach a small sequential model the lists and item vectors of a published one, and say how much quality
    it keeps at which latency."""

    def work() -> None:
        from shelftalk.app.console import Progress
        from shelftalk.pipeline.distilling import distil as distil_model
        from shelftalk.pipeline.run import open_run
        from shelftalk.publishing.loading import folder_of

        with Progress() as progress:
            done = distil_model(folder_of(model), open_run(run), out, prefixes=prefixes, progress=progress)
        if as_json:
            facts = {"folder": str(done.folder), "kept ndcg@10": done.kept}
            typer.echo(json.dumps({**facts, "metrics": done.metrics, "ms": done.milliseconds}, indent=1))
            return
        for name, values in done.metrics.items():
            typer.echo(
                f"{name:<16} Recall@10 {values['recall@10']:.4f}  NDCG@10 {values['ndcg@10']:.4f}  "
                f"{done.milliseconds[name]['p50']:.1f} ms per request (median, one thread)"
            )
        typer.echo(f"The student keeps {done.kept:.0%} of the NDCG@10: {done.folder}")

    guarded(work)


@commands.command()
def constraints(
    model: Model,
    out: Annotated[Path, path_option("--out", "The folder to make.")],
    form: Annotated[
        str,
        typer.Option("--form", help="csr: a table of transitions; static: also the arrays of STATIC."),
    ] = "csr",
) -> None:
    """The item names as a table of transitions, for engines that decode by themselves."""

    def work() -> None:
        from shelftalk.publishing.constraints import write_constraints
        from shelftalk.publishing.loading import folder_of

        typer.echo(f"Written: {write_constraints(folder_of(model), out, form)}")  # type: ignore[arg-type]

    guarded(work)
