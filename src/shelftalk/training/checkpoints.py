"""The newest checkpoint of an interrupted training that is complete and unchanged since it was written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from shelftalk.errors import ChangedFile, SettingsError
from shelftalk.runtime import file_hashes
from shelftalk.runtime.run_folder import read_signed, write_signed

_LAST_WRITTEN = "trainer_state.json"  # the Trainer writes it after weights, optimiser and random states
_HASHES = "files.json"  # of the other files: neither safetensors nor torch would notice other weights
_WHOLE_OPTIMIZER = "optimizer.pt"  # FSDP and DeepSpeed save a sharded optimiser under names of their own


def last_complete(folder: Path) -> Path | None:
    """The newest complete checkpoint in `folder`, or None. A newer one that was interrupted is removed.

    Raises ChangedFile where a file of it is not the one that was written, or one of an older checkpoint,
    which may hold the best weights."""
    checkpoints = sorted(folder.glob("checkpoint-*"), key=step_of, reverse=True)
    while checkpoints and not _is_complete(checkpoints[0]):
        shutil.rmtree(checkpoints.pop(0))
    for checkpoint in checkpoints:
        if changed := _changed_file(checkpoint):
            has_older = checkpoint == checkpoints[0] and len(checkpoints) > 1
            removed = checkpoint if has_older else folder
            start = f'continues from "{checkpoints[1].name}"' if has_older else "begins from the start"
            raise ChangedFile(
                f'"{checkpoint / changed}" is damaged or gone, so the training cannot be continued from it; '
                f'put it back, or remove "{removed}" and run `shelftalk train` or `shelftalk run` again: the '
                f"training {start}."
            )
    return checkpoints[0] if checkpoints else None


def write_hashes(checkpoint: Path) -> None:
    """Write the hashes of a checkpoint's files beside them."""
    write_signed(checkpoint / _HASHES, {"files": file_hashes.written([checkpoint], checkpoint)})


def had_stopped_early(checkpoint: Path, patience: int) -> bool:
    """Whether training was over at this checkpoint because validation had not improved for
    `patience` validations."""
    state = json.loads((checkpoint / _LAST_WRITTEN).read_text())
    attributes = state["stateful_callbacks"].get("EarlyStoppingCallback", {}).get("attributes", {})
    result: bool = attributes.get("early_stopping_patience_counter", 0) >= patience
    return result


def check_sharding(checkpoint: Path, sharded: bool) -> None:
    """Raises SettingsError where a checkpoint of weights that are spread over processes (FSDP, DeepSpeed) is
    to be continued by a launch that holds them whole, or the other way round."""
    if (checkpoint / _WHOLE_OPTIMIZER).exists() != sharded:
        return
    written, launched = ("whole", "spread over processes") if sharded else ("spread over processes", "whole")
    raise SettingsError(
        f"the checkpoints in {checkpoint.parent} hold weights {written}, and this launch holds them "
        f"{launched}; continue the training as it was begun, or train anew in another folder (--out)."
    )


def step_of(checkpoint: Path) -> int:
    """The number of steps that a checkpoint was written after."""
    return int(checkpoint.name.rpartition("-")[2])


def _changed_file(checkpoint: Path) -> str:
    """The first file whose hash has changed; "" for none, and for a checkpoint without hashes, as several
    processes write it."""
    try:
        changed = file_hashes.changed(read_signed(checkpoint / _HASHES)["files"], checkpoint)
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, KeyError, TypeError):
        return _HASHES
    return changed[0] if changed else ""


def _is_complete(checkpoint: Path) -> bool:
    try:
        return "global_step" in json.loads((checkpoint / _LAST_WRITTEN).read_text())
    except (OSError, ValueError, TypeError):
        return False
