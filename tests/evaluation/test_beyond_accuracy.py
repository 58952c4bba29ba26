"""What lists are like: each metric against its definition written out, and the edges."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from shelftalk.data.dataset import make_dataset
from shelftalk.data.splitting import Split, SplitSettings, split_leave_one_out
from shelftalk.evaluation import beyond_accuracy
from shelftalk.evaluation.beyond_accuracy import (
    LIST_METRICS,
    MEANINGS,
    TOP,
    ListMeasures,
    gini,
    list_metrics,
    ratios_per_user,
)
from shelftalk.records import Ranking, Request
from shelftalk.testing.worlds import tiny_world, untitled_world

LABELS = ("Toys", "Toys > Cars", "Books ; Maps", "Books", "", "Maps|Cars > Books")


@pytest.fixture(scope="module")
def split() -> Split:
    world = tiny_world(users=25, items=60)
    categories = [LABELS[row % len(LABELS)] for row in range(len(world.items))]
    titles = ["" if row % 7 == 3 else title for row, title in enumerate(world.items["title"].to_list())]
    items = world.items.with_columns(categories=pl.Series(categories), title=pl.Series(titles))
    # an item without a single word in any column has no text
    items = items.with_columns(brand=pl.when(pl.col("title") == "").then(pl.lit("")).otherwise("brand"))
    return split_leave_one_out(make_dataset(items, world.events), SplitSettings(ranking_negatives=20), seed=1)


@pytest.fixture(scope="module")
def lists(split: Split) -> list[Ranking]:
    """Lists of 0 to 13 items, drawn by seed."""
    rng, ids = np.random.default_rng(3), split.dataset.item_ids
    requests, _ = split.retrieval_requests("test")
    drawn = [
        tuple(ids[row] for row in rng.choice(len(ids), n % 14, replace=False)) for n in range(len(requests))
    ]
    return [
        Ranking(request.user, items, tuple(range(len(items), 0, -1)))
        for request, items in zip(requests, drawn, strict=True)
    ]


@pytest.fixture
def measured(split: Split, lists: list[Ranking]) -> tuple[pl.DataFrame, np.ndarray]:
    requests, truths = split.retrieval_requests("test")
    measures = ListMeasures(split, requests)
    listed = measures.listed(lists)
    return measures.table(listed, truths), measures.counts(listed)


def labels_of(split: Split, item: str) -> set[str]:
    text = split.dataset.item(item).categories.replace(">", ";").replace("|", ";")
    return {part.strip().lower() for part in text.split(";")} - {""}


def test_coverage_and_counts_are_those_of_the_first_ten_items(
    split: Split, lists: list[Ranking], measured: tuple[pl.DataFrame, np.ndarray]
) -> None:
    table, counts = measured
    expected = Counter(item for ranking in lists for item in ranking.items[:TOP])
    assert dict(zip(split.dataset.item_ids, counts.tolist(), strict=True)) == {
        item: expected[item] for item in split.dataset.item_ids
    }
    assert list_metrics(table, counts)["coverage@10"] == len(expected) / 60
    assert table["listed"].to_list() == [min(TOP, len(ranking.items)) for ranking in lists]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any))
def test_the_gini_index_is_half_the_relative_mean_difference(counts: list[int]) -> None:
    number = len(counts)
    differences = sum(abs(a - b) for a in counts for b in counts)
    assert gini(np.array(counts)) == pytest.approx(differences / (2 * number * sum(counts)))


def test_equal_counts_have_no_inequality_and_one_item_has_nearly_all() -> None:
    assert gini(np.array([3, 3, 3])) == 0.0
    assert gini(np.array([0, 0, 7, 0])) == pytest.approx(3 / 4)


def test_novelty_is_the_mean_information_of_the_listed_items(
    split: Split, lists: list[Ranking], measured: tuple[pl.DataFrame, np.ndarray]
) -> None:
    events = Counter(split.dataset.item_ids[row] for row in split.training_items.tolist())
    total = sum(events.values())
    expected = [
        np.mean([-math.log2(max(1, events[item]) / total) for item in ranking.items[:TOP]])
        if ranking.items
        else None
        for ranking in lists
    ]
    table, counts = measured
    assert table["novelty"].to_list() == pytest.approx(expected)
    assert list_metrics(table, counts)["novelty@10"] == pytest.approx(
        np.mean([value for value in expected if value is not None])
    )


def test_popularity_lift_is_the_ratio_of_mean_popularities_minus_one(
    split: Split, lists: list[Ranking], measured: tuple[pl.DataFrame, np.ndarray]
) -> None:
    events = Counter(split.dataset.item_ids[row] for row in split.training_items.tolist())
    requests, _ = split.retrieval_requests("test")
    pairs = [
        (np.mean([events[i] for i in ranking.items[:TOP]]), np.mean([events[i] for i in request.history]))
        for ranking, request in zip(lists, requests, strict=True)
        if ranking.items
    ]
    expected = np.mean([over for over, _ in pairs]) / np.mean([under for _, under in pairs]) - 1
    assert list_metrics(*measured)["popularity_lift@10"] == pytest.approx(expected)


def test_similarity_is_the_mean_cosine_of_the_pairs_that_have_a_text(
    split: Split, lists: list[Ranking], measured: tuple[pl.DataFrame, np.ndarray]
) -> None:
    items = split.dataset.items
    texts = [" ".join(filter(None, row)) for row in items.select("title", "brand", "categories").iter_rows()]
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit_transform(texts).toarray()
    row_of = split.dataset.row_of
    for ranking, value in zip(lists, measured[0]["similarity"].to_list(), strict=True):
        rows = [row for row in map(row_of.get, ranking.items[:TOP]) if vectors[row].any()]
        cosines = [vectors[a] @ vectors[b] for a, b in combinations(rows, 2)]
        assert value == (pytest.approx(np.mean(cosines), abs=1e-5) if cosines else None)
    assert any(not vectors[row].any() for row in range(60))  # some items have no text


def test_calibration_is_the_jensen_shannon_divergence_of_the_category_shares(
    split: Split, lists: list[Ranking], measured: tuple[pl.DataFrame, np.ndarray]
) -> None:
    def shares(items: tuple[str, ...]) -> dict[str, float]:
        sums: Counter[str] = Counter()
        for item in items:
            for label in labels_of(split, item):
                sums[label] += 1 / len(labels_of(split, item))
        return {label: value / sum(sums.values()) for label, value in sums.items()}

    def divergence(p: dict[str, float], q: dict[str, float]) -> float:
        middle = {label: (p.get(label, 0) + q.get(label, 0)) / 2 for label in {**p, **q}}
        return sum(
            share * math.log2(share / middle[label]) / 2 for side in (p, q) for label, share in side.items()
        )

    requests, _ = split.retrieval_requests("test")
    expected = []
    for ranking, request in zip(lists, requests, strict=True):
        p, q = shares(request.history), shares(ranking.items[:TOP])
        expected.append(pytest.approx(divergence(p, q), abs=1e-9) if p and q else None)
    assert measured[0]["calibration"].to_list() == expected


def test_lists_of_the_historys_categories_are_calibrated_and_of_no_such_category_not_at_all(
    split: Split,
) -> None:
    ids = split.dataset.item_ids
    toys, books = ([item for item in ids if labels_of(split, item) == {name}] for name in ("toys", "books"))
    requests = [Request("u", tuple(toys[:2])), Request("v", tuple(toys[:2])), Request("w", ())]
    answers = [
        Ranking("u", (toys[3],), (1,)),
        Ranking("v", (books[0],), (1,)),
        Ranking("w", (books[0],), (1,)),
    ]
    measures = ListMeasures(split, requests)
    table = measures.table(measures.listed(answers), ["x"] * 3)
    assert table["calibration"].to_list() == [pytest.approx(0, abs=1e-12), pytest.approx(1), None]
    assert table["popularity"].to_list()[2] is None and table["similarity"].to_list() == [None] * 3


def test_what_nothing_can_be_said_about_is_left_out() -> None:
    world = untitled_world(users=25, items=60)
    bare = world.items.with_columns(categories=pl.lit(""), brand=pl.lit(""))
    split = split_leave_one_out(make_dataset(bare, world.events), SplitSettings(ranking_negatives=20), seed=1)
    requests, truths = split.retrieval_requests("test")
    measures = ListMeasures(split, requests)
    listed = measures.listed(
        [Ranking(r.user, tuple(split.dataset.item_ids[:3]), (3, 2, 1)) for r in requests]
    )
    metrics = list_metrics(measures.table(listed, truths), measures.counts(listed))
    assert set(metrics) == {"coverage@10", "gini@10", "novelty@10", "popularity_lift@10"}
    nothing = measures.listed([Ranking(r.user, (), ()) for r in requests])
    table, counts = measures.table(nothing, truths), measures.counts(nothing)
    assert list_metrics(table, counts) == {"coverage@10": 0.0} and ratios_per_user(table) == {}


def test_an_item_never_seen_in_training_is_as_novel_as_one_seen_once(split: Split) -> None:
    never = split.dataset.item_ids[int(np.flatnonzero(split.popularity == 0)[0])]
    measures = ListMeasures(split, [Request("u", ())])
    (value,) = measures.table(measures.listed([Ranking("u", (never,), (1,))]), ["x"])["novelty"].to_list()
    assert value == pytest.approx(math.log2(split.popularity.sum()))


def test_blocks_of_requests_change_nothing(
    split: Split,
    lists: list[Ranking],
    measured: tuple[pl.DataFrame, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(beyond_accuracy, "BLOCK", 4)
    requests, truths = split.retrieval_requests("test")
    measures = ListMeasures(split, requests)
    in_blocks = measures.table(measures.listed(lists), truths)
    for column in ("similarity", "calibration"):
        assert in_blocks[column].to_list() == pytest.approx(measured[0][column].to_list())


def test_the_sums_per_user_give_the_metric_again(measured: tuple[pl.DataFrame, np.ndarray]) -> None:
    metrics = list_metrics(*measured)
    for name, (over, under) in ratios_per_user(measured[0]).items():
        assert len(over) == len(under) == 25
        shift = 1 if name == "popularity_lift@10" else 0
        assert over.sum() / under.sum() - shift == pytest.approx(metrics[name])


def test_every_metric_is_explained() -> None:
    assert set(MEANINGS) == set(LIST_METRICS)
