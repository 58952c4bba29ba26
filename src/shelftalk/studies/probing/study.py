"""The probe of the synthetic world: one model per mixture of tasks at equal tokens read, and the same
questions for all of them.

Names of items carry no information: one symbol each, without the starting vectors that the atomic index makes
of co-occurrence. Those would give the model before training what the probe measures after it.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl
from pydantic import Field

from shelftalk import parts, seeds
from shelftalk.data.dataset import Dataset, make_dataset
from shelftalk.data.splitting import SplitSettings, split_leave_one_out
from shelftalk.errors import UnknownPart, nearest
from shelftalk.experiment import Experiment, laid_over, load_experiment
from shelftalk.indexing.item_index import ItemIndex
from shelftalk.pipeline.fresh_backbone import new_backbone
from shelftalk.pipeline.run import Run
from shelftalk.runtime.progress import OnProgress, silent
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.settings import Settings
from shelftalk.studies.probing.option_scores import option_scores
from shelftalk.studies.probing.questions import Question, world_questions
from shelftalk.studies.probing.references import reference_answers
from shelftalk.studies.probing.scoring import answers_frame
from shelftalk.studies.probing.world import World, WorldSettings, make_world
from shelftalk.studies.token_budget.progress import StudyProgress
from shelftalk.studies.token_budget.training import train_on
from shelftalk.tasks.task import Task

if TYPE_CHECKING:
    from shelftalk.models.backbone import Backbone
    from shelftalk.models.text_encoder import Encoded
    from shelftalk.training.budget import Budgeted, Epoch

SERVED = ("retrieval", "ranking")
AUXILIARY = ("masked_items", "masked_language", "pairwise_preference")
EXPERIMENT: dict[str, Any] = {
    "name": "probe",
    "nano": {"width": 64, "layers": 2, "heads": 4, "vocabulary": 400},
    "tasks": {
        "retrieval": {"text_share": 0.0},
        "ranking": {"text_share": 0.0, "weight": 0.25, "max_negatives": 4, "samples_per_user": 1},
        "masked_items": {"text_share": 0.0, "weight": 1.0, "max_history": 4, "share": 0.25},
        "masked_language": {
            "text_share": 0.0,
            "weight": 1.0,
            "max_history": 4,
            "share": 0.25,
            "mean_span": 2.0,
        },
        "pairwise_preference": {"text_share": 0.0, "weight": 1.0, "max_history": 8, "questions": 4},
    },
    "training": {"batch_tokens": 1024, "validations": 1, "judged_by": ["retrieval"], "precision": "fp32"},
}
"""What the probe changes in the default experiment: a smaller model, names alone, the last weights kept."""


@dataclass(frozen=True)
class Mixture:
    """Tasks that a model is trained on; the auxiliary ones may see one half of the world only.

    `auxiliary_sees`: "all"; "other half": their samples are made of the facts of even number alone. From them
    the model learns the form of the task, but not the facts of odd number that are compared.
    """

    name: str
    tasks: tuple[str, ...]
    auxiliary_sees: Literal["all", "other half"] = "all"


class ProbeSettings(Settings):
    """How the synthetic world is probed."""

    world: WorldSettings = WorldSettings()
    tokens: int = Field(1_500_000, ge=1000)
    """Training tokens that every mixture reads."""
    repeats: int = Field(4, ge=1)
    """Questions about each fact, each with another history."""
    experiment: dict[str, Any] = Field(default_factory=dict)
    """Tables of an experiment laid over the probe's own, such as {"tasks": {"masked_items": {"share":
    0.3}}}."""


SMALL = WorldSettings(
    users=800, pairs=8, rules=8, rules_taken=1, shelves=4, shelves_taken=2, choices=4, choices_taken=2
)
QUICK = ProbeSettings(world=SMALL, tokens=500_000, repeats=8)
"""A smaller world: about twenty seconds for each mixture on one core. Enough for pairs and rules, too short
for makers."""


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """`answers`: one row per model, way and question; `trainings`: one row per model."""

    answers: pl.DataFrame
    trainings: list[dict[str, Any]] = field(default_factory=list)


def mixtures(auxiliary: Sequence[str] = AUXILIARY, controls: bool = True) -> list[Mixture]:
    """Served tasks alone, with each auxiliary task, with all of them, and each again with the controls."""
    for name in auxiliary:
        if name not in AUXILIARY:
            raise UnknownPart(f'there is no auxiliary task "{name}" to probe; {nearest(name, AUXILIARY)}')
    wanted = [Mixture("served only", SERVED), *(Mixture(f"+ {name}", (*SERVED, name)) for name in auxiliary)]
    if len(auxiliary) > 1:
        wanted.append(Mixture("+ all", (*SERVED, *auxiliary)))
    if controls:
        wanted += [Mixture(f"+ {name}, other half", (*SERVED, name), "other half") for name in auxiliary]
    return wanted


def study(
    settings: ProbeSettings, wanted: Sequence[Mixture], numbers: Sequence[int], progress: OnProgress = silent
) -> ProbeResult:
    """Train and evaluate every mixture in the world of every seed of `numbers`, one after another."""
    frames: list[pl.DataFrame] = []
    trainings: list[dict[str, Any]] = []
    whole, training = StudyProgress(progress, "probe", len(numbers) * len(wanted), "making a world"), 0
    for seed in numbers:
        with tempfile.TemporaryDirectory() as scratch:
            prepared = PreparedWorld.make(settings, seed, Path(scratch))
            frames.append(prepared.reference_answers())
            for mixture in wanted:
                of_training = whole.training(training, f"{mixture.name}, seed {seed}")
                backbone, facts = prepared.train(mixture, of_training)
                frames.append(prepared.answers(backbone, mixture))
                trainings.append({"mixture": mixture.name, "seed": seed, **facts})
                training += 1
    whole.finish()
    return ProbeResult(pl.concat(frames), trainings)


@dataclass(frozen=True, eq=False)
class PreparedWorld:
    """One world with its split, index, tasks and questions; and the same for the half of it that the
    auxiliary tasks of controls see."""

    settings: ProbeSettings
    seed: int
    scratch: Path
    world: World
    run: Run
    questions: list[Question]

    @classmethod
    def make(cls, settings: ProbeSettings, seed: int, scratch: Path) -> PreparedWorld:
        """Draw the world and prepare it in an empty folder."""
        world = make_world(settings.world, seed)
        changes = laid_over(laid_over(EXPERIMENT, settings.experiment), {"seed": seed})
        run = prepared_run(scratch / "world", world.dataset, load_experiment(None, changes))
        popularity = dict(zip(world.dataset.item_ids, run.split.popularity.tolist(), strict=True))
        questions = world_questions(world, popularity, settings.repeats, seed)
        return cls(settings, seed, scratch, world, run, questions)

    def train(self, mixture: Mixture, progress: OnProgress = silent) -> tuple[Backbone, dict[str, Any]]:
        """A new model, trained on the mixture's first `tokens` tokens, and what that cost."""
        backbone = new_backbone(self.run)
        samples = self.samples(mixture, backbone, self.settings.tokens)
        validation = {"retrieval": backbone.encode_samples(self.run.served["retrieval"].validation()[:100])}
        start = time.process_time()
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            result = train_on(
                samples, backbone, validation, self.run, Path(folder), partial(progress, "train")
            )
        cost = {
            "processor seconds": round(time.process_time() - start, 1),
            "steps": result.steps,
            "parameters": backbone.parameters,
        }
        by_task = {f"tokens of {name}": tokens for name, tokens in samples.tokens_by_task.items()}
        return backbone, {"tokens": samples.tokens, **by_task, **cost}

    def samples(self, mixture: Mixture, backbone: Backbone, budget: int) -> Budgeted:
        """The mixture's first `budget` tokens, as one epoch.

        Unlike in a mixture of one run, its tasks may be of two worlds, whose samples cannot be joined before
        they are encoded.
        """
        from shelftalk.training.budget import Epoch, first_tokens

        def epoch(number: int) -> Epoch:
            names: list[str] = []
            encoded: list[Encoded] = []
            for task in self._tasks(mixture):
                samples = task.samples(number)
                names += samples.tasks()
                encoded += backbone.encode_samples(samples)
            order = seeds.generator(self.seed, "probe mixture", number).permutation(len(encoded)).tolist()
            return Epoch([names[position] for position in order], [encoded[position] for position in order])

        samples = first_tokens(epoch, budget)
        return replace(samples, epochs=[samples.all])

    def answers(self, backbone: Backbone, mixture: Mixture) -> pl.DataFrame:
        """The model's answers in every way: the retrieval prompt, forwards and inverted, and the templates of
        every auxiliary task, also of those that it was not trained on. Held-out templates only of those that
        it was."""
        frames = []
        for way, held_out in itertools.product(("retrieval", "inverted", *AUXILIARY), (False, True)):
            if held_out and (way not in mixture.tasks or way == "inverted"):
                continue
            scores = option_scores(backbone, self.run.index, self.run.tasks, self.questions, way, held_out)
            wording = "held out" if held_out else "seen"
            frames.append(answers_frame(self.questions, scores, mixture.name, self.seed, way, wording))
        return pl.concat(frames)

    def reference_answers(self) -> pl.DataFrame:
        """The answers of what needs no training: the oracle, item_knn, text alone, popularity."""
        return reference_answers(self.run.split, self.questions, self.seed, self.world.facts)

    def _tasks(self, mixture: Mixture) -> list[Task]:
        seen = self.run if mixture.auxiliary_sees == "all" else self._half
        return [(self.run if name in SERVED else seen).tasks[name] for name in mixture.tasks]

    @cached_property
    def _half(self) -> Run:
        """The run that the auxiliary samples of controls are made of."""
        dataset = half_of(self.world, 0, self.seed)
        return prepared_run(self.scratch / "half", dataset, self.run.experiment, self.run.index)


def prepared_run(
    folder: Path, dataset: Dataset, experiment: Experiment, index: ItemIndex | None = None
) -> Run:
    """A run whose folder holds the split of a dataset and an item index: the given one, or one whose names
    carry no information."""
    split = split_leave_one_out(dataset, SplitSettings(ranking_negatives=9), experiment.seed)
    if index is None:
        atomic = parts.load(parts.INDEXINGS, "atomic", "index scheme")
        index = replace(atomic(split, experiment.index, experiment.seed), symbol_vectors=None)
    run = Run(RunFolder(folder), experiment)
    split.save(run.folder.dataset)
    index.save(run.folder.item_index)
    return run


def half_of(world: World, half: int, seed: int) -> Dataset:
    """The histories without the items of the other half's facts; users with fewer than 3 events left cannot
    be split and are left out."""
    kept = world.dataset.events.filter(pl.col("item_id").is_in(sorted(world.facts.items_of(half))))
    return make_dataset(world.dataset.items, kept.filter(pl.len().over("user_id") >= 3), seed)
