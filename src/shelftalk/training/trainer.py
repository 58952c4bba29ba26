"""Training: the transformers Trainer over a fixed order of steps, with validation, early stopping, best
checkpoint, resume.

Several processes divide the rows of every batch among themselves, so that a step reads the same samples on
any number of devices. What wraps the model to bring their gradients together (DDP, FSDP, DeepSpeed) must see
a forward pass: the model is made to answer a batch with its loss.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, SequentialSampler, Subset
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.utils import logging as transformers_logging

from shelftalk import seeds
from shelftalk.errors import SettingsError
from shelftalk.models.backbone import Backbone
from shelftalk.models.lora import has_adapters, merge, trained_part
from shelftalk.models.pretrained import enable_checkpointing, from_random_weights
from shelftalk.models.text_encoder import Encoded
from shelftalk.runtime.distributed import World, world
from shelftalk.training.batching import StepCounts, Steps, length_batches, share_of
from shelftalk.training.checkpoints import check_kind, had_stopped_early, last_complete, seal, step_of
from shelftalk.training.memory import freed_memory_kept
from shelftalk.training.quality import Quality, quality_of
from shelftalk.training.settings import BY_LOSS, TrainingSettings, refused_where_spread
from shelftalk.training.trackers import by_name, own_callbacks

OnValidation = Callable[[int, Mapping[str, float]], None]
"""(steps done, metrics of the validation: "loss" is summed over the tasks that judge, "TASK_loss" nats per
target, others quality)"""
_SHOWN = "ndcg@10"  # the metric that the progress line shows where the loss chooses
_TOLD = ("loss", "learning_rate", "grad_norm")


@dataclass(frozen=True)
class TrainingResult:
    """What a training left: the curve as rows of (step, tokens, task, part, loss per target in nats),
    recommendation quality on the validation part as rows of (step, tokens, metric, value), and its totals."""

    curve: list[dict[str, Any]]
    quality: list[dict[str, Any]]
    steps: int
    best_step: int
    tokens: int
    targets: int
    stopped_early: bool
    resumed_from: int


class _ShelfTrainer(Trainer):
    """The Trainer with our loss, our order and a validation per task."""

    control: TrainerControl

    def __init__(
        self,
        backbone: Backbone,
        validation: Mapping[str, Sequence[Encoded]],
        judged_by: Sequence[str],
        quality: Quality | None,
        processes: World,
        **arguments: Any,
    ) -> None:
        super().__init__(model=trained_part(backbone.model), eval_dataset=dict(validation), **arguments)
        self.backbone = backbone
        self.processes = processes
        self.validation = validation
        self.judged_by = judged_by
        self.quality = quality
        counts = self.train_dataset.counts()
        self.targets_per_step = (
            self.args.gradient_accumulation_steps * sum(count.targets for count in counts) / len(counts)
        )
        steps = _by_step(counts, self.args.gradient_accumulation_steps)
        self.tokens_read = list(
            itertools.accumulate((step.tokens for step in steps), initial=0)
        )  # behind each step
        self.targets_read = list(itertools.accumulate((step.targets for step in steps), initial=0))
        self.model_accepts_loss_kwargs = (
            False  # our loss is divided by what we say, not by labels that the Trainer counts
        )

    def get_train_dataloader(self) -> DataLoader:
        # not prepared by accelerate, which would hand each process other steps: a step is divided where it is
        # collated
        return DataLoader(
            self.train_dataset, batch_size=1, sampler=SequentialSampler(self.train_dataset), collate_fn=_only
        )

    def compute_loss(
        self, model: Any, inputs: dict, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        # divided by one number for all steps, so that every target weighs the same whatever batch it falls
        # into; times the number of processes, by which their gradients are divided when they are brought
        # together
        loss = model(batch=inputs) * self.processes.size / self.targets_per_step
        loss = (
            loss * self.current_gradient_accumulation_steps
        )  # by which the Trainer divides: the last step may have fewer batches
        if not torch.isfinite(loss):
            raise SettingsError(
                f"the loss is {loss.item()} at step {self.state.global_step}; lower training.learning_rate."
            )
        return loss

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Loss per target of each task; `eval_loss` is the sum over `judged_by`. Beside them the metrics of
        recommendation quality."""
        losses = {task: self._mean_loss(samples) for task, samples in self.validation.items()}
        metrics = {f"eval_{task}_loss": loss for task, loss in losses.items()}
        metrics["eval_loss"] = sum(losses[task] for task in self.judged_by)
        metrics |= {
            f"eval_{name}": value for name, value in quality_of(self.backbone.model, self.quality).items()
        }
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The curve as the report draws it, for the history and for every tracker; the Trainer's own sums at
        the end are left out."""
        told = {name: value for name, value in logs.items() if name in _TOLD or name.startswith("eval_")}
        if not told:
            return
        step = self.state.global_step
        if "loss" in told:  # the Trainer logs the mean of steps, of unlike many targets
            before = max((row["step"] for row in self.state.log_history if "loss" in row), default=0)
            nats = told["loss"] * self.targets_per_step * (step - before)
            told |= {
                "loss": nats / max(1, self.targets_read[step] - self.targets_read[before]),
                "tokens": self.tokens_read[step],
            }
        self.state.log_history.append({**told, "step": step})
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, told)

    def _save_rng_state(self, output_dir: str) -> None:
        """Each process writes its own; the file by which a checkpoint counts as whole comes when all have."""
        super()._save_rng_state(output_dir)
        self.processes.barrier()

    @torch.no_grad()
    def _mean_loss(self, samples: Sequence[Encoded]) -> float:
        self.model.eval()
        batches = ([samples[position] for position in batch] for batch in length_batches(samples, 8192))
        shares = (self._prepare_inputs(share_of(batch, self.backbone, self.processes)) for batch in batches)
        total = sum(self.model_wrapped(batch=share).item() for share in shares)
        self.model.train()
        return sum(self.processes.all_gather(total)) / sum(int(sample.bears_loss.sum()) for sample in samples)


class _Report(TrainerCallback):
    """Tells the caller (step, all steps, text) after every step, and (step, metrics) after every
    validation."""

    def __init__(
        self, on_step: Callable[[int, int, str], None], steps: int, on_validation: OnValidation, best_by: str
    ) -> None:
        self.on_step = on_step
        self.steps = steps
        self.on_validation = on_validation
        self.shown = _SHOWN if best_by == BY_LOSS else best_by
        self.text = ""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict | None = None, **_: Any) -> None:
        named = {
            "loss": "loss",
            "eval_loss": "validation loss",
            f"eval_{self.shown}": f"validation {self.shown}",
        }
        if known := [f"{title} {logs[key]:.3f}" for key, title in named.items() if logs and key in logs]:
            self.text = ", ".join(known)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **_: Any) -> None:
        self.on_validation(
            state.global_step, {name.removeprefix("eval_"): value for name, value in metrics.items()}
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_log |= control.should_save  # a curve that is continued goes on where it was cut
        self.on_step(state.global_step, self.steps, self.text)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step < self.steps:
            self.on_step(self.steps, self.steps, f"stopped early, after step {state.global_step}")


class _Seal(TrainerCallback):
    """Seals every checkpoint; not where there are several processes, since others may be writing to it
    still."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")


