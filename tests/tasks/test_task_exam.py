"""The exams of indexes and tasks themselves: each broken promise fails the check that is named for
it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from shelftalk.data.splitting import Split
from shelftalk.indexing.item_index import ItemIndex
from shelftalk.records import Request, Sample, Segment
from shelftalk.tasks import task as task_module
from shelftalk.tasks.item_meaning import ItemMeaningSettings, NameToText
from shelftalk.tasks.retrieval import RetrievalSettings, RetrievalTask
from shelftalk.tasks.samples import Samples, samples_of
from shelftalk.tasks.task import TaskContext
from shelftalk.tasks.templates import Template
from shelftalk.testing.task_exams import IndexExam, ItemTaskExam, ServedTaskExam, TaskExam, exam_index


class Spoiled(RetrievalTask):
    def spoil(self, sample: Sample) -> Sample:
        return sample

    def epoch(self, numbers: np.ndarray, rng: np.random.Generator) -> Samples:
        return samples_of(map(self.spoil, super().epoch(numbers, rng)), self.context.tables)


class TellsTheUser(Spoiled):
    def spoil(self, sample: Sample) -> Sample:
        return replace(sample, segments=(Segment(sample.user), *sample.segments))


class TellsTheFuture(Spoiled):
    """Appends the user's validation item."""

    def spoil(self, sample: Sample) -> Sample:
        split = self.context.split
        user = split.dataset.user_ids.index(sample.user)
        item = split.dataset.item_ids[split.dataset.event_item[split.held_out_events("validation")[user]]]
        return replace(
            sample,
            items=(*sample.items, item),
            segments=(*sample.segments, *self.context.text.name(item, True)),
        )


class LearnsNothing(Spoiled):
    def spoil(self, sample: Sample) -> Sample:
        return replace(
            sample, segments=tuple(replace(segment, bears_loss=False) for segment in sample.segments)
        )


class ReadsTitlesAsSymbols(Spoiled):
    def spoil(self, sample: Sample) -> Sample:
        return replace(
            sample, segments=tuple(replace(s, symbols=s.symbols or "<" in s.text) for s in sample.segments)
        )


class AsksOtherwise(RetrievalTask):
    def prompts(self, requests: Sequence[Request], template: Template) -> Samples:
        prompts = super().prompts(requests, template)
        return samples_of(
            (replace(sample, segments=(*sample.segments, Segment("Next: "))) for sample in prompts),
            prompts.tables,
        )


class MixesRequestsUp(RetrievalTask):
    def prompts(self, requests: Sequence[Request], template: Template) -> Samples:
        return super().prompts(requests[::-1], template)


class NamesTheUserUnasked(Spoiled):
    def spoil(self, sample: Sample) -> Sample:
        return replace(sample, segments=(*sample.segments, Segment("<u_1>", symbols=True)))


class SaysAnEmptySegment(Spoiled):
    def spoil(self, sample: Sample) -> Sample:
        return replace(sample, segments=(*sample.segments, Segment("", True)))


class ForgetsTheItems(Spoiled):
    def spoil(self, sample: Sample) -> Sample:
        return replace(sample, items=sample.items[:-1])


class IsDrawnOnceForAll(RetrievalTask):
    """Every chunk and every round of an epoch is that of all users."""

    def epoch(self, numbers: np.ndarray, rng: np.random.Generator) -> Samples:
        return super().epoch(np.arange(len(self.context.split.dataset.user_ids)), np.random.default_rng(0))


