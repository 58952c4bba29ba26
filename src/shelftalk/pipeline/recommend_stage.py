"""The stage `recommend` of one model: fit or open it, let it answer the test part, and write its answers.

The language model also measures itself on the validation part: how it answers in templates that it was not
trained on, and how many of its true top 10 its beams miss. All its calls are announced before the first, so
that progress has one total.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from shelftalk import parts, seeds
from shelftalk.data.splitting import Split
from shelftalk.decoding.settings import MEASURED_BEAMS, MEASURED_LIMIT
from shelftalk.decoding.workload import PlannedCall, WorkloadProgress, request_costs
from shelftalk.evaluation import held_out_templates
from shelftalk.evaluation.comparison import requests_of
from shelftalk.experiment import Experiment
from shelftalk.pipeline.answer_files import write_answers
from shelftalk.pipeline.run import CHOSEN_SETTINGS, Run
from shelftalk.recommender import (
    ALIGNED,
    ALIGNED_WITH_PRIOR,
    Repeatable,
    TaskName,
    Tuned,
    base_name,
    is_refit,
    tasks_of,
)
from shelftalk.runtime.distributed import world
from shelftalk.runtime.machine import memory_sampled
from shelftalk.runtime.own_source import left_out
from shelftalk.runtime.progress import OnProgress, StageProgress, fitting_reported_to, no_fitting
from shelftalk.runtime.run_folder import RunFolder, StageRecord, beside, remove
from shelftalk.settings import Settings

LANGUAGE_MODELS = (ALIGNED, ALIGNED_WITH_PRIOR)
FITTING = 20
"""Pieces of a baseline's progress that are its fit; each task is one more."""
_NOT_HANDED_OVER = Experiment.fields_where(lambda role: set(role.stages or ()) <= {"evaluate"})
"""Settings on which no answers depend, those of a model that is handed the whole run neither."""


def recommend_with(folder: RunFolder, experiment: Experiment, name: str, progress: OnProgress) -> StageRecord:
    """One model's answers to the test part, and what it chose on validation: rankings/TASK.MODEL.parquet.

    Raises StageMissing where what it depends on has not been done, and what the model raises."""
    stage, declaration = f"recommend.{name}", experiment.declared(name)
    needs_training = declaration.stands_on == "train"
    before = ("train", "prepare") if needs_training else ("prepare",)
    built_on = {earlier: folder.needed(earlier).fingerprint for earlier in before}
    inputs: dict[str, Any] = {"built on": built_on, **_inputs_of_answers(name, experiment)}
    outputs = [folder.ranking(task, name) for task in parts.SERVED]
    if name == ALIGNED:
        inputs |= _inputs_of_measurements(experiment)
        outputs += [folder.evaluation("held_out_templates"), folder.evaluation("search_error")]

    def work() -> dict[str, Any]:
        workload = WorkloadProgress(lambda done, total, about: progress(stage, done, total, about))
        run = Run(folder, experiment, workload)
        for path in outputs if world().is_main else ():
            remove(path)  # answers to another split must not be taken for this one's
        why_no_ratings = run.split.why_no_rating_task
        if declaration.tasks == ("rating",) and why_no_ratings:
            sentence = f"{name} is left out: {why_no_ratings}."
            return {"tasks": [], **left_out(inputs["own sources"], [sentence])}
        pieces = None
        if name in LANGUAGE_MODELS:  # these report how many requests they have answered
            workload.plan(_calls(run, name))
        else:
            pieces = StageProgress(progress, stage, FITTING + len(parts.SERVED), "fitting")
        costs = _answer(run, name, pieces)
        model = run.model(name)
        tasks = _answerable(model, run.split)
        if name == ALIGNED:
            _measure_held_out_templates(run)
            _measure_search_error(run)
        if pieces:
            pieces.finish()
        weights = [asdict(weight) for weight in model.describe()] if name == ALIGNED_WITH_PRIOR else []
        return {
            "tasks": tasks,
            "chosen": selections(run, name),
            **_chosen_settings(model, name),
            "costs": costs,
            **({"weights": weights} if weights else {}),
            **left_out(inputs["own sources"]),
        }

    return folder.do(stage, inputs, work, outputs, together=needs_training)


