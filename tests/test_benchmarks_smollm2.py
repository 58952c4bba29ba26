"""The two starts of SmolLM2: what is held out is shown to nobody before the test, and the claims say what the
trainings did."""

import numpy as np
import polars as pl
import pytest

from benchmarks import _never_seen, smollm2
from benchmarks._asked import differences, figures
from shelftalk.data.sources import DataSettings, read_dataset
from shelftalk.data.splitting import SplitSettings, split_leave_one_out
from shelftalk.evaluation.evaluator import evaluate_ranking, evaluate_retrieval
from shelftalk.records import Ranking, Request
from shelftalk.testing.worlds import tiny_world


@pytest.fixture(scope="module")
def world():
    return tiny_world(users=80)


@pytest.fixture(scope="module")
def held(world):
    return _never_seen.held_out(world.item_ids, 0.2, 0)


@pytest.fixture(scope="module")
def split(world, held, tmp_path_factory):
    """What is left of the world, through the files that a run reads."""
    folder = tmp_path_factory.mktemp("never-seen") / "source"
    _never_seen.write_source(folder, world.items, _never_seen.without(world, held))
    read, _ = read_dataset(DataSettings(folder=str(folder), k_core=0, catalogue="all"), 0)
    return split_leave_one_out(read, SplitSettings(), 0)


def test_items_held_out_are_taken_before_the_test_by_nobody_and_yet_asked_for(world, held, split):
    assert _never_seen.events_before_the_test(split, held) == 0
    assert {split.popularity[split.dataset.row_of[item]] for item in held} == {0}
    assert len(_never_seen.groups(split, held)["never seen"]) > 5
    whole = split_leave_one_out(world, SplitSettings(), 0)
    assert _never_seen.events_before_the_test(whole, held) > 0, "the count finds what is there"


def test_no_event_but_theirs_is_lost_of_users_who_keep_three(world, held):
    kept = _never_seen.without(world, held)
    lost = world.events.join(kept, on=["user_id", "item_id"], how="anti")
    stayed = lost.filter(pl.col("user_id").is_in(kept["user_id"].unique().to_list()))
    assert set(stayed["item_id"]) <= held
    assert kept.group_by("user_id").len()["len"].min() >= 3


def test_the_catalogue_stays_whole_and_the_draw_depends_on_the_seed_alone(world, held, split):
    assert split.dataset.item_ids == world.item_ids
    assert (
        held == _never_seen.held_out(world.item_ids, 0.2, 0) != _never_seen.held_out(world.item_ids, 0.2, 1)
    )
    assert len(held) == 24


def test_the_groups_are_users_whose_test_item_was_seen_and_users_whose_was_held_out(held, split):
    found = _never_seen.groups(split, held)
    requests, truths = split.retrieval_requests("test")
    assert not set(found["warm"]) & set(found["never seen"])
    assert {truths[user] in held for user in found["never seen"]} == {True}
    assert min(split.popularity[split.dataset.row_of[truths[user]]] for user in found["warm"]) >= 1
    left = set(range(len(truths))) - set(found["warm"]) - set(found["never seen"])
    assert all(
        split.popularity[split.dataset.row_of[truths[user]]] == 0 and truths[user] not in held
        for user in left
    )


def _training(losses: list[float], **changed: object) -> dict:
    curve = [
        {"step": 10 * position, "tokens": 100 * position, "loss": loss}
        for position, loss in enumerate(losses)
    ]
    facts = {
        "samples read": "ab",
        "steps": 20,
        "tokens": 200,
        "epochs": 0.25,
        "held-out items shown": 0,
        "validation": curve,
    }
    return facts | changed


def test_claims_hold_where_the_released_start_is_below_at_every_validation_of_the_same_samples():
    found = smollm2.claims([_training([5.0, 3.0, 2.5]), _training([9.0, 6.0, 5.0])], 0)
    assert [claim.holds for claim in found] == [True, True, True]
    assert found[2].value == "2 of 2; at the end 2.500 against 5.000 nats a token"


@pytest.mark.parametrize(
    ("random", "before", "fallen"),
    [
        (_training([9.0, 6.0, 5.0], **{"samples read": "cd"}), 0, 0),
        (_training([9.0, 6.0, 5.0], tokens=201), 0, 0),
        (_training([9.0, 6.0, 5.0], **{"held-out items shown": 1}), 0, 1),
        (_training([9.0, 6.0, 5.0]), 1, 1),
        (_training([9.0, 2.0, 5.0]), 0, 2),
    ],
)
def test_each_claim_falls_by_its_own_fault(random, before, fallen):
    found = smollm2.claims([_training([5.0, 3.0, 2.5]), random], before)
    assert [claim.holds for claim in found] == [position != fallen for position in range(3)]


def test_below_one_epoch_nothing_is_concluded():
    assert "nothing is concluded" in smollm2.reading([_training([1.0]), _training([1.0], epochs=1.5)])
    assert "nothing is concluded" not in smollm2.reading(
        [_training([1.0], epochs=1.0), _training([1.0], epochs=1.0)]
    )


def test_the_learning_rate_is_that_of_the_least_validation_loss():
    tried = [
        {"learning rate": rate, "validation loss": loss}
        for rate, loss in ((1e-4, 3.0), (1e-3, 2.0), (1e-2, 2.0))
    ]
    assert smollm2.best_rate(tried) == 1e-3


def test_a_difference_is_taken_over_the_users_whom_both_were_asked_for():
    items = [f"i{number}" for number in range(30)]
    requests = [Request(f"u{number}", ("i29",), (None,), candidates=("i0", "i1")) for number in range(4)]
    scores = tuple(-np.arange(20.0))
    first = [Ranking(request.user, tuple(items[:20]), scores) for request in requests]
    last = [Ranking(request.user, tuple(items[1:21]), scores) for request in requests[:3]]
    ranked = [Ranking(request.user, ("i0", "i1"), (0.0, -1.0)) for request in requests]
    tables = {}
    for name, answers in (("first", first), ("second", last)):
        asked, truths = requests[: len(answers)], ["i0"] * len(answers)
        found = evaluate_retrieval(answers, asked, truths, items)
        tables[name] = {
            ("retrieval", "warm"): found,
            ("ranking", "warm"): evaluate_ranking(ranked[: len(answers)], asked, truths),
        }
    rows = differences(tables, [("first", "second")])
    assert [(row["task"], row["users"]) for row in rows] == [("retrieval", 3), ("ranking", 3)]
    assert rows[0]["recall@10"]["value"] == 1.0 and rows[1]["hr@1"]["value"] == 0.0
    shown = figures(tables)
    assert [row["users"] for row in shown] == [4, 4, 3, 3]
    assert shown[0]["recall@10"] == {"value": 1.0, "interval": None}, "no user differs from another"
