"""The error of beams: what is missing by brute force, and by how much, over random catalogues; and by a
real model, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from table_model import TableBackbone, TablePrefilled
from test_language_model import untrained

from shelftalk.decoding.beam_search import beam_search
from shelftalk.decoding.exclusions import Exclusions
from shelftalk.decoding.item_trie import Trie, build_trie
from shelftalk.decoding.search_error import search_error
from shelftalk.decoding.settings import DecodingSettings
from shelftalk.indexing import atomic
from shelftalk.indexing.item_index import IndexSettings
from shelftalk.records import Request
from shelftalk.runtime.distributed import SINGLE_PROCESS
from shelftalk.testing.exams import exam_split

END = 11
K = 5


class TableModel:
    """As much of a language model recommender as is measured: prompts in two batches, the longer half first,
    as prompts are sorted."""

    def __init__(
        self,
        names: Sequence[tuple[int, ...]],
        excluded: Sequence[Sequence[int]],
        seed: int,
        sharpness: float = 2.0,
    ) -> None:
        self.names, self.excluded = names, excluded
        self.trie: Trie = build_trie(names)
        self.settings = DecodingSettings(beams=8)
        self.backbone = TableBackbone(seed, sharpness)
        self.processes = SINGLE_PROCESS

    def prefilled(self, positions: Sequence[int]) -> TablePrefilled:
        return self.backbone.prefill([[position] for position in positions])

    def prefilled_batches(self, requests: Sequence[Request]) -> Iterator[tuple[np.ndarray, Any, Exclusions]]:
        half = len(requests) // 2
        for positions in (np.arange(half, len(requests)), np.arange(half)):
            exclusions = Exclusions(self.trie, [self.excluded[position] for position in positions])
            yield positions, self.prefilled(positions.tolist()), exclusions

    def true_top(self, position: int) -> list[tuple[float, int]]:
        live = set(range(len(self.names))) - set(self.excluded[position])
        prefilled = self.prefilled([position])
        return sorted(((prefilled.name_score(0, self.names[item]), item) for item in live), reverse=True)[:K]


def world(seed: int, sharpness: float = 2.0, requests: int = 6) -> tuple[TableModel, list[Request]]:
    draw = np.random.default_rng(seed)
    names = sorted({(*draw.integers(0, 4, draw.integers(1, 6)).tolist(), END) for _ in range(60)})
    names = [names[position] for position in draw.permutation(len(names))]
    excluded = [draw.permutation(len(names))[: draw.integers(0, 20)].tolist() for _ in range(requests)]
    model = TableModel(names, excluded, seed, sharpness)
    return model, [Request(f"user {position}", ()) for position in range(requests)]


def measured(
    model: Any, requests: Sequence[Request], beams: Sequence[int] = (5, 12, 64), **more: int
) -> pl.DataFrame:
    return search_error(model, requests, beams, K, **more)


def test_what_is_missing_is_what_brute_force_misses() -> None:
    differing = 0
    for seed in range(12):
        model, requests = world(seed)
        for row in measured(model, requests).iter_rows(named=True):
            position = int(row["user"].split()[1])
            exclusions = Exclusions(model.trie, [model.excluded[position]])
            prefilled: Any = model.prefilled([position])
            width, finish = row["beams"], row["finish"]
            top_by_beams = beam_search(prefilled, model.trie, exclusions, width, finish=finish)
            top = model.true_top(position)
            assert row["proven"] and row["missing"] == len(
                {item for _, item in top} - set(top_by_beams.items[0, :K].tolist())
            )
            assert row["shortfall"] == pytest.approx(top[-1][0] - top_by_beams.scores[0, K - 1], abs=1e-9)
            differing += row["missing"] > 0
    assert differing > 20  # there was something to find


def test_a_row_for_every_request_and_way_in_the_order_of_the_requests() -> None:
    model, requests = world(1)
    table = measured(model, requests, beams=(12, 2, 5))  # fewer beams than k are as many as k
    ways = [(5, "replay"), (12, "replay"), (8, "retire")]
    assert table.select("user", "beams", "finish").rows() == [
        (r.user, *way) for r in requests for way in ways
    ]


def test_beams_for_the_whole_catalogue_miss_nothing() -> None:
    for seed in range(5):
        table = measured(*world(seed)).filter(beams=64)
        assert table["missing"].to_list() == [0] * 6 and table["shortfall"].max() == 0


def test_items_that_share_the_last_place_are_not_missed() -> None:
    names = [(row // 16, row // 4 % 4, row % 4, END) for row in reversed(range(64))]
    model = TableModel(names, [[0]] * 2, seed=3, sharpness=0.0)  # all equally likely
    requests = [Request("a", ()), Request("b", ())]
    table = measured(model, requests)
    assert table["missing"].sum() == 0 and table["shortfall"].max() == pytest.approx(0, abs=1e-9)


def test_requests_of_which_fewer_items_are_left_are_compared_over_those() -> None:
    model, requests = world(4, requests=2)
    model.excluded = [range(len(model.names)), range(len(model.names) - 2)]
    table = measured(model, requests)
    assert table["missing"].sum() == 0 and table["shortfall"].to_list() == [0.0] * len(table)


def test_an_exact_search_that_met_its_limit_is_said_to_prove_nothing() -> None:
    table = measured(*world(5), limit=3)
    assert not table["proven"].any() and table["tokens"].max() >= 3


@pytest.mark.parametrize("family", ["decoder-only", "encoder-decoder"])
def test_names_of_one_symbol_are_found_by_any_beam(family: str) -> None:
    split = exam_split()
    requests = split.retrieval_requests("validation")[0][:5]
    table = search_error(
        untrained(split, atomic.build(split, IndexSettings(), 0), family), requests, [10], 10
    )
    assert table["user"].to_list() == [request.user for request in requests for _ in range(2)]
    assert table["missing"].sum() == 0 and table["tokens"].sum() == 0 and table["proven"].all()
