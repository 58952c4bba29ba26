"""The command line: what it prints without a command, and how it fails."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from shelftalk.app.cli import app
from shelftalk.app.guard import guarded
from shelftalk.errors import BadValue

STAGES = ("run", "prepare", "index", "write", "train", "recommend", "evaluate", "report")


@pytest.mark.parametrize("command", STAGES)
def test_every_stage_has_a_command_with_the_same_options(command: str) -> None:
    help_text = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).stdout
    assert all(
        option in help_text
        for option in ("--out", "--seed", "--models", "--data", "--interactions", "--items", "--json")
    )


def test_without_a_command_the_commands_are_listed() -> None:
    assert all(name in CliRunner().invoke(app, []).output for name in (*STAGES, "show", "doctor"))


def fail_with(error: BaseException) -> None:
    def work() -> None:
        raise error

    guarded(work)


def test_what_a_user_can_correct_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Exception) as caught:
        fail_with(BadValue("a title\nwith \x1b[31m colours; correct it."))
    assert caught.value.exit_code == 2  # type: ignore[attr-defined]
    assert capsys.readouterr().err == "BadValue: a title with  [31m colours; correct it.\n"


def test_an_interruption_reports_that_nothing_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Exception) as caught:
        fail_with(KeyboardInterrupt())
    assert caught.value.exit_code == 130  # type: ignore[attr-defined]
    assert "continues where it stopped" in capsys.readouterr().err


def test_a_defect_of_ours_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        fail_with(ZeroDivisionError())
