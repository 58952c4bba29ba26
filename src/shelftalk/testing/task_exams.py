"""Exams of the text side: what every way of naming items and every task must pass. No model is needed.

    class TestMyIndex(IndexExam):
        def build(self, split):
            return my_index.build(split, IndexSettings(), seed=0)

    class TestMyTask(TaskExam):
        def build(self, context):
            return MyTask(MySettings(), context)

A task about users takes `TaskExam`, one that the finished model answers too `ServedTaskExam`, one about items
alone `ItemTaskExam`, and one about items that counts who took them `CountedItemTaskExam`. Each check works on
worlds of its own: the tiny one, one without titles, one without any text, and one whose every text is
hostile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TypeVar

import polars as pl

from shelftalk.data.dataset import Dataset, make_dataset
from shelftalk.data.splitting import Split, SplitSettings, split_leave_one_out
from shelftalk.indexing.item_index import ItemIndex, split_symbols
from shelftalk.records import Request, Sample, Segment
from shelftalk.tasks.item_text import ItemText, TextSettings
from shelftalk.tasks.samples import Samples
from shelftalk.tasks.sentinels import all_sentinels
from shelftalk.tasks.task import ServedTask, Task, TaskContext
from shelftalk.testing.worlds import nasty_world, replace_held_out, tiny_world, untitled_world

AnyTask = TypeVar("AnyTask", bound=Task)
USER = "user-9f3a-"
"""The prefix of every user id of the task exams: no catalogue holds it, so that it can be searched for."""


@cache
def world_split(world: str) -> Split:
    """The split of "tiny", "untitled", "nasty", or "wordless": item ids and nothing else."""
    data = {
        "tiny": tiny_world,
        "untitled": untitled_world,
        "nasty": nasty_world,
        "wordless": _wordless_world,
    }[world]()
    events = data.events.with_columns(user_id=USER + pl.col("user_id"))
    return split_leave_one_out(make_dataset(data.items, events), SplitSettings(), seed=0)


def exam_index(split: Split, scheme: str = "symbols") -> ItemIndex:
    """Names that cost nothing to make: symbols "<a_3><b_5>",
    or numbers "017" as free text, by catalogue row."""
    rows = range(len(split.dataset.item_ids))
    names = tuple(f"<a_{row // 12}><b_{row % 12}>" if scheme == "symbols" else f"{row:03d}" for row in rows)
    return ItemIndex(scheme, tuple(split.dataset.item_ids), names, symbols=scheme == "symbols", end="")


def exam_context(
    split: Split, index: ItemIndex | None = None, seed: int = 0, text: TextSettings | None = None
) -> TaskContext:
    """A context over `split`, items named by symbols and shown
    with their titles unless an index or settings are given."""
    return TaskContext(
        split, ItemText(split.dataset, index or exam_index(split), text or TextSettings()), seed=seed
    )


class IndexExam:
    """What `ItemIndex` promises of every scheme."""

    def build(self, split: Split) -> ItemIndex:
        """Override: name the items of the split's catalogue."""
        raise NotImplementedError("an exam needs a build(split) that returns what is examined")

    def test_every_item_has_a_name_and_every_name_its_item(self) -> None:
        for world in ("tiny", "untitled", "nasty"):
            split = world_split(world)
            index = self.build(split)
            assert list(index.item_ids) == split.dataset.item_ids
            assert [index.item(index.name(item)) for item in index.item_ids] == list(index.item_ids)

    def test_no_name_with_its_end_begins_another(self) -> None:
        for world in ("tiny", "untitled", "nasty"):
            index = self.build(world_split(world))
            closed = sorted(name + index.end for name in index.names)
            assert all(closed) and not any(
                after.startswith(name) for name, after in zip(closed, closed[1:], strict=False)
            )

    def test_names_stand_on_one_line_and_have_a_bounded_length(self) -> None:
        for name in self.build(world_split("nasty")).names:
            assert name.isprintable() and len(name) <= 200

    def test_the_vocabulary_holds_exactly_the_symbols_of_the_names(self) -> None:
        index = self.build(world_split("nasty"))
        used = {symbol for name in index.names for symbol in split_symbols(name)} if index.symbols else set()
        assert index.vocabulary == tuple(sorted(used))
        assert not index.symbols or all("".join(split_symbols(name)) == name for name in index.names)

    def test_the_order_of_the_files_does_not_matter(self) -> None:
        data = tiny_world()
        shuffled = make_dataset(data.items.sort("title", "item_id"), data.events[::-1])
        one, other = (
            self.build(split_leave_one_out(each, SplitSettings(), seed=0)) for each in (data, shuffled)
        )
        assert _facts(one) == _facts(other)

    def test_replacing_all_that_is_held_out_changes_no_name(self) -> None:
        split = world_split("tiny")
        assert _facts(self.build(split)) == _facts(self.build(replace_held_out(split, seed=1)))

    def test_the_same_split_gets_the_same_names(self) -> None:
        assert _facts(self.build(world_split("tiny"))) == _facts(self.build(world_split("tiny")))

    def test_what_was_saved_is_what_is_loaded(self, tmp_path: Path) -> None:
        index = self.build(world_split("nasty"))
        index.save(tmp_path / "item_index.parquet")
        assert _facts(ItemIndex.load(tmp_path / "item_index.parquet")) == _facts(index)

    def test_the_facts_to_look_at_can_be_shown(self) -> None:
        assert self.build(world_split("nasty")).statistics()["items"] == len(
            world_split("nasty").dataset.items
        )


