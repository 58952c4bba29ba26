"""A catalogue that changes while a model answers: what is exact is exact, and what left never comes back."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shelftalk.data.dataset import make_dataset
from shelftalk.data.splitting import Split, SplitSettings, split_leave_one_out
from shelftalk.decoding.language_model import LanguageModelRecommender
from shelftalk.errors import UnknownItem
from shelftalk.indexing import atomic, collaborative, mixed, numbers, semantic, titles
from shelftalk.indexing.item_index import IndexSettings, ItemIndex, split_symbols
from shelftalk.records import Filter, Item, Request
from shelftalk.serving import live_model
from shelftalk.serving.live_catalogue import frame_of
from shelftalk.serving.live_model import LiveLanguageModel
from shelftalk.serving.new_names import NewNames
from shelftalk.serving.store import StoredItem
from shelftalk.testing.exams import RankerExam, RaterExam, RecommenderExam, exam_split
from shelftalk.testing.worlds import EVIL_TEXTS
from tests.decoding.test_language_model import untrained

SMALL = IndexSettings(levels=2, codes=6, dimensions=8, clusters=4, leaf_items=20)
SCHEMES = {
    "titles": titles.build,
    "numbers": numbers.build,
    "atomic": atomic.build,
    "semantic": semantic.build,
    "collaborative": collaborative.build,
    "mixed": mixed.build,
}
NEW = Item("new", "Amber lamps No. 9", "Halden", "lamps", 12.5)
FOREVER = 4e9


def live(scheme: str, split: Split | None = None, family: str = "decoder-only") -> LiveLanguageModel:
    split = split or exam_split()
    index = SCHEMES[scheme](split, SMALL, 0)
    return LiveLanguageModel(untrained(split, index, family))


def untrained_with_titles(frames: tuple[pl.DataFrame, pl.DataFrame]) -> LanguageModelRecommender:
    """An untrained model over a catalogue and events, named by titles."""
    split = split_leave_one_out(make_dataset(*frames), SplitSettings(), 0)
    return untrained(split, titles.build(split, SMALL, 0))


def all_items(model: LanguageModelRecommender, history: tuple[str, ...] = ()) -> list[str]:
    (ranking,) = model.recommend([Request("u", history)], 1000)
    return list(ranking.items)


class TestLiveWithoutChanges(RecommenderExam, RankerExam):
    tolerance = 1e-4

    def build(self, split: Split) -> LanguageModelRecommender:
        return LiveLanguageModel(untrained(split, titles.build(split, SMALL, 0))).model


class TestLiveWithoutChangesAsRater(RaterExam):
    tolerance = 1e-4

    def build(self, split: Split) -> LanguageModelRecommender:
        return LiveLanguageModel(untrained(split, atomic.build(split, SMALL, 0))).model


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_new_item_is_recommended_ranked_rated_and_read_in_a_history(scheme: str) -> None:
    changing = live(scheme)
    before = all_items(changing.model)
    assert changing.refresh([StoredItem(NEW)], 0.0) == []
    assert sorted(all_items(changing.model)) == sorted([*before, "new"])
    known = before[0]
    (ranking,) = changing.model.rank([Request("u", (known,), candidates=("new", known))])
    assert set(ranking.items) == {"new", known} and np.isfinite(ranking.scores).all()
    assert np.isfinite(changing.model.rate([Request("u", (known, "new"), item="new")])).all()
    assert "new" not in all_items(changing.model, ("new", known))
    assert "new" in changing.similar(known, 200).items and "new" not in changing.similar("new", 200).items
    assert changing.model.why((known, "new"), before[1]).contributions[1].entry == "new"
    prompt = "".join(part.text for part in changing.model.prompt("retrieval", Request("u", ("new",))))
    assert changing.model.index.name("new") in prompt


@pytest.mark.parametrize("family", ["decoder-only", "encoder-decoder"])
@pytest.mark.parametrize("scheme", ["titles", "mixed"])
def test_an_item_named_by_its_title_scores_as_if_it_had_always_been_there(scheme: str, family: str) -> None:
    """The same weights with the item in the catalogue from the start: for titles to the last digit that the
    order of a batch leaves."""
    split = exam_split()
    extended = split_leave_one_out(
        make_dataset(pl.concat([split.dataset.items, frame_of([NEW])]), split.dataset.events),
        SplitSettings(),
        0,
    )
    changing = live(scheme, family=family)
    changing.refresh([StoredItem(NEW)], 0.0)
    backbone = changing.model.backbone
    names = {item: changing.model.index.name(item) for item in extended.dataset.item_ids}
    words = tuple(changing.model.index.words_of(item) for item in names) if scheme == "mixed" else ()
    whole = ItemIndex(scheme, tuple(names), tuple(names.values()), scheme == "mixed", "\n", words=words)
    fresh = untrained(extended, whole)
    fresh.backbone = backbone
    always = LanguageModelRecommender(backbone, whole, fresh.tasks, changing.model.settings)
    request = Request("u", (*extended.dataset.item_ids[:3], "new"))
    (one,), (other,) = changing.model.recommend([request], 30), always.recommend([request], 30)
    assert one.items == other.items
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)


@pytest.mark.parametrize("scheme", ["atomic", "semantic", "titles"])
def test_the_order_of_all_other_items_stays_as_it_was(scheme: str) -> None:
    changing = live(scheme)
    history = tuple(changing.item_ids)[:3]
    before = all_items(changing.model, history)
    changing.refresh([StoredItem(replace(NEW, id=f"n{n}", title=f"Keen tea {n}")) for n in range(5)], 0.0)
    after = [item for item in all_items(changing.model, history) if not item.startswith("n")]
    assert after == before if scheme == "atomic" else sorted(after) == sorted(before)


def test_a_new_symbol_is_mixed_of_the_most_similar_texts_and_as_far_from_the_mean_as_a_trained_one() -> None:
    changing = live("atomic")
    backbone = changing.model.backbone
    weight = backbone.model.get_input_embeddings().weight.detach().clone()
    catalogue = changing.model.tasks["retrieval"].context.split.dataset
    twin = catalogue.item(next(iter(changing.item_ids)))
    changing.refresh([StoredItem(replace(twin, id="copy"))], 0.0)
    symbol = backbone.text_encoder.symbol_ids[changing.model.index.name("copy")]
    layer = backbone.model.get_input_embeddings()
    assert layer.weight is backbone.model.get_output_embeddings().weight
    assert symbol == len(weight) == len(layer.weight) - 1
    assert torch.equal(layer.weight[:-1], weight)

    names = changing.model.index.names[: changing.trained_items]
    trained = weight[[backbone.text_encoder.symbol_ids[name] for name in names]]
    mean = trained.mean(0)
    cosines = changing.new_names.texts.vectors.toarray()
    cosines = cosines @ cosines.T  # of all items by the slow way

    def mixed(row: int, without: set[int]) -> torch.Tensor:
        others = sorted(set(range(len(names))) - without, key=lambda other: (-cosines[row, other], other))
        others = [other for other in others[:20] if cosines[row, other] > 0]
        of = torch.from_numpy(cosines[row, others] / cosines[row, others].sum()).float()
        return of @ trained[others] - mean

    own = (trained - mean).norm(dim=1).median()
    length = torch.stack([mixed(row, {row}).norm() for row in range(len(names))]).median()
    expected = mean + own / length * mixed(0, set())
    assert float(own / length) > 1.2  # a mean is shorter than what it is made of
    assert torch.allclose(layer.weight[symbol], expected, atol=1e-4)


def test_many_new_symbols_do_not_change_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shelftalk.serving.new_symbols.SPARE", 3)
    one, many = live("atomic", family="encoder-decoder"), live("atomic", family="encoder-decoder")
    items = [StoredItem(replace(NEW, id=f"n{n}", title=f"Keen tea {n % 4}")) for n in range(12)]
    many.refresh(items, 0.0)
    for item in items:
        one.refresh([item], 0.0)
    weights = [live.model.backbone.model.get_output_embeddings().weight for live in (one, many)]
    assert torch.equal(*weights) and all_items(one.model) == all_items(many.model)


def test_a_semantic_item_with_the_text_of_another_gets_its_codes_where_texts_alone_made_them() -> None:
    split = exam_split()
    index = semantic.build(split, SMALL.model_copy(update={"text_weight": 1.0}), 0)
    names = NewNames(index, split.dataset.items, SMALL, 0)
    same = 0
    for item_id in split.dataset.item_ids:
        candidate = next(names.candidates(replace(split.dataset.item(item_id), id="copy")))
        same += split_symbols(candidate)[:-1] == split_symbols(index.name(item_id))[:-1]
    assert same >= 0.9 * len(split.dataset.item_ids)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_hidden_expired_and_removed_items_do_not_come_back(scheme: str) -> None:
    changing = live(scheme)
    trained = next(iter(changing.item_ids))
    old = changing.model.tasks["retrieval"].context.split.dataset.item(trained)
    changing.refresh([StoredItem(NEW, expires_at=10.0), StoredItem(old, hidden=True)], 5.0)
    assert "new" in all_items(changing.model) and trained not in all_items(changing.model)
    assert changing.is_visible("new") and not changing.is_visible(trained)
    assert all_items(changing.model, (trained,))  # still readable in a history
    changing.refresh([], 10.0)
    assert "new" not in all_items(changing.model)
    changing.refresh([StoredItem(NEW, expires_at=30.0), StoredItem(old)], 11.0)
    assert {"new", trained} <= set(all_items(changing.model))
    changing.refresh([StoredItem(Item("new"), removed=True), StoredItem(Item(trained), removed=True)], 12.0)
    assert not {"new", trained} & set(all_items(changing.model))
    with pytest.raises(UnknownItem):
        all_items(changing.model, ("new",))
    changing.refresh([StoredItem(NEW), StoredItem(old)], 13.0)
    assert {"new", trained} <= set(all_items(changing.model))
    changing.refresh([], 40.0)  # when the first writing of it would have expired
    assert "new" in all_items(changing.model)


@pytest.mark.parametrize("scheme", ["titles", "atomic", "mixed"])
def test_a_changed_text_is_what_prompts_and_filters_read(scheme: str) -> None:
    changing = live(scheme)
    trained = next(iter(changing.item_ids))
    changing.refresh([StoredItem(NEW)], 0.0)
    renamed = [
        Item(trained, "Quite another title", "Ostara", "tea", 3.0),
        replace(NEW, title="Bold boots No. 8"),
    ]
    changing.refresh([StoredItem(item) for item in renamed], 0.0)
    changing.model.tasks["retrieval"].prompts_names_only = False  # show texts beside names
    request = Request("u", (trained, "new"))
    prompt = "".join(part.text for part in changing.model.prompt("retrieval", request))
    assert "Quite another title" in prompt and "Bold boots No. 8" in prompt and "Amber lamps" not in prompt
    cheap = Filter(max_price=3.0, only=(trained, "new"))
    (ranking,) = changing.model.recommend([Request("u", (), filter=cheap)], 5)
    assert ranking.items == (trained,)
    assert len(all_items(changing.model)) == changing.trained_items + 1


def test_titles_of_any_text_become_names_of_their_own() -> None:
    for scheme in ("titles", "mixed"):
        changing = live(scheme)
        items = [Item(f"evil {n}", text, text, text) for n, text in enumerate(EVIL_TEXTS)]
        assert changing.refresh([StoredItem(item) for item in items], 0.0) == []
        assert {item.id for item in items} <= set(all_items(changing.model))
        control = set(changing.model.backbone.tokenizer.all_special_ids)
        added = {token for tokens in changing._added for token in tokens}
        symbols = set(changing.model.backbone.text_encoder.symbol_ids.values())
        assert not added & (control - symbols)


def test_a_scheme_without_a_free_name_says_so_and_the_rest_goes_on() -> None:
    changing = live("numbers")
    width = len(changing.model.index.names[0])
    changing.new_names.names |= {f"{number:0{width}d}" for number in range(10**width)}
    (sentence,) = changing.refresh([StoredItem(NEW)], 0.0)
    assert "no free name" in sentence and "new" not in set(changing.item_ids)
    assert all_items(changing.model)


def test_the_trie_is_built_anew_when_much_was_added(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, rebuilt = live("titles"), live("titles")
    for number in range(12):
        change = [StoredItem(replace(NEW, id=f"n{number}", title=f"Keen tea {number}"))]
        kept.refresh(change, 0.0)
        with monkeypatch.context() as patch:
            patch.setattr(live_model, "REBUILT_AFTER", 4)
            rebuilt.refresh(change, 0.0)
    assert rebuilt._base.items > kept._base.items
    assert all_items(rebuilt.model) == all_items(kept.model)


changes = st.lists(
    st.tuples(
        st.integers(0, 5), st.sampled_from(["put", "retitle", "hide", "expire", "remove"]), st.integers(0, 3)
    ),
    max_size=12,
)


@settings(max_examples=25)
@given(steps=st.lists(changes, max_size=4), scheme=st.sampled_from(["titles", "atomic", "semantic"]))
def test_after_any_changes_exactly_the_visible_items_come_back(
    steps: list[list[tuple[int, str, int]]], scheme: str
) -> None:
    changing = _shared(scheme)
    trained = tuple(changing.item_ids)
    stored: dict[str, StoredItem] = {}
    ids = [*trained[:3], "n3", "n4", "n5"]
    for now, step in enumerate(steps):
        written = []
        for which, action, value in step:
            item_id = ids[which]
            title = f"Keen tea {value}" if action == "retitle" else f"Amber lamps No. {which}"
            change = StoredItem(
                Item(item_id, title),
                hidden=action == "hide",
                expires_at=now + value - 1.0 if action == "expire" else None,
                removed=action == "remove",
            )
            written.append(change)
            stored[item_id] = change
        changing.refresh(written, float(now))
        wanted = {item for item in trained if item not in stored}
        wanted |= {item for item, change in stored.items() if change.visible(float(now))}
        assert set(all_items(changing.model)) == wanted


def _shared(scheme: str) -> LiveLanguageModel:
    """One untrained model per scheme, live anew: making weights takes longest."""
    if scheme not in _MODELS:
        split = exam_split()
        _MODELS[scheme] = untrained(split, SCHEMES[scheme](split, SMALL, 0))
    return LiveLanguageModel(copy.copy(_MODELS[scheme]))


_MODELS: dict[str, LanguageModelRecommender] = {}
