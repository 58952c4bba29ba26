"""All models side by side: what metrics.json holds, which pairs are compared, and that the test part
is what is measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from shelftalk.baselines.bias import BiasSettings, fit_bias, fit_global_mean
from shelftalk.baselines.popularity import fit_popularity
from shelftalk.data.splitting import Split, SplitSettings, split_leave_one_out
from shelftalk.errors import SettingsError
from shelftalk.evaluation import comparison
from shelftalk.evaluation.beyond_accuracy import LIST_METRICS, list_metrics
from shelftalk.evaluation.comparison import COMPARED, Comparison, compare, per_user_table, pieces, requests_of
from shelftalk.evaluation.evaluator import summarise
from shelftalk.evaluation.metrics import LIST_LENGTH, further_names, metric_names
from shelftalk.evaluation.multiple_testing import benjamini_hochberg, holm
from shelftalk.evaluation.power import smallest_effect
from shelftalk.evaluation.significance import Difference, bootstrap_intervals, paired_difference
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
        of_model = compared.metrics[task][name]
        assert {metric: of_model[metric] for metric in metric_names(task)} == summarise(frame, task)
        ends = {
            metric: list(pair) for metric, pair in bootstrap_intervals(frame, task, RESAMPLES, SEED).items()
        }
        intervals = compared.metrics[task][f"{name}.ci"]
        assert {metric: intervals[metric] for metric in ends} == {
            metric: pytest.approx(pair) for metric, pair in ends.items()
        }
        of_lists = [*LIST_METRICS] if task == "retrieval" else []
        assert list(of_model) == [*metric_names(task), *further_names(task), *of_lists]
        assert set(of_model) - set(intervals) == {"coverage@10", "gini@10"} & set(of_lists)


def test_further_metrics_follow_from_those_of_the_tables(compared: Comparison):
    for task, hit in (("retrieval", "recall"), ("ranking", "hr")):
        for name in ("popular", "knowing"):
            values, ends = compared.metrics[task][name], compared.metrics[task][f"{name}.ci"]
            for k in (5, 10):
                assert values[f"precision@{k}"] == pytest.approx(values[f"{hit}@{k}"] / k)
                assert ends[f"precision@{k}"] == pytest.approx([end / k for end in ends[f"{hit}@{k}"]])
                assert (values[f"map@{k}"], ends[f"map@{k}"]) == (values[f"mrr@{k}"], ends[f"mrr@{k}"])
            ranks = compared.tables[task].filter(model=name)["rank"].to_list()
            expected = [1 / rank if rank is not None and rank <= 5 else 0 for rank in ranks]
            assert values["mrr@5"] == pytest.approx(np.mean(expected))
            low, high = ends["mrr@5"]
            assert low <= values["mrr@5"] <= high


def test_metrics_of_lists_come_out_of_the_saved_tables_with_intervals_over_users(compared: Comparison):
    lists, recommended = compared.tables["lists"], compared.tables["recommended"]
    for name in ("popular", "knowing", "again"):
        counts = recommended.filter(model=name)["lists"].to_numpy()
        of_model, ends = compared.metrics["retrieval"][name], compared.metrics["retrieval"][f"{name}.ci"]
        expected = list_metrics(lists.filter(model=name), counts)
        assert {metric: of_model[metric] for metric in LIST_METRICS} == expected
        novelty = lists.filter(model=name)["novelty"].to_numpy()
        reach = 1.96 * novelty.std() / np.sqrt(len(novelty))
        assert ends["novelty@10"] == pytest.approx(
            [of_model["novelty@10"] - reach, of_model["novelty@10"] + reach], abs=0.4 * reach
        )
        low, high = ends["popularity_lift@10"]
        assert low <= of_model["popularity_lift@10"] <= high
    assert compared.metrics["retrieval"]["popular"] == compared.metrics["retrieval"]["again"]


def test_p_values_are_adjusted_among_the_pairs_of_one_metric_and_effects_are_those_of_the_tables(
    split: Split, answers: Any, compared: Comparison
):
    by_fdr = compare(split, answers, RESAMPLES, SEED, "benjamini_hochberg").tables["differences"]
    for task, metric in (("retrieval", "ndcg@10"), ("retrieval", "recall@10"), ("rating", "rmse")):
        rows = compared.tables["differences"].filter(task=task, metric=metric)
        assert rows["p_adjusted"].to_list() == holm(rows["p"].to_list())
        lenient = by_fdr.filter(task=task, metric=metric)
        assert lenient["p_adjusted"].to_list() == benjamini_hochberg(rows["p"].to_list())
        frames = [compared.tables[task].filter(model=rows[side][0]) for side in ("first", "second")]
        assert rows["smallest_effect"][0] == smallest_effect(*frames, metric)


def test_of_many_comparisons_each_can_still_be_shown(
    split: Split, answers: Any, monkeypatch: pytest.MonkeyPatch
):
    asked = []
    monkeypatch.setattr(
        comparison,
        "paired_differences",
        lambda frames, pairs, metric, resamples, permutations, seed: (
            asked.append(permutations)
            or [Difference(0.1, 0.0, 0.2, 1 / (permutations + 1), 25) for _ in pairs]
        ),
    )
    lists = {f"m{n:02}": answers["retrieval"]["popular"] for n in range(40)}
    table = compare(split, {"retrieval": lists}, RESAMPLES, SEED).tables["differences"]
    assert min(asked) > 10_000 and table["p_adjusted"].to_numpy().max() < 0.05


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
    assert "lists" not in only.tables
    assert set(only.metrics) == {"rating"} and set(only.tables) == {"rating", "slices", "differences"}
    with pytest.raises(
        SettingsError, match="none of the models answers a task that the data supports; name another"
    ):
        compare(split, {"retrieval": {}}, RESAMPLES, SEED)
    single = compare(split, {"rating": {"mean": answers["rating"]["mean"]}}, RESAMPLES, SEED)
    assert single.tables["differences"].is_empty() and "value" in single.tables["differences"].columns


def test_the_pieces_that_are_announced_are_those_that_are_done(split: Split, answers: Any):
    done: list[int] = []
    compare(split, answers, RESAMPLES, SEED, on_piece=lambda text, number: done.append(number))
    # 3 models of retrieval, 2 of ranking, 2 of rating; 3, 1 and 1 pairs in 2, 2 and 1 metrics
    assert sum(done) == pieces(answers) == 3 * 7 + 3 * 2 + 2 + 1