class AnyTaskExam:
    """What every task promises of its samples, whatever they are about. Use one of the exams below."""

    text = TextSettings()
    """How items and users are shown; the exam holds for any."""

    def build(self, context: TaskContext) -> Task:
        """Override: the task over the context."""
        raise NotImplementedError("an exam needs a build(context) that returns what is examined")

    def with_weight_one(self, split: Split, seed: int = 0) -> Task:
        """The task with weight 1, whatever its own is."""
        return changed(self.build(exam_context(split, seed=seed, text=self.text)), weight=1.0)

    def samples(self, split: Split, epoch: int = 0, seed: int = 0) -> Samples:
        return self.with_weight_one(split, seed).samples(epoch)

    def test_an_epoch_depends_on_seed_and_number_alone(self) -> None:
        split = world_split("tiny")
        task = self.with_weight_one(split)
        task.samples(1)
        assert task.samples(0) == self.samples(split) and task.samples(0)
        assert self.samples(split, epoch=1) != self.samples(split) != self.samples(split, seed=1)

    def test_replacing_all_that_is_held_out_changes_no_sample(self) -> None:
        split = world_split("tiny")
        for epoch in range(3):
            assert self.samples(split, epoch) == self.samples(replace_held_out(split, seed=1), epoch)

    def test_no_user_id_is_in_any_text(self) -> None:
        assert not any(USER in sample.text for sample in self.samples(world_split("tiny")))

    def test_the_items_of_a_sample_are_those_that_its_text_names(self) -> None:
        split = world_split("tiny")
        index = exam_index(split)
        for sample in self.samples(split):
            named = {s.text for s in sample.segments if s.symbols and s.text in index.names}
            assert named.issubset(map(index.name, sample.items))

    def test_every_sample_has_something_to_learn_after_something_to_read(self) -> None:
        for world in ("tiny", "nasty"):
            for sample in self.samples(world_split(world)):
                assert any(s.bears_loss for s in sample.segments) and not sample.segments[0].bears_loss

    def test_no_segment_is_empty_and_symbols_are_whole(self) -> None:
        for sample in self.samples(world_split("nasty")):
            for segment in sample.segments:
                assert segment.text
                assert not segment.symbols or "".join(split_symbols(segment.text)) == segment.text

    def test_hostile_texts_stay_free_text_within_their_line(self) -> None:
        task = self.with_weight_one(world_split("nasty"))
        symbols = {*task.context.text.index.vocabulary, *all_sentinels(), *task.context.user_symbols}
        for sample in task.samples(0):
            for segment in sample.segments:
                assert not segment.symbols or symbols.issuperset(split_symbols(segment.text))
                assert segment.text.replace("\n", "").isprintable()

    def test_every_template_is_used_and_no_held_out_one(self) -> None:
        task = self.with_weight_one(world_split("tiny"))
        used = {sample.template for epoch in range(3) for sample in task.samples(epoch)}
        assert used == {template.name for template in task.templates if not template.held_out}

    def test_the_weight_is_how_often_the_epoch_is_taken(self) -> None:
        task = self.with_weight_one(world_split("tiny"))
        once = Counter(task.samples(0))
        weighed = {weight: Counter(changed(task, weight=weight).samples(0)) for weight in (0.0, 0.5, 2.0)}
        chunks = len(list(task.chunks(0)))  # each keeps a whole number of samples
        again = weighed[2.0] - once
        assert not weighed[0.0]
        assert weighed[0.5] <= once and abs(weighed[0.5].total() - once.total() / 2) <= chunks
        assert once <= weighed[2.0] and again != once
        assert {sample.user for sample in again} == {sample.user for sample in once}

    def test_only_the_first_epochs_have_samples_where_the_settings_want_it(self) -> None:
        task = self.with_weight_one(world_split("tiny"))
        early = changed(task, first_epochs=2)
        assert [len(early.samples(epoch)) > 0 for epoch in range(4)] == [True, True, False, False]
        assert early.samples(1) == task.samples(1)

    def test_the_chunks_one_after_the_other_are_the_epoch_and_no_user_is_in_two(self) -> None:
        task = self.with_weight_one(world_split("tiny"))
        whole = list(task.samples(0))
        chunks = [list(samples) for samples in task.chunks(0)]
        assert [sample for chunk in chunks for sample in chunk] == whole
        about = [{sample.user or sample.items[0] for sample in chunk} for chunk in chunks]
        assert sum(map(len, about)) == len(set().union(*about))


