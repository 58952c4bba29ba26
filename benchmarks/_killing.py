"""What the benchmarks of interrupted runs share: the command as a user gives it, and which checkpoints it has
left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def command(stage: str, experiment: Path, out: Path, seed: int) -> list[str]:
    """`shelftalk STAGE EXPERIMENT --out OUT --seed SEED`."""
    return [sys.executable, "-m", "shelftalk", stage, str(experiment), "--out", str(out), "--seed", str(seed)]


def to_the_end(stage: str, experiment: Path, out: Path, seed: int) -> None:
    """Carry out the command; raises CalledProcessError where it fails."""
    subprocess.run(command(stage, experiment, out, seed), check=True, capture_output=True)


def whole_checkpoints(out: Path) -> list[int]:
    """Steps of the checkpoints that were written to their end, ascending."""
    return sorted(
        int(path.parent.name.rpartition("-")[2])
        for path in out.glob("checkpoints/checkpoint-*/trainer_state.json")
    )
