"""Answer files by arrays: ranks as the evaluator has them, and every fault counted where it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelftalk.certificate import answers as module
from shelftalk.certificate.answers import (
    FAULTS,
    Answers,
    read_ranking,
    read_ratings,
    read_retrieval,
    request_arrays,
)
from shelftalk.data.splitting import Split, SplitSettings, split_leave_one_out
from shelftalk.evaluation.evaluator import evaluate_ranking, evaluate_retrieval
from shelftalk.pipeline.answer_files import RANKING_SCHEMA
from shelftalk.records import Ranking
from shelftalk.testing.worlds import tiny_world

SPLIT = split_leave_one_out(tiny_world(users=25, items=50), SplitSettings(ranking_negatives=20), seed=2)
REQUESTS, TRUTHS = SPLIT.ranking_requests("test")
ARRAYS = request_arrays(SPLIT)
NO_FAULTS = dict.fromkeys(FAULTS, 0)


def silent(number: int) -> None:
    """Nobody watches."""


def written(path: Path, rankings: list[Ranking]) -> Path:
    rows = [(one.user, list(one.items), list(one.scores)) for one in rankings]
    pl.DataFrame(rows, schema=RANKING_SCHEMA, orient="row").write_parquet(path)
    return path


def lists(seed: int) -> list[Ranking]:
    """Valid retrieval lists: items that the user has not taken, in random order."""
    rng, catalogue = np.random.default_rng(seed), SPLIT.dataset.item_ids
    rankings = []
    for request in REQUESTS:
        left = [item for item in catalogue if item not in request.history]
        items = [left[row] for row in rng.permutation(len(left))[:20]]
        rankings.append(Ranking(request.user, tuple(items), tuple(-float(at) for at in range(20))))
    return rankings


def ranked(seed: int, levels: int) -> list[Ranking]:
    """Candidates with scores of few levels, so that many are equal."""
    rng = np.random.default_rng(seed)
    rankings = []
    for request in REQUESTS:
        scores = rng.integers(0, levels, len(request.candidates)).astype(float)
        order = np.argsort(-scores, kind="stable")
        items = tuple(request.candidates[at] for at in order)
        rankings.append(Ranking(request.user, items, tuple(scores[order].tolist())))
    return rankings


def ranks(answers: Answers) -> list[float | None]:
    return [None if np.isinf(rank) else rank for rank in answers.ranks.tolist()]


def test_the_requests_are_those_of_the_split() -> None:
    assert ARRAYS.user.to_pylist() == [request.user for request in REQUESTS]
    assert ARRAYS.history.tolist() == [len(request.history) for request in REQUESTS]
    assert [SPLIT.dataset.item_ids[row] for row in ARRAYS.truth] == TRUTHS


@pytest.mark.parametrize("batch", [3, 20_000])
def test_retrieval_ranks_are_the_evaluators(
    batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", batch)
    for seed in range(5):
        rankings = lists(seed)
        answers = read_retrieval(written(tmp_path / "a.parquet", rankings), ARRAYS, silent)
        expected = evaluate_retrieval(rankings, REQUESTS, TRUTHS, SPLIT.dataset.item_ids)
        assert ranks(answers) == expected["rank"].to_list() and answers.faults == NO_FAULTS
        assert any(rank is not None for rank in ranks(answers))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), levels=st.integers(1, 30))
def test_ranks_of_equal_scores_are_the_evaluators(seed: int, levels: int, tmp_path_factory: Any) -> None:
    path, rankings = tmp_path_factory.mktemp("ranked") / "a.parquet", ranked(seed, levels)
    answers = read_ranking(written(path, rankings), ARRAYS, silent)
    assert ranks(answers) == evaluate_ranking(rankings, REQUESTS, TRUTHS)["rank"].to_list()
    assert answers.faults == NO_FAULTS


def test_answers_in_another_order_are_matched_by_user(tmp_path: Path) -> None:
    rankings = lists(1)
    answers = read_retrieval(written(tmp_path / "a.parquet", rankings), ARRAYS, silent)
    turned = read_retrieval(written(tmp_path / "b.parquet", rankings[::-1]), ARRAYS, silent)
    assert ranks(turned) == ranks(answers) and turned.faults == NO_FAULTS


@dataclass(frozen=True)
class Fault:
    """An edit of the answer of the third request, and what is counted then."""

    name: str
    edit: Callable[[list[str], list[float]], tuple[list[str], list[float]]]
    counts: dict[str, int]


SEEN = REQUESTS[3].history[0]
OUTSIDE = next(item for item in SPLIT.dataset.item_ids if item not in REQUESTS[3].candidates)
RETRIEVAL_FAULTS = [
    Fault("an unknown item", lambda items, scores: (["nothing", *items[1:]], scores), {"invalid": 1}),
    Fault("a seen item", lambda items, scores: ([*items[:-1], SEEN], scores), {"seen": 1}),
    Fault("an item twice", lambda items, scores: ([*items[:-1], items[0]], scores), {"repeated": 1}),
    Fault("thrice", lambda items, scores: ([*items[:-2], items[0], items[0]], scores), {"repeated": 2}),
    Fault("too few", lambda items, scores: (items[:-1], scores[:-1]), {"short": 1}),
    Fault("nothing at all", lambda items, scores: ([], []), {"short": 1}),
    Fault("a better one later", lambda items, scores: (items, [*scores[:-1], 1.0]), {"unordered": 1}),
    Fault("no number", lambda items, scores: (items, [*scores[:-1], float("nan")]),
          {"unordered": 1, "invalid": 1}),
]  # fmt: skip
RANKING_FAULTS = [
    Fault("not offered", lambda items, scores: ([*items[:-1], OUTSIDE], scores), {"excluded": 1}),
    Fault("one left out", lambda items, scores: (items[:-1], scores[:-1]), {"short": 1}),
    Fault("one twice", lambda items, scores: ([*items[:-1], items[0]], scores), {"repeated": 1}),
]


@pytest.mark.parametrize("fault", [*RETRIEVAL_FAULTS, *RANKING_FAULTS], ids=lambda fault: fault.name)
def test_a_fault_is_counted_and_its_user_named(fault: Fault, tmp_path: Path) -> None:
    of_retrieval = fault in RETRIEVAL_FAULTS
    rankings = lists(4) if of_retrieval else ranked(4, 5)
    items, scores = fault.edit(list(rankings[3].items), list(rankings[3].scores))
    rankings[3] = Ranking(rankings[3].user, tuple(items), tuple(scores))
    read = read_retrieval if of_retrieval else read_ranking
    answers = read(written(tmp_path / "a.parquet", rankings), ARRAYS, silent)
    assert answers.faults == NO_FAULTS | fault.counts
    assert set(answers.first.values()) == {REQUESTS[3].user}


def test_a_request_without_an_answer_with_two_and_an_answer_to_nobody_are_counted(tmp_path: Path) -> None:
    rankings = lists(5)
    changed = [*rankings[1:], rankings[-1], Ranking("nobody", rankings[0].items, rankings[0].scores)]
    answers = read_retrieval(written(tmp_path / "a.parquet", changed), ARRAYS, silent)
    assert answers.faults == NO_FAULTS | {"unanswered": 3}
    assert np.isnan(answers.ranks[0]) and not np.isnan(answers.ranks[1:]).any()


def test_a_small_catalogue_asks_for_what_is_left_of_it(tmp_path: Path) -> None:
    split = split_leave_one_out(tiny_world(users=10, items=24), SplitSettings(ranking_negatives=5), seed=0)
    requests, _ = split.retrieval_requests("test")
    rankings = [
        Ranking(request.user, tuple(left), tuple([0.0] * len(left)))
        for request in requests
        if (left := [item for item in split.dataset.item_ids if item not in request.history][:20])
    ]
    assert any(len(one.items) < 20 for one in rankings)
    answers = read_retrieval(written(tmp_path / "a.parquet", rankings), request_arrays(split), silent)
    assert answers.faults == NO_FAULTS


def estimates(split: Split) -> pl.DataFrame:
    requests, truths = split.rating_requests("test")
    rows = [
        (request.user, request.item, truth + 0.5) for request, truth in zip(requests, truths, strict=True)
    ]
    return pl.DataFrame(rows, schema=["user", "item", "estimate"], orient="row")


def test_estimates_are_matched_by_user_and_item(tmp_path: Path) -> None:
    frame = estimates(SPLIT)
    frame.reverse().write_parquet(tmp_path / "a.parquet")
    answers, table = read_ratings(tmp_path / "a.parquet", SPLIT, silent)
    assert answers.faults == NO_FAULTS and len(table) == len(frame)
    assert (table["estimate"] - table["truth"]).to_list() == pytest.approx([0.5] * len(frame))
    assert table["user"].to_list() == frame["user"].to_list()


@pytest.mark.parametrize(
    ("edit", "counts"),
    [
        (lambda frame: frame[1:], {"unanswered": 1}),
        (lambda frame: pl.concat([frame, frame[:1]]), {"unanswered": 1}),
        (lambda frame: pl.concat([frame, frame[:1].with_columns(user=pl.lit("nobody"))]), {"unanswered": 1}),
        (lambda frame: frame.with_columns(estimate=pl.lit(float("inf"))), {"invalid": len(estimates(SPLIT))}),
    ],
    ids=["one less", "one twice", "one more", "infinite"],
)
def test_faults_of_estimates_are_counted(edit: Any, counts: dict[str, int], tmp_path: Path) -> None:
    edit(estimates(SPLIT)).write_parquet(tmp_path / "a.parquet")
    answers, _ = read_ratings(tmp_path / "a.parquet", SPLIT, silent)
    assert answers.faults == NO_FAULTS | counts


def test_the_nth_row_of_a_user_answers_the_nth_request() -> None:
    """Where a scheme holds out several events of a user, rows of different users may be mixed."""
    requested = pa.array(["a", "a", "b"], pa.large_string())
    rows = pa.array(["b", "a", "nobody", "a", "b"], pa.large_string())
    assert module._requests_of(rows, requested).tolist() == [2, 0, -1, 1, -1]
