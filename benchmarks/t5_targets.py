"""Several next items from one reading of a history, for encoder-decoder models: what
`tasks.retrieval.targets` gains and costs.

An encoder reads what comes before the first target, and the decoder predicts the rest: with targets = k one
reading of up to 16 - k items trains k next items, the later ones with those between in the decoder. A
decoder-only model needs no such choice (benchmarks/training.py). At recommendation the whole history is in
the encoder, as for targets = 1; so k > 1 trains something else, and whether that is as good is measured here:
a small nano encoder-decoder, retrieval alone, every second user of the bundled MovieLens, two seeds. All is
so small that targets = 1 reads an epoch within minutes on one core; less would show nothing.

Two comparisons with targets = 1. *Equal targets*: as many steps with about as many targets in each (a tenth
fewer: small batches are filled less well), so batches of fewer tokens; it shows what a target gains.
*Equal tokens*: as many steps with batches of as many tokens, so more targets; it shows what a given effort
buys.
"""

from __future__ import annotations

import math
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks._nano import BUNDLED, bundled_hash, encoded_epoch, prepared, trained
from benchmarks.harness import Claim, Result
from benchmarks.item_knn import PUBLISHED
from shelftalk.decoding.language_model import LanguageModelRecommender
from shelftalk.evaluation.significance import Difference, paired_difference
from shelftalk.experiment import Experiment, load_experiment
from shelftalk.models.backbone import Backbone
from shelftalk.models.text_encoder import Encoded
from shelftalk.parts import TASKS
from shelftalk.pipeline.fresh_backbone import new_backbone
from shelftalk.pipeline.run import Run
from shelftalk.studies.token_budget.evaluation import per_user_tables
from shelftalk.training.batching import Steps

SEEDS = (0, 1)
MANY = (5, 10)
BATCH = 2048
HISTORY = 15
EPOCHS, QUICK_EPOCHS = 1.0, 0.15
"""Of targets = 1; the others take as many steps."""
LOSS, RECALL = 0.05, 0.01
"""Nats a target and recall@10 within which quality counts as equal: set before measuring."""
CLAIMS = [
    *(
        f"With targets = {k} and as many targets, validation loss is at most {LOSS} nats a target above that "
        "of targets = 1"
        for k in MANY
    ),
    *(
        f"With targets = {k} and as many targets, validation recall@10 is at most {RECALL} below that of "
        "targets = 1"
        for k in MANY
    ),
    *(f"With targets = {k} and as many tokens, validation loss is below that of targets = 1" for k in MANY),
    *(
        f"With targets = {k} and as many tokens, validation recall@10 is above that of targets = 1, its "
        "interval too"
        for k in MANY
    ),
]


@dataclass(frozen=True)
class Arm:
    """A training: `targets` of a sample, and what is equal to targets = 1: "targets" or "tokens"."""

    targets: int
    equal: str


ARMS = [Arm(1, "both"), *(Arm(k, equal) for k in MANY for equal in ("targets", "tokens"))]


def main(quick: bool) -> Result:
    """--quick: one seed, a small part of the epoch, from which nothing follows."""
    seeds, share = (SEEDS[:1], QUICK_EPOCHS) if quick else (SEEDS, EPOCHS)
    runs: list[dict[str, Any]] = []
    tables: dict[Arm, list[pl.DataFrame]] = {arm: [] for arm in ARMS}
    with tempfile.TemporaryDirectory() as scratch:
        data = _half(Path(scratch))
        for seed in seeds:
            pace = _pace(data, seed, share)
            for arm in ARMS:
                run, table = _measure(arm, data, seed, pace)
                print(run, flush=True)
                runs.append(run)
                tables[arm].append(table.with_columns(pl.format("{} {}", pl.lit(seed), "user").alias("user")))
    return Result(
        seeds[0],
        _claims(runs, {arm: pl.concat(of_seeds) for arm, of_seeds in tables.items()}),
        runs,
        bundled_hash(),
    )


def _claims(runs: list[dict[str, Any]], tables: dict[Arm, pl.DataFrame]) -> list[Claim]:
    """Losses are means over seeds; recalls are paired by user and seed."""
    losses = {
        arm: statistics.mean(run["validation loss"] for run in runs if run["arm"] == _name(arm))
        for arm in ARMS
    }
    one = ARMS[0]
    worse = {arm: losses[arm] - losses[one] for arm in ARMS}
    better = {arm: paired_difference(tables[arm], tables[one], "recall@10") for arm in ARMS}
    targets, tokens = ([Arm(k, equal) for k in MANY] for equal in ("targets", "tokens"))
    claims = [(f"{worse[arm]:+.3f}", f"<= {LOSS}", worse[arm] <= LOSS) for arm in targets]
    claims += [
        (_with_interval(better[arm]), f">= -{RECALL}", better[arm].value >= -RECALL) for arm in targets
    ]
    claims += [(f"{worse[arm]:+.3f}", "< 0", worse[arm] < 0) for arm in tokens]
    claims += [
        (_with_interval(better[arm]), "> 0, all of the interval", better[arm].low > 0) for arm in tokens
    ]
    return [Claim(sentence, *claim) for sentence, claim in zip(CLAIMS, claims, strict=True)]


