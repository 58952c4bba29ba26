"""One process at a time in a folder: with real processes, started at once, killed, and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shelftalk.errors import InUse
from shelftalk.runtime.run_folder import LOCK_FILE, RunFolder, alone_beside, alone_in, beside

HOLD = """
import sys, time
from pathlib import Path
from shelftalk.runtime.run_folder import alone_in
with alone_in(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
COUNT = """
import sys, time
from pathlib import Path
from shelftalk.errors import InUse
from shelftalk.runtime.run_folder import alone_in
folder = Path(sys.argv[1])
while True:
    try:
        with alone_in(folder):
            number = int((folder / "number").read_text())
            time.sleep(0.001)
            (folder / "number").write_text(str(number + 1))
            if number >= int(sys.argv[2]):
                break
    except InUse:
        pass
"""


def started(program: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )


def test_a_second_process_is_refused_with_who_where_and_since_when(tmp_path: Path) -> None:
    holder = started(HOLD, tmp_path / "run")
    try:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        who, remedy = rf'process {holder.pid} on ".+", since 20\d\d-.* UTC', "or choose another --out"
        refusal = rf"{who}; wait until that has ended, {remedy}\.$"
        for _ in range(2):
            with pytest.raises(InUse, match=refusal), alone_in(tmp_path / "run"):
                pytest.fail("two were let in")
    finally:
        holder.kill()
        holder.wait()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no kill -9")
def test_a_killed_process_leaves_nothing_that_keeps_others_out(tmp_path: Path) -> None:
    holder = started(HOLD, tmp_path)
    assert holder.stdout and holder.stdout.readline() == "held\n"
    holder.kill()
    holder.wait()
    assert (tmp_path / LOCK_FILE).exists()
    with alone_in(tmp_path):
        assert json.loads((tmp_path / LOCK_FILE).read_text())["process"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_processes_that_come_and_go_never_meet_inside(tmp_path: Path) -> None:
    """The lock file is removed and made anew all the time,
    so that one may be locked which others see no more."""
    (tmp_path / "number").write_text("0")
    processes = [started(COUNT, tmp_path, 150) for _ in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    # each adds one more after the last, or finds that the number has been reached
    assert 151 <= int((tmp_path / "number").read_text()) <= 153


def test_a_thread_enters_again_what_it_holds_and_another_thread_does_not(tmp_path: Path) -> None:
    refused: list[Exception] = []

    def enter() -> None:
        try:
            with RunFolder(tmp_path).alone():
                pass
        except InUse as error:
            refused.append(error)

    with alone_in(tmp_path):
        enter()
        assert (tmp_path / LOCK_FILE).exists() and not refused
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
    assert len(refused) == 1 and not (tmp_path / LOCK_FILE).exists()


def test_a_folder_that_was_made_for_the_lock_goes_with_it_when_nothing_was_written(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), alone_in(tmp_path / "a" / "run"):
        raise ZeroDivisionError
    assert not (tmp_path / "a" / "run").exists()
    with alone_in(tmp_path / "a" / "run"):
        (tmp_path / "a" / "run" / "file").touch()
    assert [path.name for path in (tmp_path / "a" / "run").iterdir()] == ["file"]


def test_what_is_replaced_as_a_whole_is_locked_beside_and_cleaned_of_what_was_left(tmp_path: Path) -> None:
    (tmp_path / ".model.0a1b2c3d.part").mkdir()
    (tmp_path / ".other.0a1b2c3d.part").mkdir()
    with alone_beside(tmp_path / "model", "another --to"), beside(tmp_path / "model") as part:
        part.mkdir()
        assert {path.name for path in tmp_path.iterdir()} == {
            ".model.lock",
            ".other.0a1b2c3d.part",
            part.name,
        }
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.0a1b2c3d.part", "model"]


def test_where_locks_are_not_supported_a_warning_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(file: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("shelftalk.runtime.locks._lock", unsupported)
    with pytest.warns(UserWarning, match="supports no locks"), alone_in(tmp_path):
        pass


def test_the_first_of_several_processes_holds_the_lock_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with alone_in(tmp_path):
        monkeypatch.setenv("RANK", "1")
        monkeypatch.setenv("WORLD_SIZE", "2")
        with ThreadPoolExecutor(1) as other, alone_in(tmp_path):
            assert other.submit(entered, tmp_path).result()


def entered(folder: Path) -> bool:
    with alone_in(folder):
        return True
