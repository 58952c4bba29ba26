"""The stages of a run, in order: prepare, index, write, train, recommend, evaluate, report.

The report is preceded by a stage without a command of its own, certify: what a machine can check of the run.

Each is a function from files to files that may be called alone. A stage whose inputs are unchanged is
skipped: its manifest in stages/ names them, and those of the stages that it builds on. Several processes
(runtime/distributed.py) train, and let the language model answer, together; all else is done by the first of
them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from shelftalk import parts, seeds
from shelftalk.certificate.certify import certify
from shelftalk.data.probes import probe_data
from shelftalk.data.similarity import not_counted
from shelftalk.data.sources import DataReport, DataSettings, catalogue_order, read_dataset, source_hashes
from shelftalk.data.splitting import RATING_HISTORY, Split, split_dataset
from shelftalk.decoding.settings import OVER_VOCABULARY
from shelftalk.errors import AnotherExperiment, SettingsError
from shelftalk.evaluation import comparison
from shelftalk.experiment import (
    WITHOUT_A_FILE,
    Experiment,
    load_experiment,
    save_experiment,
    saved_experiment,
)
from shelftalk.indexing.item_index import VECTORS_FILE, ItemIndex
from shelftalk.pipeline.answer_files import read_answers
from shelftalk.pipeline.costs import costs_of
from shelftalk.pipeline.fine_tuning import train_backbone
from shelftalk.pipeline.fresh_backbone import check_backbone, family
from shelftalk.pipeline.imported_answers import check_imported
from shelftalk.pipeline.index_building import build_index
from shelftalk.pipeline.model_folder import save_recommender
from shelftalk.pipeline.preflight import check_lengths, check_names, check_run, check_written, meta_backbone
from shelftalk.pipeline.recommend_stage import recommend_with
from shelftalk.pipeline.run import Run
from shelftalk.pipeline.teacher import TEACHER_FILE, inputs_of_teacher, teacher_table, write_teacher
from shelftalk.pipeline.workers import ONE, Workers, made_by, trained_tasks
from shelftalk.recommender import is_refit
from shelftalk.runtime import file_hashes
from shelftalk.runtime.distributed import world
from shelftalk.runtime.own_source import left_out
from shelftalk.runtime.progress import FINISHED, OnProgress, StageProgress, silent
from shelftalk.runtime.run_folder import (
    RunFolder,
    StageRecord,
    TimeSpent,
    beside,
    differing,
    holds_something,
    remove,
    remove_parts,
    scratch_in,
    space_needed,
    write_json,
)
from shelftalk.tasks.mixture import number_of_chunks, write_epoch, write_samples
from shelftalk.tasks.samples import Samples, row_groups
from shelftalk.tasks.task import ServedTask
from shelftalk.tasks.templates import Template, read_templates
from shelftalk.training.settings import BY_LOSS, check_trackers


def _bound_from(stage: str) -> tuple[str, ...]:
    """The settings and sections of an experiment that this stage is the first to depend on."""
    stages = {name: Experiment.role_of(name).stages or () for name in Experiment.model_fields}
    return tuple(name for name, readers in stages.items() if stage in readers[:1])


SETTINGS_OF = {stage: _bound_from(stage) for stage in ("prepare", "index", "write", "train")}
"""Stage -> the settings and sections that it is the first to
depend on; a folder that holds its files holds to them."""
MANY_TIED = 0.5
"""Share of users whose last two interactions are at one
time from which on the split is more chance than order."""


def run_all(
    folder: RunFolder, experiment: Experiment, progress: OnProgress = silent, workers: Workers = ONE
) -> list[StageRecord]:
    """All stages in order. Without a model that needs training, index, write and train are left out.

    Raises InUse where another process works in the folder, and what the stages raise."""
    with folder.alone():
        return _run_all(folder, experiment, progress, workers)


def run_experiment(
    experiment: Experiment | Mapping[str, Any] | str | Path | None = None,
    out: str | Path | None = None,
    progress: OnProgress = silent,
) -> Run:
    """Run an experiment, from the data to the report, and return the run. Finished stages are skipped, and an
    interrupted training continues.

    `experiment`: an Experiment, the path of a TOML file, the same tables as a dict, or None for the recipe
    `best` on the bundled MovieLens. `out`: the run's folder, by default runs/NAME. Raises a ShelftalkError,
    whose text is one sentence with the remedy.
    """
    if experiment is None:
        experiment = WITHOUT_A_FILE
    if isinstance(experiment, Mapping):
        experiment = load_experiment(None, experiment)
    elif not isinstance(experiment, Experiment):
        experiment = load_experiment(experiment)
    folder = RunFolder(Path(out) if out is not None else Path("runs") / experiment.name)
    run_all(folder, experiment, progress)
    return Run(folder, experiment)


def _run_all(
    folder: RunFolder, experiment: Experiment, progress: OnProgress, workers: Workers
) -> list[StageRecord]:
    parts.check_installed(name for name in experiment.models if folder.record(f"recommend.{name}") is None)
    if experiment.needs_training and folder.record("train") is None:
        # what training lacks is reported now, not when its stage comes
        with world().main_process_first():
            check_trackers(experiment.training.trackers)
            check_backbone(experiment)
    claim(folder, experiment)
    records = [prepare(folder, experiment, progress)]
    for note in reading_notes(records[0]):  # before the hours of training, not after them
        progress("prepare", 0, 0, note)
    if experiment.needs_training:
        records += [
            index(folder, experiment, progress),
            write(folder, experiment, progress, workers),
            train(folder, experiment, progress),
        ]
    records += recommend(folder, experiment, progress)
    return [*records, evaluate(folder, experiment, progress), report(folder, experiment, progress)]


def claim(folder: RunFolder, experiment: Experiment) -> None:
    """Make the folder this experiment's. Raises AnotherExperiment
    where finished stages would be overwritten by others.

    The models to evaluate, and how they decode and are evaluated, may change within a folder; what a finished
    stage or a training that has begun depends on may not.
    """
    with world().main_process_first():
        _claim(folder, experiment)


def _claim(folder: RunFolder, experiment: Experiment) -> None:
    if folder.path.exists() and not folder.path.is_dir():
        raise AnotherExperiment(f'"{folder.path}" is a file, and a run needs a folder; choose another --out.')
    if folder.experiment.exists() or folder.signed_experiment.exists():
        differs = differing(
            _settled(folder, saved_experiment(folder, experiment)), _settled(folder, experiment)
        )
        if differs:
            raise AnotherExperiment(
                f'"{folder.path}" holds the run of another experiment '
                f"(it differs in {', '.join(differs[:3])}); "
                "choose another --out, or remove that folder."
            )
    elif holds_something(folder.path):
        raise AnotherExperiment(
            f'"{folder.path}" is not empty and not a run of shelftalk; choose another --out.'
        )
    with space_needed(folder.path), folder.alone():
        remove_parts(folder.path)
        save_experiment(experiment, folder)


def prepare(folder: RunFolder, experiment: Experiment, progress: OnProgress = silent) -> StageRecord:
    """Read, check, filter and split the data: dataset/."""
    inputs = {
        "data": experiment.data.read_by("prepare"),
        "files": source_hashes(experiment.data),
        "split": experiment.split.read_by("prepare"),
        "seed": experiment.seed,
    }

    def work() -> dict[str, Any]:
        progress("prepare", 0, 3, "reading")
        dataset, facts = read_dataset(
            experiment.data, experiment.seed, order_needed=experiment.split.scheme != "random"
        )
        progress("prepare", 1, 3, "dividing")
        split = split_dataset(dataset, experiment.split, experiment.seed, experiment.data.training_core)
        facts = facts.recounted(split.dataset) if experiment.data.training_core else facts
        with beside(folder.dataset) as part:
            split.save(part)
        progress("prepare", 2, 3, "probing")
        probes = probe_data(split, catalogue_order(experiment.data), experiment.seed)
        progress("prepare", 3, 3, facts.read_and_kept())
        return {
            "data": asdict(facts),
            "counts": facts.counts(),
            "scheme": split.scheme,
            "ties": split.protocol.ties,
            "evaluated users": len(split.evaluated_users("test")),
            "kept": [
                facts.read_and_kept(),
                *(step["sentence"] for step in facts.filters),
                *_notes_on_the_split(split, experiment.data, facts),
            ],
            "left_out": _tasks_left_out(split),
            "split": split.fingerprint(),
            "probes": [asdict(probe) for probe in probes],
        }

    return folder.do("prepare", inputs, work, [folder.dataset])


def index(folder: RunFolder, experiment: Experiment, progress: OnProgress = silent) -> StageRecord:
    """Name every item: item_index.parquet."""
    inputs: dict[str, Any] = {
        "prepare": folder.needed("prepare").fingerprint,
        "index": experiment.index.read_by("index"),
        "own sources": parts.own_sources([experiment.index.scheme]),
        "encoder files": _local_files(experiment.index.encoder),
        **_continued_files(experiment),
        "seed": experiment.seed,
    }

    def work() -> dict[str, Any]:
        progress("index", 0, 1, experiment.index.scheme)
        split, settings = Split.load(folder.dataset), experiment.index
        item_index = build_index(split, settings, experiment.seed)
        # while nothing is recorded, so that the remedy, another index, can be followed
        check_names(item_index, split, experiment)
        _save_index(item_index, folder)
        progress("index", 1, 1, FINISHED)
        sentences: list[str] = []
        if settings.reads_co_occurrence:
            sentences = not_counted(split, settings.co_occurrence_events, "index.co_occurrence_events")
        return {**item_index.statistics(), **left_out(inputs["own sources"], sentences)}

    return folder.do("index", inputs, work, [folder.item_index, folder.path / VECTORS_FILE])


def write(
    folder: RunFolder, experiment: Experiment, progress: OnProgress = silent, workers: Workers = ONE
) -> StageRecord:
    """Write the training samples of every epoch, and those of the validation part: samples/. The files are
    the same to the byte with any `workers`."""
    tasks = {name: settings.model_dump(mode="json") for name, settings in experiment.tasks.items()}
    inputs = {
        "index": folder.needed("index").fingerprint,
        "text": experiment.text.read_by("write"),
        **_continued_files(experiment),
        "tasks": tasks,
        "own sources": parts.own_sources(experiment.tasks),
        "own templates": {
            name: read_templates(name, s.templates) for name, s in experiment.tasks.items() if s.templates
        },
        "nouns": asdict(experiment.data.nouns),
        **experiment.training.read_by("write"),
        **({"teacher": inputs_of_teacher(experiment)} if experiment.teacher.model else {}),
        "seed": experiment.seed,
    }

    def work() -> dict[str, Any]:
        family(experiment)  # refuses samples that the backbone could not learn from, before they are written
        run = Run(folder, experiment)
        trained = trained_tasks(run)
        if not trained:
            raise SettingsError(no_task_to_train(run.split))
        meta_model = meta_backbone(run)
        if meta_model is not None:
            check_run(run, meta_model)
        counts: dict[str, int] = {}
        with beside(folder.samples) as part, made_by(workers, run) as tables:
            part.mkdir()
            epochs = experiment.training.epochs
            total = epochs + (experiment.teacher.folds if experiment.teacher.model else 0)
            for epoch in range(epochs):
                progress("write", epoch, total, "epochs")
                path = part / folder.epoch(epoch).name
                written = write_epoch(
                    trained, epoch, experiment.seed, path, tables(epoch, number_of_chunks(trained))
                )
                counts = {task: counts.get(task, 0) + written.get(task, 0) for task in {**counts, **written}}
                if meta_model is not None and meta_model.positions is not None:
                    for samples in row_groups(path):
                        check_lengths(samples, meta_model, experiment)
            for name, task in run.served.items():
                write_samples(validation_samples(task, experiment), part / f"validation.{name}.parquet")
            if experiment.teacher.model:
                asking = f"asking {experiment.teacher.model}"
                table = teacher_table(
                    run.split, experiment, lambda fold: progress("write", epochs + fold, total, asking)
                )
                write_teacher(table, part / TEACHER_FILE)
        progress("write", total, total, FINISHED)
        empty = [task.name for task in trained if task.name not in counts]
        sentences = [f"{name} is switched on but has no sample." for name in empty]
        templates = {
            task.name: [asdict(template) for template in task.templates] for task in run.tasks.values()
        }
        return {"samples": counts, "templates": templates, **left_out(inputs["own sources"], sentences)}

    return folder.do("write", inputs, work, [folder.samples])


def train(folder: RunFolder, experiment: Experiment, progress: OnProgress = silent) -> StageRecord:
    """Train the language model on the samples: checkpoints/, model/. Continues an interrupted training."""
    decoding = experiment.decoding
    inputs = {
        "write": folder.needed("write").fingerprint,
        "nano": experiment.nano.read_by("train"),
        "pretrained": experiment.pretrained.read_by("train"),
        "training": experiment.training.read_by("train"),
        **({"teacher": experiment.teacher.read_by("train")} if experiment.teacher.model else {}),
        **({"softmax": decoding.read_by("train")} if decoding.of_names != OVER_VOCABULARY else {}),
        **other_inputs_of_training(experiment),
        "seed": experiment.seed,
    }

    def work() -> dict[str, Any]:
        check_trackers(experiment.training.trackers)
        with world().main_process_first():
            folder.keep_checkpoints_of(inputs)
        spent = TimeSpent(folder.training_time)

        def on_step(done: int, total: int, text: str) -> None:
            spent.keep()
            progress("train", done, total, text)

        run = Run(folder, experiment, templates=_written_with(folder))
        # the model may be another than index and samples were made for
        check_names(run.index, run.split, experiment)
        if (meta_model := meta_backbone(run)) is not None:
            check_run(run, meta_model)
            check_written(run, meta_model)
        backbone, facts = train_backbone(run, on_step)
        if world().is_main:  # other processes may hold a part of the weights only
            with beside(folder.model) as part:
                backbone.save(part)
                save_recommender(part, backbone, run.index, run.tasks, run.split, experiment)
        return {**facts, "seconds_before": spent.before}

    return folder.do("train", inputs, work, [folder.model], kept=folder.model, together=True)


def recommend(folder: RunFolder, experiment: Experiment, progress: OnProgress = silent) -> list[StageRecord]:
    """Let every model answer the test part: rankings/TASK.MODEL.parquet. Models that are fitted again come
    last, since they read what the others chose."""
    names = sorted(experiment.models, key=is_refit)
    return [recommend_with(folder, experiment, name, progress) for name in names]


def evaluate(folder: RunFolder, experiment: Experiment, progress: OnProgress = silent) -> StageRecord:
    """Measure the answers: evaluation/ (per-user tables, slices, paired differences), metrics.json and
    costs.json."""
    imported = check_imported(folder)
    models = [*experiment.models, *imported]
    answered = [folder.needed(f"recommend.{name}") for name in models]
    inputs = {
        "recommend": {record.name: record.fingerprint for record in answered},
        **experiment.evaluation.read_by("evaluate"),
        "seed": experiment.seed,
    }
    tables = (*parts.SERVED, "lists", "recommended", "slices", "differences")

    def work() -> dict[str, Any]:
        split = Run(folder, experiment).split
        answers = {task: read_answers(folder, task, experiment, split) for task in parts.SERVED}
        steps = StageProgress(progress, "evaluate", comparison.pieces(answers) + 1, ", ".join(models))
        settings = experiment.evaluation
        compared = comparison.compare(
            split,
            answers,
            settings.resamples,
            experiment.seed,
            settings.correction,
            short_lists=imported,
            on_piece=steps,
        )
        for name in tables:
            remove(folder.evaluation(name))  # those of models that are evaluated no more
        for name, frame in compared.tables.items():
            with beside(folder.evaluation(name)) as part:
                frame.write_parquet(part)
        write_json(folder.metrics, compared.metrics | split.protocol.as_metrics())
        steps.finish()
        return {"test_evaluations": folder.count_test_evaluation(", ".join(models))}

    record = folder.do("evaluate", inputs, work, [*map(folder.evaluation, tables), folder.metrics])
    if world().is_main:
        _keep_costs(folder, costs_of(answered, folder, experiment))
    return record


def _keep_costs(folder: RunFolder, costs: dict[str, Any]) -> None:
    """Write costs.json where it is missing or another. Measured times differ from run to run, so that no
    stage depends on them, and no manifest has their file."""
    try:
        known = json.loads(folder.costs.read_text("utf-8"))
    except (OSError, ValueError):
        known = None
    if known != costs:
        remove(folder.costs)
        write_json(folder.costs, costs)


def report(folder: RunFolder, experiment: Experiment, progress: OnProgress = silent) -> StageRecord:
    """Certify the run, and write report.html, report.md, report.json, and tables/ as CSV and LaTeX."""
    before = ["prepare", *(("index", "write", "train") if experiment.needs_training else ())]
    evaluated = folder.needed("evaluate")
    models = [*experiment.models, *check_imported(folder)]
    for stage in [*before, *(f"recommend.{name}" for name in models)]:
        folder.needed(stage)  # it shows all of them
    inputs = {
        "evaluate": evaluated.fingerprint,
        "built on": {"certify": certify(folder, experiment, progress).fingerprint},
        "test_evaluations": folder.test_evaluations(),
        "experiment": experiment.model_dump(mode="json"),
        **_ablations_of(folder),
    }

    def work() -> dict[str, Any]:
        from shelftalk.report.from_run import content_of
        from shelftalk.report.render import FORMS, write_report

        steps = StageProgress(progress, "report", len(FORMS) + 2, "collecting")
        content = content_of(Run(folder, experiment))
        steps("writing")
        path = write_report(content, folder.path, steps)
        steps.finish()
        return {"report": path.name}

    outputs = [folder.path / f"report.{ending}" for ending in ("html", "md", "json")]
    return folder.do("report", inputs, work, [*outputs, folder.path / "tables"])


def _ablations_of(folder: RunFolder) -> dict[str, Any]:
    """Hashes of the results of ablations inside the run's folder, which the report shows; nothing without."""
    from shelftalk.report.ablations import ablation_files

    hashes = {
        path.relative_to(folder.path).as_posix(): file_hashes.sha256(path)
        for path in ablation_files(folder.path)
    }
    return {"ablations": hashes} if hashes else {}


