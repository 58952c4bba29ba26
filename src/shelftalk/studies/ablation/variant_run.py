"""One run of the grid: a variant trained with a seed on its budget of tokens, and asked. Resumable at any
point."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shelftalk.experiment import Experiment
from shelftalk.parts import SERVED
from shelftalk.runs import Run
from shelftalk.runtime.progress import FINISHED, OnProgress
from shelftalk.runtime.run_folder import RunFolder, StageRecord
from shelftalk.studies.ablation.grid import ITEM_KNN, AblationSettings, Variant
from shelftalk.studies.token_budget import run as token_budget
from shelftalk.studies.token_budget.run import Questions, TokenRun, measure, token_run


@dataclass(frozen=True)
class VariantRun:
    """One variant with one seed, and where its files are."""

    variant: Variant
    seed: int
    folder: RunFolder
    shared: RunFolder
    """The folder of its data, split and item index, which other runs may stand on too."""

    @property
    def on_tokens(self) -> TokenRun:
        """What is trained and asked."""
        return TokenRun(self.variant.experiment, self.seed, self.folder, self.shared)

    @property
    def experiment(self) -> Experiment:
        """The variant's experiment with the run's seed."""
        return self.on_tokens.seeded

    @property
    def parts(self) -> Run:
        """Split, index and tasks."""
        return self.on_tokens.parts


def run_of(variant: Variant, seed: int, out: Path) -> VariantRun:
    """Where a run stands. Data and split are drawn by the base experiment's seed, names of items by the
    run's."""
    found = token_run(
        variant.experiment, seed, out / "runs" / f"{variant.folder}.seed-{seed}", out / "shared"
    )
    return VariantRun(variant, seed, found.folder, found.shared)


def prepare(run: VariantRun) -> None:
    """Data, split and index of the run, unless another run has made them already."""
    token_budget.prepare(run.on_tokens)


def train(run: VariantRun, tokens: int, progress: OnProgress) -> StageRecord:
    """Train on `tokens` tokens and keep the weights of the best validation: model/. Continues an interrupted
    training."""
    return token_budget.train(run.on_tokens, tokens, progress)


def ask(run: VariantRun, settings: AblationSettings, progress: OnProgress) -> StageRecord:
    """Ask the trained model of the drawn users: evaluation/TASK.parquet."""
    return token_budget.ask(run.on_tokens, _questions(settings, run.variant), progress)


def ask_item_knn(
    variant: Variant, shared: RunFolder, out: Path, settings: AblationSettings, progress: OnProgress
) -> RunFolder:
    """item_knn on the data of `variant`, asked the same; the folder with its tables."""
    folder = RunFolder(out / ITEM_KNN)
    experiment, questions = variant.experiment, _questions(settings, variant)
    inputs = {
        "prepare": shared.needed("prepare").fingerprint,
        "item_knn": experiment.settings_of(ITEM_KNN).model_dump(mode="json"),
        **questions.inputs,
    }

    def work() -> dict[str, Any]:
        progress("ask", 0, 1, ITEM_KNN)
        run = Run(shared, experiment)
        model = run.model(ITEM_KNN)
        measured = measure(model, folder, run, questions)
        progress("ask", 1, 1, FINISHED)
        return {"chosen": model.selection(), **measured}

    folder.do("evaluate", inputs, work, [folder.evaluation(task) for task in SERVED])
    return folder


def _questions(settings: AblationSettings, variant: Variant) -> Questions:
    return Questions(settings.part, settings.users, settings.ratings, variant.experiment.seed, "ablation")
