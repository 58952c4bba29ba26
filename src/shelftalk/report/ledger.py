"""Ledger: published numbers as data, each with its protocol and source, and which of them compare with a run.

The figures are in ledger.toml. A row may be printed beside a run's where data set, split, the item tested,
the order of ties, candidates, seen items, convention and metric are known and the same; a data set is
recognised by its numbers of users, items and interactions. All other rows stand apart, with their terms
(`elsewhere`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from shelftalk.data.splitting import LEAST_EVENTS, NONE, TEST, TRAIN, VALIDATION, Split
from shelftalk.evaluation.metrics import metric_names
from shelftalk.recommender import TaskName
from shelftalk.settings import Settings

Convention = Literal["train-only", "refit", "unknown"]
Divided = Literal[
    "leave-one-out", "random 80/10/10", "random 80/10/10 without what retrieval holds out", "another",
    "unknown",
]  # fmt: skip
Candidates = Literal["all items", "1+99 sampled, sampling unlike ours", "1 and uniform others", "none"]

Tested = Literal["last", "last but one", "unknown"]
Ties = Literal["published order", "shuffled", "unknown"]
Seen = Literal["left out", "kept", "unknown"]

OURS: Mapping[TaskName, Candidates] = {
    "retrieval": "all items",
    "ranking": "1 and uniform others",
    "rating": "none",
}
"""The candidates of every run of ours, by task."""
PRINTED = ("recall@5", "ndcg@5", "recall@10", "ndcg@10")
"""The metrics in which publications and runs are shown side by side."""


class DatasetCounts(Settings):
    """The counts by which a data set is recognised."""

    title: str
    """Its name as a person reads it."""
    users: int = Field(ge=1)
    """Users after filtering."""
    items: int = Field(ge=1)
    """Items after filtering."""
    interactions: int = Field(ge=1)
    """Interactions after filtering."""


class Source(Settings):
    """Where a figure was published."""

    text: str = Field(min_length=1)
    """Authors, title and venue, or what is known of them."""
    year: int | None = Field(None, ge=1990)
    """Year of publication, where known."""


class LedgerTable(Settings):
    """Rows of one source on one data set under one protocol."""

    source: str
    """A name of the ledger's sources."""
    dataset: str
    """A name of the ledger's data sets."""
    task: TaskName
    """The task."""
    split: Divided
    """How training and test were divided."""
    candidates: Candidates
    """What was ranked."""
    convention: Convention
    """Whether the model was trained again on training and validation together."""
    tested: Tested = "unknown"
    """Which of a user's items is the test."""
    ties: Ties = "unknown"
    """What orders events of one time."""
    seen: Seen = "unknown"
    """Whether items of the history are among the candidates."""
    seeds: int | None = Field(None, ge=1)
    """Over how many seeds a figure is a mean, where known."""
    verified: bool = False
    """Whether these terms were read in the code that made the figures."""
    one_model: bool = True
    """Whether a row is one model, and not the best figures of several."""
    comparable: bool
    """Whether the rows may be shown beside a run of the same protocol."""
    why: str = Field(min_length=1)
    """A sentence on why they may or may not."""
    metrics: tuple[str, ...] = Field(min_length=1)
    """Names of the metrics, in the order of the rows' values."""
    rows: dict[str, tuple[float, ...]] = Field(min_length=1)
    """Model to its values."""

    @model_validator(mode="after")
    def _whole(self) -> LedgerTable:
        if unknown := sorted(set(self.metrics) - set(metric_names(self.task))):
            raise ValueError(f'"{unknown[0]}" is no metric of {self.task}')
        for model, values in self.rows.items():
            if len(values) != len(self.metrics):
                raise ValueError(
                    f'the row "{model}" has {len(values)} values for {len(self.metrics)} metrics'
                )
            if not all(value > 0 and (value < 1 or self.task == "rating") for value in values):
                raise ValueError(f'the row "{model}" holds a value out of range')
        return self


class Ledger(Settings):
    """The whole file."""

    datasets: dict[str, DatasetCounts]
    """Data sets by name."""
    sources: dict[str, Source]
    """Sources by name."""
    tables: tuple[LedgerTable, ...]
    """The figures."""

    @model_validator(mode="after")
    def _known_names(self) -> Ledger:
        for table in self.tables:
            if table.source not in self.sources or table.dataset not in self.datasets:
                raise ValueError(
                    f'a table names the source "{table.source}" and the data set "{table.dataset}": one is '
                    "not there"
                )
        return self