def _answer(run: Run, name: str, pieces: StageProgress | None) -> dict[str, Any]:
    """Fit or open the model and write its answers. Returns what that took: the seconds to fit (or, of the
    language model, to open) and to answer each task, the requests of each, and the highest memory in MB."""
    seconds: dict[str, float] = {}
    requests: dict[str, int] = {}
    run.split  # noqa: B018 - read before the clock starts
    with memory_sampled() as peak:
        start = time.perf_counter()
        with fitting_reported_to(pieces.part_of(FITTING) if pieces else no_fitting):
            model = run.model(name)
        fitted = time.perf_counter() - start
        if pieces:
            pieces.reach(FITTING, "fitted")
        for task in _answerable(model, run.split):
            if pieces:
                pieces(f"answering {task}")
            requests[task], seconds[task] = write_answers(run.folder, model, name, task, run.split)
    return {
        "fit_seconds": fitted,
        "answer_seconds": seconds,
        "requests": requests,
        "peak_memory_mb": round(1000 * peak[0], 1),
    }


def selections(run: Run, name: str) -> list[str]:
    """What a model chose on validation, after what those of its
    priors chose that the experiment does not evaluate too."""
    if is_refit(name):
        base = base_name(name)
        if type(run.experiment.settings_of(base)) is Settings:  # without any there is nothing to choose
            return [f"{name}: fitted on training and validation."]
        return [f"{name}: what {base} chose on validation, fitted again on training and validation."]
    model, models = run.model(name), []
    if name == ALIGNED_WITH_PRIOR:
        priors = zip(_priors(name, run.experiment), (model.prior, model.rating_prior), strict=True)
        models = [prior for prior_name, prior in priors if prior_name not in run.experiment.models]
    return [
        sentence for tuned in (*models, model) if isinstance(tuned, Tuned) for sentence in tuned.selection()
    ]


def _chosen_settings(model: Any, name: str) -> dict[str, Any]:
    """For the manifest, so that the same model is fitted again without choosing again."""
    if is_refit(name) or not isinstance(model, Repeatable):
        return {}
    return {CHOSEN_SETTINGS: model.chosen_settings().model_dump(mode="json")}


def _inputs_of_answers(name: str, experiment: Experiment) -> dict[str, Any]:
    """What a model's answers depend on beside its data and
    training: settings and code, its own and those of its priors."""
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
    combined = [inner for model in models for inner in experiment.combined_by(model)]
    return {
        "settings": settings,
        "seed": experiment.seed,
        "own sources": parts.own_sources([*map(base_name, models), *combined, *prompts]),
    }


def _inputs_of_measurements(experiment: Experiment) -> dict[str, Any]:
    """What the language model's two measurements on the validation part depend on."""
    drawn = [held_out_templates.USERS, held_out_templates.RATINGS]
    return {
        "held_out_templates": experiment.evaluation.held_out_templates and drawn,
        "search_error": [experiment.evaluation.search_error_users, *MEASURED_BEAMS, MEASURED_LIMIT],
    }


def _priors(name: str, experiment: Experiment) -> list[str]:
    """The models that a model is combined of, beside the language model."""
    return [experiment.prior.model, experiment.prior.rating_model] if name == ALIGNED_WITH_PRIOR else []


def _answerable(model: Any, split: Split) -> list[TaskName]:
    """The served tasks that the model answers and the data supports."""
    return [task for task in tasks_of(model) if task != "rating" or not split.why_no_rating_task]


