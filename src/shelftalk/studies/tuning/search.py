"""The search: trials drawn by a seeded TPE, pruned by validation loss, kept in a file so that the same
command continues it.

Bergstra, Bardenet, Bengio and Kégl, "Algorithms for hyper-parameter optimization", NeurIPS 2011 (TPE); the
median stopping rule is that of Golovin et al., "Google Vizier", KDD 2017. Both are optuna's. The sampler of a
trial is seeded by the number of trials before it, and so depends on their results, not on how often the
search was interrupted.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shelftalk import seeds
from shelftalk.errors import SettingsError
from shelftalk.evaluation.evaluator import summarise
from shelftalk.experiment import Experiment
from shelftalk.runtime.progress import OnProgress
from shelftalk.runtime.run_folder import space_needed
from shelftalk.studies.token_budget import run as token_budget
from shelftalk.studies.token_budget.progress import StudyProgress
from shelftalk.studies.token_budget.run import BudgetRun, EvaluationSample, budget_run, read_tables
from shelftalk.studies.token_budget.training import OnValidation, ignore_validation
from shelftalk.studies.tuning.space import Parameter, Space, formatted

if TYPE_CHECKING:  # optuna and its database take half a second to load
    import optuna
    from optuna.distributions import BaseDistribution

STORAGE = "trials.sqlite3"
TRIAL, SHARED = "trial", "shared"
FINISHED_TRIAL, PRUNED, FAILED = "finished", "pruned", "failed"


@dataclass(frozen=True)
class Trial:
    """One point of the space that was tried; `number` counts from 1 and leaves out trials that were killed
    and run again.

    `value` is the metric on the validation part, None unless `state` is "finished"; `losses` are the
    validation losses in their order, nats per target, and `reason` is why there is no value.
    """

    number: int
    values: dict[str, Any]
    state: Literal["finished", "pruned", "failed"]
    value: float | None
    losses: list[float]
    reason: str
    seconds: float

    def described(self) -> str:
        """In a line, for the log."""
        result = f"{self.value:.4f}" if self.value is not None else self.reason
        values = [f"{name.rpartition('.')[2]} {formatted(value)}" for name, value in self.values.items()]
        return f"{result} ({', '.join(values)})"


class _Pruned(Exception):
    """Ends a training early."""


def search(space: Space, out: Path, progress: OnProgress, log: Callable[[str], None]) -> list[Trial]:
    """Run trials until there are as many as the settings want. `log` gets a line per trial. Raises
    SettingsError where none succeeded."""
    with space_needed(out):
        study = _study(space, out)
        _forget_killed(study)
        trials = _ended(study, space)
        whole = StudyProgress(progress, "trials", max(len(trials), space.settings.trials), "")
        while len(trials) < space.settings.trials:
            of_trial = whole.training(len(trials), _best_so_far(trials, space))
            _run_trial(study, space, out, len(trials), of_trial)
            trials = _ended(study, space)
            log(f"trial {len(trials)}/{space.settings.trials}: {trials[-1].described()}")
    whole.finish()
    if not any(trial.value is not None for trial in trials):
        raise SettingsError(f"none of {len(trials)} trials succeeded; the last one: {trials[-1].reason}")
    return trials


def value_of(
    run: BudgetRun, space: Space, progress: OnProgress, on_validation: OnValidation = ignore_validation
) -> float:
    """Train a run on the budget and evaluate it: the metric on the validation part. What is finished is not
    done again."""
    settings = space.settings
    token_budget.prepare(run)
    token_budget.train(run, settings.tokens, progress, on_validation)
    token_budget.evaluate(run, evaluation_sample(space), progress)
    tables, metric = read_tables(run.folder), settings.metric.partition(" ")[2]
    return summarise(tables[settings.task], settings.task)[metric]


def evaluation_sample(space: Space) -> EvaluationSample:
    """The requests that every trial is evaluated on: of the validation part alone."""
    settings, seed = space.settings, space.base.seed
    return EvaluationSample(
        "validation", settings.users, settings.ratings, seed, study="tuning", tasks=(settings.task,)
    )


def run_in(experiment: Experiment, seed: int, out: Path, name: str) -> BudgetRun:
    """A run of this search, in the folder `name`."""
    return budget_run(name, experiment, seed, out / name, out / SHARED)


def best_first(trials: list[Trial], space: Space) -> list[Trial]:
    """The trials that have a value, the best one first, earlier ones first among equals."""
    sign = 1 if space.settings.lower_is_better else -1
    return sorted(
        (trial for trial in trials if trial.value is not None),
        key=lambda trial: (sign * (trial.value or 0.0), trial.number),
    )


def _study(space: Space, out: Path) -> optuna.Study:
    import optuna
    from sqlalchemy import URL

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # every trial has a line in our own log
    settings = space.settings
    return optuna.create_study(
        storage=URL.create("sqlite", database=str(out / STORAGE)).render_as_string(),
        study_name="tuning",
        direction="minimize" if settings.lower_is_better else "maximize",
        pruner=optuna.pruners.MedianPruner(settings.unpruned_trials)
        if settings.prune
        else optuna.pruners.NopPruner(),
        load_if_exists=True,
    )


def _forget_killed(study: optuna.Study) -> None:
    """A trial that was killed is no trial: it is run again."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)


