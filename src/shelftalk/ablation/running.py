"""One run of the grid: a variant trained with a seed on its budget of tokens, and asked. Resumable at any point."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import psutil

from shelftalk import stages
from shelftalk.ablation.asking import per_user_tables
from shelftalk.ablation.grid import ITEM_KNN, AblationSettings, Variant, effective
from shelftalk.assemble import Asking, RunParts, build_item_knn, new_backbone, save_model_facts
from shelftalk.experiment import Experiment
from shelftalk.runs import RunFolder, StageRecord, TimeSpent, beside, fingerprint
from shelftalk.stages import FINISHED, OnProgress
from shelftalk.tasks.mixture import epoch_samples
from shelftalk.tasks.templates import read_templates

if TYPE_CHECKING:  # torch is loaded only where a language model is
    from shelftalk.models.backbone import Backbone
    from shelftalk.training.budget import Budgeted

ENDLESS = 1_000_000
"""More validations than any training has: nobody stops early, so that all read the same number of tokens."""


@dataclass(frozen=True)
class Run:
    """One variant with one seed, and where its files are."""

    variant: Variant
    seed: int
    folder: RunFolder
    shared: RunFolder
    """The folder of its data, split and item index, which other runs may stand on too."""

    @property
    def experiment(self) -> Experiment:
        """The variant's experiment with the run's seed."""
        return self.variant.experiment.model_copy(update={"seed": self.seed})

    @property
    def parts(self) -> RunParts:
        """Split, index and tasks."""
        return RunParts(self.shared, self.experiment)


def run_of(variant: Variant, seed: int, out: Path) -> Run:
    """Where a run stands. Data and split are drawn by the base experiment's seed, names of items by the run's."""
    sections = variant.experiment.model_dump(mode="json", include={"data", "split", "index", "seed"})
    key = fingerprint({**sections, "run's seed": seed})[:12]
    folder = out / "runs" / f"{variant.folder}.seed-{seed}"
    return Run(variant, seed, RunFolder(folder), RunFolder(out / "shared" / key))


def prepare(run: Run) -> None:
    """Data, split and index of the run, unless another run has made them already."""
    stages.prepare(run.shared, run.variant.experiment)
    stages.index(run.shared, run.experiment)


def train(run: Run, tokens: int, progress: OnProgress) -> StageRecord:
    """Train on `tokens` tokens and keep the weights of the best validation: model/. Continues an interrupted training."""
    told = effective(run.experiment)
    own = {name: read_templates(name, s.templates) for name, s in run.experiment.tasks.items() if s.templates}
    kept = {name: told[name] for name in ("text", "tasks", "nano", "pretrained", "training")}
    nouns = asdict(run.experiment.data.nouns)
    index = run.shared.needed("index").fingerprint
    inputs = {"index": index, **kept, "own templates": own, "nouns": nouns, "tokens": tokens, "seed": run.seed}

    def work() -> dict[str, Any]:
        run.folder.keep_checkpoints_of(inputs)
        return _trained(run, tokens, progress)

    record = run.folder.do("train", inputs, work)
    if run.folder.checkpoints.exists():
        shutil.rmtree(run.folder.checkpoints)  # the weights stand in model/
    return record


def samples_for(found: RunParts, backbone: Backbone, budget: int) -> Budgeted:
    """Samples in the mixture's order up to `budget` tokens. Raises SettingsError for a mixture without samples."""
    from shelftalk.training.budget import Epoch, encoded_epoch, first_tokens

    trained = [task for name, task in found.tasks.items() if found.experiment.tasks[name].weight > 0]

    def epoch(number: int) -> Epoch:
        return encoded_epoch(epoch_samples(trained, number, found.experiment.seed), backbone) if trained else Epoch((), ())

    return first_tokens(epoch, budget)