def _calls(run: Run, name: str) -> list[PlannedCall]:
    """Every call of the language model that this stage makes, in order.

    "aligned": the test part, task by task; held-out templates; search error.
    "aligned+prior": weights are chosen on validation, then comes the test part;
    retrieval is two calls each time, since pools are made and then scored.
    """
    split, model, experiment = run.split, run.language_model, run.experiment
    test = {task: requests_of(split, task, "test")[0] for task in _answerable(model, split)}
    cost = request_costs(model, test)
    repeats = {task: 2 if (task, name) == ("retrieval", ALIGNED_WITH_PRIOR) else 1 for task in test}
    answers = [
        PlannedCall(task, len(requests), cost[task])
        for task, requests in test.items()
        if requests
        for _ in range(repeats[task])
    ]
    if name == ALIGNED:
        return [*answers, *_calls_of_measurements(run, cost)]
    validation = {task: len(requests_of(split, task, "validation")[0]) for task in test}
    drawn = {task: min(number, experiment.prior.validation_samples) for task, number in validation.items()}
    choices = [
        PlannedCall("choosing weights", drawn[task], cost.get(task, 1))
        for task in test
        for _ in range(repeats[task])
    ]
    return [*choices, *answers]


def _calls_of_measurements(run: Run, cost: Mapping[TaskName, int]) -> list[PlannedCall]:
    """The calls of `_measure_held_out_templates` and `_measure_search_error`."""
    split, experiment = run.split, run.experiment
    calls: list[PlannedCall] = []
    for task in _tasks_with_held_out_templates(run):
        requests, _ = held_out_templates.sampled_requests(split, task, experiment.seed)
        calls += [PlannedCall("held-out templates", len(requests), cost.get(task, 1))] * len(
            held_out_templates.TEMPLATES
        )
    # an exact search, and one by the settings' own beams with either way to finish
    searches = len(MEASURED_BEAMS) + 3
    users = min(experiment.evaluation.search_error_users, len(split.retrieval_requests("validation")[0]))
    return [*calls, PlannedCall("search error", users, cost.get("retrieval", 1) * searches)]


def _tasks_with_held_out_templates(run: Run) -> list[TaskName]:
    """The tasks that the language model also answers in held-out templates."""
    if not run.experiment.evaluation.held_out_templates:
        return []
    prompt_of = {
        "ranking": run.experiment.decoding.ranking_prompt
    }  # candidates may be scored after another's prompt
    tasks = _answerable(run.language_model, run.split)
    return [task for task in tasks if run.trained_tasks[prompt_of.get(task, task)].held_out]


def _measure_held_out_templates(run: Run) -> None:
    """The language model alone on the validation part, in a seen and in a held-out template:
    evaluation/held_out_templates.parquet."""
    path, model = run.folder.evaluation("held_out_templates"), run.language_model
    path.unlink(missing_ok=True)
    if tasks := _tasks_with_held_out_templates(run):
        models = {
            wording: model.with_template(held_out=wording == "held out")
            for wording in held_out_templates.TEMPLATES
        }
        with beside(path) as part:
            held_out_templates.evaluate(models, tasks, run.split, run.experiment.seed).write_parquet(part)


def _measure_search_error(run: Run) -> None:
    """The language model's true top 10 against its beams, on validation requests drawn by seed:
    evaluation/search_error.parquet."""
    path, experiment = run.folder.evaluation("search_error"), run.experiment
    path.unlink(missing_ok=True)
    requests, _ = run.split.retrieval_requests("validation")
    order = seeds.generator(experiment.seed, "search error").permutation(len(requests))
    drawn = [requests[position] for position in order[: experiment.evaluation.search_error_users].tolist()]
    if drawn:
        from shelftalk.decoding.search_error import search_error

        limit = experiment.decoding.exact_limit or MEASURED_LIMIT
        beams = [*MEASURED_BEAMS, experiment.decoding.beams]
        with beside(path) as part:
            search_error(run.language_model, drawn, beams, 10, limit).write_parquet(part)
