"""`shelftalk verify A --against B`: models of two runs compared on the same requests, paired.

Both runs are verified first, and nothing is compared unless their test parts and candidates are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import polars as pl

from shelftalk.certificate.figures import printed_metrics
from shelftalk.certificate.file_checks import read_settings
from shelftalk.certificate.recomputation import by_model
from shelftalk.certificate.run_files import RunFiles
from shelftalk.data.splitting import TEST, Split
from shelftalk.errors import AnotherExperiment, SettingsError, nearest
from shelftalk.evaluation.metrics import metric_names
from shelftalk.evaluation.significance import paired_difference
from shelftalk.recommender import TaskName
from shelftalk.runtime.progress import OnProgress, silent
from shelftalk.runtime.run_folder import RunFolder


@dataclass(frozen=True)
class PairedRow:
    """A model of A minus one of B on the same users: value, 95 % interval, two-sided p."""

    task: str
    first: str
    second: str
    metric: str
    value: float
    low: float
    high: float
    p: float
    n: int


@dataclass
class Comparison:
    """Two runs, and the differences of their models."""

    first: str
    second: str
    rows: list[PairedRow] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """As `verify --against --json` prints it."""
        return asdict(self)


def compare_runs(
    first: RunFolder, second: RunFolder, models: Sequence[str] = (), progress: OnProgress = silent
) -> Comparison:
    """Each model of `first` against the same of `second`, or the pair of `models`.

    `models`: names that both runs have, or exactly two of "A:NAME" and "B:NAME". Raises AnotherExperiment
    where the runs have other test parts, naming what differs, and SettingsError where no model is common.
    """
    runs = [_opened(folder) for folder in (first, second)]
    check_same_test_part(runs[0].split, runs[1].split, str(first.path), str(second.path))
    tables = [_tables(run) for run in runs]
    result = Comparison(str(first.path), str(second.path))
    work = [
        (task, one, other, metric)
        for one, other in _pairs(runs, models)
        for task in tables[0]
        if task in tables[1] and one in tables[0][task] and other in tables[1][task]
        for metric in metric_names(task)
    ]
    if not work:
        raise SettingsError("the chosen models have no task in common; choose others with --models.")
    evaluation, seed = runs[0].experiment.evaluation, runs[0].experiment.seed
    for number, (task, one, other, metric) in enumerate(work):
        progress("compare", number, len(work), f"{task}, {metric}")
        frames = tables[0][task][one], tables[1][task][other]
        difference = paired_difference(*frames, metric, evaluation.resamples, seed=seed)
        result.rows.append(PairedRow(task, f"A:{one}", f"B:{other}", metric, **asdict(difference)))
    progress("compare", len(work), len(work), "finished")
    return result


def check_same_test_part(one: Split, other: Split, first: str, second: str) -> None:
    """Raises AnotherExperiment, naming the first thing in which the test parts of two splits differ."""
    differs = next((what for what, of in _PARTS.items() if of(one) != of(other)), None)
    if differs:
        raise AnotherExperiment(
            f'"{first}" and "{second}" differ in {differs}, so their figures are not paired; compare runs of '
            "the same data, split settings and seed."
        )


def _requests(split: Split) -> list[Any]:
    events = split.held_out_events("test")
    data = split.dataset
    return [
        data.events["user_id"].gather(pl.Series(events)).to_list(),
        [data.item_ids[row] for row in data.event_item[events].tolist()],
    ]


def _histories(split: Split) -> bytes:
    data, events = split.dataset, split.held_out_events("test")
    last = int(events.max()) + 1
    ids = np.array(data.item_ids)
    return b"".join([str(ids[data.event_item[:last]].tolist()).encode(), split.event_part.tobytes()])


def _candidates(split: Split) -> list[list[str]]:
    ids = np.array(split.dataset.item_ids)
    return ids[np.sort(split.candidates["test"], axis=1)].tolist() if len(split.candidates["test"]) else []


def _ratings(split: Split) -> list[Any]:
    rows = pl.Series(np.flatnonzero(split.rating_part == TEST))
    return split.dataset.events.select("user_id", "item_id", "rating").select(pl.all().gather(rows)).rows()


_PARTS = {
    "the catalogue": lambda split: sorted(split.dataset.item_ids),
    "the users and items of the test part": _requests,
    "the events before them, or the parts that these are in": _histories,
    "the ranking candidates": _candidates,
    "the ratings of the test part": _ratings,
}
"""What two runs must share, each with how it is read off a split."""


def _opened(folder: RunFolder) -> RunFiles:
    experiment, _ = read_settings(folder)
    records = {"evaluate": folder.needed("evaluate")}
    return RunFiles(folder, experiment, records)


def _tables(run: RunFiles) -> dict[TaskName, dict[str, pl.DataFrame]]:
    tasks: list[Any] = list(printed_metrics(run.folder))
    return {task: by_model(pl.read_parquet(run.folder.evaluation(task), glob=False)) for task in tasks}


def _pairs(runs: Sequence[RunFiles], models: Sequence[str]) -> list[tuple[str, str]]:
    """The models to compare, of the first run and of the second."""
    names = [run.experiment.models for run in runs]
    if any(name.startswith(("A:", "B:")) for name in models):
        chosen = {run: [name[2:] for name in models if name.startswith(f"{run}:")] for run in "AB"}
        if len(models) != 2 or not (chosen["A"] and chosen["B"]):
            raise SettingsError("--models with A: and B: names one of each run; give A:NAME,B:NAME.")
        pairs = [(chosen["A"][0], chosen["B"][0])]
    else:
        common = [name for name in names[0] if name in names[1]]
        pairs = [(name, name) for name in (models or common)]
    for one, other in pairs:
        for name, known in ((one, names[0]), (other, names[1])):
            if name not in known:
                raise SettingsError(f'a run has no model "{name}"; {nearest(name, known)}')
    if not pairs:
        raise SettingsError("the two runs have no model in common; name a pair, as --models A:NAME,B:NAME.")
    return pairs
