"""An ablation inside a run's folder is a part of its report."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from shelftalk.errors import UnreadableFile
from shelftalk.report import tables
from shelftalk.report.ablations import ablations
from shelftalk.report.content import AblationTable, Difference, ReportContent
from shelftalk.report.render import render_html, render_markdown

GAP = {
    "variant": "+ masked items", "metric": "retrieval ndcg@10", "value": 0.01, "low": 0.002, "high": 0.018,
    "p": 0.004, "p_holm": 0.02,
}  # fmt: skip


def written(folder, **changes):
    result = {"name": "tasks", "part": "test", "baseline": "alone", "tokens": 4000000, "seeds": [0, 1]}
    path = folder / "ablation" / "ablation.json"
    path.parent.mkdir()
    path.write_text(json.dumps({**result, "gaps": [GAP], **changes}))
    return path


def test_it_is_read_from_its_own_result(tmp_path) -> None:
    written(tmp_path)
    (one,) = ablations(tmp_path)
    assert one == AblationTable(
        "tasks",
        "ablation/ablation.html",
        "alone",
        "Seeds 0, 1, 4,000,000 training tokens each, evaluated on the test part.",
        (Difference("+ masked items", "alone", "retrieval ndcg@10", 0.01, 0.002, 0.018, 0.02),),
    )
    assert ablations(tmp_path / "ablation") == ()


def test_a_damaged_result_is_named_with_a_remedy_that_works(tmp_path) -> None:
    path = written(tmp_path, gaps=[{}])
    with pytest.raises(UnreadableFile, match=r"ablation\.json.*or remove that folder") as raised:
        ablations(tmp_path)
    assert str(path) in str(raised.value)
    path.unlink()
    path.parent.rmdir()
    assert ablations(tmp_path) == ()


def test_a_difference_is_marked_only_where_it_is_clear_after_adjusting() -> None:
    clear = Difference("v", "alone", "retrieval ndcg@10", 0.01, 0.002, 0.018, 0.02)
    by_interval, by_p = replace(clear, low=-0.001), replace(clear, p=0.06)
    assert [tables.clear_of_chance(one) for one in (clear, by_interval, by_p)] == [True, False, False]
    table = tables.ablation_table(AblationTable("tasks", "a/ablation.html", "alone", "", (clear,)))
    assert table.columns == ("variant \u2212 alone", "retrieval NDCG@10")
    cell = table.rows[0][1]
    assert (cell.text, cell.note, cell.best) == ("+.0100", "[+.0020, +.0180] p .020", True)


def test_the_page_and_the_markdown_show_it_and_lead_to_its_own_report(content: ReportContent) -> None:
    for text in (render_html(content), render_markdown(content)):
        assert "auxiliary-tasks/ablation.html" in text and "+ masked items" in text and "+.0081" in text
    without = replace(content, ablations=())
    assert "Ablations" not in render_html(without) and "Ablations" not in render_markdown(without)
