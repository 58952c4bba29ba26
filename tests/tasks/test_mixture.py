"""Mixture: an epoch is one shuffled order of all tasks' samples, and a file keeps it as it is."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelftalk.records import Sample, Segment
from shelftalk.tasks.masked_items import MaskedItems, MaskedItemsSettings
from shelftalk.tasks.mixture import epoch_samples, read_samples, write_samples
from shelftalk.tasks.retrieval import RetrievalSettings, RetrievalTask
from shelftalk.tasks.task import Task
from shelftalk.testing.task_exams import exam_context, world_split

TEXT = st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=12)
SAMPLES = st.lists(
    st.builds(
        Sample,
        task=TEXT,
        template=TEXT,
        user=TEXT,
        items=st.lists(TEXT, max_size=4).map(tuple),
        segments=st.lists(st.builds(Segment, TEXT, st.booleans(), st.booleans()), max_size=4).map(tuple),
    ),
    max_size=6,
)


def tasks(world: str = "tiny", weight: float = 1.0) -> list[Task]:
    context = exam_context(world_split(world))
    return [RetrievalTask(RetrievalSettings(weight=1), context), MaskedItems(MaskedItemsSettings(weight=weight), context)]


def test_an_epoch_holds_all_samples_of_its_tasks_shuffled_together():
    samples = epoch_samples(tasks(), 0, seed=0)
    apart = [sample for task in tasks() for sample in task.samples(0)]
    assert Counter(samples) == Counter(apart) and samples != apart
    changes = sum(a.task != b.task for a, b in zip(samples, samples[1:], strict=False))
    assert changes > len(samples) / 4


def test_an_epoch_depends_on_seed_and_number_and_not_on_those_before_it():
    assert epoch_samples(tasks(), 3, seed=0) == [epoch_samples(each, 3, seed=0) for each in [tasks()]][0]
    several = tasks()
    for epoch in range(3):
        epoch_samples(several, epoch, seed=0)
    assert epoch_samples(several, 3, seed=0) == epoch_samples(tasks(), 3, seed=0)
    assert epoch_samples(tasks(), 3, seed=0) != epoch_samples(tasks(), 3, seed=1)
    assert epoch_samples(tasks(), 3, seed=0) != epoch_samples(tasks(), 4, seed=0)


def test_a_task_switched_off_leaves_the_samples_of_the_others_as_they_are():
    on, off = epoch_samples(tasks(), 0, seed=0), epoch_samples(tasks(weight=0), 0, seed=0)
    assert {sample.task for sample in off} == {"retrieval"}
    assert Counter(off) == Counter(sample for sample in on if sample.task == "retrieval")


@pytest.mark.parametrize("world", ["tiny", "nasty"])
def test_what_was_written_is_what_is_read_in_its_order(tmp_path, world):
    samples = epoch_samples(tasks(world), 0, seed=0)
    write_samples(samples, tmp_path / "epoch.parquet")
    assert read_samples(tmp_path / "epoch.parquet") == samples


@given(SAMPLES)
@settings(max_examples=60, deadline=None)
def test_any_sample_can_be_kept(tmp_path_factory, samples):
    path = tmp_path_factory.mktemp("samples") / "epoch.parquet"
    write_samples(samples, path)
    assert read_samples(path) == samples


def test_the_same_epoch_is_the_same_file_to_the_byte(tmp_path):
    for name in ("one", "other"):
        write_samples(epoch_samples(tasks(), 0, seed=0), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
