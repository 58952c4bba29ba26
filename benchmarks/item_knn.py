"""item_knn on Amazon 2014 Beauty, through the command line, beside the reference figure of the same recipe.

The data set has no licence that would let it be bundled: name a folder that holds it in SHELFTALK_BEAUTY, or
put it into ../shared/data/beauty.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.harness import Claim, Result, data_hash

CLAIMS = [
    "item_knn, its weights from validation, has Recall@10 of .0934 within .003 on Beauty's test part "
    "(train-only)",
    "Preparing, fitting, recommending and evaluating item_knn and popularity on Beauty takes at most 3 "
    "minutes on 2 cores",
]
BEAUTY = Path(
    os.environ.get("SHELFTALK_BEAUTY", Path(__file__).resolve().parents[2] / "shared" / "data" / "beauty")
)

PUBLISHED = {"k_core": 5, "catalogue": "interacted"}
"""The filter of published data sets, which own files are read without."""


def main(quick: bool) -> Result:
    """The same with --quick: it is quick."""
    if not BEAUTY.is_dir():
        raise SystemExit("Beauty is not on this machine; name its folder in SHELFTALK_BEAUTY.")
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "run"
        command = [
            sys.executable,
            "-m",
            "shelftalk",
            "run",
            "--data",
            str(BEAUTY),
            "--models",
            "item_knn,popularity",
            "--out",
            str(out),
        ]
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.perf_counter() - start
        metrics = json.loads((out / "metrics.json").read_text())
        chosen = json.loads((out / "stages" / "recommend.item_knn.json").read_text())["facts"]["chosen"]
    recall = metrics["retrieval"]["item_knn"]["recall@10"]
    claims = [
        Claim(CLAIMS[0], round(recall, 4), ".0904 to .0964", abs(recall - 0.0934) <= 0.003),
        Claim(CLAIMS[1], round(seconds, 1), "<= 180 seconds", seconds <= 180),
    ]
    return Result(
        0,
        claims,
        [{"seconds": round(seconds, 1), "chosen": chosen, "metrics": metrics}],
        {"beauty": data_hash(BEAUTY.glob("*.parquet"))},
    )
