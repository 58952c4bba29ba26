"""The page of a data set that `shelftalk inspect` writes: self-contained, its plots drawn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shelftalk.report import plots
from shelftalk.report.render import environment, origin
from shelftalk.runtime.run_folder import beside, space_needed


def write_inspection(record: Mapping[str, Any], path: Path) -> Path:
    """Write the page of a record of data/inspection.py, renamed into place. Raises NoSpace when the device is
    full."""
    page = render_inspection(record)
    with space_needed(path.parent), beside(path) as part:
        part.write_text(page, encoding="utf-8")
    return path


def render_inspection(record: Mapping[str, Any]) -> str:
    """One page without any reference to the outside; what is quoted of the data is escaped."""
    panels = [plots.bar_panel(heading, bars) for heading, bars in record["charts"].items() if bars]
    template = environment().get_template("inspection.html.jinja")
    return template.render(record=record, panels=panels, origin=origin())
