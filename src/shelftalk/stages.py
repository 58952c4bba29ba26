"""The stages of a run, in order: prepare, index, write, train, recommend, evaluate, report.

Each is a function from files to files that may be called alone. A stage whose inputs are unchanged is skipped: its manifest in
stages/ names them, and those of the stages that it builds on. Several processes (processes.py) train, and ask the language model,
together; all else is done by the first of them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from shelftalk import parts, seeds
from shelftalk.assemble import (
    Asking,
    RunParts,
    build_index,
    check_backbone,
    differences,
    family,
    save_model_facts,
    train_backbone,
)
from shelftalk.data.similarity import not_counted
from shelftalk.data.sources import DataReport, DataSettings, read_dataset, source_hashes
from shelftalk.data.splitting import LEAST_EVENTS, RANDOM_SPLIT, Split, split_dataset
from shelftalk.decoding.settings import MEASURED_BEAMS, MEASURED_LIMIT
from shelftalk.errors import AnotherExperiment, SettingsError, StageMissing
from shelftalk.evaluation import comparison, wordings
from shelftalk.evaluation.metrics import LIST_LENGTH
from shelftalk.experiment import Experiment, load_experiment
from shelftalk.indexing.item_index import VECTORS_FILE, ItemIndex
from shelftalk.preflight import backbone_on_paper, check_lengths, check_names, check_run, check_written
from shelftalk.processes import these
from shelftalk.records import Ranking
from shelftalk.runs import RunFolder, StageRecord, TimeSpent, beside, space_needed, write_json
from shelftalk.tasks.mixture import write_epoch, write_samples
from shelftalk.tasks.samples import Samples, read_samples
from shelftalk.tasks.task import ServedTask
from shelftalk.tasks.templates import Template, read_templates
from shelftalk.training.settings import WATCHING, check_trackers

SETTINGS_OF = {
    "prepare": ("seed", "data", "split"),
    "index": ("index",),
    "write": ("text", "tasks"),
    "train": ("nano", "pretrained", "training"),
}
"""The sections of an experiment that each stage's files stand on; a folder that holds the files holds to the settings."""
FINISHED = "finished"
MANY_TIED = 0.5
"""Share of users whose last two interactions are at one time from which on the split is more chance than order."""
OnProgress = Callable[[str, int, int, str], None]
"""(stage, done, of how many, what is said about it); of how many is 0 for a sentence that stays on the screen."""


def silent(stage: str, done: int, total: int, text: str) -> None:
    """Progress that nobody watches."""


def run(folder: RunFolder, experiment: Experiment, progress: OnProgress = silent) -> list[StageRecord]:
    """The whole way. Without a model that needs training, index, write and train are left out."""
    if experiment.needs_training and folder.record("train") is None:  # what training lacks is told now, not when its stage comes
        with these().first_alone():
            check_trackers(experiment.training.trackers)
            check_backbone(experiment)
    claim(folder, experiment)
    records = [prepare(folder, experiment, progress)]
    for note in records[0].facts["data"].get("notes", ()):  # before the hours of training, not only when they are over
        progress("prepare", 0, 0, note)
    if experiment.needs_training:
        records += [stage(folder, experiment, progress) for stage in (index, write, train)]
    records += recommend(folder, experiment, progress)
    return [*records, evaluate(folder, experiment, progress), report(folder, experiment, progress)]


def claim(folder: RunFolder, experiment: Experiment) -> None:
    """Make the folder this experiment's. Raises AnotherExperiment where finished stages would be overwritten by others.

    The models to evaluate, and how they are asked and evaluated, may change within a folder; what a finished stage or a
    training that has begun stands on may not.
    """
    with these().first_alone():
        _claim(folder, experiment)


def _claim(folder: RunFolder, experiment: Experiment) -> None:
    if folder.path.exists() and not folder.path.is_dir():
        raise AnotherExperiment(f'"{folder.path}" is a file, and a run needs a folder; choose another --out.')
    if folder.experiment.exists():
        differs = differences(
            _settled(folder, load_experiment(folder.experiment)), _settled(folder, experiment)
        )
        if differs:
            raise AnotherExperiment(
                f'"{folder.path}" holds the run of another experiment (it differs in {", ".join(differs[:3])}); '
                "choose another --out, or remove that folder."
            )
    elif folder.path.exists() and any(folder.path.iterdir()):
        raise AnotherExperiment(f'"{folder.path}" is not empty and not a run of shelftalk; choose another --out.')
    with space_needed(folder.path), beside(folder.experiment) as part:
        part.write_text(experiment.toml(), encoding="utf-8")


