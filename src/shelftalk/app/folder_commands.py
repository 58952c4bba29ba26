"""The commands that read a run's folder: publish, verify, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shelftalk.app.guard import guarded
from shelftalk.app.options import Json, path_option

commands = typer.Typer()


@commands.command()
def publish(
    run: Annotated[Path, typer.Argument(help="A finished run folder.")],
    to: Annotated[Path | None, path_option("--to", "The folder to make; by default RUN/published.")] = None,
    push: Annotated[
        str | None, typer.Option("--push", help="Upload it to the hub as this repository: owner/model.")
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Everyone may read the repository; private without it.")
    ] = False,
    with_prior: Annotated[
        bool,
        typer.Option(
            "--with-prior",
            help="The prior of aligned+prior too: counts of who took what with what. It asks first.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --with-prior: do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """One folder that is a recommender by itself: model, item
    names, catalogue texts, templates, settings and a model card."""

    def work() -> None:
        from shelftalk.publishing.contents import describe_folder
        from shelftalk.publishing.hub import push as push_folder
        from shelftalk.publishing.publish import publish as publish_run

        if with_prior and not yes:
            agreed_to_prior()
        folder = publish_run(run, to, push, with_prior)
        typer.echo(describe_folder(folder, push_folder(folder, push, public) if push else None, as_json))

    guarded(work)


PRIOR_QUESTION = (
    "The prior is counted in who took what with what. The folder holds no id of a user, but where few people "
    "took an item, its counts can tell what one of them took. Put them into the folder?"
)


def agreed_to_prior() -> None:
    """Asks; raises SettingsError without a clear yes, and where nobody can be asked."""
    from shelftalk.errors import SettingsError

    refused = SettingsError("nobody agreed to publish the prior; give --yes, or leave --with-prior out.")
    try:
        if not typer.confirm(PRIOR_QUESTION, err=True):
            raise refused
    except typer.Abort:
        raise refused from None


@commands.command()
def verify(
    run: Annotated[Path, typer.Argument(help="A finished run folder.")],
    against: Annotated[
        Path | None,
        path_option("--against", "Another run on the same split: its models are compared, paired."),
    ] = None,
    models: Annotated[
        str | None,
        typer.Option("--models", help="With --against: which models, by comma, or A:NAME,B:NAME for a pair."),
    ] = None,
    complete: Annotated[
        bool, typer.Option("--complete", help="Also what takes minutes for very many users.")
    ] = False,
    fingerprint: Annotated[
        str | None, typer.Option("--certificate", help="The certificate's fingerprint as it was published.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compute every printed number of a run again from its files, check every fact and hash, and name what
    does not hold (exit code 1). No model, no GPU."""

    def work() -> None:
        from shelftalk.app.console import Progress, print_comparison, print_verification
        from shelftalk.certificate.against import compare_runs
        from shelftalk.certificate.verify import verify as verify_run
        from shelftalk.runtime.run_folder import RunFolder

        folders = [RunFolder(path) for path in (run, *([against] if against else []))]
        wanted = [name.strip() for name in (models or "").split(",") if name.strip()]
        with Progress() as progress:
            published = [fingerprint, None]
            results = [
                verify_run(folder, progress, complete, given)
                for folder, given in zip(folders, published, strict=False)
            ]
            whole = all(result.holds for result in results)
            compared = compare_runs(folders[0], folders[1], wanted, progress) if against and whole else None
        if compared:
            print_comparison(compared, results, as_json)
        else:
            print_verification(results, as_json)
        if not whole:
            raise typer.Exit(1)

    guarded(work)


@commands.command()
def export(
    run: Annotated[Path, typer.Argument(help="A run folder whose data is prepared.")],
    format: Annotated[str, typer.Option("--format", help="parquet, recbole or trec.")] = "parquet",
    out: Annotated[
        Path | None, path_option("--out", "The folder to make; by default RUN/export-FORMAT.")
    ] = None,
) -> None:
    """The run's split, candidates and catalogue for other libraries, so that their models are measured on
    exactly this test."""

    def work() -> None:
        from shelftalk.data.interchange import export_split
        from shelftalk.pipeline.run import open_run

        opened = open_run(run)
        folder = out or run / f"export-{format}"
        opened.folder.needed("prepare")
        typer.echo(f"Exported: {export_split(opened.split, folder, format, opened.experiment.name)}")

    guarded(work)


@commands.command()
def append(
    run: Annotated[Path, typer.Argument(help="A run folder with a trained model, which is left as it is.")],
    interactions: Annotated[
        Path, path_option("--interactions", "New interactions, with the columns of the run's own.")
    ],
    out: Annotated[Path, path_option("--out", "The run folder to make.")],
    items: Annotated[
        Path | None, path_option("--items", "New items; rows of known ones are left out.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", help="Epochs over what is new; by default those of the run.")
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option("--learning-rate", help="Of the training; by default a tenth of the run's."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Append interactions and items to a run: a new run folder in which items keep their names and the
    model is trained further on what is new alone, by `shelftalk run`."""

    def work() -> None:
        import json

        from shelftalk.pipeline.continuation import append as append_to_run

        given = {"epochs": epochs, "learning_rate": learning_rate}
        training = {name: value for name, value in given.items() if value is not None}
        _, counts = append_to_run(run, interactions, items, out, training)
        following = f"shelftalk run {out / 'experiment.toml'} --out {out}"
        if as_json:
            typer.echo(json.dumps({"run": str(out), **counts, "next": following}, indent=1))
            return
        again = "It was made before, of the same files. " if counts.get("again") else ""
        typer.echo(
            f"{again}New: {counts['interactions']:,} interactions, {counts['users']:,} users, "
            f"{counts['items']:,} items; known before: {counts['interactions known before']:,} interactions, "
            f"{counts['items known before']:,} items.\nTrain it further: {following}"
        )

    guarded(work)
