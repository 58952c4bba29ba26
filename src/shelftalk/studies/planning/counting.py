"""How many samples, how long they are, and what is cut: from some users, scaled to all of them.

Legend: N samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shelftalk import seeds
from shelftalk.experiment import Experiment
from shelftalk.indexing.titles import first_texts
from shelftalk.models.backbone import Backbone
from shelftalk.models.text_encoder import Encoded
from shelftalk.preflight import check_lengths
from shelftalk.runs import Run
from shelftalk.tasks.item_text import ItemText
from shelftalk.tasks.task import Task

NO_BUDGET = 10_000
"""Characters that no text beside a name has."""


@dataclass(frozen=True, eq=False)
class TaskCount:
    """One task's samples: `samples` of one epoch of the mixture; `prompt` and `targets` [N] tokens before the
    first that bears loss and tokens that bear it, of those looked at; `too_long` the share beyond the model's
    trained context; `cut_histories` the share of users with more training items than a prompt shows (0 for a
    task about items)."""

    samples: int
    prompt: np.ndarray
    targets: np.ndarray
    too_long: float
    cut_histories: float


@dataclass(frozen=True, eq=False)
class Counted:
    """`samples`: those looked at, of all tasks; each stands for `scale` of an epoch's."""

    tasks: Mapping[str, TaskCount]
    samples: Sequence[Encoded]
    scale: float
    users_looked_at: int
    users: int


def count_samples(run: Run, backbone: Backbone, users: int) -> Counted:
    """The samples of the first epoch for at most `users` users and as large a share of the items, drawn by
    seed.

    Every task is looked at for the same share of its epoch, so that the samples together are the mixture made
    smaller.
    """
    data = run.split.dataset
    looked_at = min(users, len(data.user_ids))
    share = looked_at / len(data.user_ids)
    tasks: dict[str, TaskCount] = {}
    samples: list[Encoded] = []
    for name, task in run.tasks.items():
        if task.settings.weight == 0:
            continue
        encoded = _some(task, share, backbone, run.experiment)
        tasks[name] = _count(run, task, encoded, share, backbone)
        samples += encoded
    return Counted(tasks, samples, 1 / share, looked_at, len(data.user_ids))


def trained_context(backbone: Backbone) -> int | None:
    """Tokens that the model was trained to read at once, or None where it has no such number (relative
    positions, from scratch)."""
    config = backbone.model.config
    return getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)


def cut_texts(run: Run) -> dict[str, float]:
    """Shares of the items whose text is cut by a budget of characters: beside their name, and in it."""
    items, index = run.split.dataset.items, run.index
    settings = run.experiment.text.model_copy(update={"max_characters": NO_BUDGET})
    whole = ItemText(run.split.dataset, index, settings)
    ids = run.split.dataset.item_ids
    cut = {
        "texts beside names, by text.max_characters": sum(
            whole.details(i) != run.context.text.details(i) for i in ids
        )
    }
    if index.includes_title:
        titles = zip(ids, first_texts(items, NO_BUDGET), strict=True)
        cut["titles in names"] = sum(len(title) > len(index.free_text(item)) for item, title in titles)
    return {what: number / len(ids) for what, number in cut.items()}


def _some(task: Task, share: float, backbone: Backbone, experiment: Experiment) -> list[Encoded]:
    """The task's samples of a share of its users or items. Raises SettingsError for one that the model cannot
    read."""
    data = task.context.split.dataset
    number = len(data.user_ids if task.about == "users" else data.items)
    drawn = seeds.generator(experiment.seed, "plan", task.name).permutation(number)[
        : max(1, round(share * number))
    ]
    samples = task.samples_about(np.sort(drawn), epoch=0)
    check_lengths(samples, backbone, experiment)
    return backbone.encode_samples(samples)


def _count(run: Run, task: Task, encoded: Sequence[Encoded], share: float, backbone: Backbone) -> TaskCount:
    prompt = np.array([sample.prompt_length for sample in encoded], np.int64)
    length = np.array([len(sample) for sample in encoded], np.int64)
    targets = np.array([sample.bears_loss.sum() for sample in encoded], np.int64)
    context = trained_context(backbone)
    read_at_once = np.maximum(prompt, length - prompt) if backbone.family == "encoder-decoder" else length
    histories = np.diff(run.split.training_bounds, axis=1)
    return TaskCount(
        samples=round(len(encoded) / share),
        prompt=prompt,
        targets=targets,
        too_long=float((read_at_once > context).mean()) if context and len(encoded) else 0.0,
        cut_histories=float((histories > task.settings.max_history).mean()) if task.about == "users" else 0.0,
    )
