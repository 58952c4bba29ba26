"""Numbers in order of appearance: everything but the leak checks passes, and the leak is measured and
reported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shelftalk import parts
from shelftalk.data.splitting import Split
from shelftalk.indexing import numbers, sequential
from shelftalk.indexing.item_index import LEAK, IndexSettings, ItemIndex
from shelftalk.testing.task_exams import IndexExam, world_split


class TestSequential(IndexExam):
    def build(self, split: Split) -> ItemIndex:
        return sequential.build(split, IndexSettings(scheme="sequential"), seed=0)

    def test_replacing_all_that_is_held_out_changes_no_name(self) -> None:
        """The check of every other scheme goes red here, so it would find such a leak."""
        with pytest.raises(AssertionError):
            super().test_replacing_all_that_is_held_out_changes_no_name()


def guessed_right(index: ItemIndex, split: Split) -> float:
    """Share of users whose test item is among the ten numbers after the greatest of their history: no
    learning at all."""
    requests, truths = split.retrieval_requests("test")
    ahead = [
        int(index.name(truth)) - max(int(index.name(item)) for item in r.history)
        for r, truth in zip(requests, truths, strict=True)
    ]
    return float(np.mean([0 < step <= 10 for step in ahead]))


def test_guessing_the_next_numbers_finds_held_out_items_and_does_not_with_random_numbers():
    split = world_split("tiny")
    leaking, honest = (module.build(split, IndexSettings(), seed=0) for module in (sequential, numbers))
    assert guessed_right(leaking, split) > 3 * guessed_right(honest, split)


def test_numbers_follow_whole_histories_in_order():
    split = world_split("tiny")
    index = sequential.build(split, IndexSettings(), seed=0)
    first = split.dataset.event_item[: split.dataset.bounds[1]]
    assert [int(index.names[row]) for row in first.tolist()] == list(range(len(first)))


def test_the_leak_is_reported_before_any_training_and_by_the_file(tmp_path: Path):
    index = sequential.build(world_split("tiny"), IndexSettings(), seed=0)
    assert index.leaks and index.statistics()["warning"] == LEAK
    index.save(tmp_path / "item_index.parquet")
    assert ItemIndex.load(tmp_path / "item_index.parquet").leaks
    honest = numbers.build(world_split("tiny"), IndexSettings(), seed=0)
    assert not honest.leaks and "warning" not in honest.statistics()


def test_no_scheme_leaks_but_those_that_are_declared_as_leaking():
    declared = {name for name, scheme in parts.INDEXINGS.items() if scheme.leaks}
    split = world_split("tiny")
    settings = IndexSettings(codes=4, dimensions=4, clusters=3, leaf_items=20)
    assert {
        name
        for name in parts.INDEXINGS
        if parts.load(parts.INDEXINGS, name, "scheme")(split, settings, 0).leaks
    } == declared
    assert IndexSettings().scheme not in declared and IndexSettings().ids not in declared
