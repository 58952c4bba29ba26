"""The stages of a run, in order: prepare, index, write, train, recommend, evaluate, report.

Each is a function from files to files that may be called alone. A stage whose inputs are unchanged is
skipped: its manifest in stages/ names them, and those of the stages that it builds on. Several processes
(processes.py) train, and ask the language model, together; all else is done by the first of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from shelftalk import parts, seeds
from shelftalk.data.similarity import item_texts, not_counted
from shelftalk.data.sources import DataReport, DataSettings, read_dataset, source_hashes
from shelftalk.data.splitting import LEAST_EVENTS, RANDOM_SPLIT, Split, split_dataset
from shelftalk.decoding.settings import MEASURED_BEAMS, MEASURED_LIMIT
from shelftalk.decoding.workload import Ask, Asking, costs
from shelftalk.errors import AnotherExperiment, ChangedFile, SettingsError
from shelftalk.evaluation import comparison, held_out_templates
from shelftalk.evaluation.metrics import LIST_LENGTH, Task
from shelftalk.experiment import Experiment, load_experiment, save_experiment, saved_experiment
from shelftalk.fine_tuning import train_backbone
from shelftalk.fresh_backbone import check_backbone, family
from shelftalk.indexing.item_index import VECTORS_FILE, IndexSettings, ItemIndex
from shelftalk.model_folder import save_recommender
from shelftalk.preflight import backbone_on_paper, check_lengths, check_names, check_run, check_written
from shelftalk.recommender import ALIGNED, ALIGNED_WITH_PRIOR, TaskName, Tuned, answer, tasks_of
from shelftalk.records import Ranking
from shelftalk.runs import Run
from shelftalk.runtime import file_hashes
from shelftalk.runtime.distributed import world
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
from shelftalk.tasks.mixture import write_epoch, write_samples
from shelftalk.tasks.samples import Samples, read_samples
from shelftalk.tasks.task import ServedTask
from shelftalk.tasks.templates import Template, read_templates
from shelftalk.training.settings import BY_LOSS, WATCHING, check_trackers

SETTINGS_OF = {
    "prepare": ("seed", "data", "split"),
    "index": ("index",),
    "write": ("text", "tasks"),
    "train": ("nano", "pretrained", "training"),
}
"""The sections of an experiment that each stage's files stand on; a folder that holds the files holds to the
settings."""
FINISHED = "finished"
MANY_TIED = 0.5
"""Share of users whose last two interactions are at one time from which on the split is more chance than
order."""
_NOUNS = {"item_noun", "items_noun", "user_noun", "took"}
_NOT_HANDED_OVER: dict[str, Any] = {
    "name": True,
    "models": True,
    "evaluation": True,
    "training": set(WATCHING),
}
OnProgress = Callable[[str, int, int, str], None]
"""(stage, done, of how many, what is said about it); of how many is 0 for a sentence that stays on the
screen."""


def silent(stage: str, done: int, total: int, text: str) -> None:
    """Progress that nobody watches."""


def run(folder: RunFolder, experiment: Experiment, progress: OnProgress = silent) -> list[StageRecord]:
    """The whole way. Without a model that needs training, index, write and train are left out.

    Raises InUse where another process works in the folder, and what the stages raise."""
    with folder.alone():
        return _run(folder, experiment, progress)


def run_experiment(
    experiment: Experiment | Mapping[str, Any] | str | Path | None = None,
    out: str | Path | None = None,
    progress: OnProgress = silent,
) -> Run:
    """Do the run of an experiment, from the data to the report, and return it. Finished stages are skipped, and an interrupted
    training continues.

    `experiment`: an Experiment, the path of a TOML file, the same tables as a dict, or None for the bundled MovieLens.
    `out`: the run's folder, by default runs/NAME. Raises a ShelftalkError, whose text is one sentence with the remedy.
    """
    if isinstance(experiment, Mapping):
        experiment = load_experiment(None, experiment)
    elif not isinstance(experiment, Experiment):
        experiment = load_experiment(experiment)
    folder = RunFolder(Path(out) if out is not None else Path("runs") / experiment.name)
    run(folder, experiment, progress)
    return Run(folder, experiment)


def _run(folder: RunFolder, experiment: Experiment, progress: OnProgress) -> list[StageRecord]:
    if (
        experiment.needs_training and folder.record("train") is None
    ):  # what training lacks is told now, not when its stage comes
        with world().main_process_first():
            check_trackers(experiment.training.trackers)
            check_backbone(experiment)
    claim(folder, experiment)
    records = [prepare(folder, experiment, progress)]
    for note in (
        records[0].facts["data"].get("notes", ())
    ):  # before the hours of training, not only when they are over
        progress("prepare", 0, 0, note)
    if experiment.needs_training:
        records += [stage(folder, experiment, progress) for stage in (index, write, train)]
    records += recommend(folder, experiment, progress)
    return [*records, evaluate(folder, experiment, progress), report(folder, experiment, progress)]


def claim(folder: RunFolder, experiment: Experiment) -> None:
    """Make the folder this experiment's. Raises AnotherExperiment where finished stages would be overwritten
    by others.

    The models to evaluate, and how they are asked and evaluated, may change within a folder; what a finished
    stage or a training that has begun stands on may not.
    """
    with world().main_process_first():
        _claim(folder, experiment)


def _claim(folder: RunFolder, experiment: Experiment) -> None:
    if folder.path.exists() and not folder.path.is_dir():
        raise AnotherExperiment(f'"{folder.path}" is a file, and a run needs a folder; choose another --out.')
    if folder.experiment.exists() or folder.signed_experiment.exists():
        differs = differing(_settled(folder, saved_experiment(folder)), _settled(folder, experiment))
        if differs:
            raise AnotherExperiment(
                f'"{folder.path}" holds the run of another experiment (it differs in {", ".join(differs[:3])}); '
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
        "data": experiment.data.model_dump(mode="json", exclude=_NOUNS),
        "files": source_hashes(experiment.data),
        "split": experiment.split.model_dump(mode="json"),
        "seed": experiment.seed,
    }

    def work() -> dict[str, Any]:
        progress("prepare", 0, 2, "reading")
        dataset, facts = read_dataset(
            experiment.data, experiment.seed, order_needed=experiment.split.scheme != "random"
        )
        progress("prepare", 1, 2, "dividing")
        split = split_dataset(dataset, experiment.split, experiment.seed, experiment.data.training_core)
        facts = facts.of_what_is_left(split.dataset) if experiment.data.training_core else facts
        with beside(folder.dataset) as part:
            split.save(part)
        progress("prepare", 2, 2, facts.read_and_kept())
        return {
            "data": asdict(facts),
            "counts": facts.counts(),
            "scheme": split.scheme,
            "evaluated users": len(split.evaluated_users("test")),
            "kept": [facts.read_and_kept(), *_divided(split, experiment.data, facts)],
            "left_out": _left_out(split),
            "split": split.fingerprint(),
        }

    return folder.do("prepare", inputs, work, [folder.dataset])


def index(folder: RunFolder, experiment: Experiment, progress: OnProgress = silent) -> StageRecord:
    """Name every item: item_index.parquet."""
    inputs = {
        "prepare": folder.needed("prepare").fingerprint,
        "index": experiment.index.model_dump(mode="json"),
        "own sources": parts.own_sources([experiment.index.scheme]),
        "encoder files": _local_files(experiment.index.encoder),
        "seed": experiment.seed,
    }

    def work() -> dict[str, Any]:
        progress("index", 0, 1, experiment.index.scheme)
        split, settings = Split.load(folder.dataset), experiment.index
        named = build_index(split, settings, experiment.seed)
        check_names(
            named, split, experiment
        )  # with the remedy still at hand: this stage has not been recorded
        _save_index(named, folder)
        progress("index", 1, 1, FINISHED)
        cut = (
            not_counted(split, settings.co_occurrence_events, "index.co_occurrence_events")
            if settings.reads_co_occurrence
            else []
        )
        return {**named.statistics(), **_left_out_of(inputs, cut)}

    return folder.do("index", inputs, work, [folder.item_index, folder.path / VECTORS_FILE])


def build_index(split: Split, settings: IndexSettings, seed: int) -> ItemIndex:
    """Name the items, and make the text vectors for that if `settings.encoder` is a sentence encoder.

    Raises UnknownPart for a scheme that there is not, and SettingsError where an encoder is named and the scheme reads
    no text vectors.
    """
    scheme = parts.declared(parts.INDEXINGS, settings.scheme, "index scheme")
    build = parts.load(parts.INDEXINGS, settings.scheme, "index scheme")
    if settings.encoder == "tfidf":
        return build(split, settings, seed)
    if not scheme.reads_text_vectors:
        raise SettingsError(
            f'index.encoder = "{settings.encoder}" makes text vectors, which the scheme "{settings.scheme}" does not read; '
            'set index.encoder = "tfidf" or choose index.scheme = "semantic".'
        )
    from shelftalk.models.sentence_encoder import encode_texts

    return build(
        split, settings, seed, text_vectors=encode_texts(item_texts(split.dataset.items), settings.encoder)
    )


def write(folder: RunFolder, experiment: Experiment, progress: OnProgress = silent) -> StageRecord:
    """Write the training samples of every epoch, and those of the validation part: samples/."""
    tasks = {name: settings.model_dump(mode="json") for name, settings in experiment.tasks.items()}
    inputs = {
        "index": folder.needed("index").fingerprint,
        "text": experiment.text.model_dump(mode="json"),
        "tasks": tasks,
        "own sources": parts.own_sources(experiment.tasks),
        "own templates": {
            name: read_templates(name, s.templates) for name, s in experiment.tasks.items() if s.templates
        },
        "nouns": asdict(experiment.data.nouns),
        "epochs": experiment.training.epochs,
        "validation_samples": experiment.training.validation_samples,
        "seed": experiment.seed,
    }

    def work() -> dict[str, Any]:
        family(
            experiment
        )  # samples that the backbone could not learn from are refused before they are written
        run = Run(folder, experiment)
        trained = [task for name, task in run.tasks.items() if experiment.tasks[name].weight > 0]
        if not trained:
            raise SettingsError(no_task_to_train(run.split))
        paper = backbone_on_paper(run)
        if paper is not None:
            check_run(run, paper)
        counts: dict[str, int] = {}
        with beside(folder.samples) as part:
            part.mkdir()
            for epoch in range(experiment.training.epochs):
                progress("write", epoch, experiment.training.epochs, "epochs")
                written = write_epoch(trained, epoch, experiment.seed, part / folder.epoch(epoch).name)
                counts = {task: counts.get(task, 0) + written.get(task, 0) for task in {**counts, **written}}
                if paper is not None and paper.positions is not None:
                    check_lengths(read_samples(part / folder.epoch(epoch).name), paper, experiment)
            for name, task in run.served.items():
                write_samples(validation_samples(task, experiment), part / f"validation.{name}.parquet")
        progress("write", experiment.training.epochs, experiment.training.epochs, FINISHED)
        empty = [
            f"{task.name} is switched on but has no sample." for task in trained if task.name not in counts
        ]
        templates = {
            task.name: [asdict(template) for template in task.templates] for task in run.tasks.values()
        }
        return {"samples": counts, "templates": templates, **_left_out_of(inputs, empty)}

    return folder.do("write", inputs, work, [folder.samples])


def train(folder: RunFolder, experiment: Experiment, progress: OnProgress = silent) -> StageRecord:
    """Train the language model on the samples: checkpoints/, model/. Continues an interrupted training."""
    inputs = {
        "write": folder.needed("write").fingerprint,
        "nano": experiment.nano.model_dump(mode="json"),
        "pretrained": experiment.pretrained.model_dump(mode="json"),
        "training": experiment.training.model_dump(mode="json", exclude=set(WATCHING)),
        **behind_training(experiment),
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
        check_names(
            run.index, run.split, experiment
        )  # the model may be another than index and samples were made for
        if (paper := backbone_on_paper(run)) is not None:
            check_run(run, paper)
            check_written(run, paper)
        backbone, facts = train_backbone(run, on_step)
        if (
            world().is_main
        ):  # the others may hold a part of the weights, and need not write gigabytes to throw them away
            with beside(folder.model) as part:
                backbone.save(part)
                save_recommender(part, backbone, run.index, run.tasks, run.split, experiment)
        return {**facts, "seconds_before": spent.before}

    return folder.do("train", inputs, work, [folder.model], kept=folder.model, together=True)


def recommend(folder: RunFolder, experiment: Experiment, progress: OnProgress = silent) -> list[StageRecord]:
    """Ask every model for the test part: rankings/TASK.MODEL.parquet."""
    return [_recommend(folder, experiment, name, progress) for name in experiment.models]


def evaluate(folder: RunFolder, experiment: Experiment, progress: OnProgress = silent) -> StageRecord:
    """Measure the rankings: evaluation/ (per-user tables, slices, paired differences) and metrics.json."""
    asked = [f"recommend.{name}" for name in experiment.models]
    inputs = {
        "recommend": {stage: folder.needed(stage).fingerprint for stage in asked},
        "resamples": experiment.evaluation.resamples,
        "seed": experiment.seed,
    }

    tables = (*parts.SERVED, "slices", "differences")

    def work() -> dict[str, Any]:
        split = Run(folder, experiment).split
        answers = {task: _answers(folder, task, experiment, split) for task in parts.SERVED}
        progress("evaluate", 0, 1, ", ".join(experiment.models))
        measured = comparison.compare(split, answers, experiment.evaluation.resamples, experiment.seed)
        for name in tables:
            remove(folder.evaluation(name))  # those of models that are evaluated no more
        for name, frame in measured.tables.items():
            with beside(folder.evaluation(name)) as part:
                frame.write_parquet(part)
        random = {"split": {"scheme": split.scheme, "note": RANDOM_SPLIT}} if split.scheme == "random" else {}
        write_json(folder.metrics, measured.metrics | random)
        progress("evaluate", 1, 1, FINISHED)
        return {"test_evaluations": folder.count_test_evaluation(", ".join(experiment.models))}

    return folder.do("evaluate", inputs, work, [*map(folder.evaluation, tables), folder.metrics])


def report(folder: RunFolder, experiment: Experiment, progress: OnProgress = silent) -> StageRecord:
    """Write report.html, report.md and report.json."""
    before = ["prepare", *(("index", "write", "train") if experiment.needs_training else ())]
    evaluated = folder.needed("evaluate")
    for stage in [*before, *(f"recommend.{name}" for name in experiment.models)]:
        folder.needed(stage)  # it tells of all of them
    inputs = {
        "evaluate": evaluated.fingerprint,
        "test_evaluations": folder.test_evaluations(),
        "experiment": experiment.model_dump(mode="json"),
    }

    def work() -> dict[str, Any]:
        from shelftalk.report.from_run import content_of
        from shelftalk.report.render import write_report

        progress("report", 0, 1, "writing")
        path = write_report(content_of(Run(folder, experiment)), folder.path)
        progress("report", 1, 1, FINISHED)
        return {"report": path.name}

    outputs = [folder.path / f"report.{ending}" for ending in ("html", "md", "json")]
    return folder.do("report", inputs, work, outputs)


def _recommend(folder: RunFolder, experiment: Experiment, name: str, progress: OnProgress) -> StageRecord:
    """One model: its answers to the test part, and what it chose on validation."""
    stage, declaration = f"recommend.{name}", experiment.declared(name)
    needs_training = declaration.stands_on == "train"
    before = ("train", "prepare") if needs_training else ("prepare",)
    inputs: dict[str, Any] = {"built on": {earlier: folder.needed(earlier).fingerprint for earlier in before}}
    inputs |= _depends_on(name, experiment)
    outputs = [folder.ranking(served, name) for served in parts.SERVED]
    if name == ALIGNED:
        drawn = [held_out_templates.USERS, held_out_templates.RATINGS]
        inputs["held_out_templates"] = experiment.evaluation.held_out_templates and drawn
        inputs["search_error"] = [experiment.evaluation.search_error_users, *MEASURED_BEAMS, MEASURED_LIMIT]
        outputs += [folder.evaluation("held_out_templates"), folder.evaluation("search_error")]

    def work() -> dict[str, Any]:
        asking = Asking(lambda done, total, about: progress(stage, done, total, about))
        run = Run(folder, experiment, asking)
        for path in outputs if world().is_main else ():
            remove(path)  # answers to another split must not be taken for this one's
        lacking = run.split.why_no_rating_task
        if declaration.tasks == ("rating",) and lacking:
            return {"tasks": [], **_left_out_of(inputs, [f"{name} is left out: {lacking}."])}
        if name in (ALIGNED, ALIGNED_WITH_PRIOR):
            asking.expect(_asks(run, name))
        else:
            progress(stage, 0, 1, "fitting")
        model = run.model(name)
        answered = _answerable(model, run.split)
        for task in answered:
            with beside(folder.ranking(task, name)) as part:
                _answers_frame(model, task, run.split).write_parquet(part)
        if name == ALIGNED:
            _ask_with_held_out_templates(run)
            _measure_search(run)
        if name not in (ALIGNED, ALIGNED_WITH_PRIOR):  # these report how many requests they have answered
            progress(stage, 1, 1, FINISHED)
        weights = [asdict(weight) for weight in model.describe()] if name == ALIGNED_WITH_PRIOR else []
        return {
            "tasks": answered,
            "chosen": _selections(run, name),
            **({"weights": weights} if weights else {}),
            **_left_out_of(inputs),
        }

    return folder.do(stage, inputs, work, outputs, together=needs_training)


def _selections(run: Run, name: str) -> list[str]:
    """What a model chose on validation, after what its priors chose that are no models of the experiment themselves."""
    model = run.model(name)
    priors = (
        zip(_priors(name, run.experiment), (model.prior, model.rating_prior))
        if name == ALIGNED_WITH_PRIOR
        else ()
    )
    alone = [prior for prior_name, prior in priors if prior_name not in run.experiment.models]
    return [
        sentence for tuned in (*alone, model) if isinstance(tuned, Tuned) for sentence in tuned.selection()
    ]


def _depends_on(name: str, experiment: Experiment) -> dict[str, Any]:
    """What a model's answers depend on beside its data and training: settings and code, its own and those of its priors."""
    models = [name, *_priors(name, experiment)]
    trained = [model for model in models if experiment.declared(model).stands_on == "train"]
    settings: dict[str, Any] = {
        model: experiment.settings_of(model).model_dump(mode="json") for model in models
    }
    if trained:
        settings[ALIGNED] = experiment.decoding.model_dump(mode="json")
    if any(":" in model for model in trained):  # it is handed the run, and so all of the experiment
        settings["experiment"] = experiment.model_dump(mode="json", exclude=_NOT_HANDED_OVER)
    prompts = list(experiment.tasks) if trained else []
    return {
        "settings": settings,
        "seed": experiment.seed,
        "own sources": parts.own_sources([*models, *prompts]),
    }


