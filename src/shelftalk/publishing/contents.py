"""What a published folder holds, and how it is checked: only files that are listed with their hashes are
read, and facts must have the right form. A folder from outside is untrusted until then.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shelftalk import __version__
from shelftalk.decoding.trie_files import ARRAYS
from shelftalk.errors import AnotherExperiment, MissingFile, UnreadableFile, reading
from shelftalk.pipeline.model_folder import TRIE_FOLDER
from shelftalk.recommender import TaskName

FACTS = "shelftalk.json"
"""Split hash, tasks, nouns, rating scale, prior weights, and the SHA-256 of every other file that
answers depend on."""
CARD = "README.md"
EXPERIMENT = "experiment.toml"
INDEX = "item_index.parquet"
CATALOGUE = "catalogue.parquet"
TEMPLATES = "templates"
STUDENT = "student.safetensors"
"""The network of a student, in whose folder there is no language model."""
PRIOR = "prior/scores.safetensors"
"""The prior of retrieval and ranking, where a folder holds it: counts of who took what with what."""
RATING_PRIOR = "prior/ratings.safetensors"
FILE_KINDS = (
    ("*.safetensors", "weights"),
    ("config.json", "architecture"),
    ("generation_config.json", "settings of `generate` inside the item trie"),
    ("tokenizer*", "tokenizer"),
    (INDEX, "item names"),
    ("item_trie/*", "item names as the model's tokens"),
    (CATALOGUE, "item ids and texts"),
    (f"{TEMPLATES}/*", "prompt templates"),
    ("prior/*", "the prior: counts of who took what with what"),
    (EXPERIMENT, "every setting, paths left out"),
    (FACTS, "split hash, rating scale, prior weights, hashes of the files"),
    (CARD, "the model card"),
)
"""Pattern -> a description of such files."""
REQUIRED = (
    "config.json",
    "tokenizer_config.json",
    INDEX,
    CATALOGUE,
    EXPERIMENT,
    *(f"{TRIE_FOLDER}/{name}.npy" for name in ARRAYS),
)
"""Files that every folder lists, beside weights and templates; opening reads these and the
tokenizer's other files."""
WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")
WEIGHTS_INDEX = "model.safetensors.index.json"
TOKENIZER = (
    "tokenizer.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "vocab.txt", "merges.txt", "spiece.model", "sentencepiece.bpe.model",
)  # fmt: skip
"""Further files of a tokenizer, read if they are listed."""
AnyFacts = TypeVar("AnyFacts", "Facts", "StudentFacts")
LARGEST_FACTS = 10_000_000
"""Most bytes of shelftalk.json; a few thousand are usual."""
FETCH_AGAIN = "fetch the folder again as a whole, or publish the run again"


class _Fact(BaseModel):
    """Answers may depend on a fact that this version does not know, so it is refused and not ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Nouns(_Fact):
    """What the shop calls its items and customers, see records.Nouns."""

    noun: str
    """One item."""
    nouns: str
    """Several items."""
    person: str
    """A customer."""
    took: str
    """The verb for taking an item, in the past tense."""


class PriorWeight(_Fact):
    """The weight of a prior as chosen on validation, see decoding.prior.ChosenWeight."""

    task: TaskName
    """The task that it is used for."""
    weight: float = Field(ge=0, le=1)
    """Share of the prior."""
    metric: str
    """The metric that it was chosen by."""
    value: float = Field(allow_inf_nan=False)
    """The metric's value on validation."""
    prior: str
    """The name of the prior."""


