"""Which checkpoint of an interrupted training is whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from shelftalk.errors import SettingsError

_LAST_WRITTEN = "trainer_state.json"  # the Trainer writes it after weights, optimiser and random states
_WHOLE_OPTIMIZER = "optimizer.pt"  # where weights are spread, optimisers are saved by FSDP or DeepSpeed under names of their own


def last_complete(folder: Path) -> Path | None:
    """The newest whole checkpoint in `folder`, or None. A newer one that was cut off in the middle is removed."""
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=step_of, reverse=True):
        if _is_complete(checkpoint):
            return checkpoint
        shutil.rmtree(checkpoint)
    return None


def had_stopped_early(checkpoint: Path, patience: int) -> bool:
    """Whether training was over at this checkpoint because validation had not improved for `patience` validations."""
    state = json.loads((checkpoint / _LAST_WRITTEN).read_text())
    kept = state["stateful_callbacks"].get("EarlyStoppingCallback", {}).get("attributes", {})
    return kept.get("early_stopping_patience_counter", 0) >= patience


def check_kind(checkpoint: Path, spread: bool) -> None:
    """Raises SettingsError where the checkpoint of weights that are spread over processes (FSDP, DeepSpeed) is to be continued whole, or
    the other way about."""
    if (checkpoint / _WHOLE_OPTIMIZER).exists() != spread:
        return
    written, asked = ("whole", "spread over processes") if spread else ("spread over processes", "whole")
    raise SettingsError(
        f"the checkpoints in {checkpoint.parent} hold weights {written}, and this launch holds them {asked}; continue the training as it "
        "was begun, or train anew in another folder (--out)."
    )


def step_of(checkpoint: Path) -> int:
    """The number of steps behind a checkpoint."""
    return int(checkpoint.name.rpartition("-")[2])


def _is_complete(checkpoint: Path) -> bool:
    try:
        return "global_step" in json.loads((checkpoint / _LAST_WRITTEN).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return False
