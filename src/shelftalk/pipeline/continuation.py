"""A living source: a run that goes on where another one is, with newer interactions and items.

`append` makes a new run folder and leaves the old one as it is: data/ has all interactions, old and new, in
one form; continued/ has the names that the trained model knows and how many training events of each user it
has learned from. In the new folder the items keep their names, only samples with new training events are
written, and the training begins at the old model's weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from shelftalk.data.dataset import TIME
from shelftalk.data.sources import DataSettings
from shelftalk.data.sources.reading import checked_events, checked_frames, checked_items
from shelftalk.errors import AnotherExperiment, MissingFile, NothingLeft
from shelftalk.experiment import Experiment, save_experiment, saved_experiment
from shelftalk.pipeline.run import Run
from shelftalk.runtime import file_hashes
from shelftalk.runtime.run_folder import (
    RunFolder,
    alone_beside,
    beside,
    holds_something,
    read_signed,
    space_needed,
    write_signed,
)
from shelftalk.tasks.continued_training import HISTORIES, INDEX, known_histories

SOURCE = "source.json"
SLOWER = 0.1
"""The learning rate of further training as a share of the first one: at the same rate a few steps on what is
new take away more of what was learned before (benchmarks/append.py)."""


def append(
    run: Path, interactions: Path, items: Path | None, out: Path, training: dict[str, Any] | None = None
) -> tuple[Experiment, dict[str, Any]]:
    """Make the run folder `out` that continues `run` with the rows of new files; returns its experiment and
    how many rows it took. The files have the columns of the old ones; rows that the old data has already are
    left out. `training`: settings of the training that are to be others than those of `run`.

    Written beside and renamed, so that what is interrupted leaves nothing. The same call again changes
    nothing. Raises AnotherExperiment where `out` holds something else, NothingLeft where no row is new,
    and what reading raises.
    """
    old = RunFolder(run)
    for stage in ("prepare", "index", "train"):
        old.needed(stage)
    experiment = saved_experiment(old)
    asked = {
        "run": old.needed("train").fingerprint,
        "interactions": file_hashes.sha256(_file(interactions)),
        "items": file_hashes.sha256(_file(items)) if items else None,
        "training": training or {},
    }
    with alone_beside(out, "another --out"):
        if out.exists() and holds_something(out):
            return _known(out, asked)
        with space_needed(out.parent), beside(out) as part:
            events, catalogue, counts = _merged(experiment.data, interactions, items)
            (part / "data").mkdir(parents=True)
            _as_in_files(events).write_parquet(part / "data" / "interactions.parquet")
            catalogue.write_parquet(part / "data" / "items.parquet")
            _keep_what_is_known(Run(old, experiment), part / "continued")
            continued = _continued(experiment, old, out, training or {})
            save_experiment(continued, RunFolder(part))
            write_signed(part / "continued" / SOURCE, {**asked, "counts": counts})
            if out.exists():  # an empty folder
                out.rmdir()
    return continued, counts


def _file(path: Path) -> Path:
    if not path.is_file():
        raise MissingFile(f'there is no file "{path}"; correct the path.')
    return path


def _known(out: Path, asked: dict[str, Any]) -> tuple[Experiment, dict[str, Any]]:
    """What the same call made before. Raises AnotherExperiment."""
    try:
        known = read_signed(out / "continued" / SOURCE)
    except (OSError, ValueError):
        known = {}
    if {name: known.get(name) for name in asked} != asked:
        raise AnotherExperiment(f'"{out}" holds something else; choose another --out, or remove that folder.')
    return saved_experiment(RunFolder(out)), {**known["counts"], "again": True}


def _merged(
    data: DataSettings, interactions: Path, items: Path | None
) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, Any]]:
    """All interactions, all items, and counts of what is new."""
    events, catalogue = checked_frames(data)
    new_events = checked_events(interactions, data)
    new_items = checked_items(items, data) if items else catalogue[:0]
    for name in new_events.columns:
        if name not in events.columns:
            new_events = new_events.drop(name)
    shared = [name for name in events.columns if name in new_events.columns]
    fresh = new_events.join(events, on=shared, how="anti", nulls_equal=True, maintain_order="left")
    joined = new_items.join(catalogue, on="item_id", how="anti", maintain_order="left")
    counts = {
        "interactions": len(fresh),
        "interactions known before": len(new_events) - len(fresh),
        "items": len(joined),
        "items known before": len(new_items) - len(joined),
        "users": fresh.join(events, on="user_id", how="anti")["user_id"].n_unique(),
    }
    if not len(fresh) and not len(joined):
        raise NothingLeft(
            f"{interactions.name} holds no interaction that the run does not have already; give newer ones."
        )
    return (
        pl.concat([events, fresh], how="diagonal"),
        pl.concat([catalogue, joined], how="diagonal"),
        counts,
    )


def _as_in_files(events: pl.DataFrame) -> pl.DataFrame:
    """Times as one column: seconds, or nanoseconds where there are fractions."""
    second, fraction = TIME
    if second not in events.columns:
        return events
    if (events[fraction].fill_null(0) != 0).any():
        exact = (pl.col(second) * 1_000_000_000 + pl.col(fraction)).cast(pl.Datetime("ns", "UTC"))
        events = events.with_columns(exact.alias(second))
    return events.drop(fraction)


def _keep_what_is_known(run: Run, folder: Path) -> None:
    """The names of items, and how many events of each user trained."""
    folder.mkdir()
    run.index.save(folder / INDEX)
    bounds = run.split.training_bounds
    histories = {"user_id": run.split.dataset.columns.user_ids, "events": bounds[:, 1] - bounds[:, 0]}
    before = known_histories(run.experiment.index.continues)
    frame = pl.DataFrame(histories)
    if before is not None:  # users who are gone from the data
        gone = [user for user in before if user not in run.split.dataset.user_ids]
        counts = np.array([before[user] for user in gone], np.int64)
        frame = pl.concat(
            [frame, pl.DataFrame({"user_id": pl.Series(gone, dtype=pl.String), "events": counts})]
        )
    frame.write_parquet(folder / HISTORIES)


def _continued(experiment: Experiment, old: RunFolder, out: Path, training: dict[str, Any]) -> Experiment:
    nouns = experiment.data.nouns  # prompts go on as they were, though the source is another
    elsewhere = {"interactions", "items", "layout", "encoding", "separator", "bundled"}
    data = experiment.data.model_dump(exclude=elsewhere) | {
        "folder": str(out.absolute() / "data"),
        "interactions_columns": {},
        "items_columns": {},
        "item_noun": nouns.noun,
        "items_noun": nouns.nouns,
        "user_noun": nouns.person,
        "took": nouns.took,
    }
    return Experiment.model_validate(
        experiment.model_dump()
        | {
            "name": out.name,
            "data": data,
            "index": experiment.index.model_dump() | {"continues": str(out.absolute() / "continued")},
            "pretrained": experiment.pretrained.model_dump(exclude={"revision", "random_weights"})
            | {"name": str(old.model.absolute())},
            "training": experiment.training.model_dump()
            | {"learning_rate": SLOWER * experiment.training.learning_rate}
            | training,
        }
    )
