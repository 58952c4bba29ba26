"""What a model folder holds beside weights and tokenizer, and whether it belongs to a run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from shelftalk import parts
from shelftalk.data.splitting import Split
from shelftalk.errors import AnotherExperiment, MissingFile, UnreadableFile
from shelftalk.experiment import Experiment
from shelftalk.indexing.item_index import ItemIndex
from shelftalk.runtime.run_folder import differing, write_json
from shelftalk.settings import Settings
from shelftalk.tasks.task import Task
from shelftalk.tasks.templates import Template

if TYPE_CHECKING:  # torch is loaded only where a language model is
    from shelftalk.decoding.item_trie import ItemTrie, Trie
    from shelftalk.models.backbone import Backbone

TRIE_FOLDER = "item_trie"
"""In a model folder: the item names as the model's tokens."""
CHECKED_NAMES = 100
"""About how many names of a saved trie are compared with the index when a model is opened."""
MODEL_FACTS = "shelftalk.json"
"""In a model folder: what the model was trained with (see ModelFacts)."""


class ModelFacts(Settings):
    """shelftalk.json of a run's model/: the prompts that the model was trained with and is always used with,
    even if their files have changed since."""

    split: str
    """SHA-256 of the split."""
    scheme: str = ""
    """The index scheme of the items' names."""
    templates: dict[str, tuple[Template, ...]]
    """By task."""
    prompts: dict[str, Any] = {}
    """The other settings that prompts depend on, see `prompt_settings`; empty in models of version 0.1.0."""


def save_recommender(
    folder: Path,
    backbone: Backbone,
    index: ItemIndex,
    tasks: Mapping[str, Task],
    split: Split,
    experiment: Experiment,
) -> None:
    """Write what a language model needs to be a recommender, beside its weights: item index and trie,
    templates, split hash and the settings of its prompts."""
    from shelftalk.decoding.item_trie import trie_of

    index.save(folder / "item_index.parquet")
    trie = trie_of(backbone, index, os.cpu_count() or 1)
    trie.save(folder / TRIE_FOLDER)
    save_generation_settings(folder, backbone, trie, experiment.decoding.beams)
    templates = {name: [asdict(template) for template in task.templates] for name, task in tasks.items()}
    facts = {"split": split.fingerprint(), "scheme": index.scheme, "templates": templates}
    write_json(folder / MODEL_FACTS, {**facts, "prompts": prompt_settings(experiment)})


def prompt_settings(experiment: Experiment) -> dict[str, Any]:
    """What the prompts of a trained model depend on beside its templates: nouns, texts of items, and the
    settings of each served task."""
    excluded = {"weight", "templates"}  # how much a task is trained, and where its templates were
    tasks = {name: experiment.tasks[name].model_dump(mode="json", exclude=excluded) for name in parts.SERVED}
    return {
        "nouns": asdict(experiment.data.nouns),
        "text": experiment.text.model_dump(mode="json"),
        "tasks": tasks,
    }


def save_generation_settings(folder: Path, backbone: Backbone, trie: Trie, beams: int) -> None:
    """Write a generation_config.json for `generate` with the trie's logits processor, without the settings of
    a released model."""
    from shelftalk.decoding.logits_processor import generation_config

    end = backbone.tokenizer.eos_token_id
    generation_config(backbone.model, trie, backbone.pad if end is None else end, beams).save_pretrained(
        folder
    )


def read_model_facts(folder: Path) -> ModelFacts:
    """What the model of a run was trained with. Raises MissingFile, or UnreadableFile for a damaged file."""
    facts = folder / MODEL_FACTS
    try:
        return ModelFacts.model_validate_json(facts.read_bytes())
    except FileNotFoundError:
        raise MissingFile(
            f'"{folder}" holds no trained model; run `shelftalk train` first or correct the path.'
        ) from None
    except (OSError, ValidationError):
        raise UnreadableFile(f'"{facts}" is damaged; {redo_training(folder)}.') from None


def check_model(folder: Path, split: Split, experiment: Experiment) -> None:
    """Raises AnotherExperiment where the model was trained on another split than the run's or with other
    settings of its prompts, and MissingFile or UnreadableFile as `read_model_facts` does."""
    facts = read_model_facts(folder)
    if facts.split != split.fingerprint():
        raise AnotherExperiment(
            f'the model in "{folder}" was trained on another split of the data; train again or choose another'
            " --out."
        )
    now = prompt_settings(experiment)
    if differs := differing(_shared(facts.prompts, now), _shared(now, facts.prompts)):
        raise AnotherExperiment(
            f'the model in "{folder}" was trained with other settings of its prompts than the experiment has '
            f"now ({', '.join(differs[:3])}); set them back, or train with another --out."
        )


def _shared(table: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The entries of a table whose keys the other has too: an older model lacks settings
    of later versions."""
    both = {key: (value, other[key]) for key, value in table.items() if key in other}
    tables = {key: isinstance(one, dict) and isinstance(two, dict) for key, (one, two) in both.items()}
    return {key: _shared(one, two) if tables[key] else one for key, (one, two) in both.items()}


def redo_training(model: Path) -> str:
    """The remedy for a damaged model folder of a run."""
    return (
        f'remove the folder "{model}" and run `shelftalk train` again, which continues after its last '
        "checkpoint"
    )


def check_trie(trie: ItemTrie, folder: Path, backbone: Backbone, index: ItemIndex) -> None:
    """Raises AnotherExperiment where the trie of `folder` holds other names than the
    index (see `holds_names`)."""
    if not holds_names(trie, backbone, index):
        raise AnotherExperiment(
            f'"{folder}" holds the names of another item index; delete that folder, and its trie is built '
            "again."
        )


def holds_names(trie: ItemTrie, backbone: Backbone, index: ItemIndex) -> bool:
    """Whether the trie holds the index's names as the backbone reads them, by their number and by a
    few of them."""
    if trie.items != len(index.item_ids) or not backbone.text_encoder.has_symbols(index.vocabulary):
        return False
    vocabulary = backbone.model.get_input_embeddings().weight.shape[0]
    if int(max(trie.token.max(), trie.tail.max(initial=-1))) >= vocabulary:
        return False
    rows = range(0, len(index.item_ids), max(1, len(index.item_ids) // CHECKED_NAMES))
    expected = backbone.encode_names([index.segments(index.item_ids[row]) for row in rows])
    saved = trie.names(np.array(rows))
    return np.array_equal(saved.offsets, expected.offsets) and np.array_equal(saved.values, expected.values)
