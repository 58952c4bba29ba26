"""What an ablation compares: a grid file of variants of one base experiment, all of them checked before the
first one runs."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from shelftalk.data.splitting import Part
from shelftalk.errors import DuplicateName, SettingsError, UnknownPart, nearest
from shelftalk.experiment import (
    NAME,
    Experiment,
    laid_over,
    load_experiment,
    name_of_file,
    read_toml,
    validated,
)
from shelftalk.settings import Settings
from shelftalk.studies.token_budget.dotted_keys import at_path, leaves, nested
from shelftalk.studies.token_budget.run import relevant_settings
from shelftalk.studies.token_budget.settings import Seeds

ITEM_KNN = "item_knn"
"""The row of the table that is no variant and has no seed."""


class AblationSettings(Settings):
    """What all runs of the grid share."""

    name: str = Field("ablation", pattern=f"^{NAME}$")
    """Name of the ablation; its folder is runs/ablations/NAME."""
    experiment: str | None = None
    """The base experiment's file, relative to the grid file; the bundled MovieLens experiment without one.
    Its seed divides the data."""
    seeds: Seeds = Field((0, 1, 2), min_length=1)
    """Each variant is trained once with each: names of items, samples, their order and starting weights are
    drawn from it."""
    tokens: int = Field(1_000_000, ge=1)
    """Training tokens that every run reads, prompts and targets together: whole samples until the sum reaches
    it."""
    part: Part = "validation"
    """Which part the runs are evaluated on: "validation" as long as something is chosen by the result, or
    "test"."""
    users: int = Field(2000, ge=0)
    """Users who are evaluated, drawn by the base experiment's seed, the same in every run; 0: all."""
    ratings: int = Field(2000, ge=0)
    """At most so many ratings of these users are evaluated, drawn likewise; 0: all."""
    baseline: str | None = None
    """Name of the variant that all others are compared with; by default the first."""
    compare_item_knn: bool = False
    """Whether item_knn, fitted on the base experiment's data, is a row of the table too."""
    resamples: int = Field(2000, ge=100)
    """Bootstrap resamples for each 95 % interval."""


class GridFile(Settings):
    """A grid file as it is written: what all share, the variants one by one, and tables of settings to
    cross."""

    ablation: AblationSettings = AblationSettings()
    settings: dict[str, Any] = Field(default_factory=dict)
    """Experiment settings laid over the base experiment in every variant."""
    variant: tuple[dict[str, Any], ...] = ()
    """One table per variant: its name, and the experiment settings in which it differs from the base."""
    grid: dict[str, Any] = Field(default_factory=dict)
    """Experiment setting -> list of values: every combination is one more variant, named after its values."""


@dataclass(frozen=True)
class Variant:
    """One point of the grid; `settings` is its table in the file, `experiment` all of it, resolved."""

    name: str
    settings: dict[str, Any]
    experiment: Experiment

    @property
    def folder(self) -> str:
        """The name as part of a file name."""
        return re.sub(r"[^\w.+-]+", "-", self.name).strip("-") or "variant"


@dataclass(frozen=True)
class Grid:
    """A checked grid: at least one variant, the baseline among them, no two of them alike (see
    `relevant_settings`)."""

    settings: AblationSettings
    variants: tuple[Variant, ...]

    @property
    def baseline(self) -> Variant:
        """The variant that the others are compared with."""
        name = self.settings.baseline or self.variants[0].name
        return next(variant for variant in self.variants if variant.name == name)

    @property
    def others(self) -> tuple[Variant, ...]:
        """All variants but the baseline."""
        return tuple(variant for variant in self.variants if variant.name != self.baseline.name)


