"""The probe of the synthetic world: one model per mixture of tasks at equal tokens read, all asked the same
questions.

Items have names that say nothing: one symbol each, without the starting vectors that the atomic index makes
of co-occurrence, for those would put into the model before training what training is to be shown to put
there.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl
from pydantic import Field

from shelftalk import parts, seeds
from shelftalk.data.dataset import Dataset, make_dataset
from shelftalk.data.splitting import SplitSettings, split_leave_one_out
from shelftalk.errors import UnknownPart, nearest
from shelftalk.experiment import Experiment, laid_over, load_experiment
from shelftalk.fresh_backbone import new_backbone
from shelftalk.indexing.item_index import ItemIndex
from shelftalk.runs import Run
from shelftalk.runtime.progress import OnProgress, silent
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.settings import Settings
from shelftalk.studies.probing.option_scores import ask
from shelftalk.studies.probing.questions import Question, world_questions
from shelftalk.studies.probing.references import reference_answers
from shelftalk.studies.probing.scoring import answers_frame
from shelftalk.studies.probing.world import World, WorldSettings, make_world
from shelftalk.studies.token_budget.progress import Shares
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
"""What the probe lays over the program's defaults: a smaller model, names alone, the last weights kept."""


@dataclass(frozen=True)
class Mixture:
    """Tasks that a model is trained on; the auxiliary ones may be shown one half of the world only.

    `auxiliary_sees`: "all"; "other half": their samples are made of the facts of even number alone, so that
    the model knows their wording and not, from them, the facts of odd number that it is asked.
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
class Probed:
    """What a probe found: `answers`, one row per model, way of asking and question, and `trainings`, one row
    per model."""

    answers: pl.DataFrame
    trainings: list[dict[str, Any]] = field(default_factory=list)


def mixtures(auxiliary: Sequence[str] = AUXILIARY, controls: bool = True) -> list[Mixture]:
    """Served tasks alone, with each auxiliary task, with all of them, and each again with the controls."""
    for name in auxiliary:
        if name not in AUXILIARY:
            raise UnknownPart(f'there is no auxiliary task "{name}" to probe; {nearest(name, AUXILIARY)}')
    found = [Mixture("served only", SERVED), *(Mixture(f"+ {name}", (*SERVED, name)) for name in auxiliary)]
    if len(auxiliary) > 1:
        found.append(Mixture("+ all", (*SERVED, *auxiliary)))
    if controls:
        found += [Mixture(f"+ {name}, other half", (*SERVED, name), "other half") for name in auxiliary]
    return found


def study(
    settings: ProbeSettings, wanted: Sequence[Mixture], numbers: Sequence[int], progress: OnProgress = silent
) -> Probed:
    """Train and ask every mixture in the world of every seed of `numbers`, one after another."""
    frames: list[pl.DataFrame] = []
    trainings: list[dict[str, Any]] = []
    shares = Shares(progress, "probe", len(numbers) * len(wanted), "making a world")
    for turn, seed in enumerate(numbers):
        with tempfile.TemporaryDirectory() as scratch:
            bench = Bench.make(settings, seed, Path(scratch))
            frames.append(bench.references())
            for number, mixture in enumerate(wanted):
                hears = shares.training(turn * len(wanted) + number, f"{mixture.name}, seed {seed}")
                backbone, facts = bench.trained(mixture, hears)
                frames.append(bench.asked(backbone, mixture))
                trainings.append({"mixture": mixture.name, "seed": seed, **facts})
    shares.finish()
    return Probed(pl.concat(frames), trainings)


@dataclass(frozen=True, eq=False)
class Bench:
    """One world with its split, index, tasks and questions; and the same for the half of it that controls are
    shown."""

    settings: ProbeSettings
    seed: int
    scratch: Path
    world: World
    found: Run
    questions: list[Question]

    @classmethod
    def make(cls, settings: ProbeSettings, seed: int, scratch: Path) -> Bench:
        """Draw the world and prepare it in an empty folder."""
        world = make_world(settings.world, seed)
        experiment = load_experiment(
            None, laid_over(laid_over(EXPERIMENT, settings.experiment), {"seed": seed})
        )
        found = prepared(scratch / "world", world.dataset, experiment)
        popularity = dict(zip(world.dataset.item_ids, found.split.popularity.tolist(), strict=True))
        return cls(
            settings, seed, scratch, world, found, world_questions(world, popularity, settings.repeats, seed)
        )

    def trained(self, mixture: Mixture, progress: OnProgress = silent) -> tuple[Backbone, dict[str, Any]]:
        """A new model, trained on the mixture's first `tokens` tokens, and what that took."""
        from shelftalk.training.trainer import train

        backbone = new_backbone(self.found)
        budgeted = samples_for(backbone, self._tasks(mixture), self.settings.tokens, self.seed)
        validation = {"retrieval": backbone.encode_samples(self.found.served["retrieval"].validation()[:100])}
        start = time.process_time()
        with tempfile.TemporaryDirectory(dir=self.scratch) as checkpoints:
            given = (
                backbone,
                [budgeted.all],
                validation,
                Path(checkpoints),
                self.found.experiment.training,
                self.seed,
            )
            result = train(*given, on_step=lambda *told: progress("train", *told))
        took = {
            "processor seconds": round(time.process_time() - start, 1),
            "steps": result.steps,
            "parameters": backbone.parameters,
        }
        by_task = {f"tokens of {name}": tokens for name, tokens in budgeted.tokens_by_task.items()}
        return backbone, {"tokens": budgeted.tokens, **by_task, **took}

    def asked(self, backbone: Backbone, mixture: Mixture) -> pl.DataFrame:
        """The answers behind the retrieval prompt, backwards, and in the own wording, seen and held out, of
        every auxiliary task; also of those that the model was not trained on, whose wording it does not
        know."""
        frames = []
        for way, held_out in itertools.product(("retrieval", "inverted", *AUXILIARY), (False, True)):
            if held_out and (way not in mixture.tasks or way == "inverted"):
                continue
            scores = ask(backbone, self.found.index, self.found.tasks, self.questions, way, held_out)
            wording = "held out" if held_out else "seen"
            frames.append(answers_frame(self.questions, scores, mixture.name, self.seed, way, wording))
        return pl.concat(frames)

    def references(self) -> pl.DataFrame:
        """What needs no training: the oracle, item_knn, text alike, popularity."""
        return reference_answers(self.found.split, self.questions, self.seed, self.world.facts)

    def _tasks(self, mixture: Mixture) -> list[Task]:
        shown = self.found if mixture.auxiliary_sees == "all" else self._half
        return [(self.found if name in SERVED else shown).tasks[name] for name in mixture.tasks]

    @cached_property
    def _half(self) -> Run:
        """The parts that the auxiliary samples of controls are made of."""
        dataset = half_of(self.world, 0, self.seed)
        return prepared(self.scratch / "half", dataset, self.found.experiment, self.found.index)


