"""RunFolder: which stage reads and writes which file. Written beside and renamed, a stage's manifest last.

runs/NAME/  experiment.toml  dataset/  item_index.parquet  samples/  checkpoints/  model/  rankings/
            evaluation/  metrics.json  costs.json  certificate.json  report.html  report.md  report.json
            stages/ (one manifest per finished stage)

A manifest holds what the stage depended on and the hashes of what it wrote, so that a file which was changed,
damaged or put there from another run is detected: the stage is done again, or its error describes how. One
process at a time writes into a folder.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shelftalk import __version__
from shelftalk.errors import AnotherExperiment, ChangedFile, DataError, NoSpace, StageMissing
from shelftalk.runtime import file_hashes
from shelftalk.runtime.distributed import world
from shelftalk.runtime.locks import locked

KEPT_EVERY = 1.0
"""Seconds between two writings of the time that a work has taken so far."""
SCORES = "scores"
"""Among the inputs of a model's answers: the score files that they were imported from."""
LOCK_FILE = ".lock"
"""In a folder while a process writes into it; see locks.py."""
_IN_MANIFEST = ("name", "inputs", "seconds", "peak_gigabytes", "facts", "outputs", "version")
_PART = re.compile(r"\..+\.[0-9a-f]{8}\.part")  # what `beside` writes to


@dataclass(frozen=True)
class StageRecord:
    """What a finished stage left in its manifest."""

    name: str
    inputs: dict[str, Any]
    seconds: float
    peak_gigabytes: float | None
    facts: dict[str, Any]
    outputs: dict[str, Any]
    """Path in the run folder -> what was written there (file_hashes.Written)."""
    version: str
    """The version of shelftalk that did the stage."""
    skipped: bool = False
    again: str = ""
    """Why a stage that was finished has been done again; "" where it was not."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the inputs and of the files written: later stages build on it."""
        return fingerprint(
            [self.inputs, {name: facts and facts["sha256"] for name, facts in self.outputs.items()}]
        )