def _continued_files(experiment: Experiment) -> dict[str, Any]:
    """Of a run that continues another, what it knew; nothing of all others."""
    folder = experiment.index.continues
    return {"continues": {"folder": folder, "files": _local_files(folder)}} if folder else {}


def _local_files(name: str) -> dict[str, str]:
    """Hashes of a model or sentence encoder that is named by a path; of one on a hub the name is all."""
    return file_hashes.content_of(Path(name)) if name and Path(name).exists() else {}


def other_inputs_of_training(experiment: Experiment) -> dict[str, Any]:
    """What a trained model depends on beside the sections of its own: the files of a local model, and how the
    lists are decoded by which the best checkpoint is chosen (None where it is chosen by loss)."""
    decoding = None if experiment.training.best_by == BY_LOSS else experiment.decoding.model_dump(mode="json")
    return {"pretrained files": _local_files(experiment.pretrained.name), "decoding": decoding}


def _save_index(item_index: ItemIndex, folder: RunFolder) -> None:
    """Written in a folder of its own and moved from there, the index last."""
    with scratch_in(folder.path) as scratch:
        item_index.save(scratch / folder.item_index.name)
        for path in (folder.item_index, folder.path / VECTORS_FILE):
            remove(path)
        for path in sorted(scratch.iterdir(), reverse=True):
            path.replace(folder.path / path.name)