def train(
    backbone: Backbone,
    epochs: Sequence[Sequence[Encoded]],
    validation: Mapping[str, Sequence[Encoded]],
    folder: Path,
    settings: TrainingSettings,
    seed: int,
    on_step: Callable[[int, int, str], None] = lambda step, steps, text: None,
    on_validation: OnValidation = lambda step, metrics: None,
    quality: Quality | None = None,
    tracking: Path | None = None,
) -> TrainingResult:
    """Train `backbone` in place, through `epochs` in order, and leave it with the weights of the best
    validation.

    Checkpoints stand in `folder`; where it holds a whole one, training continues behind it and ends as an
    uninterrupted run would have. `on_validation` hears (step, metrics: "loss", each task's and those of
    `quality`) and may raise to end it all. `quality` is asked at every validation; it changes nothing that is
    learnt. `settings.trackers` are told where `tracking` says in which folder TensorBoard's files go, and of
    several processes by the first. Raises SettingsError where the loss stops being a number, and where
    `settings.best_by` names a metric and nothing measures it; ChangedFile where a checkpoint was damaged.
    """
    if settings.best_by != BY_LOSS and quality is None:
        raise SettingsError(
            f'no lists are made in this training to choose by; set training.best_by = "{BY_LOSS}".'
        )
    transformers_logging.disable_progress_bar()  # our own bar tells what is going on
    transformers_logging.set_verbosity_error()  # it warns that tied output embeddings are not in a checkpoint, which is as it should be
    judged_by = [task for task in settings.judged_by if task in validation]
    if not judged_by:
        raise SettingsError(
            f"training.judged_by names no task that is validated; choose among {', '.join(validation)}."
        )
    processes = world()
    steps = Steps(backbone, epochs, settings.batch_tokens, seed, settings.row_tokens, processes)
    accumulated = settings.gradient_accumulation
    whole = math.ceil(len(steps) / accumulated)
    number = min(whole, settings.max_steps or whole)
    with processes.main_process_first():
        checkpoint = last_complete(folder)
    trainer = _ShelfTrainer(
        backbone,
        validation,
        judged_by,
        quality,
        processes,
        args=_arguments(folder, settings, number, seed, backbone.fp16, tracking),
        train_dataset=steps,
        callbacks=[
            EarlyStoppingCallback(settings.patience),
            _Report(on_step, number, on_validation, settings.best_by),
            *([_Seal()] if processes.size == 1 else []),
            *(own_callbacks(settings.trackers, tracking) if tracking else []),
        ],
    )
    if _is_sharded(trainer) and (refusal := refused_where_spread(settings, has_adapters(backbone.model))):
        raise SettingsError(refusal)
    on_step(step_of(checkpoint) if checkpoint else 0, number, "")
    if checkpoint:
        check_kind(checkpoint, _is_sharded(trainer))
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    if checkpoint and (had_stopped_early(checkpoint, settings.patience) or step_of(checkpoint) >= number):
        trainer.args.max_steps = step_of(
            checkpoint
        )  # it ended here: no step is left, and only the best weights are loaded
        trainer.train_dataset = Subset(steps, range(min(len(steps), accumulated * step_of(checkpoint))))
    if settings.gradient_checkpointing:
        enable_checkpointing(backbone.model)
    with freed_memory_kept(), _answering_with_its_loss(backbone):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if _is_sharded(trainer):
            backbone.model = _whole_model(trainer)
    merge(backbone.model)
    backbone.model.eval()
    return _result(trainer, number, step_of(checkpoint) if checkpoint else 0)


