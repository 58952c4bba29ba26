"""The sentences built from numbers. A model "beats" another only where the paired interval excludes zero and
the p-value, adjusted for the number of comparisons, is below .05."""

from __future__ import annotations

from shelftalk.recommender import is_refit
from shelftalk.report import numbers
from shelftalk.report.content import Difference, ModelRow, ReportContent, TaskResults

VERBS = {
    "ahead": "beats",
    "behind": "is worse than",
    "level": "is not distinguishable from",
    "unmeasured": "was not compared with",
}


LEVEL = 0.05
"""The adjusted p below which a difference is more than chance."""


def verdict(difference: Difference, task: TaskResults) -> str:
    """The first model is "ahead" or "behind" (interval excludes zero, and the adjusted p, where there is one,
    is below LEVEL), "level", or "unmeasured" (no interval)."""
    low, high = difference.low, difference.high
    measured = numbers.known(low) and numbers.known(high) and numbers.known(difference.value)
    if low is None or high is None or not measured:
        return "unmeasured"
    if low <= 0 <= high or (difference.p_adjusted is not None and difference.p_adjusted >= LEVEL):
        return "level"
    return "ahead" if (low > 0) != (difference.metric in task.lower_is_better) else "behind"


def verdict_sentence(difference: Difference, task: TaskResults) -> str:
    """As in "aligned beats popularity"."""
    return f"{difference.first} {VERBS[verdict(difference, task)]} {difference.second}"


def leader(task: TaskResults, metric: str) -> str:
    """The model that is ahead of every other one in a metric, by the paired tests; "" where none is, and
    where models were not compared in it."""
    models = _compared(task, metric)
    ahead = [model for model in models if all(_beats(task, metric, model, other) for other in models)]
    return ahead[0] if len(models) > 1 and len(ahead) == 1 else ""


def leader_sentences(task: TaskResults) -> list[str]:
    """For each metric that models are compared in, which one is ahead of all others, or with which ones the
    best figure is tied."""
    metrics = dict.fromkeys(row.metric for row in task.differences if row.p_adjusted is not None)
    return [_leader_sentence(task, metric) for metric in metrics if len(_compared(task, metric)) > 1]


def _leader_sentence(task: TaskResults, metric: str) -> str:
    name, first = numbers.metric_name(metric), leader(task, metric)
    if first:
        return f"{name}: {first} is ahead of every other model, each with an adjusted p below .05."
    models, sign = _compared(task, metric), -1 if metric in task.lower_is_better else 1
    values = {row.model: row.metrics.get(metric) for row in task.rows}
    best = max(models, key=lambda model: sign * (values[model] or 0.0))
    tied = [model for model in models if model != best and not _beats(task, metric, best, model)]
    return (
        f"{name}: no model is ahead of every other one; {best} has the best figure and is not "
        f"distinguishable from {', '.join(tied)}."
    )


def _compared(task: TaskResults, metric: str) -> list[str]:
    """The models with a figure that stand beside each other; a refitted one is kept apart."""
    rows = [row for row in task.rows if not is_refit(row.model)]
    return [row.model for row in rows if numbers.known(row.metrics.get(metric))]


def _beats(task: TaskResults, metric: str, model: str, other: str) -> bool:
    """Whether a paired test with an adjusted p shows it; any model beats itself."""
    if model == other:
        return True
    shown = {
        (difference.first, difference.second): verdict(difference, task)
        for difference in task.differences
        if difference.metric == metric and difference.p_adjusted is not None
    }
    return shown.get((model, other)) == "ahead" or shown.get((other, model)) == "behind"


def main_differences(task: TaskResults) -> list[Difference]:
    """The comparisons in the task's main metric."""
    return [difference for difference in task.differences if difference.metric == task.main_metric]


def main_row(task: TaskResults) -> ModelRow | None:
    """The model that the summary is about: the first of the first main comparison, else the first row."""
    compared = [difference.first for difference in main_differences(task)]
    rows = [row for row in task.rows if compared and row.model == compared[0]]
    return next(iter(rows or task.rows), None)


def summary(content: ReportContent) -> str:
    """The results in a sentence per task, with no claim that the numbers do not support."""
    if not content.tasks:
        return "No task was evaluated in this run."
    note = [content.split_note] if content.split_note else []
    return " ".join([*map(_sentence, content.tasks), *note])


def _sentence(task: TaskResults) -> str:
    start = f"{numbers.title(task.task)}: "
    differences = main_differences(task)
    if not differences:
        return start + _alone(task)
    return f"{start}{verdict_sentence(differences[0], task)}{_figures(differences[0], task)}."


def _alone(task: TaskResults) -> str:
    row = main_row(task)
    if row is None:
        return "nothing was measured."
    name, value = numbers.metric_name(task.main_metric), row.metrics.get(task.main_metric)
    if not numbers.known(value):
        return f"{row.model} has no {name}."
    return f"{row.model} has {name} {numbers.figure(value)}, compared with nothing."


def _figures(difference: Difference, task: TaskResults) -> str:
    by_model = {row.model: row.metrics.get(difference.metric) for row in task.rows}
    first, second = by_model.get(difference.first), by_model.get(difference.second)
    if not (numbers.known(first) and numbers.known(second)):
        return ""
    name = numbers.metric_name(difference.metric)
    lower = ", lower is better" if difference.metric in task.lower_is_better else ""
    return f" ({name} {numbers.figure(first)} against {numbers.figure(second)}{lower})"
