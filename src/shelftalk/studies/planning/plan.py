"""The dry run before spending: what a training would read, need and cost, and what of it cannot work.

Counts are counted and memory is traced; time rests on two assumptions, which the plan names.
benchmarks/planner.py says how far off the estimates are on a machine where both can be measured.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from transformers import PreTrainedModel

from shelftalk import stages
from shelftalk.decoding.item_trie import trie_of
from shelftalk.errors import SettingsError
from shelftalk.evaluation.metrics import LIST_LENGTH
from shelftalk.experiment import Experiment
from shelftalk.fresh_backbone import family, new_backbone, symbols
from shelftalk.indexing.item_index import ItemIndex
from shelftalk.models.backbone import Backbone
from shelftalk.models.precision import fp16_refusal, product_type
from shelftalk.models.pretrained import meta_model
from shelftalk.models.settings import Precision
from shelftalk.models.text_encoder import Encoded
from shelftalk.preflight import check_run
from shelftalk.runs import Run
from shelftalk.runtime import machine
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.studies.planning import memory, time
from shelftalk.studies.planning.counting import Counted, count_samples, cut_texts, trained_context
from shelftalk.studies.planning.fitting import Fit, what_fits
from shelftalk.studies.planning.gpus import Gpu, gpu_named
from shelftalk.studies.planning.tracing import ShapeModel, Trace
from shelftalk.training.batching import length_batches
from shelftalk.training.packing import NO_SHARED_ROWS, packed_rows, side_by_side

USERS = 2000
"""Users whose samples are looked at; the rest is scaled."""
GPU_BASE = 10**9
"""Bytes of a GPU that the driver and its kernels take: an assumption."""
SAMPLE = 400
"""Bytes of a sample in memory beside its tokens, five bytes each."""
HERE = "this machine's processor"
"""Its memory's name in a plan."""
TOGETHER = 0.9
"""Share of its speed that a GPU keeps beside others: an assumption."""


@dataclass(frozen=True)
class Hardware:
    """What the training would be bought: GPUs of a name in planning.gpus.GPUS, `price` of one for an hour in
    any currency, the share of its peak that it is assumed to reach, and the rank of the adapters that full
    training is compared with."""

    gpu: str = "a100-80gb"
    gpus: int = 1
    price: float | None = None
    utilisation: float = 0.3
    lora_rank: int = 16


