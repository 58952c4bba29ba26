"""Split: leave-one-out, ratings and candidates of one partition, and nothing held out where a model may
look."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelftalk.data.dataset import Dataset, make_dataset
from shelftalk.data.splitting import (
    NONE,
    RATING_HISTORY,
    TEST,
    TRAIN,
    VALIDATION,
    Part,
    Split,
    SplitSettings,
    TrainingCore,
    split_dataset,
    split_leave_one_out,
)
from shelftalk.errors import NothingLeft, SettingsError, TooFewEvents
from shelftalk.testing.worlds import nasty_world, replace_held_out, tiny_world, untitled_world

WORLD = tiny_world()
SPLIT = split_leave_one_out(WORLD, SplitSettings(), seed=3)
PARTS = ("validation", "test")


def histories(split: Split) -> list[list[str]]:
    data = split.dataset
    items = data.events["item_id"].to_list()
    return [items[first:stop] for first, stop in zip(data.bounds[:-1], data.bounds[1:], strict=True)]


def test_the_last_event_is_the_test_and_the_last_but_one_validation():
    for part, position in (("test", -1), ("validation", -2)):
        requests, truths = SPLIT.retrieval_requests(part)
        assert truths == [items[position] for items in histories(SPLIT)]
        assert [list(request.history) for request in requests] == [
            items[:position] for items in histories(SPLIT)
        ]
    lengths = np.diff(WORLD.bounds)
    assert [(SPLIT.event_part == part).sum() for part in (TEST, VALIDATION, TRAIN)] == [
        60,
        60,
        lengths.sum() - 120,
    ]


@pytest.mark.parametrize(("column", "last"), [("position", "b"), ("timestamp", "c")])
def test_position_decides_if_there_is_one_and_time_otherwise(column, last):
    events = pl.DataFrame(
        {"user_id": ["u"] * 3, "item_id": list("abc"), "position": [1, 3, 2], "timestamp": [1, 2, 3]}
    )
    events = events.select(
        "user_id", "item_id", *(["timestamp"] if column == "timestamp" else ["position", "timestamp"])
    )
    dataset = make_dataset(pl.DataFrame({"item_id": list("abcd")}), events)
    split = split_leave_one_out(dataset, SplitSettings(ranking_negatives=1), seed=0)
    assert split.retrieval_requests("test")[1] == [last]


def test_ties_in_time_are_broken_by_seed_and_not_by_file():
    events = WORLD.events.drop("position").with_columns(timestamp=pl.lit(0))
    truths = []
    for seed in range(12):
        for frame in (events, events.reverse()):
            split = split_leave_one_out(make_dataset(WORLD.items, frame, seed), SplitSettings(), seed)
            truths.append(dict(zip(split.dataset.user_ids, split.retrieval_requests("test")[1], strict=True)))
    assert truths[0::2] == truths[1::2]
    assert len({truth["u0"] for truth in truths}) > 2


def test_ratings_are_divided_80_10_10_minus_what_is_held_out_for_retrieval():
    rated = (~np.isnan(WORLD.event_rating)).sum()
    counts = {part: int((SPLIT.rating_part == part).sum()) for part in (TRAIN, VALIDATION, TEST, NONE)}
    assert counts[VALIDATION] == counts[TEST] == round(rated / 10)
    held_out = SPLIT.event_part != TRAIN
    drawn_for_training = np.isin(SPLIT.rating_part[held_out], [TRAIN, NONE]).sum()
    assert counts[NONE] == drawn_for_training > 0 and sum(counts.values()) == rated


@settings(max_examples=25, deadline=None)
@given(world=st.integers(0, 1000), seed=st.integers(0, 1000), share=st.floats(0.02, 0.45))
def test_no_rating_of_a_held_out_event_is_for_training(world, seed, share):
    wanted = SplitSettings(ranking_negatives=5, rating_validation=share, rating_test=share)
    split = split_leave_one_out(tiny_world(world, users=10, items=30, events=(3, 9)), wanted, seed)
    assert not ((split.rating_part == TRAIN) & (split.event_part != TRAIN)).any()
    assert np.array_equal(np.isnan(split.visible_rating), split.rating_part != TRAIN)


def test_data_without_ratings_has_no_rating_requests():
    split = split_leave_one_out(untitled_world(), SplitSettings(), seed=0)
    assert (split.rating_part == NONE).all() and split.rating_requests("test") == ([], [])
    assert set(split.retrieval_requests("test")[0][0].ratings) == {None}


def with_ratings(value: pl.Expr, seed: int = 3) -> Split:
    """The world with other ratings; `from_end` counts a user's events from the end, from 0."""
    from_end = pl.len().over("user_id") - 1 - pl.col("position")
    events = WORLD.events.with_columns(from_end=from_end, number=pl.int_range(pl.len()))
    return split_leave_one_out(
        make_dataset(WORLD.items, events.with_columns(rating=value).drop("from_end", "number")),
        SplitSettings(),
        seed,
    )


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (pl.lit(1.0), "every rating of the training part is 1,"),
        (
            pl.when(pl.col("from_end") < 2).then(5.0).otherwise(3.5),
            "every rating of the training part is 3.5,",
        ),
        (pl.when(pl.col("from_end") < 2).then(pl.col("rating")), "too few ratings for a training,"),
        (pl.when(pl.col("number") < 3).then(pl.col("rating")), "too few ratings for a training,"),
        (
            pl.when(pl.col("user_id") == "u3").then(pl.col("rating")),
            "the test part has ratings of one user alone",
        ),
        (pl.col("number").cast(pl.Float64), "different ratings; round them"),
        (pl.lit(None, pl.Float64), "the interactions have no ratings"),
    ],
)
def test_ratings_that_do_not_allow_a_rating_task_are_reported_with_the_reason(value, why):
    assert why in with_ratings(value).why_no_rating_task


