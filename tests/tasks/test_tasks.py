"""The six tasks: each passes the exam, and each says what it promises of its own."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelftalk.data.dataset import make_dataset
from shelftalk.data.splitting import TRAIN, Split, SplitSettings, split_leave_one_out
from shelftalk.errors import SettingsError, TemplateError
from shelftalk.records import Request, Sample
from shelftalk.tasks.item_text import ItemText, TextSettings
from shelftalk.tasks.masked_items import MaskedItems, MaskedItemsSettings
from shelftalk.tasks.masked_language import MaskedLanguage, MaskedLanguageSettings
from shelftalk.tasks.pairwise_preference import PairwisePreference, PairwisePreferenceSettings
from shelftalk.tasks.ranking import RankingSettings, RankingTask
from shelftalk.tasks.rating import RatingSettings, RatingTask
from shelftalk.tasks.retrieval import RetrievalSettings, RetrievalTask
from shelftalk.tasks.task import TaskContext, windows
from shelftalk.testing.task_exams import (
    ServedTaskExam,
    TaskExam,
    exam_context,
    exam_index,
    training_histories,
    world_split,
)

FULL = {"weight": 1.0, "text_share": 1.0}
"""Every sample of the task's own epoch, with its items' texts."""


class TestRetrieval(ServedTaskExam):
    def build(self, context: TaskContext) -> RetrievalTask:
        return RetrievalTask(RetrievalSettings(**FULL, max_history=5), context)

    def request_of(self, sample: Sample, split: Split) -> Request:
        return Request(sample.user, sample.items[:-1])


class TestRetrievalOfLastItems(TestRetrieval):
    def build(self, context: TaskContext) -> RetrievalTask:
        return RetrievalTask(RetrievalSettings(**FULL, max_history=5, targets=1), context)


class TestRanking(ServedTaskExam):
    draws_negatives = True

    def build(self, context: TaskContext) -> RankingTask:
        return RankingTask(RankingSettings(**FULL, max_history=5, max_negatives=9), context)

    def requests(self, split: Split) -> list[Request]:
        return split.ranking_requests("validation")[0]

    def request_of(self, sample: Sample, split: Split) -> Request:
        taken = training_histories(split)[sample.user]
        place = taken.index(answer(sample, split))
        shown = len(taken[max(0, place - 5) : place])
        return Request(sample.user, tuple(taken[:place]), candidates=sample.items[shown:])


class TestRating(ServedTaskExam):
    def build(self, context: TaskContext) -> RatingTask:
        return RatingTask(RatingSettings(**FULL, max_history=5), context)

    def requests(self, split: Split) -> list[Request]:
        return split.rating_requests("validation")[0]

    def request_of(self, sample: Sample, split: Split) -> Request:
        known = visible_ratings(split)
        ratings = tuple(known.get((sample.user, item)) for item in sample.items[:-1])
        return Request(sample.user, sample.items[:-1], ratings, item=sample.items[-1])


class TestMaskedItems(TaskExam):
    def build(self, context: TaskContext) -> MaskedItems:
        return MaskedItems(MaskedItemsSettings(**FULL, max_history=6), context)


class TestMaskedLanguage(TaskExam):
    def build(self, context: TaskContext) -> MaskedLanguage:
        return MaskedLanguage(MaskedLanguageSettings(**FULL, max_history=6), context)


class TestPairwisePreference(TaskExam):
    draws_negatives = True

    def build(self, context: TaskContext) -> PairwisePreference:
        return PairwisePreference(PairwisePreferenceSettings(**FULL, max_history=4, questions=2), context)


def answer(sample: Sample, split: Split) -> str:
    """The item that the last segment bearing loss names."""
    return exam_index(split).item([s.text for s in sample.segments if s.bears_loss][-1])


def visible_ratings(split: Split) -> dict[tuple[str, str], float]:
    """(user, item) -> rating, of the training part alone."""
    rows = split.dataset.events.filter(pl.Series(split.rating_part == TRAIN)).select("user_id", "item_id", "rating").iter_rows()
    return {(user, item): rating for user, item, rating in rows}


def learned(samples: list[Sample], split: Split) -> Counter[tuple[str, str]]:
    """How often the name of (user, item) bears loss."""
    index = exam_index(split)
    return Counter((sample.user, index.item(s.text)) for sample in samples for s in sample.segments if s.bears_loss and s.symbols)


# --- windows ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 60), st.integers(2, 20), st.integers(0, 10))
def test_windows_follow_each_other_and_leave_out_lone_items_at_the_ends_alone(length, size, seed):
    cut = list(windows(length, size, np.random.default_rng(seed)))
    assert all(0 < stop - start <= size for start, stop in cut)
    assert all(before[1] == after[0] for before, after in zip(cut, cut[1:], strict=False))
    assert cut[0][0] <= 1 and cut[-1][1] >= length - 1
    assert length > size or cut == [(0, length)]


def test_over_the_epochs_every_item_stands_at_every_distance_from_the_start_of_its_window():
    draw = np.random.default_rng(0)
    cuts = [cut for _ in range(200) for cut in windows(20, 6, draw)]
    assert {11 - start for start, stop in cuts if start <= 11 < stop} == set(range(6))


# --- retrieval -------------------------------------------------------------------------------------------------------


def test_every_training_event_bears_loss_once_an_epoch():
    split = world_split("tiny")
    for epoch in range(3):
        seen = learned(RetrievalTask(RetrievalSettings(**FULL), exam_context(split)).samples(epoch), split)
        assert seen == Counter((user, item) for user, items in training_histories(split).items() for item in items)


def test_in_short_windows_no_event_bears_loss_twice_and_lone_ones_are_left_out_by_chance():
    split = world_split("tiny")
    task = RetrievalTask(RetrievalSettings(**FULL, max_history=3), exam_context(split))
    seen = [learned(task.samples(epoch), split) for epoch in range(6)]
    events = {(user, item) for user, items in training_histories(split).items() for item in items}
    assert all(set(one.values()) == {1} and len(one) > 0.8 * len(events) for one in seen)
    assert set().union(*seen) == events


def test_as_many_items_bear_loss_as_targets_says():
    split = world_split("tiny")
    for targets in (1, 3):
        for sample in RetrievalTask(RetrievalSettings(**FULL, max_history=5, targets=targets), exam_context(split)).samples(0):
            said = [s.text for s in sample.segments if s.bears_loss]
            assert said == [exam_index(split).name(item) for item in sample.items[-targets:]]


def test_a_wording_that_goes_on_after_the_history_takes_one_target(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text('[[template]]\nname = "own"\nsource = "They took {history}What next?\\n"\ntarget = "{item}"\n')
    context = exam_context(world_split("tiny"))
    with pytest.raises(TemplateError, match="tasks.retrieval.targets = 1"):
        RetrievalTask(RetrievalSettings(**FULL, templates=str(path)), context)
    assert RetrievalTask(RetrievalSettings(**FULL, templates=str(path), targets=1), context).samples(0)


def test_words_before_the_answer_belong_to_the_source(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text('[[template]]\nname = "own"\nsource = "They took {history}"\ntarget = "Then {item}"\n')
    with pytest.raises(TemplateError, match="move them to the end of its source"):
        RetrievalTask(RetrievalSettings(**FULL, templates=str(path)), exam_context(world_split("tiny")))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_the_share_of_samples_with_texts_is_kept_and_the_model_is_asked_as_it_learned_most(share):
    split = world_split("tiny")
    task = RetrievalTask(RetrievalSettings(weight=1, text_share=share), exam_context(split))
    samples = [sample for epoch in range(10) for sample in task.samples(epoch)]
    shown = [any(" No. " in segment.text for segment in sample.segments) for sample in samples]
    assert sum(shown) / len(shown) == pytest.approx(share, abs=0.06)
    prompt = task.prompt(Request("", ("i1",)), task.seen[0])
    assert any(" No. " in segment.text for segment in prompt) == (share >= 0.5)


# --- rating ----------------------------------------------------------------------------------------------------------


def test_each_visible_training_rating_bears_loss_once_and_no_other():
    split = world_split("tiny")
    index, known = exam_index(split), visible_ratings(split)
    said: Counter[tuple[str, str, float]] = Counter()
    for sample in RatingTask(RatingSettings(**FULL), exam_context(split)).samples(0):
        for before, segment in zip(sample.segments[:-1], sample.segments[1:], strict=True):
            if segment.bears_loss:
                name = [s.text for s in sample.segments[: sample.segments.index(before) + 1] if s.symbols][-1]
                said[sample.user, index.item(name), float(segment.text)] += 1
    assert said == Counter((user, item, value) for (user, item), value in known.items())


def test_no_rating_that_is_held_out_is_shown():
    split = world_split("tiny")
    known = visible_ratings(split)
    task = RatingTask(RatingSettings(**FULL), exam_context(split))
    index = exam_index(split)
    for sample in [*task.samples(0), *task.validation()]:
        *lines, asked = sample.text.split("\n")[1:]
        for line in lines:
            item = index.item(line[: line.rindex(">") + 1])
            shown = line.partition(": ")[2]
            assert float(shown) == known[sample.user, item] if shown else (sample.user, item) not in known


def test_a_rating_prompt_shows_only_training_events_before_the_rated_one():
    split = world_split("tiny")
    taken, order = training_histories(split), {}
    for user, item, position in split.dataset.events.select("user_id", "item_id", "position").iter_rows():
        order[user, item] = position
    for part in ("validation", "test"):
        for request in split.rating_requests(part)[0]:
            assert set(request.history).issubset(taken[request.user])
            assert all(order[request.user, item] < order[request.user, request.item] for item in request.history)


def test_rating_windows_end_at_a_rating():
    split = world_split("tiny")
    for sample in RatingTask(RatingSettings(**FULL, max_history=3), exam_context(split)).samples(0):
        assert sample.segments[-1].bears_loss and float(sample.segments[-1].text) > 0


@pytest.mark.parametrize("values", [[1, 2, 3, 4, 5], [0.5, 4.5], [1, 5, 10], [-10, -1, 1, 10], [0, 50, 100], [0.25, 1, 12.5]])
def test_no_rating_text_begins_another(values):
    texts = list(rated_context([float(value) for value in values]).rating_texts.values())
    assert [float(text) for text in texts] == sorted(map(float, values))
    assert not any(a != b and b.startswith(a) for a in texts for b in texts)
    assert all(text.startswith(" ") for text in texts)


def test_ratings_closer_than_their_texts_are_told():
    with pytest.raises(SettingsError, match="round them"):
        _ = rated_context([3.00000001, 3.00000002, 4.0]).rating_texts


def test_more_than_a_hundred_rating_values_leave_the_task_out_and_say_why():
    assert rated_context([1.0, 2.0, 4.0]).split.why_no_rating_task == ""
    why = rated_context([float(value) for value in range(101)]).split.why_no_rating_task
    assert "101 different ratings; round them" in why


def test_a_rating_outside_the_training_scale_is_said_as_the_nearest():
    context = rated_context([1.0, 2.0, 4.0])
    assert [context.rating_text(value) for value in (0.0, 2.9, 3.1, 9.0)] == [" 1", " 2", " 4", " 4"]


def test_a_request_may_show_a_rating_that_training_never_saw():
    task = RatingTask(RatingSettings(**FULL), exam_context(world_split("tiny")))
    prompt = task.prompt(Request("", ("i1",), (3.3,), item="i2"), task.seen[0])
    assert " 3.5" in [segment.text for segment in prompt]


def rated_context(values: list[float]) -> TaskContext:
    """One user whose training ratings are `values`."""
    number = len(values) + 2
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(number)]})
    ratings = pl.Series([*values, 1, 1], dtype=pl.Float64)
    events = items.with_columns(user_id=pl.lit("u"), position=pl.int_range(pl.len(), dtype=pl.Int64), rating=ratings)
    parts = np.array([0] * len(values) + [1, 2], np.uint8)
    return exam_context(Split(make_dataset(items, events), parts, parts, {}))


# --- small and hostile worlds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("events", [3, 4])
def test_users_of_one_or_two_training_events_make_samples_of_every_task(events):
    rows = [(f"u{u}", f"i{(u + n) % 9}", n, float(1 + (u + n) % 5)) for u in range(30) for n in range(events)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "position", "rating"], orient="row")
    data = make_dataset(pl.DataFrame({"item_id": [f"i{n}" for n in range(9)]}), frame)
    split = split_leave_one_out(data, SplitSettings(ranking_negatives=3), seed=0)
    context = exam_context(split)
    for task in (
        RetrievalTask(RetrievalSettings(**FULL), context),
        RankingTask(RankingSettings(**FULL), context),
        RatingTask(RatingSettings(**FULL), context),
        MaskedItems(MaskedItemsSettings(**FULL), context),
        MaskedLanguage(MaskedLanguageSettings(**FULL), context),
        PairwisePreference(PairwisePreferenceSettings(**FULL), context),
    ):
        assert all(any(s.bears_loss for s in sample.segments) for sample in task.samples(0)) and task.samples(0)


def test_braces_in_titles_are_left_alone():
    split = world_split("nasty")
    row = split.dataset.items.filter(pl.col("title").str.starts_with("{history}"))["item_id"][0]
    task = RetrievalTask(RetrievalSettings(**FULL), exam_context(split))
    text = "".join(segment.text for segment in task.prompt(Request("", (row,)), task.seen[0]))
    assert "{history} {{item}} {0} {} %s ${title} {{ items | first }}" in text


def test_the_fields_beside_a_name_are_shown_in_their_order_and_cut():
    split = world_split("tiny")
    item = next(item for item in split.dataset.item_ids if (row := split.dataset.item(item)).brand and row.price)
    row = split.dataset.item(item)
    shown = ItemText(split.dataset, exam_index(split), TextSettings(fields=("brand", "title", "price", "description")))
    assert shown.beside(item) == f"{row.brand}, {row.title}, {row.price:g}"
    assert len(ItemText(split.dataset, exam_index(split), TextSettings(max_characters=9)).beside(item)) <= 9
    bare = ItemText(split.dataset, exam_index(split), TextSettings(fields=()))
    assert [segment.text for segment in bare.line(item)] == [exam_index(split).name(item), "\n"]


def test_a_title_that_is_the_name_is_not_shown_twice():
    split = world_split("tiny")
    titled = replace(exam_index(split), scheme="titles", names=tuple(split.dataset.items["title"]), symbols=False, end="\n")
    text = ItemText(split.dataset, titled, TextSettings())
    item = split.dataset.item_ids[0]
    assert "".join(segment.text for segment in text.line(item)) == split.dataset.item(item).title + "\n"
