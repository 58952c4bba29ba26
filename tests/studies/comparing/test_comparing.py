"""Many runs in one table: what belongs together, mean and spread, paired differences, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from shelftalk.errors import MissingFile, SettingsError, UnknownPart
from shelftalk.studies.comparing.evaluated_run import evaluated_runs
from shelftalk.studies.comparing.report import as_json
from shelftalk.studies.comparing.result import Comparison, PartResult, compare_runs
from shelftalk.studies.comparing.statistics import BOTH, SEEDS, USERS


def compared(folders: dict[str, Path], *names: str, references: tuple[str, ...] = ()) -> Comparison:
    return compare_runs(evaluated_runs([folders[name] for name in names]), references)


def part_of(result: Comparison, task: str, number: int = 1) -> PartResult:
    return next(part for part in result.parts if (part.task, part.number) == (task, number))


def metrics_of(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def test_one_run_gives_the_figures_intervals_and_differences_of_its_own_report(folders) -> None:
    result, own = compared(folders, "a0"), metrics_of(folders["a0"])
    for part in result.parts:
        assert part.of == 1 and part.test_parts == 1
        for entry in part.entries:
            for metric, figure in entry.figures.items():
                assert figure.mean == own[part.task][entry.model][metric] and figure.deviation is None
                assert [figure.low, figure.high] == own[part.task][f"{entry.model}.ci"][metric]
    differences = pl.read_parquet(folders["a0"] / "evaluation/differences.parquet")
    row = differences.row(
        by_predicate=(pl.col("task") == "retrieval") & (pl.col("metric") == "ndcg@10"), named=True
    )
    one = next(row for row in part_of(result, "retrieval").differences if row.metric == "ndcg@10")
    assert (row["first"], row["second"], one.label) == ("popularity", "item_knn", "popularity")
    assert one.paired is not None and one.paired.covers == USERS
    measured = (one.paired.value, one.paired.low, one.paired.high, one.paired.p)
    assert measured == (row["value"], row["low"], row["high"], row["p"])


def test_runs_that_differ_in_the_seed_alone_are_one_row_with_mean_and_deviation(folders) -> None:
    names = ("a0", "a1", "a2")
    part = part_of(compared(folders, *names), "ranking")
    assert [entry.label for entry in part.entries] == ["popularity", "item_knn"]
    values = [metrics_of(folders[name])["ranking"]["item_knn"]["ndcg@10"] for name in names]
    figure = part.entries[1].figures["ndcg@10"]
    assert part.entries[1].seeds == (0, 1, 2) and figure.per_seed == tuple(values)
    assert figure.mean == pytest.approx(np.mean(values))
    assert figure.deviation == pytest.approx(np.std(values, ddof=1)) and figure.low is None


def test_with_positions_all_seeds_share_the_test_items_and_none_the_candidates(folders) -> None:
    result = compared(folders, "a0", "a1", "a2")
    assert [part.test_parts for part in result.parts] == [1, 3, 3]
    (row, _) = part_of(result, "retrieval").differences
    assert row.paired is not None and row.paired.covers == BOTH and row.seeds == (0, 1, 2)


def test_a_difference_over_seeds_is_the_mean_of_the_differences_of_the_seeds(folders) -> None:
    names = ("a0", "a1", "a2")
    result = compared(folders, *names)
    for task, metric, model, reference in (
        ("ranking", "ndcg@10", "popularity", "item_knn"),
        ("rating", "rmse", "global_mean", "bias"),
    ):
        values = [
            metrics_of(folders[name])[task][model][metric]
            - metrics_of(folders[name])[task][reference][metric]
            for name in names
        ]
        row = next(row for row in part_of(result, task).differences if row.metric == metric)
        assert row.label == model and row.paired is not None
        assert row.paired.per_seed == pytest.approx(values)
        assert row.paired.value == pytest.approx(np.mean(values))


def test_where_each_seed_divides_the_ratings_anew_the_interval_is_students(folders) -> None:
    row = part_of(compared(folders, "a0", "a1", "a2"), "rating").differences[0]
    assert row.paired is not None and row.paired.covers == SEEDS
    expected = stats.ttest_1samp(row.paired.per_seed, 0)
    low, high = expected.confidence_interval(0.95)
    assert (row.paired.low, row.paired.high, row.paired.p) == pytest.approx((low, high, expected.pvalue))


def test_differences_of_seeds_with_test_parts_of_their_own_are_written_too(folders) -> None:
    """Whatever the interval holds: a truth of numpy's own kind is no JSON."""
    result = compared(folders, "a0", "a1", "a2")
    rows = [row for part in result.parts for row in part.differences if row.paired is not None]
    assert SEEDS in {row.paired.covers for row in rows}
    for row in rows:
        numbers = (row.paired.value, row.paired.low, row.paired.high, row.paired.p)
        assert {type(number) for number in numbers} == {float} and type(row.clear) is bool
    assert json.loads(as_json(result))["parts"]


def test_another_setting_is_another_row_named_by_its_experiment(folders) -> None:
    part = part_of(compared(folders, "a0", "b0"), "retrieval")
    assert [entry.label for entry in part.entries] == [
        "popularity",
        "item_knn (shop-0.7)",
        "item_knn (shop-0.1)",
    ]
    assert part.of == 1


