"""The result of a probe, as tables for the terminal, Markdown and one self-contained page, and as one JSON
object."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from shelftalk import __version__
from shelftalk.errors import SettingsError
from shelftalk.recommender import ALIGNED
from shelftalk.report import numbers
from shelftalk.report.markdown import escaped, markdown_table
from shelftalk.report.render import environment
from shelftalk.report.tables import Cell, Table, facts
from shelftalk.runtime.machine import hardware_facts
from shelftalk.runtime.progress import OnProgress, silent
from shelftalk.runtime.run_folder import RunFolder, write_texts
from shelftalk.studies.probing.questions import KINDS
from shelftalk.studies.probing.run_probe import RUN_KINDS, WITHOUT_ORDER, open_trained, probe_run
from shelftalk.studies.probing.scoring import accuracies, difference
from shelftalk.studies.probing.study import AUXILIARY, QUICK, ProbeResult, ProbeSettings, mixtures, study

SERVED_ONLY = "served only"
OTHER_HALF = ", other half"
TITLE = "Does the knowledge go in?"
READING = (
    "Each figure is the share of correct answers; equal scores share a point. Its 95 % interval resamples "
    "facts, or users of real data.",
    "Options are alike in popularity, so that a guess that does not use the history is at chance.",
    "Differences are paired by question; one that is bold or has a * has an interval without zero in it. "
    "None is widened for their number.",
)
READING_A_WORLD = (
    "Inverted uses the retrieval prompt backwards: each option is inserted where the item is missing, and "
    "the rest of the history is scored.",
    "Other half: the auxiliary samples showed one half of the facts only, and the difference is taken over "
    "the other half.",
)


def probed_world(seeds: str, tasks: str | None, quick: bool, progress: OnProgress) -> dict[str, Any]:
    """The probe of the synthetic world; `seeds` and `tasks` by comma, all auxiliary tasks without any.

    Raises SettingsError for a seed that is no number, UnknownPart for a task that is none.
    """
    try:
        numbers = list(dict.fromkeys(int(seed) for seed in seeds.split(",")))
    except ValueError:
        raise SettingsError(
            f'--seeds "{seeds}" is not a list of whole numbers; write it as in --seeds 0,1,2.'
        ) from None
    named = [name.strip() for name in tasks.split(",")] if tasks else AUXILIARY
    wanted = mixtures(named, controls=not quick)
    return as_record(study(QUICK if quick else ProbeSettings(), wanted, numbers, progress), KINDS)


def probed_run(folder: Path, number: int, progress: OnProgress = silent) -> dict[str, Any]:
    """The probe of a finished run, with `number` questions of each kind. Raises StageMissing where no model
    was trained."""
    run = open_trained(RunFolder(folder))
    kinds = RUN_KINDS if run.split.dataset.ordered else WITHOUT_ORDER
    return as_record(ProbeResult(probe_run(run, number, run.experiment.seed, progress)), kinds)


def as_record(result: ProbeResult, kinds: Mapping[str, str]) -> dict[str, Any]:
    """The probe as plain values: `kinds`, `accuracy` (a row per model, way, wording and kind), `differences`
    and `trainings`."""
    return {
        "kinds": dict(kinds),
        "accuracy": accuracies(result.answers),
        "differences": differences(result.answers),
        "trainings": result.trainings,
    }


def differences(answers: pl.DataFrame) -> list[dict[str, Any]]:
    """Paired differences, way by way and kind by kind: each mixture against the served tasks alone and, on
    the half of the facts that its control did not see, against the control; the aligned model against
    itself before alignment."""
    models = answers["model"].unique(maintain_order=True).to_list()
    mixed = [model for model in models if model.startswith("+") and not model.endswith(OTHER_HALF)]
    pairs = [(model, SERVED_ONLY, answers) for model in mixed if SERVED_ONLY in models]
    unseen = answers.filter(pl.col("half") == 1)
    pairs += [(model, model + OTHER_HALF, unseen) for model in models if model + OTHER_HALF in models]
    pairs += [(ALIGNED, "before alignment", answers)] * (ALIGNED in models)
    rows = []
    for one, other, among in pairs:
        seen = among.filter(pl.col("wording") == "seen")
        for (way, kind), answers_to in seen.group_by(["way", "kind"], maintain_order=True):
            first, second = (answers_to.filter(pl.col("model") == model) for model in (one, other))
            if len(first) and len(second):
                compared = {"first": one, "second": other, "way": way, "kind": kind}
                rows.append({**compared, **difference(first, second)})
    return rows


def tables(record: Mapping[str, Any]) -> dict[str, Table]:
    """Title -> table: the share of correct answers, and the paired differences where there are any."""
    shown = {"Correct answers": _accuracy_table(record)}
    return {**shown, "Differences": _difference_table(record)} if record["differences"] else shown


def markdown(record: Mapping[str, Any]) -> str:
    """The tables, the questions and how to read them."""
    blocks = [
        f"# {TITLE}",
        "\n".join(f"- *{kind}*: {question}" for kind, question in record["kinds"].items()),
    ]
    for title, table in tables(record).items():
        blocks += [f"## {title}", markdown_table(table)]
    blocks += ["## How to read it", "\n".join(f"- {escaped(sentence, 600)}" for sentence in _reading(record))]
    return "\n\n".join(blocks) + "\n"


def html(record: Mapping[str, Any]) -> str:
    """One page without any reference to the outside."""
    origin = {"version": __version__, "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())}
    template = environment().get_template("probe.html.jinja")
    content = {
        "title": TITLE,
        "kinds": record["kinds"],
        "tables": tables(record),
        "reading": _reading(record),
    }
    return template.render(**content, origin=origin, machine=facts(hardware_facts()))


def write_probe(record: Mapping[str, Any], folder: Path) -> Path:
    """Write probe.json, probe.md and probe.html into `folder`, each renamed into place, and return the path
    of the page.

    Raises NoSpace when the device is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rendered = {
        "probe.json": json.dumps(record, indent=1) + "\n",
        "probe.md": markdown(record),
        "probe.html": html(record),
    }
    write_texts(folder, rendered)
    return folder / "probe.html"


