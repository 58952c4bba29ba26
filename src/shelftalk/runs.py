"""RunFolder: which stage reads and writes which file. Files are written beside and renamed, a stage's manifest last.

runs/NAME/  experiment.toml  dataset/  item_index.parquet  samples/  checkpoints/  model/  rankings/  evaluation/
            metrics.json  report.html  report.md  report.json  stages/ (one manifest per finished stage)
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shelftalk.errors import DataError, NoSpace, StageMissing
from shelftalk.processes import these

KEPT_EVERY = 1.0
"""Seconds between two writings of the time that a work has taken so far."""


@dataclass(frozen=True)
class StageRecord:
    """What a finished stage left in its manifest."""

    name: str
    inputs: dict[str, Any]
    seconds: float
    peak_gigabytes: float | None
    facts: dict[str, Any]
    skipped: bool = False

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the inputs: later stages build on it."""
        return fingerprint(self.inputs)


@dataclass(frozen=True)
class RunFolder:
    """A run's folder. `path` may not exist yet."""

    path: Path

    @property
    def experiment(self) -> Path:
        return self.path / "experiment.toml"

    @property
    def dataset(self) -> Path:
        return self.path / "dataset"

    @property
    def item_index(self) -> Path:
        return self.path / "item_index.parquet"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def training_time(self) -> Path:
        return self.checkpoints / "seconds.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.json"

    def epoch(self, number: int) -> Path:
        return self.samples / f"epoch-{number:04d}.parquet"

    def ranking(self, task: str, model: str) -> Path:
        return self.path / "rankings" / f"{task}.{model}.parquet"

    def evaluation(self, task: str) -> Path:
        return self.path / "evaluation" / f"{task}.parquet"

    def record(self, stage: str) -> StageRecord | None:
        """The manifest of a finished stage, or None."""
        try:
            return StageRecord(**json.loads(self.manifest(stage).read_text()))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def needed(self, stage: str) -> StageRecord:
        """The manifest of a stage that must have been run. Raises StageMissing."""
        record = self.record(stage)
        if record is None:
            raise StageMissing(
                f'"{self.path}" holds no finished stage "{stage}"; run `shelftalk {stage}` first, or `shelftalk run`.'
            )
        return record

    def do(self, stage: str, inputs: dict[str, Any], work: Callable[[], dict[str, Any]], together: bool = False) -> StageRecord:
        """Run `work`, unless the stage was finished with the same inputs. Its manifest is removed first and written last.

        Of several processes the first works and the others find it done; or they work `together`, and the first alone writes.
        Where the facts that `work` returns have "seconds_before" (see TimeSpent), the stage's time holds them too. Data that is
        refused is refused before anything is written: then what the folder held before still holds.
        """
        if not together:
            with these().first_alone():
                return self._do(stage, inputs, work)
        record = self._do(stage, inputs, work)
        these().meet()
        return record

    def _do(self, stage: str, inputs: dict[str, Any], work: Callable[[], dict[str, Any]]) -> StageRecord:
        known = self.record(stage)
        if known is not None and known.inputs == json.loads(json.dumps(inputs)):
            return StageRecord(known.name, known.inputs, known.seconds, known.peak_gigabytes, known.facts, skipped=True)
        with space_needed(self.path):
            if these().first:
                self.manifest(stage).unlink(missing_ok=True)
            start = time.perf_counter()
            try:
                facts = work()
            except DataError:
                if known is not None:
                    self._sign(known)
                raise
            seconds = facts.get("seconds_before", 0.0) + time.perf_counter() - start
            record = StageRecord(stage, inputs, seconds, peak_gigabytes(), facts)
            self._sign(record)
        return record

    def _sign(self, record: StageRecord) -> None:
        """Write the manifest of a finished stage."""
        kept = ("name", "inputs", "seconds", "peak_gigabytes", "facts")
        write_json(self.manifest(record.name), {name: getattr(record, name) for name in kept})

    def keep_checkpoints_of(self, inputs: dict[str, Any]) -> None:
        """Remove the checkpoints unless they belong to a training with these inputs: another's must never be continued."""
        begun = self.checkpoints / "inputs.json"
        if not begun.exists() or json.loads(begun.read_text()) != json.loads(json.dumps(inputs)):
            _remove(self.checkpoints)
            write_json(begun, inputs)

    def count_test_evaluation(self, what: str) -> int:
        """Log one more look at the test part; returns how many there have been in this folder."""
        log = self.path / "evaluation" / "test_evaluations.jsonl"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "what": what}) + "\n")
        return self.test_evaluations()

    def test_evaluations(self) -> int:
        """How often the test part was looked at in this folder."""
        log = self.path / "evaluation" / "test_evaluations.jsonl"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def manifest(self, stage: str) -> Path:
        """Where a finished stage says what it stands on."""
        return self.path / "stages" / f"{stage}.json"


class TimeSpent:
    """Seconds of a work that may be killed and continued by another command, kept in a file while it goes on.

    `before`: those of the commands that were interrupted, to a second, with all that they did and lost again.
    """

    def __init__(self, path: Path) -> None:
        self.before: float = json.loads(path.read_text()) if path.exists() else 0.0
        self._path = path
        self._start = self._kept = time.perf_counter()

    def keep(self) -> None:
        """Say that the work goes on."""
        now = time.perf_counter()
        if now - self._kept >= KEPT_EVERY:
            write_json(self._path, round(self.before + now - self._start, 1))
            self._kept = now


def fingerprint(value: Any) -> str:
    """SHA-256 of a JSON-able value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write beside and rename."""
    with beside(path) as part:
        part.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path`, file or folder, when the block ends well; nothing is lost when it does not.

    Of several processes the first alone writes: what the others write goes nowhere.
    """
    if not these().first:
        with tempfile.TemporaryDirectory() as nowhere:
            yield Path(nowhere) / path.name
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    _remove(part)
    try:
        yield part
        if part.is_dir():
            _remove(path)
        os.replace(part, path)
    except BaseException:
        _remove(part)
        raise


@contextmanager
def space_needed(folder: Path) -> Iterator[None]:
    """Turns the system's "no space left" into a sentence with the remedy."""
    try:
        yield
    except Exception as error:
        free = shutil.disk_usage(_existing(folder)).free / 1e9
        if _tells_of_a_full_disk(error, free):
            raise NoSpace(
                f'no space left on the device of "{folder}" ({free:.1f} GB free); make room or choose another --out, then run the '
                "same command again: finished stages are kept."
            ) from error
        raise


def _tells_of_a_full_disk(error: Exception, free_gigabytes: float) -> bool:
    """The system's own error, or what polars, safetensors and torch make of it; torch's writer names no cause, so the disk is asked."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(error):
        return True
    return isinstance(error, RuntimeError) and "inline_container" in str(error) and free_gigabytes < 0.1


def peak_gigabytes() -> float | None:
    """Highest memory of this process so far in GB, or None where the system does not tell."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    unit = 1e9 if sys.platform == "darwin" else 1e6  # bytes there, kilobytes elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 3)


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
