"""What `shelftalk distil` and a student refuse: the sentence is read, what it says is done, and works."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import shelftalk
from shelftalk.baselines.neural.student import StudentSettings
from shelftalk.errors import ShelftalkError
from shelftalk.pipeline.distilling import distil
from shelftalk.pipeline.run import open_run
from shelftalk.runtime.run_folder import RunFolder

QUICK = StudentSettings(width=(16,), epochs=1, patience=1)


def told(call: Callable[..., Any], *arguments: Any, **named: Any) -> str:
    with pytest.raises(ShelftalkError) as error:
        call(*arguments, **named)
    return str(error.value)


def test_a_student_is_taught_as_the_sentences_say(run: RunFolder, published: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    finished, out = open_run(run.path), tmp_path / "a student"

    def taught(model: Path, out: Path, number: int = 1) -> Path:
        return distil(model, finished, out, QUICK, prefixes=number, listed=5 * number).folder

    message = told(taught, published, out, 0)
    student = taught(published, out, int(re.findall(r"raise them to (\d+)", message)[0]))
    assert "give the folder of a language model" in told(taught, student, tmp_path / "other")
    model = shelftalk.load(student)
    assert "open the folder of its teacher instead" in told(lambda: model.language_model)
    teacher = json.loads((student / "shelftalk.json").read_text())["teacher"]
    assert shelftalk.load(published).language_model.name == teacher == "aligned"
    message = told(taught, published, out)
    assert "choose another --out" in message
    shutil.rmtree(re.findall(r'"(.+)" is there already; remove it', message)[0])
    assert shelftalk.load(taught(published, out)).name == "student"


def test_a_model_of_another_split_is_taught_from_the_run_that_it_was_published_from(
    run: RunFolder, copied: Callable[[], Path], tmp_path: Path
) -> None:
    folder = copied()
    facts = json.loads((folder / "shelftalk.json").read_text())
    (folder / "shelftalk.json").write_text(json.dumps({**facts, "split": "0" * 64}))
    finished = open_run(run.path)
    message = told(distil, folder, finished, tmp_path / "out", QUICK)
    assert "give the run that it was published from" in message
    (folder / "shelftalk.json").write_text(json.dumps({**facts, "split": finished.split.fingerprint()}))
    assert distil(folder, finished, tmp_path / "out", QUICK, prefixes=1, listed=5).folder.is_dir()
