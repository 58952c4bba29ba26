"""Held-out templates: the same users for every task, the same requests with both templates, no more
than was promised."""

from __future__ import annotations

import polars as pl
import pytest

from shelftalk.baselines.bias import fit_global_mean
from shelftalk.baselines.popularity import fit_popularity
from shelftalk.data.dataset import make_dataset
from shelftalk.data.splitting import Split, SplitSettings, split_leave_one_out
from shelftalk.evaluation import held_out_templates
from shelftalk.evaluation.evaluator import summarise
from shelftalk.testing.worlds import tiny_world


@pytest.fixture(scope="module")
def split() -> Split:
    return split_leave_one_out(tiny_world(users=30, items=60), SplitSettings(ranking_negatives=20), seed=1)


class Both:
    """Popularity that also rates."""

    def __init__(self, split: Split) -> None:
        self.recommend, self.rank = fit_popularity(split).recommend, fit_popularity(split).rank
        self.rate = fit_global_mean(split).rate


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out_templates, "USERS", 12)
    monkeypatch.setattr(held_out_templates, "RATINGS", 15)


def test_as_many_users_are_drawn_as_promised_and_the_same_ones_for_every_task(
    few: None, split: Split
) -> None:
    sampled = {
        task: held_out_templates.sampled_requests(split, task, seed=3)
        for task in ("retrieval", "ranking", "rating")
    }  # type: ignore[arg-type]
    users = {task: {request.user for request in requests} for task, (requests, _) in sampled.items()}
    assert len(users["retrieval"]) == len(sampled["retrieval"][0]) == 12
    assert users["ranking"] == users["retrieval"] >= users["rating"]
    assert 0 < len(sampled["rating"][0]) <= 15


def test_the_sample_depends_only_on_the_seed(few: None, split: Split) -> None:
    once, again, other = (held_out_templates.sampled_requests(split, "rating", seed) for seed in (3, 3, 4))
    assert once == again != other


def test_requests_are_those_of_the_validation_part_with_their_truths(few: None, split: Split) -> None:
    known = dict(zip(*split.retrieval_requests("validation"), strict=True))
    requests, truths = held_out_templates.sampled_requests(split, "retrieval", seed=3)
    assert [known[request] for request in requests] == truths
    rated = list(zip(*split.rating_requests("validation"), strict=True))
    assert all(
        pair in rated
        for pair in zip(*held_out_templates.sampled_requests(split, "rating", seed=3), strict=True)
    )


def test_every_task_has_the_same_requests_with_both_templates(split: Split) -> None:
    model = Both(split)
    table = held_out_templates.evaluate(
        {"seen": model, "held out": model}, ["retrieval", "ranking", "rating"], split, seed=3
    )
    for task in ("retrieval", "ranking", "rating"):
        seen, held_out = (
            table.filter(task=task, templates=templates).drop("templates")
            for templates in held_out_templates.TEMPLATES
        )
        assert seen.equals(held_out) and seen.height
        assert summarise(seen, task) == summarise(held_out, task)  # type: ignore[arg-type]
    assert (
        table.filter(pl.col("task") == "rating")["rank"].null_count()
        == table.filter(pl.col("task") == "rating").height
    )


def test_users_who_cannot_be_evaluated_reduce_no_sample(monkeypatch):
    """Half of the users came once: as many of the others are drawn as if they were alone."""
    world = tiny_world(users=30, items=60)
    once = world.events.filter(pl.col("position") == 0).with_columns(user_id="once " + pl.col("user_id"))
    both = make_dataset(world.items, pl.concat([world.events, once]))
    split = split_leave_one_out(both, SplitSettings(ranking_negatives=20), seed=1)
    monkeypatch.setattr(held_out_templates, "USERS", 12)
    requests, _ = held_out_templates.sampled_requests(split, "retrieval", 0)
    assert len(requests) == 12 and not any(request.user.startswith("once") for request in requests)