def _priors(name: str, experiment: Experiment) -> list[str]:
    """The models that a model is combined of, beside the language model."""
    return [experiment.prior.model, experiment.prior.rating_model] if name == ALIGNED_WITH_PRIOR else []


def _local_files(name: str) -> dict[str, str]:
    """Hashes of a model or sentence encoder that is named by a path; of one on a hub the name is all."""
    return file_hashes.content_of(Path(name)) if name and Path(name).exists() else {}


def behind_training(experiment: Experiment) -> dict[str, Any]:
    """What a trained model stands on that its own sections do not show: the files of a local model, and how
    the lists are made by which the best checkpoint is chosen (None where it is chosen by loss)."""
    decoding = None if experiment.training.best_by == BY_LOSS else experiment.decoding.model_dump(mode="json")
    return {"pretrained files": _local_files(experiment.pretrained.name), "decoding": decoding}


def _left_out_of(inputs: Mapping[str, Any], sentences: Sequence[str] = ()) -> dict[str, list[str]]:
    """What the report must say: the sentences given, and whose code cannot be watched for changes."""
    unseen = [
        f'The code of "{name}" has no file, so a change is not noticed; choose another --out when it changes.'
        for name, source in inputs["own sources"].items()
        if source["not_looked_at"]
    ]
    return {"left_out": [*sentences, *unseen]} if sentences or unseen else {}


