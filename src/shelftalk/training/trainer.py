"""Training: the transformers Trainer over a fixed order of steps, with validation, early stopping, best
checkpoint, resume.

Several processes divide the rows of every batch among themselves, so that a step reads the same samples on
any number of devices. The wrappers that reduce their gradients (DDP, FSDP, DeepSpeed) need the loss to come
from a forward pass of the model: `_forward_gives_loss` makes it one.
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
from shelftalk.models.lora import has_adapters, merge, module_to_train
from shelftalk.models.pretrained import enable_checkpointing, from_random_weights
from shelftalk.models.text_encoder import Encoded
from shelftalk.runtime.distributed import World, world
from shelftalk.training.batching import StepCounts, Steps, length_batches, share_of
from shelftalk.training.checkpoints import (
    check_sharding,
    had_stopped_early,
    last_complete,
    step_of,
    write_hashes,
)
from shelftalk.training.memory import freed_memory_kept
from shelftalk.training.quality import MeasureQuality, measured_quality
from shelftalk.training.settings import BY_LOSS, TrainingSettings, refused_where_spread
from shelftalk.training.trackers import by_name, own_callbacks

OnValidation = Callable[[int, Mapping[str, float]], None]
"""Called with the steps done and the metrics of a validation: "loss", summed over `judged_by`; "TASK_loss" in
nats per target; the others are recommendation quality."""
_SHOWN_METRIC = "ndcg@10"  # the one that the progress line shows where the loss chooses
_LOGGED = ("loss", "learning_rate", "grad_norm")


@dataclass(frozen=True)
class TrainingResult:
    """The curve as rows of (step, tokens, task, part, loss per target in nats), recommendation quality on the
    validation part as rows of (step, tokens, metric, value), and the totals of a training."""

    curve: list[dict[str, Any]]
    quality: list[dict[str, Any]]
    steps: int
    best_step: int
    tokens: int
    targets: int
    stopped_early: bool
    resumed_from: int


class _ShelfTrainer(Trainer):  # type: ignore[misc]
    """The Trainer with our loss, our order and a validation per task."""

    control: TrainerControl

    def __init__(
        self,
        backbone: Backbone,
        validation: Mapping[str, Sequence[Encoded]],
        judged_by: Sequence[str],
        quality: MeasureQuality | None,
        processes: World,
        **arguments: Any,
    ) -> None:
        super().__init__(model=module_to_train(backbone.model), eval_dataset=dict(validation), **arguments)
        self.backbone = backbone
        self.processes = processes
        self.validation = validation
        self.judged_by = judged_by
        self.quality = quality
        counts, accumulated = self.train_dataset.counts(), self.args.gradient_accumulation_steps
        self.targets_per_step = accumulated * sum(count.targets for count in counts) / len(counts)
        steps = _by_step(counts, accumulated)
        # [steps + 1] read after each step
        self.tokens_read = list(itertools.accumulate((step.tokens for step in steps), initial=0))
        self.targets_read = list(itertools.accumulate((step.targets for step in steps), initial=0))
        # our loss is divided in compute_loss, not by the number of labels that the Trainer counts
        self.model_accepts_loss_kwargs = False

    def get_train_dataloader(self) -> DataLoader[Any]:
        # not prepared by accelerate, which would give each process other steps: `Steps` divides each step
        steps = self.train_dataset
        return DataLoader(steps, batch_size=1, sampler=SequentialSampler(steps), collate_fn=_only)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        # Divided by one number for all steps, so that every target has the same weight in any batch; times
        # the number of processes, by which the reduction of their gradients divides.
        loss = model(batch=inputs) * self.processes.size / self.targets_per_step
        # The Trainer divides by this number, which is smaller where the last step has fewer batches.
        loss = loss * self.current_gradient_accumulation_steps
        if not torch.isfinite(loss):
            raise SettingsError(
                f"the loss is {loss.item()} at step {self.state.global_step}; lower training.learning_rate."
            )
        result: torch.Tensor = loss
        return result

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Loss per target of each task; `eval_loss` is the sum over `judged_by`. Beside them the metrics of
        recommendation quality."""
        losses = {task: self._mean_loss(samples) for task, samples in self.validation.items()}
        metrics = {f"eval_{task}_loss": loss for task, loss in losses.items()}
        metrics["eval_loss"] = sum(losses[task] for task in self.judged_by)
        quality = measured_quality(self.backbone.model, self.quality)
        metrics |= {f"eval_{name}": value for name, value in quality.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The curve as the report draws it, for the history and for every tracker; the Trainer's own sums at
        the end are left out."""
        logged = {name: value for name, value in logs.items() if name in _LOGGED or name.startswith("eval_")}
        if not logged:
            return
        step = self.state.global_step
        if "loss" in logged:  # the Trainer's is the mean over steps, which differ in their numbers of targets
            before = max((row["step"] for row in self.state.log_history if "loss" in row), default=0)
            nats = logged["loss"] * self.targets_per_step * (step - before)
            logged["loss"] = nats / max(1, self.targets_read[step] - self.targets_read[before])
            logged["tokens"] = self.tokens_read[step]
        self.state.log_history.append({**logged, "step": step})
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, logged)

    def _save_rng_state(self, output_dir: str) -> None:
        """Each process writes its own; the file that marks a checkpoint as complete is written
        when all have."""
        super()._save_rng_state(output_dir)
        self.processes.barrier()

    @torch.no_grad()
    def _mean_loss(self, samples: Sequence[Encoded]) -> float:
        self.model.eval()
        batches = ([samples[position] for position in batch] for batch in length_batches(samples, 8192))
        shares = (self._prepare_inputs(share_of(batch, self.backbone, self.processes)) for batch in batches)
        total = sum(self.model_wrapped(batch=share).item() for share in shares)
        self.model.train()
        result: float = sum(self.processes.all_gather(total)) / sum(
            int(sample.bears_loss.sum()) for sample in samples
        )
        return result


class _ProgressCallback(TrainerCallback):  # type: ignore[misc]
    """Calls `on_step` with (step, all steps, text) after every step, and `on_validation` with
    (step, metrics)."""

    def __init__(
        self, on_step: Callable[[int, int, str], None], steps: int, on_validation: OnValidation, best_by: str
    ) -> None:
        self.on_step = on_step
        self.steps = steps
        self.on_validation = on_validation
        self.shown = _SHOWN_METRIC if best_by == BY_LOSS else best_by
        self.text = ""

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        named = {
            "loss": "loss",
            "eval_loss": "validation loss",
            f"eval_{self.shown}": f"validation {self.shown}",
        }
        if shown := [f"{title} {logs[key]:.3f}" for key, title in named.items() if logs and key in logs]:
            self.text = ", ".join(shown)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **_: Any) -> None:
        values = {name.removeprefix("eval_"): value for name, value in metrics.items()}
        self.on_validation(state.global_step, values)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_log |= control.should_save  # so that the curve of a resumed training has no gap
        self.on_step(state.global_step, self.steps, self.text)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step < self.steps:
            self.on_step(self.steps, self.steps, f"stopped early, after step {state.global_step}")


class _HashCheckpoints(TrainerCallback):  # type: ignore[misc]
    """Writes the hashes of every checkpoint; for one process alone, since others may still be
    writing to it."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        write_hashes(Path(args.output_dir) / f"checkpoint-{state.global_step}")


def train(
    backbone: Backbone,
    epochs: Sequence[Sequence[Encoded]],
    validation: Mapping[str, Sequence[Encoded]],
    folder: Path,
    settings: TrainingSettings,
    seed: int,
    on_step: Callable[[int, int, str], None] = lambda step, steps, text: None,
    on_validation: OnValidation = lambda step, metrics: None,
    quality: MeasureQuality | None = None,
    tracking: Path | None = None,
) -> TrainingResult:
    """Train `backbone` in place, through `epochs` in order, and leave it with the weights of the
    best validation.

    Checkpoints are written to `folder`; where it holds a complete one, training continues from it and ends as
    an uninterrupted run would have. `on_step` and `on_validation` (see OnValidation) are called for progress;
    the latter may raise to end the training. `quality` is measured at every validation, without an effect on
    what is learnt. `settings.trackers` are used where `tracking` is given, the folder of TensorBoard's files,
    and of several processes by the first. Raises SettingsError where the loss is not finite, and where
    `settings.best_by` names a metric and `quality` is None; ChangedFile where a checkpoint was damaged.
    """
    if settings.best_by != BY_LOSS and quality is None:
        raise SettingsError(
            f'no lists are made in this training to choose by; set training.best_by = "{BY_LOSS}".'
        )
    transformers_logging.disable_progress_bar()  # `on_step` reports progress
    # it warns that tied output embeddings are not in a checkpoint, where they need not be
    transformers_logging.set_verbosity_error()
    judged_by = [task for task in settings.judged_by if task in validation]
    if not judged_by:
        raise SettingsError(
            f"training.judged_by names no task that is validated; choose among {', '.join(validation)}."
        )
    processes = world()
    steps = Steps(backbone, epochs, settings.batch_tokens, seed, settings.row_tokens, processes)
    accumulated = settings.gradient_accumulation
    steps_of_epochs = math.ceil(len(steps) / accumulated)
    number = min(steps_of_epochs, settings.max_steps or steps_of_epochs)
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
            _ProgressCallback(on_step, number, on_validation, settings.best_by),
            *([_HashCheckpoints()] if processes.size == 1 else []),
            *(own_callbacks(settings.trackers, tracking) if tracking else []),
        ],
    )
    if _is_sharded(trainer) and (refusal := refused_where_spread(settings, has_adapters(backbone.model))):
        raise SettingsError(refusal)
    resumed_from = step_of(checkpoint) if checkpoint else 0
    on_step(resumed_from, number, "")
    if checkpoint:
        check_sharding(checkpoint, _is_sharded(trainer))
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    if checkpoint and (had_stopped_early(checkpoint, settings.patience) or resumed_from >= number):
        # The training ended here: no step is left, and the Trainer loads the best weights alone.
        trainer.args.max_steps = resumed_from
        trainer.train_dataset = Subset(steps, range(min(len(steps), accumulated * resumed_from)))
    if settings.gradient_checkpointing:
        enable_checkpointing(backbone.model)
    with freed_memory_kept(), _forward_gives_loss(backbone):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if _is_sharded(trainer):
            backbone.model = _whole_model(trainer)
    merge(backbone.model)
    backbone.model.eval()
    return _result(trainer, number, resumed_from)


