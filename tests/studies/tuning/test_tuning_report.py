"""The reports show the record: spread beside the mean, every trial in every plot, foreign names
escaped."""

from __future__ import annotations

import json

import pytest

from shelftalk.studies.tuning.report import as_html, as_json, as_markdown, printed_tables, summary, tables
from shelftalk.studies.tuning.result import AS_IT_IS, Finalist, TunedSetting, Tuning, finalist_of, ranked
from shelftalk.studies.tuning.search import Trial

RATE, WEIRD = "training.learning_rate", "tasks.<i>:Mine.kind"


def trial(number: int, rate: float, value: float | None, reason: str = "") -> Trial:
    state = "finished" if value is not None else "pruned"
    return Trial(number, {RATE: rate, WEIRD: "<b>"}, state, value, [3.0, 2.5], reason, 61.0)


@pytest.fixture
def result() -> Tuning:
    trials = [
        trial(1, 0.001, 0.05),
        trial(2, 0.1, None, "ended early, at validation 2 with loss 2.500"),
        trial(3, 0.01, 0.08),
    ]
    finalists = [finalist_of("trial 3", trials[2], [0.06, 0.08]), finalist_of(AS_IT_IS, None, [0.05, 0.05])]
    settings = [
        TunedSetting(RATE, "0.001 to 0.1, log", True, False, 0.003, 0.01),
        TunedSetting(WEIRD, "<b> or c", False, True, "c", "<b>"),
    ]
    return Tuning(
        "toy",
        "retrieval ndcg@10",
        False,
        1000,
        [1, 2],
        0,
        settings,
        trials,
        finalists,
        "trial 3",
        ["Mind <the> curse."],
    )


def test_the_mean_has_its_spread_and_the_winner_is_marked(result: Tuning) -> None:
    first, second = tables(result)["Finals"].rows
    assert [cell.text for cell in first] == ["trial 3", ".0700", ".0141", ".0600", ".0800", ".0800"]
    assert [cell.text for cell in second] == ["as it is", ".0500", ".0000", ".0500", ".0500", "–"]
    assert (first[1].best, second[1].best) == (True, False)
    assert "3 trials of 1,000 training tokens" in summary(result) and "“trial 3”, .0700 ± .0141" in summary(
        result
    )


def test_a_trial_without_a_value_is_in_the_table_and_in_every_plot(result: Tuning) -> None:
    rows = [[cell.text for cell in row] for row in tables(result)["Trials"].rows]
    assert rows[1] == ["2", "pruned", "–", "2.500", "0.1", "<b>", "1 min 01 s"]
    drawings = as_html(result).split("<svg")[1:]
    assert len(drawings) == 3
    for drawing in drawings:
        assert "trial 2: ended early" in drawing and "trial 3: .0800" in drawing
        assert drawing.split("</svg>")[0].count("var(--accent") == 1, "the finalist alone is in colour"


def test_foreign_names_break_neither_table_nor_page(result: Tuning) -> None:
    assert "<i>" not in as_html(result) and "<b>" not in as_html(result)
    assert "\\<b\\>" in as_markdown(result) and "\\<the\\>" in as_markdown(result)
    record = json.loads(as_json(result))
    assert (
        record["chosen"] == "trial 3"
        and record["trials"][1]["value"] is None
        and record["machine"]["cores"] >= 1
    )
    assert list(printed_tables(result)) == ["Finals", "Settings"]


def test_errors_are_made_small_and_equals_keep_the_experiment_as_it_is() -> None:
    kept, low, high = (
        Finalist(name, {}, None, [mean], mean, None)
        for name, mean in ((AS_IT_IS, 0.9), ("low", 0.8), ("high", 0.9))
    )
    assert [one.name for one in ranked([kept, low, high], lower_is_better=True)] == ["low", AS_IT_IS, "high"]
    assert [one.name for one in ranked([kept, low, high], lower_is_better=False)] == [AS_IT_IS, "high", "low"]
    assert finalist_of("one seed", None, [0.5]).deviation is None
