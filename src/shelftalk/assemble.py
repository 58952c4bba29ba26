"""From an experiment and the files of its run to finished things: split, index, tasks, backbone,
recommenders."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from shelftalk import parts, seeds
from shelftalk.data.similarity import item_texts, not_counted
from shelftalk.data.splitting import Split
from shelftalk.decoding.workload import Asking
from shelftalk.errors import AnotherExperiment, MissingFile, SettingsError, UnreadableFile, reading
from shelftalk.evaluation.evaluator import evaluate_retrieval, summarise
from shelftalk.evaluation.metrics import LIST_LENGTH
from shelftalk.experiment import Experiment
from shelftalk.indexing.item_index import IndexSettings, ItemIndex, split_symbols
from shelftalk.runtime.distributed import world
from shelftalk.runtime.run_folder import RunFolder, differing, write_json
from shelftalk.settings import Settings
from shelftalk.tasks.item_text import ItemText
from shelftalk.tasks.samples import read_samples
from shelftalk.tasks.sentinels import all_sentinels
from shelftalk.tasks.task import ServedTask, Task, TaskContext
from shelftalk.tasks.templates import Template, Words

if TYPE_CHECKING:  # torch is loaded only where a language model is
    from shelftalk.decoding.item_trie import ItemTrie, Trie
    from shelftalk.decoding.language_model import LanguageModelRecommender
    from shelftalk.decoding.prior import AlignedWithPrior
    from shelftalk.models.backbone import Backbone

TRIE_FOLDER = "item_trie"
"""In a model folder: the item names as the model's tokens."""
MODEL_FACTS = "shelftalk.json"
"""In a model folder: what the model was trained with (see ModelFacts)."""
TRACKING_FOLDER = "tensorboard"
"""In a run's folder: what TensorBoard draws of its training."""
CHECKED_NAMES = 100
"""About how many names of a kept trie are held against the index when a model is opened."""


class ModelFacts(Settings):
    """shelftalk.json of a run's model/: what the model was trained with, and is asked with wherever the files
    of that are today."""

    split: str
    """SHA-256 of the split."""
    scheme: str = ""
    """What the items' names are."""
    templates: dict[str, tuple[Template, ...]]
    """By task."""
    prompts: dict[str, Any] = {}
    """The other settings that prompts depend on, see `prompt_settings`; none in models of version 0.2.0 and
    before."""


