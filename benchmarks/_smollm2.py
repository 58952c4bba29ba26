"""What the benchmark of SmolLM2's two starts trains: Beauty without some of its items, one training's
settings, and the training."""

from __future__ import annotations

import hashlib
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import _never_seen
from benchmarks._beauty import KEPT, smollm2_file
from benchmarks.item_knn import BEAUTY
from shelftalk.data.sources import DataSettings, read_dataset, source_hashes
from shelftalk.experiment import load_experiment
from shelftalk.models.backbone import Backbone
from shelftalk.models.text_encoder import Encoded
from shelftalk.parts import TASKS
from shelftalk.pipeline import stages
from shelftalk.pipeline.fine_tuning import TRACKING_FOLDER, encoder
from shelftalk.pipeline.fresh_backbone import new_backbone
from shelftalk.pipeline.run import Run
from shelftalk.runtime.run_folder import RunFolder, StageRecord, TimeSpent, beside
from shelftalk.studies.token_budget.training import trained_tasks
from shelftalk.tasks.mixture import epoch_samples
from shelftalk.training.batching import Steps, length_batches
from shelftalk.training.trainer import train

SEED = 0
SHARE = 0.05
"""Of the items, never shown."""
ROOT = KEPT / "smollm2"
SOURCE = ROOT / "source"
BATCH_TOKENS = 1024
LEAST_EPOCH = 2500
"""Steps that an epoch has at least, so that enough epochs are made."""
AUXILIARY = ("masked_items", "masked_language", "pairwise_preference")
Row = dict[str, Any]


def source() -> StageRecord:
    """Beauty without the events of held-out items, as a folder to read; made once."""
    beauty = DataSettings(folder=str(BEAUTY), k_core=5, catalogue="interacted")
    inputs = {"files": source_hashes(beauty), "share": SHARE, "seed": SEED}

    def work() -> Row:
        dataset, _ = read_dataset(beauty, SEED)
        held = _never_seen.held_out(dataset.item_ids, SHARE, SEED)
        events = _never_seen.without(dataset, held)
        _never_seen.write_source(SOURCE, dataset.items, events)
        gone = {"users left out": len(dataset.user_ids) - events["user_id"].n_unique()}
        return {"held out": sorted(held), **gone, "events left out": len(dataset.events) - len(events)}

    return RunFolder(ROOT).do("source", inputs, work, [SOURCE])


def held_out() -> set[str]:
    """The items that no training is shown."""
    return set(source().facts["held out"])


def prepared(
    scheme: str,
    steps: int,
    validations: int,
    samples: int,
    rate: float,
    random_weights: bool = False,
    auxiliary: bool = False,
    softmax: str = "vocabulary",
) -> Run:
    """Data and index of a run, with the settings of one training on them; `samples`: of validation."""
    source()
    tasks: dict[str, Any] = {
        name: {"weight": 0.2 if auxiliary and name in AUXILIARY else 0.0} for name in TASKS
    }
    tasks["retrieval"] = {"targets": 0, "max_history": 20}
    training = {
        "max_steps": steps,
        "batch_tokens": BATCH_TOKENS,
        "learning_rate": rate,
        "precision": "bf16",
        "patience": 1000,
    }
    settings = {
        "name": "smollm2",
        "seed": SEED,
        "data": {"folder": str(SOURCE), "k_core": 0, "catalogue": "all"},
        "index": {"scheme": scheme},
        "tasks": tasks,
        "pretrained": {"name": smollm2_file(), "random_weights": random_weights},
        **({"decoding": {"softmax": softmax}} if softmax != "vocabulary" else {}),
        "training": {
            **training,
            "validations": validations,
            "validation_samples": samples,
            "judged_by": ["retrieval"],
        },
    }
    folder, experiment = RunFolder(ROOT / "prepared" / scheme), load_experiment(None, settings)
    stages.prepare(folder, experiment)
    stages.index(folder, experiment)
    return Run(folder, experiment)


def trained(
    run: Run, folder: RunFolder, after: Callable[[Backbone], Row], outputs: Sequence[Path] = ()
) -> StageRecord:
    """Train, or continue a training that was interrupted; `after` is called with the trained model, writes
    the `outputs` and returns more facts.

    Only retrieval is validated: the train stage of a run validates ranking too, whose prompts list a hundred
    titles each.
    """
    experiment = run.experiment
    sections = {"seed", "index", "tasks", "pretrained", "training", "decoding"}
    # without defaults, so that a new setting starts no training anew
    settings = experiment.model_dump(mode="json", include=sections, exclude_unset=True)
    inputs = {**settings, "split": run.split.fingerprint()}

    def work() -> Row:
        folder.keep_checkpoints_of(inputs)
        spent, steps = TimeSpent(folder.training_time), _StepLog(folder.path.name)
        backbone = new_backbone(run)
        epochs, facts = _epochs(run, backbone)
        encode = encoder(run, backbone)
        validation = encode(stages.validation_samples(run.served["retrieval"], experiment))
        before = _loss(backbone, validation)

        def on_step(done: int, total: int, text: str) -> None:
            spent.keep()
            steps(done, total, text)

        result = train(
            backbone,
            epochs,
            {"retrieval": validation},
            folder.checkpoints,
            experiment.training,
            experiment.seed,
            on_step,
            tracking=folder.path / TRACKING_FOLDER,
        )
        facts |= asdict(result) | {
            "validation loss before": before,
            "learning rate": experiment.training.learning_rate,
        }
        facts |= {"seconds a step": steps.median, "bf16": backbone.bf16, "threads": torch.get_num_threads()}
        return {**facts, **after(backbone), "seconds_before": spent.before}

    return folder.do("train", inputs, work, outputs)


