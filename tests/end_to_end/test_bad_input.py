"""Bad input: one clear sentence with the remedy, exit code 2, and nothing of an earlier run lost."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import Result

from shelftalk.runtime.run_folder import RunFolder
from shelftalk.testing.worlds import EVIL_TEXTS, nasty_world, tiny_world
from tests.end_to_end.tiny import call, contents, done_again, save_world, write_experiment

Damage = Callable[[Path], object]
SKIPPED_BY_PROGRESS = ("prepare: ", "index: ", "write: ", "train: ", "recommend.", "evaluate: ", "report: ")


def refused(result: Result, kind: str, *remedy: str) -> None:
    """Exit code 2, no traceback, and on standard error one line beside the progress."""
    assert result.exit_code == 2, (result.exit_code, result.output, result.exception)
    errors = [line for line in result.stderr.splitlines() if not line.startswith(SKIPPED_BY_PROGRESS)]
    assert len(errors) == 1, errors
    assert errors[0].startswith(f"{kind}: ") and all(word in errors[0] for word in remedy), errors[0]


def events(change: Callable[[pl.DataFrame], pl.DataFrame]) -> Damage:
    def damage(data: Path) -> None:
        change(pl.read_parquet(data / "interactions.parquet")).write_parquet(data / "interactions.parquet")

    return damage


def items(change: Callable[[pl.DataFrame], pl.DataFrame]) -> Damage:
    def damage(data: Path) -> None:
        change(pl.read_parquet(data / "items.parquet")).write_parquet(data / "items.parquet")

    return damage


def as_csv(change: Callable[[str], str]) -> Damage:
    def damage(data: Path) -> None:
        text = pl.read_parquet(data / "interactions.parquet").write_csv()
        (data / "interactions.parquet").unlink()
        (data / "interactions.csv").write_text(change(text))

    return damage


def truncated(data: Path) -> None:
    path = data / "interactions.parquet"
    path.write_bytes(path.read_bytes()[:-200])


def without_first_item(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(pl.col("item_id") != "i3")


def short_users(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(pl.int_range(pl.len()).over("user_id") < 2)


def not_a_number(column: str) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda frame: frame.with_columns(
        pl.when(pl.int_range(pl.len()) == 5)
        .then(float("nan"))
        .otherwise(pl.col(column).cast(pl.Float64))
        .alias(column)
    )


def few_ratings(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(rating=pl.when(pl.int_range(pl.len()) < 3).then(pl.col("rating")))


FAULTS: dict[str, tuple[Damage, str, tuple[str, ...]]] = {
    "missing folder": (shutil.rmtree, "MissingFile", ("data.folder",)),
    "missing file": (lambda data: (data / "items.parquet").unlink(), "MissingFile", ("items", "add it")),
    "missing column": (
        events(lambda f: f.rename({"user_id": "reader"})),
        "MissingColumn",
        ("user_id", "data.interactions_columns"),
    ),
    "unknown item": (items(without_first_item), "UnknownItem", ('"i3"', "add it to the items file")),
    "duplicated item": (items(lambda f: pl.concat([f, f.head(1)])), "DuplicateItem", ("keep one row each",)),
    "too few events": (
        events(short_users),
        "TooFewEvents",
        ("none of the 30 users has 3", "give interactions over a longer time"),
    ),
    "truncated parquet": (truncated, "UnreadableFile", ("interactions.parquet",)),
    "empty file": (
        lambda data: (data / "items.parquet").write_bytes(b""),
        "UnreadableFile",
        ("at least one row",),
    ),
    "mixed types in a CSV": (
        as_csv(lambda t: t.replace("14", "yesterday", 1)),
        "BadValue",
        ("timestamp", "yesterday"),
    ),
    "time not a number": (events(not_a_number("timestamp")), "BadValue", ("timestamp",)),
    "rating not a number": (events(not_a_number("rating")), "BadValue", ("rating",)),
}


@pytest.fixture(params=FAULTS)
def fault(request: pytest.FixtureRequest) -> tuple[Damage, str, tuple[str, ...]]:
    return FAULTS[request.param]


def test_bad_data_is_refused_and_nothing_of_an_earlier_run_is_lost(
    fault: tuple[Damage, str, tuple[str, ...]], tmp_path: Path
) -> None:
    damage, kind, remedy = fault
    data, run = save_world(tiny_world(users=30, items=50), tmp_path / "data"), tmp_path / "run"
    experiment = write_experiment(tmp_path / "tiny.toml", data, models=["popularity"])
    assert call("run", experiment, "--out", run).exit_code == 0
    before = contents(run)
    shutil.copytree(data, tmp_path / "kept")
    damage(data)
    refused(call("run", experiment, "--out", run), kind, *remedy)
    assert contents(run) == before
    shutil.rmtree(data, ignore_errors=True)
    shutil.copytree(tmp_path / "kept", data)
    assert done_again(call("run", experiment, "--out", run, "--json")) == set()


@pytest.mark.parametrize(
    ("changes", "kind", "remedy"),
    [
        ({"data": {"k_core": 40}}, "NothingLeft", ("data.k_core =",)),
        ({"split": {"ranking_negatives": 99}}, "NothingLeft", ("split.ranking_negatives",)),
        ({"training": {"epoch": 3}}, "UnknownSetting", ('"training.epoch"', 'did you mean "epochs"?')),
        ({"nanno": {"width": 3}}, "UnknownSetting", ('did you mean "nano"?',)),
        ({"training": {"epochs": "three"}}, "SettingsError", ("training.epochs", "three")),
        ({"training": {"epochs": 0}}, "SettingsError", ("training.epochs",)),
        ({"nano": {"width": 33}}, "SettingsError", ("nano.width",)),
        ({"name": "../away"}, "SettingsError", ("name",)),
        ({"tasks": {"retreival": {}}}, "UnknownPart", ('did you mean "retrieval"?',)),
        (
            {"tasks": {"retrieval": {"wieght": 2.0}}},
            "UnknownSetting",
            ('"tasks.retrieval.wieght"', 'did you mean "weight"?'),
        ),
        ({"tasks": 3}, "SettingsError", ("tasks",)),
        ({"index": {"scheme": "semantics"}}, "UnknownPart", ('did you mean "semantic"?',)),
        ({"models": ["item_nn"]}, "UnknownPart", ('did you mean "item_knn"?',)),
        ({"models": ["nowhere.at_all:build"]}, "UnknownPart", ("install its package",)),
        ({"models": []}, "SettingsError", ("models",)),
        ({"data": {"bundled": "movielens-small"}}, "SettingsError", ("set one of them",)),
    ],
)
def test_bad_settings_are_refused(
    changes: dict[str, Any], kind: str, remedy: tuple[str, ...], world: Path, tmp_path: Path
) -> None:
    models = changes.pop("models", ["aligned"])
    experiment = write_experiment(tmp_path / "tiny.toml", world, models=models, **changes)
    refused(call("run", experiment, "--out", tmp_path / "run"), kind, *remedy)


@pytest.mark.parametrize(
    ("text", "word"), [("[data\n", "line 1"), ('name = "a"\nname = "b"\n', "line 2"), ("\udcff", "TOML")]
)
def test_a_file_that_is_not_toml_is_refused(text: str, word: str, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
    refused(call("run", tmp_path / "bad.toml", "--out", tmp_path / "run"), "SettingsError", word)


def test_an_experiment_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    refused(call("run", tmp_path / "none.toml"), "MissingFile", "correct the path")
    refused(call("run", tmp_path), "MissingFile", "is a folder")


def test_an_unknown_kind_of_sample_is_refused(experiment_file: Path) -> None:
    refused(call("show", "sample", "ratings", experiment_file), "UnknownPart", 'did you mean "rating"?')


def test_a_run_folder_that_is_a_file_is_refused(experiment_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    refused(
        call("run", experiment_file, "--out", tmp_path / "file"), "AnotherExperiment", "choose another --out"
    )
    refused(
        call("run", experiment_file, "--out", tmp_path / "file" / "in"),
        "NotADirectoryError",
        "choose another path",
    )
    assert contents(tmp_path) == {"file": b"mine"}


def test_a_folder_of_another_experiment_is_refused(finished: RunFolder, world: Path, tmp_path: Path) -> None:
    before = contents(finished.path)
    other = write_experiment(tmp_path / "tiny.toml", world, training={"epochs": 3})
    refused(
        call("run", other, "--out", finished.path), "AnotherExperiment", "training.epochs", "another --out"
    )
    assert contents(finished.path) == before


@pytest.mark.parametrize("full_from", [1, 4, 9, 12])
def test_a_full_device_is_reported_and_the_finished_stages_are_kept(
    full_from: int, experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every renaming from number `full_from` on fails as on
    a full device; with room again the run goes on."""
    replace, calls = os.replace, []

    def full(source: Any, target: Any, **more: Any) -> None:
        calls.append(target)
        if len(calls) >= full_from:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source))
        replace(source, target, **more)

    arguments = (
        "run",
        experiment_file,
        "--models",
        "item_knn,popularity",
        "--out",
        tmp_path / "run",
        "--json",
    )
    with monkeypatch.context() as broken:
        broken.setattr(os, "replace", full)
        refused(call(*arguments), "NoSpace", "make room or choose another --out")
    assert [name for name in contents(tmp_path) if name.endswith(".part")] == []
    finished = {path.stem for path in (tmp_path / "run").glob("stages/*.json")}
    stages = {"prepare", "recommend.item_knn", "recommend.popularity", "evaluate", "report"}
    assert done_again(call(*arguments)) == stages - finished