def load_grid(path: str | Path, seeds: Sequence[int] | None = None, data: str | Path | None = None) -> Grid:
    """Read a grid file and build the experiment of every variant; `seeds` and the `data` folder win over the
    file.

    Raises MissingFile, UnknownSetting, UnknownPart, DuplicateName or SettingsError, which name the setting
    and the variant.
    """
    values = read_toml(path, "grid")
    if isinstance(values.get("ablation", {}), Mapping):
        values["ablation"] = {**values.get("ablation", {}), **({"seeds": tuple(seeds)} if seeds else {})}
        if "name" not in values["ablation"]:
            values["ablation"]["name"] = name_of_file(path, "ablation.name")
    file = validated(GridFile, values, "", f'the grid file "{path}"')
    base = Path(path).parent / file.ablation.experiment if file.ablation.experiment else None
    common = laid_over(nested(file.settings), {"data": {"folder": str(data)}} if data else {})
    variants = tuple(_variant(name, settings, base, common, path) for name, settings in _named(file))
    if not variants:
        raise SettingsError(
            f'"{path}" has no variants; add a [[variant]] with a name, or a [grid] of lists of values.'
        )
    _check_names(variants, file.ablation)
    _check_different(variants)
    return Grid(file.ablation, variants)


def read_seeds(text: str) -> tuple[int, ...]:
    """As in "0,1,2". Raises SettingsError for anything else."""
    try:
        return tuple(int(seed) for seed in text.split(","))
    except ValueError:
        raise SettingsError(f'--seeds takes whole numbers by comma, as in 0,1,2 (given: "{text}").') from None


def _named(file: GridFile) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and settings of each variant: those written out first, then every combination of [grid]."""
    for number, table in enumerate(file.variant, start=1):
        name = table.get("name")
        if not isinstance(name, str) or not name.strip():
            raise SettingsError(f'variant {number} has no name; begin it with name = "...".')
        yield name, nested({key: value for key, value in table.items() if key != "name"})
    axes = [(path, values) for path, values in leaves(nested(file.grid))]
    for path, values in axes:
        if not isinstance(values, list) or not values:
            raise SettingsError(
                f"grid.{'.'.join(path)} is not a list of values; write every value to try between [ and ]."
            )
    for values in itertools.product(*(values for _, values in axes)) if axes else ():
        point = [(path, value) for (path, _), value in zip(axes, values, strict=True)]
        settings: dict[str, Any] = {}
        for path, value in point:
            settings = laid_over(settings, at_path(path, value))
        yield ", ".join(f"{'.'.join(path)}={_formatted(value)}" for path, value in point), settings


def _variant(
    name: str, settings: dict[str, Any], base: Path | None, common: Mapping[str, Any], grid: str | Path
) -> Variant:
    for key in ("seed", "name"):
        if key in settings:
            raise SettingsError(
                f'variant "{name}" sets "{key}", which the ablation gives; leave it out (ablation.seeds '
                "names the seeds)."
            )
    try:
        experiment = load_experiment(base, laid_over(dict(common), settings), f'the grid file "{grid}"')
        return Variant(name, settings, experiment)
    except SettingsError as error:
        load_experiment(base)  # where the base itself is wrong, it raises without the variant's name
        raise type(error)(f'variant "{name}": {error}') from None


def _check_names(variants: Sequence[Variant], settings: AblationSettings) -> None:
    folders: dict[str, str] = {}
    names = [variant.name for variant in variants]
    for variant in variants:
        other = folders.setdefault(variant.folder.lower(), variant.name)
        if other != variant.name or names.count(variant.name) > 1:
            raise DuplicateName(
                f'the variants "{other}" and "{variant.name}" would share one folder; give one another name.'
            )
    if settings.baseline is not None and settings.baseline not in names:
        raise UnknownPart(
            f'ablation.baseline names "{settings.baseline}", which is no variant; '
            f"{nearest(settings.baseline, names)}"
        )
    if settings.compare_item_knn and ITEM_KNN in names:
        raise DuplicateName(
            f'a variant is named "{ITEM_KNN}" like the model it is compared with; give it another name.'
        )


def _check_different(variants: Sequence[Variant]) -> None:
    """Raises SettingsError where a variant trains nothing, or is the same experiment as another one."""
    known: list[tuple[str, dict[str, Any]]] = []
    for variant in variants:
        if not any(task.weight > 0 for task in variant.experiment.tasks.values()):
            raise SettingsError(
                f'variant "{variant.name}" switches every task off; give one of tasks.*.weight a value above '
                "0."
            )
        relevant = relevant_settings(variant.experiment)
        for name, other in known:
            if other == relevant:
                raise SettingsError(
                    f'the variants "{name}" and "{variant.name}" are the same experiment; leave one of them '
                    "out."
                )
        known.append((variant.name, relevant))


def _formatted(value: Any) -> str:
    """A value as part of a name."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return "+".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
