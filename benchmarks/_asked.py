"""The evaluation in the benchmark of SmolLM2's two starts: models, users, answers and figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import polars as pl

from benchmarks import _never_seen
from benchmarks._never_seen import GROUPS
from benchmarks._smollm2 import SEED, Row, held_out
from shelftalk import seeds
from shelftalk.decoding.language_model import LanguageModelRecommender
from shelftalk.evaluation.evaluator import evaluate_ranking, evaluate_retrieval, summarise
from shelftalk.evaluation.metrics import LIST_LENGTH
from shelftalk.evaluation.significance import bootstrap_intervals, paired_difference
from shelftalk.models.backbone import Backbone
from shelftalk.pipeline.run import Run
from shelftalk.runtime.run_folder import RunFolder, beside

TaskName = Literal["retrieval", "ranking"]
SHOWN: dict[TaskName, tuple[str, ...]] = {
    "retrieval": ("recall@10", "ndcg@10"),
    "ranking": ("hr@1", "hr@10", "ndcg@10"),
}
Tables = dict[tuple[TaskName, str], pl.DataFrame]
"""(task, group of users) -> the table per user."""


@dataclass(frozen=True, eq=False)
class Side:
    """A model that is evaluated: `build` makes it when it is first needed; answers that are kept are reused
    while `depends_on` is the same."""

    name: str
    folder: RunFolder
    depends_on: str
    users: int
    build: Callable[[], Any]

    @cached_property
    def model(self) -> Any:
        return self.build()

    def tables(self, run: Run) -> Tables:
        """Both tasks and groups; answers that are kept are not made again."""
        return {(task, group): self._table(run, task, group) for task in SHOWN for group in GROUPS}

    def _table(self, run: Run, task: TaskName, group: str) -> pl.DataFrame:
        users = drawn(run, group, self.users)
        path = self.folder.evaluation(f"{task}.{group}".replace(" ", "-"))
        inputs = {
            "model": self.depends_on,
            "beams": LIST_LENGTH,
            "users": users,
            "split": run.split.fingerprint(),
        }

        def work() -> Row:
            with beside(path) as part:
                answered(self.model, run, task, users).write_parquet(part)
            return {}

        record = self.folder.do(f"ask.{path.stem}", inputs, work, [path])
        table = pl.read_parquet(path, glob=False)
        figures = {
            name: round(value, 4) for name, value in summarise(table, task).items() if name in SHOWN[task]
        }
        print(
            f"{self.name}, {task}, {group}: {len(users)} users in {record.seconds:.0f} s, {figures}",
            flush=True,
        )
        return table


def answered(model: Any, run: Run, task: TaskName, users: Sequence[int]) -> pl.DataFrame:
    """The per-user table of these users, by number. Raises InvalidAnswer."""
    split = run.split
    requests, truths = (
        split.ranking_requests("test") if task == "ranking" else split.retrieval_requests("test")
    )
    requests, truths = [requests[user] for user in users], [truths[user] for user in users]
    if task == "ranking":
        return evaluate_ranking(model.rank(requests), requests, truths)
    return evaluate_retrieval(
        model.recommend(requests, LIST_LENGTH), requests, truths, split.dataset.item_ids
    )


def drawn(run: Run, group: str, number: int) -> list[int]:
    """So many users of a group, in a seeded order: fewer are the first of more."""
    positions = _never_seen.groups(run.split, held_out())[group]
    order: list[int] = seeds.generator(SEED, "asked", group).permutation(positions)[:number].tolist()
    return order


def recommender(backbone: Backbone, run: Run) -> LanguageModelRecommender:
    """Twenty items by twenty beams; candidates scored after the retrieval prompt."""
    settings = run.experiment.decoding.model_copy(update={"beams": LIST_LENGTH, "batch_size": 8})
    return LanguageModelRecommender(backbone, run.index, run.served, settings)


def figures(tables: dict[str, Tables]) -> list[Row]:
    """Each metric with its interval, which is None where no user differs from another."""
    rows = []
    for name, of_side in tables.items():
        for (task, group), table in of_side.items():
            values, ends = summarise(table, task), bootstrap_intervals(table, task, seed=SEED)
            shown = {metric: _with_ends(values[metric], *ends[metric]) for metric in SHOWN[task]}
            rows.append(
                {
                    "row": "figures",
                    "model": name,
                    "task": task,
                    "test item": group,
                    "users": len(table),
                    **shown,
                }
            )
    return rows


def differences(tables: dict[str, Tables], pairs: Sequence[tuple[str, str]]) -> list[Row]:
    """First minus second on the users whom both were evaluated on."""
    rows = []
    for first, second in pairs:
        for (task, group), one in tables[first].items():
            other = tables[second][task, group]
            one, other = one.join(other, on="user", how="semi"), other.join(one, on="user", how="semi")
            gaps = {metric: paired_difference(one, other, metric, seed=SEED) for metric in SHOWN[task]}
            shown = {
                metric: {**_with_ends(gap.value, gap.low, gap.high), "p": round(gap.p, 4)}
                for metric, gap in gaps.items()
            }
            compared = {"first": first, "second": second, "task": task, "test item": group, "users": len(one)}
            rows.append({"row": "difference", **compared, **shown})
    return rows


def _with_ends(value: float, low: float, high: float) -> Row:
    return {"value": round(value, 4), "interval": [round(low, 4), round(high, 4)] if high > low else None}