def no_op(done: int, total: int, about: str) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, eq=False)
class Run:
    """What the files of a run hold, each loaded when it is first asked for.

    `templates`: by task, in place of those in files: what samples were written with.
    """

    folder: RunFolder
    experiment: Experiment
    asking: Asking = field(default_factory=lambda: Asking(no_op))
    templates: Mapping[str, Sequence[Template]] = field(default_factory=dict)

    @cached_property
    def split(self) -> Split:
        """Raises ChangedFile where the files are not those that were prepared."""
        self.folder.check("prepare")
        return Split.load(self.folder.dataset)

    @cached_property
    def index(self) -> ItemIndex:
        """Raises ChangedFile where the file is not the one that was written."""
        self.folder.check("index")
        return ItemIndex.load(self.folder.item_index)

    @cached_property
    def context(self) -> TaskContext:
        return self._context(self.templates)

    def _context(self, templates: Mapping[str, Sequence[Template]]) -> TaskContext:
        text = ItemText(self.split.dataset, self.index, self.experiment.text)
        return TaskContext(self.split, text, words_of(self.experiment), self.experiment.seed, templates)

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """Every task that the data supports and that is switched on, and the served ones in any case."""
        found: dict[str, Task] = {}
        for name, settings in self.experiment.tasks.items():
            kind = parts.load(parts.TASKS, name, "task")
            if kind.needs_ratings and self.split.why_no_rating_task:
                continue
            if settings.weight > 0 or name in parts.SERVED:
                found[name] = kind(settings, self.context)
        return found

    @cached_property
    def served(self) -> dict[str, ServedTask]:
        """Those of them that a finished model is asked."""
        return {name: task for name, task in self.tasks.items() if isinstance(task, ServedTask)}

    @cached_property
    def asked(self) -> dict[str, ServedTask]:
        """The tasks that the trained model of model/ is asked, with the templates that it was trained
        with."""
        trained = read_model_facts(self.folder.model).templates
        context = self._context(trained)
        kinds = {name: parts.load(parts.TASKS, name, "task") for name in parts.SERVED if name in trained}
        with reading(
            f'the templates of "{self.folder.model}" cannot be used', redo_training(self.folder.model)
        ):
            return {
                name: kind(self.experiment.tasks[name], context)
                for name, kind in kinds.items()
                if not (kind.needs_ratings and self.split.why_no_rating_task)
            }

    @cached_property
    def backbone(self) -> Backbone:
        """The trained model of model/. Raises AnotherExperiment where it belongs to another split, index or
        experiment, and UnreadableFile where its files are damaged."""
        from shelftalk.models.pretrained import load_backbone

        check_model(self.folder.model, self.split, self.experiment)
        with reading(f'"{self.folder.model}" cannot be opened', redo_training(self.folder.model)):
            return load_backbone(self.folder.model, self.experiment.training.precision)

    @cached_property
    def language_model(self) -> LanguageModelRecommender:
        from shelftalk.decoding.item_trie import open_trie, trie_of
        from shelftalk.decoding.language_model import LanguageModelRecommender

        kept, backbone = self.folder.model / TRIE_FOLDER, self.backbone
        if kept.exists():
            trie = open_trie(kept)
            check_trie(trie, kept, backbone, self.index)
        else:  # models of version 0.1.0 have none
            trie = trie_of(backbone, self.index)
        settings, shared = self.experiment.decoding, world()
        return LanguageModelRecommender(
            backbone, self.index, self.asked, settings, on_batch=self.asking, trie=trie, processes=shared
        )


def build_index(split: Split, settings: IndexSettings, seed: int) -> ItemIndex:
    """Name the items, and make the text vectors for that if `settings.encoder` is a sentence encoder.

    Raises SettingsError where one is named and the scheme reads no text vectors.
    """
    build = parts.load(parts.INDEXINGS, settings.scheme, "index scheme")
    if settings.encoder == "tfidf":
        return build(split, settings, seed)
    if not reads_text_vectors(settings.scheme):
        raise SettingsError(
            f'index.encoder = "{settings.encoder}" makes text vectors, which the scheme "{settings.scheme}" does not read; '
            'set index.encoder = "tfidf" or choose index.scheme = "semantic".'
        )
    from shelftalk.models.sentence_encoder import encode_texts

    return build(
        split, settings, seed, text_vectors=encode_texts(item_texts(split.dataset.items), settings.encoder)
    )


def reads_text_vectors(scheme: str) -> bool:
    """Whether an index scheme can be handed the vectors of a sentence encoder."""
    return "text_vectors" in signature(parts.load(parts.INDEXINGS, scheme, "index scheme")).parameters


def train_backbone(run: Run, on_step: Callable[[int, int, str], None]) -> tuple[Backbone, dict[str, Any]]:
    """Train a new backbone on the run's sample files; continues behind the last whole checkpoint in
    checkpoints/.

    A served task that is neither trained nor judged by is not validated: its prompts can cost more than the
    training's own.
    """
    from shelftalk.training.batching import Epochs
    from shelftalk.training.trainer import train

    experiment, backbone = run.experiment, new_backbone(run)
    epochs = Epochs(
        lambda number: backbone.encode_samples(read_samples(run.folder.epoch(number))),
        experiment.training.epochs,
    )
    validation = {
        name: backbone.encode_samples(read_samples(run.folder.samples / f"validation.{name}.parquet"))
        for name in validated(run)
    }
    result = train(
        backbone,
        epochs,
        validation,
        run.folder.checkpoints,
        experiment.training,
        experiment.seed,
        on_step,
        quality=validation_quality(run, backbone),
        tracking=run.folder.path / TRACKING_FOLDER,
    )
    sizes = {"parameters": backbone.parameters, "vocabulary": len(backbone.tokenizer), "bf16": backbone.bf16}
    start = experiment.pretrained.model_dump(mode="json")
    return backbone, {"family": backbone.family, "pretrained": start, **sizes, **asdict(result)}


