"""How OpenMP's threads wait for each other: alone on the machine, and beside two processes that are always
busy.

Each side trains the same steps of the bundled experiment in a process of its own, since OpenMP reads its
settings when it is loaded; the sides take turns, so that what else happens on the machine meets all of them.
Nothing else may run on it meanwhile.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from benchmarks._nano import bundled_hash, prepared
from benchmarks.harness import Claim, Result
from shelftalk.experiment import load_experiment
from shelftalk.runtime.machine import SPINS, THREAD_SETTINGS

SINGLE_PROCESS, BESIDE = 1.1, 1.25
CLAIMS = [
    f"Alone, steps with the command line's setting take at most {SINGLE_PROCESS:g} times as long as with "
    "OpenMP's own waiting",
    f"Beside two busy processes they take at most {BESIDE:g} times as long as with threads that sleep at "
    "once",
    "Beside two busy processes OpenMP's own waiting takes at least 1.5 times as long as the command line's "
    "setting",
]
SEED = 0
OWN, OURS, ASLEEP = "OpenMP's own", "the command line's", "asleep at once"
SIDES: dict[str, dict[str, str] | None] = {OWN: {}, OURS: None, ASLEEP: {"OMP_WAIT_POLICY": "PASSIVE"}}
"""Side -> its settings; None: those that the command line makes when it starts."""
OTHERS = {f"{spins} turns": {"GOMP_SPINCOUNT": str(spins)} for spins in (300, SPINS, 3_000, 30_000)}
"""Measured too, without a claim, except with --quick."""
PLACES = {"alone": 0, "beside two busy processes": 2}
WARM_UP = 3
"""Steps that are not counted: kernels are made in them."""


def main(quick: bool) -> Result:
    """Three turns of 20 steps, or five of 60."""
    turns, steps = (3, 20) if quick else (5, 60)
    sides = SIDES if quick else {**SIDES, **OTHERS}
    runs = []
    with prepared(load_experiment(None, {"seed": SEED})) as prepared_run:
        folder = str(prepared_run.folder.path)
        for position, processes in PLACES.items():
            with busy(processes):
                for turn in range(turns):
                    for side, settings in sides.items():
                        run = {
                            "place": position,
                            "side": side,
                            "turn": turn,
                            **_in_a_process(folder, steps, settings),
                        }
                        print(run, flush=True)
                        runs.append(run)
    middle = medians(runs)
    rows = [
        {"place": position, "side": side, "median seconds a step": value}
        for (position, side), value in middle.items()
    ]
    return Result(SEED, claims(middle), [*rows, *runs], bundled_hash())


def medians(runs: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], float]:
    """(place, side) -> the median over its turns of the seconds of a step."""
    keys = dict.fromkeys((run["place"], run["side"]) for run in runs)
    of = {key: [run["seconds a step"] for run in runs if (run["place"], run["side"]) == key] for key in keys}
    return {key: statistics.median(values) for key, values in of.items()}


def claims(middle: Mapping[tuple[str, str], float]) -> list[Claim]:
    """Ratios of medians at one place."""
    alone, beside = PLACES

    def ratio(position: str, side: str, other: str) -> float:
        return round(middle[position, side] / middle[position, other], 3)

    first, second, third = ratio(alone, OURS, OWN), ratio(beside, OURS, ASLEEP), ratio(beside, OWN, OURS)
    return [
        Claim(CLAIMS[0], first, f"<= {SINGLE_PROCESS:g}", first <= SINGLE_PROCESS),
        Claim(CLAIMS[1], second, f"<= {BESIDE:g}", second <= BESIDE),
        Claim(CLAIMS[2], third, ">= 1.5", third >= 1.5),
    ]


@contextmanager
def busy(number: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Inside, so many processes do nothing but count."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """This process's, with these settings of threads and no others."""
    return {**{name: value for name, value in os.environ.items() if name not in THREAD_SETTINGS}, **settings}


def _in_a_process(folder: str, steps: int, settings: Mapping[str, str] | None) -> dict[str, Any]:
    program = f"from benchmarks.threads import _train; _train({folder!r}, {steps})"
    if settings is None:  # before this module is imported, which loads torch
        program = f"from shelftalk.runtime import machine; machine.set_thread_waiting(); {program}"
    command = [sys.executable, "-c", program]
    output = subprocess.run(
        command, env=environment(settings or {}), check=True, capture_output=True, text=True
    ).stdout
    measured: dict[str, Any] = json.loads(output.splitlines()[-1])
    return measured


def _train(folder: str, steps: int) -> None:
    """Take the steps, and print what one takes by the clock and of the processor."""
    from pathlib import Path

    import torch

    from benchmarks._nano import encoded_epoch
    from shelftalk.pipeline.fresh_backbone import new_backbone
    from shelftalk.pipeline.run import Run
    from shelftalk.runtime.run_folder import RunFolder
    from shelftalk.training.batching import Steps
    from shelftalk.training.memory import freed_memory_kept

    run = Run(RunFolder(Path(folder)), load_experiment(None, {"seed": SEED}))
    backbone = new_backbone(run)
    batches = Steps(backbone, [encoded_epoch(run, backbone, 0)], run.experiment.training.batch_tokens, SEED)
    optimizer = torch.optim.AdamW(backbone.model.parameters(), 1e-5, fused=True)
    backbone.model.train()
    with freed_memory_kept():
        for step in range(WARM_UP + steps):
            if step == WARM_UP:
                start, worked = time.perf_counter(), time.process_time()
            (backbone.loss(batches[step]) / 1000).backward()
            torch.nn.utils.clip_grad_norm_(backbone.model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    seconds = {
        "seconds a step": (time.perf_counter() - start) / steps,
        "processor seconds a step": (time.process_time() - worked) / steps,
    }
    rounded = {name: round(value, 4) for name, value in seconds.items()}
    waiting = {name: os.environ[name] for name in THREAD_SETTINGS if name in os.environ}
    print(json.dumps({**rounded, "threads": torch.get_num_threads(), "setting": waiting}))
