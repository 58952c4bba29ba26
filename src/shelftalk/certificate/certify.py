"""The stage that writes certificate.json."""

from __future__ import annotations

from typing import Any

from shelftalk.certificate.facts import facts_of, read_answers
from shelftalk.certificate.record import certificate_content, read_certificate, settings_hash, stated
from shelftalk.certificate.run_files import finished_run
from shelftalk.experiment import Experiment
from shelftalk.runtime.progress import FINISHED, OnProgress, silent
from shelftalk.runtime.run_folder import RunFolder, StageRecord, write_signed


def certify(folder: RunFolder, experiment: Experiment, progress: OnProgress = silent) -> StageRecord:
    """What a machine can check about a run: certificate.json. Raises StageMissing where a stage before the
    report was not run."""
    files = finished_run(folder, experiment)
    inputs = {
        "built on": {name: record.fingerprint for name, record in files.records.items()},
        "stated": {name: stated(record) for name, record in files.records.items()},
        "settings": settings_hash(experiment.model_dump(mode="json")),
    }

    def work() -> dict[str, Any]:
        steps = 1

        def on_answers(_: str, done: int, total: int, text: str) -> None:
            nonlocal steps
            steps = total + 1  # the last is the facts
            progress("certify", done, steps, f"answers, {text}")

        facts = facts_of(files, read_answers(files, on_answers))
        content = certificate_content(experiment, files.records, facts, files.split.fingerprint())
        write_signed(folder.certificate, content)
        progress("certify", steps, steps, FINISHED)
        failing = [fact.name for fact in facts if fact.holds is False]
        return {"certificate": read_certificate(folder).fingerprint, "failing": failing}

    return folder.do("certify", inputs, work, [folder.certificate])
