"""A few dozen damaged files of every format; benchmarks/fuzz.py has a thousand of each."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings

from benchmarks._fuzzing import KINDS, made_up, outcome, read, save, trials, whole_files
from benchmarks.fuzz import LINES, TEXTS


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_gives_a_result_or_one_error_that_names_it(tmp_path: Path, kind: str) -> None:
    outcomes = trials(kind, 24, 7, tmp_path)
    assert [one for one in outcomes if one.verdict not in ("result", "error", "cut")] == []
    assert any(one.verdict == "error" for one in outcomes)


@pytest.mark.parametrize("kind", TEXTS)
def test_arbitrary_lines_give_a_result_or_one_error_that_names_the_file(tmp_path: Path, kind: str) -> None:
    files = whole_files(kind)
    save(tmp_path / "data", files)
    before = read(kind, tmp_path / "data")

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(LINES)
    @example(['"'])
    @example(["\ud800"])
    @example(["u,item-000,1", "u,item-000,\x00"])
    def trial(lines: list[str]) -> None:
        save(tmp_path / "data", {**files, f"interactions.{kind}": made_up(kind, lines)})
        one = outcome(kind, tmp_path / "data", before)
        assert one.verdict in ("result", "error", "smaller"), one

    trial()


def test_a_loss_that_is_not_told_and_a_crash_would_be_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "data", whole_files("csv"))
    before = read("csv", tmp_path / "data")
    text = (tmp_path / "data/interactions.csv").read_text()
    (tmp_path / "data/interactions.csv").write_text(text[: text.rstrip().rindex("\n") + 1])
    assert outcome("csv", tmp_path / "data", before).verdict == "smaller"
    monkeypatch.setattr("benchmarks._fuzzing.read", lambda *_: 1 // 0)
    assert outcome("csv", tmp_path / "data", before).verdict == "crash"
