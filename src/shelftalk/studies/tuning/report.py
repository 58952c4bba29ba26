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
from shelftalk.runtime.run_folder import write_texts
from shelftalk.studies.tuning.result import Finalist, TunedSetting, Tuning
from shelftalk.studies.tuning.search import Trial
from shelftalk.studies.tuning.space import formatted

NOTE = (
    "Each dot is a trial; those that were trained again for the finals are in colour. A hollow triangle at "
    "the foot is a trial without a value: ended early, or failed."
)


def write_reports(result: Tuning, out: Path) -> Path:
    """Write tune.json, tune.md and tune.html into `out`, each renamed into place; returns the path of the
    page."""
    rendered = {"tune.json": as_json(result), "tune.md": as_markdown(result), "tune.html": as_html(result)}
    write_texts(out, rendered)
    return out / "tune.html"


def as_json(result: Tuning) -> str:
    """The record itself, with what it was measured on."""
    return json.dumps({**asdict(result), **origin()}, indent=1, ensure_ascii=False) + "\n"


def as_markdown(result: Tuning) -> str:
    """The tables and the sentences that they need."""
    return page_of(result.name, summary(result), tables(result), result.read_beside)


def as_html(result: Tuning) -> str:
    """One page without any reference to the outside; names and values are escaped."""
    template = environment().get_template("tuning.html.jinja")
    measured_on = origin()
    return template.render(
        result=result,
        summary=summary(result),
        note=NOTE,
        tables=tables(result),
        panels=panels(result),
        origin=measured_on,
        machine=facts(measured_on["machine"]),
    )


def summary(result: Tuning) -> str:
    """One sentence about what was tried, and what won."""
    winner = result.winner
    spread = f" ± {numbers.figure(winner.deviation)}" if winner.deviation is not None else ""
    return (
        f"{numbers.count(len(result.trials))} trials of {numbers.count(result.tokens)} training tokens, "
        f"judged by {metric_title(result)} on the validation part; the best few trained again with seeds "
        f"{', '.join(map(str, result.seeds))}. Chosen: “{winner.name}”, "
        f"{numbers.figure(winner.mean)}{spread} over the seeds."
    )


def metric_title(result: Tuning) -> str:
    """As in "retrieval NDCG@10", and whether it is an error."""
    task, _, metric = result.metric.partition(" ")
    return f"{task} {numbers.metric_name(metric)}" + (" (lower is better)" if result.lower_is_better else "")


def tables(result: Tuning) -> dict[str, Table]:
    """Title -> table: the finals, the chosen settings, every trial."""
    return {"Finals": _finals(result), "Settings": _settings(result), "Trials": _trials(result)}


def printed_tables(result: Tuning) -> dict[str, Table]:
    """As `tables`, as much of it as a terminal shows."""
    shown = tables(result)
    return {title: shown[title] for title in ("Finals", "Settings")}


def panels(result: Tuning) -> list[plots.Panel]:
    """Value against trial, and against each setting of the space."""
    again = {finalist.name for finalist in result.finalists}
    by_trial = [_dot(trial.number, trial, result.metric, again) for trial in result.trials]
    drawn = [plots.scatter_panel(f"{metric_title(result)} by trial", "trial", by_trial)]
    for setting in result.settings:
        dots = [_dot(_x(setting, trial), trial, result.metric, again) for trial in result.trials]
        drawn.append(plots.scatter_panel(setting.name, _axis(setting), dots, setting.logarithmic))
    return drawn


def _axis(setting: TunedSetting) -> str:
    return setting.name.rpartition(".")[2] + (", log" if setting.logarithmic else "")


def _x(setting: TunedSetting, trial: Trial) -> float | str:
    value = trial.values[setting.name]
    return numbers.shorten(formatted(value), 30) if setting.choices else float(value)


def _dot(x: float | str, trial: Trial, metric: str, again: set[str]) -> plots.Dot:
    outcome = numbers.figure(trial.value) if trial.value is not None else trial.reason
    values = ", ".join(f"{name} {formatted(value)}" for name, value in trial.values.items())
    tip = numbers.shorten(f"trial {trial.number}: {outcome}; {values}", 400)
    return plots.Dot(x, trial.value, tip, f"trial {trial.number}" in again)


def _finals(result: Tuning) -> Table:
    rows = tuple(
        (
            Cell(finalist.name),
            Cell(numbers.figure(finalist.mean), best=finalist.name == result.chosen),
            Cell(numbers.figure(finalist.deviation)),
            *(Cell(numbers.figure(value)) for value in finalist.per_seed),
            Cell(numbers.figure(finalist.searched)),
        )
        for finalist in result.finalists
    )
    per_seed = (f"seed {seed}" for seed in result.seeds)
    return Table(("", f"mean {metric_title(result)}", "deviation", *per_seed, "in the search"), rows)


def _settings(result: Tuning) -> Table:
    rows = tuple(
        (
            Cell(s.name),
            Cell(s.declared),
            Cell(formatted(s.before)),
            Cell(formatted(s.chosen)),
            *(_value(other, s) for other in _others(result)),
        )
        for s in result.settings
    )
    names = tuple(finalist.name for finalist in _others(result))
    return Table(("setting", "declared", "as it is", "chosen", *names), rows, words=2)


def _others(result: Tuning) -> list[Finalist]:
    """The finalists that were not chosen, without the experiment as it is."""
    return [finalist for finalist in result.finalists if finalist.values and finalist.name != result.chosen]


def _value(finalist: Finalist, setting: TunedSetting) -> Cell:
    return Cell(formatted(finalist.values[setting.name]))


def _trials(result: Tuning) -> Table:
    names = [setting.name for setting in result.settings]
    searched = [finalist for finalist in result.finalists if finalist.searched is not None]
    best = next((finalist.name for finalist in searched if finalist.searched == _best_value(result)), "")
    rows = tuple(
        (
            Cell(str(trial.number)),
            Cell(trial.state),
            Cell(numbers.figure(trial.value), best=f"trial {trial.number}" == best),
            Cell(f"{min(trial.losses):.3f}" if trial.losses else numbers.MISSING),
            *(Cell(formatted(trial.values[name])) for name in names),
            Cell(numbers.duration(trial.seconds)),
        )
        for trial in result.trials
    )
    return Table(("trial", "state", metric_title(result), "best loss", *names, "time"), rows, words=2)


def _best_value(result: Tuning) -> float:
    values = [trial.value for trial in result.trials if trial.value is not None]
    return min(values) if result.lower_is_better else max(values)
