"""A published folder as a recommender: no run folder, no training data, the same answers.

What opening guarantees for an untrusted folder is in docs/how-to.md, "What opening a folder promises".
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from shelftalk import parts
from shelftalk.baselines.stored import open_model
from shelftalk.data.dataset import EVENT_COLUMNS, ITEM_COLUMNS, Dataset
from shelftalk.data.splitting import Split
from shelftalk.decoding.settings import DecodingSettings, PriorSettings
from shelftalk.errors import AnotherExperiment, SettingsError, reading
from shelftalk.experiment import read_toml, validated
from shelftalk.indexing.item_index import ItemIndex
from shelftalk.models.settings import Precision
from shelftalk.pipeline.model_folder import TRIE_FOLDER, holds_names
from shelftalk.publishing.contents import (
    CATALOGUE,
    EXPERIMENT,
    FACTS,
    FETCH_AGAIN,
    INDEX,
    PRIOR,
    RATING_PRIOR,
    STUDENT,
    TEMPLATES,
    Facts,
    is_student,
    only_files_read,
    read_facts,
    read_student_facts,
)
from shelftalk.recommender import Rater, TaskName
from shelftalk.records import Nouns, Request
from shelftalk.runtime.file_hashes import sha256
from shelftalk.tasks.item_text import ItemText, TextSettings
from shelftalk.tasks.task import ServedTask, TaskContext
from shelftalk.training.settings import TrainingSettings

if TYPE_CHECKING:  # torch is loaded when a folder is opened
    from shelftalk.decoding.item_trie import ItemTrie
    from shelftalk.decoding.language_model import LanguageModelRecommender
    from shelftalk.decoding.prior import AlignedWithPrior, Prior
    from shelftalk.models.backbone import Backbone


@dataclass(frozen=True)
class PublishedContext(TaskContext):
    """The context of prompts with a catalogue and no events: the rating texts are those of the training."""

    scale: Mapping[float, str] | None = None

    @cached_property
    def rating_texts(self) -> dict[float, str]:
        """Rating value, ascending -> text; none for data without ratings."""
        return dict(self.scale or {})


def open_recommender(folder: str | Path, precision: Precision | None = None) -> LanguageModelRecommender:
    """The language model of a folder that `shelftalk publish` made: `recommend`, `rank`, and, for data with
    ratings, `rate` and `ratings`, for any history.

    Its answers are those of the run's "aligned" on the same machine; `model.with_settings(beams=80)` changes
    the search. `precision` of its matrix products: by default that of the training, or fp32 where this
    machine lacks it. Nothing but the folder is read, and none of its files can name code that is run. Raises
    MissingFile; UnreadableFile where a file is damaged or invalid; AnotherExperiment where a file is not the
    one that was published, or where this tokenizer splits the item names otherwise than the one that wrote
    the trie; SettingsError for a precision that this machine lacks.
    """
    return _opened(Path(folder), precision, with_prior=False)[0]


def open_published(folder: str | Path, precision: Precision | None = None) -> tuple[Any, pl.DataFrame]:
    """As `open_recommender`, with the prior where the folder holds one: then its answers are those of the
    run's "aligned+prior". Of a student's folder the student. Also the frame of its catalogue."""
    if is_student(Path(folder)):
        return _student(Path(folder))
    model, combined = _opened(Path(folder), precision, with_prior=True)
    return combined or model, _catalogue(model)


@dataclass(frozen=True)
class Described:
    """What is known of a published folder without opening its model."""

    fingerprint: str
    """SHA-256 of its facts, which list the hashes of all files that answers depend on."""
    items: pl.DataFrame
    """The catalogue."""
    tasks: tuple[TaskName, ...]
    """What it answers."""
    reads_text: bool
    """Whether a history may hold a Text."""


def describe_published(folder: str | Path) -> Described:
    """Catalogue and tasks of a folder, whose files are checked as by opening. Raises as `open_recommender`
    does."""
    folder = Path(folder)
    if is_student(folder):
        _, items = _student(folder)
        return Described(sha256(folder / FACTS), items, ("retrieval", "ranking"), reads_text=False)
    facts = read_facts(folder)
    with _read(folder), only_files_read(folder, facts) as files:
        items = _read_catalogue(files)
    return Described(sha256(folder / FACTS), items, facts.tasks, reads_text=True)


def _student(folder: Path) -> tuple[Any, pl.DataFrame]:
    """A student and its catalogue. Its network reads item ids and nothing of the folder but its weights."""
    facts = read_student_facts(folder)
    with _read(folder), only_files_read(folder, facts) as files:
        items = _read_catalogue(files)
        model = open_model(files / STUDENT, items)
        if not hasattr(model, "network") or model.name != facts.student:
            raise ValueError(f"{STUDENT} holds another model than the facts say")
        model.recommend([Request("", (items["item_id"][0],))], 1)
    return model, items


def _opened(
    folder: Path, precision: Precision | None, with_prior: bool
) -> tuple[LanguageModelRecommender, AlignedWithPrior | None]:
    facts, combined = read_facts(folder), None
    with _read(folder), only_files_read(folder, facts) as files:
        model = _recommender(files, facts, precision)
        _check_answers(model)
        if facts.prior and with_prior:
            combined = _with_stored_prior(files, facts, model)
    if precision not in (None, "auto", "fp32") and not getattr(model.backbone, precision):
        raise SettingsError(f'this machine or model has no {precision}; give precision = "fp32", or none.')
    return model, combined


def with_prior(
    folder: str | Path, model: LanguageModelRecommender, prior: Prior, rating_prior: Rater | None = None
) -> AlignedWithPrior:
    """`model`, opened from `folder`, combined with a prior by the weights that its run chose on validation.

    For a folder that does not hold its prior: fit it where the data is, under the name that the weights were
    chosen for. Raises SettingsError where they were chosen for another, or none were, and otherwise as
    `open_recommender` does.
    """
    folder = Path(folder)
    facts = read_facts(folder)
    priors: dict[str, Prior | Rater] = {
        "retrieval": prior,
        "ranking": prior,
        **({"rating": rating_prior} if rating_prior is not None else {}),
    }
    for task, its_prior in priors.items():
        weight = facts.weight_of(task)
        if weight is None:
            raise SettingsError(
                f'"{folder}" has no weight of a prior for {task}; evaluate "aligned+prior" in its run and '
                "publish again."
            )
        if weight.prior != its_prior.name:
            raise SettingsError(
                f'the weight for {task} was chosen for the prior "{weight.prior}", not for '
                f'"{its_prior.name}"; give that one, or evaluate the run with the other and publish again.'
            )
    with _read(folder), only_files_read(folder, facts) as files:
        return _combined(files, facts, model, prior, rating_prior)


def _with_stored_prior(files: Path, facts: Facts, model: LanguageModelRecommender) -> AlignedWithPrior:
    """The priors of the folder, each the one that its weight was chosen for, and asked once."""
    items = _catalogue(model)
    prior = open_model(files / PRIOR, items)
    rating_prior = open_model(files / RATING_PRIOR, items) if facts.weight_of("rating") else None
    for task, its_prior in (("retrieval", prior), ("ranking", prior), ("rating", rating_prior)):
        weight = facts.weight_of(task)
        if its_prior and weight and weight.prior != its_prior.name:
            raise ValueError(
                f'it holds "{its_prior.name}", and the weight for {task} is for "{weight.prior}"'
            )
    combined = _combined(files, facts, model, prior, rating_prior)
    request = Request("", (model.index.item_ids[0],), item=model.index.item_ids[0])
    combined.recommend([request], 1)
    if rating_prior and not np.isfinite(combined.rate([request])).all():
        raise ValueError("its estimates are not numbers")
    return combined


def _combined(
    files: Path, facts: Facts, model: LanguageModelRecommender, prior: Prior, rating_prior: Rater | None
) -> AlignedWithPrior:
    from shelftalk.decoding.prior import AlignedWithPrior, ChosenWeight

    settings = _section(PriorSettings, read_toml(files / EXPERIMENT, "experiment"), "prior")
    weights: dict[str, ChosenWeight] = {
        row.task: ChosenWeight(**row.model_dump())
        for row in facts.weights
        if row.task in model.tasks and (row.task != "rating" or rating_prior is not None)
    }
    return AlignedWithPrior(model, prior, rating_prior, settings, weights)


def _read(folder: Path) -> AbstractContextManager[None]:
    return reading(f'"{folder}" cannot be opened', FETCH_AGAIN)


def _recommender(files: Path, facts: Facts, precision: Precision | None) -> LanguageModelRecommender:
    """From the verified files of a folder. The trie comes first: it is small, and its size
    limits the others."""
    from shelftalk.decoding.item_trie import open_trie
    from shelftalk.decoding.language_model import LanguageModelRecommender
    from shelftalk.models.pretrained import load_backbone

    settings = read_toml(files / EXPERIMENT, "experiment")
    trie = open_trie(files / TRIE_FOLDER)
    for table in (INDEX, CATALOGUE):
        _check_rows(files / table, trie.items)
    index = ItemIndex.load(files / INDEX)
    tasks = _served(files, facts, settings, index)
    backbone = load_backbone(files, precision or _section(TrainingSettings, settings, "training").precision)
    _check_names(trie, index, backbone, files)
    return LanguageModelRecommender(
        backbone, index, tasks, _section(DecodingSettings, settings, "decoding"), trie=trie
    )


def _check_rows(path: Path, items: int) -> None:
    """Raises ValueError for a table of another length, by its footer only: a few bytes can decompress to any
    number of rows."""
    rows = pl.scan_parquet(path, glob=False).select(pl.len()).collect().item()
    if rows != items:
        raise ValueError(f"{path.name} has {rows:,} rows, and the item trie {items:,} items")


def _served(
    files: Path, facts: Facts, settings: Mapping[str, Any], index: ItemIndex
) -> dict[str, ServedTask]:
    """The served tasks, with the templates that the model was trained with."""
    items = _read_catalogue(files)
    if items["item_id"].to_list() != list(index.item_ids):
        raise ValueError(f"{CATALOGUE} and {INDEX} hold different items")
    catalogue = Dataset(items, pl.DataFrame(schema=EVENT_COLUMNS))
    nothing = np.zeros(0, np.uint8)
    text = ItemText(catalogue, index, _section(TextSettings, settings, "text"))
    context = PublishedContext(
        Split(catalogue, nothing, nothing, {}),
        text,
        Nouns(**facts.words.model_dump()),
        scale=dict(facts.ratings),
    )
    tasks: dict[str, ServedTask] = {}
    for name in facts.tasks:
        kind = parts.load(parts.TASKS, name, "task")
        own = {**settings["tasks"][name], "templates": str(files / TEMPLATES / f"{name}.toml")}
        tasks[name] = kind(validated(kind.settings_type, own, f"tasks.{name}", EXPERIMENT), context)
    return tasks


def _read_catalogue(files: Path) -> pl.DataFrame:
    items = pl.read_parquet(files / CATALOGUE, glob=False)
    if items.schema != pl.Schema(ITEM_COLUMNS) or items.drop("price").null_count().sum_horizontal().item():
        raise ValueError(f"{CATALOGUE} is no catalogue")
    return items


def _section(kind: Any, settings: Mapping[str, Any], name: str) -> Any:
    """One section of the folder's experiment; the others do not affect answers, so a later version
    may drop them."""
    return validated(kind, settings.get(name, {}), name, EXPERIMENT)


def _check_names(trie: ItemTrie, index: ItemIndex, backbone: Backbone, files: Path) -> None:
    """Raises AnotherExperiment where index, trie and tokenizer do not match."""
    if not holds_names(trie, backbone, index):
        raise AnotherExperiment(
            f'the item names of "{files}" have other tokens here than where the model was trained; install '
            "the versions that its card names, or publish the run again."
        )


def _catalogue(model: LanguageModelRecommender) -> pl.DataFrame:
    return model.tasks["retrieval"].context.split.dataset.items


def _check_answers(model: LanguageModelRecommender) -> None:
    """Answer one request per task, since a well-formed config can still be no working model. Raises
    as they do."""
    item = model.index.item_ids[0]
    request = Request("", (item,), candidates=(item,), item=item)
    model.with_settings(search="beam", beams=1).recommend([request], 1)
    if "ranking" in model.tasks:
        model.rank([request])
    if "rating" in model.tasks and not np.isfinite(model.rate([request])).all():
        raise ValueError("its estimates are not numbers")
