"""A batch answers as the model does, continues after a kill, and makes the same file to the byte whatever
engine, workers and interruptions there were."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest

import shelftalk
from shelftalk.batch import engines
from shelftalk.batch.answering import Answerer
from shelftalk.batch.request_files import request_of, rows_of
from shelftalk.batch.run import Answered, answer_file
from shelftalk.errors import AnotherExperiment, BadValue, ProcessEnded, SettingsError
from shelftalk.publishing.served_model import ServedModel
from tests.batch.rows import rows_for, write
from tests.end_to_end.tiny import call

ROWS, SHARD = 70, 16


@pytest.fixture(scope="module")
def model(with_its_prior: Path) -> ServedModel:
    return shelftalk.load(with_its_prior)


@pytest.fixture(scope="module")
def requests(model: ServedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = rows_for(model.items["item_id"].to_list(), ROWS)
    rows[9]["history"] = [*rows[9]["history"], {"text": "a red lamp"}]
    return write(tmp_path_factory.mktemp("batch") / "requests.jsonl", rows)


@pytest.fixture(scope="module")
def whole(with_its_prior: Path, requests: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The answers of a batch that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "answers.parquet"
    done = batch(with_its_prior, requests, out)
    assert (done.rows, done.answered) == (ROWS, ROWS) and not out.with_name("answers.parquet.parts").exists()
    return out


def batch(model: Path, requests: Path, out: Path, **more: Any) -> Answered:
    return answer_file(model, requests, out, **({"k": 5, "workers": 1, "shard_size": SHARD} | more))


def test_the_answers_are_those_of_the_model_in_the_order_of_the_requests(
    model: ServedModel, requests: Path, whole: Path
) -> None:
    asked = [request_of(row) for row in rows_of(requests)]
    table = pl.read_parquet(whole)
    assert table.columns == ["user_id", "items", "scores"]
    assert table["user_id"].to_list() == [request.user for request in asked]
    expected = [
        one for start in range(0, ROWS, SHARD) for one in model.recommend(asked[start : start + SHARD], 5)
    ]
    assert table["items"].to_list() == [list(one.items) for one in expected]
    scores = [score for row in table["scores"].to_list() for score in row]
    assert scores == pytest.approx([score for one in expected for score in one.scores], abs=1e-6)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_other_formats_hold_the_same(
    suffix: str,
    with_its_prior: Path,
    requests: Path,
    whole: Path,
    tmp_path: Path,
) -> None:
    batch(with_its_prior, requests, tmp_path / f"out{suffix}")
    if suffix == ".jsonl":
        rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    else:
        table = pl.read_csv(tmp_path / f"out{suffix}", separator="\t" if suffix == ".tsv" else ",")
        rows = [{**row, **{n: json.loads(row[n]) for n in ("items", "scores")}} for row in table.to_dicts()]
    assert rows == pl.read_parquet(whole).to_dicts()


def test_two_processes_make_the_same_file(
    with_its_prior: Path,
    requests: Path,
    whole: Path,
    tmp_path: Path,
) -> None:
    batch(with_its_prior, requests, tmp_path / "out.parquet", workers=2)
    assert (tmp_path / "out.parquet").read_bytes() == whole.read_bytes()


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray, an extra, is not installed")
def test_ray_with_two_workers_makes_the_same_file(
    with_its_prior: Path,
    requests: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(shelftalk.__file__).parents[1]))
    batch(with_its_prior, requests, tmp_path / "out.parquet", engine="ray", workers=2)
    assert (tmp_path / "out.parquet").read_bytes() == whole.read_bytes()


def test_a_batch_that_was_killed_continues_and_makes_the_same_file(
    with_its_prior: Path,
    requests: Path,
    whole: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "out.parquet"
    parts = tmp_path / "out.parquet.parts"
    command = [
        sys.executable,
        "-m",
        "shelftalk",
        "batch",
        with_its_prior,
        "--requests",
        requests,
        "--out",
        out,
    ]
    command += ["--k", "5", "--shard-size", SHARD, "--workers", "2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(shelftalk.__file__).parents[1])}
    process = subprocess.Popen(list(map(str, command)), env=environment, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(parts.glob("answers-*.parquet")):
        time.sleep(0.005)
    workers = psutil.Process(process.pid).children()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=60)  # they end by themselves
    assert workers and not alive
    left = len(list(parts.glob("answers-*.parquet")))
    assert not out.exists() and left >= 1
    (parts / ".answers-000004.parquet.0123abcd.part").write_bytes(b"half")
    one = sorted(parts.glob("answers-*.parquet"))[0]
    one.write_bytes(one.read_bytes()[:-9])  # as if the machine had gone down
    done = batch(with_its_prior, requests, out)
    assert out.read_bytes() == whole.read_bytes() and done.rows == ROWS and not parts.exists()
    assert done.answered >= ROWS - left * SHARD + 6


def test_what_another_batch_left_or_made_is_never_replaced(
    with_its_prior: Path,
    requests: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(Answerer, "__call__", interrupted_after(2))
        with pytest.raises(KeyboardInterrupt):
            batch(with_its_prior, requests, out)
    assert len(list((tmp_path / "out.parquet.parts").glob("answers-*"))) == 2
    with pytest.raises(AnotherExperiment, match=r"another batch \(other: k\); remove that folder"):
        batch(with_its_prior, requests, out, k=6)
    assert batch(with_its_prior, requests, out).answered == ROWS - 2 * SHARD
    assert out.read_bytes() == whole.read_bytes()
    with pytest.raises(AnotherExperiment, match="is there already; remove it"):
        batch(with_its_prior, requests, out)
    out.unlink()  # as it says
    batch(with_its_prior, requests, out)


def interrupted_after(shards: int) -> Any:
    done, answer = [], Answerer.__call__

    def call(self: Answerer, number: int) -> int:
        if len(done) == shards:
            raise KeyboardInterrupt
        done.append(number)
        return answer(self, number)

    return call


def test_a_bad_row_is_named_before_anything_is_answered_or_kept_with_its_error(
    with_its_prior: Path,
    model: ServedModel,
    tmp_path: Path,
) -> None:
    items = model.items["item_id"].to_list()
    rows = rows_for(items, 20)
    rows[11]["history"] = ["no such item"]
    rows[13]["filter"] = {"brands": ["no such brand"]}
    rows[17]["history"] = "no list"
    requests = write(tmp_path / "requests.jsonl", rows)
    with pytest.raises(BadValue, match='row 12 of .*"no such item".*; give words .*--keep-bad-rows'):
        batch(with_its_prior, requests, tmp_path / "out.parquet")
    assert not list(tmp_path.rglob("answers-*"))
    batch(with_its_prior, requests, tmp_path / "out.parquet", keep_bad_rows=True)  # as it says
    table = pl.read_parquet(tmp_path / "out.parquet")
    assert [row for row, error in enumerate(table["error"]) if error] == [11, 13, 17]
    assert table["user_id"].to_list() == [row["user_id"] for row in rows] and table["items"][11] is None
    good = [rows[row] for row in range(20) if row not in (11, 13, 17)]
    assert [one for one in table["items"].to_list() if one] == [
        list(one.items) for one in model.recommend([request_of(row) for row in good], 5)
    ]


def test_an_error_that_comes_up_while_answering_ends_the_batch_or_one_row(
    with_its_prior: Path,
    requests: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = Answerer._asked

    def refuse(self: Answerer, given: Any) -> Any:
        if any(request.user == "u20" for request in given):
            raise BadValue("the prompt is too long; shorten it.")
        return asked(self, given)

    monkeypatch.setattr(Answerer, "_asked", refuse)
    with pytest.raises(BadValue, match="too long"):
        batch(with_its_prior, requests, tmp_path / "one.parquet")
    batch(with_its_prior, requests, tmp_path / "two.parquet", keep_bad_rows=True)
    errors = pl.read_parquet(tmp_path / "two.parquet")["error"].to_list()
    assert [row for row, error in enumerate(errors) if error] == [20] and "too long" in errors[20]


@pytest.mark.parametrize("task", ["ranking", "rating"])
def test_other_tasks_are_answered_too(
    task: Any,
    with_its_prior: Path,
    model: ServedModel,
    tmp_path: Path,
) -> None:
    items = model.items["item_id"].to_list()
    rows = [{"history": items[n : n + 3], "candidates": items[20:25], "item_id": items[n]} for n in range(10)]
    requests = tmp_path / "requests.jsonl"
    requests.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    batch(with_its_prior, requests, tmp_path / "out.parquet", task=task)
    asked, table = [request_of(row) for row in rows], pl.read_parquet(tmp_path / "out.parquet")
    if task == "rating":
        assert table["rating"].to_list() == pytest.approx(model.rate(asked), abs=1e-6)
    else:
        assert table["items"].to_list() == [list(one.items) for one in model.rank(asked)]


def test_no_requests_give_an_empty_file_and_wrong_options_a_sentence(
    with_its_prior: Path, tmp_path: Path
) -> None:
    (tmp_path / "none.csv").write_text("history\n")
    assert batch(with_its_prior, tmp_path / "none.csv", tmp_path / "out.csv").rows == 0
    assert (tmp_path / "out.csv").read_text() == "user_id,items,scores\n"
    for more in ({"engine": "spark"}, {"workers": 0}, {"shard_size": 0}, {"k": -1}, {"task": "writing"}):
        with pytest.raises(SettingsError):
            batch(with_its_prior, tmp_path / "none.csv", tmp_path / "two.csv", **more)


def test_the_command_says_what_it_did(
    with_its_prior: Path, requests: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.parquet"
    arguments = ["batch", with_its_prior, "--requests", requests, "--out", out, "--k", 5, "--workers", 1]
    result = call(*map(str, arguments), "--shard-size", str(SHARD), "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["requests"] == ROWS
    assert out.read_bytes() == whole.read_bytes() and f"answer: {ROWS}/{ROWS}" in result.stderr
    again = call(*map(str, arguments))
    assert again.exit_code == 2 and "is there already" in again.stderr


def test_without_ray_and_when_a_worker_dies_there_is_a_sentence(
    with_its_prior: Path,
    requests: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SettingsError, match=r'pip install "shelftalk\[ray\]"'):
        batch(with_its_prior, requests, tmp_path / "out.parquet", engine="ray")
    monkeypatch.setattr(engines, "_begin", os._exit)
    with pytest.raises(ProcessEnded, match="fewer --workers"):
        engines.answer_here(3, [0, 1], 2, print)  # type: ignore[arg-type]
