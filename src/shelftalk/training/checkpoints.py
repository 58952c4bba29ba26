"""Which checkpoint of an interrupted training is whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

_LAST_WRITTEN = "trainer_state.json"  # the Trainer writes it after weights, optimiser and random states


def last_complete(folder: Path) -> Path | None:
    """The newest whole checkpoint in `folder`, or None. A newer one that was cut off in the middle is removed."""
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=_step, reverse=True):
        if _is_complete(checkpoint):
            return checkpoint
        shutil.rmtree(checkpoint)
    return None


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _is_complete(checkpoint: Path) -> bool:
    try:
        return "global_step" in json.loads((checkpoint / _LAST_WRITTEN).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return False
