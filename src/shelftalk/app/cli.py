"""The command line: parse -> Experiment -> one stage. Commands that are no stages are in the files named
for what they work on: data_commands.py, show_commands.py and so on."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from shelftalk import __version__
from shelftalk.app import (
    data_commands,
    folder_commands,
    serve_commands,
    show_commands,
    study_commands,
    use_commands,
)
from shelftalk.app.guard import guarded
from shelftalk.app.options import (
    Data,
    EngineOfWorkers,
    ExperimentFile,
    Interactions,
    Items,
    Json,
    Models,
    NumberOfWorkers,
    Out,
    Seed,
    experiment_of,
    path_option,
)

app = typer.Typer(
    name="shelftalk",
    help="Align language models with recommendation knowledge, and make recommenders of them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop."),
]


@app.callback()
def main(version: Version = False) -> None:
    """Options of the command itself."""


def _stage_command(name: str, summary: str) -> None:
    def command(
        experiment: ExperimentFile = None,
        out: Out = None,
        seed: Seed = None,
        models: Models = None,
        data: Data = None,
        interactions: Interactions = None,
        items: Items = None,
        as_json: Json = False,
    ) -> None:
        _do(name, experiment, out, seed, models, data, interactions, items, as_json)

    app.command(name, help=summary)(command)


def _writing_command(name: str, summary: str) -> None:
    """A command that writes samples, which several processes can do."""

    def command(
        experiment: ExperimentFile = None,
        out: Out = None,
        seed: Seed = None,
        models: Models = None,
        data: Data = None,
        interactions: Interactions = None,
        items: Items = None,
        workers: NumberOfWorkers = 1,
        engine: EngineOfWorkers = "local",
        as_json: Json = False,
    ) -> None:
        _do(name, experiment, out, seed, models, data, interactions, items, as_json, (workers, engine))

    app.command(name, help=summary)(command)


_writing_command(
    "run", "All stages, from data to report. Finished ones are skipped; an interrupted run continues."
)
for _name, _summary in {
    "prepare": "Read, check, filter and split the data.",
    "index": "Name every item.",
}.items():
    _stage_command(_name, _summary)
_writing_command("write", "Write the training samples.")
for _name, _summary in {
    "train": "Train the language model; continues an interrupted training.",
    "recommend": "Let every model answer the test part.",
}.items():
    _stage_command(_name, _summary)


@app.command()
def evaluate(
    experiment: Annotated[
        Path | None,
        typer.Argument(
            help="A run folder, or an experiment file (TOML); the bundled MovieLens experiment without one."
        ),
    ] = None,
    out: Out = None,
    seed: Seed = None,
    models: Models = None,
    data: Data = None,
    interactions: Interactions = None,
    items: Items = None,
    scores: Annotated[
        Path | None,
        path_option(
            "--scores",
            "Results of another system, to be measured like a model: user, item, score as Parquet, CSV, TSV "
            "or JSON lines, or a TREC run (.trec, .run, .txt).",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="What they are called, with --scores.")] = None,
    task: Annotated[
        str, typer.Option("--task", help="What they answer, with --scores: retrieval, ranking or rating.")
    ] = "retrieval",
    drop_seen: Annotated[
        bool,
        typer.Option("--drop-seen", help="Leave out rows of items in the user's history, with --scores."),
    ] = False,
    remove_scores: Annotated[
        str | None, typer.Option("--remove-scores", help="Take the results of this name out of the run.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure the answers; with --scores those of another system too, which stay in the run and
    its report."""
    given = (out, seed, models, data, interactions, items)
    if (scores is None) != (name is None):
        raise typer.BadParameter("--scores FILE and --name NAME belong together; give both, or neither.")
    if scores is None and remove_scores is None and not (experiment and experiment.is_dir()):
        _do("evaluate", experiment, *given, as_json)
        return

    def work() -> None:
        from shelftalk.app.console import Progress, print_summary
        from shelftalk.app.scoring import change_scores

        run = run_folder_of(experiment, given)
        with Progress() as progress:
            records = change_scores(run, scores, name, task, drop_seen, remove_scores, progress)
        print_summary(run, records, as_json)

    guarded(work)


_stage_command("report", "Write the report.")
app.add_typer(data_commands.commands)
app.add_typer(show_commands.commands, name="show")
app.add_typer(study_commands.commands)
app.add_typer(folder_commands.commands)
app.add_typer(serve_commands.commands)
app.add_typer(use_commands.commands)


@app.command()
def doctor(as_json: Json = False) -> None:
    """What this machine can do: cores, memory, bf16, GPU, free disk, versions."""

    def work() -> None:
        from shelftalk.app.inspecting import machine_facts

        facts = machine_facts()
        typer.echo(
            json.dumps(facts, indent=1)
            if as_json
            else "\n".join(f"{name:<18} {value}" for name, value in facts.items())
        )

    guarded(work)


def _do(
    stage: str,
    path: Path | None,
    out: Path | None,
    seed: int | None,
    models: str | None,
    data: Path | None,
    interactions: Path | None,
    items: Path | None,
    as_json: bool,
    workers: tuple[int, str] | None = None,
) -> None:
    """Resolve the experiment, carry out one stage, print where the result is."""

    def work() -> None:
        from shelftalk.app.console import Progress, print_summary
        from shelftalk.pipeline import stages
        from shelftalk.pipeline.workers import Workers
        from shelftalk.runtime.distributed import world
        from shelftalk.runtime.progress import silent
        from shelftalk.runtime.run_folder import RunFolder

        refuse_run_folder(stage, path, out)
        with world().group() as processes:
            with processes.main_process_first():
                experiment = experiment_of(path, seed, models, data, interactions, items)
            folder = RunFolder(out or Path("runs") / experiment.name)
            options = () if workers is None else (Workers(*workers),)
            with folder.alone(), Progress() if processes.is_main else nullcontext(silent) as progress:
                if stage == "run":
                    records = stages.run_all(folder, experiment, progress, *options)
                else:
                    stages.claim(folder, experiment)
                    done = getattr(stages, stage)(folder, experiment, progress, *options)
                    records = done if isinstance(done, list) else [done]
        if processes.is_main:
            print_summary(folder, records, as_json)

    guarded(work, alone=False)


def refuse_run_folder(stage: str, path: Path | None, out: Path | None) -> None:
    """Raises MissingFile for a run folder in place of an experiment, with the command that goes on with it,
    or does the same in `out`."""
    from shelftalk.errors import MissingFile
    from shelftalk.runtime.run_folder import RunFolder

    if path is not None and (run := RunFolder(path)).experiment.is_file():
        command = shlex.join(["shelftalk", stage, str(run.experiment), "--out", str(out or path)])
        raise MissingFile(
            f'"{path}" is a run folder, and {stage} takes an experiment file and --out; run `{command}`.'
        )


def run_folder_of(path: Path | None, given: Sequence[Any]) -> Any:
    """The run folder that is named in place of an experiment. Raises MissingFile or SettingsError."""
    from shelftalk.errors import MissingFile, SettingsError
    from shelftalk.runtime.run_folder import RunFolder

    if path is None or not path.is_dir():
        raise MissingFile(
            f'"{path or ""}" is no run folder, and scores are evaluated in one; name it first: '
            "shelftalk evaluate RUN."
        )
    if any(option is not None for option in given):
        raise SettingsError(
            f'the run "{path}" has an experiment of its own; leave --out, --seed, --models, --data, '
            "--interactions and --items out."
        )
    return RunFolder(path)
