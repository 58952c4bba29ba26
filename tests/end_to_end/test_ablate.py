"""`shelftalk ablate` from grid to report: equal tokens, resumed where it was stopped, done again only where
something changed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from shelftalk.studies.ablation.grid import load_grid
from shelftalk.studies.ablation.study import ablate
from shelftalk.studies.token_budget.progress import STAGE_UNITS
from tests.end_to_end.tiny import call, sealed_test_part, write_experiment

TOKENS = 9000
GRID = f"""
[ablation]
experiment = "tiny.toml"
seeds = [0, 1]
tokens = {TOKENS}
users = 20
ratings = 15
baseline = "all on"
compare_item_knn = true
resamples = 200

[[variant]]
name = "all on"

[[variant]]
name = "none <b>"
tasks.masked_items.weight = 0
tasks.masked_language.weight = 0
tasks.pairwise_preference.weight = 0
"""


class PowerCut(Exception):
    """What stops an ablation of these tests."""


def grid_file(folder: Path, world: Path, text: str = GRID) -> Path:
    write_experiment(folder / "tiny.toml", world)
    (folder / "grid.toml").write_text(text)
    return folder / "grid.toml"


def runs_done(grid: Path, out: Path) -> tuple[dict[str, Any], list[str]]:
    """The result, and the runs that were not skipped."""
    lines: list[str] = []
    ablate(load_grid(grid), out, log=lines.append)
    of_runs = [line for line in lines if re.match(r"\d+/\d+ ", line)]
    assert len(lines) > len(of_runs) == len(result(out)["runs"]), "the other lines are about the data"
    return result(out), [line.partition(": ")[0] for line in of_runs if "skipped" not in line]


def result(out: Path) -> dict[str, Any]:
    return json.loads((out / "ablation.json").read_text())


def figures(record: dict[str, Any]) -> dict[str, Any]:
    return {variant["name"]: variant["per_seed"] for variant in record["variants"]}


@pytest.fixture(scope="module")
def study(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished ablation that says nothing of its part, so it is validation; never to be changed."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("study")
    with sealed_test_part():
        called = call("ablate", grid_file(folder, world), "--out", folder / "out", "--json")
    assert called.exit_code == 0, called.output
    assert json.loads(called.stdout)["variants"] == result(folder / "out")["variants"]
    return folder


@pytest.fixture
def again(study: Path, tmp_path: Path) -> Callable[..., tuple[dict[str, Any], list[str]]]:
    """Run a copy of the finished ablation once more, after what `change` does to its folder, with another
    grid file."""
    shutil.copytree(study, tmp_path / "copy")

    def run(
        change: Callable[[Path], None] = lambda out: None, text: str = GRID
    ) -> tuple[dict[str, Any], list[str]]:
        out = tmp_path / "copy" / "out"
        change(out)
        (tmp_path / "copy" / "grid.toml").write_text(text)
        return runs_done(tmp_path / "copy" / "grid.toml", out)

    return run


def test_all_runs_read_the_same_tokens_and_the_costs_stand_beside_the_gains(study: Path) -> None:
    record = result(study / "out")
    assert [(row["variant"], row["seed"]) for row in record["runs"]] == [
        ("all on", 0),
        ("none <b>", 0),
        ("all on", 1),
        ("none <b>", 1),
    ]
    read = [row["tokens"] for row in record["runs"]]
    assert min(read) >= TOKENS and max(read) < 1.05 * TOKENS
    assert [v["name"] for v in record["variants"]] == ["all on", "none <b>", "item_knn"]
    for variant in record["variants"][:2]:
        assert variant["costs"]["tokens_per_sample"] > 1 and variant["costs"]["targets"] > 0
        assert variant["costs"]["training_seconds"] > 0 and variant["costs"]["peak_gigabytes"] > 0
    assert record["runs"][0]["targets"] != record["runs"][1]["targets"]


def test_every_figure_can_be_computed_again_from_the_per_user_tables(study: Path) -> None:
    record = result(study / "out")
    per_seed = figures(record)["all on"]
    for seed in (0, 1):
        folder = study / "out" / "runs" / f"all-on.seed-{seed}" / "evaluation"
        assert pl.read_parquet(folder / "retrieval.parquet")["ndcg@10"].mean() == pytest.approx(
            per_seed["retrieval ndcg@10"][seed]
        )
        squared = pl.read_parquet(folder / "rating.parquet")["squared_error"]
        assert squared.mean() ** 0.5 == pytest.approx(per_seed["rating rmse"][seed])
    for gap in record["gaps"]:
        own, base = figures(record)[gap["variant"]][gap["metric"]], per_seed[gap["metric"]]
        assert gap["per_seed"] == pytest.approx([one - other for one, other in zip(own, base, strict=True)])
        assert gap["low"] <= gap["value"] <= gap["high"] and 0 < gap["p"] <= gap["p_holm"] <= 1
    assert {gap["metric"] for gap in record["gaps"] if gap["variant"] == "item_knn"} == {
        "retrieval recall@10", "retrieval ndcg@10", "ranking hr@1", "ranking ndcg@10",
    }  # fmt: skip


def test_the_page_stands_alone_and_foreign_names_are_escaped(study: Path) -> None:
    page = (study / "out" / "ablation.html").read_text()
    assert not re.search(r"<(script|link|iframe|img)\b|@import|url\((?!#)|src=", page)
    assert "none <b>" not in page and "none &lt;b&gt;" in page
    assert page.count("<svg") == 5
    text = (study / "out" / "ablation.md").read_text()
    assert "none \\<b\\>" in text and "## Costs" in text and "## How to read it" in text


def test_the_checkpoints_are_gone_and_the_models_stay(study: Path) -> None:
    assert not list((study / "out" / "runs").rglob("checkpoint*"))
    assert len(list((study / "out" / "runs").glob("*/model/model.safetensors"))) == 4
    assert len(list((study / "out" / "shared").iterdir())) == 2  # one per seed, whatever the variant


def test_a_finished_ablation_is_not_done_again(study: Path, again: Callable) -> None:
    record, done = again()
    assert done == []
    before = result(study / "out")
    assert (record["variants"], record["gaps"], record["runs"]) == (
        before["variants"],
        before["gaps"],
        before["runs"],
    )


def test_a_run_whose_manifest_is_missing_is_done_again_alone_and_ends_the_same(
    study: Path, again: Callable
) -> None:
    def forget(out: Path) -> None:
        shutil.rmtree(out / "runs" / "all-on.seed-1")

    record, done = again(forget)
    assert done == ["3/4 all on, seed 1"]
    assert figures(record) == figures(result(study / "out"))


def test_other_users_are_evaluated_without_training_again(study: Path, again: Callable) -> None:
    record, done = again(text=GRID.replace("users = 20", "users = 10"))
    assert len(done) == 4 and record["evaluated"]["retrieval"] == 10
    before = result(study / "out")["runs"]
    assert [row["training_seconds"] for row in record["runs"]] == [row["training_seconds"] for row in before]


def test_a_changed_variant_is_the_only_one_done_again(again: Callable) -> None:
    _, done = again(text=GRID + "tasks.ranking.weight = 0\n")
    assert done == ["2/4 none <b>, seed 0", "4/4 none <b>, seed 1"]


def test_a_new_variant_is_added_to_what_is_there(again: Callable) -> None:
    record, done = again(
        text=GRID.replace("seeds = [0, 1]", "seeds = [0]") + '[[variant]]\nname = "wide"\nnano.width = 48\n'
    )
    assert done == ["3/3 wide, seed 0"] and len(record["gaps"]) == 5 + 5 + 4
    assert any("other users only" in sentence for sentence in record["sentences"])


def test_an_ablation_stopped_in_mid_training_continues_and_ends_as_an_uninterrupted_one(
    study: Path, world: Path, tmp_path: Path
) -> None:
    grid = grid_file(tmp_path, world, GRID.replace("seeds = [0, 1]", "seeds = [0]"))

    def progress(stage: str, done: int, total: int, text: str) -> None:
        if stage == "runs" and ": train " in text and done > 0.7 * STAGE_UNITS["train"][1]:
            raise PowerCut

    with pytest.raises(PowerCut):
        ablate(load_grid(grid), tmp_path / "out", progress)
    assert list((tmp_path / "out" / "runs" / "all-on.seed-0").rglob("checkpoint-*"))
    record, done = runs_done(grid, tmp_path / "out")
    assert len(done) == 2
    facts = json.loads((tmp_path / "out" / "runs" / "all-on.seed-0" / "stages" / "train.json").read_text())[
        "facts"
    ]
    assert 0 < facts["resumed_from"] < facts["steps"] and facts["training_seconds"] > 0
    whole = {
        name: {metric: values[:1] for metric, values in of.items()}
        for name, of in figures(result(study / "out")).items()
    }
    assert figures(record) == whole


def test_a_variant_that_cannot_run_stops_the_ablation_before_the_first_run(
    world: Path, tmp_path: Path
) -> None:
    (tmp_path / "words.toml").write_text('[[template]]\nname = "a"\nsource = "{histry}"\ntarget = "{item}"\n')
    text = (
        GRID + f'[[variant]]\nname = "own words"\ntasks.retrieval.templates = "{tmp_path / "words.toml"}"\n'
    )
    called = call("ablate", grid_file(tmp_path, world, text), "--out", tmp_path / "out")
    assert called.exit_code == 2 and 'variant "own words"' in called.stderr and "histry" in called.stderr
    assert not (tmp_path / "out" / "runs").exists()


def test_variants_of_unlike_data_are_refused(world: Path, tmp_path: Path) -> None:
    text = GRID + '[[variant]]\nname = "other data"\nsplit.ranking_negatives = 15\n'
    called = call("ablate", grid_file(tmp_path, world, text), "--out", tmp_path / "out")
    assert called.exit_code == 2 and "divide different data" in called.stderr


def test_a_folder_of_something_else_is_left_alone(study: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    called = call("ablate", study / "grid.toml", "--out", tmp_path)
    assert (
        called.exit_code == 2
        and "AnotherExperiment" in called.stderr
        and [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    )


def test_the_command_prints_the_table_and_the_path_of_the_page_last(study: Path, tmp_path: Path) -> None:
    shutil.copytree(study / "out", tmp_path / "out")
    called = call("ablate", study / "grid.toml", "--out", tmp_path / "out", "--seeds", "1")
    assert called.exit_code == 0, called.output
    assert called.stdout.splitlines()[-1] == f"Report: {tmp_path / 'out' / 'ablation.html'}"
    assert "none <b>" in called.stdout and "Differences to “all on”" in called.stdout