def _save_index(named: ItemIndex, folder: RunFolder) -> None:
    """Written in a folder of its own and moved from there, the index last."""
    with scratch_in(folder.path) as scratch:
        named.save(scratch / folder.item_index.name)
        for path in (folder.item_index, folder.path / VECTORS_FILE):
            remove(path)
        for path in sorted(scratch.iterdir(), reverse=True):
            path.replace(folder.path / path.name)


def _answerable(model: Any, split: Split) -> list[TaskName]:
    """The served tasks that the model answers and the data supports."""
    return [task for task in tasks_of(model) if task != "rating" or not split.why_no_rating_task]


def _answers_frame(model: Any, task: TaskName, split: Split) -> pl.DataFrame:
    """The test part's answers, one row per request in the split's order."""
    requests, _ = comparison.requests_of(split, task, "test")
    answers = answer(model, task, requests, LIST_LENGTH)
    if task != "rating":
        return _ranking_frame(answers)
    rows = {"user": [r.user for r in requests], "item": [r.item for r in requests], "estimate": answers}
    return pl.DataFrame(rows)


def _ranking_frame(rankings: list[Ranking]) -> pl.DataFrame:
    rows = {
        "user": [r.user for r in rankings],
        "items": [r.items for r in rankings],
        "scores": [r.scores for r in rankings],
    }
    return pl.DataFrame(
        rows, schema={"user": pl.String, "items": pl.List(pl.String), "scores": pl.List(pl.Float64)}
    )


