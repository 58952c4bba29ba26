"""The result of a search as JSON, Markdown and one self-contained page, and as the tables that all of them
show."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from shelftalk.report import numbers, plots
from shelftalk.report.markdown import page_of
from shelftalk.report.render import environment, origin
from shelftalk.report.tables import Cell, Table, facts
from shelftalk.runtime.run_folder import beside, space_needed
from shelftalk.studies.tuning.result import Finalist, Tuned, Tuning
from shelftalk.studies.tuning.search import Trial
from shelftalk.studies.tuning.space import told

NOTE = (
    "Each dot is a trial; those that were trained again for the finals are in colour. A hollow triangle at the foot is a trial without a "
    "value: ended early, or failed."
)


def write_reports(found: Tuning, out: Path) -> Path:
    """Write tune.json, tune.md and tune.html into `out`, each renamed into place; returns the path of the
    page."""
    rendered = {"tune.json": as_json(found), "tune.md": as_markdown(found), "tune.html": as_html(found)}
    for name, text in rendered.items():
        with space_needed(out), beside(out / name) as part:
            part.write_text(text, encoding="utf-8")
    return out / "tune.html"


def as_json(found: Tuning) -> str:
    """The record itself, with what it was measured on."""
    return json.dumps({**asdict(found), **origin()}, indent=1, ensure_ascii=False) + "\n"


def as_markdown(found: Tuning) -> str:
    """The tables and the sentences that they need."""
    return page_of(found.name, lede(found), tables(found), found.sentences)


def as_html(found: Tuning) -> str:
    """One page without any reference to the outside; names and values are escaped."""
    template = environment().get_template("tuning.html.jinja")
    measured_on = origin()
    return template.render(
        result=found,
        summary=lede(found),
        note=NOTE,
        tables=tables(found),
        panels=panels(found),
        origin=measured_on,
        machine=facts(measured_on["machine"]),
    )


def lede(found: Tuning) -> str:
    """One sentence about what was tried, and what won."""
    winner = found.winner
    spread = f" ± {numbers.figure(winner.deviation)}" if winner.deviation is not None else ""
    return (
        f"{numbers.count(len(found.trials))} trials of {numbers.count(found.tokens)} training tokens, judged by "
        f"{metric_title(found)} on the validation part; the best few trained again with seeds {', '.join(map(str, found.seeds))}. "
        f"Chosen: “{winner.name}”, {numbers.figure(winner.mean)}{spread} over the seeds."
    )


def metric_title(found: Tuning) -> str:
    """As in "retrieval NDCG@10", and whether it is an error."""
    task, _, metric = found.metric.partition(" ")
    return f"{task} {numbers.metric_name(metric)}" + (" (lower is better)" if found.lower_is_better else "")


def tables(found: Tuning) -> dict[str, Table]:
    """Title -> table: the finals, the chosen settings, every trial."""
    return {"Finals": _finals(found), "Settings": _settings(found), "Trials": _trials(found)}


def printed_tables(found: Tuning) -> dict[str, Table]:
    """As `tables`, as much of it as a terminal shows."""
    shown = tables(found)
    return {title: shown[title] for title in ("Finals", "Settings")}


def panels(found: Tuning) -> list[plots.Panel]:
    """Value against trial, and against each setting of the space."""
    again = {finalist.name for finalist in found.finalists}
    by_trial = [_dot(trial.number, trial, found.metric, again) for trial in found.trials]
    drawn = [plots.scatter_panel(f"{metric_title(found)} by trial", "trial", by_trial)]
    for setting in found.settings:
        dots = [_dot(_position(setting, trial), trial, found.metric, again) for trial in found.trials]
        drawn.append(plots.scatter_panel(setting.name, _axis(setting), dots, setting.logarithmic))
    return drawn


def _axis(setting: Tuned) -> str:
    return setting.name.rpartition(".")[2] + (", log" if setting.logarithmic else "")


def _position(setting: Tuned, trial: Trial) -> float | str:
    value = trial.values[setting.name]
    return numbers.shorten(told(value), 30) if setting.choices else float(value)


def _dot(x: float | str, trial: Trial, metric: str, again: set[str]) -> plots.Dot:
    said = numbers.figure(trial.value) if trial.value is not None else trial.reason
    where = ", ".join(f"{name} {told(value)}" for name, value in trial.values.items())
    tip = numbers.shorten(f"trial {trial.number}: {said}; {where}", 400)
    return plots.Dot(x, trial.value, tip, f"trial {trial.number}" in again)


def _finals(found: Tuning) -> Table:
    rows = tuple(
        (
            Cell(finalist.name),
            Cell(numbers.figure(finalist.mean), best=finalist.name == found.chosen),
            Cell(numbers.figure(finalist.deviation)),
            *(Cell(numbers.figure(value)) for value in finalist.per_seed),
            Cell(numbers.figure(finalist.searched)),
        )
        for finalist in found.finalists
    )
    return Table(
        (
            "",
            f"mean {metric_title(found)}",
            "deviation",
            *(f"seed {seed}" for seed in found.seeds),
            "in the search",
        ),
        rows,
    )


def _settings(found: Tuning) -> Table:
    rows = tuple(
        (
            Cell(s.name),
            Cell(s.declared),
            Cell(told(s.before)),
            Cell(told(s.chosen)),
            *(_value(f, s) for f in _others(found)),
        )
        for s in found.settings
    )
    names = tuple(finalist.name for finalist in _others(found))
    return Table(("setting", "declared", "as it is", "chosen", *names), rows, words=2)


def _others(found: Tuning) -> list[Finalist]:
    """The finalists that were tried and not chosen."""
    return [finalist for finalist in found.finalists if finalist.values and finalist.name != found.chosen]


def _value(finalist: Finalist, setting: Tuned) -> Cell:
    return Cell(told(finalist.values[setting.name]))


def _trials(found: Tuning) -> Table:
    names = [setting.name for setting in found.settings]
    best = next((f.name for f in found.finalists if f.searched is not None and f.searched == _top(found)), "")
    rows = tuple(
        (
            Cell(str(trial.number)),
            Cell(trial.state),
            Cell(numbers.figure(trial.value), best=f"trial {trial.number}" == best),
            Cell(f"{min(trial.losses):.3f}" if trial.losses else numbers.MISSING),
            *(Cell(told(trial.values[name])) for name in names),
            Cell(numbers.duration(trial.seconds)),
        )
        for trial in found.trials
    )
    return Table(("trial", "state", metric_title(found), "best loss", *names, "time"), rows, words=2)


def _top(found: Tuning) -> float:
    values = [trial.value for trial in found.trials if trial.value is not None]
    return min(values) if found.lower_is_better else max(values)
