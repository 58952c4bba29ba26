"""One record in, files out: a self-contained page, Markdown, JSON, and every table as CSV and LaTeX."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2
from pydantic import TypeAdapter

from shelftalk import __version__
from shelftalk.report import numbers, plots, summary, tables
from shelftalk.report.content import ReportContent
from shelftalk.report.markdown import render_markdown
from shelftalk.report.table_files import ablation_name, files_of, name_of, named_tables
from shelftalk.runtime.machine import hardware_facts
from shelftalk.runtime.run_folder import beside, space_needed, write_texts

TABLES = "tables"
"""The folder of the tables as files, beside the page."""
FILTERS = {
    "count": numbers.count,
    "excerpt": numbers.excerpt,
    "fact": numbers.fact,
    "figure": numbers.figure,
    "metric": numbers.metric_name,
    "printable": numbers.printable,
    "score": numbers.score,
    "shorten": numbers.shorten,
    "signed": numbers.signed,
    "title_case": numbers.title,
    "interval": numbers.interval,
}


def environment() -> jinja2.Environment:
    """The templates of every page, all with autoescape: item titles and names are untrusted."""
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("shelftalk.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= FILTERS
    return templates


def origin() -> Mapping[str, Any]:
    """The version, time and machine of a report."""
    return {
        "version": __version__,
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": hardware_facts(),
    }


def render_html(content: ReportContent) -> str:
    """The report as one HTML page without any reference to the outside; titles and samples are escaped."""
    groups = tables.slice_groups(content)
    named = {one.name: one for one in named_tables(content)}
    panels = {
        "metric_panels": {task.task: plots.metric_panels(task) for task in content.tasks},
        "slice_panels": plots.slice_panels(groups),
        "cost_panels": plots.cost_panels(content.tasks, content.costs),
        "curve_panels": plots.curve_panels(content),
        "quality_panels": plots.quality_panels(content),
        "stage_panels": plots.stage_panels(content.stages),
    }
    template = environment().get_template("report.html.jinja")
    return template.render(
        content=content,
        groups=groups,
        named=named,
        name_of=name_of,
        ablation_name=ablation_name,
        tables=tables,
        summary=summary,
        **panels,
    )


def render_json(content: ReportContent) -> str:
    """The record itself as JSON; NaN and infinities become null."""
    return TypeAdapter(ReportContent).dump_json(content, indent=2).decode() + "\n"


FORMS = {"report.json": render_json, "report.md": render_markdown, "report.html": render_html}


def write_report(
    content: ReportContent, folder: Path, on_form: Callable[[str], None] = lambda name: None
) -> Path:
    """Write report.html, report.md, report.json and tables/ into an existing folder and return the path of
    the page. `on_form` gets the name of each of FORMS that is rendered.

    All are rendered before any is written, and each is renamed into place, so a reader never sees half a
    report. Raises NoSpace when the device is full.
    """
    table_files = files_of(named_tables(content))
    rendered = {}
    for name, render in FORMS.items():
        rendered[name] = render(content)
        on_form(name)
    with space_needed(folder), beside(folder / TABLES) as part:
        part.mkdir()
        for name, text in table_files.items():
            (part / name).write_text(text, encoding="utf-8")
    write_texts(folder, rendered)
    return folder / "report.html"
