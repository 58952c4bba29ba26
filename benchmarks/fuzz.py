"""Damaged and made-up files of every format: a result or one clear error, never anything else.

For each format a thousand versions of a small data set with bytes replaced, taken out, put in or cut off, and
for the text formats a thousand files of arbitrary lines from hypothesis. `--quick` has fifty of each.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from benchmarks._fuzzing import KINDS, Outcome, made_up, outcome, read, save, trials, whole_files
from benchmarks.harness import Claim, Result

CLAIMS = [
    "Every damaged file gives a result or one error of ours: never a traceback, and never a hang",
    "Every error names the file",
    "No damaged file gives fewer interactions without a word, but for a text that is in the form of a whole "
    "one, as where it was cut off at the end of a line",
    "Files of arbitrary lines give a result or one error that names the file, too",
]
SEED = 0
VERDICTS = ("result", "error", "no trace", "crash", "hang", "unnamed", "smaller")
TEXTS = ("csv", "tsv", "jsonl")
LINES = st.lists(
    st.text(st.sampled_from(list(",;\t\"'{}[]:0123456789.-eabu \\\r\x00é\ud800")), max_size=40), max_size=12
)


def main(quick: bool) -> Result:
    number = 50 if quick else 1000
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for kind in KINDS:
            rows.append(_row(kind, "bytes damaged", trials(kind, number, SEED, Path(scratch))))
        for kind in TEXTS:
            rows.append(_row(kind, "arbitrary lines", _arbitrary(kind, number, Path(scratch))))
    flipped, made = (
        [row for row in rows if row["how"] == how] for how in ("bytes damaged", "arbitrary lines")
    )
    crashes, unnamed, smaller = (
        sum(row[verdict] for row in flipped for verdict in verdicts)
        for verdicts in (("crash", "hang"), ("unnamed",), ("smaller",))
    )
    wrong = sum(row[verdict] for row in made for verdict in ("crash", "hang", "unnamed"))
    many = sum(row["trials"] for row in flipped)
    claims = [
        Claim(CLAIMS[0], f"{crashes} of {many:,}", "0", crashes == 0),
        Claim(CLAIMS[1], f"{unnamed} of {sum(row['error'] + row['unnamed'] for row in flipped):,}", "0",
              unnamed == 0),
        Claim(CLAIMS[2], f"{smaller} of {many:,}", "0", smaller == 0),
        Claim(CLAIMS[3], f"{wrong} of {sum(row['trials'] for row in made):,}", "0", wrong == 0),
    ]  # fmt: skip
    return Result(SEED, claims, rows)


def _row(kind: str, how: str, outcomes: list[Outcome]) -> dict[str, Any]:
    counted = Counter(one.verdict for one in outcomes)
    wrong = [one.text for one in outcomes if one.verdict not in ("result", "error", "no trace")]
    return {
        "format": kind,
        "how": how,
        "trials": len(outcomes),
        **{verdict: counted[verdict] for verdict in VERDICTS},
        "errors that name a row": sum(one.row for one in outcomes if one.verdict == "error"),
        "examples": wrong[:3],
    }


def _arbitrary(kind: str, number: int, scratch: Path) -> list[Outcome]:
    """Arbitrary lines as interactions beside a whole catalogue."""
    outcomes: list[Outcome] = []
    folder, files = scratch / "data", whole_files(kind)
    save(folder, files)
    before = read(kind, folder)

    @seeded(SEED)
    @settings(
        max_examples=number, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(LINES)
    def trial(lines: list[str]) -> None:
        save(folder, {**files, f"interactions.{kind}": made_up(kind, lines)})
        one = outcome(kind, folder, before)
        # an arbitrary file has no number of interactions that it should have
        outcomes.append(Outcome("result", one.text) if one.verdict == "smaller" else one)

    trial()
    return outcomes
