"""The report's plots: altair specifications drawn to static SVG inside the page.

There is no JavaScript in them on purpose: such a page prints, can be mailed, opens under a strict content
security policy, and depends on no plotting library later. Tooltips are native SVG titles, shown when the
pointer rests on a mark, and each plot has one label for screen readers. Colours are CSS variables with a
fallback, so plots follow the page between light and dark; fonts are the system's. The drawings have no ids
and no references, so a page may hold any number of them.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import altair

from shelftalk.evaluation.metrics import RATING_METRICS
from shelftalk.report import numbers
from shelftalk.report.content import (
    CostRow,
    CurvePoint,
    Difference,
    ModelRow,
    QualityPoint,
    ReportContent,
    SliceRow,
    Stage,
    TaskResults,
)
from shelftalk.report.tables import SliceGroup, stage_time

WIDTH = 300  # pixels; a panel fits a telephone, wider pages set several side by side
ROW = 34  # pixels per model
INK, MUTED, GRID = "var(--ink, #22211f)", "var(--muted, #6b675f)", "var(--line, #e3dfd6)"
ACCENT, GREY = "var(--accent, #0b6e69)", "var(--grey, #6f6a61)"
COLOURS = ("#0b6e69", "#b4531f", "#5b5fb0", "#6f6a61", "#a3397a", "#6d6d10")
SERIES = tuple(f"var(--series-{n}, {colour})" for n, colour in enumerate(COLOURS, start=1))
SHAPES = {
    "circle": "●",
    "square": "■",
    "triangle-up": "▲",
    "diamond": "◆",
    "cross": "✚",
    "triangle-down": "▼",
}
# In pixels: longest label as measured, widest room for one, room per letter. The page's font is not known
# while drawing and may be a fifth wider than the one that row labels are measured in.
LABEL, ROOM, LETTER = 125, 150, 7.2
FIGURE = "replace(datum.label, /^([-\u2212]?)0\\./, '$1.')"  # Vega expression: axis labels as .12
CONFIG: dict[str, Any] = {
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": MUTED, "titleColor": MUTED, "gridColor": GRID, "domainColor": GRID, "tickColor": GRID,
        "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "labelLimit": LABEL,
        "labelPadding": 6, "domain": False, "ticks": False,
    },
    "axisY": {"labelColor": INK, "grid": False},
}  # fmt: skip
AUTOSIZE = {"type": "fit-x", "contains": "padding"}
PADDING = {
    "left": 2,
    "right": 14,
    "top": 4,
    "bottom": 4,
}  # pixels; half a label stands right of the last tick
Row = dict[str, Any]


@dataclass(frozen=True)
class Key:
    """An entry of a legend: its text, the symbol before it and the page's class for its colour."""

    label: str
    symbol: str
    colour: str


@dataclass(frozen=True)
class Panel:
    """A drawing, with the heading and legend that the page shows above it."""

    heading: str
    svg: str
    legend: tuple[Key, ...] = ()


def metric_panels(task: TaskResults) -> list[Panel]:
    """One panel per plotted metric: a dot and its interval for each model; none where no model
    has the metric."""
    measured = [
        metric for metric in task.plotted if any(numbers.known(row.metrics.get(metric)) for row in task.rows)
    ]
    return [_metric_panel(task, metric) for metric in measured]


def _metric_panel(task: TaskResults, metric: str) -> Panel:
    rows = [_metric_row(row, metric) for row in task.rows if numbers.known(row.metrics.get(metric))]
    heading = numbers.metric_name(metric) + (" (lower is better)" if metric in task.lower_is_better else "")
    base = altair.Chart({"values": rows}).encode(
        y=altair.Y("model:N", sort=None, title=None, axis=_row_axis(rows, "model")),
        color=altair.Color("colour:N", scale=None),
        description="tip:N",
    )
    x = altair.X("value:Q", title=None, scale=altair.Scale(zero=False, padding=14), axis=_figures_axis())
    chart = altair.layer(
        base.mark_rule(strokeWidth=2.5, strokeCap="round").encode(x="low:Q", x2="high:Q"),
        base.mark_point(filled=True, size=95, opacity=1).encode(x=x),
        base.mark_text(dy=-11, fontSize=11.5).encode(x="value:Q", text="figure:N"),
    )
    return _panel(chart.properties(width=WIDTH, height={"step": ROW}), heading, [row["tip"] for row in rows])


def _row_axis(rows: Sequence[Row], label: str) -> altair.Axis:
    longest = max(len(row[label]) for row in rows)
    return altair.Axis(minExtent=min(ROOM, round(LETTER * longest)) + 8)


