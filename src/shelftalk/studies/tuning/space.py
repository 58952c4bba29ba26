"""What a tuner may change: a declared space of settings of one experiment, all of it checked before the first
trial."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, field_validator

from shelftalk.errors import SettingsError, UnknownPart, UnknownSetting, nearest
from shelftalk.evaluation.metrics import lower_is_better, metric_names
from shelftalk.experiment import (
    NAME,
    TUNABLE,
    Experiment,
    laid_over,
    load_experiment,
    name_of_file,
    read_toml,
    validated,
)
from shelftalk.parts import SERVED
from shelftalk.recommender import TaskName
from shelftalk.settings import Settings
from shelftalk.studies.token_budget.dotted_keys import at_path, nested
from shelftalk.studies.token_budget.settings import Seeds


class TuningSettings(Settings):
    """What all trials share."""

    name: str = Field("tuning", pattern=f"^{NAME}$")
    """Name of the search; its folder is runs/tuning/NAME."""
    trials: int = Field(20, ge=1)
    """Trials in all, pruned ones among them; a finished search with a larger number is continued."""
    random_trials: int = Field(8, ge=1)
    """First trials, drawn at random before the tuner learns from their results."""
    tokens: int = Field(300_000, ge=1)
    """Training tokens that every trial reads, prompts and targets together."""
    metric: str = "retrieval ndcg@10"
    """What is tuned for: a served task and a metric of it, on the validation part. Errors (rmse, mae) are
    minimised."""
    users: int = Field(500, ge=0)
    """Users who are evaluated, drawn by the experiment's seed, the same in every trial; 0: all."""
    ratings: int = Field(2000, ge=0)
    """For a metric of the rating task: at most so many ratings of these users, drawn likewise; 0: all."""
    prune: bool = True
    """Whether a trial ends early where its best validation loss so far is worse than the median of the
    finished trials."""
    unpruned_trials: int = Field(5, ge=1)
    """Trials that must have been finished before one is pruned."""
    finalists: int = Field(3, ge=1)
    """The best trials, each trained again with every one of `seeds`; the experiment as it is, is always one
    more."""
    seeds: Seeds = ()
    """Seeds of the final trainings, the choice is by the mean over them; by default the three numbers after
    the experiment's seed."""

    @field_validator("metric", mode="after")
    @classmethod
    def _known_metric(cls, metric: str) -> str:
        task, _, name = metric.partition(" ")
        served = {known: metric_names(known) for known in SERVED}
        if task not in served or name not in served[task]:
            known = [f"{one} {other}" for one, names in served.items() for other in names]
            raise UnknownPart(
                f'tuning.metric is "{metric}", which no served task has; {nearest(metric, known)}'
            )
        return metric

    @property
    def task(self) -> TaskName:
        """The served task that is evaluated."""
        return next(task for task in SERVED if task == self.metric.partition(" ")[0])

    @property
    def lower_is_better(self) -> bool:
        """Whether the metric is an error."""
        return lower_is_better(self.metric.partition(" ")[2])


class Range(Settings):
    """Numbers between two ends, both included."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    low: int | float
    """The least."""
    high: int | float
    """The greatest."""
    log: bool = False
    """Whether orders of magnitude are alike: for learning rates."""
    step: int | float | None = None
    """Distance of neighbouring values from `low` on; without it every number between the ends."""


class SpaceFile(Settings):
    """A space file as it is written."""

    tuning: TuningSettings = TuningSettings()
    space: dict[str, Any] = Field(default_factory=dict)
    """Setting by dotted name -> {low, high, log, step} or {choices}."""


@dataclass(frozen=True)
class Parameter:
    """One setting that is tuned: a range of numbers (`whole` ones only, or any), or choices."""

    name: str
    path: tuple[str, ...]
    range: Range | None = None
    choices: tuple[Any, ...] = ()
    whole: bool = False

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that show whether all are allowed: every choice, or both ends of the range."""
        return self.choices if self.range is None else (self.range.low, self.range.high)

    @property
    def logarithmic(self) -> bool:
        """Whether orders of magnitude are alike."""
        return self.range is not None and self.range.log

    def described(self) -> str:
        """As in "0.001 to 0.01, log" or "a or b"."""
        if self.range is None:
            return " or ".join(map(formatted, self.choices))
        step = f", step {self.range.step:g}" if self.range.step is not None else ""
        return f"{self.range.low:g} to {self.range.high:g}{', log' if self.range.log else ''}{step}"


