"""What `shelftalk show` and `shelftalk doctor` look at."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shelftalk import parts
from shelftalk.data.inspection import inspect_dataset
from shelftalk.data.sources import catalogue_order, read_dataset
from shelftalk.errors import SettingsError, StageMissing
from shelftalk.experiment import Experiment
from shelftalk.indexing.token_statistics import token_statistics
from shelftalk.pipeline import stages
from shelftalk.pipeline.fresh_backbone import new_backbone
from shelftalk.pipeline.run import Run
from shelftalk.runtime import machine
from shelftalk.runtime.progress import OnProgress, silent
from shelftalk.runtime.run_folder import RunFolder, StageRecord


def sample_tokens(
    experiment: Experiment, task: str, number: int, progress: OnProgress = silent
) -> tuple[str, str, list[tuple[str, bool]], list[str]]:
    """Task, template and tokens (text, bears loss) of sample `number` of the task's first epoch, and the
    notes on the data, without a run folder.

    A task that is switched off is shown as if it were on. Raises UnknownPart for an unknown task, and
    SettingsError for one that the data cannot support or for a number that there is not.
    """
    kind = parts.load(parts.TASKS, task, "task")
    settings = experiment.tasks[task] if task in experiment.tasks else kind.settings_type()
    if not settings.weight:
        on = {task: settings.model_copy(update={"weight": 1.0})}
        experiment = experiment.model_copy(update={"tasks": {**experiment.tasks, **on}})
    with tempfile.TemporaryDirectory() as scratch:
        folder = RunFolder(Path(scratch))
        notes = stages.reading_notes(stages.prepare(folder, experiment, progress))
        stages.index(folder, experiment, progress)
        run = Run(folder, experiment)
        if task not in run.tasks:
            raise SettingsError(
                f"there is no sample of {task}: {run.split.why_no_rating_task}; choose another task."
            )
        progress("write", 0, 1, task)
        samples = run.tasks[task].samples(0)
        if not len(samples):
            raise SettingsError(
                f"there is no sample of {task}: the data has no item or user for it; choose another task."
            )
        if not 0 <= number < len(samples):
            raise SettingsError(
                f"there are samples 0 to {len(samples) - 1} of {task}, not {number}; choose one of them with "
                "--number."
            )
        sample = samples[number]
        backbone = new_backbone(run)
        progress("write", 1, 1, task)
        tokens = backbone.text_encoder.show(backbone.encode(sample.segments))
        return sample.task, sample.template, tokens, notes


def index_figures(
    experiment: Experiment, schemes: Sequence[str] = (), progress: OnProgress = silent
) -> list[dict[str, Any]]:
    """What each index scheme would cost, one row per scheme, without a run folder: `token_statistics`, the
    seconds it took, and the notes on the data.

    Without `schemes`, all that do not leak. Tokens are
    those of the experiment's own backbone, before training.
    """
    rows, wanted = [], schemes or [name for name, scheme in parts.INDEXINGS.items() if not scheme.leaks]
    # a misspelt name is reported before any work
    declared = {name: parts.declared(parts.INDEXINGS, name, "index scheme") for name in wanted}
    with tempfile.TemporaryDirectory() as scratch:
        folder = RunFolder(Path(scratch))
        notes = stages.reading_notes(stages.prepare(folder, experiment, progress))
        for position, scheme in enumerate(wanted, start=1):
            stage, text = f"index.{scheme}", f"scheme {position} of {len(wanted)}"
            progress(stage, 0, 1, text)
            encoder = experiment.index.encoder if declared[scheme].reads_text_vectors else "tfidf"
            settings = experiment.index.model_copy(update={"scheme": scheme, "encoder": encoder})
            one = experiment.model_copy(update={"index": settings})
            record = stages.index(folder, one)
            run = Run(folder, one)
            figures = token_statistics(run.index, new_backbone(run).tokens)
            rows.append({**figures, "seconds": round(record.seconds, 2), "notes": notes})
            progress(stage, 1, 1, text)
    return rows


def data_probes(experiment: Experiment, progress: OnProgress = silent) -> list[dict[str, Any]]:
    """What the data of an experiment gives away by itself (data/probes.py), without a run folder."""
    with tempfile.TemporaryDirectory() as scratch:
        return probes_of(stages.prepare(RunFolder(Path(scratch)), experiment, progress))


def inspect_source(experiment: Experiment, progress: OnProgress = silent) -> dict[str, Any]:
    """The record of data/inspection.py about the data of an experiment."""
    progress("inspect", 0, 2, "reading")
    dataset, report = read_dataset(experiment.data, experiment.seed, order_needed=False)
    progress("inspect", 1, 2, "looking")
    split = experiment.split
    if not dataset.ordered and split.scheme != "random":
        split = split.model_copy(update={"scheme": "random"})
    record = inspect_dataset(dataset, report, split, experiment.seed, catalogue_order(experiment.data))
    progress("inspect", 2, 2, "looking")
    return record


def probes_of(prepared: StageRecord) -> list[dict[str, Any]]:
    """The probes that a run noted. Raises StageMissing for a run of a version that had none."""
    if "probes" not in prepared.facts:
        raise StageMissing(
            "the run was prepared by an earlier version, which did not probe its data; name its experiment "
            "file instead of its folder."
        )
    return list(prepared.facts["probes"])


def machine_facts() -> dict[str, Any]:
    """Cores, memory, bf16, GPU, free disk and versions of this machine."""
    import torch

    from shelftalk.models.precision import has_bf16

    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {
        **machine.hardware_facts(),
        "bf16 in hardware": "yes" if has_bf16() else "no, fp32 is used",
        "GPU": ", ".join(gpus) or "none, the processor is used",
        **machine.versions(),
    }
