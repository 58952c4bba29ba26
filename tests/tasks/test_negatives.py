"""Negatives: where each kind comes from, that none is a user's own, and that what is held out is not
consulted."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import polars as pl
import pytest
from scipy.stats import chisquare

from shelftalk.data.dataset import make_dataset
from shelftalk.data.similarity import nearest_by_text, text_vectors
from shelftalk.data.splitting import TRAIN, Split, SplitSettings, split_leave_one_out
from shelftalk.tasks.negatives import NEIGHBOURS, Kind, Negatives
from shelftalk.tasks.pairwise_preference import PairwisePreference, PairwisePreferenceSettings
from shelftalk.testing.task_exams import exam_context, training_histories, world_split
from shelftalk.testing.worlds import nasty_world, replace_held_out, tiny_world, untitled_world
from tests.tasks.answers import FULL

KINDS: tuple[Kind, ...] = ("uniform", "popular", "category", "neighbour")


@cache
def big_split() -> Split:
    """800 items, so that a user has taken few of any kind."""
    return split_leave_one_out(tiny_world(users=200, items=800), SplitSettings(), seed=0)


def taken_rows(split: Split) -> list[set[int]]:
    """[U] catalogue rows of each user's training items."""
    rows = split.dataset.event_item
    return [set(rows[first:stop].tolist()) for first, stop in split.training_bounds]


def draw(
    split: Split, kinds: tuple[Kind, ...], number: int, each: int, seed: int = 0
) -> list[tuple[int, int, list[int]]]:
    """(user, positive, negatives), `number` times round all users; the positive is the user's last training
    item."""
    users = np.tile(np.arange(len(split.dataset.user_ids)), number)
    positive = split.dataset.event_item.astype(np.int64)[split.training_bounds[users, 1] - 1]
    numbers = np.full(len(users), each)
    drawn = Negatives(split, kinds).draw(
        users, numbers, np.repeat(positive, numbers), np.random.default_rng(seed)
    )
    return [(int(users[row]), int(positive[row]), drawn[row].tolist()) for row in range(len(users))]


# --- whatever their kind
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", [*((kind,) for kind in KINDS), KINDS])
@pytest.mark.parametrize("world", ["tiny", "nasty", "untitled", "wordless"])
def test_negatives_of_every_kind_are_distinct_of_the_requested_number_and_none_of_the_users_training_items(
    kinds, world
):
    split = world_split(world)
    taken = taken_rows(split)
    for user, _, drawn in draw(split, kinds, 3, 10):
        assert len(drawn) == len(set(drawn)) == 10 and taken[user].isdisjoint(drawn)
        assert all(0 <= item < len(split.dataset.items) for item in drawn)


def test_negatives_are_distinct_items_outside_the_training_items_and_may_be_held_out_ones():
    split = world_split("tiny")
    taken = list(training_histories(split).values())
    held_out = set(
        split.dataset.events.filter(pl.Series(split.event_part != TRAIN))
        .select("user_id", "item_id")
        .iter_rows()
    )
    met: Counter[str] = Counter()
    hit = 0
    for user, _, rows in draw(split, ("uniform",), 20, 10):
        drawn = [split.dataset.item_ids[row] for row in rows]
        assert len(set(drawn)) == 10 and not set(drawn).intersection(taken[user])
        hit += sum((split.dataset.user_ids[user], item) in held_out for item in drawn)
        met.update(drawn)
    # 2 of some 113 items outside a user's training items are held out: leaving them out would be a hint
    assert hit / met.total() == pytest.approx(2 / 113, rel=0.25)
    assert len(met) == 120 and max(met.values()) < 2 * min(met.values())


@pytest.mark.parametrize("kinds", [*((kind,) for kind in KINDS), KINDS])
def test_held_out_items_occur_among_negatives_of_every_kind(kinds):
    split = world_split("tiny")
    held_out = [
        {int(split.dataset.event_item[split.held_out_events(part)[u]]) for part in ("validation", "test")}
        for u in range(60)
    ]
    assert any(held_out[user].intersection(drawn) for user, _, drawn in draw(split, kinds, 5, 10))


