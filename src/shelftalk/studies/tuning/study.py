"""A search from its space to its report: claim the folder, search, train the best few with several seeds,
choose by the mean."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from shelftalk.data.sources import source_hashes
from shelftalk.errors import AnotherExperiment, ChangedFile, SettingsError
from shelftalk.experiment import TUNABLE, Experiment
from shelftalk.pipeline.fresh_backbone import check_backbone
from shelftalk.pipeline.stages import data_sentences, reading_notes
from shelftalk.runtime.progress import FINISHED, OnProgress, silent
from shelftalk.runtime.run_folder import (
    alone_in,
    beside,
    holds_something,
    remove_parts,
    space_needed,
    write_json,
)
from shelftalk.studies.token_budget import run as token_budget
from shelftalk.studies.token_budget.progress import StudyProgress
from shelftalk.studies.tuning.report import write_reports
from shelftalk.studies.tuning.result import AS_IT_IS, Finalist, Tuning, finalist_of, result_of
from shelftalk.studies.tuning.search import Trial, best_first, run_in, search, value_of
from shelftalk.studies.tuning.space import Space
from shelftalk.tasks.templates import read_templates

STUDY_FILE = "study.json"
BEST_FILE = "best.toml"
MAY_CHANGE = {"name", "trials", "finalists", "seeds"}
"""Settings of a search that its folder's trials do not depend on."""


def no_log(line: str) -> None:
    """A log that nobody reads."""


def tune(
    space: Space, out: Path, progress: OnProgress = silent, log: Callable[[str], None] = no_log
) -> tuple[Tuning, Path]:
    """Search, choose, and write best.toml, tune.json, tune.md and tune.html into `out`.

    The same command continues where it was interrupted, and does more trials where the settings want more.
    `log` gets sentences about the data, and a line per finished training. Returns the result and the path of
    the page. Raises AnotherExperiment for a folder of something else, InUse where another process works in
    it, SettingsError where no trial succeeded, and what the stages raise.
    """
    with alone_in(out):
        return _tune(space, out, progress, log)


def _tune(space: Space, out: Path, progress: OnProgress, log: Callable[[str], None]) -> tuple[Tuning, Path]:
    claim(space, out)
    _check(space, out, progress)
    prepared = run_in(space.base, space.base.seed, out, AS_IT_IS).shared.needed("prepare")
    of_data, notes = data_sentences(prepared), reading_notes(prepared)
    for sentence in [*of_data, *(f"Note: {note}" for note in notes)]:
        log(sentence)
    trials = search(space, out, progress, log)
    finalists, left_out = _finals(space, trials, out, progress, log)
    result = result_of(space, trials, finalists, [*left_out, *of_data], notes)
    with space_needed(out), beside(out / BEST_FILE) as part:
        part.write_text(_best(space, result), encoding="utf-8")
    return result, write_reports(result, out)


def claim(space: Space, out: Path) -> None:
    """Make the folder this search's. Raises AnotherExperiment where it holds something else, or trials of
    another search."""
    if out.exists() and not out.is_dir():
        raise AnotherExperiment(f'"{out}" is a file, and a search needs a folder; choose another --out.')
    inputs = json.loads(json.dumps(_inputs(space)))
    if (out / STUDY_FILE).exists():
        known = _known(out / STUDY_FILE)
        if differs := [name for name in {**known, **inputs} if known.get(name) != inputs.get(name)]:
            raise AnotherExperiment(
                f'"{out}" holds a search whose {differs[0]} was another, and its trials cannot be compared '
                "with these; choose another --out, or remove that folder."
            )
    elif holds_something(out):
        raise AnotherExperiment(f'"{out}" is not empty and not a search of shelftalk; choose another --out.')
    remove_parts(out)
    with space_needed(out):
        write_json(out / STUDY_FILE, inputs)


