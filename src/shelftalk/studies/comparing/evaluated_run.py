"""A finished run as a comparison reads it: its per-user tables, which test part each task has, and what the
answers of each model depend on beside the seed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from shelftalk.evaluation.comparison import COMPARED
from shelftalk.pipeline.run import Run, open_run
from shelftalk.recommender import TaskName
from shelftalk.runtime.run_folder import StageRecord, fingerprint

BUILT_ON = {"index": "prepare", "write": "index", "train": "write"}
"""Stage -> its input that is the fingerprint of an earlier stage, which follows from the seed."""
PATHS = ("interactions", "items", "folder")
"""Settings of the data that name files, which are known by their hashes."""
TRAINED = ("index", "write", "train")


@dataclass(frozen=True, eq=False)
class EvaluatedRun:
    """A run whose test part was evaluated. `name` is what tables call it: the name of its folder, with those
    above it where two runs have the same."""

    run: Run
    name: str

    @property
    def seed(self) -> int:
        """The seed of its experiment."""
        return self.run.experiment.seed

    @cached_property
    def metrics(self) -> Mapping[TaskName, Mapping[str, Any]]:
        """metrics.json by task. Raises StageMissing."""
        measured = self.run.metrics
        return {task: measured[task] for task in COMPARED if task in measured}

    def models(self, task: TaskName) -> list[str]:
        """The models that answered a task, in the order of the run."""
        return [name for name in self.metrics.get(task, {}) if not name.endswith(".ci")]

    def tables(self, task: TaskName) -> dict[str, pl.DataFrame]:
        """Model -> its per-user (or per-rating) table; empty where no model answered the task."""
        if task not in self.metrics:
            return {}
        whole = pl.read_parquet(self.run.folder.evaluation(task), glob=False)
        return {model: whole.filter(pl.col("model") == model).drop("model") for model in self.models(task)}

    @cached_property
    def test_parts(self) -> dict[TaskName, str]:
        """Task -> SHA-256 of its test part: of whom, which item or rating, and among which candidates. Two
        runs with the same one were asked the same."""
        return {task: self._test_part(task) for task in self.metrics}

    def _test_part(self, task: TaskName) -> str:
        whole = pl.read_parquet(self.run.folder.evaluation(task), glob=False)
        columns = ["user", "item", *(["truth"] if task == "rating" else [])]
        asked = whole.filter(pl.col("model") == self.models(task)[0]).select(columns)
        digest = hashlib.sha256(_sorted(asked))
        data = self.run.split.dataset
        if task == "retrieval":  # candidates are the catalogue without the history
            digest.update(_sorted(data.items.select("item_id")))
            digest.update(_sorted(data.events.select("user_id", "item_id")))
        elif task == "ranking":
            digest.update(self._candidates())
        return digest.hexdigest()

    def _candidates(self) -> bytes:
        """The candidates of each ranking request of the test part, in an order that no seed decides."""
        split = self.run.split
        number = np.empty(len(split.dataset.items), np.int32)  # [I] of each catalogue row, by its id
        number[np.argsort(np.array(split.dataset.item_ids, object))] = np.arange(len(number))
        events = split.held_out_events("test")
        users = np.array(split.dataset.user_ids, object)[split.event_user[events]]
        order = np.lexsort((number[split.dataset.event_item[events]], users))
        return np.sort(number[split.candidates["test"]], axis=1)[order].astype("<i4").tobytes()

    def recipe(self, model: str) -> str:
        """A hash of all that a model's answers depend on beside the seed: two runs with the same one are two
        draws of one thing. Raises StageMissing."""
        folder = self.run.folder
        answered = folder.needed(f"recommend.{model}")
        stages = ["prepare", *(TRAINED if "train" in answered.inputs.get("built on", {}) else ())]
        records = [*map(folder.needed, stages), answered]
        return fingerprint([_without_seed(record) for record in records])

    @property
    def test_evaluations(self) -> int:
        """How often the test part was evaluated in the run's folder."""
        return self.run.folder.test_evaluations()


def evaluated_runs(paths: list[Path]) -> list[EvaluatedRun]:
    """The runs of the folders, each named by as little of its path as tells them apart.

    Raises MissingFile for a folder without a run, StageMissing for one that is not evaluated, and ChangedFile
    for one whose files are others than were written.
    """
    runs = [EvaluatedRun(open_run(path), name) for path, name in zip(paths, _names(paths), strict=True)]
    for run in runs:
        run.run.folder.needed("evaluate")
    return runs


def _names(paths: list[Path]) -> list[str]:
    """The last parts of each path, as many as make all of them differ."""
    whole = [path.resolve().parts for path in paths]
    for length in range(1, max(map(len, whole), default=1) + 1):
        names = ["/".join(parts[-length:]) for parts in whole]
        if len(set(names)) == len(set(whole)):
            break
    return names


def _without_seed(record: StageRecord) -> dict[str, Any]:
    """The inputs of a stage without those that the seed decides, and without the paths of the data."""
    left_out = ("seed", "built on", BUILT_ON.get(record.name))
    inputs = {name: value for name, value in record.inputs.items() if name not in left_out}
    if isinstance(inputs.get("data"), dict):
        inputs["data"] = {name: value for name, value in inputs["data"].items() if name not in PATHS}
    if isinstance(inputs.get("experiment"), dict):  # of an own model, which is handed the whole run
        unrelated = ("seed", "name", "data")
        inputs["experiment"] = {
            name: value for name, value in inputs["experiment"].items() if name not in unrelated
        }
    return inputs


def _sorted(frame: pl.DataFrame) -> bytes:
    """The rows in the order of their values, as text."""
    return frame.sort(frame.columns).write_csv().encode()
