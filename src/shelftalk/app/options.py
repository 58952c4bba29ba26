"""The options that commands share, and the experiment that they make together."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer


def _path(text: str) -> Path:
    """An empty path would be this directory: it comes from a shell variable that is not set."""
    if not text.strip():
        raise typer.BadParameter("is empty; name a path, or leave the option out.")
    return Path(text)


def path_option(name: str, summary: str) -> Any:
    """An option that takes a path."""
    return typer.Option(name, parser=_path, metavar="PATH", help=summary)


ExperimentFile = Annotated[
    Path | None,
    typer.Argument(help="Experiment file (TOML); without one the recipe `best`, on the bundled MovieLens."),
]
Out = Annotated[Path | None, path_option("--out", "The run folder itself; by default runs/NAME.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of everything random in the run.")]
Models = Annotated[
    str | None, typer.Option("--models", help="What to evaluate, by name and comma: item_knn,popularity.")
]
Data = Annotated[
    Path | None,
    path_option("--data", "Folder that holds interactions.* and items.* (Parquet, CSV or JSON lines)."),
]
Interactions = Annotated[
    Path | None, path_option("--interactions", "File of who took what, when; with --items.")
]
Items = Annotated[Path | None, path_option("--items", "File of the catalogue; with --interactions.")]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output instead of text.")
]

NumberOfWorkers = Annotated[
    int,
    typer.Option(
        "--workers", help="Processes that write samples; the files are the same with any number of them."
    ),
]
EngineOfWorkers = Annotated[
    str,
    typer.Option("--engine", help="What starts them: local, or ray for many machines (shelftalk[ray])."),
]


def experiment_of(
    path: Path | None,
    seed: int | None,
    models: str | None,
    data: Path | None,
    interactions: Path | None,
    items: Path | None,
) -> Any:
    """The experiment of the file, or of the best recipe without one, with what the options change."""
    from shelftalk.experiment import WITHOUT_A_FILE, load_experiment

    given: dict[str, Any] = {} if path else dict(WITHOUT_A_FILE)
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
