"""Every scheme of a split by brute force, what holds in all of them, and the split of a refit."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelftalk.data.dataset import Dataset, make_dataset
from shelftalk.data.splitting import (
    CONTEXT,
    NONE,
    TEST,
    TRAIN,
    VALIDATION,
    Protocol,
    Split,
    SplitSettings,
    TrainingCore,
    split_dataset,
)
from shelftalk.errors import SettingsError, TooFewEvents
from shelftalk.experiment import load_experiment
from shelftalk.report.ledger import facts_of
from shelftalk.testing.worlds import DAY, START, replace_held_out, tiny_world

WORLD = tiny_world()
PARTS = ("validation", "test")
SCHEMES = {
    "leave_one_out": SplitSettings(scheme="leave_one_out"),
    "leave_last_n": SplitSettings(scheme="leave_last_n", last=2),
    "by_user": SplitSettings(scheme="by_user"),
    "random": SplitSettings(scheme="random"),
    "global_time": SplitSettings(scheme="global_time", gap_days=5),
}


def events_of(split: Split) -> dict[str, list[tuple[str, int, int]]]:
    """User -> (item, part, time), oldest first."""
    rows = split.dataset.events.select("user_id", "item_id", "timestamp").with_columns(part=split.event_part)
    found: dict[str, list[tuple[str, int, int]]] = {}
    for user, item, time, part in rows.iter_rows():
        found.setdefault(user, []).append((item, part, time))
    return found


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("core", [None, TrainingCore(3, True), TrainingCore(3, False)])
def test_training_events_come_first_and_requests_show_all_that_comes_before_their_target(scheme, core):
    split = split_dataset(WORLD, SCHEMES[scheme].model_copy(update={"ranking_negatives": 9}), 0, core)
    of_user = events_of(split)
    assert split.scheme == scheme
    for events in of_user.values():
        training = [part == TRAIN for _, part, _ in events]
        assert training == sorted(training, reverse=True)
    for number, (first, stop) in enumerate(split.training_bounds):
        events = of_user[split.dataset.user_ids[number]]
        assert stop - first == sum(part == TRAIN for _, part, _ in events)
    for part, number in zip(PARTS, (VALIDATION, TEST), strict=True):
        wanted = {
            (user, item, tuple(one for one, _, _ in events[:position]))
            for user, events in of_user.items()
            for position, (item, its_part, _) in enumerate(events)
            if its_part == number
        }
        requests, truths = split.ranking_requests(part)
        got = {(r.user, truth, r.history) for r, truth in zip(requests, truths, strict=True)}
        assert wanted == got and len(got) == len(requests) == len(split.candidates[part]) > 0
        for request, truth in zip(requests, truths, strict=True):
            taken = {item for item, _, _ in of_user[request.user]}
            assert set(request.candidates) & taken == {truth} and len(set(request.candidates)) == 10


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_rating_of_an_event_that_does_not_train_is_visible(scheme):
    split = split_dataset(WORLD, SCHEMES[scheme], 0)
    assert not ((split.rating_part == TRAIN) & (split.event_part != TRAIN)).any()
    assert split.why_no_rating_task == ""
    assert np.array_equal(np.isnan(split.visible_rating), split.rating_part != TRAIN)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_split_is_saved_with_its_protocol(scheme, tmp_path):
    split = split_dataset(WORLD, SCHEMES[scheme], 0)
    split.save(tmp_path)
    loaded = Split.load(tmp_path)
    assert loaded.protocol == split.protocol and loaded.fingerprint() == split.fingerprint()
    assert loaded.retrieval_requests("test") == split.retrieval_requests("test")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_only_leave_one_out_is_compared_with_publications_and_all_others_say_what_they_are(scheme):
    split = split_dataset(WORLD, SCHEMES[scheme], 0)
    usual = scheme == "leave_one_out"
    assert (facts_of(split).events == "leave-one-out") == usual == (not split.protocol.note)
    assert bool(split.protocol.as_metrics()) != usual
    assert split.protocol.held_out.endswith(".")


def test_the_sentences_of_the_protocols_differ_and_none_is_empty():
    sentences = {split_dataset(WORLD, one, 0).protocol.held_out for one in SCHEMES.values()}
    assert len(sentences) == len(SCHEMES)


# --- leave last n ---


def test_the_last_n_events_are_the_test_and_the_n_before_them_validation():
    split = split_dataset(WORLD, SplitSettings(scheme="leave_last_n", last=3), 0)
    for events in events_of(split).values():
        parts = [part for _, part, _ in events]
        if len(events) > 6:
            assert parts == [TRAIN] * (len(events) - 6) + [VALIDATION] * 3 + [TEST] * 3
        else:
            assert parts == [TRAIN] * len(events)
    assert len(split.retrieval_requests("test")[0]) == 3 * len(split.evaluated_users("test"))


def test_one_event_each_is_leave_one_out():
    one = split_dataset(WORLD, SplitSettings(scheme="leave_last_n", last=1), 0)
    assert np.array_equal(one.event_part, split_dataset(WORLD, SplitSettings(), 0).event_part)


def test_more_events_than_anybody_has_are_refused_and_the_remedy_works():
    with pytest.raises(
        TooFewEvents,
        match=r"has 13 interactions, one to train, 6 to validate and 6 to test; set "
        r"split.last below 6",
    ):
        split_dataset(tiny_world(events=(6, 12)), SplitSettings(scheme="leave_last_n", last=6), 0)
    split_dataset(tiny_world(events=(6, 12)), SplitSettings(scheme="leave_last_n", last=5), 0)


# --- by user ---


def test_users_are_held_out_whole():
    split = split_dataset(WORLD, SplitSettings(scheme="by_user", user_test=0.2, user_validation=0.1), 0)
    kinds = {"train": 0, "validation": 0, "test": 0}
    for events in events_of(split).values():
        parts = [part for _, part, _ in events]
        if TRAIN in parts:
            assert set(parts) == {TRAIN}
            kinds["train"] += 1
        else:
            assert parts[:-1] == [CONTEXT] * (len(parts) - 1)
            kinds["test" if parts[-1] == TEST else "validation"] += 1
    assert kinds == {"train": 42, "validation": 6, "test": 12}
    held_out = split.event_part != TRAIN
    assert (split.rating_part[held_out] == NONE).all()


def test_which_users_are_held_out_depends_on_the_seed_alone():
    one, again, other = (split_dataset(WORLD, SCHEMES["by_user"], seed) for seed in (0, 0, 1))
    assert one.fingerprint() == again.fingerprint()
    assert set(one.evaluated_users("test")) != set(other.evaluated_users("test"))


def test_too_few_users_to_hold_out_are_refused_and_each_remedy_works():
    world = tiny_world(users=4)
    with pytest.raises(TooFewEvents, match="of 4 users, 4 with two interactions, 0 cannot be held out"):
        split_dataset(world, SplitSettings(scheme="by_user"), 0)
    for remedy in (
        SplitSettings(scheme="by_user", user_test=0.3, user_validation=0.3),
        SplitSettings(scheme="leave_one_out"),
    ):
        split_dataset(world, remedy, 0)


# --- global time ---


def timed(*histories: str) -> Dataset:
    """One user per history; an item is a letter, and its time the day of the letter's number."""
    rows = [
        (f"u{user}", item, START // DAY * DAY + DAY * (ord(item) - 97), 3.0 + position % 2)
        for user, history in enumerate(histories)
        for position, item in enumerate(history)
    ]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "rating"], orient="row")
    letters = [chr(97 + number) for number in range(26)]
    return make_dataset(pl.DataFrame({"item_id": letters}), events)