def _reading(record: Mapping[str, Any]) -> tuple[str, ...]:
    return (*READING, *READING_A_WORLD) if record["trainings"] else READING


def _accuracy_table(record: Mapping[str, Any]) -> Table:
    """A row per model and way, a column per kind of question; chance first."""
    chance = {row["kind"]: row["chance"] for row in record["accuracy"]}
    cells: dict[tuple[str, str], dict[str, Cell]] = {
        ("chance", ""): {kind: Cell(f"{chance[kind]:.2f}") for kind in chance}
    }
    for row in record["accuracy"]:
        way = row["way"] + (", held-out templates" if row["wording"] == "held out" else "")
        cell = Cell(f"{row['accuracy']:.2f}", f"[{row['low']:.2f}, {row['high']:.2f}]")
        cells.setdefault((row["model"], way), {})[row["kind"]] = cell
    return _table(("model", "asked by"), cells, list(record["kinds"]))


def _difference_table(record: Mapping[str, Any]) -> Table:
    """A row per pair of models and way; a cell whose interval does not hold zero is marked."""
    cells: dict[tuple[str, str], dict[str, Cell]] = {}
    for row in record["differences"]:
        clear = row["low"] > 0 or row["high"] < 0
        cell = Cell(f"{row['value']:+.2f}", f"[{row['low']:+.2f}, {row['high']:+.2f}]", clear)
        cells.setdefault((f"{row['first']} minus {row['second']}", row["way"]), {})[row["kind"]] = cell
    return _table(("difference", "asked by"), cells, list(record["kinds"]))


def _table(
    headings: tuple[str, str], cells: Mapping[tuple[str, str], Mapping[str, Cell]], kinds: list[str]
) -> Table:
    missing = Cell(numbers.MISSING)
    rows = tuple((*map(Cell, key), *(row.get(kind, missing) for kind in kinds)) for key, row in cells.items())
    return Table((*headings, *kinds), rows, words=2)
