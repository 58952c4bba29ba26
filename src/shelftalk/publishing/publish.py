"""From a finished run to a self-contained folder: assembled under another name, opened once, renamed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tomli_w

from shelftalk import __version__, parts
from shelftalk.baselines.stored import save_model
from shelftalk.errors import AnotherExperiment, RunError, SettingsError, StageMissing, reading
from shelftalk.experiment import Experiment, saved_experiment
from shelftalk.indexing.item_index import VECTORS_FILE, ItemIndex
from shelftalk.pipeline.model_folder import TRIE_FOLDER, redo_training, save_generation_settings
from shelftalk.pipeline.run import Run
from shelftalk.publishing.card import model_card, plain_name
from shelftalk.publishing.contents import (
    CARD,
    CATALOGUE,
    EXPERIMENT,
    FACTS,
    INDEX,
    PRIOR,
    RATING_PRIOR,
    TEMPLATES,
    hashes,
    is_published,
)
from shelftalk.publishing.opening import open_published
from shelftalk.recommender import ALIGNED, ALIGNED_WITH_PRIOR
from shelftalk.report.from_run import content_of
from shelftalk.runtime.run_folder import RunFolder, alone_beside, beside, space_needed, write_json

SHOWN_ITEMS = 2
"""Items in the history of the card's example."""


def publish(
    run: Path, to: Path | None = None, repository: str | None = None, with_prior: bool = False
) -> Path:
    """Assemble the published folder of a finished run, RUN/published by default, and return its path.

    `repository`: the name on a hub that the card's example fetches, where there is one. `with_prior`: the
    prior too, fitted to the training part as it was for the run, so that the folder answers as
    "aligned+prior". It is made of counts of who took what with what, which the folder then holds. Nothing
    else is trained or refitted, and the run is not changed. The folder is opened before it gets its name, so
    a published folder works. Raises StageMissing where the model or its figures, or the weights of a prior,
    are missing, SettingsError where prompts name users or the prior cannot be stored, and AnotherExperiment
    where model and run do not match or `to` holds something else than a published model.
    """
    folder, to = RunFolder(run), to or run / "published"
    _check_target(to)
    _check_figures(folder)
    finished = Run(folder, saved_experiment(folder))
    _check_run(finished)
    try:
        with space_needed(to.absolute()), alone_beside(to, "another --to"), beside(to) as part:
            _fill(part, finished, with_prior)
            _write_card(part, finished, to.name, repository, with_prior)
            open_published(part)
    except PermissionError as error:
        raise RunError(
            f'"{error.filename}" cannot be written ({error.strerror}); choose another --to.'
        ) from None
    return to


def _fill(part: Path, run: Run, with_prior: bool) -> None:
    """Write everything but the card, the facts with the hashes last."""
    part.mkdir()
    # contents only, not permissions: a run may be read-only, and others may read what is published
    for path in sorted(run.folder.model.iterdir()):
        if path.is_file() and path.name not in (FACTS, VECTORS_FILE):
            shutil.copyfile(path, part / path.name)
    trie = run.language_model.trie
    trie.save(part / TRIE_FOLDER)  # type: ignore[attr-defined]  # an ItemTrie: nothing was added to a run's
    save_generation_settings(part, run.backbone, trie, run.experiment.decoding.beams)
    run.split.dataset.items.write_parquet(part / CATALOGUE)
    served = [task for task in parts.SERVED if task in run.trained_tasks]
    (part / TEMPLATES).mkdir()
    for task in served:
        rows = [asdict(template) for template in run.trained_tasks[task].templates]
        (part / TEMPLATES / f"{task}.toml").write_text(tomli_w.dumps({"template": rows}), "utf-8")
    (part / EXPERIMENT).write_text(without_paths(run.experiment).toml(), "utf-8")
    facts = _facts(run, served)
    if with_prior:
        _write_priors(part, run, [row["task"] for row in facts["weights"]])
        facts = {**facts, "prior": True}
    write_json(part / FACTS, {**facts, "files": hashes(part)})


