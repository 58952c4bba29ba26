"""Training: the transformers Trainer over a fixed order of steps, with validation, early stopping, best checkpoint, resume."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, SequentialSampler, Subset
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainerControl, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.utils import logging as transformers_logging

from shelftalk import seeds
from shelftalk.errors import SettingsError
from shelftalk.models.backbone import Backbone, Encoded
from shelftalk.models.lora import merge, trained_part
from shelftalk.models.pretrained import enable_checkpointing
from shelftalk.training.batching import StepCounts, Steps, length_batches
from shelftalk.training.checkpoints import had_stopped_early, last_complete, step_of
from shelftalk.training.settings import TrainingSettings


@dataclass(frozen=True)
class TrainingResult:
    """What a training left: the curve as rows of (step, tokens, task, part, loss per target in nats) and its totals."""

    curve: list[dict[str, Any]]
    steps: int
    best_step: int
    tokens: int
    targets: int
    stopped_early: bool
    resumed_from: int


class _ShelfTrainer(Trainer):
    """The Trainer with our loss, our order and a validation per task."""

    control: TrainerControl

    def __init__(self, backbone: Backbone, validation: Mapping[str, Sequence[Encoded]], judged_by: Sequence[str], **arguments: Any) -> None:
        super().__init__(model=trained_part(backbone.model), eval_dataset=dict(validation), **arguments)
        self.backbone = backbone
        self.validation = validation
        self.judged_by = judged_by
        counts = self.train_dataset.counts()
        self.targets_per_step = self.args.gradient_accumulation_steps * sum(count.targets for count in counts) / len(counts)
        self.model_accepts_loss_kwargs = False  # our loss is divided by what we say, not by labels that the Trainer counts

    def get_train_dataloader(self) -> DataLoader:
        loader = DataLoader(self.train_dataset, batch_size=1, sampler=SequentialSampler(self.train_dataset), collate_fn=_only)
        return self.accelerator.prepare(loader)

    def compute_loss(
        self, model: Any, inputs: dict, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        # divided by one number for all steps, so that every target weighs the same whatever batch it falls into
        loss = self.backbone.loss(inputs) / self.targets_per_step
        loss = loss * self.current_gradient_accumulation_steps  # by which the Trainer divides: the last step may have fewer batches
        if not torch.isfinite(loss):
            raise SettingsError(f"the loss is {loss.item()} at step {self.state.global_step}; lower training.learning_rate.")
        return loss

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Loss per target of each task; `eval_loss`, by which the best checkpoint is chosen, is the sum over `judged_by`."""
        losses = {task: self._mean_loss(samples) for task, samples in self.validation.items()}
        metrics = {f"eval_{task}_loss": loss for task, loss in losses.items()}
        metrics["eval_loss"] = sum(losses[task] for task in self.judged_by)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    @torch.no_grad()
    def _mean_loss(self, samples: Sequence[Encoded]) -> float:
        self.model.eval()
        total = sum(
            self.backbone.loss(self._prepare_inputs(self.backbone.collate([samples[place] for place in batch]))).item()
            for batch in length_batches(samples, 8192)
        )
        self.model.train()
        return total / sum(int(sample.bears_loss.sum()) for sample in samples)


class _Report(TrainerCallback):
    """Tells the caller (step, all steps, text) after every step, and (step, loss) after every validation."""

    def __init__(self, on_step: Callable[[int, int, str], None], on_validation: Callable[[int, float], None]) -> None:
        self.on_step = on_step
        self.on_validation = on_validation
        self.text = ""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict | None = None, **_: Any) -> None:
        named = {"loss": "loss", "eval_loss": "validation loss"}
        if known := [f"{title} {logs[key]:.3f}" for key, title in named.items() if logs and key in logs]:
            self.text = ", ".join(known)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **_: Any) -> None:
        self.on_validation(state.global_step, metrics["eval_loss"])

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.on_step(state.global_step, state.max_steps, self.text)