def prepared(folder: Path, dataset: Dataset, experiment: Experiment, index: ItemIndex | None = None) -> Run:
    """A run folder that holds the split of a dataset and an item index: the given one, or one whose names say
    nothing."""
    split = split_leave_one_out(dataset, SplitSettings(ranking_negatives=9), experiment.seed)
    if index is None:
        atomic = parts.load(parts.INDEXINGS, "atomic", "index scheme")
        index = replace(atomic(split, experiment.index, experiment.seed), symbol_vectors=None)
    run = RunFolder(folder)
    split.save(run.dataset)
    index.save(run.item_index)
    return Run(run, experiment)


def half_of(world: World, half: int, seed: int) -> Dataset:
    """The histories without the items of the other half's facts; who is left with fewer than 3 events cannot
    be split and is left out."""
    kept = world.dataset.events.filter(pl.col("item_id").is_in(sorted(world.facts.items_of(half))))
    return make_dataset(world.dataset.items, kept.filter(pl.len().over("user_id") >= 3), seed)


def samples_for(backbone: Backbone, tasks: Sequence[Task], tokens: int, seed: int) -> Budgeted:
    """Samples of as many epochs as `tokens` take, in their order."""
    from shelftalk.training.budget import first_tokens

    return first_tokens(lambda number: _epoch(backbone, tasks, number, seed), tokens)


def _epoch(backbone: Backbone, tasks: Sequence[Task], number: int, seed: int) -> Epoch:
    """All tasks shuffled together; they may be of different worlds, and then stand in different contexts."""
    from shelftalk.training.budget import Epoch

    names: list[str] = []
    encoded: list[Encoded] = []
    for task in tasks:
        samples = task.samples(number)
        names += samples.tasks()
        encoded += backbone.encode_samples(samples)
    order = seeds.generator(seed, "probe mixture", number).permutation(len(encoded)).tolist()
    return Epoch([names[position] for position in order], [encoded[position] for position in order])
