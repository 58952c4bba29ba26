"""The report's tables as plain values, so that HTML and Markdown show the same cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from shelftalk.evaluation.beyond_accuracy import MEANINGS
from shelftalk.report import numbers
from shelftalk.report.content import (
    CHANGE,
    TERMS,
    THIS_RUN,
    AblationTable,
    CostRow,
    Difference,
    ElsewhereTable,
    Fact,
    Interval,
    Metrics,
    ModelRow,
    PublishedTable,
    ReportContent,
    SearchErrorRow,
    ShownUser,
    SliceRow,
    Stage,
    TaskResults,
    TemplateRow,
)
from shelftalk.report.summary import leader, verdict_sentence

SLICES = (
    "The same models on parts of the test requests. The column users counts the different users of a part; "
    "figures of rating are means over their ratings, of which a user may have several. Small parts say "
    "little."
)
CHOSEN = "chosen on validation"

PROBES = "What the data itself gives away"
"""The heading of the sentences of data/probes.py."""


@dataclass(frozen=True)
class Cell:
    """A value as it is printed, its interval beneath it, and whether it is marked.

    `value` and `ends` are the same unrounded, for files that are read by programs.
    """

    text: str
    note: str = ""
    best: bool = False
    value: Fact = None
    ends: Interval | None = None


@dataclass(frozen=True)
class Table:
    """`words` leading columns hold words, the others numbers."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    words: int = 1


@dataclass(frozen=True)
class SliceGroup:
    """The slices of one task and one kind, and the main metric they are shown in."""

    task: str
    kind: str
    metric: str
    rows: tuple[SliceRow, ...]


def metric_columns(rows: Iterable[ModelRow | TemplateRow]) -> list[str]:
    """Every metric that some row has, in order of appearance."""
    return list(dict.fromkeys(metric for row in rows for metric in row.metrics))


def result_table(task: TaskResults) -> Table:
    """Every model of a task with its figures; one is marked where paired tests show its model ahead of every
    other."""
    metrics = metric_columns(task.rows)
    best = {metric: leader(task, metric) for metric in metrics}
    rows = tuple(
        (Cell(row.model), *(_metric_cell(row, metric, best[metric]) for metric in metrics))
        for row in task.rows
    )
    return Table(("model", *map(numbers.metric_name, metrics)), rows)


def _metric_cell(row: ModelRow, metric: str, best: str) -> Cell:
    return replace(_plain_cell(row.metrics, row.intervals, metric), best=row.model == best)


def list_table(task: TaskResults) -> Table:
    """What the models' lists are like. None is marked: of most of these figures no direction is better."""
    metrics = metric_columns(task.of_lists)
    rows = tuple(
        (Cell(row.model), *(_plain_cell(row.metrics, row.intervals, metric) for metric in metrics))
        for row in task.of_lists
    )
    return Table(("model", *map(numbers.metric_name, metrics)), rows)


def list_sentences(task: TaskResults) -> list[str]:
    """What each figure of `list_table` means."""
    return [f"{numbers.metric_name(metric)}: {MEANINGS[metric]}." for metric in metric_columns(task.of_lists)]


SHOWN_DIFFERENCES = 14
"""Rows of paired differences that a page shows at once; the others are a click away."""


def shown_differences(task: TaskResults) -> tuple[Difference, ...]:
    """The most important comparisons of a task: all, where they are few, else the first of each metric."""
    if len(task.differences) <= SHOWN_DIFFERENCES:
        return task.differences
    metrics = list(dict.fromkeys(difference.metric for difference in task.differences))
    each = SHOWN_DIFFERENCES // len(metrics)
    return tuple(
        difference
        for metric in metrics
        for difference in [one for one in task.differences if one.metric == metric][:each]
    )


def other_differences(task: TaskResults) -> tuple[Difference, ...]:
    """All that `shown_differences` leaves out."""
    shown = shown_differences(task)
    return tuple(difference for difference in task.differences if difference not in shown)