@contextmanager
def _answering_with_its_loss(backbone: Backbone) -> Iterator[None]:
    """Inside, what is trained can be called with `batch=`: the loss of a batch (see Backbone.loss) as a
    forward pass."""
    trained = trained_part(backbone.model)
    plain = trained.forward

    def forward(*given: Any, batch: dict[str, torch.Tensor] | None = None, **named: Any) -> Any:
        return plain(*given, **named) if batch is None else backbone.loss(batch)

    trained.forward = forward
    try:
        yield
    finally:
        trained.__dict__.pop("forward", None)


def _is_sharded(trainer: Trainer) -> bool:
    """Whether no process holds all weights."""
    return trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled


def _whole_model(trainer: _ShelfTrainer) -> PreTrainedModel:
    """The first process gets a plain model of the weights that all hold a part of; the others keep what they
    have."""
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if not trainer.processes.is_main:
        return trainer.backbone.model
    model = from_random_weights(trainer.backbone.model.config)
    model.load_state_dict(weights)
    return model


def _by_step(counts: Sequence[StepCounts], accumulated: int) -> list[StepCounts]:
    """What each step reads: the sums over the batches that are accumulated."""
    groups = [counts[start : start + accumulated] for start in range(0, len(counts), accumulated)]
    return [
        StepCounts(sum(c.tokens for c in g), sum(c.targets for c in g), sum(c.padded for c in g))
        for g in groups
    ]


def _arguments(
    folder: Path, settings: TrainingSettings, steps: int, seed: int, fp16: bool, tracking: Path | None
) -> TrainingArguments:
    every = max(1, math.ceil(steps / settings.validations))
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=1,  # a step of ours is a whole batch
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=round(steps * settings.warmup),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        adam_beta2=0.98,
        optim={"adamw": "adamw_torch_fused", "adafactor": "adafactor"}[settings.optimizer],
        gradient_accumulation_steps=settings.gradient_accumulation,
        fp16=fp16,  # for its loss scaling; bf16 needs none
        logging_steps=max(1, every // 8),
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=True,
        restore_callback_states_from_checkpoint=True,  # how much of the patience is used up
        metric_for_best_model=f"eval_{settings.best_by}",
        greater_is_better=settings.best_by != BY_LOSS,
        remove_unused_columns=False,
        report_to=by_name(settings.trackers) if tracking else [],
        run_name=tracking.parent.name if tracking else None,
        disable_tqdm=True,
        seed=seeds.number(seed, "training") % 2**31,
        ddp_find_unused_parameters=False,
        log_level_replica="error",
        use_cpu=not torch.cuda.is_available(),
    )
    if (
        arguments.n_gpu > 1
    ):  # one process uses one device: the Trainer would cut our batches up among all that it sees
        arguments._n_gpu = 1
    return arguments


def _result(trainer: _ShelfTrainer, steps: int, resumed: int) -> TrainingResult:
    taken, curve, quality = trainer.state.global_step, list[dict[str, Any]](), list[dict[str, Any]]()
    for row in trainer.state.log_history:
        position = {"step": row["step"], "tokens": trainer.tokens_read[row["step"]]}
        if "loss" in row:
            curve.append({**position, "task": "all", "part": "training", "loss": row["loss"]})
        keys = {**{f"eval_{task}_loss": task for task in trainer.validation}, "eval_loss": "all"}
        curve += [
            {**position, "task": task, "part": "validation", "loss": row[key]}
            for key, task in keys.items()
            if key in row
        ]
        asked = sorted(
            key for key in row if key.startswith("eval_") and not key.endswith("loss")
        )  # a kept state is in no order
        quality += [{**position, "metric": key.removeprefix("eval_"), "value": row[key]} for key in asked]
    best = trainer.state.best_global_step or taken
    read, spoken = trainer.tokens_read[taken], trainer.targets_read[taken]
    return TrainingResult(curve, quality, taken, best, read, spoken, taken < steps, resumed)


def _only(batches: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return batches[0]