def validation_samples(task: ServedTask, experiment: Experiment) -> Samples:
    """The task's validation samples that training is watched by, drawn by seed."""
    number = task.number_of_validation()
    order = seeds.generator(experiment.seed, "validation samples", task.name).permutation(number)
    return task.validation(order[: experiment.training.validation_samples].tolist())


def _written_with(folder: RunFolder) -> dict[str, list[Template]]:
    """By task, the templates of the written samples, whatever their files are by now."""
    written = folder.needed("write").facts.get("templates", {})
    return {task: [Template(**row) for row in rows] for task, rows in written.items()}


def data_sentences(prepared: StageRecord) -> list[str]:
    """What `prepare` did to the data, and what the data cannot support."""
    return [*prepared.facts.get("kept", ()), *prepared.facts.get("left_out", ())]


def reading_notes(prepared: StageRecord) -> list[str]:
    """The notes on the data: values that are not what they look like, or were not kept as they are."""
    return list(prepared.facts.get("data", {}).get("notes", ()))


def _notes_on_the_split(split: Split, data: DataSettings, facts: DataReport) -> list[str]:
    """A sentence for whatever is unusual in how the events were divided."""
    users, evaluated = len(split.dataset.user_ids), len(split.evaluated_users("test"))
    sentences = [split.protocol.note] if split.protocol.note else []
    sentences += _notes_on_ties(split, facts)
    if split.scheme != "random" and facts.users_tied_at_end > MANY_TIED:
        sentences.append(
            f"Which interaction is the test was drawn by seed for {facts.users_tied_at_end:.1%} of the "
            f"users: their last two have the same {facts.ordered_by}."
        )
    if split.scheme in ("by_user", "global_time"):
        train = len(np.unique(split.training_users))
        sentences.append(
            f"{evaluated:,} of {users:,} users are evaluated; {train:,} have interactions that train."
        )
    elif evaluated < users:
        left = data.training_core and data.catalogue == "interacted"
        or_left = " or their last item has left the catalogue" if left else ""
        sentences.append(
            f"{users - evaluated:,} of {users:,} users are not evaluated, since they have fewer than "
            f"{2 * split.protocol.last + 1} interactions{or_left}; their interactions are training data."
        )
    if len(split.shortened_users) and not split.why_no_rating_task:
        sentences.append(
            f"Rating requests show the most recent {RATING_HISTORY:,} training events of a user, and "
            f"{len(split.shortened_users):,} of {users:,} users have more (such as user "
            f'"{split.dataset.user_ids[int(split.shortened_users[0])]}").'
        )
    return sentences


