"""`verify A --against B`: paired on the same test part, and refused on another."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from shelftalk.certificate.against import check_same_test_part, compare_runs
from shelftalk.data.splitting import Split, SplitSettings, split_leave_one_out
from shelftalk.errors import AnotherExperiment, SettingsError
from shelftalk.evaluation.significance import paired_difference
from shelftalk.experiment import load_experiment
from shelftalk.pipeline import stages
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.testing.worlds import tiny_world
from tests.end_to_end.tiny import call, save_world, write_experiment

FEW = {"text_weight": [0.0], "decay": [0.5], "max_history": [1]}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, RunFolder]:
    """Two recipes of item_knn on one split; the second run has other baselines beside it."""
    folder = tmp_path_factory.mktemp("two")
    data = save_world(tiny_world(users=40, items=50), folder / "data")
    first = write_experiment(folder / "first.toml", data, models=["item_knn", "bias"])
    second = write_experiment(
        folder / "second.toml", data, models=["popularity", "item_knn", "bias"], baselines={"item_knn": FEW}
    )
    for file in (first, second):
        stages.run_all(RunFolder(folder / file.stem), load_experiment(file))
    return RunFolder(folder / "first"), RunFolder(folder / "second")


def test_every_common_model_is_compared_in_every_metric(runs: tuple[RunFolder, RunFolder]) -> None:
    rows = compare_runs(*runs).rows
    assert {(row.first, row.second) for row in rows} == {("A:item_knn", "B:item_knn"), ("A:bias", "B:bias")}
    assert {row.task for row in rows} == {"retrieval", "ranking", "rating"}
    assert all(row.value == row.low == row.high == 0 and row.p == 1 for row in rows if row.task == "rating")
    row = next(row for row in rows if (row.task, row.metric) == ("retrieval", "ndcg@10"))
    frames = [
        pl.read_parquet(run.evaluation("retrieval")).filter(model="item_knn").drop("model") for run in runs
    ]
    expected = paired_difference(*frames, "ndcg@10", 100, seed=3)
    assert (row.value, row.low, row.high, row.p) == (
        expected.value, expected.low, expected.high, expected.p
    )  # fmt: skip
    assert row.value == pytest.approx(frames[0]["ndcg@10"].mean() - frames[1]["ndcg@10"].mean())


def test_a_pair_of_two_names_is_compared(runs: tuple[RunFolder, RunFolder]) -> None:
    rows = compare_runs(*runs, ["A:item_knn", "B:popularity"]).rows
    assert {(row.first, row.second) for row in rows} == {("A:item_knn", "B:popularity")}
    assert rows[0].value > 0


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (["popularity"], 'no model "popularity"'),
        (["A:item_knn"], "give A:NAME,B:NAME"),
        (["A:item_knn", "B:itemknn"], 'did you mean "item_knn"'),
        (["A:item_knn", "B:bias"], "no task in common"),
    ],
)
def test_a_choice_that_cannot_be_compared_is_refused(
    models: list[str], message: str, runs: tuple[RunFolder, RunFolder]
) -> None:
    with pytest.raises(SettingsError, match=message):
        compare_runs(*runs, models)


SPLIT = split_leave_one_out(tiny_world(users=20, items=40), SplitSettings(ranking_negatives=5), seed=1)
OTHERS: dict[str, Split] = {
    "the catalogue": split_leave_one_out(
        tiny_world(users=20, items=41), SplitSettings(ranking_negatives=5), 1
    ),
    "the users and items of the test part": split_leave_one_out(
        tiny_world(seed=5, users=20, items=40), SplitSettings(ranking_negatives=5), 1
    ),
    "the ranking candidates": split_leave_one_out(
        SPLIT.dataset, SplitSettings(ranking_negatives=5), seed=2
    ),
    "the ratings of the test part": Split(
        SPLIT.dataset, SPLIT.event_part, SPLIT.rating_part[::-1].copy(), SPLIT.candidates
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", OTHERS)
def test_what_differs_between_two_test_parts_is_named(what: str) -> None:
    with pytest.raises(AnotherExperiment, match=f"differ in {what}"):
        check_same_test_part(SPLIT, OTHERS[what], "one", "other")
    check_same_test_part(SPLIT, SPLIT, "one", "other")


def test_the_command_prints_a_table_or_json_and_refuses_what_is_not_verified(
    runs: tuple[RunFolder, RunFolder], tmp_path: Path
) -> None:
    first, second = runs
    shown = call("verify", first.path, "--against", second.path, "--models", "item_knn")
    assert (
        shown.exit_code == 0 and "both verified" in shown.stdout and "A:item_knn - B:item_knn" in shown.stdout
    )
    printed = json.loads(call("verify", first.path, "--against", second.path, "--json").stdout)
    assert printed["rows"] and all(run["verified"] for run in printed["verified"])
    content = second.metrics.read_text()
    second.metrics.write_text(content.replace("0.", "0.1", 1))
    refused = call("verify", first.path, "--against", second.path)
    second.metrics.write_text(content)
    assert refused.exit_code == 1 and "NOT verified" in refused.stdout and "A minus B" not in refused.stdout
