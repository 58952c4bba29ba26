"""What the training benchmarks share: a prepared run of the bundled data, a training of given tokens, figures
on all three tasks."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

import shelftalk
from benchmarks.harness import data_hash
from shelftalk.data.splitting import Part
from shelftalk.decoding.language_model import LanguageModelRecommender
from shelftalk.evaluation.evaluator import summarise
from shelftalk.experiment import Experiment
from shelftalk.models.backbone import Backbone
from shelftalk.models.text_encoder import Encoded
from shelftalk.pipeline import stages
from shelftalk.pipeline.run import Run
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.studies.token_budget.evaluation import per_user_tables
from shelftalk.studies.token_budget.training import trained_tasks, validation_samples
from shelftalk.tasks.mixture import epoch_samples
from shelftalk.training.trainer import TrainingResult, train

BUNDLED = Path(shelftalk.__file__).parent / "data" / "bundled" / "movielens-small"
RATINGS = 2000


@contextmanager
def prepared(experiment: Experiment) -> Iterator[Run]:
    """Data, split and index of an experiment in a folder that goes away; samples are made in memory."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = RunFolder(Path(scratch))
        stages.prepare(folder, experiment)
        stages.index(folder, experiment)
        yield Run(folder, experiment)


def bundled_hash() -> dict[str, str]:
    """The bundled data's hash, for the result file."""
    return {"movielens-small": data_hash(BUNDLED.glob("*.parquet"))}


def encoded_epoch(run: Run, backbone: Backbone, epoch: int) -> list[Encoded]:
    """One epoch of the mixture."""
    return backbone.encode_samples(epoch_samples(trained_tasks(run).values(), epoch, run.experiment.seed))


def trained(
    run: Run, backbone: Backbone, epochs: Sequence[Sequence[Encoded]], max_steps: int = 0
) -> tuple[TrainingResult, float]:
    """Train in a scratch folder; the result and the wall time in seconds. The best checkpoint by validation
    loss is kept."""
    experiment = run.experiment
    settings = experiment.training.model_copy(update={"max_steps": max_steps})
    with tempfile.TemporaryDirectory() as scratch:
        start = time.perf_counter()
        result = train(
            backbone, epochs, validation_samples(run, backbone), Path(scratch), settings, experiment.seed
        )
        return result, time.perf_counter() - start


def figures(run: Run, backbone: Backbone, part: Part) -> dict[str, pl.DataFrame]:
    """Per-user tables of the language model alone on `part`, by task; ratings on 2,000 drawn by seed."""
    model = LanguageModelRecommender(backbone, run.index, run.served, run.experiment.decoding)
    return per_user_tables(model, run.split, part, ratings=RATINGS, seed=run.experiment.seed)


def summary(tables: dict[str, Any]) -> dict[str, float]:
    """The few metrics that the tables of the docs show."""
    shown = {"retrieval": ("recall@10", "ndcg@10"), "ranking": ("hr@1", "ndcg@10"), "rating": ("rmse",)}
    return {
        f"{task} {metric}": round(value, 4)
        for task, names in shown.items()
        for metric, value in summarise(tables[task], task).items()
        if metric in names
    }


def peak_memory() -> float:
    """Highest memory of this process so far, in GB (Linux counts in kB)."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