def _metric_row(row: ModelRow, metric: str) -> Row:
    value, ends = row.metrics[metric], row.intervals.get(metric)
    interval = numbers.interval(ends)
    low, high = ends if ends is not None and interval else (value, value)
    model = numbers.shorten(row.model, 40)
    tip = f"{model}: {numbers.figure(value)} {interval}".strip()
    colour = GREY if row.baseline else ACCENT
    figure = numbers.figure(value)
    return {
        "model": model, "value": value, "low": low, "high": high, "figure": figure, "tip": tip,
        "colour": colour,
    }  # fmt: skip


def _figures_axis() -> altair.Axis:
    return altair.Axis(tickCount=4, labelExpr=FIGURE, labelOverlap=True, labelFlush=False)


def difference_panel(heading: str, differences: Sequence[Difference]) -> Panel:
    """A dot and its interval for each difference to one baseline, with a line at zero; in colour where the
    interval excludes zero and p is below .05."""
    rows = [_difference_row(difference) for difference in differences]
    base = altair.Chart({"values": rows}).encode(
        y=altair.Y("model:N", sort=None, title=None, axis=_row_axis(rows, "model")),
        color=altair.Color("colour:N", scale=None),
        description="tip:N",
    )
    x = altair.X("value:Q", title=None, scale=altair.Scale(zero=True, padding=14), axis=_figures_axis())
    zero = altair.Chart({"values": [{"value": 0}]}).mark_rule(
        strokeDash=[4, 4], strokeWidth=1.5, color=INK, aria=False
    )
    chart = altair.layer(
        zero.encode(x="value:Q"),
        base.mark_rule(strokeWidth=2.5, strokeCap="round").encode(x="low:Q", x2="high:Q"),
        base.mark_point(filled=True, size=95, opacity=1).encode(x=x),
        base.mark_text(dy=-11, fontSize=11.5).encode(x="value:Q", text="figure:N"),
    )
    return _panel(chart.properties(width=WIDTH, height={"step": ROW}), heading, [row["tip"] for row in rows])


def _difference_row(difference: Difference) -> Row:
    value, low, high = (
        number if number is not None else 0.0
        for number in (difference.value, difference.low, difference.high)
    )
    model = numbers.shorten(difference.first, 40)
    clear = (low > 0 or high < 0) and (difference.p is None or difference.p < 0.05)
    interval, p = numbers.signed_interval(low, high), numbers.p_value(difference.p)
    tip = f"{model}: {numbers.signed(value)} {interval}, p {p}"
    colour = ACCENT if clear else GREY
    return {
        "model": model,
        "value": value,
        "low": low,
        "high": high,
        "figure": numbers.signed(value),
        "tip": tip,
        "colour": colour,
    }


def slice_panels(groups: Iterable[SliceGroup]) -> list[Panel]:
    """The main metric of each model on each slice, a panel per task and kind; none where
    nothing was measured."""
    measured = [
        group for group in groups if any(numbers.known(row.metrics.get(group.metric)) for row in group.rows)
    ]
    return [_slice_panel(group) for group in measured]


def _slice_panel(group: SliceGroup) -> Panel:
    names = dict.fromkeys(numbers.shorten(row.model, 40) for row in group.rows)
    models = tuple(names)
    rows = [
        _slice_row(row, group.metric) for row in group.rows if numbers.known(row.metrics.get(group.metric))
    ]
    heading = f"{numbers.title(group.task)}: {numbers.metric_name(group.metric)} by {group.kind}"
    base = altair.Chart({"values": rows}).encode(
        y=altair.Y(
            "slice:N",
            sort=None,
            title=None,
            scale=altair.Scale(paddingInner=0.3),
            axis=_row_axis(rows, "slice"),
        ),
        yOffset=altair.YOffset("model:N", sort=models),
        color=_colour_of(models),
        description="tip:N",
    )
    scale = altair.Scale(padding=10, zero=group.metric not in RATING_METRICS)
    x = altair.X("value:Q", title=None, scale=scale, axis=_figures_axis())
    chart = altair.layer(
        base.mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q"),
        base.mark_point(filled=True, size=60, opacity=1).encode(x=x, shape=_shape_of(models)),
    )
    chart = chart.properties(width=WIDTH, height={"step": 13, "for": "offset"})
    return _panel(chart, heading, [row["tip"] for row in rows], _keys_of(models))