def _answers(folder: RunFolder, task: str, experiment: Experiment, split: Split) -> Mapping[str, Any]:
    """Model -> its answers to `task` in the split's order, for the models that gave any."""
    answers: dict[str, Any] = {}
    for name in experiment.models:
        stage = f"recommend.{name}"
        if task not in folder.needed(stage).facts["tasks"]:
            continue
        frame = _in_order(pl.read_parquet(folder.ranking(task, name), glob=False), split, task, folder, stage)
        if task == "rating":
            answers[name] = frame["estimate"].to_list()
        else:
            rows = zip(frame["user"], frame["items"].to_list(), frame["scores"].to_list(), strict=True)
            answers[name] = [Ranking(user, tuple(items), tuple(scores)) for user, items, scores in rows]
    return answers


def _in_order(frame: pl.DataFrame, split: Split, task: str, folder: RunFolder, stage: str) -> pl.DataFrame:
    """The answers in the order of the split's requests, joined by user, and by item where ratings are asked
    for.

    Raises ChangedFile where they are not answers to these requests."""
    requests, _ = comparison.requests_of(split, task, "test")  # type: ignore[arg-type]
    keys = {"user": [request.user for request in requests]}
    if task == "rating":
        keys["item"] = [request.item for request in requests]
    wanted = pl.DataFrame(keys, schema={name: pl.String for name in keys})
    if len(frame) != len(wanted) or set(frame.select(wanted.columns).iter_rows()) != set(wanted.iter_rows()):
        path = folder.ranking(task, stage.partition(".")[2])
        raise ChangedFile(
            f'"{path}" does not answer the requests of this run; remove "{folder.manifest(stage)}" and run '
            "`shelftalk recommend` or `shelftalk run` again with this folder."
        )
    return wanted.join(frame, on=wanted.columns, maintain_order="left")