def _with_interval(difference: Difference) -> str:
    return f"{difference.value:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"


def _name(arm: Arm) -> str:
    return f"targets = {arm.targets}" + ("" if arm.targets == 1 else f", equal {arm.equal}")


def _half(folder: Path) -> dict[str, Any]:
    """Every second user."""
    events = pl.read_parquet(BUNDLED / "interactions.parquet")
    users = events["user_id"].unique().sort()[::2]
    events.filter(pl.col("user_id").is_in(users.implode())).write_parquet(folder / "interactions.parquet")
    shutil.copy(BUNDLED / "items.parquet", folder)
    return {"folder": str(folder), **PUBLISHED}


def _experiment(targets: int, data: dict[str, Any], seed: int, batch_tokens: int) -> Experiment:
    """Retrieval alone; nobody stops early, and the weights of the best validation are kept."""
    tasks: dict[str, dict[str, Any]] = {name: {"weight": 0.0} for name in TASKS if name != "retrieval"}
    tasks["rating"]["targets"] = 1
    training = {
        "batch_tokens": batch_tokens,
        "learning_rate": 2e-3,
        "judged_by": ["retrieval"],
        "patience": 1000,
        "trackers": [],
    }
    return load_experiment(
        None,
        {
            "seed": seed,
            "data": data,
            "nano": {"family": "encoder-decoder", "width": 64, "layers": 2},
            "tasks": {**tasks, "retrieval": {"targets": targets, "max_history": HISTORY, "text_share": 0.0}},
            "training": {**training, "validations": 5, "validation_samples": 1000},
        },
    )


@dataclass(frozen=True)
class Pace:
    """Of one seed: steps of every arm, and by targets of a sample the tokens that are read for each of
    them."""

    steps: int
    tokens_each: dict[int, float]


def _pace(data: dict[str, Any], seed: int, share: float) -> Pace:
    """From the first epoch of every kind of samples."""
    steps, tokens_each = 0, {}
    for targets in (1, *MANY):
        with prepared(_experiment(targets, data, seed, BATCH)) as run:
            backbone = new_backbone(run)
            first = encoded_epoch(run, backbone, 0)
            tokens_each[targets] = sum(map(len, first)) / sum(
                int(sample.bears_loss.sum()) for sample in first
            )
            steps = steps or math.ceil(share * len(Steps(backbone, [first], BATCH, seed)))
    return Pace(steps, tokens_each)


def _measure(arm: Arm, data: dict[str, Any], seed: int, pace: Pace) -> tuple[dict[str, Any], pl.DataFrame]:
    """Train and evaluate."""
    steps = pace.steps
    batch = (
        BATCH
        if arm.equal != "targets"
        else round(BATCH * pace.tokens_each[arm.targets] / pace.tokens_each[1])
    )
    with prepared(_experiment(arm.targets, data, seed, batch)) as run:
        backbone = new_backbone(run)
        epochs = _epochs(run, backbone, batch, steps)
        busy = time.process_time()
        result, seconds = trained(run, backbone, epochs, steps)
        busy = time.process_time() - busy
        loss = min(
            row["loss"] for row in result.curve if row["part"] == "validation" and row["task"] == "retrieval"
        )
        model = LanguageModelRecommender(backbone, run.index, run.served, run.experiment.decoding)
        table = per_user_tables(model, run.split, "validation", seed=seed, only={"retrieval"})["retrieval"]
    shares = {
        "batch tokens": batch,
        "epochs": round(len(epochs) - 1 + _last_share(run, backbone, epochs, batch, steps), 2),
    }
    read = {"steps": result.steps, "tokens": result.tokens, "targets": result.targets, **shares}
    times = {"seconds": round(seconds, 1), "processor seconds": round(busy, 1)}
    quality = {
        "validation loss": round(loss, 4),
        "best step": result.best_step,
        "recall@10": _mean(table, "recall@10"),
    }
    return {
        "arm": _name(arm),
        "seed": seed,
        **read,
        **times,
        **quality,
        "ndcg@10": _mean(table, "ndcg@10"),
    }, table


def _mean(table: pl.DataFrame, metric: str) -> float:
    return round(float(table[metric].to_numpy().mean()), 4)


def _epochs(run: Run, backbone: Backbone, batch: int, steps: int) -> list[list[Encoded]]:
    """As many as the steps need."""
    first = encoded_epoch(run, backbone, 0)
    needed = math.ceil(steps / len(Steps(backbone, [first], batch, run.experiment.seed)))
    return [first, *(encoded_epoch(run, backbone, number) for number in range(1, needed))]


def _last_share(run: Run, backbone: Backbone, epochs: list[list[Encoded]], batch: int, steps: int) -> float:
    """Of the last epoch, the share that was read."""
    ends = Steps(backbone, epochs, batch, run.experiment.seed).epoch_ends
    before = ends[-2] if len(ends) > 1 else 0
    return min(1.0, (steps - before) / (ends[-1] - before))