def validated(run: Run) -> list[str]:
    """Served tasks whose loss is measured at every validation: those that are trained, or those that the
    training is judged by where none of these is trained. A loss that nothing lowers, added to one that is
    trained, would only blur which weights are best."""
    tasks, judged_by = run.experiment.tasks, run.experiment.training.judged_by
    trained = [name for name in run.served if tasks[name].weight > 0]
    return (
        trained
        if set(trained) & set(judged_by)
        else [name for name in run.served if name in {*trained, *judged_by}]
    )


def validation_quality(run: Run, backbone: Backbone) -> Callable[[], dict[str, float]] | None:
    """Asks the backbone as it stands for the lists of `training.validation_users`, on the validation part and
    drawn by seed, and measures them; None where nobody is to be asked."""
    wanted, seed = run.experiment.training.validation_users, run.experiment.seed
    if not wanted:
        return None
    from shelftalk.decoding.language_model import LanguageModelRecommender

    requests, truths = run.split.retrieval_requests("validation")
    drawn = seeds.generator(seed, "validation users").permutation(len(requests))[:wanted].tolist()
    requests, truths = [requests[position] for position in drawn], [truths[position] for position in drawn]
    # the trie is built once
    model = LanguageModelRecommender(
        backbone, run.index, run.served, run.experiment.decoding, processes=world()
    )

    def measured() -> dict[str, float]:
        lists = model.recommend(requests, LIST_LENGTH)
        return summarise(evaluate_retrieval(lists, requests, truths, run.split.dataset.item_ids), "retrieval")

    return measured


def new_backbone(run: Run) -> Backbone:
    """The backbone before training: a pretrained model that has learnt the index's symbols, or the nano
    model, whose tokenizer comes from the catalogue and whose symbols start where their vectors put them.
    Raises as `family` does."""
    experiment, index = run.experiment, run.index
    precision = experiment.training.precision
    family(experiment)
    if experiment.pretrained.name:
        from shelftalk.models.pretrained import start_from_pretrained

        return start_from_pretrained(
            experiment.pretrained, symbols(run), symbol_texts(run), precision, experiment.seed
        )
    import torch

    from shelftalk.models.nano import build_nano
    from shelftalk.models.precision import product_type

    products = product_type(precision, experiment.nano.family)
    halves = (products == torch.bfloat16, products == torch.float16)
    backbone = build_nano(tokenizer_texts(run), symbols(run), experiment.nano, experiment.seed, *halves)
    if index.symbol_vectors is not None:
        backbone.start_symbols_from(index.vocabulary, index.symbol_vectors, experiment.nano.symbol_spread)
    return backbone


def symbols(run: Run) -> list[str]:
    """Everything that is one token of its own: marks, symbols of item names, users if they are shown."""
    return [*all_sentinels(), *run.index.vocabulary, *run.context.user_symbols]


def family(experiment: Experiment) -> str:
    """The backbone's family; that of a pretrained model stands in its config alone.

    Raises MissingFile where that cannot be read, and SettingsError where the samples do not suit the family.
    """
    if not experiment.pretrained.name:
        return experiment.nano.family
    from shelftalk.models.pretrained import family_of, read_config

    found = family_of(read_config(experiment.pretrained))
    if refusal := experiment.why_no_targets(found):
        raise SettingsError(f'"{experiment.pretrained.name}" is an encoder-decoder: {refusal}.')
    return found


def check_backbone(experiment: Experiment) -> None:
    """What can be known of a backbone that this machine is to train before a weight is read and a stage has
    run.

    Raises as `family` does, and SettingsError for a precision that this machine or the family does not have
    and for adapters that the model does not take.
    """
    from shelftalk.models.precision import product_type

    product_type(experiment.training.precision, family(experiment))
    if experiment.pretrained.adaptation == "lora":
        from shelftalk.models.pretrained import meta_model

        meta_model(experiment.pretrained, ())


