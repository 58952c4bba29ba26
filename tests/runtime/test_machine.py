"""How threads wait: briefly, unless the user has set otherwise, and before torch is loaded; and the memory of
a block of work."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from shelftalk.runtime.machine import SPINS, THREAD_SETTINGS, memory_sampled, spin_briefly


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in THREAD_SETTINGS:
        monkeypatch.setenv(name, "")  # so that what a test sets is undone
        monkeypatch.delenv(name)


def test_threads_that_nobody_spoke_of_wait_briefly() -> None:
    spin_briefly()
    assert {name: os.environ.get(name) for name in THREAD_SETTINGS if name in os.environ} == {
        "GOMP_SPINCOUNT": str(SPINS)
    }


@pytest.mark.parametrize("name", THREAD_SETTINGS)
def test_a_setting_of_the_users_own_stays_and_is_the_only_one(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    spin_briefly()
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
    assert set(read) == {given.get("GOMP_SPINCOUNT", str(SPINS))}


def test_the_memory_of_a_block_is_its_own_and_not_that_of_what_came_before():
    held = bytearray(300_000_000)
    held[::4096] = b"x" * len(held[::4096])  # every page is touched, so that it counts
    with memory_sampled() as large:
        time.sleep(0.15)
    del held
    with memory_sampled() as small:
        pass
    assert large[0] - small[0] > 0.25 and small[0] > 0.01