def _asks(run: Run, name: str) -> list[Ask]:
    """Every call of the language model that this stage makes, in their order."""
    split, model, experiment = run.split, run.language_model, run.experiment
    test = {task: comparison.requests_of(split, task, "test")[0] for task in _answerable(model, split)}
    cost, settings = costs(model, test), experiment.evaluation
    times = {
        task: 2 if (task, name) == ("retrieval", ALIGNED_WITH_PRIOR) else 1 for task in test
    }  # pools are made, then scored
    asks = [Ask(task, len(test[task]), cost[task]) for task in test if test[task] for _ in range(times[task])]
    if name == ALIGNED:
        for task in _tasks_with_held_out_templates(run):
            asked = Ask(
                "other wordings",
                len(held_out_templates.drawn(split, task, experiment.seed)[0]),
                cost.get(task, 1),
            )
            asks += [asked] * len(held_out_templates.WORDINGS)
        searches = (
            len(MEASURED_BEAMS) + 3
        )  # an exact one, and by the settings' own beams with either way to finish
        searched = min(settings.search_error_users, len(split.retrieval_requests("validation")[0]))
        return [*asks, Ask("search error", searched, cost.get("retrieval", 1) * searches)]
    validation = {task: len(comparison.requests_of(split, task, "validation")[0]) for task in test}
    drawn = {task: min(number, experiment.prior.validation_samples) for task, number in validation.items()}
    return [
        Ask("choosing weights", drawn[task], cost.get(task, 1)) for task in test for _ in range(times[task])
    ] + asks


