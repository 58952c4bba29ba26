"""Item tasks: each passes the exam for tasks about items, and has promises of its own."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import polars as pl
import pytest

from shelftalk.data.dataset import make_dataset
from shelftalk.data.similarity import nearest_by_text
from shelftalk.data.splitting import Split, SplitSettings, split_leave_one_out
from shelftalk.records import Sample
from shelftalk.tasks import task as task_module
from shelftalk.tasks.item_meaning import (
    SMALL,
    AlikeItem,
    AlikeSettings,
    ItemMeaningSettings,
    NameToText,
    TextToName,
)
from shelftalk.tasks.item_text import ItemText, TextSettings
from shelftalk.tasks.task import TaskContext
from shelftalk.testing.task_exams import ItemTaskExam, exam_context, exam_index, world_split
from tests.tasks.answers import with_a_neighbour


class TestNameToText(ItemTaskExam):
    def build(self, context: TaskContext) -> NameToText:
        return NameToText(ItemMeaningSettings(), context)


class TestNameToTextOfAllFields(TestNameToText):
    text = TextSettings(fields=("title", "brand", "categories", "price", "description"), max_characters=40)

    def test_an_epoch_goes_once_through_the_items_that_have_what_it_needs(self) -> None:
        # brands, categories and prices leave no item without a text
        for world in ("tiny", "nasty", "untitled"):
            split = world_split(world)
            assert sorted(sample.items[0] for sample in self.samples(split)) == sorted(split.dataset.item_ids)


class TestTextToName(ItemTaskExam):
    def build(self, context: TaskContext) -> TextToName:
        return TextToName(ItemMeaningSettings(), context)


class TestAlikeItem(ItemTaskExam):
    def build(self, context: TaskContext) -> AlikeItem:
        return AlikeItem(AlikeSettings(), context)

    def gone_through(self, split: Split) -> set[str]:
        return with_a_neighbour(split)


class TestNameToTextNamingUsers(TestNameToText):
    """Nobody is named where a sample is about nobody."""

    text = TextSettings(user_ids=True)

    def test_no_user_is_named(self) -> None:
        assert not any(
            s.symbols and s.text.startswith("<u_")
            for x in self.samples(world_split("tiny"))
            for s in x.segments
        )


@pytest.fixture
def few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_module, "CHUNK", 7)


@pytest.mark.usefixtures("few_at_a_time")
class TestNameToTextInChunks(TestNameToText):
    pass


@pytest.mark.usefixtures("few_at_a_time")
class TestAlikeItemInChunks(TestAlikeItem):
    pass


def answer_text(sample: Sample) -> str:
    return "".join(segment.text for segment in sample.segments if segment.bears_loss)


@pytest.mark.parametrize("world", ["tiny", "nasty"])
def test_a_name_is_followed_by_its_text_and_a_text_by_its_name(world):
    split = world_split(world)
    context, index = exam_context(split), exam_index(split)
    for sample in NameToText(ItemMeaningSettings(weight=1), context).samples(0):
        (item,) = sample.items
        assert answer_text(sample) == f"{context.text.details(item)}\n" and index.name(item) in [
            s.text for s in sample.segments if s.symbols
        ]
        assert not any(segment.bears_loss for segment in sample.segments if segment.symbols)
    for sample in TextToName(ItemMeaningSettings(weight=1), context).samples(0):
        (item,) = sample.items
        assert answer_text(sample) == index.name(item) and f"{context.text.details(item)}\n" in [
            s.text for s in sample.segments
        ]
        # the name is in the answer alone
        assert [s.text for s in sample.segments if s.symbols] == [index.name(item)]


def test_a_name_of_free_text_is_the_whole_answer_and_its_text_is_read_once():
    split = world_split("tiny")
    index = exam_index(split, "numbers")
    sample = TextToName(ItemMeaningSettings(weight=1), exam_context(split, index)).samples(0)[0]
    assert (
        answer_text(sample) == index.name(sample.items[0])
        and sample.text.count(split.dataset.item(sample.items[0]).title) == 1
    )


def choices(split: Split, number: int = 1, **more: int) -> list[tuple[int, list[int], int]]:
    """(item, options, answer) as catalogue rows, over some epochs; read off the text."""
    index, rows = exam_index(split), split.dataset.row_of
    task = AlikeItem(AlikeSettings(weight=1, **more), exam_context(split))
    samples = []
    for epoch in range(number):
        for sample in task.samples(epoch):
            names = [(rows[index.item(s.text)], s.bears_loss) for s in sample.segments if s.symbols]
            (item, _), *options, (answer, bears_loss) = names
            assert bears_loss and not any(loss for _, loss in names[:-1])
            assert [rows[each] for each in sample.items] == [row for row, _ in names[:-1]]
            samples.append((item, [row for row, _ in options], answer))
    return samples


@pytest.mark.parametrize("world", ["tiny", "nasty", "untitled"])
def test_the_answer_is_one_of_the_nearest_and_no_other_option_is(world):
    split = world_split(world)
    nearest = nearest_by_text(split.dataset.items, 5)
    for item, options, answer in choices(split, 2):
        assert len(set(options)) == len(options) == 4 and item not in options
        assert set(options).intersection(nearest[item].tolist()) == {answer}


def test_each_of_the_nearest_is_an_answer_at_every_position_equally_often():
    split = world_split("tiny")
    nearest = nearest_by_text(split.dataset.items, 3)
    lists = choices(split, 30, neighbours=3)
    positions = Counter(options.index(answer) for _, options, answer in lists)
    ranks = Counter(nearest[item].tolist().index(answer) for item, _, answer in lists)
    for met in (positions, ranks):
        assert all(number == pytest.approx(len(lists) / len(met), rel=0.12) for number in met.values())
    assert set(positions) == set(range(4)) and set(ranks) == set(range(3))


def test_the_other_options_are_drawn_from_the_whole_catalogue_alike():
    others = Counter(
        row for _, options, answer in choices(world_split("tiny"), 60) for row in options if row != answer
    )
    assert len(others) == 120 and max(others.values()) < 1.8 * min(others.values())


@pytest.mark.parametrize("options", [2, 10])
def test_the_requested_number_of_options_is_shown(options):
    assert {len(shown) for _, shown, _ in choices(world_split("tiny"), options=options)} == {options}


def test_in_a_catalogue_of_few_all_there_are_are_shown():
    rows = [(f"u{n}", f"i{(n + position) % 8}", position) for n in range(8) for position in range(4)]
    items = pl.DataFrame(
        {"item_id": [f"i{n}" for n in range(8)], "title": ["red tea", "red lamp"] * 2 + ["boots"] * 3 + [""]}
    )
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "position"], orient="row")
    split = split_leave_one_out(make_dataset(items, events), SplitSettings(ranking_negatives=1), seed=0)
    lists = choices(split, options=20, neighbours=2)
    assert len(split.dataset.items) < SMALL and len(lists) == 7
    for _, options, _ in lists:
        # all but the item and its nearest, and the answer
        assert len(set(options)) == len(options) == 8 - 1 - 2 + 1


def test_a_mixed_name_gives_its_id_the_meaning_and_not_its_title_itself():
    split = world_split("tiny")
    index = replace(exam_index(split), words=tuple(split.dataset.items["title"]), end="\n")
    context = TaskContext(split, ItemText(split.dataset, index, TextSettings()))
    title = dict(zip(split.dataset.items["item_id"], split.dataset.items["title"], strict=True))
    texts, named = (
        kind(ItemMeaningSettings(weight=1), context).samples(0) for kind in (NameToText, TextToName)
    )
    assert len(texts) == len(named) == len(title)
    for sample in texts:
        assert answer_text(sample) == f"{title[sample.items[0]]}\n" and title[
            sample.items[0]
        ] not in sample.text.replace(answer_text(sample), "")
    for sample in named:
        assert answer_text(sample) == index.name(sample.items[0])