@contextmanager
def _forward_gives_loss(backbone: Backbone) -> Iterator[None]:
    """Inside, the trained module called with `batch=` returns the loss of the batch (see Backbone.loss)."""
    module = module_to_train(backbone.model)
    plain = module.forward

    def forward(*args: Any, batch: dict[str, torch.Tensor] | None = None, **kwargs: Any) -> Any:
        return plain(*args, **kwargs) if batch is None else backbone.loss(batch)

    module.forward = forward
    try:
        yield
    finally:
        module.__dict__.pop("forward", None)


def _is_sharded(trainer: Trainer) -> bool:
    """Whether no process holds all weights."""
    result: bool = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    return result


def _whole_model(trainer: _ShelfTrainer) -> PreTrainedModel:
    """In the first process a plain model of the weights that all hold a part of; in the others the model that
    they have."""
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if not trainer.processes.is_main:
        return trainer.backbone.model
    model = from_random_weights(trainer.backbone.model.config)
    model.load_state_dict(weights)
    return model


def _by_step(counts: Sequence[StepCounts], accumulated: int) -> list[StepCounts]:
    """What each step reads: the sums over the batches that are accumulated."""
    steps = [counts[start : start + accumulated] for start in range(0, len(counts), accumulated)]
    return [
        StepCounts(sum(c.tokens for c in step), sum(c.targets for c in step), sum(c.padded for c in step))
        for step in steps
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
        restore_callback_states_from_checkpoint=True,  # of EarlyStoppingCallback: validations without a best
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
    # one process uses one device: the Trainer would divide our batches among all that it sees
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments


def _result(trainer: _ShelfTrainer, steps: int, resumed_from: int) -> TrainingResult:
    last, curve, quality = trainer.state.global_step, list[dict[str, Any]](), list[dict[str, Any]]()
    loss_keys = {**{f"eval_{task}_loss": task for task in trainer.validation}, "eval_loss": "all"}
    for row in trainer.state.log_history:
        at = {"step": row["step"], "tokens": trainer.tokens_read[row["step"]]}
        if "loss" in row:
            curve.append({**at, "task": "all", "part": "training", "loss": row["loss"]})
        for key, task in loss_keys.items():
            if key in row:
                curve.append({**at, "task": task, "part": "validation", "loss": row[key]})
        # sorted, since a state that was saved and loaded has lost the order
        for key in sorted(key for key in row if key.startswith("eval_") and not key.endswith("loss")):
            quality.append({**at, "metric": key.removeprefix("eval_"), "value": row[key]})
    return TrainingResult(
        curve=curve,
        quality=quality,
        steps=last,
        best_step=trainer.state.best_global_step or last,
        tokens=trainer.tokens_read[last],
        targets=trainer.targets_read[last],
        stopped_early=last < steps,
        resumed_from=resumed_from,
    )


def _only(batches: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return batches[0]
