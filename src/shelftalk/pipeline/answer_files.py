"""The answers of one model to the test part, as files: rankings/TASK.MODEL.parquet.

One row per request: user, items and their scores, best first (retrieval and ranking), or user, item and
estimate (rating). Of a user with several requests, as by leave-last-n, the rows are in their order.
"""

from __future__ import annotations

import time
from typing import Any

import polars as pl

from shelftalk.data.splitting import Split
from shelftalk.errors import ChangedFile
from shelftalk.evaluation.comparison import requests_of
from shelftalk.evaluation.metrics import LIST_LENGTH
from shelftalk.experiment import Experiment
from shelftalk.recommender import TaskName, answer
from shelftalk.records import Ranking
from shelftalk.runtime.run_folder import RunFolder, beside

RANKING_SCHEMA: dict[str, Any] = {
    "user": pl.String,
    "items": pl.List(pl.String),
    "scores": pl.List(pl.Float64),
}

NUMBER = "number among the user's requests"


def write_answers(
    folder: RunFolder, model: Any, name: str, task: TaskName, split: Split
) -> tuple[int, float]:
    """Let the model answer the requests of the test part, and write its answers in the split's order. Returns
    how many there were, and the seconds that it took to answer them."""
    requests, _ = requests_of(split, task, "test")
    start = time.perf_counter()
    answers = answer(model, task, requests, LIST_LENGTH)
    seconds = time.perf_counter() - start
    if task == "rating":
        items = [request.item for request in requests]
        frame = pl.DataFrame({"user": [r.user for r in requests], "item": items, "estimate": answers})
    else:
        frame = _ranking_frame(answers)
    with beside(folder.ranking(task, name)) as part:
        frame.write_parquet(part)
    return len(requests), seconds


def read_answers(folder: RunFolder, task: TaskName, experiment: Experiment, split: Split) -> dict[str, Any]:
    """Model -> its answers to `task` in the split's order,
    for the models that gave any, those imported from score files last: rankings, or estimates.

    Raises StageMissing, and ChangedFile where a file does not answer the requests of this split."""
    answers: dict[str, Any] = {}
    for name in (*experiment.models, *folder.imported_models()):
        stage = f"recommend.{name}"
        if task not in folder.needed(stage).facts["tasks"]:
            continue
        frame = pl.read_parquet(folder.ranking(task, name), glob=False)
        frame = in_order_of_requests(frame, split, task, folder, stage)
        answers[name] = as_answers(frame, task)
    return answers


def as_answers(frame: pl.DataFrame, task: TaskName) -> list[Any]:
    """The rows of a file as answers: rankings, or estimates."""
    return frame["estimate"].to_list() if task == "rating" else _rankings(frame)


def in_order_of_requests(
    frame: pl.DataFrame, split: Split, task: TaskName, folder: RunFolder, stage: str
) -> pl.DataFrame:
    """The answers in the order of the split's requests, joined by user (the n-th row of a user answers the
    n-th request), and for ratings by user and item.

    Raises ChangedFile where they are not answers to these requests."""
    requests, _ = requests_of(split, task, "test")
    keys = {"user": [request.user for request in requests]}
    if task == "rating":
        keys["item"] = [request.item for request in requests]
    wanted = pl.DataFrame(keys, schema={name: pl.String for name in keys})
    number = pl.int_range(pl.len()).over(wanted.columns).alias(NUMBER)
    wanted, frame = wanted.with_columns(number), frame.with_columns(number)
    if len(frame) != len(wanted) or set(frame.select(wanted.columns).iter_rows()) != set(wanted.iter_rows()):
        path = folder.ranking(task, stage.partition(".")[2])
        raise ChangedFile(
            f'"{path}" does not answer the requests of this run; remove "{folder.manifest(stage)}" and run '
            f'`shelftalk recommend` or `shelftalk run` again with --out "{folder.path}".'
        )
    return wanted.join(frame, on=wanted.columns, maintain_order="left").drop(NUMBER)


def _ranking_frame(rankings: list[Ranking]) -> pl.DataFrame:
    columns = {
        "user": [ranking.user for ranking in rankings],
        "items": [ranking.items for ranking in rankings],
        "scores": [ranking.scores for ranking in rankings],
    }
    return pl.DataFrame(columns, schema=RANKING_SCHEMA)


def _rankings(frame: pl.DataFrame) -> list[Ranking]:
    rows = zip(frame["user"], frame["items"].to_list(), frame["scores"].to_list(), strict=True)
    return [Ranking(user, tuple(items), tuple(scores)) for user, items, scores in rows]