def _write_priors(part: Path, run: Run, tasks: Sequence[str]) -> None:
    """The priors as the run fitted them. Raises StageMissing where validation chose no weight for them, and
    SettingsError for a prior that cannot be stored."""
    if "retrieval" not in tasks:
        raise StageMissing(
            f'no weight of a prior was chosen in "{run.folder.path}"; run `shelftalk run` again with '
            f'"{ALIGNED_WITH_PRIOR}" among the models, or publish without the prior.'
        )
    settings = run.experiment.prior
    (part / PRIOR).parent.mkdir()
    save_model(run.model(settings.model), part / PRIOR)
    if "rating" in tasks:
        save_model(run.model(settings.rating_model), part / RATING_PRIOR)


def _write_card(part: Path, run: Run, folder: str, repository: str | None, with_prior: bool) -> None:
    items = run.split.dataset.item_ids[:SHOWN_ITEMS]
    card = model_card(content_of(run), run.experiment, items, folder, repository, with_prior)
    (part / CARD).write_text(card, "utf-8")


def _facts(run: Run, served: Sequence[str]) -> Mapping[str, Any]:
    prior = (
        run.folder.record(f"recommend.{ALIGNED_WITH_PRIOR}")
        if ALIGNED_WITH_PRIOR in run.experiment.models
        else None
    )
    return {
        "shelftalk": __version__,
        "split": run.split.fingerprint(),
        "scheme": run.index.scheme,
        "tasks": served,
        "words": asdict(run.context.nouns),
        "ratings": list(run.context.rating_texts.items()) if "rating" in served else [],
        # runs of version 0.1.0 have them only in sentences
        "weights": prior.facts.get("weights", []) if prior else [],
    }


def without_paths(experiment: Experiment) -> Experiment:
    """The experiment with only the last part of every path, so that a published folder does not show how a
    disk is laid out."""
    data = {
        key: Path(value).name
        for key in ("interactions", "items", "folder")
        if (value := getattr(experiment.data, key))
    }
    tasks = {
        task: settings.model_copy(update={"templates": settings.templates and plain_name(settings.templates)})
        for task, settings in experiment.tasks.items()
    }
    changed = {
        "data": experiment.data.model_copy(update=data),
        "tasks": tasks,
        "index": experiment.index.model_copy(update={"encoder": plain_name(experiment.index.encoder)}),
        "pretrained": experiment.pretrained.model_copy(
            update={"name": plain_name(experiment.pretrained.name)}
        ),
    }
    return experiment.model_copy(update=changed)


def _check_figures(folder: RunFolder) -> None:
    """Raises StageMissing where the run has no figures of its present model."""
    evaluated, stage = folder.needed("evaluate"), f"recommend.{ALIGNED}"
    folder.needed("train")
    if evaluated.inputs["recommend"].get(stage) != folder.needed(stage).fingerprint:
        raise StageMissing(
            f'the figures in "{folder.path}" are not those of its present model; run `shelftalk run` '
            f'again with "{ALIGNED}" among the models, then publish.'
        )


def _check_run(run: Run) -> None:
    """Raises where the model does not belong to this run's index, or its prompts need the users
    of the training."""
    if run.experiment.text.user_ids:
        raise SettingsError(
            "the prompts of this run name users (text.user_ids = true), and a published folder holds none; "
            "train with text.user_ids = false to publish a model."
        )
    with reading(f'"{run.folder.model / INDEX}" cannot be read', redo_training(run.folder.model)):
        trained = ItemIndex.load(run.folder.model / INDEX)
    if (trained.item_ids, trained.names, trained.words) != (
        run.index.item_ids,
        run.index.names,
        run.index.words,
    ):
        raise AnotherExperiment(
            f'the items of the model in "{run.folder.model}" have other names than those of '
            f'"{run.folder.item_index}"; run `shelftalk train` again before publishing.'
        )


def _check_target(to: Path) -> None:
    """Raises AnotherExperiment where `to` holds anything but a published model, since it is replaced
    as a whole."""
    if to.exists() and not is_published(to) and not (to.is_dir() and not any(to.iterdir())):
        raise AnotherExperiment(
            f'"{to}" is there and is no published model; choose another --to, or remove it.'
        )