@dataclass(frozen=True)
class Plan:
    """What `shelftalk plan` prints: plain values only. `refused` are sentences; with none, the training can
    begin."""

    experiment: str
    model: Mapping[str, Any]
    looked_at: str
    tasks: Mapping[str, Mapping[str, Any]]
    cut: Mapping[str, float]
    trie: Mapping[str, int]
    training: Mapping[str, int]
    memory: Mapping[str, Mapping[str, int]]
    """Where and how -> bytes by part; first one GPU and the experiment as it is, last this machine."""
    times: Sequence[Mapping[str, Any]]
    refused: Sequence[str]
    assumptions: Sequence[str]
    data: Sequence[str] = ()
    """What was read and what is kept of it, and what the data cannot support."""

    def values(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def plan(experiment: Experiment, hardware: Hardware, users: int = USERS) -> Plan:
    """Look at an experiment without training it and without a run folder.

    Raises MissingFile where the model's config or tokenizer cannot be read, and SettingsError or DataError as
    the stages do.
    """
    gpu = gpu_named(hardware.gpu)
    family(experiment)
    with tempfile.TemporaryDirectory() as scratch:
        folder = RunFolder(Path(scratch))
        prepared = stages.prepare(folder, experiment)
        stages.index(folder, experiment)
        return replace(
            _plan(Run(folder, experiment), hardware, gpu, users), data=stages.data_sentences(prepared)
        )


def backbone_to_plan(run: Run) -> Backbone:
    """A pretrained model without its weights; the nano model as it is."""
    if run.experiment.pretrained.name:
        return meta_model(run.experiment.pretrained, symbols(run))
    return _to_try(run, "fp32")  # a precision that is refused is told among other refusals


def backbone_adapted_otherwise(run: Run, lora_rank: int) -> Backbone | None:
    """The model of the experiment with adapters of a rank where it has none, and without any where it has
    them: to compare with. None for the nano model, which takes no adapters."""
    start = run.experiment.pretrained
    if not start.name:
        return None
    other = (
        {"adaptation": "full"}
        if start.adaptation == "lora"
        else {"adaptation": "lora", "lora_rank": lora_rank}
    )
    return meta_model(start.model_copy(update=other), symbols(run))


def _to_try(run: Run, precision: Precision) -> Backbone:
    """A backbone that nobody needs afterwards; weights that were released are as fast as random ones, which
    need not be fetched."""
    experiment = run.experiment
    training = experiment.training.model_copy(update={"precision": precision})
    pretrained = experiment.pretrained.model_copy(update={"random_weights": True})
    return new_backbone(
        Run(run.folder, experiment.model_copy(update={"training": training, "pretrained": pretrained}))
    )


def checkpointed(backbone: Backbone, bf16: bool, batch: Sequence[Encoded], whole: Trace) -> Trace:
    """The trace of a batch whose layers keep their inputs alone; one layer at a time is computed again, and
    then all of it is there."""
    inputs = ShapeModel(backbone, bf16, checkpointing=True).trace(batch)
    return replace(whole, kept=inputs.kept + whole.kept // _layers(backbone))


@dataclass(frozen=True)
class Batches:
    """Four `typical` batches that stand for all; the `largest`, of the longest samples and of most targets;
    and their `number`."""

    typical: Sequence[Sequence[Encoded]]
    largest: Sequence[Sequence[Encoded]]
    number: int


def typical_and_largest(samples: Sequence[Encoded], batch_tokens: int, row_tokens: int = 0) -> Batches:
    """As training would make batches of these samples, in rows that they share where `row_tokens` is above
    0."""
    rows: Sequence[Encoded] = samples
    if row_tokens:
        shared = packed_rows([len(sample) for sample in samples], row_tokens)
        rows = [side_by_side([samples[position] for position in row]) for row in shared]
    batches = [[rows[position] for position in batch] for batch in length_batches(rows, batch_tokens)]
    typical = [batches[int(len(batches) * eighth / 8)] for eighth in (1, 3, 5, 7)]
    most = max(batches, key=lambda batch: sum(int(sample.bears_loss.sum()) for sample in batch))
    return Batches(typical, [batches[0], most], len(batches))


def _plan(run: Run, hardware: Hardware, gpu: Gpu, users: int) -> Plan:
    experiment, settings = run.experiment, run.experiment.training
    backbone = backbone_to_plan(run)
    check_run(run, backbone)
    counted = count_samples(run, backbone, users)
    if not counted.samples:
        raise SettingsError(stages.no_task_to_train(run.split))
    batches = typical_and_largest(
        counted.samples,
        settings.batch_tokens,
        settings.row_tokens if backbone.family == "decoder-only" else 0,
    )
    number = math.ceil(batches.number * counted.scale) * settings.epochs
    steps = math.ceil(number / settings.gradient_accumulation)
    steps = min(steps, settings.max_steps or steps)
    costs = batch_costs(backbone, settings.precision != "fp32", batches)
    both = _both_ways(run, backbone, costs, batches, hardware.lora_rank)
    here = _here(run, backbone, counted, batches, costs)
    forward_passes = steps * settings.gradient_accumulation
    hours_here = here.seconds * settings.gradient_accumulation * steps / 3600
    return Plan(
        experiment=experiment.name,
        model=_model(experiment, backbone)
        | {f"trainable, {name}": way.trained for name, way in both.items()},
        looked_at=_assumptions_of(counted),
        tasks={name: _task_row(count) for name, count in counted.tasks.items()},
        cut=cut_texts(run),
        trie=trie_size(run.index, backbone),
        training=_training(counted, settings.epochs, steps),
        memory=_memory(both, here.memory, hardware.gpus),
        times=[
            *(row for name, way in both.items() for row in _rented(name, way, forward_passes, hardware, gpu)),
            {"where": here.where, "training": next(iter(both)), "hours": hours_here, "cost": None},
        ],
        refused=_refused(run, backbone, both, hardware.gpus, gpu),
        assumptions=[*_assumptions(hardware, gpu, settings.precision), here.note],
    )


@dataclass(frozen=True)
class Way:
    """A way to train the model: every weight, or adapters."""

    fit: Fit
    flops: float
    """Operations of a forward pass over a typical batch."""
    adapters: bool

    @property
    def trained(self) -> int:
        return sum(shape.numel() for shape in memory.trainable(self.fit.model))


def _both_ways(
    run: Run, backbone: Backbone, costs: Costs, batches: Batches, lora_rank: int
) -> dict[str, Way]:
    """By name: first as the experiment has it, then the other way, where the model can be trained in two."""
    settings, start = run.experiment.training, run.experiment.pretrained

    def way(model: PreTrainedModel, costs: Costs, adapters: bool) -> Way:
        return Way(
            Fit(model, settings, costs.largest, costs.largest_checkpointed, GPU_BASE), costs.flops, adapters
        )

    has = start.adaptation == "lora"
    names = {False: "full", True: f"LoRA, rank {start.lora_rank if has else lora_rank}"}
    both = {names[has]: way(backbone.model, costs, has)}
    if other := backbone_adapted_otherwise(run, lora_rank):
        both[names[not has]] = way(
            other.model, batch_costs(other, settings.precision != "fp32", batches), not has
        )
    return both


def _memory(both: Mapping[str, Way], here: memory.Memory, gpus: int) -> dict[str, dict[str, int]]:
    """By where and how, bytes by part: on one GPU; on each of several that share all of it, or where it
    cannot be, the batches; here."""
    found = {f"one GPU, {name}": way.fit.memory().rows() for name, way in both.items()}
    if gpus > 1:
        for name, way in both.items():
            divided = "all divided" if way.fit.spreads else "batches divided"
            found[f"each of {gpus} GPUs, {name}, {divided}"] = way.fit.each_of(gpus).rows()
    return {**found, HERE: here.rows()}


@dataclass(frozen=True)
class Costs:
    """Of `typical` batches and of the largest, by trace; `flops` of a forward pass, the mean of the typical
    ones."""

    typical: Sequence[Trace]
    largest: Trace
    largest_checkpointed: Trace

    @property
    def flops(self) -> float:
        return sum(trace.flops for trace in self.typical) / len(self.typical)


def batch_costs(backbone: Backbone, bf16: bool, batches: Batches) -> Costs:
    """Trace the batches, without computing them."""
    paper = ShapeModel(backbone, bf16)
    traces = [paper.trace(batch) for batch in batches.largest]
    widest = max(range(len(traces)), key=lambda number: traces[number].kept + traces[number].logits)
    spare = checkpointed(backbone, bf16, batches.largest[widest], traces[widest])
    return Costs([paper.trace(batch) for batch in batches.typical], traces[widest], spare)


def trie_size(index: ItemIndex, backbone: Backbone) -> dict[str, int]:
    """Nodes, bytes and depth of the trie that retrieval searches. Raises DuplicateName where two names are
    the same tokens."""
    trie = trie_of(backbone, index)
    return {
        "items": trie.items,
        "nodes": len(trie),
        "bytes": trie.nbytes,
        "tokens of a name, at most": trie.depth,
    }


@dataclass(frozen=True)
class Here:
    """This machine's processor: memory, seconds of a batch, and how the seconds were found."""

    where: str
    memory: memory.Memory
    seconds: float
    note: str


def _here(run: Run, backbone: Backbone, counted: Counted, batches: Batches, costs: Costs) -> Here:
    settings = run.experiment.training
    refused = fp16_refusal(settings.precision, backbone.family, gpu=False)
    bf16 = not refused and product_type(settings.precision, backbone.family) == torch.bfloat16
    if bf16 != (settings.precision != "fp32"):
        costs = batch_costs(backbone, bf16, batches)
    held = sum(5 * len(sample) + SAMPLE for sample in counted.samples) * counted.scale * settings.epochs
    base = psutil.Process().memory_info().rss + int(held)
    need = Fit(backbone.model, settings, costs.largest, costs.largest_checkpointed, base).memory()
    where = f"this machine, {torch.get_num_threads()} threads of {machine.processor()}"
    if backbone.parameters <= time.SMALL and not refused:
        note = "Hours on this processor are from training steps tried out just now, four batches of this experiment, by processor time."
        step = time.tried_out(_to_try(run, "bf16" if bf16 else "fp32"), batches.typical, settings)
        return Here(where, need, step.seconds, f"{note} {time.other_work(step.busy)}".rstrip())
    rate = time.measured_rate(bf16)
    trained = sum(shape.numel() for shape in memory.trainable(backbone.model))
    passes = time.passes(settings.gradient_checkpointing, trained < backbone.parameters)
    each = [time.step_seconds(trace, trained, rate, passes) for trace in costs.typical]
    note = (
        f"Hours on this processor are worked out from rates measured just now: {rate.flops / 1e9:.0f} x 10^9 operations and "
        f"{rate.bandwidth / 1e9:.1f} GB of memory a second, by processor time. {time.other_work(rate.busy)}"
    )
    return Here(where, need, sum(each) / len(each), note.rstrip())


def _rented(name: str, way: Way, forward_passes: int, hardware: Hardware, gpu: Gpu) -> list[dict[str, Any]]:
    rows, settings = [], way.fit.settings
    for gpus in sorted({1, hardware.gpus}):
        work = way.flops * forward_passes * time.passes(settings.gradient_checkpointing, way.adapters)
        hours = (
            time.gpu_seconds(work, gpu.peak(settings.precision), gpus, hardware.utilisation, TOGETHER) / 3600
        )
        cost = None if hardware.price is None else hours * gpus * hardware.price
        rows.append({"where": f"{gpus} x {gpu.name}", "training": name, "hours": hours, "cost": cost})
    return rows


def _model(experiment: Experiment, backbone: Backbone) -> dict[str, Any]:
    start = experiment.pretrained
    return {
        "name": (start.name + (", random weights" if start.random_weights else "")) or "nano, from scratch",
        "family": backbone.family,
        "parameters": backbone.parameters,
        "vocabulary": len(backbone.tokenizer),
        "trained context": trained_context(backbone),
    }


def _task_row(count: Any) -> dict[str, Any]:
    """Figures of a task's samples; a task without any sample has none."""
    row: dict[str, Any] = {"samples": count.samples}
    for name, tokens in (("prompt", count.prompt), ("targets", count.targets)):
        quantiles = (
            np.percentile(tokens, (50, 95, 100)).round().astype(int).tolist() if len(tokens) else [0, 0, 0]
        )
        row |= {f"{name} p50": quantiles[0], f"{name} p95": quantiles[1], f"{name} max": quantiles[2]}
    return {**row, "histories cut": count.cut_histories, "beyond context": count.too_long}


def _training(counted: Counted, epochs: int, steps: int) -> dict[str, int]:
    tokens = sum(map(len, counted.samples)) * counted.scale * epochs
    targets = sum(int(sample.bears_loss.sum()) for sample in counted.samples) * counted.scale * epochs
    return {
        "epochs": epochs,
        "steps": steps,
        "tokens of the epochs": round(tokens),
        "of them bear loss": round(targets),
    }


def _assumptions_of(counted: Counted) -> str:
    if counted.users_looked_at == counted.users:
        return f"All {counted.users:,} users were looked at."
    return (
        f"{counted.users_looked_at:,} of {counted.users:,} users were looked at, drawn by seed, and the counts scaled by "
        f"{counted.scale:.2f}; a longer sample than the longest seen here may exist."
    )


def _refused(run: Run, backbone: Backbone, both: Mapping[str, Way], gpus: int, gpu: Gpu) -> list[str]:
    """What cannot work, one sentence each."""
    experiment = run.experiment
    sentences = [fp16_refusal(experiment.training.precision, backbone.family, gpu=True)]
    if experiment.decoding.beams < LIST_LENGTH:
        sentences.append(
            f"{experiment.decoding.beams} beams cannot find the {LIST_LENGTH} items that are evaluated; "
            f"set decoding.beams = {LIST_LENGTH} or more."
        )
    if not set(experiment.training.judged_by) & set(run.served):
        sentences.append(
            f"training.judged_by names no task that is validated; choose among {', '.join(run.served)}."
        )
    if experiment.training.row_tokens and backbone.family != "decoder-only":
        sentences.append(NO_SHARED_ROWS)
    planned, *others = both.values()
    sentences.append(
        what_fits(planned.fit, gpu, gpus, next((way.fit for way in others if way.adapters), None))
    )
    return [sentence for sentence in sentences if sentence]


def _assumptions(hardware: Hardware, gpu: Gpu, precision: Precision) -> list[str]:
    together = f" and {TOGETHER:.0%} of its own speed beside others" if hardware.gpus > 1 else ""
    kind = "bf16" if precision == "auto" else precision
    return [
        f"A GPU is assumed to reach {hardware.utilisation:.0%} of its peak{together}; {gpu.name} has {gpu.peak(precision):g} x 10^12 "
        f"{kind} operations a second ({gpu.source}). Answering the test part comes on top of the hours.",
        "Activations are traced with the processor's kernels; a GPU's attention keeps less.",
        "GPUs were not at hand where this was made: memory on them and hours are estimates. Where all is divided (launch/fsdp.yaml) each "
        "holds its share of weights, gradients and optimiser; where only batches are (launch/ddp.yaml) each holds all of them. Adapters, "
        "Adafactor and training.validation_users allow only the latter.",
    ]


def _layers(backbone: Backbone) -> int:
    config = backbone.model.config
    return config.num_hidden_layers + (
        config.num_decoder_layers if backbone.family == "encoder-decoder" else 0
    )