@dataclass(frozen=True)
class Space:
    """A checked space over one experiment: every value of every setting alone is one that the experiment
    takes."""

    settings: TuningSettings
    parameters: tuple[Parameter, ...]
    base: Experiment
    experiment_file: Path
    data: str | None = None
    """The folder of the data where the command line names another than the experiment."""

    def experiment(self, values: Mapping[str, Any]) -> Experiment:
        """The base with these values, by dotted name. Raises SettingsError for values that do not go
        together."""
        changed: dict[str, Any] = _data(self.data)
        for parameter in self.parameters:
            if parameter.name in values:
                changed = laid_over(changed, at_path(parameter.path, values[parameter.name]))
        return load_experiment(self.experiment_file, changed, "the space file")


def formatted(value: Any) -> str:
    """A value of a setting as a report shows it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int | float):
        return f"{value:.4g}" if isinstance(value, float) else str(value)
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def value_at(experiment: Experiment, path: Sequence[str]) -> Any:
    """The experiment's own value of a setting that it has."""
    value: Any = experiment.model_dump(mode="json")
    for key in path:
        value = value[key]
    return value


def load_space(experiment: Path, path: Path, trials: int | None = None, data: Path | None = None) -> Space:
    """Read an experiment and a space file and check every value of the space; `trials` and the `data` folder
    win over the files.

    Raises MissingFile, UnknownSetting, UnknownPart or SettingsError, which name the setting and the remedy.
    """
    values = read_toml(path, "space")
    if isinstance(values.get("tuning", {}), Mapping):
        given = {"trials": trials} if trials is not None else {}
        values["tuning"] = {**values.get("tuning", {}), **given}
        if "name" not in values["tuning"]:
            values["tuning"]["name"] = name_of_file(path, "tuning.name")
    where = f'the space file "{path}"'
    file = validated(SpaceFile, values, "", where)
    folder = str(data) if data else None
    base = load_experiment(experiment, _data(folder))
    if not file.space:
        raise SettingsError(
            f'"{path}" has no [space]; write a setting and its range there, as in '
            "training.learning_rate = {low, high}."
        )
    parameters = tuple(
        _parameter(setting, given, base, experiment, where)
        for setting, given in _declared(nested(file.space))
    )
    settings = file.tuning.model_copy(
        update={"seeds": file.tuning.seeds or tuple(base.seed + number for number in (1, 2, 3))}
    )
    if base.seed in settings.seeds:
        raise SettingsError(
            f"tuning.seeds holds {base.seed}, the seed of the search, which flatters its best; name others "
            f"in {where}."
        )
    space = Space(settings, parameters, base, experiment, folder)
    _check_losses(space)
    return space


def _data(folder: str | None) -> dict[str, Any]:
    return {"data": {"folder": folder}} if folder else {}


