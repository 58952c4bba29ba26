"""The benchmark of waiting threads: what it sets, what it starts and ends, and what its ratios are."""

import psutil
import pytest

from benchmarks import threads
from benchmarks.threads import ASLEEP, OURS, OWN, PLACES, SIDES, busy, claims, environment, medians
from shelftalk.runtime.machine import THREAD_SETTINGS


def test_each_side_has_its_own_setting_and_none_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in THREAD_SETTINGS:
        monkeypatch.setenv(name, "of the user")
    of_sides = {side: environment(settings or {}) for side, settings in SIDES.items()}
    left = {side: {name: of[name] for name in THREAD_SETTINGS if name in of} for side, of in of_sides.items()}
    assert left == {OWN: {}, OURS: {}, ASLEEP: {"OMP_WAIT_POLICY": "PASSIVE"}} and SIDES[OURS] is None
    assert all("PATH" in of for of in of_sides.values())


def test_what_is_busy_beside_is_gone_afterwards_also_where_measuring_fails() -> None:
    with pytest.raises(RuntimeError), busy(2) as processes:
        assert len(processes) == 2 and all(psutil.pid_exists(process.pid) for process in processes)
        raise RuntimeError
    assert all(process.poll() is not None for process in processes)


def test_a_ratio_is_of_the_medians_of_one_place() -> None:
    seconds = {
        OWN: ([1.0, 1.0, 9.0], [4.0, 4.0, 0.1]),
        OURS: ([1.05, 0.1, 1.2], [1.2, 1.2, 1.2]),
        ASLEEP: ([1.2] * 3, [1.0] * 3),
    }
    runs = [
        {"place": position, "side": side, "turn": turn, "seconds a step": value}
        for side, both in seconds.items()
        for position, values in zip(PLACES, both, strict=True)
        for turn, value in enumerate(values)
    ]
    held = claims(medians(runs))
    assert [claim.value for claim in held] == [1.05, 1.2, 3.333] and all(claim.holds for claim in held)
    runs = [
        {**run, "seconds a step": run["seconds a step"] * (2 if run["side"] == OURS else 1)} for run in runs
    ]
    assert [claim.holds for claim in claims(medians(runs))] == [False, False, True]


def test_both_sides_are_measured_by_turns_at_both_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_in_a_process", lambda folder, steps, settings: {"seconds a step": 1.0})
    monkeypatch.setattr(threads, "PLACES", {"alone": 0, "beside two busy processes": 0})
    runs = [run for run in threads.main(quick=True).runs if "turn" in run]
    assert [run["side"] for run in runs] == [*SIDES] * 6
    assert [run["place"] for run in runs] == [position for position in PLACES for _ in range(9)]