def ask(run: Run, settings: AblationSettings, progress: OnProgress) -> StageRecord:
    """Ask the trained model of the drawn users: evaluation/TASK.parquet."""
    inputs = {
        "train": run.folder.needed("train").fingerprint,
        "decoding": run.experiment.decoding.model_dump(mode="json"),
        **_asked(settings, run.variant.experiment.seed),
    }

    def work() -> dict[str, Any]:
        from shelftalk.decoding.language_model import LanguageModelRecommender
        from shelftalk.models.pretrained import load_backbone

        asking = Asking(lambda done, total, about: progress("ask", done, total, about))
        found = replace(run.parts, asking=asking)
        backbone = load_backbone(run.folder.model, run.experiment.training.precision)
        model = LanguageModelRecommender(backbone, found.index, found.served, run.experiment.decoding, on_batch=asking)
        return _measure(model, run.folder, found, settings, run.variant.experiment.seed)

    return run.folder.do("evaluate", inputs, work)


def ask_item_knn(variant: Variant, shared: RunFolder, out: Path, settings: AblationSettings, progress: OnProgress) -> RunFolder:
    """item_knn on the data of `variant`, asked the same; the folder with its tables."""
    folder = RunFolder(out / ITEM_KNN)
    experiment = variant.experiment
    inputs = {
        "prepare": shared.needed("prepare").fingerprint,
        "item_knn": experiment.item_knn.model_dump(mode="json"),
        **_asked(settings, experiment.seed),
    }

    def work() -> dict[str, Any]:
        progress("ask", 0, 1, ITEM_KNN)
        found = RunParts(shared, experiment)
        model, chosen = build_item_knn(found)
        measured = _measure(model, folder, found, settings, experiment.seed)
        progress("ask", 1, 1, FINISHED)
        return {"chosen": chosen, **measured}

    folder.do("evaluate", inputs, work)
    return folder


def tables_of(folder: RunFolder) -> dict[str, pl.DataFrame]:
    """Task -> the per-user table that the run's evaluation left."""
    return {task: pl.read_parquet(folder.evaluation(task), glob=False) for task in folder.needed("evaluate").facts["tasks"]}


def _asked(settings: AblationSettings, seed: int) -> dict[str, Any]:
    return {"part": settings.part, "users": settings.users, "ratings": settings.ratings, "drawn by": seed}


def _measure(model: Any, folder: RunFolder, found: RunParts, settings: AblationSettings, seed: int) -> dict[str, Any]:
    start = time.perf_counter()

    def name(task: str) -> None:
        found.asking.about = task

    tables = per_user_tables(model, found.split, settings.part, settings.users, settings.ratings, seed, name)
    for task, table in tables.items():
        with beside(folder.evaluation(task)) as part:
            table.write_parquet(part)
    looks = folder.count_test_evaluation("ablation") if settings.part == "test" else 0
    return {"tasks": list(tables), "evaluation_seconds": round(time.perf_counter() - start, 2), "test_evaluations": looks}


def _trained(run: Run, tokens: int, progress: OnProgress) -> dict[str, Any]:
    """Train, save the model, and say what it cost."""
    from shelftalk.training.trainer import train as train_backbone

    found, experiment = run.parts, run.experiment
    progress("train", 0, 1, "making samples")
    backbone = new_backbone(found)
    budgeted = samples_for(found, backbone, tokens)
    validation = {name: backbone.encode_samples(stages.validation_samples(task, experiment)) for name, task in found.served.items()}
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
        )
    seconds = time.perf_counter() - start
    with beside(run.folder.model) as part:
        backbone.save(part)
        save_model_facts(part, found, backbone)
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
    """Tokens a second, validations included, and the seconds of the whole training: what a resumed one had done before is
    added at the pace of the rest. None where nothing was left to do."""
    before = {row["step"]: row["tokens"] for row in result["curve"]}.get(result["resumed_from"], 0)
    done = result["tokens"] - before
    if not done:
        return {"tokens_per_second": None, "training_seconds": None}
    return {"tokens_per_second": round(done / seconds, 1), "training_seconds": round(seconds * result["tokens"] / done, 2)}


@contextmanager
def _memory_watched() -> Iterator[list[float]]:
    """Memory of this process in GB, looked at ten times a second; the system's own record never falls from run to run."""
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
