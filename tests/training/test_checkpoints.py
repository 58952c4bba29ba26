"""Which checkpoint is continued: the newest whole one."""

from __future__ import annotations

from pathlib import Path

import pytest

from shelftalk.training.checkpoints import last_complete


def checkpoint(folder: Path, step: int, state: str | None = '{"global_step": 1}') -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "model.safetensors").write_bytes(b"")
    if state is not None:
        (path / "trainer_state.json").write_text(state)
    return path


def test_without_a_checkpoint_training_begins_at_the_beginning(tmp_path: Path) -> None:
    assert last_complete(tmp_path / "none") is None


def test_the_newest_by_step_is_continued_not_by_name_or_time(tmp_path: Path) -> None:
    checkpoint(tmp_path, 1000)
    checkpoint(tmp_path, 90)
    assert last_complete(tmp_path) == tmp_path / "checkpoint-1000"


@pytest.mark.parametrize("state", [None, "", '{"global_st', "{}"])
def test_a_half_written_one_is_removed_and_the_one_before_it_continued(
    state: str | None, tmp_path: Path
) -> None:
    whole, half = checkpoint(tmp_path, 10), checkpoint(tmp_path, 20, state)
    assert last_complete(tmp_path) == whole
    assert whole.exists() and not half.exists()


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    checkpoint(tmp_path, 10)
    (tmp_path / "inputs.json").write_text("{}")
    last_complete(tmp_path)
    assert (tmp_path / "inputs.json").exists()
