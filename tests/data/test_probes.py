"""Probes of the data: right values by brute force, on worlds that give something away and on those that do
not."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from scipy.stats import beta

from shelftalk.data.dataset import Dataset, make_dataset
from shelftalk.data.probes import Probe, _even_odds, _share, id_order, probe_data
from shelftalk.data.sources import DataSettings, catalogue_order
from shelftalk.data.splitting import TRAIN, Split, SplitSettings, split_dataset
from shelftalk.testing.worlds import DAY, tiny_world

ORDER = "order-coded items: id order"
TIED = "test item at the time of the one before"
HIGHER = "tied test item is the higher one: id order"
LATER = "training interactions later than a test item"
ONLY_LATER = "co-occurrence with the last item comes from later users alone"


def probes(split: Split, file_order: tuple[str, ...] = ()) -> dict[str, Probe]:
    return {probe.name: probe for probe in probe_data(split, file_order)}


def dataset(rows: list[tuple[str, str, int, int]], **texts: list[str]) -> Dataset:
    """Of (user, item, position, time)."""
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "position", "timestamp"], orient="row")
    ids = sorted(events["item_id"].unique())
    return make_dataset(pl.DataFrame({"item_id": ids, **texts}), events)


def split_of(data: Dataset, **settings: object) -> Split:
    return split_dataset(data, SplitSettings(ranking_negatives=1, **settings), 0)


def in_order_of_appearance(users: int = 300, items: int = 2000, shuffled: bool = False) -> Dataset:
    """Items are numbered as they first appear, user after user, which is what the numbering of P5 did."""
    draw = np.random.default_rng(0)
    number: dict[int, int] = {}
    rows = []
    for user in range(users):
        for position, item in enumerate(draw.choice(items, 6, replace=False).tolist()):
            code = number.setdefault(item, len(number))
            rows.append((f"u{user}", f"i{code:04}", position, position))
    if shuffled:
        other = draw.permutation(len(number))
        rows = [(user, f"i{other[int(item[1:])]:04}", position, time) for user, item, position, time in rows]
    return dataset(rows)


def test_numbers_in_order_of_appearance_are_detected_and_a_permutation_of_them_is_not():
    leaking, clean = (
        probes(split_of(in_order_of_appearance(shuffled=shuffled)))[ORDER] for shuffled in (False, True)
    )
    assert leaking.value > 0.3 > 20 * leaking.expected and leaking.p < 1e-6
    assert "follows the order in which users take items" in leaking.sentence
    assert clean.low < clean.expected < clean.high and clean.p > 0.01
    assert "no sign" in clean.sentence


def test_the_guess_and_chance_are_those_of_a_loop_over_users():
    split = split_of(in_order_of_appearance(users=80, items=60))
    ids = sorted(split.dataset.item_ids)
    hits, chance = 0, []
    requests, truths = split.retrieval_requests("test")
    for request, truth in zip(requests, truths, strict=True):
        start = ids.index(request.history[-1]) + 1
        guess = ids[start : start + 10]
        hits += truth in guess
        chance.append(len(set(guess) - set(request.history)) / (len(ids) - len(request.history)))
    got = probes(split)[ORDER]
    assert (got.value, got.n) == (hits / 80, 80)
    assert got.expected == pytest.approx(np.mean(chance))
    low, high = beta.ppf(0.025, hits, 81 - hits), beta.ppf(0.975, hits + 1, 80 - hits)  # Clopper and Pearson
    assert (got.low, got.high) == pytest.approx((low, high))


@pytest.mark.parametrize(
    ("ids", "ascending"),
    [
        (["i10", "i9", "i100"], ["i9", "i10", "i100"]),
        (["10", "9", "2"], ["2", "9", "10"]),
        (["B10A", "B9", "B100"], ["B100", "B10A", "B9"]),
        (["a1", "b1", "a2"], ["a1", "a2", "b1"]),
        (["x"], ["x"]),
        (["101", "1012"], ["101", "1012"]),
        (["²", "1"], ["1", "²"]),
    ],
)
def test_ids_are_ordered_by_number_where_they_are_numbers_and_else_as_text(ids, ascending):
    assert [ids[row] for row in id_order(ids)] == ascending


def tied(orders: list[bool]) -> Dataset:
    """One user per entry: the last two are on one day, the later one the higher item or the lower; two users
    more without a tie."""
    rows = []
    for user, higher in enumerate(orders):
        last = (8, 9) if higher else (9, 8)
        items = (user % 7, last[0], last[1])
        rows += [
            (f"u{user}", f"i{item}", position, (0, DAY, DAY)[position]) for position, item in enumerate(items)
        ]
    for user in ("v", "w"):
        rows += [(user, f"i{position}", position, position * DAY) for position in range(3)]
    return dataset(rows)


def test_tied_pairs_and_their_order_are_counted():
    got = probes(split_of(tied([True] * 30 + [False] * 2)))
    assert (got[TIED].value, got[TIED].n) == (32 / 34, 34)
    assert (got[HIGHER].value, got[HIGHER].n) == (30 / 32, 32)
    assert got[HIGHER].p == pytest.approx(2 * (1 + 32 + 32 * 31 / 2) / 2**32)  # both tails of a fair coin
    assert "order of items" in got[HIGHER].sentence
    even = probes(split_of(tied([True, False] * 8)))[HIGHER]
    assert even.value == 0.5 and even.p == 1 and "no more than a coin" in even.sentence


def test_shuffled_ties_leave_no_order_of_items():
    got = probes(split_of(tied([True] * 200), ties="shuffled"))[HIGHER]
    assert got.n == 200 and got.low < 0.5 < got.high


def test_the_catalogue_file_is_an_order_of_its_own_unless_it_is_that_of_the_ids():
    split = split_of(tied([True] * 20))
    ids = sorted(split.dataset.item_ids)
    backwards = probes(split, tuple(reversed(ids)))
    assert backwards["tied test item is the higher one: catalogue file order"].value == 0
    assert backwards[HIGHER].value == 1
    same = probes(split, (*ids, "not in the catalogue"))
    assert "tied test item is the higher one: id and catalogue file order" in same and HIGHER not in same
    assert set(probes(split, tuple(ids[:-1]))) == set(probes(split))  # not the whole catalogue: not known


def test_the_order_of_the_catalogue_file_is_read_from_it(tmp_path):
    world = tiny_world()
    shuffled = world.items.sample(fraction=1.0, shuffle=True, seed=1)
    shuffled.rename({"item_id": "sku"}).write_csv(tmp_path / "items.csv")
    world.events.write_parquet(tmp_path / "interactions.parquet")
    settings = DataSettings(folder=str(tmp_path), items_columns={"item_id": "sku"})
    assert catalogue_order(settings) == shuffled["item_id"].to_list()


def brute_force_future(split: Split) -> tuple[float, float, list[bool]]:
    """Mean share of later training events, that of the median test time, and of each target with a common
    training user of its last item whether all of them are later."""
    data, seconds = split.dataset, split.dataset.event_second
    train = [
        (split.event_user[row], data.event_item[row], seconds[row])
        for row in np.flatnonzero(split.event_part == TRAIN)
    ]
    shares, moments, only = [], [], []
    for target in np.flatnonzero(split.event_part == 2):
        moment, item, last = seconds[target], data.event_item[target], data.event_item[target - 1]
        moments.append(moment)
        shares.append(np.mean([time > moment for _, _, time in train]))
        times = [
            max(one_time, other_time)
            for one, one_item, one_time in train
            for other, other_item, other_time in train
            if one == other and (one_item, other_item) == (item, last)
        ]
        if times:
            only.append(all(time > moment for time in times))
    median = np.mean([time > np.median(moments) for _, _, time in train])
    return float(np.mean(shares)), float(median), only


def test_other_users_future_is_what_a_loop_over_targets_counts():
    split = split_of(tiny_world(users=25, items=30, events=(4, 8)))
    mean, median, only = brute_force_future(split)
    got = probes(split)
    assert (
        got[LATER].value == pytest.approx(mean)
        and f"{median:.1%} are later than the median" in got[LATER].sentence
    )
    assert got[LATER].low < mean < got[LATER].high
    assert (got[ONLY_LATER].n, got[ONLY_LATER].value) == (len(only), pytest.approx(np.mean(only)))
    assert 0 < np.mean(only) < 1, "else this shows little"


def test_a_split_by_time_leaves_no_future():
    got = probes(split_of(tiny_world(), scheme="global_time"))
    assert got[LATER].value == 0 and got[LATER].sentence.startswith("No training interaction is later")
    assert not got[ONLY_LATER].value


def test_titles_of_the_history_under_another_id_are_counted():
    rows = [
        (f"u{user}", f"i{item}", position, position * DAY)
        for user, items in enumerate(((0, 1, 2), (0, 1, 3), (4, 1, 5), (6, 7, 8)))
        for position, item in enumerate(items)
    ]
    data = dataset(rows, title=["Tea", "Mug", " tea", "Pot", "", "", "Cup", "Tin", "cup "])
    got = probes(split_of(data))["test item has a title of its history"]
    assert (got.value, got.n) == (0.5, 4)  # "Tea" and " tea", "Cup" and "cup "; no titles are not one title


def test_users_with_the_same_items_in_the_same_order_are_counted():
    sequences = ["abc", "abc", "acb", "ab", "ab", "d", "d"]
    rows = [
        (f"u{user}", item, position, position)
        for user, items in enumerate(sequences)
        for position, item in enumerate(items)
    ]
    got = probes(split_of(dataset(rows)))["same items in the same order"]
    assert (got.value, got.n) == (4 / 5, 5)


def test_without_times_or_order_the_probes_of_time_say_so_and_the_others_answer():
    world = tiny_world()
    bare = make_dataset(world.items, world.events.drop("timestamp", "nanosecond"))
    for split in (split_of(bare), split_of(world, scheme="random")):
        got = probes(split)
        for name in (TIED, HIGHER, LATER, ONLY_LATER):
            assert got[name].value is None and got[name].n == 0 and "have no times" in got[name].sentence
        assert got[ORDER].n == 60 and got["same items in the same order"].n == 60


@pytest.mark.parametrize("scheme", ["leave_one_out", "leave_last_n", "by_user", "global_time", "random"])
def test_one_target_per_user_is_probed_and_no_test_item_repeats_its_history(scheme):
    split = split_of(tiny_world(), scheme=scheme)
    got = probes(split)
    assert got[ORDER].n == len(split.evaluated_users("test"))
    repeated = got["test item repeats one of its history"]
    assert repeated.value == 0 and repeated.sentence.startswith("0 of")


def test_the_sentences_end_and_the_intervals_hold_the_value():
    for probe in probe_data(split_of(tiny_world())):
        assert probe.sentence.endswith(".")
        if probe.value is not None:
            assert 0 <= probe.low <= probe.value <= probe.high <= 1 and probe.n


def test_the_order_of_histories_is_read_and_not_changed():
    split = split_of(tiny_world())
    before = split.fingerprint()
    probe_data(split)
    assert split.fingerprint() == before
    assert all(first < last for first, last in pairwise(split.dataset.bounds))


@pytest.mark.parametrize(
    ("count", "n"), [(0, 1), (1, 1), (3, 7), (7, 7), (0, 400), (5, 10), (123, 400), (9718, 9719)]
)
def test_shares_and_their_tests_are_those_of_scipy(count: int, n: int) -> None:
    from scipy.stats import binomtest

    expected = binomtest(count, n)
    interval = expected.proportion_ci(0.95, "exact")
    assert _share(count, n) == pytest.approx((count / n, interval.low, interval.high), rel=1e-9, abs=1e-300)
    assert _even_odds(count, n) == pytest.approx(expected.pvalue, rel=1e-9, abs=1e-300)
