"""Whether anything that is held out reached the item index or the training samples of a run: all of it is
replaced by something else, and both are made again."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shelftalk.certificate.record import Fact
from shelftalk.certificate.run_files import RunFiles
from shelftalk.data.held_out_replacement import replace_held_out
from shelftalk.data.splitting import TRAIN, Split
from shelftalk.indexing.item_index import VECTORS_FILE, ItemIndex
from shelftalk.pipeline.index_building import build_index
from shelftalk.pipeline.run import Run
from shelftalk.tasks.mixture import write_epoch
from shelftalk.tasks.templates import Template

EVENTS = 2_000_000
"""Most interactions of a run whose samples are written again without `complete`: some minutes."""
INDEX, SAMPLES = "held-out data and the item index", "held-out data and the samples"
COMPARED, RUNS_FILES = "compared with", "the run's files"
CHECKED = {
    INDEX: "The item index, made again after everything held out was replaced, is the same to the byte.",
    SAMPLES: "The samples of epoch 0, written again after everything held out was replaced, are the same to "
    "the byte.",
}


def leak_facts(files: RunFiles, complete: bool) -> list[Fact]:
    """Two facts: of the item index, and of the samples of the first epoch."""
    if why := _why_not(files, complete):
        return [Fact(name, CHECKED[name], None, None, why) for name in (INDEX, SAMPLES)]
    split, seed = files.split, files.experiment.seed
    replaced = replace_held_out(split, seed + 1)
    number = {
        "events replaced": int((split.event_part != TRAIN).sum()),
        "ratings replaced": int((~np.isnan(split.dataset.event_rating) & (split.rating_part != TRAIN)).sum()),
    }
    with tempfile.TemporaryDirectory() as scratch:
        return [
            _index_fact(files, replaced, Path(scratch), number),
            _samples_fact(files, replaced, Path(scratch), number),
        ]


def _why_not(files: RunFiles, complete: bool) -> str:
    """Why neither can be checked; "" where both can."""
    split = files.split
    if "write" not in files.records:
        return "The run has neither an item index nor samples: its models are baselines."
    if not complete and len(split.dataset) > EVENTS:
        return (
            f"There are more than {EVENTS:,} interactions, so that it would take minutes; "
            "`shelftalk verify --complete` checks it."
        )
    untaken = len(split.dataset.items) - np.diff(split.dataset.bounds)
    held_out = np.bincount(split.event_user[split.event_part != TRAIN], minlength=len(untaken))
    if (untaken < held_out).any():
        return "A user has taken so much of the catalogue that nothing is left to replace it by."
    return ""


def _index_fact(files: RunFiles, replaced: Split, scratch: Path, number: dict[str, int]) -> Fact:
    experiment, checked = files.experiment, CHECKED[INDEX]
    if experiment.index.encoder != "tfidf":
        why = f'Its vectors were made by the encoder "{experiment.index.encoder}", which is not run again.'
        return Fact(INDEX, checked, None, None, why)

    def made(split: Split, name: str) -> dict[str, bytes]:
        (scratch / name).mkdir()
        path = scratch / name / files.folder.item_index.name
        build_index(split, experiment.index, experiment.seed).save(path)
        return _contents([path, path.with_name(VECTORS_FILE)])

    written = _contents([files.folder.item_index, files.folder.path / VECTORS_FILE])
    return _compared(
        INDEX, written, made(replaced, "replaced"), lambda: made(files.split, "as it is"), number
    )


def _samples_fact(files: RunFiles, replaced: Split, scratch: Path, number: dict[str, int]) -> Fact:
    experiment, epoch = files.experiment, files.folder.epoch(0)
    written_with: Mapping[str, list[Template]] = {
        task: [Template(**row) for row in rows]
        for task, rows in files.records["write"].facts.get("templates", {}).items()
    }
    index = ItemIndex.load(files.folder.item_index)

    def made(split: Split, name: str) -> dict[str, bytes]:
        run = Run(files.folder, experiment, templates=written_with)
        vars(run).update(split=split, index=index)  # in place of those that it would load
        tasks = [task for task_name, task in run.tasks.items() if experiment.tasks[task_name].weight > 0]
        path = scratch / name / epoch.name
        path.parent.mkdir(exist_ok=True)
        write_epoch(tasks, 0, experiment.seed, path)
        return _contents([path])

    return _compared(
        SAMPLES, _contents([epoch]), made(replaced, "replaced"), lambda: made(files.split, "as it is"), number
    )


def _compared(
    name: str,
    written: dict[str, bytes],
    of_replaced: dict[str, bytes],
    make_as_it_is: Callable[[], dict[str, bytes]],
    number: dict[str, Any],
) -> Fact:
    """The fact of one of the two. Where this machine makes other files than the run's did, of the same split,
    its own two are compared."""
    checked = CHECKED[name]
    how = "Every held-out event got an item that its user never took, every held-out rating another value."
    if of_replaced == written:
        return Fact(name, checked, {**number, COMPARED: RUNS_FILES}, True, how)
    as_it_is = make_as_it_is()
    if as_it_is == of_replaced:
        why = " Other files than the run's are made of the split here, so two made here were compared."
        return Fact(name, checked, {**number, COMPARED: "files made here"}, True, how + why)
    value = {**number, COMPARED: RUNS_FILES if as_it_is == written else "files made here"}
    return Fact(name, checked, value, False, how)


def _contents(paths: list[Path]) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in paths if path.exists()}
