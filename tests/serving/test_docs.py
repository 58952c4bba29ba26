"""docs/serving.md and deploy/: every `curl` of the page is sent to a real service, every command line of the
files is one of the program."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

import polars as pl
import pytest

from shelftalk.data.dataset import Dataset
from shelftalk.serving import running
from shelftalk.serving.answering import AnsweringModel, answering
from shelftalk.testing.exams import exam_split
from tests.serving.running import serving
from tests.serving.test_live_model import untrained_with_titles
from tests.test_docs_examples import parse

ROOT = Path(__file__).parents[2]


def shop(path: Path, model: str | None = None) -> AnsweringModel:
    """The tiny world with the ids of the page."""
    recommender = untrained_with_titles(_renamed(exam_split().dataset))
    items = next(iter(recommender.tasks.values())).context.split.dataset.items
    return answering(recommender, items)


def _renamed(dataset: Dataset) -> tuple[pl.DataFrame, pl.DataFrame]:
    ids = {item: f"B{row:02}" for row, item in enumerate(dataset.item_ids)}
    return tuple(  # type: ignore[return-value]
        frame.with_columns(pl.col("item_id").replace(ids)) for frame in (dataset.items, dataset.events)
    )


def test_every_call_of_the_page_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = re.findall(r"^curl .*$", (ROOT / "docs" / "serving.md").read_text("utf-8"), re.MULTILINE)
    assert len(lines) >= 15
    with serving(str(tmp_path / "store.sqlite"), monkeypatch, opener=shop) as client:
        for line in lines:
            words = shlex.split(line)
            given = dict(zip(words, words[1:], strict=False))
            url = urlsplit("http://" + next(word for word in words if word.startswith("localhost")))
            body = given.get("--json")
            method = given.get("-X", "GET" if body is None else "POST")
            path = url.path + (f"?{url.query}" if url.query else "")
            status, answer, _ = client.call(method, path, None if body is None else json.loads(body))
            assert 200 <= status < 300, f"{line}: {answer}"


def test_the_command_lines_of_the_deployment_files_are_commands() -> None:
    container = (ROOT / "deploy" / "Containerfile").read_text("utf-8")
    unit = (ROOT / "deploy" / "shelftalk.service").read_text("utf-8")
    lines = [*re.findall(r"^CMD exec (.*)$", container, re.MULTILINE)]
    lines += re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program.endswith("shelftalk")
        parse(arguments, line)
        limits = [text for name, text in zip(arguments, arguments[1:], strict=False) if name == "--limit"]
        assert running.limits(limits).drain_seconds == 5
    for path in re.findall(r"^COPY (.*) /build", container, re.MULTILINE):
        for name in path.split():
            assert (ROOT / name).exists()
