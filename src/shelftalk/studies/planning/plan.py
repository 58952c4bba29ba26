"""The dry run before spending: what a training would read, need and cost, and what of it cannot work.

Samples are counted and memory is traced; time depends on two assumptions, which the plan names.
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

from shelftalk.decoding.item_trie import trie_of
from shelftalk.errors import SettingsError
from shelftalk.evaluation.metrics import LIST_LENGTH
from shelftalk.experiment import Experiment
from shelftalk.indexing.item_index import ItemIndex
from shelftalk.models.backbone import Backbone
from shelftalk.models.precision import fp16_refusal, product_type
from shelftalk.models.pretrained import meta_model
from shelftalk.models.settings import Precision
from shelftalk.models.text_encoder import Encoded
from shelftalk.pipeline import stages
from shelftalk.pipeline.fresh_backbone import family, new_backbone, symbols
from shelftalk.pipeline.preflight import check_run
from shelftalk.pipeline.run import Run
from shelftalk.runtime import machine
from shelftalk.runtime.progress import OnProgress, StageProgress, silent
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.studies.planning import memory, time
from shelftalk.studies.planning.counting import Counted, TaskCount, count_samples, cut_texts, trained_context
from shelftalk.studies.planning.fitting import Fit, what_fits
from shelftalk.studies.planning.gpus import Gpu, gpu_named
from shelftalk.studies.planning.tracing import FakeBackbone, Trace
from shelftalk.training.batching import length_batches
from shelftalk.training.packing import NO_SHARED_ROWS, packed_rows, side_by_side

USERS = 2000
"""Users whose samples are counted; the rest is scaled."""
GPU_BASE = 10**9
"""Bytes of a GPU that the driver and its kernels use: an assumption."""
SAMPLE_BYTES = 400
"""Bytes of a sample in memory beside its tokens, five bytes each."""
STEPS = 5
"""Pieces of work of a plan, beside one per trained task: prepare, index, check, trace, try out."""
HERE = "this machine's processor"
"""Its memory's name in a plan."""
SCALING = 0.9
"""Share of its own speed that each of several GPUs reaches: an assumption."""


@dataclass(frozen=True)
class Hardware:
    """What the training would be run on: GPUs of a name in planning.gpus.GPUS, the `price` of one for an hour
    in any currency, the share of its peak that it is assumed to reach, and the rank of the adapters that full
    training is compared with."""

    gpu: str = "a100-80gb"
    gpus: int = 1
    price: float | None = None
    utilisation: float = 0.3
    lora_rank: int = 16


