"""One training on a budget of tokens, and its answers: what everything stands on that compares trainings.
Resumable at any point."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import psutil

from shelftalk import stages
from shelftalk.data.splitting import Part
from shelftalk.decoding.workload import PlannedCall, WorkloadProgress, request_costs
from shelftalk.experiment import TUNABLE, Experiment
from shelftalk.fine_tuning import validation_quality
from shelftalk.fresh_backbone import new_backbone
from shelftalk.model_folder import save_recommender
from shelftalk.parts import SERVED, own_sources
from shelftalk.recommender import TaskName
from shelftalk.records import Request
from shelftalk.runs import Run
from shelftalk.runtime.progress import OnProgress
from shelftalk.runtime.run_folder import RunFolder, StageRecord, TimeSpent, beside, fingerprint
from shelftalk.studies.token_budget.evaluation import Announce, not_announced, per_user_tables
from shelftalk.tasks.mixture import epoch_samples
from shelftalk.tasks.templates import read_templates
from shelftalk.training.settings import TrainingSettings

if TYPE_CHECKING:  # torch is loaded only where a language model is
    from shelftalk.models.backbone import Backbone
    from shelftalk.training.budget import Budgeted

ENDLESS = 1_000_000
"""More validations than any training has: nobody stops early, so that all read the same number of tokens."""
EFFECTIVE = ("data", "split", *TUNABLE)
"""The sections of an experiment that can make two trainings differ."""
NOT_TRAINED_BY = TrainingSettings.fields_where(lambda role: bool(role.budgeted) or not role.stages)
"""Settings of training that give way to the budget of tokens, and those that nothing is trained by."""
OnValidation = Callable[[int, Mapping[str, float]], None]
"""(steps done, metrics: "loss" is the validation loss in nats per target, summed over the tasks that judge);
what it raises ends the training."""


def no_op(step: int, metrics: Mapping[str, float]) -> None:
    """A validation that nobody waits for."""


@dataclass(frozen=True)
class TokenRun:
    """An experiment that is trained with a seed, and where its files are. Its own seed divides the data."""

    experiment: Experiment
    seed: int
    folder: RunFolder
    shared: RunFolder
    """The folder of its data, split and item index, which other runs may stand on too."""

    @property
    def seeded(self) -> Experiment:
        """The experiment with the run's seed: names of items, samples and starting weights are drawn from
        it."""
        return self.experiment.model_copy(update={"seed": self.seed})

    @property
    def parts(self) -> Run:
        """Split, index and tasks."""
        return Run(self.shared, self.seeded)


@dataclass(frozen=True)
class Questions:
    """What a trained model is asked: `users` and `ratings` drawn by the seed `drawn_by`, 0 for all; `tasks`
    () for all that it can."""

    part: Part
    users: int
    ratings: int
    drawn_by: int
    asker: str
    """Who asks, for the log of looks at the test part."""
    tasks: tuple[str, ...] = ()

    @property
    def inputs(self) -> dict[str, Any]:
        """What the answers' tables depend on, beside the model."""
        only = {"tasks": list(self.tasks)} if self.tasks else {}
        return {
            "part": self.part,
            "users": self.users,
            "ratings": self.ratings,
            "drawn by": self.drawn_by,
            **only,
        }


def token_run(experiment: Experiment, seed: int, folder: Path, shared: Path) -> TokenRun:
    """A run in `folder`; `shared` holds a folder for each different index of its data."""
    sections = experiment.model_dump(mode="json", include={"data", "split", "index", "seed"})
    key = fingerprint({**sections, "run's seed": seed})[:12]
    return TokenRun(experiment, seed, RunFolder(folder), RunFolder(shared / key))


def prepare(run: TokenRun) -> None:
    """Data, split and index of the run, unless another run has made them already."""
    stages.prepare(run.shared, run.experiment)
    stages.index(run.shared, run.seeded)