@dataclass(frozen=True)
class Published:
    """One row of the ledger with its source and protocol."""

    model: str
    source: str
    year: int | None
    dataset: DatasetCounts
    task: TaskName
    split: Divided
    candidates: Candidates
    convention: Convention
    metrics: Mapping[str, float]
    tested: Tested
    ties: Ties
    seen: Seen
    seeds: int | None
    verified: bool
    one_model: bool
    comparable: bool
    why: str


@dataclass(frozen=True)
class SplitFacts:
    """The counts by which a run's data are recognised, and how they are split for each task."""

    users: int
    items: int
    interactions: int
    events: Divided
    """How interactions are divided: retrieval and ranking."""
    ratings: Divided = "another"
    """How rating values are divided."""
    ties: Ties = "unknown"
    """What orders events of one time."""


@cache
def load_ledger() -> Ledger:
    """The ledger of the package, validated."""
    text = resources.files("shelftalk.report").joinpath("ledger.toml").read_text("utf-8")
    return Ledger.model_validate(tomllib.loads(text))


@cache
def all_published() -> tuple[Published, ...]:
    """Every row of the ledger, in the order of the file."""
    ledger = load_ledger()
    return tuple(_row(ledger, table, model) for table in ledger.tables for model in table.rows)


def matching(facts: SplitFacts, task: TaskName, convention: Convention) -> list[Published]:
    """The rows that may be shown beside a run's: every term is known and the same, and they are marked as
    comparable. In every run of ours the last item is the test and items of the history are left out."""
    divided = facts.ratings if task == "rating" else facts.events
    terms = (divided, OURS[task], convention, "last", facts.ties, "left out")
    return [
        row
        for row in _of_the_data(facts, task)
        if row.comparable
        and "unknown" not in terms
        and (row.split, row.candidates, row.convention, row.tested, row.ties, row.seen) == terms
    ]


def elsewhere(facts: SplitFacts, task: TaskName) -> list[Published]:
    """The rows of the same data set and task on other or unknown terms: never in one table with a run."""
    conventions: tuple[Convention, ...] = ("train-only", "refit")
    beside = [row for convention in conventions for row in matching(facts, task, convention)]
    return [row for row in _of_the_data(facts, task) if row not in beside and row.one_model]


def _of_the_data(facts: SplitFacts, task: TaskName) -> list[Published]:
    counts = (facts.users, facts.items, facts.interactions)
    return [
        row
        for row in all_published()
        if row.task == task and (row.dataset.users, row.dataset.items, row.dataset.interactions) == counts
    ]


def facts_of(split: Split, ties: Ties = "unknown") -> SplitFacts:
    """The facts of a split, derived from its parts and not from its settings; `ties` is what the data reader
    noted."""
    data = split.dataset
    divided = _events_divided(split), _ratings_divided(split)
    return SplitFacts(len(data.user_ids), len(data.items), len(data), *divided, ties)


def _events_divided(split: Split) -> Divided:
    """Leave-one-out where each user's last event in the published order is the test, the last but
    one validation, and all others training."""
    bounds = split.dataset.bounds
    if not split.protocol.is_usual or np.diff(bounds).min() < LEAST_EVENTS:
        return "another"
    expected = np.full(len(split.event_part), TRAIN)
    expected[bounds[1:] - 1], expected[bounds[1:] - 2] = TEST, VALIDATION
    return "leave-one-out" if np.array_equal(split.event_part, expected) else "another"


def _ratings_divided(split: Split) -> Divided:
    """Our split removes the ratings of held-out events from training, which a plain random split does not."""
    rated = ~np.isnan(split.dataset.event_rating)
    if not rated.any():
        return "another"
    removed = rated & (split.rating_part == NONE)
    shares = [round(float((split.rating_part[rated] == part).mean()), 2) for part in (VALIDATION, TEST)]
    if shares != [0.1, 0.1]:
        return "another"
    return "random 80/10/10 without what retrieval holds out" if removed.any() else "random 80/10/10"


def _row(ledger: Ledger, table: LedgerTable, model: str) -> Published:
    source = ledger.sources[table.source]
    return Published(
        model=model,
        source=source.text,
        year=source.year,
        dataset=ledger.datasets[table.dataset],
        task=table.task,
        split=table.split,
        candidates=table.candidates,
        convention=table.convention,
        metrics=dict(zip(table.metrics, table.rows[model], strict=True)),
        tested=table.tested,
        ties=table.ties,
        seen=table.seen,
        seeds=table.seeds,
        verified=table.verified,
        one_model=table.one_model,
        comparable=table.comparable,
        why=table.why,
    )
