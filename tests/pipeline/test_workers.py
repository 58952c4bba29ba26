"""Samples written by several processes, and through Ray, are the same to the byte."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from shelftalk.errors import SettingsError
from shelftalk.experiment import Experiment, load_experiment
from shelftalk.pipeline import stages, workers
from shelftalk.pipeline.run import Run
from shelftalk.pipeline.workers import Workers, made_by, trained_tasks
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.tasks.mixture import number_of_chunks, write_epoch

USERS, ITEMS, EVENTS = 17_000, 61, 4
"""Three chunks of users; as many items as make every n-th of them distinct."""


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, Experiment]:
    """A run of many users whose samples are not written yet."""
    folder = tmp_path_factory.mktemp("many users")
    rng = np.random.default_rng(0)
    start, step = rng.integers(0, ITEMS, (USERS, 1)), rng.integers(1, ITEMS, (USERS, 1))
    taken = (start + np.arange(EVENTS) * step) % ITEMS
    users = pl.Series(np.repeat(np.arange(USERS), EVENTS)).cast(pl.String)
    pl.DataFrame({"user_id": users, "item_id": pl.Series(taken.ravel()).cast(pl.String)}).with_columns(
        position=pl.int_range(pl.len()).over("user_id")
    ).write_parquet(folder / "interactions.parquet")
    names = pl.Series(np.arange(ITEMS)).cast(pl.String)
    pl.DataFrame({"item_id": names, "title": "Thing number " + names}).write_parquet(folder / "items.parquet")
    experiment = load_experiment(
        None,
        {
            "name": "many",
            "data": {"folder": str(folder)},
            "index": {"scheme": "numbers"},
            "split": {"ranking_negatives": 5},
            "tasks": {"masked_language": {"weight": 0.3}, "name_to_text": {"weight": 1.0}},
            "training": {"epochs": 1, "validation_samples": 20},
        },
    )
    run = RunFolder(folder / "run")
    stages.claim(run, experiment)
    stages.prepare(run, experiment)
    stages.index(run, experiment)
    return run, experiment


@pytest.fixture(scope="module")
def by_one(indexed: tuple[RunFolder, Experiment], tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(indexed, Workers(), tmp_path_factory.mktemp("one"))


def written(indexed: tuple[RunFolder, Experiment], by: Workers, folder: Path) -> str:
    """The hash of an epoch that is written by these workers."""
    run = Run(*indexed)
    tasks = trained_tasks(run)
    assert number_of_chunks(tasks) == 3
    with made_by(by, run) as tables:
        counts = write_epoch(tasks, 0, 0, folder / "epoch", tables(0, 3))
    assert {"retrieval", "masked_language", "name_to_text"} <= counts.keys() and counts[
        "retrieval"
    ] > USERS / 2
    return hashlib.sha256((folder / "epoch").read_bytes()).hexdigest()


def test_two_processes_write_what_one_does(
    indexed: tuple[RunFolder, Experiment], by_one: str, tmp_path: Path
) -> None:
    assert written(indexed, Workers(2), tmp_path) == by_one


@pytest.mark.skipif(find_spec("ray") is None, reason='Ray is not installed: pip install "shelftalk[ray]"')
def test_ray_writes_what_one_process_does(
    indexed: tuple[RunFolder, Experiment], by_one: str, tmp_path: Path
) -> None:
    assert written(indexed, Workers(2, "ray"), tmp_path) == by_one


def test_the_stage_writes_the_same_file(indexed: tuple[RunFolder, Experiment], by_one: str) -> None:
    folder, experiment = indexed
    record = stages.write(folder, experiment, workers=Workers())
    assert record.outputs["samples/epoch-0000.parquet"]["sha256"] == by_one
    assert record.facts["samples"]["retrieval"] > 0


def test_the_order_of_pieces_made_from_samples_is_that_of_their_chunk(
    indexed: tuple[RunFolder, Experiment], tmp_path: Path
) -> None:
    """A task of one's own that adds a text for each user: no chunk's file depends on the chunks before."""
    run = Run(*indexed)
    tables = run.context.tables
    hashes = []
    for first in (0, 2):
        task = run.tasks["retrieval"]
        for number in range(first, 3):
            table = workers.chunk_table([task], 0, 0, number)
            if number < 2:
                tables.codes([workers_text(number)])
        hashes.append(table)
    assert hashes[0].equals(hashes[1])


def workers_text(number: int) -> Any:
    from shelftalk.records import Segment

    return Segment(f"a text of chunk {number}")


@pytest.mark.parametrize(
    ("number", "engine", "remedy"), [(0, "local", "--workers 1"), (2, "spark", "--engine local or ray")]
)
def test_workers_that_cannot_be_are_refused(number: int, engine: str, remedy: str) -> None:
    with pytest.raises(SettingsError, match=remedy):
        Workers(number, engine)


def test_without_ray_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"shelftalk\[ray\]"):
        Workers(2, "ray")
