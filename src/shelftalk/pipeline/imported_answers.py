"""The answers of another system in a run folder: rankings/TASK.NAME.parquet, and a manifest as of any model.

They are a copy, so the score file may go; they stay until they are removed, are evaluated and reported beside
the experiment's models, and belong to one split.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from shelftalk import parts
from shelftalk.data.splitting import Split
from shelftalk.errors import ChangedFile, SettingsError, StageMissing, nearest
from shelftalk.evaluation.score_files import imported_answers
from shelftalk.experiment import NAME, Experiment
from shelftalk.recommender import TaskName
from shelftalk.runtime import file_hashes
from shelftalk.runtime.run_folder import SCORES, RunFolder, StageRecord, beside, remove


def import_scores(
    folder: RunFolder,
    experiment: Experiment,
    path: Path,
    name: str,
    task: TaskName = "retrieval",
    drop_seen: bool = False,
) -> StageRecord:
    """Copy the answers of a score file into the run, as those of the model `name`, beside what was imported
    under that name for other tasks. Nothing is changed where the file is refused.

    Raises SettingsError for a name that is taken or a task that the run does not have, StageMissing where the
    run has no data yet, and what `score_files.imported_answers` raises.
    """
    _check_name(name, experiment)
    with folder.alone():
        prepared = folder.needed("prepare")
        split = Split.load(folder.dataset)
        if task == "rating" and split.why_no_rating_task:
            raise SettingsError(
                f"this run has no rating task, since {split.why_no_rating_task}; give scores for --task "
                "retrieval or ranking."
            )
        answers = imported_answers(path, split, task, drop_seen)
        stage, built_on = f"recommend.{name}", {"prepare": prepared.fingerprint}
        known = _same_split(folder, name, built_on)
        source = {"file": path.name, "sha256": file_hashes.sha256(path), "drop_seen": drop_seen}
        sources = {**(known.inputs[SCORES] if known else {}), task: source}
        sentences = {**(known.facts["imported"] if known else {}), task: answers.sentences}

        def work() -> dict[str, Any]:
            for other in parts.SERVED:
                if other not in sources:
                    remove(folder.ranking(other, name))
            with beside(folder.ranking(task, name)) as part:
                answers.frame.write_parquet(part)
            tasks = [one for one in parts.SERVED if one in sources]
            return {"tasks": tasks, "imported": {one: sentences[one] for one in tasks}}

        outputs = [folder.ranking(one, name) for one in parts.SERVED]
        return folder.do(stage, {"built on": built_on, SCORES: sources}, work, outputs)


def remove_scores(folder: RunFolder, name: str) -> None:
    """Take what was imported as `name` out of the run. Raises SettingsError where nothing was."""
    with folder.alone():
        imported = folder.imported_models()
        if name not in imported:
            known = nearest(name, imported) if imported else "none were imported; leave --remove-scores out."
            raise SettingsError(f'the run "{folder.path}" holds no scores of the name "{name}"; {known}')
        remove(folder.manifest(f"recommend.{name}"))
        for task in parts.SERVED:
            remove(folder.ranking(task, name))


def check_imported(folder: RunFolder) -> list[str]:
    """The imported names, whose answers must be to this split's requests, and as they were imported.

    Raises StageMissing or ChangedFile, with the remedy."""
    names = folder.imported_models()
    for name in names:
        try:
            folder.needed(f"recommend.{name}")
        except (StageMissing, ChangedFile) as error:
            why = "were changed" if isinstance(error, ChangedFile) else "answer another split of the data"
            raise type(error)(
                f'in "{folder.path}" the answers that were imported as "{name}" {why}; '
                f"{_remedy(folder, name)}."
            ) from None
    return names


def sentences_on_imported(record: StageRecord) -> list[str]:
    """What a reader must know about imported answers; nothing of a model of the run."""
    name, sources = record.name.partition(".")[2], record.inputs.get(SCORES, {})
    return [
        f"{name} is no model of this run: its {task} answers were imported from {source['file']} (SHA-256 "
        f"{source['sha256'][:12]}…), and how it was made is not known here. "
        + " ".join(record.facts["imported"][task])
        for task, source in sources.items()
    ]


def _same_split(folder: RunFolder, name: str, built_on: dict[str, str]) -> StageRecord | None:
    """What was imported under this name before, if it answers the same split.

    Raises ChangedFile where its files were changed since."""
    try:
        known = folder.check(f"recommend.{name}")
    except ChangedFile:
        raise ChangedFile(
            f'the answers that were imported as "{name}" before were changed; remove them by '
            f"{_removal(folder, name)} and import them again."
        ) from None
    return known if known and known.inputs.get("built on") == built_on and SCORES in known.inputs else None


def _remedy(folder: RunFolder, name: str) -> str:
    return f"remove them by {_removal(folder, name)}, and import them again with --scores FILE --name {name}"


def _removal(folder: RunFolder, name: str) -> str:
    return folder.command("evaluate", "--remove-scores", name)


def _check_name(name: str, experiment: Experiment) -> None:
    if not re.fullmatch(f"{NAME}(@refit)?", name) or name.endswith(".ci"):
        raise SettingsError(
            f'"{name}" cannot be the name of imported scores; use letters, digits and . + - _ alone, not '
            "ending in .ci."
        )
    if name in (*parts.MODELS, *experiment.models):
        raise SettingsError(f'"{name}" is a model of shelftalk; choose another --name for imported scores.')
