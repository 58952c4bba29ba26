"""Runs that cannot be compared: the sentence is read, the command given as it says, and they are compared."""

from __future__ import annotations

import re
from pathlib import Path

from tests.end_to_end.tiny import call


def told(*arguments: str | Path) -> str:
    result = call("compare", *arguments)
    assert result.exit_code == 2, result.output
    return " ".join(result.stderr.split())


def test_runs_are_compared_once_each_against_a_model_that_is_named(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    given = [folders["a0"], folders["a1"]]
    message = told(*given, given[0])
    twice = Path(re.findall(r'the run "(.+?)" is named twice; name each folder once', message)[0])
    assert twice == given[0].resolve()
    message = told(*given, "--reference", "item_kn")
    reference = re.findall(r'did you mean "(\w+)"', message)[0]
    assert "name another" in told(*given, tmp_path / "nowhere")
    assert call("compare", *given, "--reference", reference).exit_code == 0