def test_evil_titles_go_through_the_whole_run_and_nothing_escapes(tmp_path: Path) -> None:
    data = save_world(nasty_world(users=30, items=60), tmp_path / "data")
    changes = {
        "text": {"fields": ["title", "brand", "categories", "description"]},
        "training": {"max_steps": 4},
    }
    experiment = write_experiment(
        tmp_path / "tiny.toml", data, evaluation={"resamples": 100, "shown_users": 30}, **changes
    )
    result = call("run", experiment, "--out", tmp_path / "run")
    assert result.exit_code == 0, (result.output, result.exception)
    page = (tmp_path / "run" / "report.html").read_text()
    assert not any(tag in page.lower() for tag in ("<script", "<img", "<b>", "onerror=alert(1)>"))
    assert "&lt;script&gt;" in page  # shown, and harmless
    assert not any(character in page for character in "\x00\x07\x1b\x1f")


def test_titles_as_names_survive_evil_titles_too(tmp_path: Path) -> None:
    data = save_world(nasty_world(users=30, items=60), tmp_path / "data")
    experiment = write_experiment(
        tmp_path / "tiny.toml",
        data,
        index={"scheme": "titles"},
        training={"max_steps": 2},
        models=["aligned"],
    )
    result = call("run", experiment, "--out", tmp_path / "run")
    assert result.exit_code == 0, (result.output, result.exception)
    duplicates = write_experiment(
        tmp_path / "two.toml", data, index={"scheme": "titles", "disambiguate": False}
    )
    refused(call("index", duplicates, "--out", tmp_path / "run"), "AnotherExperiment", "index")
    call("prepare", duplicates, "--out", tmp_path / "two")
    refused(
        call("index", duplicates, "--out", tmp_path / "two"), "DuplicateName", "index.disambiguate = true"
    )


def test_a_sentence_is_one_line_whatever_title_it_quotes(tmp_path: Path) -> None:
    data = save_world(tiny_world(users=30, items=50), tmp_path / "data")
    items(lambda f: f.with_columns(title=pl.lit("two\nlines \x1b[31m")))(data)
    experiment = write_experiment(
        tmp_path / "tiny.toml", data, index={"scheme": "titles", "disambiguate": False}
    )
    refused(call("run", experiment, "--out", tmp_path / "run"), "DuplicateName", "disambiguate")


def test_there_are_evil_texts_to_try() -> None:
    assert any("<script>" in text for text in EVIL_TEXTS) and any("\x1b" in text for text in EVIL_TEXTS)


def test_too_few_ratings_leave_rating_prediction_out_and_say_so(tmp_path: Path) -> None:
    data = save_world(tiny_world(users=30, items=50), tmp_path / "data")
    events(few_ratings)(data)
    result = call(
        "run",
        write_experiment(tmp_path / "tiny.toml", data, models=["popularity"]),
        "--out",
        tmp_path / "run",
    )
    assert result.exit_code == 0, result.output
    assert "too few ratings" in result.output
