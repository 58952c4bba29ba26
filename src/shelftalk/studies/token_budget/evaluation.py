"""What a trained model is asked: the same requests of the same users for all that are compared, answers
measured per user."""

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

Announce = Callable[[Mapping[TaskName, Sequence[Request]]], None]
"""Hears of all requests, by task and in the order in which they are asked, before the first is."""


def not_announced(asked: Mapping[TaskName, Sequence[Request]]) -> None:
    """An announcement that nobody waits for."""


def per_user_tables(
    model: Any,
    split: Split,
    part: Part,
    users: int = 0,
    ratings: int = 0,
    seed: int = 0,
    announce: Announce = not_announced,
    only: Collection[str] = (),
) -> dict[str, pl.DataFrame]:
    """Task -> a row per user (or rating), for each task that the model answers and the data supports.

    `users` and `ratings` are how many are drawn by `seed`, 0 for all; ratings are those of the drawn users.
    `only` names the tasks to ask, all without a name.
    """
    positions = drawn_users(split, part, users, seed)
    supported = [task for task in tasks_of(model) if task != "rating" or not split.why_no_rating_task]
    tasks = [task for task in supported if not only or task in only]
    drawn = {task: _drawn(split, task, part, positions, ratings, seed) for task in tasks}
    drawn = {task: (requests, truths) for task, (requests, truths) in drawn.items() if requests}
    announce({task: requests for task, (requests, _) in drawn.items()})
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


def _drawn(
    split: Split, task: TaskName, part: Part, positions: np.ndarray, ratings: int, seed: int
) -> tuple[list[Request], list[Any]]:
    """The requests of these users and their truths, in the split's order; of rating requests at most
    `ratings`."""
    requests, truths = requests_of(split, task, part)
    ids = split.dataset.user_ids
    wanted = {ids[position] for position in positions.tolist()}
    kept = np.array(
        [position for position, request in enumerate(requests) if request.user in wanted], np.int64
    )
    if task == "rating" and ratings:
        kept = np.sort(seeds.generator(seed, "evaluated ratings").permutation(kept)[:ratings])
    return [requests[position] for position in kept.tolist()], [
        truths[position] for position in kept.tolist()
    ]