@dataclass(frozen=True)
class RunFolder:
    """A run's folder. `path` may not exist yet."""

    path: Path

    @property
    def experiment(self) -> Path:
        return self.path / "experiment.toml"

    @property
    def signed_experiment(self) -> Path:
        return self.path / "stages" / "experiment.json"

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

    @property
    def costs(self) -> Path:
        return self.path / "costs.json"

    @property
    def certificate(self) -> Path:
        return self.path / "certificate.json"

    def command(self, name: str, *options: str) -> str:
        """A command on this folder, as a shell takes it: with the experiment that the run has, for those that
        take one."""
        given = [str(self.path)] if options else [str(self.experiment), "--out", str(self.path)]
        return f"`{shlex.join(['shelftalk', name, *given, *options])}`"

    def epoch(self, number: int) -> Path:
        return self.samples / f"epoch-{number:04d}.parquet"

    def ranking(self, task: str, model: str) -> Path:
        return self.path / "rankings" / f"{task}.{model}.parquet"

    def evaluation(self, task: str) -> Path:
        return self.path / "evaluation" / f"{task}.parquet"

    def imported_models(self) -> list[str]:
        """The names whose answers were imported from score files, in alphabetical order: they are evaluated
        beside the experiment's models. Raises what `record` does."""
        stages = (path.stem for path in (self.path / "stages").glob("recommend.*.json"))
        records = [record for stage in sorted(stages) if (record := self.record(stage))]
        return [record.name.partition(".")[2] for record in records if SCORES in record.inputs]

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside the block no other process writes into the folder (see `alone_in`)."""
        with alone_in(self.path):
            yield

    def record(self, stage: str) -> StageRecord | None:
        """The manifest of a finished stage, or None.

        Raises ChangedFile for a damaged one, and AnotherExperiment where an earlier version of shelftalk did
        the stage, which did not note what it wrote."""
        path = self.manifest(stage)
        try:
            values = read_signed(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise ChangedFile(
                f'"{path}" is damaged ({_first_line(error)}); remove it and run '
                f"`shelftalk {_command(stage)}` or `shelftalk run` again: the stage is done again"
                + (", by what checkpoints/ holds." if stage == "train" else ".")
            ) from None
        if not values.keys() >= {*_IN_MANIFEST}:
            raise AnotherExperiment(
                f'"{self.path}" was written by an earlier version of shelftalk, which did not note what its '
                "stages wrote, so nothing can be built on them; choose another --out, or remove "
                f'"{path.parent}" and "{self.checkpoints}" to do all of them again.'
            )
        return StageRecord(**{name: values[name] for name in _IN_MANIFEST})

    def needed(self, stage: str) -> StageRecord:
        """The manifest of a stage that must have been run, on what the earlier ones left last.

        Raises StageMissing, and ChangedFile as `check` does."""
        record = self.check(stage)
        if record is None:
            raise StageMissing(
                f'"{self.path}" holds no finished stage "{stage}"; '
                f"run `shelftalk {_command(stage)}` first, or `shelftalk run`."
            )
        if outdated := self._outdated(record):
            late, earlier = outdated
            raise StageMissing(
                f'in "{self.path}" the stage "{earlier}" is not the one any more that "{late}" was built on; '
                f"run `shelftalk run`, or `shelftalk {_command(earlier)}`, `shelftalk {_command(late)}` and "
                "the stages after it again."
            )
        return record

    def check(self, stage: str) -> StageRecord | None:
        """The manifest of a stage, None where it is not finished.
        Raises ChangedFile where its files are others."""
        record = self.record(stage)
        if record and (wrong := self._changed(record)):
            self._refuse_changed(stage, wrong)
        return record

    def do(
        self,
        stage: str,
        inputs: dict[str, Any],
        work: Callable[[], dict[str, Any]],
        outputs: Sequence[Path] = (),
        kept: Path | None = None,
        together: bool = False,
    ) -> StageRecord:
        """Run `work`, unless the stage was finished with the same inputs and its `outputs`, files and
        folders, are those that it wrote. Its manifest is removed first and written last.

        `kept`: an output that costs hours. Where it is there and was changed by somebody else, nothing is
        done: ChangedFile is raised. Of several processes the first works and the others find it done; or they
        work `together`, and the first alone writes. Where the facts that `work` returns have "seconds_before"
        (see TimeSpent), the stage's time holds them too. Data that is refused is refused before anything is
        written: then what the folder held before still holds. Raises InUse, and what `record` raises.
        """
        with self.alone():
            if not together:
                with world().main_process_first():
                    return self._do(stage, inputs, work, outputs, kept)
            record = self._do(stage, inputs, work, outputs, kept)
            world().barrier()
        return record

    def _do(
        self,
        stage: str,
        inputs: dict[str, Any],
        work: Callable[[], dict[str, Any]],
        outputs: Sequence[Path],
        kept: Path | None,
    ) -> StageRecord:
        known = self.record(stage)
        again = self._why_again(known, json.loads(json.dumps(inputs)), kept) if known else ""
        if known and not again:
            return replace(known, skipped=True)
        with space_needed(self.path):
            if world().is_main:
                remove(self.manifest(stage))
            start = time.perf_counter()
            try:
                facts = work()
            except DataError:
                if known is not None:
                    self._sign(known)
                raise
            seconds = facts.get("seconds_before", 0.0) + time.perf_counter() - start
            left = file_hashes.written(outputs, self.path) if world().is_main else {}
            record = StageRecord(
                stage, inputs, seconds, peak_gigabytes(), facts, left, __version__, again=again
            )
            self._sign(record)
        return record

    def _why_again(self, known: StageRecord, inputs: dict[str, Any], kept: Path | None) -> str:
        """Why a finished stage must be done again, for people; "" where it need not."""
        if differs := differing(known.inputs, inputs):
            return f"what it depends on has changed: {', '.join(differs[:3])}"
        wrong = self._changed(known)
        if wrong and kept and os.path.lexists(kept):
            self._refuse_changed(known.name, wrong)
        return f"{wrong[0]} was changed, damaged or removed" if wrong else ""

    def _outdated(self, record: StageRecord) -> tuple[str, str] | None:
        """A stage among those that `record` was built on, itself included, and the one before it that has
        been done otherwise since; None where there is none."""
        for name, wanted in built_on(record).items():
            earlier = self.record(name)
            if earlier is None or earlier.fingerprint != wanted:
                return record.name, name
            if outdated := self._outdated(earlier):
                return outdated
        return None

    def _changed(self, record: StageRecord) -> list[str]:
        return file_hashes.changed(record.outputs, self.path)

    def _refuse_changed(self, stage: str, wrong: Sequence[str]) -> None:
        """Raises ChangedFile for files that the stage did not
        write. A trained model is never replaced unasked."""
        command = f"`shelftalk {_command(stage)}` or `shelftalk run` again"
        remedy = f'run {command} with --out "{self.path}", and it is written anew.'
        if stage == "train":
            remedy = (
                f'put the trained one back, or remove "{self.model}" and run {command}: the model is made '
                "from checkpoints/, or trained anew where that is gone."
            )
        path = self.path / wrong[0]
        raise ChangedFile(f'"{path}" is damaged, gone or not what the stage "{stage}" wrote there; {remedy}')

    def _sign(self, record: StageRecord) -> None:
        """Write the manifest of a finished stage."""
        write_signed(self.manifest(record.name), {name: getattr(record, name) for name in _IN_MANIFEST})

    def keep_checkpoints_of(self, inputs: dict[str, Any]) -> None:
        """Remove the checkpoints unless they are of a training
        with these inputs: another's must not be continued.

        Raises ChangedFile where it is unknown which training they are of."""
        begun = self.checkpoints / "inputs.json"
        try:
            same = read_signed(begun)["inputs"] == json.loads(json.dumps(inputs))
        except (OSError, ValueError, KeyError, TypeError):
            if any(self.checkpoints.glob("checkpoint-*")):
                raise ChangedFile(
                    f'"{begun}" is damaged, gone or of an earlier version, so it is unknown which training '
                    f'the checkpoints beside it are of; remove "{self.checkpoints}" and run '
                    "`shelftalk train` or `shelftalk run` again: it begins from the start."
                ) from None
            same = False
        if not same:
            remove(self.checkpoints)
            write_signed(begun, {"inputs": inputs})

    def count_test_evaluation(self, what: str) -> int:
        """Log one more evaluation of the test part; returns how many there have been in this folder."""
        number = self.test_evaluations() + 1
        line = {"when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "what": what, "number": number}
        self.evaluation_log.parent.mkdir(parents=True, exist_ok=True)
        with self.evaluation_log.open("ab") as file:
            file.write(b"\n" * self._cut_short() + json.dumps(line).encode() + b"\n")
        return number

    def test_evaluations(self) -> int:
        """How often the test part was evaluated in this folder: as many as lines in the log, and not fewer
        than a line of it or the last evaluation holds, where lines are lost."""
        try:
            lines = self.evaluation_log.read_bytes().splitlines()
        except FileNotFoundError:
            lines = []
        except IsADirectoryError:
            raise ChangedFile(
                f'"{self.evaluation_log}" is a folder, and the log of evaluations of the test part belongs '
                "there; remove it."
            ) from None
        evaluated = self.record("evaluate")
        noted = evaluated.facts.get("test_evaluations", 0) if evaluated else 0
        return max(len(lines), noted, *(_number(line) for line in lines), 0)

    @property
    def evaluation_log(self) -> Path:
        return self.path / "evaluation" / "test_evaluations.jsonl"

    def _cut_short(self) -> bool:
        """Whether the log ends within a line, as after a power cut."""
        return self.evaluation_log.exists() and self.evaluation_log.read_bytes()[-1:] not in (b"", b"\n")

    def manifest(self, stage: str) -> Path:
        """The manifest of a finished stage."""
        return self.path / "stages" / f"{stage}.json"


class TimeSpent:
    """Seconds of a work that may be killed and continued by another command, kept in a file while it goes on.

    `before`: those of the commands that were interrupted, to a second, with all that they did and lost again.
    """

    def __init__(self, path: Path) -> None:
        self.before = _seconds(path)
        self._path = path
        self._start = self._kept = time.perf_counter()

    def keep(self) -> None:
        """Write the time, if it was not written within the last KEPT_EVERY seconds."""
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


def write_texts(folder: Path, texts: Mapping[str, str]) -> None:
    """Write the files `name -> text` into `folder`, each beside and renamed, so a reader never sees half a
    report. Raises NoSpace where the device is full."""
    for name, text in texts.items():
        with space_needed(folder), beside(folder / name) as part:
            part.write_text(text, encoding="utf-8")


def write_signed(path: Path, value: dict[str, Any]) -> None:
    """Write an object with its own SHA-256 in it, by which `read_signed` knows that it is whole."""
    value = json.loads(json.dumps(value))
    write_json(path, {**value, "sha256": fingerprint(value)})


def read_signed(path: Path) -> dict[str, Any]:
    """What `write_signed` wrote; earlier versions did not sign. Raises ValueError for a damaged file."""
    value = json.loads(path.read_text("utf-8"))
    if not isinstance(value, dict):
        raise ValueError("it holds no object")
    if value.pop("sha256", None) not in (None, fingerprint(value)):
        raise ValueError("its content is not the one that was written")
    return value


def differing(one: Any, other: Any, name: str = "") -> list[str]:
    """Dotted names of what differs in two nested mappings."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return [] if one == other else [name]
    return [
        path
        for key in {**one, **other}
        for path in differing(one.get(key), other.get(key), f"{name}.{key}".lstrip("."))
    ]


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Inside the block no other process is in one for the same folder, which is made if need be, and goes
    with the block if it is empty then. Raises InUse."""
    if folder.exists() and not folder.is_dir() or not world().is_main:
        yield  # whoever needs a folder there refuses the file
        return
    made = not folder.exists()
    try:
        with ExitStack() as held:
            with space_needed(folder):
                folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(locked(folder / LOCK_FILE, f'the folder "{folder}"', "another --out"))
            yield
    finally:
        if made:
            with suppress(OSError):  # not empty
                folder.rmdir()


@contextmanager
def alone_beside(path: Path, remedy: str) -> Iterator[None]:
    """As `alone_in` for what is replaced as a whole: the lock is a file beside it, and what killed processes
    left there is removed. `remedy` is what the message to others offers. Raises InUse."""
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f".{path.name}{LOCK_FILE}"), f'"{path}"', remedy):
        for part in [part for part in path.parent.glob(".*.part") if part.name.startswith(f".{path.name}.")]:
            remove(part)
        yield


def holds_something(folder: Path) -> bool:
    """Whether a folder has any file in it but our lock and what a killed process had not finished writing."""
    return folder.exists() and any(_is_content(path) for path in folder.iterdir())


def _is_content(path: Path) -> bool:
    ours = path.name == LOCK_FILE or _PART.fullmatch(path.name)
    return not ours and (not path.is_dir() or holds_something(path))


def remove_parts(folder: Path) -> None:
    """Remove what killed processes left half written; to be called where nobody else writes (`alone_in`)."""
    for path in [path for path in folder.rglob(".*.part") if _PART.fullmatch(path.name)]:
        remove(path)


@contextmanager
def scratch_in(folder: Path) -> Iterator[Path]:
    """A new folder inside, on the same device, that is gone after the block."""
    path = _part(folder / "scratch")
    path.mkdir()
    try:
        yield path
    finally:
        remove(path)


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path`, file or folder,
    when the block ends well; nothing is lost when it does not.

    Of several processes the first alone writes: what the others write goes nowhere.
    """
    if not world().is_main:
        with tempfile.TemporaryDirectory() as nowhere:
            yield Path(nowhere) / path.name
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _part(path)
    try:
        yield part
        _put(part, path)
    except BaseException:
        remove(part)
        raise