def _ended(study: optuna.Study, space: Space) -> list[Trial]:
    """The trials that have ended, in their order."""
    from optuna.trial import TrialState

    ended = study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
    return [_record(number, trial, space) for number, trial in enumerate(ended, start=1)]


def _record(number: int, trial: optuna.trial.FrozenTrial, space: Space) -> Trial:
    values = {
        parameter.name: _decoded(parameter, trial.params[parameter.name]) for parameter in space.parameters
    }
    losses = [abs(loss) for _, loss in sorted(trial.intermediate_values.items())]
    attributes = trial.user_attrs
    # optuna's value of a pruned trial is its last loss
    value = trial.value if attributes["state"] == FINISHED_TRIAL else None
    return Trial(
        number, values, attributes["state"], value, losses, attributes["reason"], attributes["seconds"]
    )


def _run_trial(study: optuna.Study, space: Space, out: Path, before: int, progress: OnProgress) -> None:
    """Draw a trial, run it and keep its result."""
    import optuna

    number = seeds.number(space.base.seed, "tuning", before) % 2**32
    study.sampler = optuna.samplers.TPESampler(n_startup_trials=space.settings.random_trials, seed=number)
    trial = study.ask({parameter.name: _distribution(parameter) for parameter in space.parameters})
    # a trial that was killed left its checkpoints there, which belong to no other
    shutil.rmtree(out / TRIAL, ignore_errors=True)
    start = time.perf_counter()
    value, state, reason = _trial_result(trial, space, out, progress)
    seconds = round(time.perf_counter() - start, 2)
    for name, attribute in (("state", state), ("reason", reason), ("seconds", seconds)):
        trial.set_user_attr(name, attribute)
    if value is None:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)  # the sampler keeps away from there
    else:
        study.tell(trial, value)
    shutil.rmtree(out / TRIAL, ignore_errors=True)


def _trial_result(
    trial: optuna.Trial, space: Space, out: Path, progress: OnProgress
) -> tuple[float | None, str, str]:
    """Value, state and reason. A trial whose values do not go together, or whose loss is not a number, has
    failed, and that is a result."""
    sign = 1 if space.settings.lower_is_better else -1
    losses: list[float] = []

    def on_validation(step: int, metrics: Mapping[str, float]) -> None:
        losses.append(metrics["loss"])
        trial.report(sign * losses[-1], len(losses))  # by number: trials with larger batches have fewer steps
        if trial.should_prune():
            raise _Pruned

    try:
        experiment = space.experiment({p.name: _decoded(p, trial.params[p.name]) for p in space.parameters})
        run = run_in(experiment, space.base.seed, out, TRIAL)
        value = value_of(run, space, progress, on_validation)
    except _Pruned:
        return None, PRUNED, f"ended early, at validation {len(losses)} with loss {losses[-1]:.3f}"
    except SettingsError as error:
        return None, FAILED, str(error)
    if not math.isfinite(value):
        return None, FAILED, f"{space.settings.metric} is {value}"
    return value, FINISHED_TRIAL, ""


def _distribution(parameter: Parameter) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    range = parameter.range
    if range is None:
        return CategoricalDistribution([json.dumps(choice) for choice in parameter.choices])
    if parameter.whole:
        return IntDistribution(int(range.low), int(range.high), range.log, int(range.step or 1))
    return FloatDistribution(range.low, range.high, range.log, range.step)


def _decoded(parameter: Parameter, value: Any) -> Any:
    return json.loads(value) if parameter.range is None else value


def _best_so_far(trials: list[Trial], space: Space) -> str:
    best = best_first(trials, space)
    return f"best {space.settings.metric} {best[0].value:.4f}" if best else space.settings.metric