def difference_table(task: TaskResults, differences: Sequence[Difference] | None = None) -> Table:
    """Paired comparisons of a task, by default all of them, each with a verdict in words."""
    rows = tuple(
        (
            Cell(verdict_sentence(difference, task)),
            Cell(numbers.metric_name(difference.metric)),
            Cell(numbers.signed(difference.value), value=difference.value),
            Cell(
                numbers.signed_interval(difference.low, difference.high),
                ends=(difference.low, difference.high),
            ),
            Cell(numbers.p_value(difference.p), value=difference.p),
            Cell(numbers.p_value(difference.p_adjusted), value=difference.p_adjusted),
            Cell(numbers.figure(difference.smallest_effect), value=difference.smallest_effect),
        )
        for difference in (task.differences if differences is None else differences)
    )
    columns = ("first and second", "metric", "first − second", "95 % interval", "p", "adjusted p")
    return Table((*columns, "could have shown"), rows, words=2)


def slice_groups(content: ReportContent) -> list[SliceGroup]:
    """Slices by task and kind, in order of appearance; tasks without results have no main metric
    and no slices."""
    main_metrics = {task.task: task.main_metric for task in content.tasks}
    keys = dict.fromkeys((row.task, row.kind) for row in content.slices if row.task in main_metrics)
    return [
        SliceGroup(
            task,
            kind,
            main_metrics[task],
            tuple(row for row in content.slices if (row.task, row.kind) == (task, kind)),
        )
        for task, kind in keys
    ]


def slice_table(group: SliceGroup) -> Table:
    """A row per slice, a column per model."""
    models = list(dict.fromkeys(row.model for row in group.rows))
    sizes = {row.slice: row.n for row in reversed(group.rows)}
    cells = {
        (row.slice, row.model): _plain_cell(row.metrics, row.intervals, group.metric) for row in group.rows
    }
    slices = dict.fromkeys(row.slice for row in group.rows)
    rows = tuple(
        (
            Cell(part),
            counted(sizes[part]),
            *(cells.get((part, model), Cell(numbers.MISSING)) for model in models),
        )
        for part in slices
    )
    return Table((group.kind, "users", *models), rows)


def _plain_cell(metrics: Metrics, intervals: Mapping[str, Interval | None], metric: str) -> Cell:
    value, ends = metrics.get(metric), intervals.get(metric)
    return Cell(numbers.figure(value), numbers.interval(ends), value=value, ends=ends)


def template_table(rows: Sequence[TemplateRow]) -> Table:
    """The same model with templates seen in training and held out."""
    metrics = metric_columns(rows)
    cells = tuple(
        (
            Cell(numbers.title(row.task)),
            Cell(row.model),
            Cell(row.templates),
            counted(row.n),
            *(_template_cell(row, metric) for metric in metrics),
        )
        for row in rows
    )
    return Table(("task", "model", "templates", "n", *map(numbers.metric_name, metrics)), cells, words=3)


def _template_cell(row: TemplateRow, metric: str) -> Cell:
    if row.templates != CHANGE:
        return _plain_cell(row.metrics, row.intervals, metric)
    low, high = row.intervals.get(metric) or (None, None)
    return signed_cell(row.metrics.get(metric), low, high)


def search_error_table(rows: Sequence[SearchErrorRow]) -> Table:
    """Beams against the model's true top 10."""
    cells = tuple(
        (
            counted(row.beams),
            Cell(row.finish),
            counted(row.n),
            Cell(numbers.percent(row.differing), value=row.differing),
            Cell(numbers.percent(row.missing), value=row.missing),
            Cell(numbers.score(row.shortfall), value=row.shortfall),
        )
        for row in rows
    )
    return Table(
        ("beams", "finish", "requests", "top 10 differs", "of the ten missing", "largest gap (nats)"),
        cells,
        words=2,
    )