def _part(path: Path) -> Path:
    """A new name beside `path`, that no other process writes to."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def _put(part: Path, path: Path) -> None:
    """Rename. A folder is moved away first, since no system replaces one that is not empty."""
    if not (path.is_dir() and not path.is_symlink()) and not (part.is_dir() and os.path.lexists(path)):
        os.replace(part, path)
        return
    before = _part(path)
    os.replace(path, before)
    try:
        os.replace(part, path)
    except BaseException:
        os.replace(before, path)
        raise
    remove(before)


@contextmanager
def space_needed(folder: Path) -> Iterator[None]:
    """Turns the system's "no space left" into a sentence with the remedy."""
    try:
        yield
    except Exception as error:
        free = shutil.disk_usage(_existing(folder)).free / 1e9
        if _is_full_disk(error, free):
            raise NoSpace(
                f'no space left on the device of "{folder}" ({free:.1f} GB free); make room or choose '
                "another --out, then run the same command again: finished stages are kept."
            ) from error
        raise


def _is_full_disk(error: Exception, free_gigabytes: float) -> bool:
    """The system's own error, or what polars, safetensors and torch make of it; torch's writer names no
    cause, so the disk is asked."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(
        error
    ):
        return True
    return isinstance(error, RuntimeError) and "inline_container" in str(error) and free_gigabytes < 0.1


def peak_gigabytes() -> float | None:
    """Highest memory of this process so far in GB, or None where the system does not report it."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    unit = 1e9 if sys.platform == "darwin" else 1e6  # bytes there, kilobytes elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 3)


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