def _tasks_with_held_out_templates(run: Run) -> list[Task]:
    """The tasks that the language model is also asked in other wordings."""
    behind = {"ranking": run.experiment.decoding.ranking_prompt}  # the prompt whose wording counts
    able = _answerable(run.language_model, run.split)
    tasks = [task for task in able if run.asked[behind.get(task, task)].held_out]
    return tasks if run.experiment.evaluation.held_out_templates else []


def _ask_with_held_out_templates(run: Run) -> None:
    """The language model alone on the validation part, in a seen and in a held-out wording:
    evaluation/held_out_templates.parquet."""
    path, experiment, model = run.folder.evaluation("held_out_templates"), run.experiment, run.language_model
    path.unlink(missing_ok=True)
    if tasks := _tasks_with_held_out_templates(run):
        asked = {
            wording: model.with_template(held_out=wording == "held out")
            for wording in held_out_templates.WORDINGS
        }
        with beside(path) as part:
            held_out_templates.ask(asked, tasks, run.split, experiment.seed).write_parquet(part)


def _measure_search(run: Run) -> None:
    """The language model's true top 10 against beams, on validation requests drawn by seed:
    evaluation/search_error.parquet."""
    path, experiment, model = run.folder.evaluation("search_error"), run.experiment, run.language_model
    path.unlink(missing_ok=True)
    requests, _ = run.split.retrieval_requests("validation")
    drawn = seeds.generator(experiment.seed, "search error").permutation(len(requests))[
        : experiment.evaluation.search_error_users
    ]
    if len(drawn):
        from shelftalk.decoding.search_error import search_error

        limit = experiment.decoding.exact_limit or MEASURED_LIMIT
        beams = [*MEASURED_BEAMS, experiment.decoding.beams]
        with beside(path) as part:
            search_error(
                model, [requests[position] for position in drawn.tolist()], beams, 10, limit
            ).write_parquet(part)


