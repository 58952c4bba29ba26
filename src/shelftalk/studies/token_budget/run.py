"""One training on a budget of tokens and its evaluation: what every comparison of trainings is made of.
Resumable at any point."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from shelftalk.data.splitting import Part
from shelftalk.decoding.workload import PlannedCall, WorkloadProgress, request_costs
from shelftalk.experiment import TUNABLE, Experiment
from shelftalk.parts import SERVED, own_sources
from shelftalk.pipeline import stages
from shelftalk.pipeline.fine_tuning import validation_quality
from shelftalk.pipeline.fresh_backbone import new_backbone
from shelftalk.pipeline.model_folder import save_recommender
from shelftalk.pipeline.run import Run
from shelftalk.recommender import TaskName
from shelftalk.records import Request
from shelftalk.runtime.machine import memory_sampled
from shelftalk.runtime.progress import OnProgress
from shelftalk.runtime.run_folder import RunFolder, StageRecord, TimeSpent, beside, fingerprint
from shelftalk.studies.token_budget.evaluation import OnRequests, ignore_requests, per_user_tables
from shelftalk.studies.token_budget.training import (
    OnValidation,
    ignore_validation,
    pace,
    samples_for,
    train_on,
    validation_samples,
)
from shelftalk.tasks.templates import read_templates
from shelftalk.training.settings import TrainingSettings

RELEVANT = ("data", "split", *TUNABLE)
"""The sections of an experiment that can make two trainings differ."""
NOT_RELEVANT = TrainingSettings.fields_where(lambda role: bool(role.budgeted) or not role.stages)
"""Settings of training that the budget of tokens replaces, and those that change no weight."""


@dataclass(frozen=True)
class BudgetRun:
    """An experiment that is trained with a seed, and where its files are. Its own seed divides the data."""

    name: str
    """What it is called in progress and reports."""
    experiment: Experiment
    seed: int
    folder: RunFolder
    shared: RunFolder
    """The folder of its data, split and item index, which other runs may use too."""

    @property
    def seeded(self) -> Experiment:
        """The experiment with the run's seed: names of items, samples and starting weights are drawn from
        it."""
        return self.experiment.model_copy(update={"seed": self.seed})

    def open(self) -> Run:
        """Split, index and tasks, each loaded when it is first used."""
        return Run(self.shared, self.seeded)


@dataclass(frozen=True)
class EvaluationSample:
    """Which requests a model is evaluated on: those of `users` users and at most `ratings` of their ratings,
    0 for all, drawn by `seed`."""

    part: Part
    users: int
    ratings: int
    seed: int
    study: str
    """Which study evaluates, for the log of looks at the test part."""
    tasks: tuple[str, ...] = ()
    """The tasks to evaluate; () for all that the model has."""

    @property
    def inputs(self) -> dict[str, Any]:
        """What the per-user tables depend on, beside the model."""
        only = {"tasks": list(self.tasks)} if self.tasks else {}
        drawn = {"users": self.users, "ratings": self.ratings, "drawn by": self.seed}
        return {"part": self.part, **drawn, **only}


def budget_run(name: str, experiment: Experiment, seed: int, folder: Path, shared: Path) -> BudgetRun:
    """A run in `folder`; `shared` holds a folder for each different index of its data."""
    sections = experiment.model_dump(mode="json", include={"data", "split", "index", "seed"})
    key = fingerprint({**sections, "run's seed": seed})[:12]
    return BudgetRun(name, experiment, seed, RunFolder(folder), RunFolder(shared / key))


def prepare(run: BudgetRun) -> None:
    """Data, split and index of the run, unless another run has made them already."""
    stages.prepare(run.shared, run.experiment)
    stages.index(run.shared, run.seeded)


def train(
    run: BudgetRun, tokens: int, progress: OnProgress, on_validation: OnValidation = ignore_validation
) -> StageRecord:
    """Train on `tokens` tokens and keep the weights of the best validation: model/. Continues an interrupted
    training; `on_validation` is then called for the validations that are still to come."""
    experiment = run.seeded
    relevant = relevant_settings(experiment)
    own = {name: read_templates(name, s.templates) for name, s in experiment.tasks.items() if s.templates}
    inputs = {
        "index": run.shared.needed("index").fingerprint,
        **{name: relevant[name] for name in ("text", "tasks", "nano", "pretrained", "training")},
        "own templates": own,
        "nouns": asdict(experiment.data.nouns),
        "tokens": tokens,
        "seed": run.seed,
        **stages.other_inputs_of_training(experiment),
        "own tasks": own_sources(experiment.tasks),
    }

    def work() -> dict[str, Any]:
        run.folder.keep_checkpoints_of(inputs)
        return _trained(run, tokens, progress, on_validation)

    record = run.folder.do("train", inputs, work, [run.folder.model], kept=run.folder.model)
    if run.folder.checkpoints.exists():
        shutil.rmtree(run.folder.checkpoints)  # the best weights are in model/
    return record


def evaluate(run: BudgetRun, sample: EvaluationSample, progress: OnProgress) -> StageRecord:
    """Evaluate the trained model: evaluation/TASK.parquet."""
    experiment = run.seeded
    inputs = {
        "train": run.folder.needed("train").fingerprint,
        "own tasks": own_sources(experiment.tasks),
        "decoding": experiment.decoding.model_dump(mode="json"),
        **sample.inputs,
    }

    def work() -> dict[str, Any]:
        from shelftalk.decoding.language_model import LanguageModelRecommender
        from shelftalk.models.pretrained import load_backbone

        workload = WorkloadProgress(lambda done, total, about: progress("evaluate", done, total, about))
        opened = run.open()
        backbone = load_backbone(run.folder.model, experiment.training.precision)
        model = LanguageModelRecommender(
            backbone, opened.index, opened.served, experiment.decoding, on_batch=workload
        )

        def on_requests(requests: Mapping[TaskName, Sequence[Request]]) -> None:
            cost = request_costs(model, requests)
            workload.plan([PlannedCall(task, len(of_task), cost[task]) for task, of_task in requests.items()])

        return evaluate_model(model, run.folder, opened, sample, on_requests)

    return run.folder.do("evaluate", inputs, work, [run.folder.evaluation(task) for task in SERVED])


def evaluate_model(
    model: Any,
    folder: RunFolder,
    run: Run,
    sample: EvaluationSample,
    on_requests: OnRequests = ignore_requests,
) -> dict[str, Any]:
    """Evaluate `model` on the split of `run`, write evaluation/TASK.parquet into `folder` and return the
    facts of the stage. `on_requests` gets all requests before the first one is answered."""
    start = time.perf_counter()
    drawn = (sample.users, sample.ratings, sample.seed)
    tables = per_user_tables(model, run.split, sample.part, *drawn, on_requests, sample.tasks)
    for task, table in tables.items():
        with beside(folder.evaluation(task)) as part:
            table.write_parquet(part)
    looks = folder.count_test_evaluation(sample.study) if sample.part == "test" else 0
    return {
        "tasks": list(tables),
        "evaluation_seconds": round(time.perf_counter() - start, 2),
        "test_evaluations": looks,
    }


def read_tables(folder: RunFolder) -> dict[str, pl.DataFrame]:
    """Task -> the per-user table that the evaluation of a run wrote."""
    return {
        task: pl.read_parquet(folder.evaluation(task), glob=False)
        for task in folder.needed("evaluate").facts["tasks"]
    }


def relevant_settings(experiment: Experiment) -> dict[str, Any]:
    """What a training on a budget of tokens and its evaluation depend on, seed and budget aside.

    A task that is neither trained nor evaluated is left out. [nano] counts as its defaults where a pretrained
    model takes its place, and [pretrained] where none is named. Settings of the index are compared as they
    are written: two experiments that differ in one which their scheme does not read count as different,
    though they train the same model.
    """
    values = experiment.model_dump(mode="json", include=set(RELEVANT))
    values["tasks"] = {
        name: task for name, task in values["tasks"].items() if task["weight"] > 0 or name in SERVED
    }
    unread = "nano" if experiment.pretrained.name else "pretrained"
    values[unread] = type(getattr(experiment, unread))().model_dump(mode="json")
    values["training"] = {
        name: value for name, value in values["training"].items() if name not in NOT_RELEVANT
    }
    return values


def _trained(
    run: BudgetRun, tokens: int, progress: OnProgress, on_validation: OnValidation
) -> dict[str, Any]:
    """Train, save the model, and return what it cost."""
    opened = run.open()
    backbone = new_backbone(opened)
    samples, validation = samples_for(opened, backbone, tokens), validation_samples(opened, backbone)
    quality = validation_quality(opened, backbone)
    spent = TimeSpent(run.folder.training_time)

    def on_step(step: int, steps: int, text: str) -> None:
        spent.keep()
        progress("train", step, steps, text)

    start, checkpoints = time.perf_counter(), run.folder.checkpoints
    with memory_sampled() as peak:
        result = asdict(
            train_on(samples, backbone, validation, opened, checkpoints, on_step, on_validation, quality)
        )
    seconds = time.perf_counter() - start
    with beside(run.folder.model) as part:
        backbone.save(part)
        save_recommender(part, backbone, opened.index, opened.tasks, opened.split, opened.experiment)
    return {
        **{name: value for name, value in result.items() if name not in ("tokens", "targets")},
        **pace(result, seconds),
        "tokens": samples.tokens,
        "targets": samples.targets,
        "samples": len(samples.all),
        "epochs_seen": round(samples.epochs_seen, 3),
        "tokens_by_task": samples.tokens_by_task,
        "peak_gigabytes": round(peak[0], 3),
        "parameters": backbone.parameters,
        "vocabulary": len(backbone.tokenizer),
        "seconds_before": spent.before,
    }
