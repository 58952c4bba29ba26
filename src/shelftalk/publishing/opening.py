"""A published folder as a recommender: no run folder, no training data, the same answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from shelftalk import parts
from shelftalk.assemble import TRIE_FOLDER, holds_names
from shelftalk.data.dataset import EVENT_COLUMNS, Dataset
from shelftalk.data.splitting import Split
from shelftalk.decoding.settings import DecodingSettings, PriorSettings
from shelftalk.errors import AnotherExperiment, SettingsError
from shelftalk.experiment import read_toml, validated
from shelftalk.indexing.item_index import ItemIndex
from shelftalk.publishing.contents import CATALOGUE, EXPERIMENT, INDEX, TEMPLATES, read_facts
from shelftalk.recommender import Rater
from shelftalk.tasks.item_text import ItemText, TextSettings
from shelftalk.tasks.task import ServedTask, TaskContext
from shelftalk.tasks.templates import Words
from shelftalk.training.settings import TrainingSettings

if TYPE_CHECKING:  # torch is loaded when a folder is opened
    from shelftalk.decoding.item_trie import ItemTrie
    from shelftalk.decoding.language_model import LanguageModelRecommender
    from shelftalk.decoding.prior import AlignedWithPrior, Prior
    from shelftalk.models.backbone import Backbone


@dataclass(frozen=True)
class PublishedContext(TaskContext):
    """What prompts are made of where there is a catalogue and no events: the rating texts are those of the training."""

    scale: Mapping[float, str] | None = None

    @cached_property
    def rating_texts(self) -> dict[float, str]:
        """Rating value, ascending -> text; none for data without ratings."""
        return dict(self.scale or {})


def open_recommender(folder: str | Path) -> LanguageModelRecommender:
    """The language model of a folder that `shelftalk publish` made: `recommend`, `rank`, and, for data with ratings, `rate` and
    `ratings`, for any history of catalogue items.

    Its answers are those of the run's "aligned" on the same machine; `model.searching(beams=80)` asks otherwise. Nothing but the folder
    is read. Raises MissingFile, UnreadableFile, and AnotherExperiment where a file is not the one that was published, or where this
    tokenizer reads the item names otherwise than the one that wrote the trie.
    """
    from shelftalk.decoding.item_trie import open_trie
    from shelftalk.decoding.language_model import LanguageModelRecommender
    from shelftalk.models.pretrained import load_backbone

    folder = Path(folder)
    facts, settings = read_facts(folder), read_toml(folder / EXPERIMENT, "experiment")
    index, trie = ItemIndex.load(folder / INDEX), open_trie(folder / TRIE_FOLDER)
    backbone = load_backbone(folder, _section(TrainingSettings, settings, "training", folder).precision)
    _check_names(trie, index, backbone, folder)
    tasks = _served(folder, facts, settings, index)
    return LanguageModelRecommender(backbone, index, tasks, _section(DecodingSettings, settings, "decoding", folder), trie=trie)


def with_prior(folder: str | Path, model: LanguageModelRecommender, prior: Prior, rating_prior: Rater | None = None) -> AlignedWithPrior:
    """`model`, opened from `folder`, combined with a prior by the weights that its run chose on validation.

    A prior stands on who took what, so no folder holds one: fit it where the data is, under the name that the weights were chosen for.
    Raises SettingsError where they were chosen for another, or none were.
    """
    from shelftalk.decoding.prior import AlignedWithPrior, Chosen

    folder = Path(folder)
    weights = {row["task"]: Chosen(**row) for row in read_facts(folder)["weights"]}
    given: dict[str, Prior | Rater] = {
        "retrieval": prior,
        "ranking": prior,
        **({"rating": rating_prior} if rating_prior is not None else {}),
    }
    for task, its_prior in given.items():
        if task not in weights:
            raise SettingsError(f'"{folder}" has no weight of a prior for {task}; evaluate "aligned+prior" in its run and publish again.')
        if weights[task].prior != its_prior.name:
            raise SettingsError(
                f'the weight for {task} was chosen for the prior "{weights[task].prior}", not for "{its_prior.name}"; give that one, '
                "or evaluate the run with the other and publish again."
            )
    settings = _section(PriorSettings, read_toml(folder / EXPERIMENT, "experiment"), "prior", folder)
    return AlignedWithPrior(model, prior, rating_prior, settings, {task: weights[task] for task in given})


def _served(folder: Path, facts: Mapping[str, Any], settings: Mapping[str, Any], index: ItemIndex) -> dict[str, ServedTask]:
    """The tasks that the model is asked, in the wordings that it was trained with."""
    catalogue = Dataset(pl.read_parquet(folder / CATALOGUE, glob=False), pl.DataFrame(schema=EVENT_COLUMNS))
    nothing = np.zeros(0, np.uint8)
    text = ItemText(catalogue, index, _section(TextSettings, settings, "text", folder))
    scale = {value: said for value, said in facts["ratings"]}
    context = PublishedContext(Split(catalogue, nothing, nothing, {}), text, Words(**facts["words"]), scale=scale)
    tasks: dict[str, ServedTask] = {}
    for name in facts["tasks"]:
        kind = parts.load(parts.TASKS, name, "task")
        own = {**settings["tasks"][name], "templates": str(folder / TEMPLATES / f"{name}.toml")}
        tasks[name] = kind(validated(kind.settings_type, own, f"tasks.{name}", str(folder / EXPERIMENT)), context)
    return tasks


def _section(kind: Any, settings: Mapping[str, Any], name: str, folder: Path) -> Any:
    """One section of the folder's experiment; the others do not matter to answers, so a later version may know them no more."""
    return validated(kind, settings.get(name, {}), name, str(folder / EXPERIMENT))


def _check_names(trie: ItemTrie, index: ItemIndex, backbone: Backbone, folder: Path) -> None:
    """Raises AnotherExperiment where index, trie and tokenizer do not go together."""
    if not holds_names(trie, backbone, index):
        raise AnotherExperiment(
            f'the item names of "{folder}" have other tokens here than where the model was trained; install the versions that its card '
            "names, or publish the run again."
        )