class Facts(_Fact):
    """shelftalk.json. No fact names code: a task is one of the built-in ones, whatever the run
    was made with."""

    shelftalk: str
    """The version that wrote the folder."""
    split: str
    """SHA-256 of the split that the model was trained on."""
    scheme: str
    """The index scheme, as a label: nothing is looked up by it."""
    tasks: tuple[TaskName, ...] = Field(min_length=1)
    """The tasks that the model answers."""
    words: Nouns
    """The nouns of its prompts."""
    ratings: tuple[
        tuple[
            Annotated[float, Field(allow_inf_nan=False)], Annotated[str, Field(min_length=1, max_length=40)]
        ],
        ...,
    ]
    """Rating value, ascending, and its text; none for data without ratings."""
    weights: tuple[PriorWeight, ...]
    """The weights that validation chose for "aligned+prior"."""
    prior: bool = False
    """Whether the folder holds the prior, and answers as "aligned+prior"."""
    files: dict[str, Annotated[str, Field(pattern="^[0-9a-f]{64}$")]]
    """Path inside the folder -> SHA-256."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        values, texts = [value for value, _ in self.ratings], [text for _, text in self.ratings]
        if len(set(self.tasks)) < len(self.tasks):
            raise ValueError("a task is named twice")
        if values != sorted(set(values)) or len(set(texts)) < len(texts):
            raise ValueError("the rating values do not ascend, or two of them have one text")
        if ("rating" in self.tasks) != bool(self.ratings):
            raise ValueError("there are ratings without the task, or the task without ratings")
        if self.prior and "retrieval" not in {row.task for row in self.weights}:
            raise ValueError("there is a prior without the weight that validation chose for it")
        if wrong := [name for name in self.files if not _plain(name)]:
            raise ValueError(f"files names {wrong[0]!r}, which is no path inside the folder")
        if missing := [name for name in self.required if name not in self.files]:
            raise ValueError(f'files lacks "{missing[0]}", whose hash every folder lists')
        return self

    @property
    def required(self) -> tuple[str, ...]:
        """The files that must be listed, by our rules and not by the folder's own list."""
        weights = tuple(name for name in self.files if WEIGHTS.fullmatch(name)) or ("model.safetensors",)
        shards = (WEIGHTS_INDEX,) if "model.safetensors" not in weights else ()
        priors = (PRIOR, *((RATING_PRIOR,) if self.weight_of("rating") else ())) if self.prior else ()
        return (*REQUIRED, *weights, *shards, *(f"{TEMPLATES}/{task}.toml" for task in self.tasks), *priors)

    def weight_of(self, task: str) -> PriorWeight | None:
        """The weight that validation chose for a task; None where it chose none."""
        return next((row for row in self.weights if row.task == task), None)

    @property
    def files_read(self) -> tuple[str, ...]:
        """The files that opening reads."""
        return (*self.required, *(name for name in TOKENIZER if name in self.files))


class StudentFacts(_Fact):
    """shelftalk.json of a student: a small model that a published one has taught."""

    shelftalk: str
    """The version that wrote the folder."""
    student: str
    """Its name."""
    teacher: str
    """The model that taught it, as a label."""
    split: str
    """SHA-256 of the split that it was trained on."""
    measured: dict[str, float]
    """What was measured when it was made, as labels and numbers."""
    files: dict[str, Annotated[str, Field(pattern="^[0-9a-f]{64}$")]]
    """Path inside the folder -> SHA-256."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if set(self.files) != {STUDENT, CATALOGUE}:
            raise ValueError(f"files are not {STUDENT} and {CATALOGUE}")
        return self

    @property
    def files_read(self) -> tuple[str, ...]:
        """The files that opening reads."""
        return STUDENT, CATALOGUE


def hashes(folder: Path) -> dict[str, str]:
    """Path inside the folder -> SHA-256, for every file but the card, which may be edited, and the facts,
    which list these hashes."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    by_name = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: _hash(path) for name, path in by_name.items() if name not in (FACTS, CARD)}


def is_published(folder: Path) -> bool | None:
    """Whether the folder was made by `shelftalk publish` (the model/ of a run was not); None where it
    cannot be read."""
    try:
        facts = json.loads(_text(folder / FACTS))
    except (OSError, ValueError, RecursionError):
        return None
    return isinstance(facts, dict) and "files" in facts


def read_facts(folder: Path) -> Facts:
    """The facts of a published folder whose files are those that they list.

    Raises MissingFile where the folder or a file of it is not there, UnreadableFile where the facts are not
    of their form or a file is elsewhere, and AnotherExperiment where a file is another one: weights, item
    names and templates of different trainings give wrong answers without an error. Whoever writes a folder
    also writes its hashes: they detect accidents, not attacks.
    """
    facts = _facts(folder, Facts)
    _check_files(folder, facts)
    return facts


def read_student_facts(folder: Path) -> StudentFacts:
    """The facts of a student's folder whose files are those that they list. Raises as `read_facts` does."""
    facts = _facts(folder, StudentFacts)
    _check_files(folder, facts)
    return facts


def is_student(folder: Path) -> bool:
    """Whether the folder claims to be that of a student."""
    try:
        facts = json.loads(_text(folder / FACTS))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(facts, dict) and "student" in facts


