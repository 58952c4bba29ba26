"""What another wording costs: the same validation requests asked in a wording that training showed and in one
it held out.

A sample of users is asked, drawn by seed, and of their ratings at most a fixed number, so that a run is not
held up. Both wordings are asked of the same requests: the change is paired by user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from shelftalk import seeds
from shelftalk.data.splitting import Split
from shelftalk.evaluation.comparison import evaluated, requests_of
from shelftalk.evaluation.metrics import LIST_LENGTH, Task
from shelftalk.recommender import answer
from shelftalk.records import Request

WORDINGS = ("seen", "held out")
USERS, RATINGS = 500, 500
"""Users that are asked, and the most of their ratings that are asked for: some 12 s on one thread for
MovieLens and the nano model."""


def ask(models: Mapping[str, Any], tasks: Sequence[Task], split: Split, seed: int) -> pl.DataFrame:
    """A row per task, wording and request, with the columns of the task's per-user table; the others are
    null.

    `models`: wording -> a recommender that asks in it. Raises InvalidAnswer as the evaluator does.
    """
    frames = []
    for task in tasks:
        requests, truths = drawn(split, task, seed)
        for wording, model in models.items():
            table = evaluated(task, answer(model, task, requests, LIST_LENGTH), requests, truths, split)
            frames.append(
                table.select(pl.lit(task).alias("task"), pl.lit(wording).alias("wording"), pl.all())
            )
    return pl.concat(frames, how="diagonal_relaxed")


def drawn(split: Split, task: Task, seed: int) -> tuple[list[Request], list[Any]]:
    """The validation requests of the task that are asked, and their truths: the same users for every task."""
    users = split.evaluated_users("validation")
    order = seeds.generator(seed, "wordings", "users").permutation(len(users))
    chosen = {split.dataset.user_ids[user] for user in users[order[:USERS]].tolist()}
    requests, truths = requests_of(split, task, "validation")
    positions = [position for position, request in enumerate(requests) if request.user in chosen]
    if task == "rating":
        positions = positions or list(
            range(len(requests))
        )  # where none of these users has a rating in the part
        positions = seeds.generator(seed, "wordings", "ratings").permutation(positions)[:RATINGS].tolist()
    return [requests[position] for position in positions], [truths[position] for position in positions]
