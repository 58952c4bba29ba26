"""Experiment trackers: the Trainer's own integrations, with TensorBoard's files in the run's folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback

from shelftalk.training.settings import Tracker


class _TensorBoardInFolder(TensorBoardCallback):  # type: ignore[misc]
    """TensorBoard's files in a folder, where a resumed training purges its events of steps that
    it repeats."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if state.is_world_process_zero:  # of several processes one writes
            self.tb_writer = SummaryWriter(str(self.folder), purge_step=state.global_step + 1)
        super().on_train_begin(args, state, control, **others)


def own_callbacks(trackers: Iterable[Tracker], folder: Path) -> list[TrainerCallback]:
    """TensorBoard, where it is among the trackers, writing into `folder`."""
    return [_TensorBoardInFolder(folder)] if "tensorboard" in trackers else []


def by_name(trackers: Iterable[Tracker]) -> list[str]:
    """The trackers that the Trainer sets up by itself, each once, for its `report_to`; they read their own
    environment variables."""
    return [name for name in dict.fromkeys(trackers) if name != "tensorboard"]
