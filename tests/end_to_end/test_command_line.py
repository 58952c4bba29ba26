"""What people and scripts see of a run: output, exit codes, and what is not loaded."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shelftalk import __version__
from shelftalk.experiment import load_experiment
from shelftalk.recipes import recipe_file
from tests.end_to_end.tiny import call

HEAVY = ("torch", "transformers")


def in_a_new_process(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, which names the
    heavy libraries that it loaded on its last line of stderr."""
    program = (
        "import sys; from shelftalk.app.cli import app; code = 0\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit as stop: code = stop.code or 0\n"
        f"print('loaded:', [name for name in {HEAVY} if name in sys.modules], file=sys.stderr)\n"
        "sys.exit(code)"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, timeout=120
    )


def test_baselines_alone_train_nothing_and_load_no_torch(experiment_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = in_a_new_process(
        "run", experiment_file, "--models", "item_knn,popularity,bias", "--out", out, "--json"
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr.splitlines()[-1] == "loaded: []"
    assert set(json.loads(result.stdout)["metrics"]) == {"retrieval", "ranking", "rating"}
    assert (out / "report.html").exists() and not (out / "model").exists()


def test_help_comes_quickly_and_without_torch() -> None:
    start = time.monotonic()
    result = in_a_new_process("--help")
    assert result.returncode == 0 and result.stderr.splitlines()[-1] == "loaded: []"
    assert all(
        name in result.stdout
        for name in ("run", "prepare", "index", "write", "train", "recommend", "evaluate", "report")
    )
    assert time.monotonic() - start < 10  # about half a second where nothing else runs


def test_json_is_one_object_on_standard_output(experiment_file: Path, tmp_path: Path) -> None:
    result = call("run", experiment_file, "--models", "popularity", "--out", tmp_path / "run", "--json")
    printed = json.loads(result.stdout)
    assert printed["metrics"] == json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert printed["report"] == str(tmp_path / "run" / "report.html")
    alone = json.loads(
        call("prepare", experiment_file, "--models", "popularity", "--out", tmp_path / "run", "--json").stdout
    )
    assert alone["stages"] == [
        {"stage": "prepare", "seconds": alone["stages"][0]["seconds"], "skipped": True, "again": ""}
    ]


def test_text_output_ends_with_the_path_of_the_report(experiment_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "[red]run"  # brackets are no markup
    result = call("run", experiment_file, "--models", "item_knn", "--out", out)
    assert result.stdout.splitlines()[-1] == f"Report: {out / 'report.html'}"
    assert "item_knn: text weight" in result.stdout


def test_the_run_folder_is_named_after_the_experiment_by_default(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("prepare", experiment_file, "--models", "popularity").exit_code == 0
    assert (tmp_path / "runs" / "tiny" / "dataset").is_dir()


def test_data_can_be_named_on_the_command_line(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = ("--interactions", world / "interactions.parquet", "--items", world / "items.parquet")
    by_files = call("show", "sample", "retrieval", *files)
    assert (
        by_files.exit_code == 2 and "split.ranking_negatives" in by_files.stderr
    )  # fifty items, but they were read
    by_folder = call("show", "experiment", "--data", world)
    assert f'folder = "{world}"' in by_folder.stdout and 'name = "data"' in by_folder.stdout


def test_without_an_experiment_file_a_command_follows_the_best_recipe(world: Path, tmp_path: Path) -> None:
    (tmp_path / "shown.toml").write_text(call("show", "experiment").stdout)
    assert load_experiment(tmp_path / "shown.toml") == load_experiment(recipe_file("best"))
    (tmp_path / "shown.toml").write_text(call("show", "experiment", "--data", world).stdout)
    changed = {"name": world.name, "data": {"folder": str(world)}}
    assert load_experiment(tmp_path / "shown.toml") == load_experiment(recipe_file("best"), changed)


def test_a_shown_experiment_is_an_experiment_file(experiment_file: Path, tmp_path: Path) -> None:
    whole = call("show", "experiment", experiment_file, "--seed", "9").stdout
    (tmp_path / "whole.toml").write_text(whole)
    assert "seed = 9" in whole
    assert call("show", "experiment", tmp_path / "whole.toml").stdout == whole


def test_show_sample_refuses_a_number_that_there_is_not(experiment_file: Path) -> None:
    result = call("show", "sample", "retrieval", experiment_file, "--number", "100000")
    assert result.exit_code == 2 and "--number" in result.stderr


def test_the_doctor_prints_what_the_machine_can_do() -> None:
    printed = json.loads(call("doctor", "--json").stdout)
    assert {
        "cores",
        "memory",
        "bf16 in hardware",
        "GPU",
        "free disk here",
        "torch",
        "polars",
        "shelftalk",
    } <= set(printed)
    assert "bf16 in hardware" in call("doctor").stdout


def test_the_version_is_an_option() -> None:
    assert call("--version").stdout.strip() == __version__