def prepare(folder: RunFolder, experiment: Experiment, progress: OnProgress = silent) -> StageRecord:
    """Read, check, filter and split the data: dataset/."""
    inputs = {
        "data": experiment.data.model_dump(mode="json"),
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

    return folder.do("prepare", inputs, work)


def index(folder: RunFolder, experiment: Experiment, progress: OnProgress = silent) -> StageRecord:
    """Name every item: item_index.parquet."""
    inputs = {
        "prepare": folder.needed("prepare").fingerprint,
        "index": experiment.index.model_dump(mode="json"),
        "seed": experiment.seed,
    }

    def work() -> dict[str, Any]:
        progress("index", 0, 1, experiment.index.scheme)
        split, settings = Split.load(folder.dataset), experiment.index
        named = build_index(split, settings, experiment.seed)
        check_names(named, split, experiment)  # with the remedy still at hand: this stage has not been recorded
        _save_index(named, folder)
        progress("index", 1, 1, FINISHED)
        cut = not_counted(split, settings.co_occurrence_events, "index.co_occurrence_events") if settings.reads_co_occurrence else []
        return named.statistics() | ({"left_out": cut} if cut else {})

    return folder.do("index", inputs, work)


def write(folder: RunFolder, experiment: Experiment, progress: OnProgress = silent) -> StageRecord:
    """Write the training samples of every epoch, and those of the validation part: samples/."""
    tasks = {name: settings.model_dump(mode="json") for name, settings in experiment.tasks.items()}
    inputs = {
        "index": folder.needed("index").fingerprint,
        "text": experiment.text.model_dump(mode="json"),
        "tasks": tasks,
        "own templates": {name: read_templates(name, s.templates) for name, s in experiment.tasks.items() if s.templates},
        "nouns": asdict(experiment.data.nouns),
        "epochs": experiment.training.epochs,
        "validation_samples": experiment.training.validation_samples,
        "seed": experiment.seed,
    }

    def work() -> dict[str, Any]:
        family(experiment)  # samples that the backbone could not learn from are refused before they are written
        found = RunParts(folder, experiment)
        trained = [task for name, task in found.tasks.items() if experiment.tasks[name].weight > 0]
        if not trained:
            raise SettingsError(no_task_to_train(found.split))
        paper = backbone_on_paper(found)
        if paper is not None:
            check_run(found, paper)
        counts: dict[str, int] = {}
        with beside(folder.samples) as part:
            part.mkdir()
            for epoch in range(experiment.training.epochs):
                progress("write", epoch, experiment.training.epochs, "epochs")
                written = write_epoch(trained, epoch, experiment.seed, part / folder.epoch(epoch).name)
                counts = {task: counts.get(task, 0) + written.get(task, 0) for task in {**counts, **written}}
                if paper is not None and paper.positions is not None:
                    check_lengths(read_samples(part / folder.epoch(epoch).name), paper, experiment)
            for name, task in found.served.items():
                write_samples(validation_samples(task, experiment), part / f"validation.{name}.parquet")
        progress("write", experiment.training.epochs, experiment.training.epochs, FINISHED)
        empty = [f"{task.name} is switched on but has no sample." for task in trained if task.name not in counts]
        templates = {
            task.name: [asdict(template) for template in task.templates] for task in found.tasks.values()
        }
        return {"samples": counts, "left_out": empty, "templates": templates}

    return folder.do("write", inputs, work)


def train(folder: RunFolder, experiment: Experiment, progress: OnProgress = silent) -> StageRecord:
    """Train the language model on the samples: checkpoints/, model/. Continues an interrupted training."""
    inputs = {
        "write": folder.needed("write").fingerprint,
        "nano": experiment.nano.model_dump(mode="json"),
        "pretrained": experiment.pretrained.model_dump(mode="json"),
        "training": experiment.training.model_dump(mode="json", exclude=set(WATCHING)),
        "seed": experiment.seed,
    }

    if not (folder.model / "config.json").exists():
        folder.manifest("train").unlink(missing_ok=True)  # a training whose model is gone is not finished

    def work() -> dict[str, Any]:
        check_trackers(experiment.training.trackers)
        with these().first_alone():
            folder.keep_checkpoints_of(inputs)
        spent = TimeSpent(folder.training_time)

        def on_step(done: int, total: int, text: str) -> None:
            spent.keep()
            progress("train", done, total, text)

        found = RunParts(folder, experiment, templates=_written_with(folder))
        check_names(found.index, found.split, experiment)  # the model may be another than index and samples were made for
        if (paper := backbone_on_paper(found)) is not None:
            check_run(found, paper)
            check_written(found, paper)
        backbone, facts = train_backbone(found, on_step)
        if these().first:  # the others may hold a part of the weights, and need not write gigabytes to throw them away
            with beside(folder.model) as part:
                backbone.save(part)
                save_model_facts(part, found, backbone)
        return {**facts, "seconds_before": spent.before}

    return folder.do("train", inputs, work, together=True)


def recommend(folder: RunFolder, experiment: Experiment, progress: OnProgress = silent) -> list[StageRecord]:
    """Ask every model for the test part: rankings/TASK.MODEL.parquet."""
    return [_recommend(folder, experiment, name, progress) for name in experiment.models]


def evaluate(folder: RunFolder, experiment: Experiment, progress: OnProgress = silent) -> StageRecord:
    """Measure the rankings: evaluation/ (per-user tables, slices, paired differences) and metrics.json."""
    inputs = {
        "recommend": {name: folder.needed(f"recommend.{name}").fingerprint for name in experiment.models},
        "evaluation": experiment.evaluation.model_dump(mode="json"),
        "seed": experiment.seed,
    }

    def work() -> dict[str, Any]:
        split = Split.load(folder.dataset)
        answers = {task: _answers(folder, task, experiment) for task in parts.SERVED}
        progress("evaluate", 0, 1, ", ".join(experiment.models))
        measured = comparison.compare(split, answers, experiment.evaluation.resamples, experiment.seed)
        (folder.path / "evaluation").mkdir(exist_ok=True)
        for name, frame in measured.tables.items():
            with beside(folder.path / "evaluation" / f"{name}.parquet") as part:
                frame.write_parquet(part)
        random = {"split": {"scheme": split.scheme, "note": RANDOM_SPLIT}} if split.scheme == "random" else {}
        write_json(folder.metrics, measured.metrics | random)
        progress("evaluate", 1, 1, FINISHED)
        return {"test_evaluations": folder.count_test_evaluation(", ".join(experiment.models))}

    return folder.do("evaluate", inputs, work)


def report(folder: RunFolder, experiment: Experiment, progress: OnProgress = silent) -> StageRecord:
    """Write report.html, report.md and report.json."""
    inputs = {
        "evaluate": folder.needed("evaluate").fingerprint,
        "test_evaluations": folder.test_evaluations(),
        "experiment": experiment.model_dump(mode="json"),
    }

    def work() -> dict[str, Any]:
        from shelftalk.report.from_run import content_of
        from shelftalk.report.render import write_report

        progress("report", 0, 1, "writing")
        path = write_report(content_of(RunParts(folder, experiment)), folder.path)
        progress("report", 1, 1, FINISHED)
        return {"report": path.name}

    return folder.do("report", inputs, work)


def _recommend(folder: RunFolder, experiment: Experiment, name: str, progress: OnProgress) -> StageRecord:
    """One model: its answers to the test part, and what it chose on validation."""
    needs_model = name in parts.NEED_TRAINING
    stage = f"recommend.{name}"
    settings = experiment.model_dump(mode="json", include={"decoding", "item_knn", "bias", "prior", "seed"})
    inputs: dict[str, Any] = {"built on": folder.needed("train" if needs_model else "prepare").fingerprint, "settings": settings}
    if name == "aligned":
        inputs["held_out_wordings"] = experiment.evaluation.held_out_wordings and [wordings.USERS, wordings.RATINGS]
        inputs["search_error"] = [experiment.evaluation.search_error_users, *MEASURED_BEAMS, MEASURED_LIMIT]

    def work() -> dict[str, Any]:
        found = RunParts(folder, experiment, Asking(lambda done, total, about: progress(stage, done, total, about)))
        for served in parts.SERVED:
            folder.ranking(served, name).unlink(missing_ok=True)  # answers to another split must not be taken for this one's
        if name in parts.ONLY_RATE and found.split.why_no_rating_task:
            return {"tasks": [], "left_out": [f"{name} is left out: {found.split.why_no_rating_task}."]}
        progress(stage, 0, 1, "fitting")
        model, chosen = parts.load(parts.MODELS, name, "model")(found)
        answered = _can(model, found.split)
        for task in answered:
            found.asking.about = task
            with beside(folder.ranking(task, name)) as part:
                _ask(model, task, found.split).write_parquet(part)
        if name == "aligned":
            _ask_in_wordings(found)
            _measure_search(found)
        if not needs_model:  # a language model says how many requests it has answered
            progress(stage, 1, 1, FINISHED)
        weights = {"weights": [asdict(weight) for weight in model.describe()]} if name == "aligned+prior" else {}
        return {"tasks": answered, "chosen": chosen, **weights}

    return folder.do(stage, inputs, work, together=needs_model)


def _save_index(named: ItemIndex, folder: RunFolder) -> None:
    """Written in a folder of its own and moved from there, the index last."""
    with tempfile.TemporaryDirectory(dir=folder.path) as scratch:
        named.save(Path(scratch) / folder.item_index.name)
        (folder.path / VECTORS_FILE).unlink(missing_ok=True)
        for path in sorted(Path(scratch).iterdir(), reverse=True):
            path.replace(folder.path / path.name)


def _can(model: Any, split: Split) -> list[str]:
    """The served tasks that the model answers and the data supports."""
    able = {"retrieval": hasattr(model, "recommend"), "ranking": hasattr(model, "rank")}
    able["rating"] = hasattr(model, "rate") and not split.why_no_rating_task
    return [task for task, can in able.items() if can]


def _ask(model: Any, task: str, split: Split) -> pl.DataFrame:
    """The test part's answers, one row per request in the split's order."""
    if task == "rating":
        requests, _ = split.rating_requests("test")
        items = [request.item for request in requests]
        return pl.DataFrame({"user": [r.user for r in requests], "item": items, "estimate": model.rate(requests)})
    if task == "ranking":
        return _ranking_frame(model.rank(split.ranking_requests("test")[0]))
    return _ranking_frame(model.recommend(split.retrieval_requests("test")[0], LIST_LENGTH))


def _ranking_frame(rankings: list[Ranking]) -> pl.DataFrame:
    rows = {"user": [r.user for r in rankings], "items": [r.items for r in rankings], "scores": [r.scores for r in rankings]}
    return pl.DataFrame(rows, schema={"user": pl.String, "items": pl.List(pl.String), "scores": pl.List(pl.Float64)})


def _answers(folder: RunFolder, task: str, experiment: Experiment) -> Mapping[str, Any]:
    """Model -> its answers to `task`, for the models that gave any."""
    found: dict[str, Any] = {}
    for name in experiment.models:
        stage = f"recommend.{name}"
        if task not in folder.needed(stage).facts["tasks"]:
            continue
        if not folder.ranking(task, name).exists():
            lost = folder.ranking(task, name)
            raise StageMissing(f'"{lost}" is gone; remove "{folder.manifest(stage)}" too and run `shelftalk recommend` again.')
        frame = pl.read_parquet(folder.ranking(task, name), glob=False)
        if task == "rating":
            found[name] = frame["estimate"].to_list()
        else:
            rows = zip(frame["user"], frame["items"].to_list(), frame["scores"].to_list(), strict=True)
            found[name] = [Ranking(user, tuple(items), tuple(scores)) for user, items, scores in rows]
    return found


def _ask_in_wordings(found: RunParts) -> None:
    """The language model alone on the validation part, in a seen and in a held-out wording: evaluation/wordings.parquet."""
    path, experiment, model = found.run.evaluation("wordings"), found.experiment, found.language_model
    path.unlink(missing_ok=True)
    behind = {"ranking": experiment.decoding.ranking_prompt}  # the prompt whose wording counts
    able = [task for task in parts.SERVED if task in _can(model, found.split)]
    tasks = [task for task in able if found.asked[behind.get(task, task)].held_out]
    if experiment.evaluation.held_out_wordings and tasks:
        found.asking.about = "other wordings"
        asked = {wording: model.in_wording(held_out=wording == "held out") for wording in wordings.WORDINGS}
        with beside(path) as part:
            wordings.ask(asked, tasks, found.split, experiment.seed).write_parquet(part)


def _measure_search(found: RunParts) -> None:
    """The language model's true top 10 against beams, on validation requests drawn by seed: evaluation/search_error.parquet."""
    path, experiment, model = found.run.evaluation("search_error"), found.experiment, found.language_model
    path.unlink(missing_ok=True)
    requests, _ = found.split.retrieval_requests("validation")
    drawn = seeds.generator(experiment.seed, "search error").permutation(len(requests))[: experiment.evaluation.search_error_users]
    if len(drawn):
        from shelftalk.decoding.search_error import search_error

        found.asking.about = "search error"
        limit = experiment.decoding.exact_limit or MEASURED_LIMIT
        beams = [*MEASURED_BEAMS, experiment.decoding.beams]
        with beside(path) as part:
            search_error(model, [requests[place] for place in drawn.tolist()], beams, 10, limit).write_parquet(part)


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
