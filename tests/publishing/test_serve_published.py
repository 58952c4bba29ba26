"""`shelftalk serve` of a published folder as a process: answers, signals, a restart after kill -9."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shelftalk.publishing import open_recommender
from shelftalk.records import Request
from tests.end_to_end.tiny import call


@contextmanager
def served(folder: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its address."""
    command = [sys.executable, "-m", "shelftalk", "serve", str(folder), "--port", "0", *more]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    log = (folder.parent / "serve.log").open("a")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert " at http://127.0.0.1:" in line, (folder.parent / "serve.log").read_text()
        yield process, line.split(" at ")[1].split()[0]
    finally:
        process.kill()
        process.wait()
        log.close()


def ask(url: str, path: str, body: Any = None, method: str | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"content-type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def logged(folder: Path, event: str) -> list[dict[str, Any]]:
    lines = (folder.parent / "serve.log").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if entry["event"] == event]


def test_a_published_folder_is_served_survives_a_kill_and_ends_in_order(
    published: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(published, tmp_path / "model"))
    model = open_recommender(folder)
    recommender: Any = getattr(model, "recommender", model)
    history = (
        recommender.index.item_ids[:2]
        if hasattr(recommender, "index")
        else recommender.model.index.item_ids[:2]
    )
    (expected,) = recommender.recommend([Request("", history)], 5)
    with served(folder) as (process, url):
        answer = ask(url, "/v1/recommend", {"history": history, "k": 5})
        assert [one["item"] for one in answer["items"]] == list(expected.items)
        ask(url, "/v1/items/new", {"title": "Amber lamps No. 9"}, "PUT")
        ask(url, "/v1/events", {"events": [{"user": "ann", "key": "1", "item": "new"}]})
        process.send_signal(signal.SIGKILL)
    assert (tmp_path / "model.store.sqlite").exists()
    with served(folder, "--limit", "drain_seconds=0.2") as (process, url):
        only = {"history": [], "filter": {"only": ["new"]}}
        assert [one["item"] for one in ask(url, "/v1/recommend", only)["items"]] == ["new"]
        assert ask(url, "/v1/users/ann")["events"][0]["item"] == "new"
        process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 60
        while not logged(folder, "reloaded") and time.monotonic() < deadline:
            time.sleep(0.1)
        assert [one["item"] for one in ask(url, "/v1/recommend", only)["items"]] == ["new"]
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        assert logged(folder, "stopped")[-1]["all_answered"] is True


def test_what_cannot_be_served_is_one_sentence(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments, sentence in (
        ((tmp_path,), "neither a published model"),
        ((published, "--host", "0.0.0.0"), "--api-key-file"),
        ((published, "--also", "x"), "--also NAME=FOLDER"),
        ((published, "--limit", "secnds=3"), "secnds"),
        ((published, "--store", "mysql://x"), "postgresql://"),
        ((published, "--model", "none", "--store", tmp_path / "s"), "leave --model out"),
    ):
        result = call("serve", *arguments, "--port", "0")
        assert result.exit_code == 2 and sentence in result.output, result.output
        assert result.output.strip().count("\n") == 0
    monkeypatch.setattr("shelftalk.app.serve_commands.find_spec", lambda name: None)
    result = call("serve", published)
    assert result.exit_code == 2 and 'pip install "shelftalk[serve]"' in result.output
