"""How many samples, how long they are, and what is cut: from some users, scaled to all of them.

Legend: N samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shelftalk import seeds
from shelftalk.experiment import Experiment
from shelftalk.indexing.titles import first_texts
from shelftalk.models.backbone import Backbone
from shelftalk.models.text_encoder import Encoded
from shelftalk.pipeline.preflight import check_lengths
from shelftalk.pipeline.run import Run
from shelftalk.studies.token_budget.training import trained_tasks
from shelftalk.tasks.item_text import ItemText
from shelftalk.tasks.task import Task

NO_BUDGET = 10_000
"""More characters than any text of an item has."""


@dataclass(frozen=True, eq=False)
class TaskCount:
    """One task's samples: `samples` is their number in one epoch of the mixture. Of those counted, `prompt`
    [N] are the tokens before the first that bears loss, `targets` [N] the tokens that bear it, `too_long` the
    share beyond the model's trained context. `cut_histories` is the share of users with more training items
    than a prompt shows (0 for a task about items)."""

    samples: int
    prompt: np.ndarray
    targets: np.ndarray
    too_long: float
    cut_histories: float


@dataclass(frozen=True, eq=False)
class Counted:
    """`samples`: those of `users_counted` of the `users`, of all tasks; each one represents `scale` samples
    of an epoch."""

    tasks: Mapping[str, TaskCount]
    samples: Sequence[Encoded]
    scale: float
    users_counted: int
    users: int


def count_samples(
    run: Run, backbone: Backbone, users: int, on_task: Callable[[str], None] = lambda name: None
) -> Counted:
    """The samples of the first epoch for at most `users` users and as large a share of the items, drawn by
    seed. `on_task` gets the name of each task before its samples are counted.

    The share is the same for every task, so that the samples together are a smaller copy of the mixture.
    """
    data = run.split.dataset
    counted = min(users, len(data.user_ids))
    share = counted / len(data.user_ids)
    tasks: dict[str, TaskCount] = {}
    samples: list[Encoded] = []
    for name, task in trained_tasks(run).items():
        on_task(name)
        encoded = _samples_of_share(task, share, backbone, run.experiment)
        tasks[name] = _count(run, task, encoded, share, backbone)
        samples += encoded
    return Counted(tasks, samples, 1 / share, counted, len(data.user_ids))


def trained_context(backbone: Backbone) -> int | None:
    """Tokens that the model was trained to read at once, or None where it has no such number (relative
    positions, from scratch)."""
    config = backbone.model.config
    return getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)


def cut_texts(run: Run) -> dict[str, float]:
    """Shares of the items whose text is cut by a budget of characters: beside their name, and in it."""
    items, index = run.split.dataset.items, run.index
    settings = run.experiment.text.model_copy(update={"max_characters": NO_BUDGET})
    whole, shown = ItemText(run.split.dataset, index, settings), run.context.text
    ids = run.split.dataset.item_ids
    texts = sum(whole.details(item) != shown.details(item) for item in ids)
    cut = {"texts beside names, by text.max_characters": texts}
    if index.includes_title:
        titles = zip(ids, first_texts(items, NO_BUDGET), strict=True)
        cut["titles in names"] = sum(len(title) > len(index.free_text(item)) for item, title in titles)
    return {what: number / len(ids) for what, number in cut.items()}


def _samples_of_share(task: Task, share: float, backbone: Backbone, experiment: Experiment) -> list[Encoded]:
    """The task's samples of a share of its users or items in the mean epoch: fewer of a task that is trained
    in the first epochs alone. Raises SettingsError for one that the model cannot read."""
    data, epochs = task.context.split.dataset, experiment.training.epochs
    number = len(data.user_ids if task.about == "users" else data.items)
    share *= min(task.settings.first_epochs or epochs, epochs) / epochs  # of the mean epoch
    order = seeds.generator(experiment.seed, "plan", task.name).permutation(number)
    samples = task.samples_about(np.sort(order[: max(1, round(share * number))]), epoch=0)
    check_lengths(samples, backbone, experiment)
    return backbone.encode_samples(samples)


def _count(run: Run, task: Task, encoded: Sequence[Encoded], share: float, backbone: Backbone) -> TaskCount:
    prompt = np.array([sample.prompt_length for sample in encoded], np.int64)
    length = np.array([len(sample) for sample in encoded], np.int64)
    targets = np.array([sample.bears_loss.sum() for sample in encoded], np.int64)
    context = trained_context(backbone)
    read_at_once = np.maximum(prompt, length - prompt) if backbone.declaration.encoder else length
    histories = np.diff(run.split.training_bounds, axis=1)
    return TaskCount(
        samples=round(len(encoded) / share),
        prompt=prompt,
        targets=targets,
        too_long=float((read_at_once > context).mean()) if context and len(encoded) else 0.0,
        cut_histories=float((histories > task.settings.max_history).mean()) if task.about == "users" else 0.0,
    )
