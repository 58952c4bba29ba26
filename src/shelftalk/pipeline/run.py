"""Run: what the files of a run folder hold, each loaded when it is first used.

run = shelftalk.open_run("runs/my-shop")
run.model("item_knn").recommend([Request("anyone", history=("B01",))], k=10)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shelftalk import parts
from shelftalk.data.splitting import Split
from shelftalk.decoding.settings import DecodingSettings, PriorSettings
from shelftalk.decoding.workload import WorkloadProgress
from shelftalk.errors import UnknownPart, reading
from shelftalk.experiment import Experiment, saved_experiment
from shelftalk.indexing.item_index import ItemIndex
from shelftalk.pipeline.costs import costs_of
from shelftalk.pipeline.model_folder import (
    TRIE_FOLDER,
    check_model,
    check_trie,
    read_model_facts,
    redo_training,
)
from shelftalk.pipeline.teacher import TEACHER_FILE, columns_of, read_teacher, teacher_table
from shelftalk.recommender import REFIT, Repeatable, base_name, is_refit
from shelftalk.runtime.distributed import world
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.settings import Settings
from shelftalk.tasks.continued_training import known_of
from shelftalk.tasks.item_text import ItemText
from shelftalk.tasks.task import ServedTask, Task, TaskContext
from shelftalk.tasks.templates import Template

if TYPE_CHECKING:  # torch is loaded only where a language model is
    from shelftalk.decoding.language_model import LanguageModelRecommender
    from shelftalk.decoding.prior import AlignedWithPrior
    from shelftalk.models.backbone import Backbone

CHOSEN_SETTINGS = "chosen_settings"
"""In the facts of the stage recommend: the settings with which a baseline is fitted again."""


def no_op(done: int, total: int, about: str) -> None:
    """Progress that is not shown."""


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """What the files of a run hold, each loaded when it is first used.

    `workload`: counts the requests that the language model answers, for progress. `templates`: by task, in
    place of those in files: what samples were written with.
    """

    folder: RunFolder
    experiment: Experiment
    workload: WorkloadProgress = field(default_factory=lambda: WorkloadProgress(no_op))
    templates: Mapping[str, Sequence[Template]] = field(default_factory=dict)
    _models: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __repr__(self) -> str:
        return f"Run({str(self.folder.path)!r}, models={self.models})"

    @cached_property
    def split(self) -> Split:
        """The dataset with each event and rating in its part. Raises ChangedFile where the files are not
        those that were prepared."""
        self.folder.check("prepare")
        return Split.load(self.folder.dataset)

    @cached_property
    def index(self) -> ItemIndex:
        """Item <-> name. Raises ChangedFile where the file is not the one that was written."""
        self.folder.check("index")
        return ItemIndex.load(self.folder.item_index)

    @cached_property
    def context(self) -> TaskContext:
        """What samples and prompts are made of."""
        return self._context(self.templates)

    def _context(self, templates: Mapping[str, Sequence[Template]]) -> TaskContext:
        text = ItemText(self.split.dataset, self.index, self.experiment.text)
        known = known_of(self.split, self.experiment.index.continues)
        return TaskContext(
            self.split, text, self.experiment.data.nouns, self.experiment.seed, templates, known
        )

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """Every task that the data supports and that is switched on, and the served ones in any case."""
        tasks: dict[str, Task] = {}
        for name, settings in self.experiment.tasks.items():
            kind = parts.load(parts.TASKS, name, "task")
            if kind.needs_ratings and self.split.why_no_rating_task:
                continue
            if settings.weight > 0 or name in parts.SERVED:
                tasks[name] = kind(settings, self.context)
        return tasks

    @cached_property
    def served(self) -> dict[str, ServedTask]:
        """Those of them that a finished model answers."""
        return {name: task for name, task in self.tasks.items() if isinstance(task, ServedTask)}

    @cached_property
    def trained_tasks(self) -> dict[str, ServedTask]:
        """The tasks that the trained model of model/ answers, with the templates that it was trained with."""
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

    def model(self, name: str) -> Any:
        """A finished recommender by its name in the experiment's terms: "item_knn", "aligned", or one of your
        own as "package.module:thing". It is fitted, or opened, when it is first used.

        Raises UnknownPart, also for a function of other parameters than `parts.Model` states, and
        StageMissing where it needs a stage that was not run.
        """
        if name not in self._models:
            declaration, settings = self.experiment.declared(name), self.experiment.settings_of(name)
            fit = parts.load(parts.MODELS, base_name(name), "model")
            subject: Run | Split = self if declaration.stands_on == "train" else self.split
            _check_parameters(fit, name, "run" if subject is self else "split")
            if is_refit(name):
                subject, settings = self.split.refitted(), self._chosen_settings(base_name(name))
            self._models[name] = fit(subject, settings, self.experiment.seed)
        return self._models[name]

    def _chosen_settings(self, name: str) -> Settings:
        """What a model chose on validation: as the stage that evaluated it noted, or by fitting it.

        Raises UnknownPart for one that does not say what it chose."""
        settings, stage = self.experiment.settings_of(name), self.folder.record(f"recommend.{name}")
        kind = type(settings)
        if stage is not None and CHOSEN_SETTINGS in stage.facts:
            prepared = self.folder.needed("prepare").fingerprint
            of_now = {"settings": {name: settings.model_dump(mode="json")}, "built on": {"prepare": prepared}}
            if all(stage.inputs.get(key) == value for key, value in of_now.items()):
                return kind.model_validate(stage.facts[CHOSEN_SETTINGS])
        model = self.model(name)
        chosen = model.chosen_settings() if isinstance(model, Repeatable) else None
        if not isinstance(chosen, kind):
            raise UnknownPart(
                f'the model "{name}" does not say what it chose on validation, so it cannot be fitted again; '
                f"give it a method chosen_settings() that returns its {kind.__name__}, or leave "
                f'"{name}{REFIT}" out.'
            )
        return chosen

    @cached_property
    def teacher(self) -> dict[str, np.ndarray] | None:
        """What the teacher expects after each training history, as columns (see teacher.read_teacher): from
        the file that was written with the samples, or asked now; None without a teacher."""
        if not self.experiment.teacher.model:
            return None
        path = self.folder.samples / TEACHER_FILE
        if path.exists():
            return read_teacher(path)
        return columns_of(teacher_table(self.split, self.experiment, lambda fold: None))

    @property
    def models(self) -> list[str]:
        """Everything that is evaluated: the experiment's models, then the names of imported score files."""
        return [*self.experiment.models, *self.folder.imported_models()]

    @property
    def costs(self) -> dict[str, Any]:
        """Model -> "fit_seconds", "seconds_per_1000" requests of each task and "peak_memory_mb", from the
        manifests. Raises StageMissing; empty in folders of earlier versions."""
        answered = [self.folder.needed(f"recommend.{name}") for name in self.models]
        return costs_of(answered, self.folder, self.experiment)

    @property
    def metrics(self) -> dict[str, Any]:
        """Task -> model -> metric -> value, and MODEL.ci -> metric
        -> [low, high]: metrics.json. Raises StageMissing."""
        self.folder.needed("evaluate")
        result: dict[str, Any] = json.loads(self.folder.metrics.read_text("utf-8"))
        return result

    @property
    def report_path(self) -> Path:
        """The report as a self-contained page. Raises StageMissing."""
        self.folder.needed("report")
        return self.folder.path / "report.html"

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
        """The trained model as a recommender. Raises as `backbone` does."""
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
            backbone,
            self.index,
            self.trained_tasks,
            settings,
            on_batch=self.workload,
            trie=trie,
            processes=shared,
        )