def _series(number: int) -> tuple[int, int]:
    """Colour and shape of the n-th model: 36 models before a pair comes again."""
    return (number + number // len(SHAPES)) % len(SERIES), number % len(SHAPES)


def _colour_of(models: Sequence[str]) -> altair.Color:
    colours = [SERIES[_series(number)[0]] for number in range(len(models))]
    return altair.Color("model:N", scale=altair.Scale(domain=list(models), range=colours), legend=None)


def _shape_of(models: Sequence[str]) -> altair.Shape:
    shapes = [list(SHAPES)[_series(number)[1]] for number in range(len(models))]
    return altair.Shape("model:N", scale=altair.Scale(domain=list(models), range=shapes), legend=None)


def _keys_of(models: Sequence[str]) -> tuple[Key, ...]:
    symbols = list(SHAPES.values())
    series = [_series(number) for number in range(len(models))]
    return tuple(
        Key(model, symbols[shape], f"series-{colour + 1}")
        for model, (colour, shape) in zip(models, series, strict=True)
    )


def _slice_row(row: SliceRow, metric: str) -> Row:
    value, ends = row.metrics[metric], row.intervals.get(metric)
    interval = numbers.interval(ends)
    low, high = ends if ends is not None and interval else (value, value)
    model, part = numbers.shorten(row.model, 40), numbers.shorten(row.slice, 40)
    tip = f"{part}, {model}: {numbers.figure(value)} {interval} (n = {numbers.count(row.n)})"
    return {"model": model, "slice": part, "value": value, "low": low, "high": high, "tip": tip}


QUALITY = {"retrieval": "ndcg@10", "ranking": "ndcg@10", "rating": "rmse"}
"""The metric that costs are shown beside, by task."""
LEAST_SECONDS = 1e-3
"""The left end of a logarithmic axis of seconds: what takes less is drawn there."""


def cost_panels(tasks: Sequence[TaskResults], costs: Sequence[CostRow]) -> list[Panel]:
    """One panel per task: seconds for a thousand requests against quality, a point with its interval for each
    model whose time and quality are known."""
    cost_of = {row.model: row for row in costs}
    panels = []
    for task in tasks:
        metric = QUALITY.get(task.task, task.main_metric)
        apart = any(row.seconds_per_1000.get(task.task) is not None for row in costs)
        rows = [
            _cost_row(row, metric, seconds)
            for row in task.rows
            if (seconds := _seconds(cost_of.get(row.model), task.task, apart)) is not None
            and numbers.known(row.metrics.get(metric))
        ]
        if rows:
            panels.append(_cost_panel(task, metric, rows, apart))
    return panels


def _seconds(cost: CostRow | None, task: str, apart: bool) -> float | None:
    if cost is None:
        return None
    return cost.seconds_per_1000.get(task) if apart else cost.together


def _cost_row(row: ModelRow, metric: str, seconds: float) -> Row:
    drawn = _metric_row(row, metric)
    tip = f"{drawn['tip']}, {numbers.short_duration(seconds)} for a thousand requests"
    return {**drawn, "seconds": max(LEAST_SECONDS, seconds), "tip": tip}


def _cost_panel(task: TaskResults, metric: str, rows: Sequence[Row], apart: bool) -> Panel:
    lower = " (lower is better)" if metric in task.lower_is_better else ""
    heading = f"{numbers.title(task.task)}: {numbers.metric_name(metric)}{lower} by time"
    title = "seconds per 1,000 requests" + ("" if apart else ", fitting included")
    models = tuple(row["model"] for row in rows)
    base = altair.Chart({"values": rows}).encode(
        x=altair.X(
            "seconds:Q",
            title=title,
            scale=altair.Scale(type="log", nice=False, padding=16),
            axis=altair.Axis(tickCount=4, grid=False, labelOverlap=True, format="~g"),
        ),
        color=_colour_of(models),
        description="tip:N",
    )
    y = altair.Y(
        "value:Q",
        title=None,
        scale=altair.Scale(zero=False, padding=8),
        axis=altair.Axis(tickCount=5, grid=True, labelExpr=FIGURE),
    )
    chart = altair.layer(
        base.mark_rule(strokeWidth=1.5).encode(y="low:Q", y2="high:Q"),
        base.mark_point(filled=True, size=85, opacity=1).encode(y=y, shape=_shape_of(models)),
    )
    tips = [row["tip"] for row in rows]
    return _panel(chart.properties(width=WIDTH, height=210), heading, tips, _keys_of(models))


def curve_panels(content: ReportContent) -> list[Panel]:
    """One panel per task with a measured loss: training as a line, validation as a line with dots, the
    kept step marked."""
    tasks = dict.fromkeys(point.task for point in content.curves if numbers.known(point.loss))
    return [
        _curve_panel([point for point in content.curves if point.task == task], content.best_step)
        for task in tasks
    ]


def quality_panels(content: ReportContent) -> list[Panel]:
    """One panel per metric of recommendation quality that was measured during training, the
    kept step marked."""
    panels = []
    for metric in dict.fromkeys(point.metric for point in content.quality):
        rows = [_quality_row(point) for point in content.quality if point.metric == metric]
        panels.append(_lines_panel(f"{numbers.metric_name(metric)}, validation", rows, content.best_step))
    return panels


def _curve_panel(points: Sequence[CurvePoint], best_step: int | None) -> Panel:
    heading = "All tasks together" if points[0].task == "all" else numbers.title(points[0].task)
    return _lines_panel(
        heading, [_curve_row(point) for point in points if numbers.known(point.loss)], best_step
    )


def _lines_panel(heading: str, rows: Sequence[Row], best_step: int | None) -> Panel:
    """Rows of step, value, part and tip."""
    parts = [part for part in ("training", "validation") if any(row["part"] == part for row in rows)]
    colours = {"training": GREY, "validation": ACCENT}
    base = altair.Chart({"values": rows}).encode(
        x=altair.X("step:Q", title="step", axis=altair.Axis(tickCount=4, format=",d", grid=False)),
        y=altair.Y(
            "value:Q",
            title=None,
            scale=altair.Scale(zero=False, padding=6),
            axis=altair.Axis(tickCount=5, grid=True),
        ),
        color=altair.Color(
            "part:N", scale=altair.Scale(domain=parts, range=[colours[part] for part in parts]), legend=None
        ),
    )
    dots = base.transform_filter("datum.part == 'validation'").mark_point(filled=True, size=45, opacity=1)
    layers = [base.mark_line(strokeWidth=2), dots.encode(description="tip:N")]
    if best_step is not None:
        layers.append(_best_rule(best_step))
    chart = altair.layer(*layers).properties(width=WIDTH, height=170)
    last = [[row["tip"] for row in rows if row["part"] == part][-1] for part in parts]
    keys = {"training": Key("training", "—", "base"), "validation": Key("validation", "●", "ours")}
    return _panel(chart, heading, [f"last {tip}" for tip in last], tuple(keys[part] for part in parts))


def _curve_row(point: CurvePoint) -> Row:
    step, tokens = numbers.count(point.step), numbers.count(point.tokens)
    tip = f"{point.part}, step {step}, {tokens} tokens: loss {point.loss:.3f}"
    return {"step": point.step, "value": point.loss, "part": point.part, "tip": tip}


def _quality_row(point: QualityPoint) -> Row:
    step, metric = numbers.count(point.step), numbers.metric_name(point.metric)
    tip = f"validation, step {step}: {metric} {numbers.figure(point.value)}"
    return {"step": point.step, "value": point.value, "part": "validation", "tip": tip}


def _best_rule(step: int) -> altair.Chart:
    row = {"step": step, "tip": f"kept: step {numbers.count(step)}"}
    rule = altair.Chart({"values": [row]}).mark_rule(strokeDash=[4, 4], strokeWidth=1.5, color=INK)
    marked: altair.Chart = rule.encode(x="step:Q", description="tip:N")
    return marked


@dataclass(frozen=True)
class Dot:
    """A measurement: `x` is a number or a word. One without a value is drawn hollow at the bottom."""

    x: float | str
    value: float | None
    tip: str
    marked: bool = False


def scatter_panel(heading: str, x_title: str, dots: Sequence[Dot], logarithmic: bool = False) -> Panel:
    """A dot for each measurement, the marked ones in colour; those without a value as hollow triangles
    at the bottom."""
    values = [dot.value for dot in dots if dot.value is not None]
    bottom = min(values) - 0.08 * (max(values) - min(values) or abs(values[0]) or 1.0)
    rows = [
        {
            "x": dot.x, "value": bottom if dot.value is None else dot.value, "tip": dot.tip,
            "known": dot.value is not None, "colour": ACCENT if dot.marked else GREY,
        }
        for dot in dots
    ]  # fmt: skip
    categorical = any(isinstance(dot.x, str) for dot in dots)
    scale = (
        altair.Scale(type="log", nice=False, padding=12)
        if logarithmic
        else altair.Scale(zero=False, padding=12)
    )
    quantitative = altair.X(
        "x:Q",
        title=x_title,
        scale=scale,
        axis=altair.Axis(tickCount=4, grid=False, labelOverlap=True, format="~g"),
    )
    x = (
        altair.X("x:N", title=x_title, sort=None, axis=altair.Axis(labelAngle=0, grid=False))
        if categorical
        else quantitative
    )
    figures = altair.Axis(tickCount=5, grid=True, labelExpr=FIGURE)
    base = altair.Chart({"values": rows}).encode(
        x=x,
        y=altair.Y("value:Q", title=None, scale=altair.Scale(zero=False, padding=6), axis=figures),
        color=altair.Color("colour:N", scale=None),
        description="tip:N",
    )
    chart = altair.layer(
        base.transform_filter("datum.known").mark_point(filled=True, size=60, opacity=1),
        base.transform_filter("!datum.known").mark_point(
            filled=False, shape="triangle-down", size=50, opacity=1
        ),
    )
    return _panel(chart.properties(width=WIDTH, height=170), heading, [dot.tip for dot in dots if dot.marked])


def stage_panels(stages: Sequence[Stage]) -> list[Panel]:
    """One panel, a bar per stage, a skipped one as an outline; none where no time is known."""
    rows = [_stage_row(stage) for stage in stages if numbers.known(stage.seconds)]
    return [_stage_panel(rows)] if rows else []


def _stage_panel(rows: Sequence[Row]) -> Panel:
    longest = max(row["seconds"] for row in rows) or 1.0
    base = altair.Chart({"values": rows}).encode(
        y=altair.Y("stage:N", sort=None, title=None, axis=_row_axis(rows, "stage")),
        # room for the time after the bar
        x=altair.X("seconds:Q", axis=None, scale=altair.Scale(domain=[0, 1.9 * longest])),
        description="tip:N",
    )
    chart = altair.layer(
        base.mark_bar(height=14, stroke=ACCENT).encode(fill=altair.Fill("fill:N", scale=None)),
        base.mark_text(align="left", dx=6, fontSize=12, color=MUTED).encode(text="time:N"),
    )
    return _panel(
        chart.properties(width=WIDTH, height={"step": 24}), "Time by stage", [row["tip"] for row in rows]
    )


def _stage_row(stage: Stage) -> Row:
    name, time = numbers.shorten(stage.name, 40), stage_time(stage)
    fill = "transparent" if stage.skipped else ACCENT
    return {"stage": name, "seconds": stage.seconds, "time": time, "tip": f"{name}: {time}", "fill": fill}


def bar_panel(heading: str, bars: Sequence[tuple[str, int]]) -> Panel:
    """A horizontal bar for each label, with its number after it."""
    rows: list[Row] = [
        {"label": label, "number": number, "text": f"{number:,}", "tip": f"{label}: {number:,}"}
        for label, number in bars
    ]
    longest = max(number for _, number in bars) or 1
    base = altair.Chart({"values": rows}).encode(
        y=altair.Y("label:N", sort=None, title=None, axis=_row_axis(rows, "label")),
        x=altair.X("number:Q", axis=None, scale=altair.Scale(domain=[0, 1.4 * longest])),
        description="tip:N",
    )
    chart = altair.layer(
        base.mark_bar(height=12, fill=ACCENT),
        base.mark_text(align="left", dx=6, fontSize=12, color=MUTED).encode(text="text:N"),
    )
    return _panel(chart.properties(width=WIDTH, height={"step": 20}), heading, [row["tip"] for row in rows])


def _panel(
    chart: altair.TopLevelMixin, heading: str, tips: Sequence[str], legend: tuple[Key, ...] = ()
) -> Panel:
    """The chart as inline SVG of WIDTH pixels, its label made of the tooltips."""
    import vl_convert  # starts a JavaScript engine, so only where something is drawn

    specification = chart.to_dict() | {"autosize": AUTOSIZE, "padding": PADDING, "config": CONFIG}
    svg: str = vl_convert.vegalite_to_svg(specification, allowed_base_urls=[])
    return Panel(heading, _for_a_page(svg, heading, "; ".join(tips)), legend)


def _for_a_page(svg: str, heading: str, described: str) -> str:
    """The drawing with a name and a description for those who do not see it, and a title on every mark."""
    root = ElementTree.fromstring(svg.replace(' xmlns="http://www.w3.org/2000/svg"', "", 1))
    for mark in root.findall(".//*[@role='graphics-symbol']"):
        if mark.get("aria-roledescription") != "axis" and "aria-label" in mark.attrib:
            ElementTree.SubElement(mark, "title").text = mark.get("aria-label")
    root.attrib = {
        "viewBox": root.get("viewBox", ""),
        "width": root.get("width", ""),
        "role": "img",
        "aria-label": f"{heading}: {described}",
    }
    for number, (tag, text) in enumerate((("title", heading), ("desc", described))):
        element = ElementTree.Element(tag)
        element.text = text
        root.insert(number, element)
    return ElementTree.tostring(root, encoding="unicode")