def test_two_visible_values_are_enough():
    assert with_ratings(pl.col("number").mod(2).cast(pl.Float64)).why_no_rating_task == ""


@pytest.mark.parametrize("part", PARTS)
def test_rating_prompts_show_only_earlier_training_events_and_visible_ratings(part):
    number = {user: row for row, user in enumerate(WORLD.user_ids)}
    ratings = {
        (user, item): rating
        for user, item, rating in WORLD.events.select("user_id", "item_id", "rating").rows()
    }
    visible = {pair for pair, part_of in zip(ratings, SPLIT.rating_part, strict=True) if part_of == TRAIN}
    requests, truths = SPLIT.rating_requests(part)
    assert (
        len(requests)
        == len(truths)
        == (SPLIT.rating_part == {"validation": VALIDATION, "test": TEST}[part]).sum()
    )
    for request, truth in zip(requests, truths, strict=True):
        items = histories(SPLIT)[number[request.user]]
        assert list(request.history) == items[: min(items.index(request.item), len(items) - 2)]
        assert truth == ratings[request.user, request.item] and (request.user, request.item) not in visible
        for item, shown in zip(request.history, request.ratings, strict=True):
            assert shown == (ratings[request.user, item] if (request.user, item) in visible else None)


def guest_account(ratings: int) -> Split:
    """One account of `ratings` ratings, beside one of three."""
    rows = [("guest", f"i{position}", 1.0 + position % 5, position) for position in range(ratings)]
    rows += [("other", f"i{position}", 3.0, position) for position in range(3)]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "rating", "position"], orient="row")
    catalogue = pl.DataFrame({"item_id": [f"i{position}" for position in range(ratings + 99)]})
    return split_leave_one_out(make_dataset(catalogue, events), SplitSettings(), seed=0)


def test_the_histories_of_an_account_of_20000_ratings_hold_no_more_than_its_ratings_times_a_constant():
    requests, _ = guest_account(20_000).rating_requests("test")
    assert len(requests) > 1_900
    assert sum(len(request.history) for request in requests) <= len(requests) * RATING_HISTORY
    values = {id(value) for request in requests for value in (*request.history, *request.ratings)}
    assert len(values) < 2 * 20_000 + 10  # requests share them


def test_a_shortened_history_is_the_end_of_the_whole_one_and_its_users_are_counted(monkeypatch):
    whole = guest_account(300)
    expected = whole.rating_requests("test")
    assert not len(whole.shortened_users)
    monkeypatch.setattr("shelftalk.data.splitting.RATING_HISTORY", 50)
    split = guest_account(300)
    assert [split.dataset.user_ids[user] for user in split.shortened_users] == ["guest"]
    requests, truths = split.rating_requests("test")
    assert truths == expected[1] and max(len(request.history) for request in requests) == 50
    for shown, full in zip(requests, expected[0], strict=True):
        assert shown.history == full.history[-50:] and shown.ratings == full.ratings[-50:]
        assert (shown.user, shown.item) == (full.user, full.item)