class TaskExam(AnyTaskExam):
    """What every task about users promises of its samples.
    `needs_ratings` tasks are examined on worlds with ratings."""

    draws_negatives: bool = False
    """Whether samples show items that the user has not taken."""

    def test_every_sample_is_about_a_user(self) -> None:
        assert all(sample.user.startswith(USER) for sample in self.samples(world_split("tiny")))

    def test_the_items_of_a_sample_are_training_items_of_its_user(self) -> None:
        split = world_split("tiny")
        taken = training_histories(split)
        shown = [(sample.user, item) for sample in self.samples(split) for item in sample.items]
        negatives = [item for user, item in shown if item not in taken[user]]
        assert shown and bool(negatives) == self.draws_negatives

    def test_items_stand_with_their_texts_as_often_as_the_share_says(self) -> None:
        split = world_split("tiny")
        titles = {" " + title for title in split.dataset.items["title"]}
        shown = {}
        for share in (0.0, 0.4, 1.0):
            task = changed(self.with_weight_one(split), text_share=share)
            samples = [sample for epoch in range(5) for sample in task.samples(epoch)]
            shown[share] = sum(any(title in sample.text for title in titles) for sample in samples)
        assert shown[0.0] == 0 and abs(shown[0.4] / shown[1.0] - 0.4) <= 0.1

    def test_a_user_is_shown_by_their_symbol_or_not_at_all(self) -> None:
        task = self.with_weight_one(world_split("tiny"))
        symbols = dict(zip(task.context.split.dataset.user_ids, task.context.user_symbols, strict=False))
        for sample in task.samples(0):
            shown = [s.text for s in sample.segments if s.symbols and s.text.startswith("<u_")]
            assert shown == ([symbols[sample.user]] if self.text.user_ids else [])


class ServedTaskExam(TaskExam):
    """What a task that the finished model answers promises
    beside: training texts and prompts agree to the segment."""

    def requests(self, split: Split) -> list[Request]:
        """Override where a request is more than a history: requests of the validation part."""
        return split.retrieval_requests("validation")[0]

    def request_of(self, sample: Sample, split: Split) -> Request:
        """Override: the request whose prompt and answer
        `sample` is, up to what bears loss within the prompt."""
        raise NotImplementedError("a served task's exam needs a request_of(sample, split)")

    def test_a_training_text_is_the_prompt_and_then_the_answer_in_all_templates(self) -> None:
        split = world_split("tiny")
        for task in (changed(self.served(split), text_share=share) for share in (0.0, 1.0)):
            for template in task.templates:
                task.seen = [template]
                samples = task.samples(0)
                prompts = task.prompts([self.request_of(sample, split) for sample in samples], template)
                for sample, prompt in zip(
                    samples, (list(prompt.segments) for prompt in prompts), strict=True
                ):
                    assert sample.template == template.name
                    assert without_loss(sample.segments[: len(prompt)]) == without_loss(prompt)
                    assert sample.segments[len(prompt)].bears_loss  # the answer begins where the prompt ends

    def test_a_validation_text_is_the_prompt_and_then_the_answer(self) -> None:
        split = world_split("tiny")
        task = self.served(split)
        samples = list(task.validation())
        for sample, request in zip(samples, self.requests(split), strict=True):
            prompt = task.prompt(request, task.seen[0])
            assert sample.segments[: len(prompt)] == tuple(prompt) and sample.user == request.user
            assert all(segment.bears_loss for segment in sample.segments[len(prompt) :])

    def test_prompts_of_many_requests_are_those_of_each_alone(self) -> None:
        for world in ("tiny", "nasty"):
            task, requests = self.served(world_split(world)), self.requests(world_split(world))
            for template in task.templates:
                prompts = task.prompts(requests, template)
                assert [list(prompt.segments) for prompt in prompts] == [
                    task.prompt(request, template) for request in requests
                ]
        assert len(task.prompts([], task.templates[0])) == 0

    def test_nothing_in_a_prompt_bears_loss(self) -> None:
        task = self.served(world_split("nasty"))
        for request in self.requests(world_split("nasty")):
            assert not any(
                s.bears_loss for template in task.templates for s in task.prompt(request, template)
            )

    def test_a_prompt_depends_on_the_request_alone(self) -> None:
        split = world_split("tiny")
        task, other = self.served(split), self.served(replace_held_out(split, seed=1))
        for request in self.requests(split):
            alike = request if self.text.user_ids else replace(request, user="somebody else")
            assert task.prompt(request, task.seen[0]) == other.prompt(alike, other.seen[0])

    def test_older_items_than_the_history_holds_are_dropped(self) -> None:
        split = world_split("tiny")
        task = self.served(split)
        short = changed(task, max_history=2)
        request = max(self.requests(split), key=lambda request: len(request.history))
        recent = replace(request, history=request.history[-2:], ratings=request.ratings[-2:])
        assert short.prompt(request, short.seen[0]) == task.prompt(recent, task.seen[0])

    def test_an_empty_history_has_a_prompt(self) -> None:
        task = self.served(world_split("tiny"))
        request = replace(self.requests(world_split("tiny"))[0], history=(), ratings=())
        assert all(task.prompt(request, template) for template in task.templates)

    def served(self, split: Split) -> ServedTask:
        task = self.with_weight_one(split)
        assert isinstance(task, ServedTask)
        return task