def published_table(table: PublishedTable) -> Table:
    """This run beside publications. No best figure is marked: between publications nothing is paired."""
    rows = tuple(
        (
            Cell(row.model),
            *(_plain_cell(row.metrics, row.intervals, metric) for metric in table.metrics),
            Cell(row.source),
        )
        for row in table.rows
    )
    return Table(("model", *map(numbers.metric_name, table.metrics), "source"), rows)


def cost_table(rows: Sequence[CostRow]) -> Table:
    """What each model chose and what it cost; a column where some model has a value."""
    tasks = list(dict.fromkeys(task for row in rows for task in row.seconds_per_1000))
    columns: dict[str, list[float | None]] = {
        "training": [row.training_seconds for row in rows],
        "fit or open": [row.fit_seconds for row in rows],
        **{f"{task}, per 1,000": [row.seconds_per_1000.get(task) for row in rows] for task in tasks},
        "per 1,000 requests": [row.together for row in rows],
    }
    shown = {name: values for name, values in columns.items() if any(value is not None for value in values)}
    memory = [_memory(row) for row in rows] if any(row.peak_memory_mb is not None for row in rows) else None
    body = tuple(
        (
            Cell(row.model),
            *(Cell(numbers.short_duration(values[n]), value=values[n]) for values in shown.values()),
            *([memory[n]] if memory else []),
            Cell(" ".join(row.chosen) or numbers.MISSING),
        )
        for n, row in enumerate(rows)
    )
    return Table(("model", *shown, *(["memory"] if memory else []), CHOSEN), body)


def _memory(row: CostRow) -> Cell:
    text = numbers.MISSING if row.peak_memory_mb is None else f"{row.peak_memory_mb:,.0f} MB"
    return Cell(text, value=row.peak_memory_mb)


def ablation_table(ablation: AblationTable) -> Table:
    """A row per variant, a column per metric: its difference to the baseline, marked where it is clear of
    chance."""
    metrics = list(dict.fromkeys(difference.metric for difference in ablation.differences))
    known = {(difference.first, difference.metric): difference for difference in ablation.differences}
    rows = tuple(
        (Cell(variant), *(_ablation_cell(known.get((variant, metric))) for metric in metrics))
        for variant in dict.fromkeys(difference.first for difference in ablation.differences)
    )
    return Table((f"variant − {ablation.baseline}", *map(task_metric_name, metrics)), rows)


def _ablation_cell(difference: Difference | None) -> Cell:
    if difference is None:
        return Cell(numbers.MISSING)
    cell = signed_cell(difference.value, difference.low, difference.high)
    return replace(
        cell, note=f"{cell.note} p {numbers.p_value(difference.p)}".strip(), best=clear_of_chance(difference)
    )


def clear_of_chance(difference: Difference) -> bool:
    """Whether the interval does not hold zero and p, where there is one, is below .05."""
    low, high, p = difference.low, difference.high, difference.p
    if low is None or high is None:
        return False
    return (low > 0 or high < 0) and (p is None or p < 0.05)


def signed_cell(value: float | None, low: float | None, high: float | None) -> Cell:
    """A difference with its interval beneath it."""
    note = numbers.signed_interval(low, high)
    return Cell(numbers.signed(value), "" if note == numbers.MISSING else note, value=value, ends=(low, high))


def counted(n: int) -> Cell:
    """A whole number."""
    return Cell(numbers.count(n), value=n)


def task_metric_name(name: str) -> str:
    """As in "retrieval ndcg@10" -> "retrieval NDCG@10"."""
    task, _, metric = name.partition(" ")
    return f"{task} {numbers.metric_name(metric)}"


ELSEWHERE = (
    "These figures are of the same data set, but of another protocol than this run's, or of one that is not "
    "known: which item is tested, how equal times are ordered, what the candidates are. They are no measure "
    "of the figures above, nor the other way round; the first row has the terms of this run."
)


