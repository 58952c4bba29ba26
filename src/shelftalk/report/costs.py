"""What each model of a run chose on validation, and the time it took, from the manifests of its stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shelftalk.pipeline.run import Run
from shelftalk.report.content import CostRow
from shelftalk.runtime.run_folder import StageRecord

APART = (
    "Wall time and memory on this machine, with whatever else it did: to fit a model, its choices on "
    "validation included (of a trained language model: to open it), to train it, and to answer 1,000 "
    "requests of each task."
)
TOGETHER = (
    "Wall time on this machine, with whatever else it did. Fitting, the choice on validation and answering "
    "are timed together, and divided by the thousands of requests answered in all tasks: of a model that is "
    "fitted once and asked often, fitting becomes a small part of it."
)


def costs(run: Run, requests: Mapping[str, int]) -> tuple[tuple[CostRow, ...], str]:
    """A row per model of the experiment that answered, and a sentence on what the times hold.

    `requests`: how many each task has in the test part. Answers that were imported have no row: what their
    system costs is not known.
    """
    measured, rows = run.costs, []
    trained = run.folder.record("train") if run.experiment.needs_training else None
    for name in run.experiment.models:
        record = run.folder.record(f"recommend.{name}")
        if record is not None and record.facts["tasks"]:
            stands_on_training = "train" in record.inputs.get("built on", {})
            training = trained.seconds if trained and stands_on_training else None
            rows.append(_row(name, record, measured.get(name), training, requests))
    if not rows:
        return (), ""
    return tuple(rows), APART if any(row.seconds_per_1000 for row in rows) else TOGETHER


def _row(
    name: str,
    record: StageRecord,
    measured: Mapping[str, Any] | None,
    training: float | None,
    requests: Mapping[str, int],
) -> CostRow:
    """By the finer measurements; folders of earlier versions have the time of the whole stage alone."""
    chosen = tuple(
        sentence.removeprefix(f"{name}: ").removeprefix(f"{name}, ")
        for sentence in record.facts.get("chosen", ())
    )
    if measured:
        return CostRow(
            name,
            chosen,
            measured["fit_seconds"],
            measured.get("training_seconds"),
            measured["seconds_per_1000"],
            peak_memory_mb=measured["peak_memory_mb"],
        )
    answered = sum(requests.get(task, 0) for task in record.facts["tasks"])
    together = 1000 * record.seconds / answered if answered else None
    return CostRow(name, chosen, training_seconds=training, together=together)
