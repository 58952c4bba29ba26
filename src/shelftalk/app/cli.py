"""The command line: parse -> Experiment -> one stage; nothing else."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from shelftalk import __version__
from shelftalk.errors import ShelftalkError
from shelftalk.runtime.machine import spin_briefly

app = typer.Typer(
    name="shelftalk",
    help="Align language models with recommendation knowledge, and make recommenders of them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
show_app = typer.Typer(help="Show what the model sees, and what the data gives away.", no_args_is_help=True)
app.add_typer(show_app, name="show")


def _path(text: str) -> Path:
    """An empty path would be this directory: it comes from a shell variable that is not set."""
    if not text.strip():
        raise typer.BadParameter("is empty; name a path, or leave the option out.")
    return Path(text)


def _path_option(name: str, summary: str) -> Any:
    return typer.Option(name, parser=_path, metavar="PATH", help=summary)


ExperimentFile = Annotated[
    Path | None, typer.Argument(help="Experiment file (TOML); the bundled MovieLens experiment without one.")
]
Out = Annotated[Path | None, _path_option("--out", "The run folder itself; by default runs/NAME.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of everything random in the run.")]
Models = Annotated[
    str | None, typer.Option("--models", help="What to evaluate, by name and comma: item_knn,popularity.")
]
Data = Annotated[
    Path | None,
    _path_option("--data", "Folder that holds interactions.* and items.* (Parquet, CSV or JSON lines)."),
]
Interactions = Annotated[
    Path | None, _path_option("--interactions", "File of who took what, when; with --items.")
]
Items = Annotated[Path | None, _path_option("--items", "File of the catalogue; with --interactions.")]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output instead of text.")
]


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


for _name, _summary in {
    "run": "All stages, from data to report. Finished ones are skipped; an interrupted run continues.",
    "prepare": "Read, check, filter and split the data.",
    "index": "Name every item.",
    "write": "Write the training samples.",
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
        _path_option(
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

        run = _run_folder(experiment, given)
        with Progress() as progress:
            records = change_scores(run, scores, name, task, drop_seen, remove_scores, progress)
        print_summary(run, records, as_json)

    _guarded(work)


_stage_command("report", "Write the report.")


@show_app.command("sample")
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
                _experiment(experiment, seed, None, data, interactions, items), task, number, progress
            )
        print_sample(name, template, tokens)
        print_notes(notes)

    _guarded(work)


@show_app.command("index")
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
                _experiment(experiment, seed, None, data, interactions, items), wanted, progress
            )
        print_index_figures(figures, as_json)

    _guarded(work)


@show_app.command("data")
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
            probes = data_probes(_experiment(of, seed, None, data, interactions, items), progress)
        print_probes(probes, as_json)

    _guarded(work)


@show_app.command("experiment")
def show_experiment(experiment: ExperimentFile = None, seed: Seed = None, data: Data = None) -> None:
    """The experiment with every default resolved, as TOML: a file to start your own from."""

    def work() -> None:
        from shelftalk.settings import commented_toml

        typer.echo(commented_toml(_experiment(experiment, seed, None, data, None, None)), nl=False)

    _guarded(work)


@app.command()
def ablate(
    grid: Annotated[
        Path, typer.Argument(help="Grid file (TOML): variants of one experiment, seeds, tokens each.")
    ],
    out: Annotated[
        Path | None, _path_option("--out", "The ablation's folder; by default runs/ablations/NAME.")
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

    _guarded(work)


@app.command()
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
        Path | None, _path_option("--out", "Folder for compare.html, .md, .csv, .tex and .json.")
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

    _guarded(work)


@app.command()
def tune(
    experiment: Annotated[Path, typer.Argument(help="Experiment file (TOML) that is tuned.")],
    space: Annotated[
        Path, typer.Argument(help="Space file (TOML): settings with ranges or choices, trials, tokens each.")
    ],
    out: Annotated[
        Path | None, _path_option("--out", "The search's folder; by default runs/tuning/NAME.")
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

    _guarded(work)


@app.command("plan")
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

        given = _experiment(experiment, seed, None, data, interactions, items)
        with Progress() as progress:
            planned = plan(given, Hardware(gpu, gpus, price, utilisation, lora_rank), users, progress)
        print_plan(rendered(planned), planned.values() if as_json else None)
        if planned.refused:
            raise typer.Exit(2)

    _guarded(work)


@app.command()
def probe(
    run: Annotated[
        Path | None,
        _path_option("--run", "A finished run folder: probe its model on real data (validation part only)."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A smaller world and no controls: a minute or two.")
    ] = False,
    seeds: Annotated[str, typer.Option("--seeds", help="Seeds by comma; each has a world of its own.")] = "0",
    tasks: Annotated[
        str | None, typer.Option("--tasks", help="Auxiliary tasks to probe, by comma; all without it.")
    ] = None,
    number: Annotated[int, typer.Option("--questions", help="Questions of each kind, with --run.")] = 1000,
    out: Annotated[
        Path | None,
        _path_option("--out", "Folder for probe.html, .md and .json; by default runs/probe, or the run's."),
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

    _guarded(work)


@app.command()
def publish(
    run: Annotated[Path, typer.Argument(help="A finished run folder.")],
    to: Annotated[Path | None, _path_option("--to", "The folder to make; by default RUN/published.")] = None,
    push: Annotated[
        str | None, typer.Option("--push", help="Upload it to the hub as this repository: owner/model.")
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Everyone may read the repository; private without it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """One folder that is a recommender by itself: model, item
    names, catalogue texts, templates, settings and a model card."""

    def work() -> None:
        from shelftalk.publishing.contents import describe_folder
        from shelftalk.publishing.hub import push as push_folder
        from shelftalk.publishing.publish import publish as publish_run

        folder = publish_run(run, to, push)
        typer.echo(describe_folder(folder, push_folder(folder, push, public) if push else None, as_json))

    _guarded(work)


@app.command()
def verify(
    run: Annotated[Path, typer.Argument(help="A finished run folder.")],
    against: Annotated[
        Path | None,
        _path_option("--against", "Another run on the same split: its models are compared, paired."),
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

    _guarded(work)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A run folder whose data is prepared.")],
    format: Annotated[str, typer.Option("--format", help="parquet, recbole or trec.")] = "parquet",
    out: Annotated[
        Path | None, _path_option("--out", "The folder to make; by default RUN/export-FORMAT.")
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

    _guarded(work)


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

    _guarded(work)


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
) -> None:
    """Resolve the experiment, carry out one stage, print where the result is."""

    def work() -> None:
        from shelftalk.app.console import Progress, print_summary
        from shelftalk.pipeline import stages
        from shelftalk.runtime.distributed import world
        from shelftalk.runtime.progress import silent
        from shelftalk.runtime.run_folder import RunFolder

        with world().group() as processes:
            with processes.main_process_first():
                experiment = _experiment(path, seed, models, data, interactions, items)
            folder = RunFolder(out or Path("runs") / experiment.name)
            with folder.alone(), Progress() if processes.is_main else nullcontext(silent) as progress:
                if stage == "run":
                    records = stages.run_all(folder, experiment, progress)
                else:
                    stages.claim(folder, experiment)
                    done = getattr(stages, stage)(folder, experiment, progress)
                    records = done if isinstance(done, list) else [done]
        if processes.is_main:
            print_summary(folder, records, as_json)

    _guarded(work, alone=False)


def _run_folder(path: Path | None, given: Sequence[Any]) -> Any:
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


def _experiment(
    path: Path | None,
    seed: int | None,
    models: str | None,
    data: Path | None,
    interactions: Path | None,
    items: Path | None,
) -> Any:
    from shelftalk.experiment import load_experiment

    given: dict[str, Any] = {}
    if seed is not None:
        given["seed"] = seed
    if models is not None:
        given["models"] = [name.strip() for name in models.split(",") if name.strip()]
    sources = {"folder": data, "interactions": interactions, "items": items}
    if named := {name: str(source) for name, source in sources.items() if source is not None}:
        given["data"] = named
        if path is None:
            name = data.resolve().name if data else Path(named.get("interactions", "run")).stem
            given["name"] = re.sub(r"[^\w.+-]+", "-", name).strip("-") or "run"
    return load_experiment(path, given)


def _guarded(work: Callable[[], None], alone: bool = True) -> None:
    """What a user can correct comes as one sentence and exit code 2; an interruption says that nothing is
    lost. `alone`: several processes cannot do it together."""
    spin_briefly()  # read when torch is loaded
    # read when transformers is imported: our progress bars are enough, and what comes of all retries of a
    # download is reported in one sentence
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    if alone and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        _stop(
            "SettingsError: only run and its stages are done by several processes; start this command "
            "without the launcher.",
            2,
        )
    try:
        work()
    except ShelftalkError as error:
        _stop(f"{type(error).__name__}: {error}", 2)
    except (PermissionError, NotADirectoryError, FileExistsError, IsADirectoryError) as error:
        _stop(
            f'{type(error).__name__}: "{error.filename}" cannot be used ({error.strerror}); choose another '
            "path or correct it.",
            2,
        )
    except KeyboardInterrupt:
        _stop("Interrupted. The same command continues where it stopped.", 130)


def _stop(sentence: str, code: int) -> NoReturn:
    """One line, whatever foreign titles and ids it quotes."""
    print("".join(c if c.isprintable() else " " for c in sentence), file=sys.stderr)
    raise typer.Exit(code)