def elsewhere_table(table: ElsewhereTable) -> Table:
    """Published figures on other or unknown terms; figures of this run are not in it."""
    nothing = (Cell(numbers.MISSING),) * len(table.metrics)
    ours = (Cell(THIS_RUN), *map(Cell, table.ours), *nothing, Cell(""))
    rows = tuple(
        (
            Cell(row.model),
            *map(Cell, row.terms),
            *(
                Cell(numbers.figure(row.metrics.get(metric)), value=row.metrics.get(metric))
                for metric in table.metrics
            ),
            Cell(row.source),
        )
        for row in table.rows
    )
    columns = ("model", *TERMS, *map(numbers.metric_name, table.metrics), "source")
    return Table(columns, (ours, *rows), words=1 + len(TERMS))


def stage_table(stages: Sequence[Stage]) -> Table:
    """The time of each stage."""
    rows = tuple((Cell(stage.name), Cell(stage_time(stage), value=stage.seconds)) for stage in stages)
    return Table(("stage", "time"), rows)


def stage_time(stage: Stage) -> str:
    """The time a stage took, or that it was not done again."""
    if not stage.skipped:
        return numbers.duration(stage.seconds)
    return (
        f"skipped ({numbers.duration(stage.seconds)} before)" if numbers.known(stage.seconds) else "skipped"
    )


def total_time(stages: Sequence[Stage]) -> str:
    """The time of the stages that were done in this run."""
    measured = [stage.seconds for stage in stages if not stage.skipped and stage.seconds is not None]
    return numbers.duration(sum(seconds for seconds in measured if numbers.known(seconds)))


def facts(mapping: Mapping[str, Fact]) -> list[tuple[str, str]]:
    """Labels and values as text."""
    return [(label, numbers.fact(value)) for label, value in mapping.items()]


OUTCOMES = {True: "holds", False: "DOES NOT HOLD", None: "not checked"}


def certified_facts(content: ReportContent) -> list[tuple[str, str]]:
    """Each fact of the certificate: its name; whether it holds, what was checked, what came out, and how."""
    return [
        (
            f"{fact.name}: {OUTCOMES[fact.holds]}",
            " ".join(part for part in (fact.checked, fact.value and f"{fact.value}.", fact.how) if part),
        )
        for fact in content.facts
    ]


def rank_of_truth(user: ShownUser) -> str:
    """As in "position 3 of 50", or that the item is not in the list."""
    if user.rank is None:
        return f"not among the {numbers.count(user.listed)} listed"
    return f"position {numbers.count(user.rank)} of {numbers.count(user.listed)}"


def caveats(content: ReportContent) -> list[str]:
    """The run's own caveats and those that follow from the record itself."""
    return [*content.caveats, *_about_comparisons(content), *_about_the_test_part(content)]


def _about_comparisons(content: ReportContent) -> list[str]:
    compared = sum(len(task.differences) for task in content.tasks)
    if not compared:
        return []
    effects = [
        task.differences[0].smallest_effect
        for task in content.tasks
        if task.differences and task.differences[0].smallest_effect is not None
    ]
    could_have = (
        "Where a difference is not distinguishable from none, a true one as large as in the column "
        '"could have shown" would have been found in 80 of 100 test sets of as many users, before any '
        "adjustment; a smaller one may be there."
    )
    pairs = "allow for the number of pairs in one metric of a task"
    adjusted = f" Adjusted p-values ({content.correction}) {pairs}." if content.correction else ""
    return [
        f"{numbers.count(compared)} differences are shown, each with its own 95 % interval: none is widened "
        f"for their number.{adjusted}",
        *([could_have] if effects else []),
    ]


def _about_the_test_part(content: ReportContent) -> list[str]:
    times = content.test_evaluations
    if times is None:
        return []
    if times == 1:
        return ["The test part was evaluated once in this run folder."]
    return [
        f"The test part was evaluated {times} times in this run folder: whatever was changed in between has "
        "seen it."
    ]