@pytest.mark.parametrize("kinds", [*((kind,) for kind in KINDS), KINDS])
def test_replacing_what_is_held_out_changes_no_negative(kinds):
    split = world_split("tiny")
    assert draw(split, kinds, 2, 8) == draw(replace_held_out(split, seed=1), kinds, 2, 8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("left", [0, 1, 3])
def test_the_number_is_exact_where_the_catalogue_is_nearly_exhausted(kind, left):
    split = world_split("tiny")
    negatives, users = Negatives(split, (kind,)), np.arange(60)
    free = negatives.available(users, np.full(60, 10_000))
    taken = taken_rows(split)
    assert free.tolist() == [120 - len(mine) for mine in taken]
    numbers = free - left
    drawn = negatives.draw(users, numbers, np.zeros(numbers.sum(), np.int64), np.random.default_rng(0))
    for user in users:
        assert (
            len(set(drawn[user].tolist()) | taken[user]) == 120 - left
            and drawn.lengths[user] == numbers[user]
        )


def test_negatives_stop_where_the_catalogue_ends():
    split = world_split("tiny")
    taken = taken_rows(split)[0]
    negatives, user = Negatives(split), np.array([0])
    number = negatives.available(user, np.array([1000]))
    drawn = negatives.draw(user, number, np.zeros(number[0], np.int64), np.random.default_rng(0))
    assert sorted([*drawn[0].tolist(), *taken]) == list(range(120))


def test_the_number_of_negatives_may_be_zero():
    drawn = Negatives(world_split("tiny"), KINDS).draw(
        np.arange(5), np.zeros(5, int), np.zeros(0, int), np.random.default_rng(0)
    )
    assert drawn.lengths.tolist() == [0] * 5


def test_each_slot_draws_its_kind_by_chance():
    split = big_split()
    category = split.dataset.items["categories"].to_list()
    inside = [
        category[item] == category[like]
        for _, like, drawn in draw(split, ("uniform", "category"), 20, 3)
        for item in drawn
    ]
    assert np.mean(inside) == pytest.approx(0.5 + 0.5 / 8, abs=0.02)


# --- each kind
# -------------------------------------------------------------------------------------------------------


def test_uniform_negatives_are_uniform_over_what_a_user_has_not_taken():
    split = world_split("tiny")
    user = np.zeros(4000, np.int64)
    drawn = Negatives(split).draw(
        user, np.full(4000, 5), np.zeros(20_000, np.int64), np.random.default_rng(0)
    )
    met = np.bincount(drawn.values, minlength=120)
    free = np.setdiff1d(np.arange(120), list(taken_rows(split)[0]))
    assert met[free].sum() == 20_000 and chisquare(met[free]).pvalue > 0.001


def test_popular_negatives_are_in_proportion_to_training_events():
    split = world_split("tiny")
    user = np.zeros(20_000, np.int64)
    drawn = Negatives(split, ("popular",)).draw(user, np.ones(20_000, int), user, np.random.default_rng(0))
    met = np.bincount(drawn.values, minlength=120)
    share = np.where(np.isin(np.arange(120), list(taken_rows(split)[0])), 0, split.popularity)
    assert set(np.flatnonzero(met)) == set(np.flatnonzero(share))
    assert chisquare(met[share > 0], 20_000 * share[share > 0] / share.sum()).pvalue > 0.001


def test_category_negatives_are_of_the_positives_category_and_of_every_item_in_it():
    split = big_split()
    category = np.array(split.dataset.items["categories"].to_list())
    met: Counter[int] = Counter()
    for _, like, drawn in draw(split, ("category",), 20, 4):
        assert {category[item] for item in drawn} == {category[like]}
        met.update(drawn)
    assert all(met[row] for row in np.flatnonzero(np.isin(category, [category[row] for row in met])))


def test_neighbour_negatives_are_among_the_most_alike_by_text():
    split = big_split()
    nearest = nearest_by_text(split.dataset.items, NEIGHBOURS)
    for _, like, drawn in draw(split, ("neighbour",), 5, 4):
        assert set(drawn) <= set(nearest[like].tolist())


def test_any_item_is_drawn_where_a_kind_has_too_few():
    rows = [("u", f"i{n}", n) for n in range(6)]
    items = pl.DataFrame(
        {"item_id": [f"i{n}" for n in range(30)], "categories": ["tea"] * 6 + ["lamps"] * 24}
    )
    data = make_dataset(items, pl.DataFrame(rows, schema=["user_id", "item_id", "position"], orient="row"))
    split = split_leave_one_out(data, SplitSettings(ranking_negatives=1), seed=0)
    for user, _, drawn in draw(split, ("category",), 3, 8):
        assert len(set(drawn)) == 8 and taken_rows(split)[user].isdisjoint(drawn)


@pytest.mark.parametrize("kind", KINDS)
def test_the_setting_decides_which_kind_a_preference_shows(kind):
    split = big_split()
    rows, category = split.dataset.row_of, split.dataset.items["categories"].to_list()
    task = PairwisePreference(
        PairwisePreferenceSettings(**FULL, questions=1, negatives=(kind,)), exam_context(split)
    )
    pairs = [[rows[item] for item in sample.items[-2:]] for sample in task.samples(0)]
    share = np.mean([category[one] == category[other] for one, other in pairs])
    assert share == 1 if kind == "category" else share > 0.5 if kind == "neighbour" else share < 0.3


def test_an_unknown_kind_or_none_is_refused():
    for kinds in (("nearest",), ()):
        with pytest.raises(ValueError, match="negatives"):
            PairwisePreferenceSettings(negatives=kinds)


def test_what_a_user_of_nearly_everything_has_left_is_listed_once_not_for_every_sample(monkeypatch):
    rows = [("guest", f"i{n}", n) for n in range(202)] + [("other", f"i{n}", n) for n in range(9)]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    catalogue = pl.DataFrame({"item_id": [f"i{n}" for n in range(210)]})
    split = split_leave_one_out(make_dataset(catalogue, events), SplitSettings(ranking_negatives=1), seed=0)
    listed: list[int] = []
    untaken = Negatives._untaken
    monkeypatch.setattr(
        Negatives, "_untaken", lambda self, user: (listed.append(user), untaken(self, user))[1]
    )
    guest = split.dataset.user_ids.index("guest")
    drawn = Negatives(split).draw(
        np.full(100, guest), np.full(100, 8), np.zeros(800, np.int64), np.random.default_rng(0)
    )
    taken = taken_rows(split)[guest]
    assert all(len(set(row.tolist()) - taken) == 8 for row in (drawn[n] for n in range(100)))
    assert listed == [guest]


# The most similar by text.
# ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [tiny_world, nasty_world, untitled_world])
def test_the_nearest_by_text_are_those_of_a_full_comparison(world, monkeypatch):
    monkeypatch.setattr("shelftalk.data.similarity.BLOCK_CELLS", 50)
    items = world().items
    dense = text_vectors(items).toarray()
    cosine = dense @ dense.T
    np.fill_diagonal(cosine, 0)
    for row, nearest in enumerate(nearest_by_text(items, 7)):
        known = nearest[nearest >= 0]
        assert len(set(known.tolist())) == len(known) == min(7, int((cosine[row] > 1e-6).sum()))
        assert cosine[row, known] == pytest.approx(np.sort(cosine[row])[::-1][: len(known)], abs=1e-5)
        assert row not in known and np.all(nearest[len(known) :] == -1)


def test_more_neighbours_than_items_and_a_catalogue_without_a_word_have_places_left_over():
    items = pl.DataFrame(
        {"title": ["red lamp", "red tea", "boots", ""], "brand": [""] * 4, "categories": [""] * 4}
    )
    nearest = nearest_by_text(items, 6)
    assert nearest.tolist() == [[1, -1, -1, -1, -1, -1], [0, -1, -1, -1, -1, -1], [-1] * 6, [-1] * 6]
    assert (nearest_by_text(items.with_columns(title=pl.lit("")), 3) == -1).all()
