"""What the benchmark of `make run` reads from a finished run, and what its claims make of it."""

from __future__ import annotations

import copy
import json

from benchmarks import run as benchmark
from shelftalk.runtime.run_folder import RunFolder


def test_its_facts_hold_all_figures_of_the_aligned_model_and_its_claims_follow_from_them(
    finished: RunFolder,
) -> None:
    facts = benchmark._facts(finished.path)
    json.dumps(facts, allow_nan=False)
    assert facts["metrics"] == json.loads(finished.metrics.read_text())
    assert {row["model"] for row in facts["slices"]} == {"aligned"}
    assert {(row["task"].split()[0], row["templates"]) for row in facts["other templates"]} >= {
        ("retrieval", "held out"),
        ("ranking", "seen"),
    }
    run = {"seconds": 700.0, "peak memory GB": 3.0, **facts}
    gap = next(d for d in run["differences"] if (d["second"], d["metric"]) == ("item_knn", "ndcg@10"))
    assert gap["first"].startswith("aligned")
    for low, holds in ((-0.001, False), (0.001, True)):
        other = copy.deepcopy(run)
        for difference in other["differences"]:
            difference["low"] = low
        claims = {claim.claim: claim for claim in benchmark._claims([other])}
        assert claims[benchmark.CLAIMS[4]].holds is holds
        assert f"[{low:.4f}, " in str(claims[benchmark.CLAIMS[4]].value)
