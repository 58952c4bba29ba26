"""The reports show the record: differences marked where they are clear, dashes where nothing was measured."""

from __future__ import annotations

import json

import pytest

from benchmarks.ablation import claims
from shelftalk.studies.ablation.report import as_html, as_json, as_markdown, printed_tables, tables
from shelftalk.studies.ablation.result import COSTS, Ablation, VariantGap, VariantResult

METRICS = {"retrieval ndcg@10": 0.05, "rating rmse": 0.9}
PER_SEED = {"retrieval ndcg@10": [0.04, 0.06], "rating rmse": [0.9, 0.9]}
ROW = {"training_seconds": 61.0, "targets": 90, "best_step": 3, "steps": 4}


def variant(name: str, **costs: float | None) -> VariantResult:
    return VariantResult(name, {}, METRICS, PER_SEED, {**dict.fromkeys(COSTS), **costs})


def difference(name: str, metric: str, value: float, low: float, high: float, p: float) -> VariantGap:
    return VariantGap(name, metric, value, low, high, p, p, low, high, p, [value, value])


@pytest.fixture
def result() -> Ablation:
    gaps = [
        difference("none | <i>", "retrieval ndcg@10", -0.02, -0.03, -0.01, 0.004),
        difference("item_knn", "retrieval ndcg@10", 0.5, 0.4, 0.6, 0.001),
        difference("none | <i>", "rating rmse", 0.01, -0.01, 0.03, 0.4),
    ]
    variants = [
        variant("all on", tokens=1000.0, training_seconds=61.0),
        variant("none | <i>"),
        variant("item_knn"),
    ]
    runs = [
        {"variant": "all on", "seed": seed, "tokens": 1000 + 10 * seed, **METRICS, **ROW} for seed in (0, 1)
    ]
    runs.append({**runs[0], "variant": "none | <i>", "tokens": 1015})
    return Ablation(
        "toy",
        "test",
        "all on",
        1000,
        [0, 1],
        {"retrieval": 20, "rating": 9},
        variants,
        gaps,
        runs,
        ["Mind the gap."],
    )


def test_a_clear_difference_is_marked_and_another_is_not(result: Ablation) -> None:
    table = tables(result)["Differences to “all on”"]
    (name, retrieval, rating), (knn, _, missing) = table.rows
    assert (name.text, retrieval.text, retrieval.note, retrieval.best) == (
        "none | <i>",
        "−.0200",
        "[−.0300, −.0100] p .004",
        True,
    )
    assert (rating.text, rating.best) == ("+.0100", False)
    assert (knn.text, missing.text) == ("item_knn", "–")


def test_costs_have_a_table_and_item_knn_has_none(result: Ablation) -> None:
    costs = tables(result)["Costs"]
    assert [row[0].text for row in costs.rows] == ["all on", "none | <i>"]
    cells = dict(zip(costs.columns, costs.rows[0], strict=True))
    assert (cells["tokens read"].text, cells["training"].text, cells["steps"].text) == (
        "1,000",
        "1 min 01 s",
        "–",
    )
    assert len(printed_tables(result)) == 3


def test_the_plots_leave_item_knn_out_and_colour_what_is_clear(result: Ablation) -> None:
    page = as_html(result)
    drawings = page.split("<svg")[1:]
    assert len(drawings) == 2
    assert "none | &lt;i&gt;: −.0200" in drawings[0] and "item_knn" not in drawings[0].split("</svg>")[0]
    assert "var(--accent" in drawings[0] and "var(--accent" not in drawings[1].split("</svg>")[0]


def test_names_break_neither_table_nor_page(result: Ablation) -> None:
    assert "none \\| \\<i\\>" in as_markdown(result) and "<i>" not in as_html(result)
    record = json.loads(as_json(result))
    assert [gap["clear"] for gap in record["gaps"]] == [True, True, False]
    assert record["sentences"] == ["Mind the gap."] and record["machine"]["cores"] >= 1


def test_the_benchmark_reads_its_claims_from_the_record(result: Ablation) -> None:
    with pytest.raises(StopIteration):
        claims({"toy": result})  # no variant of the name "none"
    gap = difference("none", "retrieval ndcg@10", -0.02, -0.03, -0.01, 0.004)
    measured = claims({"toy": Ablation(**{**vars(result), "gaps": [gap]})})
    assert [(claim.value, claim.holds) for claim in measured] == [
        (0.015, True),
        (61.0, True),
        ("toy 0.0200 [0.0100, 0.0300]", True),
    ]
