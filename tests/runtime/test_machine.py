"""How threads wait: by the load, unless the user has set otherwise, and before torch is loaded; and the
memory of a block of work."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.threads import busy
from shelftalk.runtime import machine
from shelftalk.runtime.machine import (
    SPINS,
    THREAD_SETTINGS,
    memory_sampled,
    others_need_cores,
    set_thread_waiting,
)


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in THREAD_SETTINGS:
        monkeypatch.setenv(name, "")  # so that what a test sets is undone
        monkeypatch.delenv(name)


def set_by(monkeypatch: pytest.MonkeyPatch, *, busy: bool) -> dict[str, str]:
    """The settings of threads that are made on a machine that is busy or not."""
    monkeypatch.setattr(machine, "others_need_cores", lambda: busy)
    set_thread_waiting()
    return {name: os.environ[name] for name in THREAD_SETTINGS if name in os.environ}


def test_threads_that_nobody_spoke_of_wait_briefly_where_they_are_alone(monkeypatch: pytest.MonkeyPatch):
    assert set_by(monkeypatch, busy=False) == {"GOMP_SPINCOUNT": str(SPINS)}


def test_and_sleep_at_once_where_others_need_the_cores(monkeypatch: pytest.MonkeyPatch):
    assert set_by(monkeypatch, busy=True) == {"OMP_WAIT_POLICY": "PASSIVE"}


@pytest.mark.parametrize(
    ("running", "cores", "usable", "busy"),
    [
        (1, 2, 2, False),  # this thread alone
        (2, 2, 2, True),  # one other, and two threads of ours want both cores
        (5, 2, 2, True),
        (3, 8, 2, False),  # a container with two of eight cores
        (8, 8, 2, True),
    ],
)
def test_others_are_counted_against_the_cores_of_the_whole_machine(
    running: int, cores: int, usable: int, busy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    statistics = tmp_path / "stat"
    statistics.write_text(f"cpu  1 2 3\nprocs_running {running}\nprocs_blocked 9\n")
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(machine, "usable_cores", lambda: usable)
    assert others_need_cores(statistics) is busy


def test_a_process_that_runs_for_a_moment_alone_is_no_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    statistics, looks = tmp_path / "stat", iter([4, 4, 1, 1, 1])
    monkeypatch.setattr(machine.time, "sleep", lambda _: None)
    monkeypatch.setattr(Path, "read_text", lambda _: f"procs_running {next(looks)}")
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(machine, "usable_cores", lambda: 2)
    assert not others_need_cores(statistics) and next(looks, None) is None


def test_a_system_that_does_not_count_is_taken_as_idle(tmp_path: Path):
    assert not others_need_cores(tmp_path / "none")


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="Linux alone counts what runs")
def test_two_processes_that_count_for_every_core_are_seen():
    with busy(2 * (os.cpu_count() or 1)):
        time.sleep(0.3)
        assert others_need_cores()


@pytest.mark.parametrize("name", THREAD_SETTINGS)
def test_a_setting_of_the_users_own_stays_and_is_the_only_one(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    set_thread_waiting()
    assert [(other, os.environ[other]) for other in THREAD_SETTINGS if other in os.environ] == [(name, "1")]


@pytest.mark.parametrize("given", [{}, {"GOMP_SPINCOUNT": "77"}])
def test_the_command_line_sets_it_before_torch_is_loaded(given: dict[str, str]) -> None:
    """GNU OpenMP prints the settings that it has read when it is loaded."""
    environment = {**os.environ, **given, "OMP_DISPLAY_ENV": "VERBOSE"}
    program = "from shelftalk.app.cli import app; app(['doctor'])"
    printed = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    ).stderr
    read = [line.split("'")[1] for line in printed.splitlines() if "GOMP_SPINCOUNT" in line]
    if not read:
        pytest.skip("torch has another OpenMP than GNU's here")
    # a busy machine has let it at GNU's own count, for threads that sleep at once
    assert set(read) <= {given.get("GOMP_SPINCOUNT", str(SPINS)), *([] if given else ["0"])}


def test_the_memory_of_a_block_is_its_own_and_not_that_of_what_came_before():
    held = bytearray(300_000_000)
    held[::4096] = b"x" * len(held[::4096])  # every page is touched, so that it counts
    with memory_sampled() as large:
        time.sleep(0.15)
    del held
    with memory_sampled() as small:
        pass
    assert large[0] - small[0] > 0.25 and small[0] > 0.01