@pytest.mark.parametrize("part", PARTS)
def test_candidates_are_the_truth_and_99_items_never_taken(part):
    requests, truths = SPLIT.ranking_requests(part)
    for request, truth, items in zip(requests, truths, histories(SPLIT), strict=True):
        assert len(set(request.candidates)) == 100
        assert set(request.candidates) & set(items) == {truth}


def test_candidates_depend_on_the_seed_alone():
    again, other = (split_leave_one_out(WORLD, SplitSettings(), seed) for seed in (3, 4))
    for part in PARTS:
        assert np.array_equal(again.candidates[part], SPLIT.candidates[part])
        assert not np.array_equal(other.candidates[part], SPLIT.candidates[part])
    assert again.fingerprint() == SPLIT.fingerprint() != other.fingerprint()


def test_the_truth_may_stand_anywhere_among_the_candidates():
    """400 users, 2 parts, 10 positions: 80 each; chi-square with 9 degrees of freedom is below 27.9 in 999 of
    1000 draws."""
    split = split_leave_one_out(tiny_world(users=400, items=60), SplitSettings(ranking_negatives=9), seed=0)
    positions = []
    for part in PARTS:
        requests, truths = split.ranking_requests(part)
        positions += [
            request.candidates.index(truth) for request, truth in zip(requests, truths, strict=True)
        ]
    counts = np.bincount(positions, minlength=10)
    assert ((counts - 80) ** 2 / 80).sum() < 27.9


def test_negatives_are_drawn_uniformly_from_the_catalogue():
    """Each of 60 items is a negative about as often as any other, whatever its popularity."""
    split = split_leave_one_out(tiny_world(users=400, items=60), SplitSettings(ranking_negatives=9), seed=0)
    drawn = np.bincount(split.candidates["test"].ravel(), minlength=60)
    assert drawn.min() > 30 and drawn.max() < 110  # mean 400 * 10 / 60 = 67, standard deviation about 8


def test_what_may_be_counted_is_the_training_part():
    train = WORLD.events.filter(SPLIT.event_part == TRAIN)
    assert [WORLD.item_ids[row] for row in SPLIT.training_items] == train["item_id"].to_list()
    assert [WORLD.user_ids[row] for row in SPLIT.training_users] == train["user_id"].to_list()
    assert SPLIT.popularity.sum() == len(train) and len(SPLIT.popularity) == len(WORLD.items)
    for user, (first, stop) in enumerate(SPLIT.training_bounds):
        assert (SPLIT.event_part[first:stop] == TRAIN).all() and stop == WORLD.bounds[user + 1] - 2


def with_short_users(world: Dataset = WORLD) -> Dataset:
    """User u5 has two events, u9 one, the others as they are."""
    cut = ((pl.col("user_id") == "u5") & (pl.col("position") >= 2)) | (
        (pl.col("user_id") == "u9") & (pl.col("position") >= 1)
    )
    return make_dataset(world.items, world.events.filter(~cut))


def test_users_with_too_few_events_are_training_data_and_nobody_else_is_changed(tmp_path):
    data = with_short_users()
    split = split_leave_one_out(data, SplitSettings(), seed=3)
    whole = held_out_items(SPLIT, "test")
    short = {data.user_ids.index(user) for user in ("u5", "u9")}
    assert (
        set(split.evaluated_users("test"))
        == set(range(60)) - short
        == set(split.evaluated_users("validation"))
    )
    for part in PARTS:
        requests, truths = split.ranking_requests(part)
        assert len(requests) == len(split.candidates[part]) == 58
        assert not {"u5", "u9"} & {request.user for request in requests}
        assert all(truth in request.candidates for request, truth in zip(requests, truths, strict=True))
    assert held_out_items(split, "test") == {
        user: item for user, item in whole.items() if user not in ("u5", "u9")
    }
    for user in short:
        assert split.training_bounds[user].tolist() == data.bounds[user : user + 2].tolist()
    assert len(split.training_items) == len(data.events) - 2 * 58 == split.popularity.sum()
    split.save(tmp_path)
    assert Split.load(tmp_path).fingerprint() == split.fingerprint()


def test_where_nobody_can_be_evaluated_the_split_is_refused():
    events = WORLD.events.filter(pl.col("position") < 2)
    with pytest.raises(TooFewEvents, match="none of the 60 users has 3 interactions"):
        split_leave_one_out(make_dataset(WORLD.items, events), SplitSettings(), seed=0)


