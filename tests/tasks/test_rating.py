"""Rating: which values bear loss, which are shown, and how they are written."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import polars as pl
import pytest

from shelftalk.data.dataset import make_dataset
from shelftalk.data.splitting import NONE, Split
from shelftalk.errors import SettingsError
from shelftalk.indexing.item_index import ItemIndex
from shelftalk.records import Request, Sample
from shelftalk.tasks.rating import RatingSettings, RatingTask
from shelftalk.tasks.task import TaskContext
from shelftalk.testing.task_exams import exam_context, exam_index, training_histories, world_split
from tests.tasks.answers import FULL, visible_ratings


def test_each_visible_training_rating_bears_loss_once_and_no_other():
    split = world_split("tiny")
    index, known = exam_index(split), visible_ratings(split)
    targets_seen: Counter[tuple[str, str, float]] = Counter()
    for sample in RatingTask(RatingSettings(**FULL), exam_context(split)).samples(0):
        for before, segment in zip(sample.segments[:-1], sample.segments[1:], strict=True):
            if segment.bears_loss:
                name = [s.text for s in sample.segments[: sample.segments.index(before) + 1] if s.symbols][-1]
                targets_seen[sample.user, index.item(name), float(segment.text)] += 1
    assert targets_seen == Counter((user, item, value) for (user, item), value in known.items())


def test_no_rating_that_is_held_out_is_shown():
    split = world_split("tiny")
    known = visible_ratings(split)
    task = RatingTask(RatingSettings(**FULL), exam_context(split))
    index = exam_index(split)
    for sample in [*task.samples(0), *task.validation()]:
        *lines, last = sample.text.split("\n")[1:]
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
            assert all(
                order[request.user, item] < order[request.user, request.item] for item in request.history
            )


def test_rating_windows_end_at_a_rating():
    split = world_split("tiny")
    for sample in RatingTask(RatingSettings(**FULL, max_history=3), exam_context(split)).samples(0):
        assert sample.segments[-1].bears_loss and float(sample.segments[-1].text) > 0


@pytest.mark.parametrize("targets", [1, 2, 3])
def test_no_rating_bears_loss_twice_though_windows_are_cut_back_to_their_last_rating(targets):
    split, index = sparsely_rated(), exam_index(sparsely_rated())
    known = visible_ratings(split)
    task = RatingTask(RatingSettings(**FULL, targets=targets), exam_context(split))
    met = Counter()
    for epoch in range(40):
        targets_seen = Counter(
            (sample.user, item) for sample in task.samples(epoch) for item in rated_items(sample, index)
        )
        assert set(targets_seen.values()) == {1} and set(targets_seen) <= set(known)
        met.update(targets_seen)
    assert set(met) == set(known)
    assert targets > 1 or set(met.values()) == {40}  # with one target each rating is predicted once an epoch


@pytest.mark.parametrize("show_ratings", [True, False])
def test_where_ratings_are_not_shown_a_sample_holds_one_rating_alone(show_ratings):
    split = world_split("tiny")
    known, index = visible_ratings(split), exam_index(split)
    task = RatingTask(RatingSettings(**FULL, show_ratings=show_ratings), exam_context(split))
    texts, targets_seen = set(task.context.rating_texts.values()), Counter()
    for sample in task.samples(0):
        ratings = [segment for segment in sample.segments if segment.text in texts]
        if not show_ratings:
            assert ratings == [sample.segments[-1]] and ": " not in sample.text.rpartition("\n")[0]
        targets_seen.update((sample.user, item) for item in rated_items(sample, index))
    assert targets_seen == Counter(dict.fromkeys(known, 1))


def test_a_prompt_shows_no_rating_where_training_showed_none():
    split = world_split("tiny")
    task = RatingTask(RatingSettings(**FULL, show_ratings=False), exam_context(split))
    texts = set(task.context.rating_texts.values())
    for request in split.rating_requests("validation")[0]:
        unrated = Request(request.user, request.history, item=request.item)
        prompt = task.prompt(request, task.seen[0])
        assert prompt == task.prompt(unrated, task.seen[0]) and not any(
            segment.text in texts for segment in prompt
        )


def rated_items(sample: Sample, index: ItemIndex) -> list[str]:
    """The items whose rating bears loss."""
    items, name = [], ""
    for segment in sample.segments:
        name = segment.text if segment.symbols else name
        items += [index.item(name)] if segment.bears_loss else []
    return items


@cache
def sparsely_rated() -> Split:
    """The tiny world of which a model sees every third rating or so."""
    split = world_split("tiny")
    unseen = np.random.default_rng(0).random(len(split.rating_part)) < 0.6
    return replace(split, rating_part=np.where(unseen, NONE, split.rating_part).astype(np.uint8))


@pytest.mark.parametrize(
    "values", [[1, 2, 3, 4, 5], [0.5, 4.5], [1, 5, 10], [-10, -1, 1, 10], [0, 50, 100], [0.25, 1, 12.5]]
)
def test_no_rating_text_begins_another(values):
    texts = list(rated_context([float(value) for value in values]).rating_texts.values())
    assert [float(text) for text in texts] == sorted(map(float, values))
    assert not any(a != b and b.startswith(a) for a in texts for b in texts)
    assert all(text.startswith(" ") for text in texts)


def test_ratings_closer_than_their_texts_are_reported():
    with pytest.raises(SettingsError, match="round them"):
        _ = rated_context([3.00000001, 3.00000002, 4.0]).rating_texts


def test_more_than_a_hundred_rating_values_skip_the_task_with_the_reason():
    assert rated_context([1.0, 2.0, 4.0]).split.why_no_rating_task == ""
    why = rated_context([float(value) for value in range(101)]).split.why_no_rating_task
    assert "101 different ratings; round them" in why


def test_a_rating_outside_the_training_scale_becomes_the_nearest():
    context = rated_context([1.0, 2.0, 4.0])
    assert [context.rating_text(value) for value in (0.0, 2.9, 3.1, 9.0)] == [" 1", " 2", " 4", " 4"]


def test_a_request_may_show_a_rating_that_training_never_saw():
    task = RatingTask(RatingSettings(**FULL), exam_context(world_split("tiny")))
    prompt = task.prompt(Request("", ("i1",), (3.3,), item="i2"), task.seen[0])
    assert " 3.5" in [segment.text for segment in prompt]


def rated_context(values: list[float]) -> TaskContext:
    """A user whose training ratings are `values`, and another with one rating; a test rating of each."""
    number = len(values) + 2
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(number)]})
    ratings = pl.Series([*values, 1, 1], dtype=pl.Float64)
    events = items.with_columns(
        user_id=pl.lit("u"), position=pl.int_range(pl.len(), dtype=pl.Int64), rating=ratings
    )
    other = pl.DataFrame({"item_id": ["i0"], "user_id": ["v"], "position": [0], "rating": [1.0]})
    data, of_u = make_dataset(items, pl.concat([events, other])), [0] * len(values) + [1, 2]
    parts = np.array([2, *of_u] if data.user_ids[0] == "v" else [*of_u, 2], np.uint8)
    return exam_context(Split(data, parts, parts, {}))