def _check_parameters(fit: Callable[..., Any], name: str, first: str) -> None:
    """Raises UnknownPart for a function that cannot be called as one of a model is."""
    try:
        signature(fit).bind(first, "settings", "seed")
    except TypeError:
        raise UnknownPart(
            f'the model "{name}" is called with ({first}, settings, seed), and its function takes other '
            "parameters; give it these three."
        ) from None


def open_run(path: str | Path) -> Run:
    """The run of a folder that `shelftalk run`, or some of its stages, made. Raises MissingFile where there
    is none, and ChangedFile where its experiment cannot be read."""
    folder = RunFolder(Path(path))
    return Run(folder, saved_experiment(folder))


def aligned(run: Run, settings: DecodingSettings, seed: int) -> LanguageModelRecommender:
    """The trained language model alone."""
    return run.language_model


def aligned_with_prior(run: Run, settings: PriorSettings, seed: int) -> AlignedWithPrior:
    """The trained language model with the priors that the
    experiment names, their weights chosen on validation."""
    from shelftalk.decoding.prior import AlignedWithPrior

    prior = run.model(settings.model)
    rating_prior = run.model(settings.rating_model) if "rating" in run.trained_tasks else None
    model = AlignedWithPrior(run.language_model, prior, rating_prior, settings)
    return model.choose(run.split, list(run.trained_tasks), seed)