def remove(path: Path) -> None:
    """Remove a file or a folder with all in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def built_on(record: StageRecord) -> dict[str, str]:
    """Earlier stage of the same run -> its fingerprint when the stage was done."""
    inputs = record.inputs
    before = {"index": "prepare", "write": "index", "train": "write", "report": "evaluate"}.get(
        record.name, ""
    )
    named = {before: inputs[before]} if before in inputs else {}
    return {**named, **inputs.get("recommend", {}), **inputs.get("built on", {})}


def _command(stage: str) -> str:
    """The command that does a stage: "recommend" for "recommend.aligned"."""
    return "report" if stage == "certify" else stage.partition(".")[0]


def _seconds(path: Path) -> float:
    """What `TimeSpent` kept. Raises ChangedFile."""
    try:
        return float(json.loads(path.read_text()))
    except FileNotFoundError:
        return 0.0
    except (OSError, ValueError, TypeError):
        raise ChangedFile(
            f'"{path}" is damaged; remove it and run `shelftalk train` or `shelftalk run` again: the '
            "training continues, and only the time that it has taken so far is forgotten."
        ) from None


def _number(line: bytes) -> int:
    """The number in a line of the log of evaluations of the test part, 0 where it has none."""
    try:
        return int(json.loads(line)["number"])
    except (ValueError, KeyError, TypeError):
        return 0


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
