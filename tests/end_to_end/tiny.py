"""The tiny experiment, and the command line in this process."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from typer.testing import CliRunner, Result

from shelftalk.app.cli import app
from shelftalk.data.dataset import Dataset
from shelftalk.data.splitting import Part, Split
from shelftalk.runtime import file_hashes
from shelftalk.runtime.run_folder import RunFolder, read_signed, write_signed

SETTINGS: dict[str, Any] = {
    "name": "tiny",
    "seed": 3,
    "data": {"k_core": 1},
    "split": {"ranking_negatives": 20},
    "index": {"dimensions": 8},
    "nano": {"width": 32, "layers": 1, "heads": 2, "vocabulary": 400},
    "training": {"epochs": 2, "batch_tokens": 1024, "validations": 4, "validation_samples": 20},
    "decoding": {"beams": 20, "batch_size": 64},
    "baselines": {"item_knn": {"text_weight": [0.0, 0.3], "decay": [0.7], "max_history": [5]}},
    "prior": {"weights": [0.0, 0.5, 1.0], "pool": 20},
    "evaluation": {"resamples": 100, "shown_users": 3},
}


def save_world(world: Dataset, folder: Path) -> Path:
    folder.mkdir(parents=True)
    world.items.write_parquet(folder / "items.parquet")
    world.events.drop("position").write_parquet(folder / "interactions.parquet")
    return folder


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **below,
        **{k: {**below[k], **v} if isinstance(v, dict) and k in below else v for k, v in above.items()},
    }


def write_experiment(path: Path, folder: Path, /, **changes: Any) -> Path:
    """The tiny experiment as a file, with tables of `changes` laid over it."""
    settings = merged(merged(SETTINGS, {"data": {"folder": str(folder)}}), changes)
    path.write_text(tomli_w.dumps(settings))
    return path


def call(*arguments: str | Path) -> Result:
    """The command line in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def command_in(sentence: str) -> list[str]:
    """The arguments of the command that a sentence tells to run: `shelftalk report EXPERIMENT --out RUN`."""
    command = re.findall(r"`shelftalk (\S+ [^`]+)`", " ".join(sentence.split()))[0]
    return shlex.split(command)


def done_again(result: Result) -> set[str]:
    """The stages that a `--json` run did not skip."""
    assert result.exit_code == 0, result.output
    return {stage["stage"] for stage in json.loads(result.stdout)["stages"] if not stage["skipped"]}


def sign_anew(run: RunFolder, stage: str) -> None:
    """Make the manifest say that the stage wrote what stands there now."""
    values = read_signed(run.manifest(stage))
    values["outputs"] = file_hashes.written([run.path / name for name in values["outputs"]], run.path)
    write_signed(run.manifest(stage), values)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@contextmanager
def sealed_test_part() -> Iterator[None]:
    """Asking a split for what its test part holds out is an error."""

    def validation_only(requests: Callable[..., Any]) -> Callable[..., Any]:
        def checked(split: Split, part: Part, *positions: Any) -> Any:
            assert part == "validation", "something looks at the test part"
            return requests(split, part, *positions)

        return checked

    with pytest.MonkeyPatch.context() as patch:
        for name in ("retrieval_requests", "ranking_requests", "rating_requests"):
            patch.setattr(Split, name, validation_only(getattr(Split, name)))
        yield
