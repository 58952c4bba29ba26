"""What each auxiliary task gives at equal tokens, on the bundled data and on Amazon Beauty, nano model, three
seeds.

The grids are those of experiments/ablations, and so are the folders: what `shelftalk ablate` has finished is
not done again. Amazon Beauty is left out where it is not at hand (see benchmarks/item_knn.py).
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks._nano import bundled_hash
from benchmarks.harness import Claim, Result, data_hash
from benchmarks.item_knn import BEAUTY
from shelftalk.app.console import Progress
from shelftalk.evaluation.over_seeds import gap
from shelftalk.studies.ablation.grid import Grid, load_grid
from shelftalk.studies.ablation.result import COMPARED, Ablation, VariantGap
from shelftalk.studies.ablation.study import ablate, run_of
from shelftalk.studies.token_budget.run import read_tables

GAIN = "retrieval ndcg@10"
CLAIMS = [
    "With one seed, all runs of a data set read the same number of training tokens, within 2 %",
    "Every training took at most 10 minutes",
    "All three auxiliary tasks together raise retrieval NDCG@10 against none of them, in each data set "
    "(interval clear of zero)",
]
REPOSITORY = Path(__file__).resolve().parents[1]
GRIDS = {"movielens-small": "auxiliary-tasks", "beauty": "beauty-auxiliary-tasks"}
ON_TOP = "beauty-on-top"
"""All on with so many tokens that the served tasks are seen as often as by the mixture without auxiliary
tasks."""
FOLDER = Path("runs/ablations")
QUICK = {"tokens": 150_000, "users": 300, "ratings": 500}
LONGEST = 600.0
"""Seconds of one training."""


def main(quick: bool) -> Result:
    """--quick: one seed, few tokens, the bundled data alone."""
    data = bundled_hash()
    results = {"movielens-small": _measured(_grid("movielens-small", quick), quick)}
    if not quick and BEAUTY.exists():
        results["beauty"] = _measured(_grid("beauty", quick), quick)
        data["beauty"] = data_hash(BEAUTY.glob("*.parquet"))
    elif not quick:
        print(f"Amazon Beauty is left out: there is no {BEAUTY}.", flush=True)
    rows = [row for name, ablation in results.items() for row in _rows(name, ablation)]
    if "beauty" in results:
        on_top = _measured(_grid(ON_TOP, quick), quick)
        rows += [{"row": "run", "data": ON_TOP, **_rounded(run)} for run in on_top.runs]
        rows += _on_top(_grid("beauty", quick), _grid(ON_TOP, quick))
    return Result(0, claims(results), rows, data)


def _on_top(equal: Grid, longer: Grid) -> list[dict[str, Any]]:
    """All on with more tokens minus none with the usual ones, on the same users: equal in served samples, not
    in tokens."""
    none = next(variant for variant in equal.variants if variant.name == "none")
    sides = []
    for variant, grid in ((longer.baseline, longer), (none, equal)):
        runs = [run_of(variant, seed, FOLDER / grid.settings.name) for seed in grid.settings.seeds]
        sides.append([read_tables(run.folder) for run in runs])
    rows = []
    for task, metrics in COMPARED.items():
        if all(task in tables for side in sides for tables in side):
            for metric in metrics:
                one = gap(*([tables[task] for tables in side] for side in sides), metric)
                seeds = [round(value, 4) for value in one.per_seed]
                figures = {
                    "value": round(one.value, 5),
                    "low": round(one.low, 5),
                    "high": round(one.high, 5),
                    "per_seed": seeds,
                }
                rows.append({"row": "on top", "data": "beauty", "metric": f"{task} {metric}", **figures})
    return rows


def _grid(name: str, quick: bool) -> Grid:
    path = REPOSITORY / "experiments" / "ablations" / f"{GRIDS.get(name, name)}.toml"
    grid = load_grid(path, (0,) if quick else None, None if name == "movielens-small" else BEAUTY)
    return replace(grid, settings=grid.settings.model_copy(update=QUICK)) if quick else grid


def _measured(grid: Grid, quick: bool) -> Ablation:
    """In a fixed folder under the working directory, so that an interrupted benchmark continues."""
    with Progress() as progress:
        return ablate(
            grid, FOLDER / (grid.settings.name + (".quick" if quick else "")), progress, progress.print_line
        )[0]


def claims(results: dict[str, Ablation]) -> list[Claim]:
    """The claims with what was measured, from the results alone."""
    apart = max(_apart(ablation) for ablation in results.values())
    seconds = [row["training_seconds"] for ablation in results.values() for row in ablation.runs]
    longest = max(second for second in seconds if second is not None)
    gaps = {name: _gap(ablation, "none") for name, ablation in results.items()}
    measured = "; ".join(
        f"{name} {-gap.value:.4f} [{-gap.high:.4f}, {-gap.low:.4f}]" for name, gap in gaps.items()
    )
    return [
        Claim(CLAIMS[0], round(apart, 5), "<= 0.02", apart <= 0.02),
        Claim(CLAIMS[1], longest, f"<= {LONGEST:.0f} seconds", longest <= LONGEST),
        # a gap is none minus all on
        Claim(CLAIMS[2], measured, "low end > 0", all(gap.high < 0 for gap in gaps.values())),
    ]


def _apart(ablation: Ablation) -> float:
    """By how much the most tokens exceed the fewest, the worst over the seeds."""
    read = {seed: [row["tokens"] for row in ablation.runs if row["seed"] == seed] for seed in ablation.seeds}
    return max(max(tokens) / min(tokens) - 1 for tokens in read.values())


def _gap(ablation: Ablation, variant: str) -> VariantGap:
    return next(gap for gap in ablation.gaps if (gap.variant, gap.metric) == (variant, GAIN))


def _rows(name: str, ablation: Ablation) -> list[dict[str, Any]]:
    """The full tables: figures and costs, differences, runs."""
    shared = {
        "data": name,
        "part": ablation.part,
        "tokens": ablation.tokens,
        "seeds": list(ablation.seeds),
        **ablation.evaluated,
    }
    figures = [
        {"variant": v.name, **_rounded(v.metrics), "costs": _rounded(v.costs)} for v in ablation.variants
    ]
    gaps = [
        {**_rounded(asdict(gap)), "per_seed": [round(one, 4) for one in gap.per_seed], "clear": gap.clear}
        for gap in ablation.gaps
    ]
    return [
        {"row": "ablation", **shared, "baseline": ablation.baseline, "sentences": list(ablation.sentences)},
        *({"row": "variant", "data": name, **figure} for figure in figures),
        *({"row": "difference", "data": name, **gap} for gap in gaps),
        *({"row": "run", "data": name, **_rounded(run)} for run in ablation.runs),
    ]


def _rounded(row: Any) -> dict[str, Any]:
    return {key: round(value, 5) if isinstance(value, float) else value for key, value in row.items()}
