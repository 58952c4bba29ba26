"""The ledger of published numbers: whole, plausible, and matched only where the protocol is the same."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import pytest
from pydantic import ValidationError

from shelftalk.data.splitting import Split, SplitSettings, split_leave_one_out
from shelftalk.report import ledger
from shelftalk.report.ledger import (
    OURS,
    Ledger,
    SplitFacts,
    all_published,
    elsewhere,
    facts_of,
    load_ledger,
    matching,
)
from shelftalk.testing.worlds import tiny_world, untitled_world

BEAUTY = SplitFacts(
    22_363,
    12_101,
    198_502,
    "leave-one-out",
    "random 80/10/10 without what retrieval holds out",
    "published order",
)
SPORTS = SplitFacts(35_598, 18_357, 296_337, "leave-one-out", ties="published order")
TOYS = SplitFacts(19_412, 11_924, 167_597, "leave-one-out", ties="published order")
ROWS = all_published()


def figure(dataset: str, model: str, metric: str, task: str = "retrieval") -> float:
    (match,) = [
        r
        for r in ROWS
        if (r.task, r.model) == (task, model) and dataset in r.dataset.title and r.convention == "train-only"
    ]
    return match.metrics[metric]


def test_three_figures_are_the_published_ones() -> None:
    assert figure("Beauty", "TIGER", "ndcg@10") == 0.0384
    assert figure("Sports", "S3-Rec", "recall@5") == 0.0251
    assert figure("Toys", "SimpleX", "hr@10", "ranking") == 0.2662


def test_every_kind_of_number_is_there() -> None:
    counted = {task: sum(row.task == task for row in ROWS) for task in ("retrieval", "ranking", "rating")}
    assert counted == {"retrieval": 36, "ranking": 12, "rating": 9}


@pytest.mark.parametrize(
    "row", ROWS, ids=lambda row: f"{row.task}, {row.dataset.title}, {row.model}, {row.convention}"
)
def test_a_row_is_complete_and_plausible(row) -> None:  # type: ignore[no-untyped-def]
    # a cell of the report holds 120
    assert row.model and row.metrics and re.search(r"\w{4}", row.source) and len(row.source) <= 120
    assert row.why.endswith(".") and (row.year is None or 2000 < row.year < 2100)
    gains = [(name, value) for name, value in row.metrics.items() if row.task != "rating"]
    assert all(0 < value < 1 for _, value in gains)
    for kind in ("recall", "hr", "ndcg"):  # a longer list holds no less
        along = sorted((int(name.split("@")[1]), value) for name, value in gains if name.startswith(kind))
        assert all(shorter <= longer for (_, shorter), (_, longer) in pairwise(along))
    for name, value in gains:  # a hit is worth at most 1
        hit = row.metrics.get(
            name.replace("ndcg", "recall"), row.metrics.get(name.replace("ndcg", "hr"), 1.0)
        )
        assert not name.startswith("ndcg") or value <= hit
    if row.task == "rating":
        assert 0 < row.metrics["mae"] <= row.metrics["rmse"] < 4


def test_no_row_is_listed_twice() -> None:
    keys = [(row.model, row.dataset.title, row.task, row.convention) for row in ROWS]
    assert len(keys) == len(set(keys))
    retrieval = [(row.dataset.title, *row.metrics.items()) for row in ROWS if row.task == "retrieval"]
    assert len(retrieval) == len(set(retrieval))


def test_the_data_sets_are_recognised_by_their_published_counts() -> None:
    assert elsewhere(SPORTS, "retrieval")[0].dataset.title.startswith("Amazon 2014 Sports")
    assert [row.model for row in elsewhere(TOYS, "retrieval")] == ["EPIC"]
    assert elsewhere(replace(BEAUTY, users=1), "retrieval") == []


def test_a_row_stands_beside_a_run_only_where_every_term_is_known_and_the_same() -> None:
    """Publications do not say whether items of the history are candidates, so theirs stand apart."""
    beside = matching(BEAUTY, "retrieval", "train-only")
    assert [row.model for row in beside] == ["item_knn, training-free"]
    assert matching(SPORTS, "retrieval", "train-only") == matching(TOYS, "retrieval", "train-only") == []
    apart = {row.model for row in elsewhere(BEAUTY, "retrieval")}
    assert {"TIGER", "GRAM", "CoVE", "IDIOMoE", "SASRec, full cross-entropy"} <= apart
    assert not apart & {"item_knn, training-free", "best published, metric by metric"}
    for ties in ("shuffled", "unknown"):
        assert matching(replace(BEAUTY, ties=ties), "retrieval", "train-only") == []


@pytest.mark.parametrize("term", ["tested", "ties", "seen", "convention", "split", "candidates"])
def test_one_unknown_term_is_enough_to_stand_apart(term: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = matching(BEAUTY, "retrieval", "train-only")
    monkeypatch.setattr(ledger, "all_published", lambda: (replace(row, **{term: "unknown"}),))
    assert matching(BEAUTY, "retrieval", "train-only") == []
    assert [one.model for one in elsewhere(BEAUTY, "retrieval")] == [row.model]


def test_what_sets_higher_figures_apart_is_in_their_rows() -> None:
    rows = {row.model: row for row in elsewhere(BEAUTY, "retrieval")}
    assert rows["CoVE"].tested == "last but one" and rows["CoVE"].verified
    assert rows["IDIOMoE"].split == "unknown" and not rows["IDIOMoE"].verified
    assert rows["EPIC"].seeds == 5
    published, shuffled = (rows[f"SASRec, full cross-entropy{more}"] for more in ("", ", ties shuffled"))
    assert (published.ties, shuffled.ties) == ("published order", "shuffled")
    assert all(published.metrics[name] > value for name, value in shuffled.metrics.items())


@pytest.mark.parametrize(
    "other",
    [
        {"users": 22_362}, {"items": 12_100}, {"interactions": 198_503}, {"events": "another"},
        {"users": 35_598},
    ],
)  # fmt: skip
def test_nothing_matches_where_one_count_or_the_split_differs(other: dict[str, object]) -> None:
    assert matching(replace(BEAUTY, **other), "retrieval", "train-only") == []  # type: ignore[arg-type]


def test_refitted_figures_and_train_only_ones_never_meet() -> None:
    refit = matching(BEAUTY, "retrieval", "refit")
    assert [row.metrics["recall@10"] for row in refit] == [0.1003]
    assert not {row.metrics["recall@10"] for row in refit} & {
        row.metrics.get("recall@10") for row in matching(BEAUTY, "retrieval", "train-only")
    }


@pytest.mark.parametrize("facts", [BEAUTY, SPORTS, TOYS, replace(BEAUTY, ratings="random 80/10/10")])
def test_ranking_and_rating_figures_from_elsewhere_are_never_printed_beside_ours(facts: SplitFacts) -> None:
    for convention in ("train-only", "refit"):
        assert matching(facts, "ranking", convention) == matching(facts, "rating", convention) == []
    others = [row for row in ROWS if row.task != "retrieval"]
    assert not any(row.comparable for row in others)
    # so that not even the mark alone keeps them apart
    assert all(row.candidates != OURS["ranking"] for row in others)


def test_a_maximum_over_publications_is_no_row_of_a_table() -> None:
    (beauty, sports) = [row for row in ROWS if row.model.startswith("best published")]
    assert not beauty.comparable and not sports.comparable


def test_the_facts_of_a_split_are_read_off_its_parts() -> None:
    dataset = tiny_world(users=25, items=50)
    split = split_leave_one_out(dataset, SplitSettings(ranking_negatives=20), seed=1)
    facts = facts_of(split)
    assert (facts.users, facts.items, facts.interactions) == (25, len(dataset.items), len(dataset.events))
    assert (
        facts.events == "leave-one-out"
        and facts.ratings == "random 80/10/10 without what retrieval holds out"
    )
    moved = split.event_part.copy()
    moved[dataset.bounds[1] - 1], moved[dataset.bounds[1] - 2] = (
        moved[dataset.bounds[1] - 2],
        moved[dataset.bounds[1] - 1],
    )
    assert facts_of(Split(dataset, moved, split.rating_part, split.candidates)).events == "another"


def test_other_shares_of_the_ratings_are_another_split() -> None:
    settings = SplitSettings(ranking_negatives=20, rating_validation=0.2, rating_test=0.2)
    assert (
        facts_of(split_leave_one_out(tiny_world(users=25, items=50), settings, seed=1)).ratings == "another"
    )
    bare = split_leave_one_out(
        untitled_world(users=25, items=50), SplitSettings(ranking_negatives=20), seed=1
    )
    assert facts_of(bare).ratings == "another"


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        ("metrics", ("recall@5", "hits"), "no metric of retrieval"),
        ("rows", {"TIGER": (0.1,)}, "1 values for 4 metrics"),
        ("rows", {"TIGER": (0.1, 0.1, 10.1, 0.1)}, "out of range"),
        ("source", "nowhere", "one is not there"),
        ("split", "by guess", "Input should be"),
    ],
)
def test_a_broken_ledger_is_refused(position: str, value: object, message: str) -> None:
    broken = load_ledger().model_dump()
    broken["tables"] = [{**broken["tables"][0], position: value}]
    with pytest.raises(ValidationError, match=message):
        Ledger.model_validate(broken)