def _known(path: Path) -> dict[str, Any]:
    """What the trials of the folder depend on. Raises ChangedFile."""
    try:
        known = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        known = None
    if not isinstance(known, dict):
        raise ChangedFile(
            f'"{path}" is damaged; choose another --out, or remove "{path.parent}" to begin the search anew.'
        )
    return known


def _inputs(space: Space) -> dict[str, Any]:
    """What every trial depends on, and the order in which they are drawn."""
    base = space.base
    return {
        "experiment": base.model_dump(mode="json", include={*TUNABLE, "data", "split", "seed"}),
        "data": source_hashes(base.data),
        "own templates": {
            name: read_templates(name, s.templates) for name, s in base.tasks.items() if s.templates
        },
        "tuning": space.settings.model_dump(mode="json", exclude=MAY_CHANGE),
        "space": {parameter.name: parameter.described() for parameter in space.parameters},
    }


def _check(space: Space, out: Path, progress: OnProgress) -> None:
    """Before the first trial: the experiment as it is has its data, its model and its tasks with their
    templates."""
    progress("prepare", 0, 1, space.base.name)
    run = run_in(space.base, space.base.seed, out, AS_IT_IS)
    token_budget.prepare(run)
    check_backbone(run.experiment)
    opened = run.open()
    if space.settings.task not in opened.served:
        raise SettingsError(
            f'tuning.metric is "{space.settings.metric}", and {opened.split.why_no_rating_task}; name a '
            "metric of another task."
        )
    progress("prepare", 1, 1, FINISHED)


def _finals(
    space: Space, trials: Sequence[Trial], out: Path, progress: OnProgress, log: Callable[[str], None]
) -> tuple[list[Finalist], list[str]]:
    """The experiment as it is and the best trials, each trained with every seed; and a sentence about each
    that failed."""
    candidates, seeds = _candidates(space, trials), space.settings.seeds
    finalists: list[Finalist] = []
    left_out: list[str] = []
    whole = StudyProgress(progress, "finals", len(candidates) * len(seeds), "")

    def value(training: int, name: str, experiment: Experiment, seed: int) -> float:
        run = run_in(experiment, seed, out, f"finals/{name.replace(' ', '-')}.seed-{seed}")
        metric = value_of(run, space, whole.training(training, f"{name}, seed {seed}"))
        log(f"{name}, seed {seed}: {metric:.4f}")
        return metric

    for number, (name, (trial, experiment)) in enumerate(candidates.items()):
        first = number * len(seeds)
        try:
            values = [value(training, name, experiment, seed) for training, seed in enumerate(seeds, first)]
        except SettingsError as error:
            if trial is None:
                raise
            left_out.append(
                f"“{name}” was among the best of the search and failed with another seed: {error}"
            )
        else:
            finalists.append(finalist_of(name, trial, values))
    whole.finish()
    return finalists, left_out


def _candidates(space: Space, trials: Sequence[Trial]) -> dict[str, tuple[Trial | None, Experiment]]:
    """Name -> trial and experiment, the experiment as it is first; of trials of the same experiment only the
    first."""
    candidates: dict[str, tuple[Trial | None, Experiment]] = {AS_IT_IS: (None, space.base)}
    for trial in best_first(list(trials), space):
        experiment = space.experiment(trial.values)
        known = any(experiment == other for _, other in candidates.values())
        if len(candidates) <= space.settings.finalists and not known:
            candidates[f"trial {trial.number}"] = (trial, experiment)
    return candidates


def _best(space: Space, result: Tuning) -> str:
    """The winner as an experiment file, with a comment about its origin."""
    winner = result.winner
    experiment = space.experiment(winner.values).model_copy(update={"name": f"{space.base.name}-tuned"})
    origin = (
        f"# Chosen by shelftalk tune: {winner.name}, validation {result.metric} {winner.mean:.4f}, mean of "
        f"{len(winner.per_seed)} seeds,\n"
        f"# {result.tokens} training tokens each. tune.html beside this file shows the others."
    )
    return f"{origin}\n\n{experiment.toml()}"
