"""What a held-out template costs: the same validation requests with a template that the model was trained on
and with one that was held out of training.

A sample of users is drawn by seed, and at most a fixed number of their ratings, so that a run is not held
up. Both templates get the same requests: the change is paired by user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from shelftalk import seeds
from shelftalk.data.splitting import Split
from shelftalk.evaluation.comparison import per_user_table, requests_of
from shelftalk.evaluation.metrics import LIST_LENGTH
from shelftalk.recommender import TaskName, answer
from shelftalk.records import Request

TEMPLATES = ("seen", "held out")
USERS, RATINGS = 500, 500
"""Most users and most of their ratings that are evaluated: some 12 s on one thread for MovieLens and
the nano model."""


def evaluate(models: Mapping[str, Any], tasks: Sequence[TaskName], split: Split, seed: int) -> pl.DataFrame:
    """A row per task, templates and request, with the columns of the task's per-user table; the
    others are null.

    `models`: "seen" or "held out" -> a recommender that uses such templates. Raises InvalidAnswer as the
    evaluator does.
    """
    frames = []
    for task in tasks:
        requests, truths = sampled_requests(split, task, seed)
        for templates, model in models.items():
            table = per_user_table(task, answer(model, task, requests, LIST_LENGTH), requests, truths, split)
            labels = pl.lit(task).alias("task"), pl.lit(templates).alias("templates")
            frames.append(table.select(*labels, pl.all()))
    return pl.concat(frames, how="diagonal_relaxed")


def sampled_requests(split: Split, task: TaskName, seed: int) -> tuple[list[Request], list[Any]]:
    """The sampled validation requests of the task and their truths; the users are the same for every task."""
    users = split.evaluated_users("validation")
    order = seeds.generator(seed, "wordings", "users").permutation(len(users))
    sampled = {split.dataset.user_ids[user] for user in users[order[:USERS]].tolist()}
    requests, truths = requests_of(split, task, "validation")
    positions = [position for position, request in enumerate(requests) if request.user in sampled]
    if task == "rating":
        # all users' ratings where none of these users has one in the part
        positions = positions or list(range(len(requests)))
        positions = seeds.generator(seed, "wordings", "ratings").permutation(positions)[:RATINGS].tolist()
    return [requests[position] for position in positions], [truths[position] for position in positions]
