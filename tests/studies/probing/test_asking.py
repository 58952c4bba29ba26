"""Questions are put to a model to the character as in its training samples, and scored in full precision."""

import numpy as np
import pytest

from shelftalk.pipeline.fresh_backbone import new_backbone
from shelftalk.studies.probing.option_scores import PROMPTS, option_scores, preference_prompt
from shelftalk.studies.probing.questions import Question
from shelftalk.studies.probing.study import (
    SERVED,
    SMALL,
    Mixture,
    PreparedWorld,
    ProbeSettings,
    half_of,
    mixtures,
)

TINY = SMALL.model_copy(update={"users": 60})


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return PreparedWorld.make(
        ProbeSettings(world=TINY, tokens=1000, repeats=1), 0, tmp_path_factory.mktemp("prepared")
    )


@pytest.fixture(scope="module")
def backbone(prepared):
    return new_backbone(prepared.run)


def _template(task, sample):
    return next(template for template in task.templates if template.name == sample.template)


def _until_answer(sample):
    first = next(position for position, segment in enumerate(sample.segments) if segment.bears_loss)
    return "".join(segment.text for segment in sample.segments[:first]), sample.segments[first].text


@pytest.mark.parametrize("way", ["masked_items", "masked_language"])
def test_a_masked_item_has_the_prompt_of_training(prepared, way):
    """The prompt for a sample with a single masked name is the sample up to its answer."""
    task, index, checked = prepared.run.tasks[way], prepared.run.index, 0
    for sample in task.samples(0):
        shown, answer = _until_answer(sample)
        targets = [segment.text for segment in sample.segments if segment.bears_loss]
        if targets != ([answer] if way == "masked_items" else [answer, "\n"]) or answer not in index.names:
            continue
        item = index.item(answer)
        position = sample.items.index(item)
        question = Question(
            "", "", 0, (*sample.items[:position], *sample.items[position + 1 :]), position, (item,), item
        )
        prompt = PROMPTS[way](task, _template(task, sample), question)
        assert "".join(segment.text for segment in prompt) == shown
        checked += 1
    assert checked > 5


def test_a_preference_has_the_prompt_of_training(prepared):
    task = prepared.run.tasks["pairwise_preference"]
    for sample in task.samples(0)[:50]:
        shown, answer = _until_answer(sample)
        loss = sum(segment.bears_loss for segment in sample.segments)
        history, (first, second) = sample.items[: -2 * loss], sample.items[-2 * loss :][:2]
        question = Question("", "", 0, history, len(history), (first, second), first)
        prompt = preference_prompt(task, _template(task, sample), question, first, second)
        assert "".join(segment.text for segment in prompt) == shown
        assert prepared.run.index.item(answer) in (first, second)


@pytest.mark.parametrize("way", ["retrieval", "ranking"])
def test_a_served_task_has_its_own_prompt(prepared, way):
    task = prepared.run.served[way]
    question = prepared.questions[0]
    prompt = "".join(segment.text for segment in PROMPTS[way](task, task.seen[0], question))
    for item in question.history:
        assert prepared.run.index.name(item) in prompt


def test_backwards_and_forwards_agree_where_the_item_is_missing_at_the_end(prepared, backbone):
    questions = [question for question in prepared.questions if question.position == len(question.history)]
    forwards, backwards = (
        option_scores(backbone, prepared.run.index, prepared.run.tasks, questions, way)
        for way in ("retrieval", "inverted")
    )
    for one, other in zip(forwards, backwards, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_a_preference_does_not_depend_on_the_order_of_the_options(prepared, backbone):
    questions = prepared.questions[:20]
    turned = [
        Question(q.kind, q.fact, q.half, q.history, q.position, q.options[::-1], q.answer) for q in questions
    ]
    scores = [
        option_scores(backbone, prepared.run.index, prepared.run.tasks, some, "pairwise_preference")
        for some in (questions, turned)
    ]
    for one, other in zip(*scores, strict=True):
        np.testing.assert_allclose(one, other[::-1], atol=1e-4)


def test_every_mixture_reads_the_same_number_of_tokens(prepared, backbone):
    for mixture in mixtures():
        taken = prepared.samples(mixture, backbone, 5000)
        assert sum(taken.tokens_by_task.values()) == taken.tokens == sum(map(len, taken.all))
        assert 5000 <= taken.tokens < 5000 + max(map(len, taken.all))
        assert set(taken.tokens_by_task) == set(mixture.tasks)


def test_a_control_sees_one_half_of_the_facts(prepared):
    kept, gone = prepared.world.facts.items_of(0), prepared.world.facts.items_of(1)
    assert set(half_of(prepared.world, 0, 0).events["item_id"]) <= kept
    task, served = prepared._tasks(Mixture("", ("masked_items", "retrieval"), "other half"))
    assert not {item for sample in task.samples(0) for item in sample.items} & gone
    assert {item for sample in served.samples(0) for item in sample.items} & gone


def test_no_name_starts_with_what_training_is_to_teach(prepared):
    """Starting vectors would hold co-occurrence before training; without them no item begins nearer to its
    partner."""
    assert prepared.run.index.symbol_vectors is None
    assert {"retrieval", "ranking"} == set(SERVED)