@dataclass(frozen=True)
class Plan:
    """What `shelftalk plan` prints: plain values only. `refused` are sentences; where there are none, the
    training can begin."""

    experiment: str
    model: Mapping[str, Any]
    counted: str
    tasks: Mapping[str, Mapping[str, Any]]
    cut: Mapping[str, float]
    trie: Mapping[str, int]
    training: Mapping[str, int]
    memory: Mapping[str, Mapping[str, int]]
    """Hardware and training -> bytes by part; first one GPU, last this machine."""
    times: Sequence[Mapping[str, Any]]
    refused: Sequence[str]
    assumptions: Sequence[str]
    data: Sequence[str] = ()
    """What was read and what is kept of it, and what the data cannot support."""
    notes: Sequence[str] = ()
    """Values of the data that are not what they look like, or were not kept as they are."""

    def values(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def plan(
    experiment: Experiment, hardware: Hardware, users: int = USERS, progress: OnProgress = silent
) -> Plan:
    """Plan the training of an experiment, without training it and without a run folder.

    Raises MissingFile where the model's config or tokenizer cannot be read, and SettingsError or DataError as
    the stages do.
    """
    gpu = gpu_named(hardware.gpu)
    family(experiment)
    trained = sum(settings.weight > 0 for settings in experiment.tasks.values())
    steps = StageProgress(progress, "plan", STEPS + trained, "reading")
    with tempfile.TemporaryDirectory() as scratch:
        folder = RunFolder(Path(scratch))
        prepared = stages.prepare(folder, experiment)
        steps("indexing")
        stages.index(folder, experiment)
        planned = _plan(Run(folder, experiment), hardware, gpu, users, steps)
        notes = stages.reading_notes(prepared)
        steps.finish()
        return replace(planned, data=stages.data_sentences(prepared), notes=notes)


def backbone_to_plan(run: Run) -> Backbone:
    """A pretrained model without its weights; the nano model as it is."""
    if run.experiment.pretrained.name:
        return meta_model(run.experiment.pretrained, symbols(run))
    # a precision that is refused is reported with the other refusals
    return _trainable_backbone(run, "fp32")


def alternative_backbone(run: Run, lora_rank: int) -> Backbone | None:
    """The pretrained model with adapters of a rank where the experiment has none, and without any where it
    has them: to compare with. None for the nano model, which takes no adapters."""
    start = run.experiment.pretrained
    if not start.name:
        return None
    changes: dict[str, Any] = {"adaptation": "lora", "lora_rank": lora_rank}
    if start.adaptation == "lora":
        changes = {"adaptation": "full"}
    return meta_model(start.model_copy(update=changes), symbols(run))


def _trainable_backbone(run: Run, precision: Precision) -> Backbone:
    """A backbone with weights, to measure steps with. They are random: as fast as pretrained ones, and need
    no download."""
    experiment = run.experiment
    changes = {
        "training": experiment.training.model_copy(update={"precision": precision}),
        "pretrained": experiment.pretrained.model_copy(update={"random_weights": True}),
    }
    return new_backbone(Run(run.folder, experiment.model_copy(update=changes)))


def checkpointed(backbone: Backbone, bf16: bool, gpu: bool, batch: Sequence[Encoded], whole: Trace) -> Trace:
    """The trace of a batch with gradient checkpointing, from the one without: the inputs of all layers, and
    all that one layer keeps while it is computed again."""
    inputs = FakeBackbone(backbone, bf16, gpu, checkpointing=True).trace(batch)
    return replace(whole, kept=inputs.kept + whole.kept // _layers(backbone))


@dataclass(frozen=True)
class Batches:
    """Four `typical` batches that represent all; the `largest`, one by the length of its samples and one by
    their targets; and the `number` of all."""

    typical: Sequence[Sequence[Encoded]]
    largest: Sequence[Sequence[Encoded]]
    number: int


def typical_and_largest(samples: Sequence[Encoded], batch_tokens: int, row_tokens: int = 0) -> Batches:
    """The batches that training would make of these samples, packed in rows where `row_tokens` is above 0."""
    rows: Sequence[Encoded] = samples
    if row_tokens:
        packed = packed_rows([len(sample) for sample in samples], row_tokens)
        rows = [side_by_side([samples[position] for position in row]) for row in packed]
    batches = [[rows[position] for position in batch] for batch in length_batches(rows, batch_tokens)]
    typical = [batches[int(len(batches) * eighth / 8)] for eighth in (1, 3, 5, 7)]
    most = max(batches, key=lambda batch: sum(int(sample.bears_loss.sum()) for sample in batch))
    return Batches(typical, [batches[0], most], len(batches))


def _plan(run: Run, hardware: Hardware, gpu: Gpu, users: int, on_step: StageProgress) -> Plan:
    experiment, settings = run.experiment, run.experiment.training
    on_step("checking names and lengths")
    backbone = backbone_to_plan(run)
    check_run(run, backbone)
    counted = count_samples(run, backbone, users, lambda task: on_step(f"counting samples: {task}"))
    if not counted.samples:
        raise SettingsError(stages.no_task_to_train(run.split))
    row_tokens = 0 if backbone.declaration.encoder else settings.row_tokens
    batches = typical_and_largest(counted.samples, settings.batch_tokens, row_tokens)
    number = math.ceil(batches.number * counted.scale) * settings.epochs
    steps = math.ceil(number / settings.gradient_accumulation)
    steps = min(steps, settings.max_steps or steps)
    on_step("tracing batches")
    costs = batch_costs(backbone, batches, settings.precision != "fp32", gpu=True)
    adaptations = _adaptations(run, backbone, costs, batches, hardware.lora_rank)
    on_step("trying out steps on this machine")
    here = _here(run, backbone, counted, batches, costs)
    forward_passes = steps * settings.gradient_accumulation
    hours_here = here.seconds * settings.gradient_accumulation * steps / 3600
    return Plan(
        experiment=experiment.name,
        model=_model(experiment, backbone)
        | {f"trainable, {name}": adaptation.trained for name, adaptation in adaptations.items()},
        counted=_how_counted(counted),
        tasks={name: _task_row(count) for name, count in counted.tasks.items()},
        cut=cut_texts(run),
        trie=trie_size(run.index, backbone),
        training=_training(counted, settings.epochs, steps),
        memory=_memory(adaptations, here.memory, hardware.gpus),
        times=[
            *(
                row
                for name, adaptation in adaptations.items()
                for row in _gpu_times(name, adaptation, forward_passes, hardware, gpu)
            ),
            {"where": here.where, "training": next(iter(adaptations)), "hours": hours_here, "cost": None},
        ],
        refused=_refused(run, backbone, adaptations, hardware.gpus, gpu),
        assumptions=[*_assumptions(hardware, gpu, settings.precision), here.note],
    )


@dataclass(frozen=True)
class Adaptation:
    """How the model is trained: every weight, or adapters."""

    fit: Fit
    flops: float
    """Operations of a forward pass over a typical batch."""
    adapters: bool

    @property
    def trained(self) -> int:
        """Number of weights that are trained."""
        return sum(shape.numel() for shape in memory.trainable(self.fit.model))


def _adaptations(
    run: Run, backbone: Backbone, costs: Costs, batches: Batches, lora_rank: int
) -> dict[str, Adaptation]:
    """By name: first that of the experiment, then the alternative, where the model has one."""
    settings, start = run.experiment.training, run.experiment.pretrained

    def adaptation(model: PreTrainedModel, costs: Costs, adapters: bool) -> Adaptation:
        fit = Fit(model, settings, costs.largest, costs.largest_checkpointed, GPU_BASE)
        return Adaptation(fit, costs.flops, adapters)

    lora = start.adaptation == "lora"
    names = {False: "full", True: f"LoRA, rank {start.lora_rank if lora else lora_rank}"}
    adaptations = {names[lora]: adaptation(backbone.model, costs, lora)}
    if other := alternative_backbone(run, lora_rank):
        other_costs = batch_costs(other, batches, settings.precision != "fp32", gpu=True)
        adaptations[names[not lora]] = adaptation(other.model, other_costs, not lora)
    return adaptations


def _memory(
    adaptations: Mapping[str, Adaptation], here: memory.Memory, gpus: int
) -> dict[str, dict[str, int]]:
    """Plan.memory: on one GPU; on each of several, which share all of it, or where that cannot be, the
    batches alone; on this machine."""
    rows = {f"one GPU, {name}": adaptation.fit.memory().rows() for name, adaptation in adaptations.items()}
    if gpus > 1:
        for name, adaptation in adaptations.items():
            divided = "all divided" if adaptation.fit.shardable else "batches divided"
            rows[f"each of {gpus} GPUs, {name}, {divided}"] = adaptation.fit.each_of(gpus).rows()
    return {**rows, HERE: here.rows()}


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


def batch_costs(backbone: Backbone, batches: Batches, bf16: bool, gpu: bool) -> Costs:
    """Trace the batches, without computing them, as a GPU or this machine's processor would pad them."""
    fake = FakeBackbone(backbone, bf16, gpu)
    traced = [(batch, fake.trace(batch)) for batch in batches.largest]
    batch, largest = max(traced, key=lambda pair: pair[1].kept + pair[1].logits)
    largest_checkpointed = checkpointed(backbone, bf16, gpu, batch, largest)
    return Costs([fake.trace(batch) for batch in batches.typical], largest, largest_checkpointed)


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
    """This machine's processor: memory, seconds of a step, and how the seconds were estimated."""

    where: str
    memory: memory.Memory
    seconds: float
    note: str


def _here(run: Run, backbone: Backbone, counted: Counted, batches: Batches, costs: Costs) -> Here:
    settings = run.experiment.training
    refused = fp16_refusal(settings.precision, backbone.family, gpu=False)
    bf16 = not refused and product_type(settings.precision, backbone.family) == torch.bfloat16
    if not bf16:  # in bf16 a processor pads as a GPU does
        costs = batch_costs(backbone, batches, bf16=False, gpu=False)
    held = sum(5 * len(sample) + SAMPLE_BYTES for sample in counted.samples) * counted.scale * settings.epochs
    base = psutil.Process().memory_info().rss + int(held)
    need = Fit(backbone.model, settings, costs.largest, costs.largest_checkpointed, base).memory()
    where = f"this machine, {torch.get_num_threads()} threads of {machine.processor()}"
    if backbone.parameters <= time.SMALL and not refused:
        note = (
            "Hours on this processor are from training steps measured just now, four batches of this "
            "experiment, by processor time."
        )
        measured = _trainable_backbone(run, "bf16" if bf16 else "fp32")
        step = time.measured_step(measured, batches.typical, settings)
        return Here(where, need, step.seconds, f"{note} {time.other_work(step.busy)}".rstrip())
    rate = time.measured_rate(bf16)
    trained = sum(shape.numel() for shape in memory.trainable(backbone.model))
    passes = time.passes(settings.gradient_checkpointing, trained < backbone.parameters)
    seconds = [time.step_seconds(trace, trained, rate, passes) for trace in costs.typical]
    note = (
        "Hours on this processor are calculated from rates measured just now: "
        f"{rate.flops / 1e9:.0f} x 10^9 operations and {rate.bandwidth / 1e9:.1f} GB of memory a second, by "
        f"processor time. {time.other_work(rate.busy)}"
    )
    return Here(where, need, sum(seconds) / len(seconds), note.rstrip())


def _gpu_times(
    name: str, adaptation: Adaptation, forward_passes: int, hardware: Hardware, gpu: Gpu
) -> list[dict[str, Any]]:
    """Rows of Plan.times: on one GPU, and on all of them."""
    rows, settings = [], adaptation.fit.settings
    passes = time.passes(settings.gradient_checkpointing, adaptation.adapters)
    for gpus in sorted({1, hardware.gpus}):
        flops, peak = adaptation.flops * forward_passes * passes, gpu.peak(settings.precision)
        hours = time.gpu_seconds(flops, peak, gpus, hardware.utilisation, SCALING) / 3600
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


def _task_row(count: TaskCount) -> dict[str, Any]:
    """Figures of a task's samples; 0 tokens where it has none."""
    row: dict[str, Any] = {"samples": count.samples}
    for name, tokens in (("prompt", count.prompt), ("targets", count.targets)):
        values = tokens if len(tokens) else np.zeros(1)
        p50, p95, most = np.percentile(values, (50, 95, 100)).round().astype(int).tolist()
        row |= {f"{name} p50": p50, f"{name} p95": p95, f"{name} max": most}
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


def _how_counted(counted: Counted) -> str:
    if counted.users_counted == counted.users:
        return f"The samples of all {counted.users:,} users were counted."
    return (
        f"The samples of {counted.users_counted:,} of {counted.users:,} users were counted, drawn by seed, "
        f"and the counts scaled by {counted.scale:.2f}; a longer sample than the longest of them may exist."
    )


def _refused(
    run: Run, backbone: Backbone, adaptations: Mapping[str, Adaptation], gpus: int, gpu: Gpu
) -> list[str]:
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
    if experiment.training.row_tokens and backbone.declaration.encoder:
        sentences.append(NO_SHARED_ROWS)
    planned, *others = adaptations.values()
    with_adapters = next((other.fit for other in others if other.adapters), None)
    sentences.append(what_fits(planned.fit, gpu, gpus, with_adapters))
    return [sentence for sentence in sentences if sentence]


def _assumptions(hardware: Hardware, gpu: Gpu, precision: Precision) -> list[str]:
    scaling = f" and {SCALING:.0%} of its own speed beside others" if hardware.gpus > 1 else ""
    kind = "bf16" if precision == "auto" else precision
    return [
        f"A GPU is assumed to reach {hardware.utilisation:.0%} of its peak{scaling}; {gpu.name} has "
        f"{gpu.peak(precision):g} x 10^12 {kind} operations a second ({gpu.source}). The evaluation on the "
        "test part is not included in the hours.",
        "Activations are traced with the processor's kernels; a GPU's attention keeps less.",
        "No GPU was available where this was made: memory on them and hours are estimates. Where all is "
        "divided (launch/fsdp.yaml) each holds its share of weights, gradients and optimiser; where only "
        "batches are (launch/ddp.yaml) each holds all of them. Adapters, Adafactor and "
        "training.validation_users allow only the latter.",
    ]


def _layers(backbone: Backbone) -> int:
    config = backbone.model.config
    result: int = config.num_hidden_layers + getattr(config, "num_decoder_layers", 0)
    return result
