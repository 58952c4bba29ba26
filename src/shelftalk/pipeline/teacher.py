"""The teacher of a training: what a baseline expects after every training history, and its file.

A teacher that has counted the very event that it is asked about would repeat it. So the users are divided
into folds by seed, and each fold is asked of a teacher that was fitted to the training parts of the others
(cross-fitting, as in stacking: Wolpert, Neural Networks 5, 1992). All of them have the settings that the
baseline chose on validation when it was fitted to all users.

Legend: U users, E training events, I items, N items of the teacher.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shelftalk import parts, seeds
from shelftalk.data.splitting import TRAIN, Split
from shelftalk.errors import SettingsError
from shelftalk.experiment import Experiment
from shelftalk.recommender import Repeatable
from shelftalk.records import Request

TEACHER_FILE = "teacher.parquet"
"""In the folder of samples."""
SCORES_AT_ONCE = 4_000_000
"""Scores computed at a time: 16 MB of float32."""
OnFold = Callable[[int], None]
"""Called with the number of folds that are asked."""


def teacher_table(split: Split, experiment: Experiment, on_fold: OnFold) -> pa.Table:
    """One row per training event, users in their order, oldest first: user, item (numbers, rows of the
    catalogue), items, scores (the teacher's best after the history before it).

    Raises what the baseline raises when it is fitted."""
    settings = experiment.teacher
    fold = fold_of_users(split, settings.folds, experiment.seed)
    fit = parts.load(parts.MODELS, settings.model, "model")
    model = fit(split, experiment.settings_of(settings.model), experiment.seed)
    if not (isinstance(model, Repeatable) and hasattr(model, "scores")):
        raise SettingsError(
            f'teacher.model = "{settings.model}" cannot teach: it lacks scores(requests), or '
            "chosen_settings(), by which it is fitted again without the users that it teaches; name another "
            'baseline, such as "item_knn".'
        )
    chosen = model.chosen_settings()
    events = np.flatnonzero(split.event_part == TRAIN)
    users = split.event_user[events]
    items = np.zeros((len(events), settings.items), np.int32)
    scores = np.zeros((len(events), settings.items), np.float32)
    for number in range(settings.folds):
        on_fold(number)
        teacher = fit(split.of_users(fold != number), chosen, experiment.seed)
        rows = np.flatnonzero(fold[users] == number)
        size = max(1, SCORES_AT_ONCE // len(split.dataset.items))
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            items[some], scores[some] = _best(teacher, split, events[some], settings.items)
    columns = {
        "user": pa.array(users.astype(np.int32)),
        "item": pa.array(split.dataset.event_item[events].astype(np.int32)),
        "items": _fixed_lists(items),
        "scores": _fixed_lists(scores),
    }
    return pa.table(columns)


def write_teacher(table: pa.Table, path: Path) -> None:
    """Write what `teacher_table` made."""
    pq.write_table(table, path, compression="zstd")


def read_teacher(path: Path) -> dict[str, np.ndarray]:
    """The columns of the file: `user` and `item` [E] int64, `items` [E, N] int32, `scores` [E, N] float32."""
    table = pq.read_table(path)
    return columns_of(table)


def columns_of(table: pa.Table) -> dict[str, np.ndarray]:
    """The columns of a teacher's table as arrays, see `read_teacher`."""
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    width = columns["items"].type.list_size
    numbers = {name: columns[name].to_numpy().astype(np.int64) for name in ("user", "item")}
    lists = {name: columns[name].flatten().to_numpy().reshape(-1, width) for name in ("items", "scores")}
    return {**numbers, **lists}


def inputs_of_teacher(experiment: Experiment) -> dict[str, Any]:
    """What the teacher's file depends on: its own settings, and those and the code of the baseline."""
    settings = experiment.teacher
    if not settings.model:
        return {}
    return {
        **settings.read_by("write"),
        "settings": experiment.settings_of(settings.model).model_dump(mode="json"),
        "own sources": parts.own_sources([settings.model, *experiment.combined_by(settings.model)]),
    }


def fold_of_users(split: Split, folds: int, seed: int) -> np.ndarray:
    """[U] the fold of each user, drawn by seed; folds differ by one user at most."""
    users = len(split.dataset.user_ids)
    return seeds.generator(seed, "teacher folds").permutation(users) % folds


def _best(teacher: Any, split: Split, events: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """[events, number] catalogue rows and scores of the teacher's best items after the history before each
    event, items of that history left out; score 0 where there are fewer."""
    data = split.dataset
    first = data.bounds[split.event_user[events]]
    histories = [data.event_item[start:stop] for start, stop in zip(first, events, strict=True)]
    requests = [Request("", tuple(data.item_ids[row] for row in rows.tolist())) for rows in histories]
    scores = np.array(teacher.scores(requests), np.float32)  # [events, I]
    for row, history in enumerate(histories):
        scores[row, history] = 0
    scores[[len(history) == 0 for history in histories]] = 0
    number = min(number, scores.shape[1])
    best = np.argpartition(-scores, number - 1, axis=1)[:, :number]
    values = np.take_along_axis(scores, best, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(best, order, axis=1), np.take_along_axis(values, order, axis=1)


def _fixed_lists(values: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