def train(
    backbone: Backbone,
    epochs: Sequence[Sequence[Encoded]],
    validation: Mapping[str, Sequence[Encoded]],
    folder: Path,
    settings: TrainingSettings,
    seed: int,
    on_step: Callable[[int, int, str], None] = lambda step, steps, text: None,
    on_validation: Callable[[int, float], None] = lambda step, loss: None,
) -> TrainingResult:
    """Train `backbone` in place, through `epochs` in order, and leave it with the weights of the best validation.

    Checkpoints stand in `folder`; where it holds a whole one, training continues behind it and ends as an uninterrupted run
    would have. `on_validation` hears (step, the loss that chooses the checkpoint) and may raise to end it all. Raises SettingsError
    where the loss stops being a number.
    """
    transformers_logging.disable_progress_bar()  # our own bar tells what is going on
    transformers_logging.set_verbosity_error()  # it warns that tied output embeddings are not in a checkpoint, which is as it should be
    judged_by = [task for task in settings.judged_by if task in validation]
    if not judged_by:
        raise SettingsError(f"training.judged_by names no task that is validated; choose among {', '.join(validation)}.")
    steps = Steps(backbone, epochs, settings.batch_tokens, seed, settings.row_tokens)
    accumulated = settings.gradient_accumulation
    whole = math.ceil(len(steps) / accumulated)
    number = min(whole, settings.max_steps or whole)
    checkpoint = last_complete(folder)
    trainer = _ShelfTrainer(
        backbone,
        validation,
        judged_by,
        args=_arguments(folder, settings, number, seed, backbone.fp16),
        train_dataset=steps,
        callbacks=[EarlyStoppingCallback(settings.patience), _Report(on_step, on_validation)],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    if checkpoint and had_stopped_early(checkpoint, settings.patience):
        trainer.args.max_steps = step_of(checkpoint)  # it ended here: no step is left, and only the best weights are loaded
        trainer.train_dataset = Subset(steps, range(min(len(steps), accumulated * step_of(checkpoint))))
    if settings.gradient_checkpointing:
        enable_checkpointing(backbone.model)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    merge(backbone.model)
    backbone.model.eval()
    return _result(trainer, _by_step(steps.counts(), accumulated), number, step_of(checkpoint) if checkpoint else 0)


def _by_step(counts: Sequence[StepCounts], accumulated: int) -> list[StepCounts]:
    """What each step reads: the sums over the batches that are accumulated."""
    groups = [counts[start : start + accumulated] for start in range(0, len(counts), accumulated)]
    return [StepCounts(sum(c.tokens for c in g), sum(c.targets for c in g), sum(c.padded for c in g)) for g in groups]


def _arguments(folder: Path, settings: TrainingSettings, steps: int, seed: int, fp16: bool) -> TrainingArguments:
    every = max(1, math.ceil(steps / settings.validations))
    return TrainingArguments(
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
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
        seed=seeds.number(seed, "training") % 2**31,
        use_cpu=not torch.cuda.is_available(),
    )


def _result(trainer: _ShelfTrainer, counts: Sequence[StepCounts], steps: int, resumed: int) -> TrainingResult:
    taken = trainer.state.global_step
    read = list(itertools.accumulate((count.tokens for count in counts[:taken]), initial=0))
    spoken = list(itertools.accumulate((count.targets for count in counts[:taken]), initial=0))
    curve: list[dict[str, Any]] = []
    logged = 0
    for row in trainer.state.log_history:
        place = {"step": row["step"], "tokens": read[row["step"]]}
        if "loss" in row:
            steps_since, targets_since = row["step"] - logged, max(1, spoken[row["step"]] - spoken[logged])
            nats = row["loss"] * trainer.targets_per_step * steps_since  # the Trainer logs the mean of steps, of unlike many targets
            curve.append({**place, "task": "all", "part": "training", "loss": nats / targets_since})
            logged = row["step"]
        for key, value in row.items():
            if key.startswith("eval_") and key.endswith("_loss"):
                curve.append({**place, "task": key[len("eval_") : -len("_loss")] or "all", "part": "validation", "loss": value})
    best = trainer.state.best_global_step or taken
    return TrainingResult(curve, taken, best, read[-1], spoken[-1], taken < steps, resumed)


def _only(batches: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return batches[0]