def _declared(table: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Path and declaration of each setting: the first tables on the way that hold a word of a declaration."""
    for key, value in table.items():
        if isinstance(value, Mapping) and value and not {"choices", *Range.model_fields} & set(value):
            yield from _declared(value, (*above, key))
        else:
            yield (*above, key), value


def _parameter(path: tuple[str, ...], given: Any, base: Experiment, experiment: Path, file: str) -> Parameter:
    name = ".".join(path)
    if not isinstance(given, Mapping):
        raise SettingsError(
            f'the space of "{name}" is no table; write {{low = ..., high = ...}} or {{choices = [...]}} in '
            f"{file}."
        )
    _check_may_be_tuned(name, path, base)
    if "choices" in given:
        parameter = _choices(name, path, given, file)
    else:
        parameter = Parameter(name, path, validated(Range, dict(given), f"space.{name}", file))
    for value in parameter.ends:
        _check_value(name, path, value, experiment, file)
    if parameter.range is None:
        return parameter
    return _numbers(parameter, parameter.range, value_at(base, path), file)


def _check_may_be_tuned(name: str, path: Sequence[str], base: Experiment) -> None:
    if path[0] not in Experiment.model_fields:
        raise UnknownSetting(f'there is no setting "{name}"; {nearest(path[0], TUNABLE)}')
    if path[0] not in TUNABLE or len(path) < 2:
        raise SettingsError(
            f'"{name}" cannot be tuned: trials share data, seed and evaluation; settings of '
            f"{', '.join(TUNABLE)} can."
        )
    role = base.role_at(path)
    if not role.tunable:
        raise SettingsError(f'"{name}" cannot be tuned: {role.why}; leave it out of the space.')


def _choices(name: str, path: tuple[str, ...], given: Mapping[str, Any], file: str) -> Parameter:
    if more := [key for key in given if key != "choices"]:
        raise SettingsError(
            f'the space of "{name}" has choices and "{more[0]}" too; leave one of them out in {file}.'
        )
    values = given["choices"]
    if not isinstance(values, list) or len({json.dumps(value) for value in values}) < max(2, len(values)):
        raise SettingsError(
            f'the choices of "{name}" are not two or more different values; correct them in {file}.'
        )
    return Parameter(name, path, choices=tuple(values))


def _check_value(name: str, path: Sequence[str], value: Any, experiment: Path, file: str) -> None:
    """Raises what the experiment itself raises for this value, as a fault of the space."""
    try:
        load_experiment(experiment, at_path(path, value), file)
    except SettingsError as error:
        load_experiment(experiment)  # where the experiment itself is wrong, it raises without the space
        raise type(error)(f'the space of "{name}": {error}') from None


def _numbers(parameter: Parameter, range: Range, own: Any, file: str) -> Parameter:
    """The parameter with its range checked; whole numbers where the setting takes no others."""
    where = f'the range of "{parameter.name}"'
    if isinstance(own, bool) or not isinstance(own, int | float):
        raise SettingsError(
            f'"{parameter.name}" is no number, so it has no range; name its choices in {file}.'
        )
    whole = isinstance(own, int)
    if not -math.inf < range.low < range.high < math.inf:
        raise SettingsError(f"{where} is empty: low must be below high, both finite; correct it in {file}.")
    if whole and not all(isinstance(number, int) for number in (range.low, range.high, range.step or 1)):
        raise SettingsError(
            f"{where} has fractions, and the setting takes whole numbers; correct it in {file}."
        )
    if range.log and (range.low <= 0 or range.step is not None):
        raise SettingsError(
            f"{where} is log, which needs low above 0 and takes no step; correct it in {file}."
        )
    if range.step is not None:
        steps = (range.high - range.low) / range.step if range.step > 0 else 0.0
        if steps < 1 or not math.isclose(steps, round(steps), abs_tol=1e-9):
            raise SettingsError(f"{where} is no whole number of steps long; correct step or high in {file}.")
    return Parameter(parameter.name, parameter.path, range, whole=whole)


def _check_losses(space: Space) -> None:
    """Raises SettingsError where trials are pruned by losses that cannot be compared."""
    for parameter in space.parameters if space.settings.prune else ():
        if space.base.role_at(parameter.path).changes_loss:
            raise SettingsError(
                f'"{parameter.name}" changes the text of the validation samples, so losses of different '
                "trials cannot be compared and no trial can be pruned by them; set tuning.prune = false, or "
                "leave it out of the space."
            )