def test_a_random_split_holds_out_events_from_anywhere_in_a_history():
    """The last of 6 to 12 events is the test item of about one user in nine, not of all."""
    split = split_dataset(WORLD, SplitSettings(scheme="random"), seed=3)
    assert (SPLIT.scheme, split.scheme) == ("leave_one_out", "random")
    last = {user: items[-1] for user, items in zip(WORLD.user_ids, histories(SPLIT), strict=True)}
    same = sum(
        last[request.user] == truth for request, truth in zip(*split.retrieval_requests("test"), strict=True)
    )
    assert same < 20 and len(split.evaluated_users("test")) == 60
    assert sorted(map(sorted, histories(split))) == sorted(map(sorted, histories(SPLIT)))
    assert split.fingerprint() == split_dataset(WORLD, SplitSettings(scheme="random"), seed=3).fingerprint()
    assert split.fingerprint() != split_dataset(WORLD, SplitSettings(scheme="random"), seed=4).fingerprint()


def test_data_without_an_order_is_split_at_random_and_never_by_leave_one_out():
    bare = make_dataset(WORLD.items, WORLD.events.drop("position", "timestamp"), 3)
    assert (
        split_dataset(bare, SplitSettings(), 3).fingerprint()
        == split_dataset(WORLD, SplitSettings(scheme="random"), 3).fingerprint()
    )
    with pytest.raises(SettingsError, match='set split.scheme = "random"'):
        split_leave_one_out(bare, SplitSettings(), 3)


def test_a_core_of_training_events_counts_no_held_out_event(tmp_path):
    """i1, i2, i7, i8 and i9 are taken by two users or more in training; i3 by one, and by five as what is
    held out of them."""
    rows = [
        ("a", "1239"),
        ("b", "1953"),
        ("c", "2963"),
        ("d", "3478"),
        ("e", "1295"),
        ("f", "7813"),
        ("g", "7853"),
    ]
    events = [(user, f"i{item}", position) for user, items in rows for position, item in enumerate(items)]
    data = make_dataset(
        pl.DataFrame({"item_id": [f"i{n}" for n in range(1, 10)]}),
        pl.DataFrame(events, schema=["user_id", "item_id", "position"], orient="row"),
    )
    one = SplitSettings(ranking_negatives=1)
    cut, whole = (
        split_dataset(data, one, 0, TrainingCore(2, whole_catalogue)) for whole_catalogue in (False, True)
    )
    for split in (cut, whole):
        train = split.dataset.events.filter(split.event_part == TRAIN)
        assert sorted(train.select("user_id", "item_id").rows()) == [
            (u, f"i{i}") for u, two in rows if u != "d" for i in two[:2]
        ]
    assert (
        held_out_items(whole, "test") == {"a": "i9", "e": "i5"} | dict.fromkeys("bcfg", "i3")
        and len(whole.dataset.items) == 9
    )
    assert held_out_items(cut, "test") == {"a": "i9"} and held_out_items(cut, "validation") == {
        "e": "i9",
        "f": "i1",
    }
    cut.save(tmp_path)  # its parts are not of one length
    assert Split.load(tmp_path).fingerprint() == cut.fingerprint()
    assert cut.dataset.events.filter(user_id="e")["position"].to_list() == [0, 1, 2]
    assert sorted(cut.dataset.item_ids) == ["i1", "i2", "i7", "i8", "i9"]


def held_out_items(split: Split, part: Part) -> dict[str, str]:
    """User -> held-out item."""
    return {request.user: truth for request, truth in zip(*split.retrieval_requests(part), strict=True)}


def test_a_catalogue_that_leaves_nobody_to_be_evaluated_names_the_one_that_does():
    own = [
        (f"u{u}", f"i{item}", position)
        for u in range(4)
        for position, item in enumerate((0, 1, 2 + 2 * u, 3 + 2 * u))
    ]
    events = pl.DataFrame(own, schema=["user_id", "item_id", "position"], orient="row")
    data, one = (
        make_dataset(pl.DataFrame({"item_id": [f"i{n}" for n in range(10)]}), events),
        SplitSettings(ranking_negatives=1),
    )
    with pytest.raises(TooFewEvents, match='set data.catalogue = "all"'):
        split_dataset(data, one, 0, TrainingCore(2, whole_catalogue=False))
    assert (
        len(split_dataset(data, one, 0, TrainingCore(2, whole_catalogue=True)).evaluated_users("test")) == 4
    )