def symbol_texts(run: Run) -> dict[str, list[str]]:
    """Symbol -> the texts of the items whose names hold it, as the experiment shows them in or beside those
    names."""
    texts: dict[str, list[str]] = {}
    for item in run.index.item_ids if run.index.symbols else ():
        text = f"{run.index.free_text(item)} {run.context.text.beside(item)}".strip()
        for symbol in split_symbols(run.index.name(item)):
            texts.setdefault(symbol, []).append(text)
    return texts


def tokenizer_texts(run: Run) -> Iterator[str]:
    """What the nano tokenizer is made of: catalogue texts, names that are text, wordings and ratings."""
    for item in run.split.dataset.item_ids:
        yield run.context.text.beside(item)
        if said := run.index.free_text(item):
            yield said
    wordings = [t.source + t.question + t.target for task in run.tasks.values() for t in task.seen]
    ratings = list(run.context.rating_texts.values())
    yield from (
        wordings + ratings
    ) * 50  # a prompt's own words are in every sample, so they deserve whole pieces


def save_model_facts(folder: Path, run: Run, backbone: Backbone) -> None:
    """What makes a recommender of a language model: item index and trie, templates and split hash, beside its
    weights."""
    from shelftalk.decoding.item_trie import trie_of

    run.index.save(folder / "item_index.parquet")
    trie = trie_of(backbone, run.index, os.cpu_count() or 1)
    trie.save(folder / TRIE_FOLDER)
    save_generation_settings(folder, backbone, trie, run.experiment.decoding.beams)
    templates = {name: [asdict(template) for template in task.templates] for name, task in run.tasks.items()}
    facts = {"split": run.split.fingerprint(), "scheme": run.index.scheme, "templates": templates}
    write_json(folder / MODEL_FACTS, {**facts, "prompts": prompt_settings(run.experiment)})


def words_of(experiment: Experiment) -> Words:
    """The nouns of an experiment's prompts."""
    nouns = experiment.data.nouns
    return Words(nouns.item, nouns.items, nouns.user, nouns.took)


def prompt_settings(experiment: Experiment) -> dict[str, Any]:
    """What the prompts of a trained model depend on beside its templates: nouns, texts of items, and how each
    served task is asked."""
    unread = {"weight", "templates"}  # how much a task is trained, and where its templates were
    tasks = {name: experiment.tasks[name].model_dump(mode="json", exclude=unread) for name in parts.SERVED}
    return {
        "nouns": asdict(words_of(experiment)),
        "text": experiment.text.model_dump(mode="json"),
        "tasks": tasks,
    }


def save_generation_settings(folder: Path, backbone: Backbone, trie: Trie, beams: int) -> None:
    """A generation_config.json for `generate` with the trie's logits processor; nothing in it is a released
    model's own."""
    from shelftalk.decoding.logits_processor import generation_config

    end = backbone.tokenizer.eos_token_id
    generation_config(backbone.model, trie, backbone.pad if end is None else end, beams).save_pretrained(
        folder
    )


def read_model_facts(folder: Path) -> ModelFacts:
    """What the model of a run was trained with. Raises MissingFile, or UnreadableFile where the file does not
    say."""
    facts = folder / MODEL_FACTS
    try:
        return ModelFacts.model_validate_json(facts.read_bytes())
    except FileNotFoundError:
        raise MissingFile(
            f'"{folder}" holds no trained model; run `shelftalk train` first or mend the path.'
        ) from None
    except (OSError, ValidationError):
        raise UnreadableFile(f'"{facts}" is damaged; {redo_training(folder)}.') from None


def check_model(folder: Path, split: Split, experiment: Experiment) -> None:
    """Raises AnotherExperiment where the model was trained on another split than the run's or with other
    settings of its prompts, and MissingFile or UnreadableFile where the folder does not say on which."""
    facts = read_model_facts(folder)
    if facts.split != split.fingerprint():
        raise AnotherExperiment(
            f'the model in "{folder}" was trained on another split of the data; train again or choose another --out.'
        )
    now = prompt_settings(experiment)
    if differs := differing(_shared(facts.prompts, now), _shared(now, facts.prompts)):
        raise AnotherExperiment(
            f'the model in "{folder}" was trained with other settings of its prompts than the experiment has '
            f"now ({', '.join(differs[:3])}); set them back, or train with another --out."
        )