def test_other_data_is_another_table_and_said_so(folders) -> None:
    result = compared(folders, "a0", "c0")
    parts = [part for part in result.parts if part.task == "retrieval"]
    assert [(part.number, part.of, part.runs, part.n) for part in parts] == [
        (1, 2, ("a0",), 40),
        (2, 2, ("c0",), 30),
    ]
    assert any("figures of two tables say nothing about each other" in text for text in result.sentences)


def test_a_model_of_fewer_seeds_stands_beside_the_same_seeds_of_the_others_alone(folders) -> None:
    """b0 knows seed 0 only, and the candidates of ranking are the seed's."""
    result = compared(folders, "a0", "a1", "b0")
    second, first = (part for part in result.parts if part.task == "ranking")  # most models first
    assert first.seeds == (0, 1) and [entry.label for entry in first.entries] == [
        "popularity",
        "item_knn (shop-0.7)",
    ]
    assert second.seeds == (0,) and len(second.entries) == 3
    own = metrics_of(folders["a0"])["ranking"]["item_knn"]["ndcg@10"]
    assert second.entries[1].figures["ndcg@10"].mean == own
    assert part_of(result, "retrieval").of == 1  # one test part for all seeds


def test_the_same_answers_in_two_folders_count_once_wherever_the_data_lies(folders) -> None:
    result = compared(folders, "a0", "copy")
    assert all(entry.runs == ("a0",) for part in result.parts for entry in part.entries)
    (sentence,) = [text for text in result.sentences if "count once" in text]
    assert sentence.startswith("a0 and copy hold the same answers of popularity, item_knn, bias, global_mean")


def test_p_values_are_adjusted_by_holm_for_the_rows_of_a_metric(folders) -> None:
    rows = [
        row
        for row in part_of(compared(folders, "a0", "b0"), "retrieval").differences
        if row.metric == "recall@10"
    ]
    p = sorted((row.paired.p, row.p_holm) for row in rows if row.paired)
    assert len(p) == 2
    assert p[0][1] == pytest.approx(min(1, 2 * p[0][0])) and p[1][1] == pytest.approx(max(p[0][1], p[1][0]))


def test_the_reference_may_be_named_for_each_task(folders) -> None:
    result = compared(folders, "a0", references=("global_mean", "popularity"))
    assert {part.task: part.reference for part in result.parts} == {
        "retrieval": "popularity",
        "ranking": "popularity",
        "rating": "global_mean",
    }


def test_seeds_that_two_models_do_not_share_are_compared_by_their_means_on_the_same_users(folders) -> None:
    result = compared(folders, "a1", "a2", "b0")
    row = next(
        row
        for row in part_of(result, "retrieval").differences
        if row.label == "item_knn (shop-0.1)" and row.metric == "recall@10"
    )
    figures = {entry.label: entry.figures["recall@10"].mean for entry in part_of(result, "retrieval").entries}
    assert row.paired is not None and row.paired.covers == USERS and row.seeds == (0, 1, 2)
    expected = figures["item_knn (shop-0.1)"] - figures["item_knn (shop-0.7)"]
    assert row.paired.value == pytest.approx(expected)


def test_costs_are_means_over_the_runs_of_a_row(folders) -> None:
    names = ("a0", "a1")
    result = compared(folders, *names)
    own = [json.loads((folders[name] / "costs.json").read_text())["bias"] for name in names]
    bias = next(row for row in result.costs if row.model == "bias")
    assert bias.fit_seconds == pytest.approx(np.mean([costs["fit_seconds"] for costs in own]))
    per_rating = [costs["seconds_per_1000"]["rating"] for costs in own]
    assert bias.seconds_per_1000 == {"rating": pytest.approx(np.mean(per_rating))}


def test_runs_are_listed_with_how_often_their_test_part_was_evaluated(folders) -> None:
    result = compared(folders, "a1", "c0")
    assert [(row["run"], row["seed"], row["test_evaluations"]) for row in result.runs] == [
        ("a1", 1, 1),
        ("c0", 0, 1),
    ]


def test_a_reference_that_nobody_evaluated_is_refused_with_the_nearest_name(folders) -> None:
    with pytest.raises(UnknownPart, match='no run has evaluated a model "item_kn"; did you mean "item_knn"'):
        compared(folders, "a0", references=("item_kn",))
    assert compared(folders, "a0", references=("item_knn",)).parts


def test_a_folder_named_twice_is_refused(folders) -> None:
    with pytest.raises(SettingsError, match="is named twice; name each folder once"):
        compared(folders, "a0", "a0")


def test_a_folder_without_a_run_is_refused_by_name(tmp_path) -> None:
    with pytest.raises(MissingFile, match=re.escape(str(tmp_path))):
        evaluated_runs([tmp_path / "nothing"])


def test_runs_of_one_name_are_told_apart_by_the_folder_above(tmp_path, folders) -> None:
    import shutil

    for above in ("x", "y"):
        shutil.copytree(folders["a0"], tmp_path / above / "run")
    assert [run.name for run in evaluated_runs([tmp_path / "x/run", tmp_path / "y/run"])] == [
        "x/run",
        "y/run",
    ]
