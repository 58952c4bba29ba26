"""How long and how fast the model learns. Length is counted in epochs or steps, never by the clock."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Annotated, Literal

from pydantic import Field, model_validator

from shelftalk.errors import SettingsError
from shelftalk.models.settings import Precision
from shelftalk.settings import Role, Settings

Tracker = Literal["tensorboard", "mlflow", "wandb"]
BY_LOSS = "loss"
"""The value of `best_by` for the validation loss."""
_BUDGETED = Role(tunable=False, why="tuning.tokens replaces it", budgeted=True)


class TeacherSettings(Settings):
    """A baseline's expectations after every training history, taught beside the item taken (distillation)."""

    role = Role(stages=("write",), tunable=True)
    model: str = ""
    """A baseline that scores every item, such as "item_knn"; "": no teacher."""
    weight: Annotated[float, Role(stages=("train",))] = Field(0.4, gt=0, lt=1)
    """Share of the target of each next-item token that is the teacher's; the item taken has the rest."""
    temperature: Annotated[float, Role(stages=("train",))] = Field(1.0, gt=0)
    """The teacher's scores count to the power of 1 over this: above 1 its items become more alike."""
    items: int = Field(50, ge=1)
    """The teacher's best items that are kept for each training event."""
    folds: int = Field(5, ge=2)
    """Parts of the users; each is taught by a teacher that was fitted without it."""


class TrainingSettings(Settings):
    """Fine-tuning over the mixture."""

    role = Role(stages=("train",), tunable=True)
    epochs: Annotated[int, Role(stages=("write", "train")).within(_BUDGETED)] = Field(4, ge=1)
    """Epochs of the mixture, each with fresh templates, windows, masks and negatives."""
    max_steps: Annotated[int, _BUDGETED] = Field(0, ge=0)
    """Stop after this many steps; 0: after the epochs."""
    batch_tokens: int = Field(4096, ge=64)
    """Tokens read at once, padding included."""
    row_tokens: int = Field(0, ge=0)
    """Short samples share rows of so many tokens, each attending to itself alone (decoder-only); 0: a row for
    each sample, next to others of like length, which is faster on a processor."""
    gradient_accumulation: int = Field(1, ge=1)
    """Batches whose gradients are added up to one step, for a large step on a small memory."""
    gradient_checkpointing: bool = False
    """Keep only the input of each layer and compute the rest again in the backward pass: about a third
    slower, far less memory."""
    optimizer: Literal["adamw", "adafactor"] = "adamw"
    """AdamW keeps two numbers for each weight, Adafactor one for each row and column of a matrix (Shazeer and
    Stern, ICML 2018)."""
    learning_rate: float = Field(3e-3, gt=0)
    """Highest learning rate; it rises over `warmup` and falls linearly to zero."""
    warmup: float = Field(0.05, ge=0, lt=1)
    """Share of the steps over which the learning rate rises."""
    weight_decay: float = Field(0.1, ge=0)
    """Share of each weight that is taken away in a step, times the learning rate."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients longer than this are shortened to it."""
    validations: Annotated[int, Role(tunable=False, why="trials are compared at the same validations")] = (
        Field(8, ge=1)
    )
    """How often the model is validated, and a checkpoint written, evenly over the training."""
    validation_samples: Annotated[
        int,
        Role(("write", "train"), tunable=False, why="trials are compared on the same validation samples"),
    ] = Field(500, ge=1)
    """Validation samples per served task, drawn once by seed."""
    judged_by: Annotated[tuple[str, ...], Role(tunable=False, why="trials are compared by the same loss")] = (
        Field(("retrieval", "rating"), min_length=1)
    )
    """Served tasks whose validation losses, summed, choose the best checkpoint and stop training early; one
    that is not trained (weight 0) counts only where none of them is. Ranking is not among them since
    candidates are scored after the retrieval prompt (decoding.ranking_prompt)."""
    validation_users: int = Field(0, ge=0)
    """Users whose lists are made at every validation, on the validation part and drawn once by seed:
    recommendation quality beside the loss; 0: none. It costs what `shelftalk recommend` costs for so
    many users."""
    best_by: str = BY_LOSS
    """What chooses the best checkpoint and stops training early: "loss", or a metric of retrieval such as
    "ndcg@10", which needs `validation_users`."""
    patience: Annotated[
        int, Role(tunable=False, why="every trial reads all of tuning.tokens", budgeted=True)
    ] = Field(3, ge=1)
    """Validations in a row without a new best after which training stops early."""
    precision: Precision = "auto"
    """What matrix products are computed in; auto: bf16 where the processor or GPU has it in hardware,
    else fp32. Weights are fp32 in any case. fp16 needs a GPU and is refused for T5, whose activations
    overflow it."""
    trackers: Annotated[tuple[Tracker, ...], Role(stages=())] = ("tensorboard",)
    """Trackers that record the curve during a training: "tensorboard" in the run's folder, "mlflow"
    and "wandb" where their own environment variables name; (): none. May change in a folder that holds
    a training."""

    @model_validator(mode="after")
    def _quality_is_measured(self) -> TrainingSettings:
        if self.best_by != BY_LOSS and not self.validation_users:
            raise ValueError(
                f'best_by = "{self.best_by}" is measured on lists of validation users; set '
                "training.validation_users = 200 or so"
            )
        return self


def refused_where_spread(settings: TrainingSettings, adapters: bool) -> str:
    """Why such a training cannot run where weights are spread over processes (FSDP, DeepSpeed), in a sentence
    with the remedy; "" where it can."""
    refusals: list[tuple[str, str]] = []
    if adapters:
        refusals += [("adapters cannot be trained", 'pretrained.adaptation = "full"')]
    if settings.validation_users > 0:
        refusals += [("lists cannot be made during the training", "training.validation_users = 0")]
    if settings.optimizer == "adafactor":
        refusals += [("Adafactor cannot sum whole rows", 'training.optimizer = "adamw"')]
    if not refusals:
        return ""
    reasons, changes = (" and ".join(words) for words in zip(*refusals, strict=True))
    return (
        f"where weights are spread over processes (FSDP, DeepSpeed), {reasons}; set {changes}, or start it "
        "with torchrun alone."
    )


def check_trackers(trackers: Iterable[Tracker]) -> None:
    """Raises SettingsError for a tracker whose package is not installed."""
    for name in trackers:
        package = find_spec(name)
        # a folder of that name, which some trackers write, is found too, without an origin
        if package is None or package.origin is None:
            raise SettingsError(
                f'training.trackers names "{name}", which is not installed; run `pip install {name}` or take '
                "it out of the list."
            )