def train(
    run: TokenRun, tokens: int, progress: OnProgress, on_validation: OnValidation = no_op
) -> StageRecord:
    """Train on `tokens` tokens and keep the weights of the best validation: model/. Continues an interrupted
    training, whose `on_validation` hears only of the validations that are still to come."""
    told = effective(run.seeded)
    own = {name: read_templates(name, s.templates) for name, s in run.seeded.tasks.items() if s.templates}
    kept = {name: told[name] for name in ("text", "tasks", "nano", "pretrained", "training")}
    nouns = asdict(run.seeded.data.nouns)
    index = run.shared.needed("index").fingerprint
    inputs = {
        "index": index,
        **kept,
        "own templates": own,
        "nouns": nouns,
        "tokens": tokens,
        "seed": run.seed,
    }
    inputs |= stages.other_inputs_of_training(run.seeded) | {"own tasks": own_sources(run.seeded.tasks)}

    def work() -> dict[str, Any]:
        run.folder.keep_checkpoints_of(inputs)
        return _trained(run, tokens, progress, on_validation)

    record = run.folder.do("train", inputs, work, [run.folder.model], kept=run.folder.model)
    if run.folder.checkpoints.exists():
        shutil.rmtree(run.folder.checkpoints)  # the weights stand in model/
    return record


def ask(run: TokenRun, questions: Questions, progress: OnProgress) -> StageRecord:
    """Ask the trained model: evaluation/TASK.parquet."""
    inputs = {
        "train": run.folder.needed("train").fingerprint,
        "own tasks": own_sources(run.seeded.tasks),
        "decoding": run.seeded.decoding.model_dump(mode="json"),
        **questions.inputs,
    }

    def work() -> dict[str, Any]:
        from shelftalk.decoding.language_model import LanguageModelRecommender
        from shelftalk.models.pretrained import load_backbone

        workload = WorkloadProgress(lambda done, total, about: progress("ask", done, total, about))
        found = run.parts
        backbone = load_backbone(run.folder.model, run.seeded.training.precision)
        model = LanguageModelRecommender(
            backbone, found.index, found.served, run.seeded.decoding, on_batch=workload
        )

        def announce(asked: Mapping[TaskName, Sequence[Request]]) -> None:
            cost = request_costs(model, asked)
            workload.plan([PlannedCall(task, len(requests), cost[task]) for task, requests in asked.items()])

        return measure(model, run.folder, found, questions, announce)

    return run.folder.do("evaluate", inputs, work, [run.folder.evaluation(task) for task in SERVED])


def measure(
    model: Any, folder: RunFolder, run: Run, questions: Questions, announce: Announce = not_announced
) -> dict[str, Any]:
    """Ask `model`, write evaluation/TASK.parquet, and say what was asked. `announce` hears of all requests
    before the first is asked."""
    start = time.perf_counter()
    drawn = (questions.users, questions.ratings, questions.drawn_by)
    tables = per_user_tables(model, run.split, questions.part, *drawn, announce, questions.tasks)
    for task, table in tables.items():
        with beside(folder.evaluation(task)) as part:
            table.write_parquet(part)
    looks = folder.count_test_evaluation(questions.asker) if questions.part == "test" else 0
    return {
        "tasks": list(tables),
        "evaluation_seconds": round(time.perf_counter() - start, 2),
        "test_evaluations": looks,
    }


def tables_of(folder: RunFolder) -> dict[str, pl.DataFrame]:
    """Task -> the per-user table that the run's evaluation left."""
    return {
        task: pl.read_parquet(folder.evaluation(task), glob=False)
        for task in folder.needed("evaluate").facts["tasks"]
    }


