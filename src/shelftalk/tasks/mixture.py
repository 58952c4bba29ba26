"""Mixture: tasks times weights, as epochs of samples in one shuffled order, kept as Parquet.

An epoch depends on (data, settings, seed, its number) alone: neither on workers nor on how often the run was
resumed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from shelftalk import seeds
from shelftalk.tasks.samples import Samples, SamplesFile, joined, table_of
from shelftalk.tasks.task import Task


def number_of_chunks(tasks: Sequence[Task]) -> int:
    """Chunks of an epoch."""
    return tasks[0].number_of_chunks()


def epoch_chunk(tasks: Iterable[Task], epoch: int, seed: int, number: int) -> Samples:
    """The samples of some users, shuffled within them: the order of users is seeded too, and training draws
    its batches from the whole epoch."""
    samples = joined([task.chunk(epoch, number) for task in tasks])
    return samples.take(seeds.generator(seed, "mixture order", epoch, number).permutation(len(samples)))


def epoch_chunks(tasks: Iterable[Task], epoch: int, seed: int) -> Iterator[Samples]:
    """The samples of one epoch, a chunk at a time."""
    tasks = list(tasks)
    return (epoch_chunk(tasks, epoch, seed, number) for number in range(number_of_chunks(tasks)))


def chunk_table(tasks: Iterable[Task], epoch: int, seed: int, number: int) -> pa.Table:
    """A chunk as a table, the same whichever chunks these tasks have made before."""
    tasks = list(tasks)
    settle(tasks)
    return table_of(epoch_chunk(tasks, epoch, seed, number))


def settle(tasks: Iterable[Task]) -> None:
    """Make the pieces of text that do not depend on samples."""
    tasks = list(tasks)
    tables = tasks[0].context.tables
    if tables.settled > len(tables.pieces):
        for task in tasks:
            task.epoch(np.arange(0), np.random.default_rng(0))
        tables.settled = len(tables.pieces)


def epoch_samples(tasks: Iterable[Task], epoch: int, seed: int) -> Samples:
    """All samples of one epoch, shuffled as a whole, so that the first n are a random sample of all."""
    samples = joined(list(epoch_chunks(tasks, epoch, seed)))
    return samples.take(seeds.generator(seed, "whole mixture order", epoch).permutation(len(samples)))


def write_epoch(
    tasks: Iterable[Task], epoch: int, seed: int, path: Path, tables: Iterable[pa.Table] | None = None
) -> dict[str, int]:
    """Write one epoch, in memory that does not depend on the number of users; returns the number of samples
    by task. `tables`: those of its chunks in their order, where other processes make them."""
    tasks = list(tasks)
    if tables is None:
        chunks = range(number_of_chunks(tasks))
        tables = (chunk_table(tasks, epoch, seed, number) for number in chunks)
    counts: dict[str, int] = {}
    with SamplesFile(path) as file:
        for table in tables:
            file.add_table(table)
            for row in table["task"].value_counts().to_pylist():
                counts[row["values"]] = counts.get(row["values"], 0) + row["counts"]
    return {task.name: counts[task.name] for task in tasks if task.name in counts}


def write_samples(samples: Samples, path: Path) -> None:
    """One row per sample, in their order."""
    with SamplesFile(path) as file:
        file.add(samples)
