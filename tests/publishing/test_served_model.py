"""What `shelftalk.load` gives: one history or many requests, texts, displays, and refusals in a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

import shelftalk
from shelftalk import Filter, Request, Text
from shelftalk.errors import BadRequest, HubError, MissingFile, SettingsError, UnknownItem
from shelftalk.publishing import open_recommender
from shelftalk.publishing.display import RankedItems, Reasons
from shelftalk.publishing.loading import fetched
from shelftalk.publishing.served_model import ServedModel
from shelftalk.records import Contribution, Explanation, Ranking

EVIL = '<script>alert("1")</script>\n\x1b[31m & more'


@pytest.fixture(scope="module")
def model(published: Path) -> ServedModel:
    return shelftalk.load(published)


@pytest.fixture(scope="module")
def items(model: ServedModel) -> list[str]:
    return model.items["item_id"].to_list()


def test_one_history_is_answered_as_a_batch_of_one(
    model: ServedModel, items: list[str], published: Path
) -> None:
    inside, history = open_recommender(published), items[:3]
    (ranking,) = inside.recommend([Request("", tuple(history))], 7)
    answer = model.recommend(history, 7)
    assert answer.ranking == ranking and len(answer) == 7
    assert [row.item for row in answer] == list(ranking.items) and answer[0].score == ranking.scores[0]
    titles = dict(model.items.select("item_id", "title").iter_rows())
    assert all(row.title == titles[row.item] or not titles[row.item] for row in answer)
    candidates = items[5:9]
    (ranked,) = inside.rank([Request("", tuple(history), candidates=tuple(candidates))])
    assert model.rank(history, candidates).ranking == ranked
    request = Request("", tuple(history), (1.0, None, 4.0), item=items[9])
    assert model.rate(history, items[9], [1.0, None, 4.0]) == inside.rate([request])[0]


def test_many_requests_give_plain_values_in_their_order(
    model: ServedModel, items: list[str], published: Path
) -> None:
    requests = [
        Request(f"u{n}", tuple(items[n : n + 3]), candidates=tuple(items[20:25]), item=items[9])
        for n in range(5)
    ]
    inside = open_recommender(published)
    assert model.recommend(requests, 4) == inside.recommend(requests, 4)
    assert model.rank(requests) == inside.rank(requests) and model.rate(requests) == inside.rate(requests)


def test_filters_and_excluded_items_are_kept_to(model: ServedModel, items: list[str]) -> None:
    some = tuple(items[10:20])
    answer = model.recommend(items[:2], 5, filters=Filter(only=some), excluded=some[:6])
    assert set(answer.items) == set(some[6:])


def test_an_empty_history_is_that_of_somebody_unknown(model: ServedModel) -> None:
    assert len(model.recommend([], 5)) == len(model.recommend((), 5)) == 5


def test_words_are_a_history_too(model: ServedModel, items: list[str]) -> None:
    words = model.recommend("a lamp of red glass", 5)
    assert words.ranking == model.recommend([Text("a lamp of red glass")], 5).ranking and len(words) == 5
    reasons = model.why([items[0], Text("a lamp")], items[4])
    assert [row[0] for row in reasons.to_polars().rows()] == [items[0], "a lamp"]
    for wrong, match in (
        (items[0], "is an item id"),
        ([items[0], "no such"], "give words as shelftalk.Text"),
    ):
        with pytest.raises((BadRequest, UnknownItem), match=match):
            model.recommend(wrong, 5)
    assert model.recommend([items[0], Text("no such")], 5) and model.recommend([items[0]], 5)  # as they say


def test_neighbours_and_reasons_have_titles(model: ServedModel, items: list[str]) -> None:
    near = model.similar(items[3], 4)
    assert near.ranking == model.language_model.similar(items[3], 4) and "similarity" in str(near)
    reasons = model.why(items[:3], items[4])
    assert reasons.explanation == model.language_model.why(items[:3], items[4])
    falls = reasons.to_polars()["fall"].to_list()
    assert falls == [one.fall for one in reasons.explanation.contributions] and len(falls) == 3


def test_what_a_call_may_not_mix_is_refused(model: ServedModel, items: list[str]) -> None:
    requests = [Request("", (items[0],))]
    calls: list[Any] = [
        lambda: model.recommend(requests, 3, filters=Filter(only=tuple(items))),
        lambda: model.rank(requests, items[:3]),
        lambda: model.rate(requests, items[0]),
        lambda: model.rank(items[:2]),
        lambda: model.rate(items[:2]),
    ]
    for call in calls:
        with pytest.raises(BadRequest) as refused:
            call()
        assert "; " in str(refused.value) and str(refused.value).endswith(".")


def test_a_table_of_foreign_titles_is_escaped_and_one_line(tmp_path: Path) -> None:
    answer = RankedItems(Ranking("", ("<i>", "b"), (0.5, -1.25)), (EVIL, ""))
    html, text = answer._repr_html_(), str(answer)
    assert (
        "<script>" not in html
        and "&lt;script&gt;" in html
        and "<i>" not in html
        and "\x1b" not in html + text
    )
    assert text.count("\n") == 2 and "0.5000" in text and "-1.2500" in html and repr(answer) == text
    assert answer.to_polars().equals(
        pl.DataFrame({"item": ["<i>", "b"], "title": [EVIL, ""], "score": [0.5, -1.25]})
    )
    assert answer[:1] == [("<i>", EVIL, 0.5)] and answer[-1].item == "b"
    explanation = Explanation("<i>", -2.0, (Contribution("a", -0.5), Contribution(Text(EVIL), 0.25)))
    reasons = Reasons(explanation, EVIL, ("<b>A</b>", EVIL))
    html, text = reasons._repr_html_(), str(reasons)
    assert "<script>" not in html and "<b>" not in html and "\x1b" not in html + text
    assert html.index("+0.2500") < html.index("-0.5000") and text.count("\n") == 3
    empty = RankedItems(Ranking("", (), ()), ())
    assert "<tbody></tbody>" in empty._repr_html_() and empty.to_polars().height == 0


def test_other_settings_give_another_model(
    model: ServedModel, items: list[str], with_its_prior: Path
) -> None:
    assert model.with_settings(beams=1).language_model.settings.beams == 1
    assert (
        model.language_model.settings.beams == 20
        and len(model.with_settings(beams=1).recommend(items[:2], 3)) == 3
    )
    combined = shelftalk.load(with_its_prior).with_settings(beams=5)
    assert combined.name == "aligned+prior" and combined.language_model.settings.beams == 5
    assert repr(model) == "ServedModel('aligned', 50 items, retrieval, ranking, rating)"
    requests = [Request("", tuple(items[:2]), item=items[5])]
    assert model.ratings(requests).means.tolist() == model.rate(requests)


def test_a_name_on_a_hub_is_fetched_and_opened(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: list[Any] = []

    def download(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision))
        assert {"shelftalk.json", "README.md", "*.safetensors"} <= {*allow_patterns}
        return str(published)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert shelftalk.load("owner/model", revision="abc").name == "aligned" and asked == [
        ("owner/model", "abc")
    ]
    with pytest.raises(HubError, match="has no revisions"):
        shelftalk.load(published, revision="abc")


def test_a_hub_that_does_not_give_it_is_one_sentence() -> None:
    with pytest.raises(HubError, match="is no folder here, and the hub does not give it") as refused:
        shelftalk.load("owner/no-such-model")  # tests are offline
    assert "\n" not in str(refused.value) and str(refused.value).endswith(".")
    with pytest.raises(HubError, match="disk is full"):
        fetched("owner/model", None, lambda *_, **__: (_ for _ in ()).throw(OSError("disk is full")))
    with pytest.raises(MissingFile):
        shelftalk.load("no/such/folder")


def test_what_is_no_language_model_says_so(model: ServedModel) -> None:
    from shelftalk.baselines.popularity import fit_popularity
    from shelftalk.testing.exams import exam_split

    plain = ServedModel(fit_popularity(exam_split()), exam_split().dataset.items)
    assert plain.tasks == ("retrieval", "ranking") and len(plain.recommend(["i1"], 3)) == 3
    with pytest.raises(SettingsError, match="is no language model"):
        plain.language_model  # noqa: B018
    with pytest.raises(SettingsError, match="was not trained on ratings"):
        plain.rate(["i1"], "i2")