def test_a_core_of_training_events_that_leaves_nothing_names_one_that_does():
    with pytest.raises(NothingLeft, match=r"data\.k_core = \d+ or less"):
        split_dataset(WORLD, SplitSettings(), 0, TrainingCore(50, True))


def test_a_catalogue_too_small_for_the_candidates_is_refused_with_the_number_that_works_for_everybody():
    world = tiny_world(items=100)
    with pytest.raises(
        NothingLeft, match=r"set split\.ranking_negatives = \d+ in an experiment file"
    ) as caught:
        split_leave_one_out(world, SplitSettings(), seed=0)
    named = int(re.findall(r"ranking_negatives = (\d+)", str(caught.value))[0])
    split_leave_one_out(world, SplitSettings(ranking_negatives=named), seed=0)
    with pytest.raises(NothingLeft):
        split_leave_one_out(world, SplitSettings(ranking_negatives=named + 1), seed=0)


def test_a_user_who_took_the_whole_catalogue_leaves_no_number_to_name():
    world = tiny_world()
    everything = pl.DataFrame({"user_id": ["all"] * len(world.items), "item_id": world.items["item_id"]})
    everything = everything.with_columns(
        pl.int_range(pl.len()).cast(world.events["position"].dtype).alias("position")
    )
    with pytest.raises(NothingLeft, match='user "all" only 0; add items that this user never took'):
        split_leave_one_out(
            make_dataset(world.items, pl.concat([world.events, everything], how="diagonal")),
            SplitSettings(),
            seed=0,
        )


def test_saved_and_loaded_is_the_same(tmp_path):
    SPLIT.save(tmp_path)
    loaded = Split.load(tmp_path)
    assert loaded.fingerprint() == SPLIT.fingerprint()
    assert loaded.event_part.dtype == SPLIT.event_part.dtype and loaded.candidates["test"].dtype == np.int32
    assert loaded.ranking_requests("test") == SPLIT.ranking_requests("test")


def visible_in_training(split: Split) -> tuple[object, ...]:
    """All that an index or a sample may read."""
    train = split.dataset.events.filter(split.event_part == TRAIN).drop("rating")
    return (
        split.dataset.items.write_json(),
        train.write_json(),
        split.visible_rating.tobytes(),
        split.training_items.tobytes(),
        split.training_users.tobytes(),
        split.popularity.tobytes(),
        split.training_bounds.tobytes(),
        split.event_part.tobytes(),
        split.rating_part.tobytes(),
    )


@pytest.mark.parametrize("world", [tiny_world, nasty_world, untitled_world])
def test_replacing_all_that_is_held_out_changes_nothing_that_training_may_see(world):
    split = split_leave_one_out(world(), SplitSettings(), seed=0)
    replaced = replace_held_out(split, seed=1)
    assert visible_in_training(replaced) == visible_in_training(split)


def test_the_replacement_leaves_no_held_out_label_as_it_was():
    replaced = replace_held_out(SPLIT, seed=1)
    for part in PARTS:
        for items, (request, truth) in zip(
            histories(SPLIT), zip(*replaced.ranking_requests(part), strict=True), strict=True
        ):
            assert truth not in items and truth in request.candidates
        for items, request in zip(histories(replaced), replaced.ranking_requests(part)[0], strict=True):
            assert len(set(items)) == len(items) and len(set(request.candidates) & set(items)) == 1
    held_out = SPLIT.rating_part != TRAIN
    before, after = WORLD.event_rating[held_out], replaced.dataset.event_rating[held_out]
    assert (before != after).all() and set(after) <= set(WORLD.rating_values)
    again, other = replace_held_out(SPLIT, seed=1), replace_held_out(SPLIT, seed=2)
    assert again.fingerprint() == replaced.fingerprint() != other.fingerprint()


def test_splitting_the_replaced_data_anew_divides_the_ratings_alike():
    """The rating parts are drawn by position, so a held-out item or value cannot move another event's
    rating."""
    replaced = replace_held_out(SPLIT, seed=1)
    anew = split_leave_one_out(replaced.dataset, SplitSettings(), seed=3)
    assert np.array_equal(anew.rating_part, SPLIT.rating_part)
    assert visible_in_training(replace(anew, candidates={})) == visible_in_training(SPLIT)


def test_a_split_comes_back_from_a_folder_whose_name_is_a_pattern(tmp_path):
    folder = tmp_path / "runs [1] *"
    folder.mkdir()
    SPLIT.save(folder)
    assert Split.load(folder).fingerprint() == SPLIT.fingerprint()
