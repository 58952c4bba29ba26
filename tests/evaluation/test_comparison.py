"""All models side by side: what metrics.json holds, which pairs are compared, and that the test part
is what is measured."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from shelftalk.baselines.bias import BiasSettings, fit_bias, fit_global_mean
from shelftalk.baselines.popularity import fit_popularity
from shelftalk.data.splitting import Split, SplitSettings, split_leave_one_out
from shelftalk.errors import SettingsError
from shelftalk.evaluation.comparison import COMPARED, Comparison, compare, per_user_table, pieces, requests_of
from shelftalk.evaluation.evaluator import summarise
from shelftalk.evaluation.metrics import LIST_LENGTH, metric_names
from shelftalk.evaluation.significance import bootstrap_intervals, paired_difference
from shelftalk.evaluation.slices import slices_of_models
from shelftalk.records import Ranking
from shelftalk.testing.worlds import tiny_world

RESAMPLES, SEED = 60, 7
TASKS = ("retrieval", "ranking", "rating")


@pytest.fixture(scope="module")
def split() -> Split:
    return split_leave_one_out(tiny_world(users=25, items=60), SplitSettings(ranking_negatives=20), seed=1)


@pytest.fixture(scope="module")
def answers(split: Split) -> dict[str, dict[str, Any]]:
    """Popularity, and a second model that puts the true item first for every third user."""
    popular, mean = fit_popularity(split), fit_global_mean(split)
    bias = fit_bias(split, BiasSettings(item_damping=(2.0,), user_damping=(2.0,)))
    retrieval, ranking = (split.retrieval_requests("test"), split.ranking_requests("test"))
    lists, rankings = popular.recommend(retrieval[0], LIST_LENGTH), popular.rank(ranking[0])
    ratings = split.rating_requests("test")[0]
    return {
        "retrieval": {"popular": lists, "knowing": _knowing(lists, retrieval[1]), "again": lists},
        "ranking": {"popular": rankings, "knowing": _knowing(rankings, ranking[1])},
        "rating": {"mean": mean.rate(ratings), "bias": bias.rate(ratings)},
    }


def _knowing(rankings: list[Ranking], truths: list[str]) -> list[Ranking]:
    """The true item first for every third user, in place of the last one where the list lacks it."""
    known = []
    for position, (ranking, truth) in enumerate(zip(rankings, truths, strict=True)):
        rest = tuple(item for item in ranking.items if item != truth)
        items = (truth, *rest)[: len(ranking.items)] if position % 3 == 0 else ranking.items
        known.append(Ranking(ranking.user, items, tuple(float(-n) for n in range(len(items)))))
    return known


@pytest.fixture
def compared(split: Split, answers: Any) -> Comparison:
    """Made for each test, so that `make mutants` knows which tests depend on it."""
    return compare(split, answers, RESAMPLES, SEED)


@pytest.mark.parametrize("task", TASKS)
def test_metrics_and_intervals_are_those_of_the_test_parts_tables(
    task: Any, split: Split, answers: Any, compared: Comparison
):
    requests, truths = requests_of(split, task, "test")
    assert set(compared.metrics[task]) == {name + end for name in answers[task] for end in ("", ".ci")}
    for name, given in answers[task].items():
        frame = per_user_table(task, given, requests, truths, split)
        kept = compared.tables[task].filter(model=name).drop("model")
        assert kept.equals(frame) and list(compared.tables[task].columns)[0] == "model"
        assert compared.metrics[task][name] == summarise(frame, task)
        ends = {
            metric: list(pair) for metric, pair in bootstrap_intervals(frame, task, RESAMPLES, SEED).items()
        }
        assert compared.metrics[task][f"{name}.ci"] == {
            metric: pytest.approx(pair) for metric, pair in ends.items()
        }
        assert list(compared.metrics[task][name]) == metric_names(task)


def test_every_model_is_compared_with_each_that_follows_it_in_the_metrics_laid_down(
    split: Split, answers: Any, compared: Comparison
):
    table = compared.tables["differences"]
    pairs = {
        "retrieval": [("popular", "knowing"), ("popular", "again"), ("knowing", "again")],
        "ranking": [("popular", "knowing")],
        "rating": [("mean", "bias")],
    }
    expected = [(task, *pair, metric) for task in TASKS for metric in COMPARED[task] for pair in pairs[task]]
    assert table.select("task", "first", "second", "metric").rows() == expected
    frames = {name: compared.tables["ranking"].filter(model=name) for name in ("popular", "knowing")}
    difference = paired_difference(frames["popular"], frames["knowing"], "ndcg@10", RESAMPLES, seed=SEED)
    row = table.row(by_predicate=(pl.col("task") == "ranking") & (pl.col("metric") == "ndcg@10"), named=True)
    assert {name: row[name] for name in ("value", "low", "high", "p", "n")} == vars(difference)
    assert difference.high < 0 and difference.n == 25


def test_slices_are_in_one_table_by_task(split: Split, answers: Any, compared: Comparison):
    popularity = dict(zip(split.dataset.item_ids, split.popularity.tolist(), strict=True))
    for task in TASKS:
        table = compared.tables[task]
        frames = {name: table.filter(model=name).drop("model") for name in answers[task]}
        expected = slices_of_models(frames, popularity, task, COMPARED[task], RESAMPLES, SEED)
        assert compared.tables["slices"].filter(task=task).select(expected.columns).equals(expected)


def test_a_task_that_no_model_answers_is_left_out_and_none_at_all_is_refused(split: Split, answers: Any):
    only = compare(split, {"retrieval": {}, "rating": answers["rating"]}, RESAMPLES, SEED)
    assert set(only.metrics) == {"rating"} and set(only.tables) == {"rating", "slices", "differences"}
    with pytest.raises(
        SettingsError, match="none of the models answers a task that the data supports; name another"
    ):
        compare(split, {"retrieval": {}}, RESAMPLES, SEED)
    single = compare(split, {"rating": {"mean": answers["rating"]["mean"]}}, RESAMPLES, SEED)
    assert single.tables["differences"].is_empty() and "value" in single.tables["differences"].columns


def test_the_pieces_that_are_announced_are_those_that_are_done(split: Split, answers: Any):
    done: list[int] = []
    compare(split, answers, RESAMPLES, SEED, lambda text, number: done.append(number))
    # 3 models of retrieval, 2 of ranking, 2 of rating; 3, 1 and 1 pairs in 2, 2 and 1 metrics
    assert sum(done) == pieces(answers) == 3 * 7 + 3 * 2 + 2 + 1
