"""Whether the report shows the figures of the run: its data from the run's files, its pages from its data."""

from __future__ import annotations

import json
from collections.abc import Iterator

from pydantic import TypeAdapter

from shelftalk import __version__
from shelftalk.certificate.figures import deviations_of_values, within
from shelftalk.certificate.file_checks import Problem
from shelftalk.certificate.record import program_hash
from shelftalk.certificate.run_files import RunFiles
from shelftalk.pipeline.run import Run
from shelftalk.report.content import ReportContent
from shelftalk.report.from_run import content_of
from shelftalk.report.markdown import render_markdown
from shelftalk.report.render import TABLES, render_html, render_json
from shelftalk.report.table_files import files_of, named_tables

OF_THE_MOMENT = ("when", "command", "machine", "version", "links")
"""What a report says of the moment and the folder in which it was written."""
FIGURES = (
    "seed",
    "tasks",
    "slices",
    "ablations",
    "published",
    "elsewhere",
    "held_out_templates",
    "search_error",
    "curves",
    "quality",
    "best_step",
    "test_evaluations",
    "certificate",
    "facts",
)
"""What of a report holds figures; the sentences around them may be another version's."""


def report_problems(files: RunFiles, left_out: list[str], written_by: str | None) -> Iterator[Problem]:
    """The report's data against the run's files, and its pages against its data.

    `written_by`: the hash of the program that certified the run; another one may word and draw differently,
    so that its figures alone are compared. Raises what reading the run raises.
    """
    folder = files.folder.path
    kept = (folder / "report.json").read_text("utf-8")
    content = TypeAdapter(ReportContent).validate_json(kept)
    same_program = written_by == program_hash() and content.version == __version__
    shown = json.loads(kept)
    computed = json.loads(render_json(content_of(Run(files.folder, files.experiment))))
    compared = [name for name in computed if name not in OF_THE_MOMENT]
    if not same_program:  # a field that the other program did not know is no figure that was changed
        compared = [name for name in FIGURES if name in computed and name in shown]
        computed = within(computed, shown)
    for name in compared:
        for deviation in deviations_of_values(shown.get(name), computed[name], f"report.json, {name}"):
            yield "report", f"{deviation}."
    if not same_program:
        left_out.append(
            "the pages report.html and report.md, which another version of the program drew; the figures of "
            "report.json were computed again"
        )
        return
    for name, text in (("report.html", render_html(content)), ("report.md", render_markdown(content))):
        if (folder / name).read_text("utf-8") != text:
            yield "report", f'"{folder / name}" is not the page of report.json: something in it was changed.'
    for name, text in files_of(named_tables(content)).items():
        path = folder / TABLES / name
        if not path.is_file() or path.read_text("utf-8") != text:
            yield "report", f'"{path}" is not the table of report.json: it was changed, or it is gone.'
