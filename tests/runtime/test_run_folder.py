"""RunFolder: finished or not at all, and nothing lost on the way."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shelftalk.errors import BadValue, NoSpace, StageMissing
from shelftalk.runtime.run_folder import RunFolder, TimeSpent, beside, fingerprint, space_needed, write_json


def counted(folder: RunFolder, inputs: dict[str, Any], calls: list[int], stage: str = "prepare") -> bool:
    """Do a stage that counts how often it is really done; whether it was skipped."""

    def work() -> dict[str, Any]:
        calls.append(1)
        return {"seen": len(calls)}

    return folder.do(stage, inputs, work).skipped


def test_a_finished_stage_is_skipped_until_its_inputs_change(tmp_path: Path) -> None:
    folder, calls = RunFolder(tmp_path), []  # type: ignore[var-annotated]
    assert [counted(folder, {"seed": 0, "sizes": (1, 2)}, calls) for _ in range(3)] == [False, True, True]
    assert not counted(folder, {"seed": 1, "sizes": (1, 2)}, calls)
    assert len(calls) == 2 and folder.needed("prepare").facts == {"seen": 2}


def test_a_stage_that_fails_is_not_finished(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    counted(folder, {"seed": 0}, [])
    with pytest.raises(ZeroDivisionError):
        folder.do("prepare", {"seed": 1}, lambda: {"never": 1 / 0})
    assert folder.record("prepare") is None


def test_a_stage_that_refuses_its_data_leaves_the_earlier_result_valid(tmp_path: Path) -> None:
    def refuse() -> dict[str, Any]:
        raise BadValue("no")

    folder, calls = RunFolder(tmp_path), []  # type: ignore[var-annotated]
    counted(folder, {"file": "good"}, calls)
    with pytest.raises(BadValue):
        folder.do("prepare", {"file": "bad"}, refuse)
    assert counted(folder, {"file": "good"}, calls)


def test_a_missing_stage_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(StageMissing, match="shelftalk train"):
        RunFolder(tmp_path).needed("train")


def test_the_fingerprint_follows_the_values_and_not_the_order_of_keys() -> None:
    assert fingerprint({"a": 1, "b": (2, 3)}) == fingerprint({"b": [2, 3], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_what_was_there_stays_when_writing_fails(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), beside(target) as part:
        part.write_text("half of the n")
        raise ZeroDivisionError
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "old"}


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for number in range(2):
        with beside(tmp_path / "folder") as part:
            part.mkdir()
            (part / f"file-{number}").write_text("")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["file-1"]


def test_what_a_killed_process_left_half_written_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".folder.part").mkdir()
    (tmp_path / ".folder.part" / "half").write_text("")
    with beside(tmp_path / "folder") as part:
        part.mkdir()
    assert not list((tmp_path / "folder").iterdir())


FULL = [
    OSError(errno.ENOSPC, "full"),
    OSError(errno.EDQUOT, "quota"),
    RuntimeError("foo: No space left on device (os error 28)"),
]


@pytest.mark.parametrize("error", FULL)
def test_a_full_device_is_reported_with_the_remedy_whichever_library_noticed_it(
    error: Exception, tmp_path: Path
) -> None:
    with pytest.raises(NoSpace, match="make room"), space_needed(tmp_path / "not" / "yet" / "there"):
        raise error


def test_other_errors_pass_through_unchanged(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="odd"), space_needed(tmp_path):
        raise OSError(errno.EIO, "odd")


def test_only_checkpoints_of_the_same_training_are_kept(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for inputs, kept in (({"seed": 0}, False), ({"seed": 0}, True), ({"seed": 1}, False)):
        folder.keep_checkpoints_of(inputs)
        assert (folder.checkpoints / "checkpoint-1").exists() == kept
        (folder.checkpoints / "checkpoint-1").mkdir(exist_ok=True)


def test_the_time_of_commands_that_were_killed_is_kept_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("shelftalk.runtime.run_folder.time", SimpleNamespace(perf_counter=lambda: now[0]))
    for started, before, moments in ((0.0, 0.0, (0.4, 7.0, 7.5)), (100.0, 7.0, (103.0,)), (200.0, 10.0, ())):
        now[0] = started
        spent = TimeSpent(tmp_path / "seconds.json")
        assert spent.before == before
        for now[0] in moments:
            spent.keep()
    record = RunFolder(tmp_path).do("train", {}, lambda: {"seconds_before": spent.before})
    assert record.seconds == 10.0 and RunFolder(tmp_path).needed("train").seconds == 10.0


def test_every_look_at_the_test_part_is_logged(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.test_evaluations() == 0
    assert [folder.count_test_evaluation(name) for name in ("popularity", "aligned")] == [1, 2]


def test_json_is_written_for_people_too(tmp_path: Path) -> None:
    write_json(tmp_path / "deep" / "file.json", {"title": "Amélie"})
    assert "Amélie" in (tmp_path / "deep" / "file.json").read_text("utf-8")
    assert json.loads((tmp_path / "deep" / "file.json").read_text("utf-8")) == {"title": "Amélie"}
    assert os.listdir(tmp_path / "deep") == ["file.json"]


@pytest.mark.parametrize(("free", "kind"), [(10**6, NoSpace), (10**12, RuntimeError)])
def test_what_torch_says_of_a_full_disk_is_believed_only_of_a_full_disk(
    free: int, kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "shelftalk.runtime.run_folder.shutil.disk_usage", lambda path: SimpleNamespace(free=free)
    )
    with pytest.raises(kind) as caught, space_needed(tmp_path):
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598")
    assert type(caught.value) is kind
