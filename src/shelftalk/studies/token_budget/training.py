"""Training on a budget of tokens: which samples it reads, how it is validated, and what it cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shelftalk.pipeline import stages
from shelftalk.pipeline.fine_tuning import encoder
from shelftalk.pipeline.run import Run
from shelftalk.tasks.mixture import epoch_samples
from shelftalk.tasks.task import Task

if TYPE_CHECKING:  # torch is loaded only where a language model is
    from shelftalk.models.backbone import Backbone
    from shelftalk.models.text_encoder import Encoded
    from shelftalk.training.budget import Budgeted, Epoch
    from shelftalk.training.trainer import TrainingResult

NEVER = 1_000_000
"""As training.patience: more validations than any training has, so that none stops before its budget."""
OnStep = Callable[[int, int, str], None]
"""(steps done, steps in all, what to show beside them)."""
OnValidation = Callable[[int, Mapping[str, float]], None]
"""(steps done, metrics: "loss" is the validation loss in nats per target, summed over the tasks that judge);
what it raises ends the training."""


def ignore_validation(step: int, metrics: Mapping[str, float]) -> None:
    """An OnValidation that does nothing."""


def trained_tasks(run: Run) -> dict[str, Task]:
    """The tasks of the mixture, by name: those with a weight above 0."""
    return {name: task for name, task in run.tasks.items() if run.experiment.tasks[name].weight > 0}


def samples_for(run: Run, backbone: Backbone, budget: int) -> Budgeted:
    """Samples in the mixture's order up to `budget` tokens. Raises SettingsError for a mixture without
    samples."""
    from shelftalk.training.budget import Epoch, encoded_epoch, first_tokens

    tasks, seed = list(trained_tasks(run).values()), run.experiment.seed
    encode = encoder(run, backbone)

    def epoch(number: int) -> Epoch:
        return encoded_epoch(epoch_samples(tasks, number, seed), encode) if tasks else Epoch((), ())

    return first_tokens(epoch, budget)


def validation_samples(run: Run, backbone: Backbone) -> dict[str, list[Encoded]]:
    """Served task -> its encoded validation samples, drawn as the write stage draws them."""
    encode = encoder(run, backbone, taught=False)
    return {
        name: encode(stages.validation_samples(task, run.experiment)) for name, task in run.served.items()
    }


def train_on(
    samples: Budgeted,
    backbone: Backbone,
    validation: Mapping[str, Sequence[Encoded]],
    run: Run,
    checkpoints: Path,
    on_step: OnStep,
    on_validation: OnValidation = ignore_validation,
    quality: Callable[[], dict[str, float]] | None = None,
) -> TrainingResult:
    """Train `backbone` on all of `samples` with the settings of `run`. training.max_steps and
    training.patience do not apply: the budget alone ends it."""
    from shelftalk.training.trainer import train

    experiment = run.experiment
    settings = experiment.training.model_copy(update={"patience": NEVER, "max_steps": 0})
    return train(
        backbone,
        samples.epochs,
        validation,
        checkpoints,
        settings,
        experiment.seed,
        on_step,
        on_validation,
        quality,
    )


def pace(result: Mapping[str, Any], seconds: float) -> dict[str, float | None]:
    """Tokens a second, validations included, and the seconds of the whole training: the part before a
    resumption is added at the pace of the rest. None where nothing was left to do.

    Example: resumed after 400 of 1,000 tokens and 60 seconds later finished, that is 10 tokens a second and
    100 seconds.
    """
    before = {row["step"]: row["tokens"] for row in result["curve"]}.get(result["resumed_from"], 0)
    done = result["tokens"] - before
    if not done:
        return {"tokens_per_second": None, "training_seconds": None}
    return {
        "tokens_per_second": round(done / seconds, 1),
        "training_seconds": round(seconds * result["tokens"] / done, 2),
    }
