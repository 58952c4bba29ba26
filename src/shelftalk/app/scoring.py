"""What `evaluate RUN` does: measure a finished run again, with the results of another system or without."""

from __future__ import annotations

from pathlib import Path

from shelftalk import parts
from shelftalk.errors import UnknownPart, nearest
from shelftalk.experiment import saved_experiment
from shelftalk.pipeline import stages
from shelftalk.pipeline.imported_answers import import_scores, remove_scores
from shelftalk.runtime.progress import OnProgress
from shelftalk.runtime.run_folder import RunFolder, StageRecord


def change_scores(
    folder: RunFolder,
    scores: Path | None,
    name: str | None,
    task: str,
    drop_seen: bool,
    removed: str | None,
    progress: OnProgress,
) -> list[StageRecord]:
    """Take scores out of the run, import others, and do the stages `evaluate` and `report` again.

    Raises UnknownPart for a task that there is not, and what the import and the stages raise.
    """
    experiment, records = saved_experiment(folder), []
    if task not in parts.SERVED:
        raise UnknownPart(f'there is no task "{task}" to give scores for; {nearest(task, parts.SERVED)}')
    with folder.alone():
        if removed is not None:
            remove_scores(folder, removed)
        if scores is not None and name is not None:
            records.append(import_scores(folder, experiment, scores, name, task, drop_seen))
        records.append(stages.evaluate(folder, experiment, progress))
        records.append(stages.report(folder, experiment, progress))
    return records
