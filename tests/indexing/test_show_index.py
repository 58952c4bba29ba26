"""`shelftalk show index`: what each scheme costs before any training, and the run of a scheme that leaks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shelftalk import parts
from shelftalk.testing.worlds import tiny_world
from tests.end_to_end.tiny import call, save_world, write_experiment


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    data = save_world(tiny_world(users=30, items=50), folder / "data")
    return write_experiment(
        folder / "tiny.toml", data, index={"dimensions": 8, "codes": 4, "clusters": 3, "leaf_items": 8}
    )


def test_every_scheme_that_does_not_leak_has_a_row(experiment):
    result = call("show", "index", experiment, "--json")
    assert result.exit_code == 0, result.output
    rows = {row["scheme"]: row for row in json.loads(result.stdout)}
    assert set(rows) == {name for name, scheme in parts.INDEXINGS.items() if not scheme.leaks}
    assert all(row["items"] == 50 and not row["leaks"] for row in rows.values())
    assert (rows["atomic"]["tokens_mean"], rows["semantic"]["tokens_max"], rows["numbers"]["symbols"]) == (
        1,
        3,
        0,
    )
    assert (
        rows["mixed"]["tokens_mean"] > rows["titles"]["tokens_mean"] > rows["titles"]["tokens_until_unique"]
    )


def test_a_table_is_printed_and_a_leak_is_reported(experiment, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    printed = call("show", "index", experiment, "--schemes", "sequential, titles").stdout
    assert (
        "sequential (leaks)" in printed
        and "leak held-out items" in printed
        and "titles" in printed
        and "atomic" not in printed
    )


def test_an_unknown_scheme_is_reported(experiment):
    result = call("show", "index", experiment, "--schemes", "atomics")
    assert result.exit_code == 2 and 'did you mean "atomic"?' in result.stderr


def test_an_index_that_leaks_warns_when_it_is_made(experiment, tmp_path):
    call("prepare", experiment, "--out", tmp_path / "run")
    plain = call("index", experiment, "--out", tmp_path / "run").stdout
    leaking = write_experiment(
        experiment.with_name("leaking.toml"), experiment.with_name("data"), index={"scheme": "sequential"}
    )
    call("prepare", leaking, "--out", tmp_path / "other")
    result = call("index", leaking, "--out", tmp_path / "other")
    assert result.exit_code == 0 and "Warning" not in plain
    assert "Warning: the names are numbers in order of appearance, which leak held-out items" in result.stdout
