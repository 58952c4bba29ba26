"""Data that is not what it looks like is noted where people look: the terminal, --json and the report."""

from __future__ import annotations

import html
import json
from pathlib import Path

import polars as pl
import pytest

from shelftalk.testing.worlds import tiny_world
from tests.end_to_end.tiny import call, save_world, write_experiment

NOTE = 'interactions.parquet, column "timestamp": '


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """Times in milliseconds, and the two last of u0 in one second."""
    data = save_world(tiny_world(users=30, items=50), tmp_path / "data")
    events = pl.read_parquet(data / "interactions.parquet").drop("nanosecond")
    events.with_columns(pl.col("timestamp") * 1000).write_parquet(data / "interactions.parquet")
    return write_experiment(tmp_path / "tiny.toml", data, models=["popularity"])


def test_notes_are_printed_before_the_models_answer_and_again_at_the_end(
    experiment: Path, tmp_path: Path
) -> None:
    result = call("run", experiment, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert f"prepare: {NOTE}" in result.stderr and result.stderr.index(NOTE) < result.stderr.index(
        "recommend.popularity"
    )
    assert result.stdout.count(f"Note: {NOTE}") == 1 and "are taken as Unix milliseconds" in result.stdout


def test_notes_are_in_the_json_of_prepare_and_run_also_where_the_stage_is_skipped(
    experiment: Path, tmp_path: Path
) -> None:
    first, second = (
        json.loads(call(stage, experiment, "--out", tmp_path / "run", "--json").stdout)
        for stage in ("prepare", "run")
    )
    assert (
        first["notes"] == second["notes"] and len(first["notes"]) == 1 and first["notes"][0].startswith(NOTE)
    )
    assert second["stages"][0] == {
        "stage": "prepare",
        "seconds": second["stages"][0]["seconds"],
        "skipped": True,
        "again": "",
    }


def test_notes_are_in_every_form_of_the_report(experiment: Path, tmp_path: Path) -> None:
    assert call("run", experiment, "--out", tmp_path / "run").exit_code == 0
    page, text, values = (
        (tmp_path / "run" / f"report.{ending}").read_text() for ending in ("html", "md", "json")
    )
    for form in (html.unescape(page), text, json.loads(values)["data_notes"][0]):
        assert "values are taken as Unix milliseconds, by the size of the largest" in form


def test_an_experiment_file_of_a_name_that_no_run_can_have_is_refused_and_the_remedy_works(
    experiment: Path, tmp_path: Path
) -> None:
    named = experiment.read_text()
    plain = "\n".join(line for line in named.splitlines() if not line.startswith("name ="))
    spaced = tmp_path / "my shop.toml"
    spaced.write_text(plain)
    result = call("prepare", spaced, "--out", tmp_path / "run")
    assert (
        result.exit_code == 2
        and 'the name of the file, "my shop.toml", cannot be taken for it' in result.stderr
    )
    remedy = 'name = "my-shop"'
    assert f"set {remedy} at the top of that file" in result.stderr
    spaced.write_text(f"{remedy}\n{plain}")
    assert call("prepare", spaced, "--out", tmp_path / "run").exit_code == 0


@pytest.mark.parametrize("path", ["", "  "])
def test_an_empty_path_is_refused_and_nothing_is_read_in_its_place(
    experiment: Path, tmp_path: Path, path: str
) -> None:
    for setting in ("folder", "interactions", "items"):
        empty = tmp_path / "empty.toml"
        empty.write_text(f'name = "x"\n[data]\n{setting} = "{path}"\n')
        result = call("prepare", empty, "--out", tmp_path / "run")
        assert result.exit_code == 2 and f'"data.{setting}" is not valid: is an empty path' in result.stderr
    for option in ("--data", "--interactions", "--items", "--out"):
        result = call("prepare", experiment, option, path)
        assert result.exit_code == 2 and "is empty; name a path" in result.stderr.replace("│\n│ ", " ")
    assert not (tmp_path / "run").exists()


SMALL = '[{kind}]\nname = "small"\nseeds = [0]\ntokens = 3000\nusers = 5\nratings = 5\n'
GRID = SMALL.format(kind="ablation") + (
    'experiment = "tiny.toml"\nbaseline = "as it is"\nresamples = 100\ncompare_item_knn = false\n'
    '[[variant]]\nname = "as it is"\n[[variant]]\nname = "other"\ntraining.learning_rate = 1e-4\n'
)
SPACE = SMALL.format(kind="tuning") + (
    "trials = 1\nrandom_trials = 1\nfinalists = 1\n[space]\n"
    '"training.learning_rate" = { choices = [1e-4, 1e-3] }\n'
)


@pytest.mark.parametrize(
    ("command", "files"),
    [
        (("plan", "tiny.toml"), {}),
        (("show", "index", "tiny.toml", "--schemes", "numbers"), {}),
        (("ablate", "grid.toml", "--out", "out"), {"grid.toml": GRID}),
        (("tune", "tiny.toml", "space.toml", "--out", "out"), {"space.toml": SPACE}),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_notes_are_in_the_terminal_and_in_the_json_of_every_command_that_reads_data(
    experiment: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], files: dict[str, str]
) -> None:
    monkeypatch.chdir(experiment.parent)
    for name, text in files.items():
        Path(name).write_text(text)
    shown = call(*command)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.count(f"Note: {NOTE}") == 1 and "are taken as Unix milliseconds" in shown.stdout
    values = json.loads(call(*command, "--json").stdout)
    for one in values if isinstance(values, list) else [values]:
        assert len(one["notes"]) == 1 and one["notes"][0].startswith(NOTE)
    for form in Path("out").glob("*.[hm][td]*"):
        assert "values are taken as Unix milliseconds" in html.unescape(form.read_text()), form.name


def test_a_sample_is_shown_with_the_notes_on_its_data(experiment: Path) -> None:
    shown = call("show", "sample", "retrieval", experiment)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.count(f"Note: {NOTE}") == 1