def test_two_days_divide_the_events_of_all_users_and_the_last_of_a_window_is_its_target():
    """Training ends on day 8 with a gap of 2 days before day 10; the test begins on day 20."""
    day = [date.fromtimestamp(START // DAY * DAY + DAY * number) for number in range(26)]
    wanted = SplitSettings(
        scheme="global_time", validation_from=day[10], test_from=day[20], gap_days=2, ranking_negatives=2
    )
    data = timed("abhijklu", "acuvw", "xy", "bcdz", "ehi", "f", "t")
    split = split_dataset(data, wanted, 0)
    letter = {TRAIN: "T", VALIDATION: "v", TEST: "t", CONTEXT: "-"}
    shown = {
        user: "".join(letter[part] for _, part, _ in events) for user, events in events_of(split).items()
    }
    assert shown == {
        "u0": "TTT---vt",
        "u1": "TT--t",
        "u2": "-t",
        "u3": "TTTt",
        "u4": "TT-",
        "u5": "T",
        "u6": "-",
    }
    requests, truths = split.retrieval_requests("test")
    assert {(r.user, "".join(r.history), truth) for r, truth in zip(requests, truths, strict=True)} == {
        ("u0", "abhijkl", "u"),
        ("u1", "acuv", "w"),
        ("u2", "x", "y"),
        ("u3", "bcd", "z"),
    }
    assert split.protocol.cuts == (START // DAY * DAY + 10 * DAY, START // DAY * DAY + 20 * DAY)
    assert (
        "2014-05-2" in split.protocol.held_out
        and "the last 2 days of that left out" in split.protocol.held_out
    )


@settings(max_examples=40, deadline=None)
@given(
    world=st.integers(0, 1000),
    validation=st.floats(0.3, 0.7),
    share=st.floats(0.05, 0.25),
    gap=st.integers(0, 20),
)
def test_nothing_that_trains_is_as_late_as_a_window_less_the_gap(world, validation, share, gap):
    wanted = SplitSettings(
        scheme="global_time",
        validation_from=validation,
        test_from=validation + share,
        gap_days=gap,
        ranking_negatives=5,
    )
    data = tiny_world(world, users=25, items=40, events=(3, 9))
    split = split_dataset(data, wanted, 0)
    seconds, cuts = data.event_second, split.protocol.cuts
    assert cuts == tuple(
        sorted(seconds.tolist())[int(q * len(seconds))] for q in (validation, validation + share)
    )
    assert ((split.event_part == TRAIN) == (seconds < cuts[0] - gap * DAY)).all()
    assert ((split.rating_part == TRAIN) == (seconds < cuts[0] - gap * DAY)).all()
    assert ((split.rating_part == TEST) == (seconds >= cuts[1])).all()
    for user in range(len(data.user_ids)):
        rows = range(data.bounds[user], data.bounds[user + 1])
        for part, low, high in ((VALIDATION, *cuts), (TEST, cuts[1], np.inf)):
            inside = [row for row in rows if low <= seconds[row] < high]
            targets = [row for row in rows if split.event_part[row] == part]
            assert targets == ([] if not inside or inside[-1] == rows[0] else inside[-1:])


def test_events_of_the_second_of_a_cut_are_all_in_the_window():
    data = timed("abcdef", "abcdef", "abcdef", "abcdef")
    split = split_dataset(
        data, SplitSettings(scheme="global_time", validation_from=0.4, test_from=0.7, ranking_negatives=2), 0
    )
    assert [part for _, part, _ in events_of(split)["u0"]] == [
        TRAIN,
        TRAIN,
        CONTEXT,
        VALIDATION,
        CONTEXT,
        TEST,
    ]


def test_without_times_a_split_by_time_is_refused_and_both_remedies_work():
    bare = make_dataset(WORLD.items, WORLD.events.drop("timestamp", "nanosecond"))
    with pytest.raises(
        SettingsError, match="divides by time, and 524 of 524 interactions have no time"
    ) as caught:
        split_dataset(bare, SCHEMES["global_time"], 0)
    assert str(caught.value).endswith("or leave split.scheme out.")
    split_dataset(bare, SplitSettings(), 0)
    split_dataset(WORLD, SCHEMES["global_time"], 0)


def test_windows_without_a_target_are_refused_by_name_and_other_times_work():
    late = SplitSettings(scheme="global_time", validation_from=date(2030, 1, 1), test_from=date(2031, 1, 1))
    with pytest.raises(SettingsError, match="nothing for validation and the test"):
        split_dataset(WORLD, late, 0)
    with pytest.raises(SettingsError, match="nothing for training.*a smaller split.gap_days"):
        split_dataset(WORLD, SplitSettings(scheme="global_time", gap_days=5000), 0)
    split_dataset(WORLD, SplitSettings(scheme="global_time"), 0)


def test_a_setting_that_the_scheme_does_not_read_is_refused_and_both_remedies_work():
    with pytest.raises(SettingsError, match='split.last is read by split.scheme = "leave_last_n" alone'):
        load_experiment(None, {"split": {"last": 5}})
    for split in ({"last": 5, "scheme": "leave_last_n"}, {}):
        load_experiment(None, {"split": split})


def test_dates_survive_being_written_out(tmp_path):
    given = load_experiment(
        None,
        {"split": {"scheme": "global_time", "validation_from": "2014-05-01", "test_from": date(2014, 6, 1)}},
    )
    (tmp_path / "experiment.toml").write_text(given.toml())
    assert load_experiment(tmp_path / "experiment.toml").split == given.split
    assert given.split.validation_from == date(2014, 5, 1)


# --- refit ---


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_refit_trains_on_validation_and_what_is_before_it_and_on_nothing_of_the_test(scheme):
    split = split_dataset(WORLD, SCHEMES[scheme], 0)
    refit = split.refitted()
    assert (refit.event_part[split.event_part == TRAIN] == TRAIN).all()
    assert np.array_equal(refit.event_part == TEST, split.event_part == TEST)
    assert np.array_equal(refit.rating_part == TEST, split.rating_part == TEST)
    assert not (refit.event_part == VALIDATION).any() and not (refit.rating_part == VALIDATION).any()
    assert not ((refit.rating_part == TRAIN) & (refit.event_part != TRAIN)).any()
    assert refit.retrieval_requests("validation") == ([], []) == refit.rating_requests("validation")
    assert refit.ranking_requests("test")[1] == split.ranking_requests("test")[1]
    for first, stop in refit.training_bounds:
        assert (refit.event_part[first:stop] == TRAIN).all()
    assert len(refit.training_items) == (refit.event_part == TRAIN).sum()
    if scheme != "global_time":  # whose gap before the test may hold a validation event
        assert (refit.event_part[split.event_part == VALIDATION] == TRAIN).all()


def test_a_refit_by_time_ends_where_the_test_begins_less_the_gap():
    split = split_dataset(WORLD, SCHEMES["global_time"], 0)
    end = split.protocol.cuts[1] - 5 * DAY
    assert np.array_equal(split.refitted().event_part == TRAIN, WORLD.event_second < end)
    assert (split.event_part[WORLD.event_second >= end] == VALIDATION).any(), "else the gap is not tried"


def test_a_refit_of_users_held_out_whole_trains_on_those_of_validation():
    split = split_dataset(WORLD, SCHEMES["by_user"], 0)
    refit = split.refitted()
    trained = set(refit.training_users) - set(split.training_users)
    assert trained == set(split.evaluated_users("validation"))
    assert not set(refit.training_users) & set(split.evaluated_users("test"))


def test_a_rating_that_was_drawn_for_training_trains_where_its_event_does():
    """By leave-one-out: of the validation event, unless its rating is one of the test."""
    split = split_dataset(WORLD, SplitSettings(), 0)
    refit, validated = split.refitted(), split.event_part == VALIDATION
    assert ((refit.rating_part == TRAIN) == (refit.event_part == TRAIN) & (split.rating_part != TEST)).all()
    assert (split.rating_part[validated] == TEST).any() and (split.rating_part[validated] == NONE).any()


# --- leaks ---


def visible(split: Split) -> tuple[bytes | str, ...]:
    """All that training may read."""
    train = split.dataset.events.filter(split.event_part == TRAIN).drop("rating")
    arrays = (split.visible_rating, split.training_items, split.training_users, split.popularity)
    return train.write_json(), *(array.tobytes() for array in (*arrays, split.training_bounds))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_nothing_that_may_be_learned_from_depends_on_what_is_held_out(scheme):
    split = split_dataset(WORLD, SCHEMES[scheme], 0)
    replaced = replace_held_out(split, seed=1)
    assert visible(replaced) == visible(split)
    held_out = split.event_part != TRAIN
    assert (replaced.dataset.event_item[held_out] != split.dataset.event_item[held_out]).all()
    if scheme != "random":  # which is ordered by a hash of the items
        anew = split_dataset(replaced.dataset, SCHEMES[scheme], 0)
        assert visible(replace(anew, candidates={})) == visible(split)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_nor_does_what_a_refit_learns_from_depend_on_the_test(scheme):
    split = split_dataset(WORLD, SCHEMES[scheme], 0)
    refit = split.refitted()
    assert visible(replace_held_out(refit, seed=1)) == visible(refit)


def test_protocols_of_unusual_splits_change_the_fingerprint_and_those_of_before_do_not():
    split = split_dataset(WORLD, SplitSettings(), 0)
    assert replace(split, protocol=Protocol("random")).fingerprint() == split.fingerprint()
    assert replace(split, protocol=Protocol("leave_last_n")).fingerprint() != split.fingerprint()
