"""Mixture: tasks times weights, as epochs of samples in one shuffled order, kept as Parquet.

An epoch depends on (data, settings, seed, its number) alone: neither on workers nor on how often the run was
resumed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from shelftalk import seeds
from shelftalk.tasks.samples import Samples, SamplesFile, joined
from shelftalk.tasks.task import Task


def epoch_chunks(tasks: Iterable[Task], epoch: int, seed: int) -> Iterator[Samples]:
    """The samples of one epoch, some users at a time and shuffled within them: the order of users is seeded
    too, and training draws its batches from the whole epoch."""
    for number, parts in enumerate(zip(*(task.chunks(epoch) for task in tasks), strict=True)):
        samples = joined(parts)
        yield samples.take(seeds.generator(seed, "mixture order", epoch, number).permutation(len(samples)))


def epoch_samples(tasks: Iterable[Task], epoch: int, seed: int) -> Samples:
    """All samples of one epoch, shuffled as a whole, so that the first n are a random sample of all."""
    samples = joined(list(epoch_chunks(tasks, epoch, seed)))
    return samples.take(seeds.generator(seed, "whole mixture order", epoch).permutation(len(samples)))


def write_epoch(tasks: Iterable[Task], epoch: int, seed: int, path: Path) -> dict[str, int]:
    """Write one epoch, in memory that does not depend on the number of users; returns the number of samples
    by task."""
    counts: dict[str, int] = {}
    with SamplesFile(path) as file:
        for samples in epoch_chunks(tasks, epoch, seed):
            file.add(samples)
            for task, number in samples.counts().items():
                counts[task] = counts.get(task, 0) + number
    return counts


def write_samples(samples: Samples, path: Path) -> None:
    """One row per sample, in their order."""
    with SamplesFile(path) as file:
        file.add(samples)