class DependsOnTheRun(RetrievalTask):
    runs = 0

    def epoch(self, numbers: np.ndarray, rng: np.random.Generator) -> Samples:
        DependsOnTheRun.runs += 1
        return super().epoch(numbers, np.random.default_rng(self.runs))


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (TellsTheUser, TaskExam.test_no_user_id_is_in_any_text),
        (TellsTheFuture, TaskExam.test_replacing_all_that_is_held_out_changes_no_sample),
        (TellsTheFuture, TaskExam.test_the_items_of_a_sample_are_training_items_of_its_user),
        (LearnsNothing, TaskExam.test_every_sample_has_something_to_learn_after_something_to_read),
        (ReadsTitlesAsSymbols, TaskExam.test_hostile_texts_stay_free_text_within_their_line),
        (DependsOnTheRun, TaskExam.test_an_epoch_depends_on_seed_and_number_alone),
        (NamesTheUserUnasked, TaskExam.test_a_user_is_shown_by_their_symbol_or_not_at_all),
        (NamesTheUserUnasked, TaskExam.test_hostile_texts_stay_free_text_within_their_line),
        (SaysAnEmptySegment, TaskExam.test_no_segment_is_empty_and_symbols_are_whole),
        (ForgetsTheItems, TaskExam.test_the_items_of_a_sample_are_those_that_its_text_names),
        (IsDrawnOnceForAll, TaskExam.test_the_chunks_one_after_the_other_are_the_epoch_and_no_user_is_in_two),
        (IsDrawnOnceForAll, TaskExam.test_the_weight_is_how_often_the_epoch_is_taken),
        (MixesRequestsUp, ServedTaskExam.test_prompts_of_many_requests_are_those_of_each_alone),
        (
            AsksOtherwise,
            ServedTaskExam.test_a_training_text_is_the_prompt_and_then_the_answer_in_all_templates,
        ),
    ],
)
def test_a_task_that_breaks_a_promise_fails_its_check(kind, check, monkeypatch):
    monkeypatch.setattr(task_module, "CHUNK", 20)

    class Exam(ServedTaskExam):
        def build(self, context: TaskContext) -> RetrievalTask:
            return kind(RetrievalSettings(weight=1, text_share=1), context)

        def request_of(self, sample: Sample, split: Split) -> Request:
            return Request(sample.user, sample.items[:-1])

    with pytest.raises(AssertionError):
        check(Exam())


class ReadsTheEvents(NameToText):
    """Goes through the items that the first users have taken."""

    def epoch(self, numbers: np.ndarray, rng: np.random.Generator) -> Samples:
        return super().epoch(np.intersect1d(numbers, self.context.split.dataset.event_item[:50]), rng)


class PassesNothingOver(NameToText):
    def epoch(self, numbers: np.ndarray, rng: np.random.Generator) -> Samples:
        row_of, items = self.context.split.dataset.row_of, self.context.split.dataset.item_ids
        seen = list(super().epoch(numbers, rng))
        missing = set(numbers.tolist()) - {row_of[sample.items[0]] for sample in seen}
        blank = (
            Sample(self.name, "plain", "", (items[row],), (Segment("?"), Segment("!", True)))
            for row in sorted(missing)
        )
        return samples_of([*seen, *blank], self.context.tables)


class IsAboutSomebody(NameToText):
    def epoch(self, numbers: np.ndarray, rng: np.random.Generator) -> Samples:
        user = self.context.split.dataset.user_ids[0]
        return samples_of((replace(s, user=user) for s in super().epoch(numbers, rng)), self.context.tables)


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (ReadsTheEvents, ItemTaskExam.test_samples_are_made_of_the_catalogue_alone),
        (
            ReadsTheEvents,
            ItemTaskExam.test_an_epoch_goes_once_through_the_items_that_have_what_it_needs,
        ),
        (
            PassesNothingOver,
            ItemTaskExam.test_an_epoch_goes_once_through_the_items_that_have_what_it_needs,
        ),
        (PassesNothingOver, ItemTaskExam.test_a_catalogue_without_a_word_makes_no_sample),
        (IsAboutSomebody, ItemTaskExam.test_a_sample_is_about_nobody),
    ],
)
def test_an_item_task_that_breaks_a_promise_fails_its_check(kind, check):
    class Exam(ItemTaskExam):
        def build(self, context: TaskContext) -> NameToText:
            return kind(ItemMeaningSettings(weight=1), context)

    with pytest.raises(AssertionError):
        check(Exam())


def in_order_of_appearance(split: Split) -> ItemIndex:
    """The numbering that leaks the answer."""
    seen = dict.fromkeys([*split.dataset.events["item_id"], *split.dataset.item_ids])
    number = {item: f"{position:03d}" for position, item in enumerate(seen)}
    return replace(exam_index(split, "numbers"), names=tuple(number[item] for item in split.dataset.item_ids))


def without_an_end(split: Split) -> ItemIndex:
    names = tuple(str(row) for row in range(len(split.dataset.item_ids)))
    return replace(exam_index(split, "numbers"), names=names)


@pytest.mark.parametrize(
    ("build", "check"),
    [
        (in_order_of_appearance, IndexExam.test_replacing_all_that_is_held_out_changes_no_name),
        (without_an_end, IndexExam.test_no_name_with_its_end_begins_another),
    ],
)
def test_an_index_that_breaks_a_promise_fails_its_check(
    build: Callable[[Split], ItemIndex], check: Callable[[IndexExam], None]
):
    class Exam(IndexExam):
        def build(self, split: Split) -> ItemIndex:
            return build(split)

    with pytest.raises(AssertionError):
        check(Exam())
