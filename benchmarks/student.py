"""A student of the bundled model: how much of its teacher's quality it keeps, and how long it takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks._nano import bundled_hash
from benchmarks._served import published
from benchmarks.harness import Claim, Result
from shelftalk.baselines.neural.sasrec import fit_sasrec
from shelftalk.baselines.neural.settings import SasRecSettings
from shelftalk.baselines.neural.student import StudentSettings
from shelftalk.pipeline.distilling import TIMED, distil, latency, quality
from shelftalk.records import Ranking, Request
from shelftalk.serving.answering import Asked, TwoStage, open_answering

CLAIMS = [
    "The student answers a request in less than 5 ms (median, one at a time, one thread)",
    "It keeps at least 90 % of its teacher's NDCG@10 on the test part",
    "It is better than a sasrec of the same size without a teacher",
]
SEED = 0
WIDTHS, QUICK_WIDTHS = (32, 64, 128), (64,)
PREFIXES, QUICK_PREFIXES = 8, 2
EPOCHS, QUICK_EPOCHS = 100, 8
TWO_STAGE = "student retrieves, teacher re-ranks"
RETRIEVED = 100
"""Items of the student's that the teacher re-ranks."""


class _TwoStage:
    """What `shelftalk serve MODEL --retriever STUDENT` answers, without the HTTP."""

    name = TWO_STAGE

    def __init__(self, teacher: Path, student: Path) -> None:
        self.model = TwoStage(open_answering(teacher), open_answering(student), RETRIEVED)

    def recommend(self, requests: Sequence[Request], k: int) -> list[Ranking]:
        return self.model.answer("recommend", [Asked(request, k) for request in requests])


def main(quick: bool) -> Result:
    widths, prefixes = (QUICK_WIDTHS, QUICK_PREFIXES) if quick else (WIDTHS, PREFIXES)
    epochs = QUICK_EPOCHS if quick else EPOCHS
    rows = []
    with published() as (run, model, scratch):
        requests = run.split.retrieval_requests("test")[0][:TIMED]
        for width in widths:
            settings = StudentSettings(width=(width,), epochs=epochs)
            done = distil(model, run, scratch / f"student-{width}", settings, prefixes=prefixes)
            teacher = next(name for name in done.metrics if name != "student")
            rows += [
                {"model": name, "width": width, **done.metrics[name], **done.milliseconds[name]}
                for name in (("student", teacher) if width == widths[0] else ("student",))
            ]
            if width == widths[0]:
                both = _TwoStage(model, scratch / f"student-{width}")
                rows.append({"model": TWO_STAGE, "width": width, **quality(both, run.split),
                             **latency(both, requests)})  # fmt: skip
            alone = fit_sasrec(run.split, SasRecSettings(width=(width,), epochs=epochs), SEED)
            figures = {**quality(alone, run.split), **latency(alone, requests)}
            rows.append({"model": "sasrec", "width": width, **figures})
    numbers = [{key: one for key, one in row.items() if not isinstance(one, list)} for row in rows]
    return Result(SEED, _claims(numbers), numbers, bundled_hash())


def _claims(rows: list[dict[str, object]]) -> list[Claim]:
    """Of the best student by NDCG@10."""
    of = {name: [row for row in rows if row["model"] == name] for name in ("student", "sasrec")}
    best = max(of["student"], key=lambda row: float(row["ndcg@10"]))  # type: ignore[arg-type]
    (teacher,) = (row for row in rows if row["model"] not in (*of, TWO_STAGE))
    alone = next(row for row in of["sasrec"] if row["width"] == best["width"])
    kept = float(best["ndcg@10"]) / float(teacher["ndcg@10"])  # type: ignore[arg-type]
    gain = float(best["ndcg@10"]) - float(alone["ndcg@10"])  # type: ignore[arg-type]
    p50 = float(best["p50"])  # type: ignore[arg-type]
    return [
        Claim(CLAIMS[0], round(p50, 2), "< 5 ms", p50 < 5),
        Claim(CLAIMS[1], round(kept, 3), ">= 0.9", kept >= 0.9),
        Claim(CLAIMS[2], round(gain, 4), "> 0 in NDCG@10", gain > 0),
    ]