def alternating_steps(runs: Sequence[Run], steps: int) -> list[list[float]]:
    """Processor seconds of each of so many training steps, a list per run: every run reads the same batches
    of samples, and they take turns, so that load is shared. Optimiser included, validation not."""
    sides = []
    for run in runs:
        backbone = new_backbone(run)
        epochs, _ = _epochs(run, backbone)
        batches = Steps(backbone, epochs, run.experiment.training.batch_tokens, run.experiment.seed)
        sides.append((backbone, batches, torch.optim.AdamW(backbone.model.parameters(), lr=1e-5)))
    seconds: list[list[float]] = [[] for _ in runs]
    for step in range(steps):
        for number, (backbone, batches, optimizer) in enumerate(sides):
            start = time.process_time()
            backbone.loss(batches[step]).backward()
            optimizer.step()
            optimizer.zero_grad()
            seconds[number].append(time.process_time() - start)
    return seconds


def facts_alone(run: Run, path: Path, after: Callable[[Backbone], Row] = lambda backbone: {}) -> StageRecord:
    """A training of which nothing but its facts is kept."""
    folder = RunFolder(path)
    record = trained(run, folder, after)
    shutil.rmtree(folder.checkpoints, ignore_errors=True)
    return record


def saved(backbone: Backbone, folder: RunFolder) -> Row:
    """Write the model into its folder."""
    with beside(folder.model) as part:
        backbone.save(part)
    return {"parameters": backbone.parameters}


def validation(record: StageRecord) -> list[Row]:
    """Step, tokens read and loss in nats per target token, from before the first step on."""
    before = {"step": 0, "tokens": 0, "loss": record.facts["validation loss before"]}
    rows = [row for row in record.facts["curve"] if (row["part"], row["task"]) == ("validation", "retrieval")]
    return [before, *({key: row[key] for key in ("step", "tokens", "loss")} for row in rows)]


def _epochs(run: Run, backbone: Backbone) -> tuple[list[list[Encoded]], Row]:
    """Enough epochs for the steps, and what the steps read of them: a digest of the tokens in their order,
    and next items.

    A window's first item has nothing before it and so is no next item, though its name bears loss too.
    """
    experiment, held = run.experiment, [run.split.dataset.row_of[item] for item in held_out()]
    tasks, encode = trained_tasks(run).values(), encoder(run, backbone)
    epochs, items, shown = list[list[Encoded]](), dict[int, int](), 0
    for number in range(1 + experiment.training.max_steps // LEAST_EPOCH):
        samples = epoch_samples(tasks, number, experiment.seed)
        epochs.append(encode(samples))
        items |= {
            id(sample): length - 1
            for sample, length in zip(epochs[-1], samples.items.lengths.tolist(), strict=True)
        }
        shown += int(np.isin(samples.items.values, held).sum())
    steps = Steps(backbone, epochs, experiment.training.batch_tokens, experiment.seed)
    digest = hashlib.sha256()
    read = [
        sample
        for step in range(min(len(steps), experiment.training.max_steps))
        for sample in steps.samples(step)
    ]
    for sample in read:
        digest.update(sample.ids.tobytes() + b"\x00" + sample.bears_loss.tobytes())
    totals = {"next items": sum(items[id(sample)] for sample in read), "epochs": len(read) / len(epochs[0])}
    return epochs, {**totals, "samples read": digest.hexdigest(), "held-out items shown": shown}


@torch.no_grad()
def _loss(backbone: Backbone, samples: Sequence[Encoded]) -> float:
    """Nats per target token, as the trainer counts them, of a model that has not been trained yet."""
    batches = [[samples[position] for position in batch] for batch in length_batches(samples, 8192)]
    total = sum(backbone.loss(backbone.collate(batch)).item() for batch in batches)
    return float(total / sum(int(sample.bears_loss.sum()) for sample in samples))


class _StepLog:
    """Prints every 25th step how far a training is, and keeps the seconds of each step of this process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seconds: list[float] = []
        self.last = 0.0

    def __call__(self, done: int, total: int, text: str) -> None:
        now = time.perf_counter()
        if self.last:
            self.seconds.append(now - self.last)
        self.last = now
        if self.median and (done % 25 == 0 or done == total):
            print(f"{self.name}: step {done} of {total}, {self.median:.2f} s a step, {text}", flush=True)

    @property
    def median(self) -> float | None:
        """None where this process took no two steps."""
        return statistics.median(self.seconds) if self.seconds else None