def _check_files(folder: Path, facts: Facts | StudentFacts) -> None:
    for name, expected in facts.files.items():
        path = _inside(folder, name)
        with reading(f'"{name}" in "{folder}" cannot be read', FETCH_AGAIN):
            if _hash(path) != expected:
                raise AnotherExperiment(
                    f'"{name}" in "{folder}" is not the file that this model was published with; '
                    f"{FETCH_AGAIN}."
                )


@contextmanager
def only_files_read(folder: Path, facts: Facts | StudentFacts) -> Iterator[Path]:
    """A temporary folder with the files that opening reads and no others, so that no library finds an
    unlisted one, such as an adapter's configuration that names another model. Messages of the block
    name the folder itself."""
    with TemporaryDirectory(prefix="shelftalk-") as temporary:
        for name in facts.files_read:
            target = Path(temporary, name)
            target.parent.mkdir(exist_ok=True)
            _link(_inside(folder, name), target)
        try:
            yield Path(temporary)
        except Exception as error:
            error.args = tuple(
                part.replace(temporary, str(folder)) if isinstance(part, str) else part for part in error.args
            )
            raise


def _facts(folder: Path, kind: type[AnyFacts]) -> AnyFacts:
    if not (folder / FACTS).exists():
        raise MissingFile(
            f'"{folder}" holds no published model; make one by `shelftalk publish RUN`, or correct the path.'
        )
    try:
        return kind.model_validate_json(_text(folder / FACTS))
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        if fault["type"] == "extra_forbidden":
            raise UnreadableFile(
                f'"{folder / FACTS}" holds "{where}", which shelftalk {__version__} does not know; install a '
                f"later version, or {FETCH_AGAIN}."
            ) from None
        reason = f"{where}: {fault['msg']}" if where else fault["msg"].removeprefix("Value error, ")
    except (OSError, ValueError) as error:
        reason = str(error)
    if is_published(folder) is False:
        raise MissingFile(
            f'"{folder}" holds no published model; make one by `shelftalk publish RUN`, or correct the path.'
        )
    raise UnreadableFile(f'"{folder / FACTS}" is damaged ({reason}); {FETCH_AGAIN}.')


def _text(path: Path) -> str:
    if not path.is_file():
        raise ValueError("it is not a file")
    if path.stat().st_size > LARGEST_FACTS:
        raise ValueError(f"it is larger than {LARGEST_FACTS:,} bytes")
    return path.read_text("utf-8")


def _plain(name: str) -> bool:
    """Whether a name is a relative path inside the folder on every system: no root, drive, "..", backslash
    or empty part."""
    return not set(name) & set("\\:\0") and not {"", ".", ".."} & set(name.split("/"))


def _inside(folder: Path, name: str) -> Path:
    """The file itself, after the links of a hub's cache are resolved. Raises MissingFile, and
    UnreadableFile for a link that leads elsewhere and for anything but a plain file: a device or a pipe
    would be read for ever."""
    root = folder.resolve()
    try:
        path = (folder / name).resolve(strict=True)
    except (OSError, RuntimeError):
        raise MissingFile(f'"{name}" is missing in "{folder}"; {FETCH_AGAIN}.') from None
    cache = root.parent.parent / "blobs"  # snapshots/REVISION/NAME links there
    if not (path.is_relative_to(root) or path.is_relative_to(cache)) or not path.is_file():
        raise UnreadableFile(f'"{name}" in "{folder}" is no file of that folder; {FETCH_AGAIN}.')
    return path


def _link(path: Path, target: Path) -> None:
    try:
        target.symlink_to(path)
    except OSError:  # not every system lets every user make links
        shutil.copyfile(path, target)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_folder(folder: Path, address: str | None, as_json: bool) -> str:
    """The contents of the folder, a row per kind of file, and where it was pushed to; `as_json`: as
    one JSON object."""
    sizes = {pattern: sum(path.stat().st_size for path in folder.glob(pattern)) for pattern, _ in FILE_KINDS}
    rows = [(pattern, sizes[pattern], what) for pattern, what in FILE_KINDS if sizes[pattern]]
    if as_json:
        files = [{"files": pattern, "bytes": size, "holds": what} for pattern, size, what in rows]
        return json.dumps({"folder": str(folder), "pushed_to": address, "files": files}, indent=1)
    lines = [f"{pattern:<24}{size / 1e6:>10.2f} MB  {what}" for pattern, size, what in rows]
    return "\n".join([*lines, f"Folder: {folder}", *([f"Pushed to: {address}"] if address else [])])
