"""The evaluation of models that are compared: the same requests of the same users for all of them, measured
per user."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from shelftalk import seeds
from shelftalk.data.splitting import Part, Split
from shelftalk.evaluation.comparison import per_user_table, requests_of
from shelftalk.evaluation.metrics import LIST_LENGTH
from shelftalk.recommender import TaskName, answer, tasks_of
from shelftalk.records import Request

OnRequests = Callable[[Mapping[TaskName, Sequence[Request]]], None]
"""Gets all requests by task, in the order of their evaluation, before the first one is answered."""


def ignore_requests(requests: Mapping[TaskName, Sequence[Request]]) -> None:
    """An OnRequests that does nothing."""


def per_user_tables(
    model: Any,
    split: Split,
    part: Part,
    users: int = 0,
    ratings: int = 0,
    seed: int = 0,
    on_requests: OnRequests = ignore_requests,
    only: Collection[str] = (),
) -> dict[str, pl.DataFrame]:
    """Task -> a row per user (or rating), for each task that the model has and the data supports.

    `users` and `ratings` are how many are drawn by `seed`, 0 for all; ratings are those of the drawn users.
    `only` names the tasks to evaluate, () for all.
    """
    numbers = drawn_users(split, part, users, seed)
    supported = [task for task in tasks_of(model) if task != "rating" or not split.why_no_rating_task]
    tasks = [task for task in supported if not only or task in only]
    drawn = {task: _drawn_requests(split, task, part, numbers, ratings, seed) for task in tasks}
    drawn = {task: (requests, truths) for task, (requests, truths) in drawn.items() if requests}
    on_requests({task: requests for task, (requests, _) in drawn.items()})
    return {
        str(task): per_user_table(task, answer(model, task, requests, LIST_LENGTH), requests, truths, split)
        for task, (requests, truths) in drawn.items()
    }


def drawn_users(split: Split, part: Part, users: int, seed: int) -> np.ndarray:
    """[n] user numbers, ascending, of whom the part holds out an event; every user for 0 or where there are
    no more."""
    evaluated = split.evaluated_users(part)
    if not 0 < users < len(evaluated):
        return np.arange(len(split.dataset.user_ids))
    return np.sort(evaluated[seeds.generator(seed, "evaluated users").permutation(len(evaluated))[:users]])


def _drawn_requests(
    split: Split, task: TaskName, part: Part, users: np.ndarray, ratings: int, seed: int
) -> tuple[list[Request], list[Any]]:
    """The requests of these users, by number, and their truths, in the split's order; of rating requests at
    most `ratings`."""
    requests, truths = requests_of(split, task, part)
    ids = {split.dataset.user_ids[user] for user in users.tolist()}
    rows = np.array([row for row, request in enumerate(requests) if request.user in ids], np.int64)
    if task == "rating" and ratings:
        rows = np.sort(seeds.generator(seed, "evaluated ratings").permutation(rows)[:ratings])
    return [requests[row] for row in rows.tolist()], [truths[row] for row in rows.tolist()]
