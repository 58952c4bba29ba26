"""Ablations whose folder is in the run's: their differences, read from the JSON that each of them writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shelftalk.errors import reading
from shelftalk.report import numbers
from shelftalk.report.content import AblationTable, Difference

RESULT, PAGE = "ablation.json", "ablation.html"


def ablation_files(folder: Path) -> list[Path]:
    """The results of ablations in the folders directly inside a run's, in the order of their names."""
    return sorted(folder.glob(f"*/{RESULT}"))


def ablations(folder: Path) -> tuple[AblationTable, ...]:
    """The ablations inside a run's folder. Raises UnreadableFile for a damaged result."""
    return tuple(_table(path, folder) for path in ablation_files(folder))


def _table(path: Path, folder: Path) -> AblationTable:
    remedy = f'run `shelftalk ablate` with --out "{path.parent}" again, or remove that folder'
    with reading(f'"{path}" is no result of an ablation', remedy):
        result: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
        seeds, tokens = ", ".join(map(str, result["seeds"])), numbers.count(result["tokens"])
        return AblationTable(
            name=result["name"],
            page=path.with_name(PAGE).relative_to(folder).as_posix(),
            baseline=result["baseline"],
            summary=f"Seeds {seeds}, {tokens} training tokens each, evaluated on the {result['part']} part.",
            differences=tuple(_difference(gap, result["baseline"]) for gap in result["gaps"]),
        )


def _difference(gap: Mapping[str, Any], baseline: str) -> Difference:
    return Difference(
        gap["variant"], baseline, gap["metric"], gap["value"], gap["low"], gap["high"], gap["p_holm"]
    )
