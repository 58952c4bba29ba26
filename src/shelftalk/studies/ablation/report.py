"""The result of an ablation as JSON, Markdown and one self-contained page, and as the tables that all of them
show."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from shelftalk.evaluation.metrics import lower_is_better
from shelftalk.report import numbers, plots
from shelftalk.report.content import Difference
from shelftalk.report.markdown import page_of
from shelftalk.report.render import environment, origin
from shelftalk.report.tables import Cell, Table, facts
from shelftalk.runtime.run_folder import write_texts
from shelftalk.studies.ablation.grid import ITEM_KNN
from shelftalk.studies.ablation.result import COSTS, Ablation, VariantGap, VariantResult

COST_TITLES = {
    "tokens": "tokens read",
    "targets": "of them bear loss",
    "epochs_seen": "epochs",
    "training_seconds": "training",
    "tokens_per_second": "tokens/s",
    "peak_gigabytes": "memory",
    "evaluation_seconds": "evaluation",
}
PRINTED_COSTS = ("tokens", "targets", "tokens_per_sample", "epochs_seen", "training_seconds")


def write_reports(result: Ablation, out: Path) -> Path:
    """Write ablation.json, ablation.md and ablation.html into `out`, each renamed into place; returns the
    path of the page."""
    rendered = {
        "ablation.json": as_json(result),
        "ablation.md": as_markdown(result),
        "ablation.html": as_html(result),
    }
    write_texts(out, rendered)
    return out / "ablation.html"


def as_json(result: Ablation) -> str:
    """The record itself, with what it was measured on."""
    gaps = [{**asdict(gap), "clear": gap.clear} for gap in result.gaps]
    return json.dumps({**asdict(result), "gaps": gaps, **origin()}, indent=1, ensure_ascii=False) + "\n"


def as_markdown(result: Ablation) -> str:
    """The tables and the sentences that they need."""
    return page_of(result.name, summary(result), tables(result), result.read_beside)


def as_html(result: Ablation) -> str:
    """One page without any reference to the outside; names of variants are escaped."""
    template = environment().get_template("ablation.html.jinja")
    panels = [plots.difference_panel(*plot) for plot in _plots(result)]
    measured_on = origin()
    return template.render(
        result=result,
        summary=summary(result),
        tables=tables(result),
        panels=panels,
        origin=measured_on,
        machine=facts(measured_on["machine"]),
    )


def summary(result: Ablation) -> str:
    """One sentence about what was compared on what."""
    requests = ", ".join(
        f"{task} {numbers.count(n)} {'ratings' if task == 'rating' else 'users'}"
        for task, n in result.evaluated.items()
    )
    return (
        f"{len(result.variants)} variants, seeds {', '.join(map(str, result.seeds))}, "
        f"{numbers.count(result.tokens)} training tokens each; evaluated on the {result.part} part "
        f"({requests}); differences to “{result.baseline}”."
    )


def tables(result: Ablation) -> dict[str, Table]:
    """Title -> table: figures, differences, costs, runs."""
    shown = {
        "Figures": _figures(result),
        f"Differences to “{result.baseline}”": _differences(result),
        "Costs": _costs(result),
    }
    return {**shown, "Runs": _runs(result)}


def printed_tables(result: Ablation) -> dict[str, Table]:
    """As `tables`, as much of it as a terminal shows."""
    shown = tables(result)
    return {
        **{title: shown[title] for title in list(shown)[:2]},
        "Costs, means over the seeds": _costs(result, PRINTED_COSTS),
    }


def _figures(result: Ablation) -> Table:
    names = list(result.variants[0].metrics)
    rows = tuple(
        (Cell(variant.name), *(_figure(variant, name) for name in names)) for variant in result.variants
    )
    return Table(("variant", *map(_metric_title, names)), rows)


def _figure(variant: VariantResult, name: str) -> Cell:
    values = variant.per_seed.get(name, ())
    note = (
        f"{numbers.figure(min(values))} to {numbers.figure(max(values))}"
        if values and min(values) < max(values)
        else ""
    )
    return Cell(numbers.figure(variant.metrics.get(name)), note)


def _differences(result: Ablation) -> Table:
    names = list(dict.fromkeys(gap.metric for gap in result.gaps))
    known = {(gap.variant, gap.metric): gap for gap in result.gaps}
    others = [variant.name for variant in result.variants if variant.name != result.baseline]
    rows = tuple(
        (Cell(other), *(_difference(known.get((other, name))) for name in names)) for other in others
    )
    return Table(("variant", *map(_metric_title, names)), rows)


def _difference(gap: VariantGap | None) -> Cell:
    if gap is None:
        return Cell(numbers.MISSING)
    note = f"{numbers.signed_interval(gap.low, gap.high)} p {numbers.p_value(gap.p_holm)}"
    return Cell(numbers.signed(gap.value), note, gap.clear)


def _costs(result: Ablation, names: Sequence[str] = COSTS) -> Table:
    trained = [variant for variant in result.variants if variant.name != ITEM_KNN]
    rows = tuple(
        (Cell(variant.name), *(Cell(_cost(name, variant.costs[name])) for name in names))
        for variant in trained
    )
    return Table(("variant", *map(_cost_title, names)), rows)


def _runs(result: Ablation) -> Table:
    names = list(result.variants[0].metrics)
    costs = ("tokens", "targets", "best_step", "steps", "training_seconds")
    rows = tuple(
        (
            Cell(row["variant"]),
            Cell(str(row["seed"])),
            *(Cell(numbers.figure(row.get(name))) for name in names),
            *(Cell(_cost(name, row[name])) for name in costs),
        )
        for row in result.runs
    )
    return Table(("variant", "seed", *map(_metric_title, names), *map(_cost_title, costs)), rows, words=2)


def _cost_title(name: str) -> str:
    return COST_TITLES.get(name, name.replace("_", " "))


def _cost(name: str, value: float | None) -> str:
    if value is None:
        return numbers.MISSING
    if name.endswith("_seconds"):
        return numbers.duration(value)
    if name == "peak_gigabytes":
        return f"{value:.2f} GB"
    return f"{value:.2f}" if name in ("epochs_seen", "tokens_per_sample") else numbers.count(round(value))


def _metric_title(name: str) -> str:
    """As in "retrieval ndcg@10" -> "retrieval NDCG@10"."""
    task, _, metric = name.partition(" ")
    return f"{task} {numbers.metric_name(metric)}"


def _plots(result: Ablation) -> list[tuple[str, list[Difference]]]:
    """Heading and differences of each plot; item_knn, which may be far off, would leave no room for what is
    compared."""
    shown = [gap for gap in result.gaps if gap.variant != ITEM_KNN]
    names = list(dict.fromkeys(gap.metric for gap in shown))
    return [
        (_heading(name), [_plain(gap, result.baseline) for gap in shown if gap.metric == name])
        for name in names
    ]


def _heading(name: str) -> str:
    return _metric_title(name) + (" (lower is better)" if lower_is_better(name.partition(" ")[2]) else "")


def _plain(gap: VariantGap, baseline: str) -> Difference:
    return Difference(gap.variant, baseline, gap.metric, gap.value, gap.low, gap.high, gap.p_holm)
