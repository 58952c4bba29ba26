"""Mixture: an epoch is one order of all tasks' samples, some users at a time, and a file keeps it as it
is."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from shelftalk.data.splitting import Split, SplitSettings, split_leave_one_out
from shelftalk.tasks import task as task_module
from shelftalk.tasks.item_meaning import AlikeItem, AlikeSettings, ItemMeaningSettings, NameToText
from shelftalk.tasks.masked_items import MaskedItems, MaskedItemsSettings
from shelftalk.tasks.masked_language import MaskedLanguage, MaskedLanguageSettings
from shelftalk.tasks.mixture import epoch_chunks, epoch_samples, write_epoch, write_samples
from shelftalk.tasks.pairwise_preference import PairwisePreference, PairwisePreferenceSettings
from shelftalk.tasks.ranking import RankingSettings, RankingTask
from shelftalk.tasks.rating import RatingSettings, RatingTask
from shelftalk.tasks.retrieval import RetrievalSettings, RetrievalTask
from shelftalk.tasks.samples import joined, read_samples
from shelftalk.tasks.task import Task
from shelftalk.testing.task_exams import exam_context, world_split
from shelftalk.testing.worlds import tiny_world
from tests.tasks.answers import FULL


def tasks(world: str = "tiny", weight: float = 1.0) -> list[Task]:
    context = exam_context(world_split(world))
    return [
        RetrievalTask(RetrievalSettings(weight=1), context),
        MaskedItems(MaskedItemsSettings(weight=weight), context),
    ]


def every_task(split: Split) -> list[Task]:
    context = exam_context(split)
    return [
        RetrievalTask(RetrievalSettings(**FULL), context),
        RankingTask(RankingSettings(**FULL, max_negatives=9), context),
        RatingTask(RatingSettings(**FULL), context),
        MaskedItems(MaskedItemsSettings(**FULL), context),
        MaskedLanguage(MaskedLanguageSettings(**FULL), context),
        PairwisePreference(PairwisePreferenceSettings(**FULL), context),
        NameToText(ItemMeaningSettings(**FULL), context),
        AlikeItem(AlikeSettings(**FULL), context),
    ]


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


def test_the_same_epoch_is_the_same_file_to_the_byte(tmp_path):
    for name in ("one", "other"):
        write_samples(epoch_samples(tasks(), 0, seed=0), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


# --- some users at a time
# --------------------------------------------------------------------------------------------


@pytest.fixture(params=[2, 7, 59, 60])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(task_module, "CHUNK", request.param)
    return request.param


def test_in_chunks_an_epoch_has_the_same_number_of_samples_of_every_task(chunk, monkeypatch):
    # its histories are shorter than a window of any task: no number is random
    split = world_split("tiny")
    in_chunks = epoch_samples(every_task(split), 0, seed=0).counts()
    monkeypatch.setattr(task_module, "CHUNK", 8192)
    assert in_chunks == epoch_samples(every_task(split), 0, seed=0).counts() and len(in_chunks) == 8


def test_a_chunk_never_holds_more_users_than_it_may(chunk):
    split = world_split("tiny")
    users = [
        {sample.user for sample in samples} - {""} for samples in epoch_chunks(every_task(split), 0, seed=0)
    ]
    assert max(map(len, users)) <= chunk and len(users) == -(-120 // chunk)  # of the 120 items
    assert sum(map(len, users)) == len(set().union(*users)) == 60


def test_what_is_written_a_chunk_at_a_time_is_the_epoch_in_a_row_group_each_and_counted(tmp_path, chunk):
    split = world_split("nasty")
    counts = write_epoch(every_task(split), 2, 5, tmp_path / "epoch")
    samples = joined(list(epoch_chunks(every_task(split), 2, 5)))
    assert read_samples(tmp_path / "epoch") == samples
    assert counts == samples.counts() == Counter(sample.task for sample in samples)
    assert Counter(epoch_samples(every_task(split), 2, 5)) == Counter(samples)
    assert pq.ParquetFile(tmp_path / "epoch").num_row_groups == -(-120 // chunk)


def test_the_same_epoch_is_streamed_into_the_same_file_to_the_byte_whatever_was_made_before(tmp_path, chunk):
    split = world_split("nasty")
    used = every_task(split)
    for epoch in range(2):
        write_epoch(used, epoch, 0, tmp_path / "before")
    write_epoch(used, 2, 0, tmp_path / "one")
    write_epoch(every_task(split), 2, 0, tmp_path / "other")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_what_comes_first_in_a_whole_epoch_is_of_all_users_however_small_the_chunks(monkeypatch):
    monkeypatch.setattr(task_module, "CHUNK", 5)
    samples = epoch_samples(every_task(world_split("tiny")), 0, seed=0)
    assert len({sample.user for sample in samples[:100]}) > 30
    assert len({sample.task for sample in samples[:100]}) == 8


def test_users_have_their_samples_together_and_are_not_in_one_order_every_epoch(monkeypatch):
    monkeypatch.setattr(task_module, "CHUNK", 20)
    first = [list(samples) for samples in epoch_chunks(tasks(), 0, seed=0)]
    assert all({sample.task for sample in samples} == {"retrieval", "masked_items"} for samples in first)
    second = [list(samples) for samples in epoch_chunks(tasks(), 1, seed=0)]
    assert [s.user for s in first[0]] != [s.user for s in second[0]] and {s.user for s in first[0]} == {
        s.user for s in second[0]
    }


def test_the_memory_of_writing_does_not_grow_with_the_number_of_users(tmp_path, monkeypatch):
    monkeypatch.setattr(task_module, "CHUNK", 50)
    few, many = (peak(users, tmp_path) for users in (150, 800))  # 120 items: three chunks at least
    assert many < 1.25 * few


def peak(users: int, folder: Path) -> int:
    """Bytes taken at most while an epoch is written, what is kept between epochs left out."""
    split = split_leave_one_out(tiny_world(users=users), SplitSettings(), seed=0)
    made = [task for task in every_task(split) if task.about == "users"]
    write_epoch(made, 0, 0, folder / "first")
    tracemalloc.start()
    write_epoch(made, 1, 0, folder / "second")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most
