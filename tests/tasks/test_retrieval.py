"""Retrieval: which items of a window bear loss, and what a template must be like."""

from __future__ import annotations

from collections import Counter

import pytest

from shelftalk.errors import TemplateError
from shelftalk.records import Request
from shelftalk.tasks.retrieval import RetrievalSettings, RetrievalTask
from shelftalk.testing.task_exams import exam_context, exam_index, training_histories, world_split
from tests.tasks.answers import FULL, learned


def test_every_training_event_bears_loss_once_an_epoch():
    split = world_split("tiny")
    for epoch in range(3):
        seen = learned(RetrievalTask(RetrievalSettings(**FULL), exam_context(split)).samples(epoch), split)
        assert seen == Counter(
            (user, item) for user, items in training_histories(split).items() for item in items
        )


def test_in_short_windows_no_event_bears_loss_twice_and_lone_ones_are_left_out_by_chance():
    split = world_split("tiny")
    task = RetrievalTask(RetrievalSettings(**FULL, max_history=3), exam_context(split))
    seen = [learned(task.samples(epoch), split) for epoch in range(6)]
    events = {(user, item) for user, items in training_histories(split).items() for item in items}
    assert all(set(one.values()) == {1} and len(one) > 0.8 * len(events) for one in seen)
    assert set().union(*seen) == events


def test_as_many_items_bear_loss_as_targets():
    split = world_split("tiny")
    for targets in (1, 3):
        for sample in RetrievalTask(
            RetrievalSettings(**FULL, max_history=5, targets=targets), exam_context(split)
        ).samples(0):
            answers = [s.text for s in sample.segments if s.bears_loss]
            assert 1 <= len(answers) <= targets  # fewer at either end of a history
            assert answers == [exam_index(split).name(item) for item in sample.items[-len(answers) :]]


def test_a_template_with_text_after_the_history_takes_one_target(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(
        '[[template]]\nname = "own"\nsource = "They took {history}What next?\\n"\ntarget = "{item}"\n'
    )
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
def test_the_share_of_samples_with_texts_is_kept_and_prompts_are_like_most_of_them(share):
    split = world_split("tiny")
    task = RetrievalTask(RetrievalSettings(weight=1, text_share=share), exam_context(split))
    samples = [sample for epoch in range(10) for sample in task.samples(epoch)]
    shown = [any(" No. " in segment.text for segment in sample.segments) for sample in samples]
    assert sum(shown) / len(shown) == pytest.approx(share, abs=0.06)
    prompt = task.prompt(Request("", ("i1",)), task.seen[0])
    assert any(" No. " in segment.text for segment in prompt) == (share >= 0.5)


def test_with_one_target_there_are_as_many_samples_as_next_item_pairs():
    split = world_split("tiny")
    samples = RetrievalTask(RetrievalSettings(**FULL, targets=1), exam_context(split)).samples(0)
    assert len(samples) == sum(len(items) - 1 for items in training_histories(split).values())
    assert all(len(sample.items) > 1 for sample in samples)
