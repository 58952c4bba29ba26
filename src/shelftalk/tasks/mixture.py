"""Mixture: tasks times weights, as epochs of samples in one shuffled order, kept as Parquet.

An epoch depends on (data, settings, seed, its number) alone: not on workers, nor on how often the run was resumed.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from shelftalk import seeds
from shelftalk.records import Sample, Segment
from shelftalk.tasks.task import Task

SCHEMA: dict[str, Any] = {
    "task": pl.String,
    "template": pl.String,
    "user": pl.String,
    "items": pl.List(pl.String),
    "texts": pl.List(pl.String),
    "bears_loss": pl.List(pl.Boolean),
    "symbols": pl.List(pl.Boolean),
}
"""One row per sample; the last three run along its segments."""


def epoch_samples(tasks: Iterable[Task], epoch: int, seed: int) -> list[Sample]:
    """All samples of one epoch, shuffled."""
    with _collector_paused():
        samples = [sample for task in tasks for sample in task.samples(epoch)]
    order = seeds.generator(seed, "mixture order", epoch).permutation(len(samples))
    return [samples[number] for number in order.tolist()]


def write_samples(samples: Sequence[Sample], path: Path) -> None:
    """One row per sample, in their order."""
    columns = {
        "task": [sample.task for sample in samples],
        "template": [sample.template for sample in samples],
        "user": [sample.user for sample in samples],
        "items": [sample.items for sample in samples],
        "texts": [[segment.text for segment in sample.segments] for sample in samples],
        "bears_loss": [[segment.bears_loss for segment in sample.segments] for sample in samples],
        "symbols": [[segment.symbols for segment in sample.segments] for sample in samples],
    }
    pl.DataFrame(columns, schema=SCHEMA).write_parquet(path)


def read_samples(path: Path) -> list[Sample]:
    """What `write_samples` wrote."""
    frame = pl.read_parquet(path, glob=False)
    with _collector_paused():
        columns = [frame[name].to_list() for name in SCHEMA]
        return [
            Sample(task, template, user, tuple(items), tuple(map(Segment, *segments)))
            for task, template, user, items, *segments in zip(*columns, strict=True)
        ]


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Hundreds of thousands of small values are made at a stroke, none of them in a cycle: looking for cycles took most of it."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
