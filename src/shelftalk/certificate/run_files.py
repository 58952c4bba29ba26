"""The files of a run as they are: no manifest is believed here, so that a changed file can be described."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from shelftalk import parts
from shelftalk.data.splitting import Split
from shelftalk.errors import ShelftalkError, StageMissing
from shelftalk.experiment import Experiment
from shelftalk.recommender import TaskName
from shelftalk.runtime.run_folder import SCORES, RunFolder, StageRecord

LAST = ("evaluate", "certify", "report")


@dataclass(frozen=True, eq=False)
class RunFiles:
    """A run's folder, settings and manifests by stage, and its split."""

    folder: RunFolder
    experiment: Experiment
    records: Mapping[str, StageRecord]

    @cached_property
    def split(self) -> Split:
        """The split in dataset/, whoever wrote it."""
        return Split.load(self.folder.dataset)

    @cached_property
    def imported(self) -> list[str]:
        """The models whose answers were imported from score files."""
        return imported_models(self.folder)

    def answered(self, task: TaskName) -> list[str]:
        """The models that answered a task, in the experiment's order."""
        named = (*self.experiment.models, *self.imported)
        names = [name for name in named if f"recommend.{name}" in self.records]
        return [name for name in names if task in self.records[f"recommend.{name}"].facts["tasks"]]

    @property
    def tasks(self) -> list[TaskName]:
        """The tasks that some model answered."""
        return [task for task in parts.SERVED if self.answered(task)]


def imported_models(folder: RunFolder) -> list[str]:
    """The models whose answers were imported, by the manifests that can be read: one that cannot is a problem
    of its own."""
    names = []
    for path in sorted((folder.path / "stages").glob("recommend.*.json")):
        try:
            record = folder.record(path.stem)
        except ShelftalkError:
            continue
        if record is not None and SCORES in record.inputs:
            names.append(record.name.partition(".")[2])
    return names


def stages_of(experiment: Experiment, imported: Sequence[str]) -> list[str]:
    """The stages of a finished run, in order."""
    trained = ("index", "write", "train") if experiment.needs_training else ()
    return ["prepare", *trained, *(f"recommend.{name}" for name in (*experiment.models, *imported)), *LAST]


def finished_run(folder: RunFolder, experiment: Experiment) -> RunFiles:
    """The run with the manifests of all stages up to the evaluation. Raises StageMissing, and ChangedFile
    where files are not those that were written."""
    stages = stages_of(experiment, imported_models(folder))
    names = [name for name in stages if name not in ("certify", "report")]
    return RunFiles(folder, experiment, {name: folder.needed(name) for name in names})


def check_evaluated(folder: RunFolder) -> None:
    """Raises StageMissing where there is no evaluation that could be verified."""
    if not folder.metrics.exists() and not folder.manifest("evaluate").exists():
        raise StageMissing(
            f'"{folder.path}" holds no finished evaluation, so there is nothing to verify; '
            f"run {folder.command('run')} first."
        )