def _notes_on_ties(split: Split, facts: DataReport) -> list[str]:
    """What shuffling the ties has changed, or why it could change nothing."""
    if split.protocol.ties != "shuffled":
        return []
    tied = int((split.dataset.seconds_since_previous == 0).sum())
    if not tied:
        return ["No user has two interactions at one time, so there were no ties to shuffle."]
    if facts.ordered_by == "timestamp":
        return [
            "Only times order the interactions, so equal ones are in an order drawn by seed in any case: "
            'split.ties = "published" gives the same split.'
        ]
    return [f"{tied:,} interactions have the same time as the one before them of their user."]


def no_task_to_train(split: Split) -> str:
    """What is wrong where each task is switched off, or left out since the data cannot support it."""
    why = f" (rating prediction is left out: {split.why_no_rating_task})" if split.why_no_rating_task else ""
    return f"no task is left to train{why}; give another of tasks.*.weight a value above 0."


def _tasks_left_out(split: Split) -> list[str]:
    """A sentence for each task that the data cannot support."""
    why = split.why_no_rating_task
    return [f"Rating prediction is left out, in training and evaluation: {why}."] if why else []


def _settled(folder: RunFolder, experiment: Experiment) -> dict[str, Any]:
    """The experiment's settings that the folder's files depend on already."""
    begun = [stage for stage in SETTINGS_OF if folder.record(stage) is not None]
    begun += ["train"] if folder.checkpoints.exists() else []
    bound = {name for stage in begun for name in SETTINGS_OF[stage]}
    free = Experiment.fields_where(lambda role: role.stages == ())
    return experiment.model_dump(mode="json", include=bound, exclude=free)