class AnyItemTaskExam(AnyTaskExam):
    """What every task about items promises of its samples;
    the first item of a sample is the one that it is about."""

    def gone_through(self, split: Split) -> set[str]:
        """Override where more is needed than a text beside the name: the items that an epoch goes through."""
        text = self.with_weight_one(split).context.text
        return {item for item in split.dataset.item_ids if text.details(item)}

    def test_the_task_says_that_it_is_about_items(self) -> None:
        assert self.with_weight_one(world_split("tiny")).about == "items"

    def test_a_sample_is_about_nobody(self) -> None:
        assert {sample.user for sample in self.samples(world_split("tiny"))} == {""}

    def test_an_epoch_goes_once_through_the_items_that_have_what_it_needs(self) -> None:
        for world in ("tiny", "nasty", "untitled"):
            split = world_split(world)
            about = [sample.items[0] for sample in self.samples(split)]
            assert sorted(about) == sorted(self.gone_through(split))
            assert world != "nasty" or 0 < len(about) < len(split.dataset.item_ids)


class ItemTaskExam(AnyItemTaskExam):
    """What a task promises whose samples are made of the catalogue alone."""

    def test_samples_are_made_of_the_catalogue_alone(self) -> None:
        items, events = tiny_world().items, tiny_world(seed=1).events
        other = split_leave_one_out(make_dataset(items, events), SplitSettings(), seed=0)
        assert self.samples(other) == self.samples(split_leave_one_out(tiny_world(), SplitSettings(), seed=0))

    def test_a_catalogue_without_a_word_makes_no_sample(self) -> None:
        assert len(self.samples(world_split("wordless"))) == 0


class CountedItemTaskExam(AnyItemTaskExam):
    """What a task about items promises that counts who took them: it counts training events alone, and needs
    no text."""

    def test_the_items_of_a_sample_were_taken_in_training(self) -> None:
        for world in ("tiny", "nasty"):
            split = world_split(world)
            taken = {item for items in training_histories(split).values() for item in items}
            shown = {item for sample in self.samples(split) for item in sample.items}
            assert shown and shown <= taken

    def test_a_catalogue_without_a_word_has_samples_too(self) -> None:
        assert len(self.samples(world_split("wordless"))) > 0


def changed(task: AnyTask, **more: object) -> AnyTask:
    """The same task under settings of which some are others."""
    return type(task)(task.settings.model_copy(update=more), task.context)


def training_histories(split: Split) -> dict[str, list[str]]:
    """User id -> training item ids, oldest first."""
    data: Dataset = split.dataset
    bounds = zip(data.user_ids, split.training_bounds.tolist(), strict=True)
    return {
        user: [data.item_ids[row] for row in data.event_item[first:stop]] for user, (first, stop) in bounds
    }


def without_loss(segments: Sequence[Segment]) -> list[Segment]:
    """The segments as they are read."""
    return [Segment(segment.text, False, segment.symbols) for segment in segments]


def _wordless_world() -> Dataset:
    data = tiny_world()
    return make_dataset(data.items.select("item_id"), data.events)


def _facts(index: ItemIndex) -> tuple[object, ...]:
    vectors = (
        None if index.symbol_vectors is None else (index.symbol_vectors.shape, index.symbol_vectors.tobytes())
    )
    return (
        index.scheme,
        index.item_ids,
        index.names,
        index.words,
        index.symbols,
        index.end,
        index.leaks,
        vectors,
    )
