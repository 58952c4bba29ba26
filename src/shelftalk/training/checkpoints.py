"""Which checkpoint of an interrupted training is whole, and still what was written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from shelftalk.errors import ChangedFile, SettingsError
from shelftalk.runtime import file_hashes
from shelftalk.runtime.run_folder import read_signed, write_signed

_LAST_WRITTEN = "trainer_state.json"  # the Trainer writes it after weights, optimiser and random states
_SEAL = "files.json"  # the hashes of the others: neither safetensors nor torch would notice other weights
_WHOLE_OPTIMIZER = "optimizer.pt"  # where weights are spread, optimisers are saved by FSDP or DeepSpeed under names of their own


def last_complete(folder: Path) -> Path | None:
    """The newest whole checkpoint in `folder`, or None. A newer one that was cut off is removed.

    Raises ChangedFile where a file of it is not the one that was written, or one of an older checkpoint,
    which may hold the best weights."""
    checkpoints = sorted(folder.glob("checkpoint-*"), key=step_of, reverse=True)
    while checkpoints and not _is_complete(checkpoints[0]):
        shutil.rmtree(checkpoints.pop(0))
    for checkpoint in checkpoints:
        if wrong := _changed(checkpoint):
            newest = checkpoint == checkpoints[0] and len(checkpoints) > 1
            gone = checkpoint if newest else folder
            begins = f'continues from "{checkpoints[1].name}"' if newest else "begins from the start"
            raise ChangedFile(
                f'"{checkpoint / wrong}" is damaged or gone, so the training cannot be continued from it; put it '
                f'back, or remove "{gone}" and run `shelftalk train` or `shelftalk run` again: the training {begins}.'
            )
    return checkpoints[0] if checkpoints else None


def seal(checkpoint: Path) -> None:
    """Write beside the files of a checkpoint what they hold."""
    write_signed(checkpoint / _SEAL, {"files": file_hashes.written([checkpoint], checkpoint)})


def had_stopped_early(checkpoint: Path, patience: int) -> bool:
    """Whether training was over at this checkpoint because validation had not improved for `patience`
    validations."""
    state = json.loads((checkpoint / _LAST_WRITTEN).read_text())
    kept = state["stateful_callbacks"].get("EarlyStoppingCallback", {}).get("attributes", {})
    return kept.get("early_stopping_patience_counter", 0) >= patience


def check_kind(checkpoint: Path, spread: bool) -> None:
    """Raises SettingsError where the checkpoint of weights that are spread over processes (FSDP, DeepSpeed)
    is to be continued whole, or the other way about."""
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


def _changed(checkpoint: Path) -> str:
    """The first file that is not as it was sealed; "" for none, and for a checkpoint without a seal, as
    several processes write it."""
    try:
        wrong = file_hashes.changed(read_signed(checkpoint / _SEAL)["files"], checkpoint)
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, KeyError, TypeError):
        return _SEAL
    return wrong[0] if wrong else ""


def _is_complete(checkpoint: Path) -> bool:
    try:
        return "global_step" in json.loads((checkpoint / _LAST_WRITTEN).read_text())
    except (OSError, ValueError, TypeError):
        return False
