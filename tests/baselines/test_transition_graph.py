"""transition_graph: edges by hand, scores by brute force, and the choice of what is mixed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl
import pytest

from shelftalk.baselines.item_knn import ItemKnnSettings, fit_item_knn
from shelftalk.baselines.transition_graph import (
    TransitionGraph,
    TransitionGraphSettings,
    fit_transition_graph,
    transitions,
)
from shelftalk.data.dataset import make_dataset
from shelftalk.data.similarity import text_vectors
from shelftalk.data.splitting import Split, SplitSettings, split_dataset, split_leave_one_out
from shelftalk.testing.exams import RankerExam, RecommenderExam, exam_split
from shelftalk.testing.worlds import tiny_world

FIXED = TransitionGraphSettings(text_weight=(0.3,), decay=(0.5,), max_history=(3,))


class TestTransitionGraph(RecommenderExam, RankerExam):
    def build(self, split: Split) -> TransitionGraph:
        return fit_transition_graph(split, FIXED, seed=0)


def test_edges_lead_from_an_item_to_the_one_taken_next():
    # of each user the last two are held out
    walks = {"u": "abcyz", "v": "abdyz", "w": "cbyz"}
    rows = [(user, item, n) for user, items in walks.items() for n, item in enumerate(items)]
    schema = {"user_id": pl.String, "item_id": pl.String, "position": pl.Int64}
    world = make_dataset(
        pl.DataFrame({"item_id": list("abcdxyz")}), pl.DataFrame(rows, schema=schema, orient="row")
    )
    split = split_leave_one_out(world, SplitSettings(ranking_negatives=1), seed=0)
    edges, row = transitions(split).toarray(), split.dataset.row_of
    # a -> b twice, c -> b once: 3 into b; b -> c and b -> d once each: 2 out of b
    assert edges[row["a"], row["b"]] == pytest.approx(2 / np.sqrt(2 * 3))
    assert edges[row["c"], row["b"]] == pytest.approx(1 / np.sqrt(1 * 3))
    assert edges[row["b"], row["c"]] == edges[row["b"], row["d"]] == pytest.approx(1 / np.sqrt(2 * 1))
    assert np.count_nonzero(edges) == 4


def test_scores_are_those_of_the_formula():
    split = exam_split()
    counts: Counter[tuple[int, int]] = Counter()
    for first, stop in split.training_bounds.tolist():
        items = split.dataset.event_item[first:stop].tolist()
        counts.update(zip(items[:-1], items[1:], strict=True))
    size = len(split.dataset.items)
    edge = np.zeros((size, size))
    for (one, other), number in counts.items():
        out_of = sum(n for pair, n in counts.items() if pair[0] == one)
        into = sum(n for pair, n in counts.items() if pair[1] == other)
        edge[one, other] = number / np.sqrt(out_of * into)
    vectors = text_vectors(split.dataset.items).toarray()
    similarity = 0.3 * vectors @ vectors.T + 0.7 * edge
    requests, row_of = split.retrieval_requests("test")[0][:10], split.dataset.row_of
    expected = np.zeros((10, size))
    for number, request in enumerate(requests):
        for age, item in enumerate(reversed(request.history[-3:])):
            expected[number] += 0.5**age * similarity[row_of[item]]
    model = fit_transition_graph(split, FIXED, seed=0)
    assert model.scores(requests) == pytest.approx(expected, abs=1e-5)


def test_without_an_order_it_is_item_knn():
    split = split_dataset(tiny_world().without_order(0), SplitSettings(), seed=0)
    requests = split.retrieval_requests("test")[0]
    graph = fit_transition_graph(split, FIXED, seed=0)
    knn = fit_item_knn(split, ItemKnnSettings(text_weight=(0.3,)), seed=0)
    assert graph.recommend(requests, 10) == knn.recommend(requests, 10)
    assert "all items alike" in graph.selection()[0]


def test_a_world_of_successors_is_learned_better_than_by_co_occurrence():
    split = split_leave_one_out(tiny_world(users=300, follow=0.9), SplitSettings(), seed=0)
    graph = fit_transition_graph(split, TransitionGraphSettings(text_weight=(0.0,)), seed=0)
    knn = fit_item_knn(split, ItemKnnSettings(text_weight=(0.0,)), seed=0)
    assert graph.choice.value > knn.choice.value