def effective(experiment: Experiment) -> dict[str, Any]:
    """What a training on a budget of tokens and its answers depend on, seed and budget aside.

    Of a task that is off and not asked nothing is left. [nano] counts as its defaults where a pretrained
    model takes its place, and [pretrained] where none is named. Settings of the index are compared as they
    are written: two experiments that differ in one which their scheme does not read count as unlike, though
    they train the same model.
    """
    values = experiment.model_dump(mode="json", include=set(EFFECTIVE))
    values["tasks"] = {
        name: task for name, task in values["tasks"].items() if task["weight"] > 0 or name in SERVED
    }
    unread = "nano" if experiment.pretrained.name else "pretrained"
    values[unread] = type(getattr(experiment, unread))().model_dump(mode="json")
    values["training"] = {
        name: value for name, value in values["training"].items() if name not in NOT_TRAINED_BY
    }
    return values


def samples_for(run: Run, backbone: Backbone, budget: int) -> Budgeted:
    """Samples in the mixture's order up to `budget` tokens. Raises SettingsError for a mixture without
    samples."""
    from shelftalk.training.budget import Epoch, encoded_epoch, first_tokens

    trained = [task for name, task in run.tasks.items() if run.experiment.tasks[name].weight > 0]

    def epoch(number: int) -> Epoch:
        return (
            encoded_epoch(epoch_samples(trained, number, run.experiment.seed), backbone)
            if trained
            else Epoch((), ())
        )

    return first_tokens(epoch, budget)


def _trained(run: TokenRun, tokens: int, progress: OnProgress, on_validation: OnValidation) -> dict[str, Any]:
    """Train, save the model, and say what it cost."""
    from shelftalk.training.trainer import train as train_backbone

    found, experiment = run.parts, run.seeded
    backbone = new_backbone(found)
    budgeted = samples_for(found, backbone, tokens)
    validation = {
        name: backbone.encode_samples(stages.validation_samples(task, experiment))
        for name, task in found.served.items()
    }
    settings = experiment.training.model_copy(update={"patience": ENDLESS, "max_steps": 0})
    spent = TimeSpent(run.folder.training_time)

    def on_step(step: int, steps: int, text: str) -> None:
        spent.keep()
        progress("train", step, steps, text)

    start = time.perf_counter()
    with _memory_watched() as peak:
        result = train_backbone(
            backbone,
            budgeted.epochs,
            validation,
            run.folder.checkpoints,
            settings,
            experiment.seed,
            on_step,
            on_validation,
            validation_quality(found, backbone),
        )
    seconds = time.perf_counter() - start
    with beside(run.folder.model) as part:
        backbone.save(part)
        save_recommender(part, backbone, found.index, found.tasks, found.split, experiment)
    return {
        **{name: value for name, value in asdict(result).items() if name not in ("tokens", "targets")},
        **_pace(asdict(result), seconds),
        "tokens": budgeted.tokens,
        "targets": budgeted.targets,
        "samples": len(budgeted.all),
        "epochs_seen": round(budgeted.epochs_seen, 3),
        "tokens_by_task": budgeted.tokens_by_task,
        "peak_gigabytes": round(peak[0], 3),
        "parameters": backbone.parameters,
        "vocabulary": len(backbone.tokenizer),
        "seconds_before": spent.before,
    }


def _pace(result: dict[str, Any], seconds: float) -> dict[str, float | None]:
    """Tokens a second, validations included, and the seconds of the whole training: what a resumed one had
    done before is added at the pace of the rest. None where nothing was left to do."""
    before = {row["step"]: row["tokens"] for row in result["curve"]}.get(result["resumed_from"], 0)
    done = result["tokens"] - before
    if not done:
        return {"tokens_per_second": None, "training_seconds": None}
    return {
        "tokens_per_second": round(done / seconds, 1),
        "training_seconds": round(seconds * result["tokens"] / done, 2),
    }


@contextmanager
def _memory_watched() -> Iterator[list[float]]:
    """Memory of this process in GB, looked at ten times a second; the system's own record never falls from
    run to run."""
    seen, process, over = [0.0], psutil.Process(), threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            seen[0] = max(seen[0], process.memory_info().rss / 1e9)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
