"""The exams of indexes and tasks themselves: each broken promise is found by the check that is named for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from shelftalk.data.splitting import Split
from shelftalk.indexing.item_index import ItemIndex
from shelftalk.records import Request, Sample, Segment
from shelftalk.tasks.retrieval import RetrievalSettings, RetrievalTask
from shelftalk.tasks.task import TaskContext
from shelftalk.tasks.templates import Template
from shelftalk.testing.task_exams import IndexExam, ServedTaskExam, TaskExam, exam_index


class Spoiled(RetrievalTask):
    def spoil(self, sample: Sample) -> Sample:
        return sample

    def epoch(self, draw: np.random.Generator) -> Iterator[Sample]:
        return map(self.spoil, super().epoch(draw))


class TellsTheUser(Spoiled):
    def spoil(self, sample: Sample) -> Sample:
        return replace(sample, segments=(Segment(sample.user), *sample.segments))


class TellsTheFuture(Spoiled):
    """Appends the user's validation item."""

    def spoil(self, sample: Sample) -> Sample:
        split = self.context.split
        user = split.dataset.user_ids.index(sample.user)
        item = split.dataset.item_ids[split.dataset.event_item[split.held_out_event(user, "validation")]]
        return replace(sample, items=(*sample.items, item), segments=(*sample.segments, *self.context.text.name(item, True)))


class LearnsNothing(Spoiled):
    def spoil(self, sample: Sample) -> Sample:
        return replace(sample, segments=tuple(replace(segment, bears_loss=False) for segment in sample.segments))


class ReadsTitlesAsSymbols(Spoiled):
    def spoil(self, sample: Sample) -> Sample:
        return replace(sample, segments=tuple(replace(s, symbols=s.symbols or "<" in s.text) for s in sample.segments))


class AsksOtherwise(RetrievalTask):
    def prompt(self, request: Request, template: Template) -> list[Segment]:
        return [*super().prompt(request, template), Segment("Next: ")]


class DependsOnTheRun(RetrievalTask):
    runs = 0

    def epoch(self, draw: np.random.Generator) -> Iterator[Sample]:
        DependsOnTheRun.runs += 1
        return super().epoch(np.random.default_rng(self.runs))


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (TellsTheUser, TaskExam.test_no_user_id_is_in_any_text),
        (TellsTheFuture, TaskExam.test_replacing_all_that_is_held_out_changes_no_sample),
        (TellsTheFuture, TaskExam.test_the_items_of_a_sample_are_training_items_of_its_user),
        (LearnsNothing, TaskExam.test_every_sample_has_something_to_learn_behind_something_to_read),
        (ReadsTitlesAsSymbols, TaskExam.test_hostile_texts_stay_free_text_within_their_line),
        (DependsOnTheRun, TaskExam.test_an_epoch_depends_on_seed_and_number_alone),
        (AsksOtherwise, ServedTaskExam.test_a_training_text_is_the_prompt_and_then_the_answer_in_all_wordings),
    ],
)
def test_a_task_that_breaks_a_promise_fails_its_check(kind: type[RetrievalTask], check: Callable[[TaskExam], None]):
    class Exam(ServedTaskExam):
        def build(self, context: TaskContext) -> RetrievalTask:
            return kind(RetrievalSettings(weight=1, text_share=1), context)

        def request_of(self, sample: Sample, split: Split) -> Request:
            return Request(sample.user, sample.items[:-1])

    with pytest.raises(AssertionError):
        check(Exam())


def in_order_of_appearance(split: Split) -> ItemIndex:
    """The numbering that leaks the answer."""
    seen = dict.fromkeys([*split.dataset.events["item_id"], *split.dataset.item_ids])
    number = {item: f"{place:03d}" for place, item in enumerate(seen)}
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
def test_an_index_that_breaks_a_promise_fails_its_check(build: Callable[[Split], ItemIndex], check: Callable[[IndexExam], None]):
    class Exam(IndexExam):
        def build(self, split: Split) -> ItemIndex:
            return build(split)

    with pytest.raises(AssertionError):
        check(Exam())