def _shared(table: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """What of a table the other has too: a setting that came with a later version asks older models as
    before."""
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
    """Raises AnotherExperiment where the trie of `folder` holds other names than the index (see
    `holds_names`)."""
    if not holds_names(trie, backbone, index):
        raise AnotherExperiment(
            f'"{folder}" holds the names of another item index; delete that folder, and its trie is made anew.'
        )


def holds_names(trie: ItemTrie, backbone: Backbone, index: ItemIndex) -> bool:
    """Whether the trie holds the index's names as the backbone reads them, by their number and by a few of
    them."""
    if trie.items != len(index.item_ids) or not backbone.knows(index.vocabulary):
        return False
    if (
        int(max(trie.token.max(), trie.tail.max(initial=-1)))
        >= backbone.model.get_input_embeddings().weight.shape[0]
    ):
        return False
    rows = range(0, len(index.item_ids), max(1, len(index.item_ids) // CHECKED_NAMES))
    wanted, kept = (
        backbone.encode_names([index.segments(index.item_ids[row]) for row in rows]),
        trie.names(np.array(rows)),
    )
    return np.array_equal(kept.offsets, wanted.offsets) and np.array_equal(kept.values, wanted.values)


def build_popularity(run: Run) -> tuple[Any, list[str]]:
    """Training counts."""
    from shelftalk.baselines.popularity import fit_popularity

    return fit_popularity(run.split), []


def build_item_knn(run: Run) -> tuple[Any, list[str]]:
    """Text and co-occurrence, the recipe from validation."""
    from shelftalk.baselines.item_knn import fit_item_knn

    model = fit_item_knn(run.split, run.experiment.item_knn, run.experiment.seed)
    recipe = model.recipe
    reach = (
        f"decay {recipe.decay:g} over the last {recipe.max_history} items"
        if run.split.dataset.ordered
        else "all items alike"
    )
    events = run.experiment.item_knn.co_occurrence_events
    return model, not_counted(run.split, events, "item_knn.co_occurrence_events") + [
        f"item_knn: text weight {recipe.text_weight:g}, {reach} (validation ndcg@10 {model.validation_ndcg:.4f})."
    ]


def build_bias(run: Run) -> tuple[Any, list[str]]:
    """User and item bias, the damping from validation."""
    from shelftalk.baselines.bias import fit_bias

    model = fit_bias(run.split, run.experiment.bias)
    return model, [
        "bias: " + ", ".join(f"{name} {value:.4g}" for name, value in model.describe().items()) + "."
    ]


def build_global_mean(run: Run) -> tuple[Any, list[str]]:
    """The mean of all visible ratings."""
    from shelftalk.baselines.bias import fit_global_mean

    return fit_global_mean(run.split), []


def build_aligned(run: Run) -> tuple[LanguageModelRecommender, list[str]]:
    """The trained language model alone."""
    return run.language_model, []


def build_aligned_with_prior(run: Run) -> tuple[AlignedWithPrior, list[str]]:
    """The trained language model with the priors that the experiment names."""
    from shelftalk.decoding.prior import AlignedWithPrior

    settings = run.experiment.prior
    prior, told = _prior(run, settings.model)
    rating_prior, told_of_rating = _prior(run, settings.rating_model) if "rating" in run.asked else (None, [])
    model = AlignedWithPrior(run.language_model, prior, rating_prior, settings)
    model.choose(run.split, list(run.asked), run.experiment.seed)
    return model, told + told_of_rating + [
        f"aligned+prior, {chosen.task}: weight {chosen.weight:g} of {chosen.prior} "
        f"(validation {chosen.metric} {chosen.value:.4f}; 0 is the language model alone, 1 the prior alone)."
        for chosen in model.describe()
    ]


def _prior(run: Run, name: str) -> tuple[Any, list[str]]:
    """A model by its name, and what it chose on validation where that is not told of it as a model of its
    own."""
    model, told = parts.load(parts.MODELS, name, "model")(run)
    return model, [] if name in run.experiment.models else told