def validation_samples(task: ServedTask, experiment: Experiment) -> Samples:
    """The task's validation samples that training is watched by, drawn by seed."""
    samples = task.validation()
    order = seeds.generator(experiment.seed, "validation samples", task.name).permutation(len(samples))
    return samples.take(order[: experiment.training.validation_samples])


def _written_with(folder: RunFolder) -> dict[str, list[Template]]:
    """By task, the templates of the written samples, whatever their files are by now."""
    written = folder.needed("write").facts.get("templates", {})
    return {task: [Template(**row) for row in rows] for task, rows in written.items()}


def data_sentences(prepared: StageRecord) -> list[str]:
    """What `prepare` did to the data, and what the data cannot support."""
    return [*prepared.facts.get("kept", ()), *prepared.facts.get("left_out", ())]


def _divided(split: Split, data: DataSettings, facts: DataReport) -> list[str]:
    """A sentence for whatever is unusual in how the events were divided."""
    users, evaluated = len(split.dataset.user_ids), len(split.evaluated_users("test"))
    sentences = [RANDOM_SPLIT] if split.scheme == "random" else []
    if split.scheme != "random" and facts.users_tied_at_end > MANY_TIED:
        sentences.append(
            f"Which interaction is the test was drawn by seed for {facts.users_tied_at_end:.1%} of the users: "
            f"their last two have the same {facts.ordered_by}."
        )
    if evaluated < users:
        cut = (
            " or their last item has left the catalogue"
            if data.training_core and data.catalogue == "interacted"
            else ""
        )
        sentences.append(
            f"{users - evaluated:,} of {users:,} users are not evaluated, since they have fewer than "
            f"{LEAST_EVENTS} interactions{cut}; their interactions are training data."
        )
    return sentences


def no_task_to_train(split: Split) -> str:
    """What is wrong where each task is switched off, or left out since the data cannot support it."""
    why = f" (rating prediction is left out: {split.why_no_rating_task})" if split.why_no_rating_task else ""
    return f"no task is left to train{why}; give another of tasks.*.weight a value above 0."


def _left_out(split: Split) -> list[str]:
    """A sentence for each task that the data cannot support."""
    why = split.why_no_rating_task
    return [f"Rating prediction is left out, in training and evaluation: {why}."] if why else []


def _settled(folder: RunFolder, experiment: Experiment) -> dict[str, Any]:
    """The experiment's settings that the folder's files stand on already."""
    begun = [stage for stage in SETTINGS_OF if folder.record(stage) is not None]
    begun += ["train"] if folder.checkpoints.exists() else []
    bound = {name for stage in begun for name in SETTINGS_OF[stage]}
    return experiment.model_dump(mode="json", include=bound, exclude={"training": set(WATCHING)})
