"""What the terminal and the pipe are shown: nothing that a reader needs is cut away."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console
from rich.table import Table

from shelftalk import parts
from shelftalk.app import console
from shelftalk.app.console import Progress, print_index_figures, print_plan
from shelftalk.pipeline.stages import SETTINGS_OF

FIGURES = {
    "items": 3496, "tokens_min": 3, "tokens_mean": 3.0, "tokens_p95": 3.0, "tokens_max": 17,
    "tokens_until_unique": 2.5, "shared_prefixes": 1234, "trie_nodes": 45678,
    "collision_share": 0.123, "symbols": 1024, "seconds": 12.3,
}  # fmt: skip
ROWS = [
    {**FIGURES, "scheme": scheme, "leaks": declared.leaks} for scheme, declared in parts.INDEXINGS.items()
]


@pytest.fixture(params=[(80, False), (40, False), (80, True), (40, True), (200, True)], ids=str)
def printed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Where the console prints, at a width, into a pipe or a terminal."""
    width, terminal = request.param
    text = io.StringIO()
    monkeypatch.setattr(
        console,
        "Console",
        lambda **how: Console(**how, file=text, width=width, force_terminal=terminal, color_system=None),
    )
    return text


def test_no_scheme_and_no_heading_of_the_index_figures_is_cut(printed: io.StringIO) -> None:
    print_index_figures(ROWS, as_json=False)
    text = printed.getvalue()
    assert "…" not in text and all(row["scheme"] in text and f"{row['trie_nodes']}" in text for row in ROWS)
    assert all(word in text for heading in console.INDEX_HEADINGS[1:] for word in heading.split())


def test_no_task_name_of_a_plan_is_cut(printed: io.StringIO) -> None:
    table = Table(title="samples")
    for heading in ("task", "samples", "prompt tokens", "target tokens", "histories cut", "beyond context"):
        table.add_column(heading)
    for task in parts.TASKS:
        table.add_row(task, "1,234,567", "1,234 / 1,234 / 1,234", "1,234 / 1,234 / 1,234", "12.3%", "12.3%")
    print_plan([table, "A sentence. " * 20], None)
    assert "…" not in printed.getvalue() and all(task in printed.getvalue() for task in parts.TASKS)


@pytest.mark.parametrize("width", [80, 120])
def test_a_long_description_leaves_stage_count_and_time_whole(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = io.StringIO()
    monkeypatch.setattr(
        console,
        "Console",
        lambda **how: Console(**how, file=text, width=width, force_terminal=True, color_system=None),
    )
    stages = [*SETTINGS_OF, "recommend.aligned+prior"]
    with Progress() as progress:
        for stage in stages:
            progress(stage, 1234, 12345, ", ".join(parts.MODELS) * 3)
    last = re.sub(r"\x1b\[[0-9;?]*\w", "", text.getvalue()).splitlines()[-len(stages) :]
    assert [line.split()[0] for line in last] == stages
    assert all(
        "1234/12345" in line and " left " in line and re.search(r"\d+:\d\d|-:--", line) for line in last
    )
    assert all("aligned" in line.partition(" left ")[2] for line in last) and max(map(len, last)) <= width


def test_on_a_pipe_a_line_names_what_is_done_and_is_not_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr(console, "Console", lambda **how: Console(**how, file=text, width=40))
    with Progress() as progress:
        for done, task in ((0, "retrieval"), (40, "retrieval"), (80, "ranking"), (120, "ranking")):
            progress("recommend.aligned+prior", done, 120, task)
    printed = text.getvalue().splitlines()
    assert printed == ["recommend.aligned+prior: 0/120 retrieval", "recommend.aligned+prior: 120/120 ranking"]


@pytest.mark.parametrize("terminal", [False, True])
def test_the_time_left_is_that_of_the_whole_stage_at_the_pace_of_this_process(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training that goes on at step 600 of 1,000 and takes
    a second a step has 380 seconds left after 20 of them."""
    clock, text = [0.0], io.StringIO()
    made = {
        "file": text,
        "width": 120,
        "force_terminal": terminal,
        "color_system": None,
        "get_time": lambda: clock[0],
    }
    monkeypatch.setattr(console, "Console", lambda **how: Console(**how, **made))
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    with Progress() as progress:
        for step in range(600, 621):
            progress("train", step, 1000, "loss 5.9")
            clock[0] += 1.0 if step < 620 else 0.0
    assert ("0:06:20" if terminal else "620/1000 loss 5.9, about 6 min 20 s left") in text.getvalue()


def test_no_time_left_is_told_before_a_hundredth_of_the_stage_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """16 of 26,040 requests after a minute of fitting a prior are no pace: "about 1508 min left"."""
    clock = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    progress = Progress()
    for done, seconds in ((0, 0.0), (16, 60.0), (259, 75.0), (2604, 90.0)):
        clock[0] = seconds
        progress("recommend.aligned+prior", done, 26040, "choosing weights")
    early, late = capsys.readouterr().err.split("2604/26040")
    assert "16/26040" in early and "left" not in early
    assert "about 13 min 30 s left" in late


def test_names_between_colons_stay_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Rich takes ":TIGER:" for an emoji."""
    Progress()("recommend.cornac:TIGER", 0, 4, "a shop's :tiger: [bold]tea")
    console.print_notes(['item ":tiger:" [bold]'])
    console.print_sample("retrieval", ":tiger:[bold]", [("a", True)])
    shown = capsys.readouterr()
    assert "recommend.cornac:TIGER: 0/4 a shop's :tiger: [bold]tea" in shown.err
    assert 'Note: item ":tiger:" [bold]' in shown.out and "':tiger:[bold]'" in shown.out
