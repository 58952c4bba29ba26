"""Prompt cards: every template of every task as the model sees it, kept as Markdown and reviewed like prose.

A card differs from what the code renders now? Read the diff; if it is meant, write the cards anew with

    SHELFTALK_WRITE_CARDS=1 python -m pytest tests/golden
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shelftalk import seeds
from shelftalk.data.dataset import make_dataset
from shelftalk.data.splitting import Split, SplitSettings, split_dataset
from shelftalk.indexing.item_index import ItemIndex
from shelftalk.records import Nouns, Request, Sample, Segment
from shelftalk.tasks.item_meaning import AlikeItem, AlikeSettings, ItemMeaningSettings, NameToText, TextToName
from shelftalk.tasks.item_text import ItemText, TextSettings
from shelftalk.tasks.masked_items import MaskedItems, MaskedItemsSettings
from shelftalk.tasks.masked_language import MaskedLanguage, MaskedLanguageSettings
from shelftalk.tasks.pairwise_preference import PairwisePreference, PairwisePreferenceSettings
from shelftalk.tasks.ranking import RankingSettings, RankingTask
from shelftalk.tasks.rating import RatingSettings, RatingTask
from shelftalk.tasks.related_items import (
    CoOccurringItems,
    NextItems,
    NextItemsSettings,
    RelatedItemsSettings,
    SimilarItems,
)
from shelftalk.tasks.retrieval import RetrievalSettings, RetrievalTask
from shelftalk.tasks.task import ServedTask, Task, TaskContext
from shelftalk.tasks.templates import Template
from shelftalk.testing.task_exams import changed

HERE = Path(__file__).parent
FILMS = (  # title, genres, codes
    ("The Hobbit: An Unexpected Journey (2012)", "Adventure Fantasy", "<a_4><b_1><z_0>"),
    ("The Fellowship of the Ring (2001)", "Adventure Fantasy", "<a_4><b_1><z_1>"),
    ("Alien (1979)", "Horror Sci-Fi", "<a_2><b_7><z_0>"),
    ("Arrival (2016)", "Drama Sci-Fi", "<a_2><b_3><z_0>"),
    ("Amélie (2001)", "Comedy Romance", "<a_9><b_5><z_0>"),
    ("Paddington (2014)", "Children Comedy", "<a_6><b_5><z_0>"),
    ("Heat (1995)", "Crime Thriller", "<a_1><b_8><z_0>"),
    ("My </s> {history} film", "", "<a_1><b_2><z_0>"),
)
TAKEN = {"a": (0, 1, 3, 2, 5, 4, 6), "b": (6, 2, 3, 0, 7), "c": (4, 5, 0, 1, 3)}
STARS = (4.0, 4.5, 3.0, 5.0, 2.5, 3.5, 4.0)
NOUNS = Nouns("film", "films", "viewer", "watched")


@cache
def little_world(ordered: bool) -> Split:
    items = pl.DataFrame(
        [(f"f{n}", *row[:2]) for n, row in enumerate(FILMS)],
        schema=["item_id", "title", "categories"],
        orient="row",
    )
    events = [
        (user, f"f{item}", position, STARS[position])
        for user, row in TAKEN.items()
        for position, item in enumerate(row)
    ]
    data = make_dataset(
        items, pl.DataFrame(events, schema=["user_id", "item_id", "position", "rating"], orient="row")
    )
    return split_dataset(
        data, SplitSettings(ranking_negatives=1, scheme=None if ordered else "random"), seed=1
    )


def context(names: str = "semantic", text: TextSettings | None = None, ordered: bool = True) -> TaskContext:
    split = little_world(ordered)
    rows = [int(item[1:]) for item in split.dataset.item_ids]
    spelled = {
        "semantic": [FILMS[row][2] for row in rows],
        "titles": [FILMS[row][0] for row in rows],
        "numbers": list(map(str, rows)),
    }
    index = ItemIndex(
        names,
        tuple(split.dataset.item_ids),
        tuple(spelled[names]),
        names == "semantic",
        "\n" if names == "titles" else "",
    )
    return TaskContext(split, ItemText(split.dataset, index, text or TextSettings()), NOUNS)


def make(name: str, about: TaskContext, texts: bool = True) -> Task:
    every = {"weight": 1.0, "text_share": float(texts)}
    tasks: dict[str, Task] = {
        "retrieval": RetrievalTask(RetrievalSettings(**every), about),
        "ranking": RankingTask(RankingSettings(**every, min_negatives=3, max_negatives=3), about),
        "rating": RatingTask(RatingSettings(**every), about),
        "rating_alone": RatingTask(RatingSettings(**every, show_ratings=False), about),
        "masked_items": MaskedItems(MaskedItemsSettings(**every, share=0.4), about),
        "masked_language": MaskedLanguage(MaskedLanguageSettings(**every, share=0.3, mean_span=2), about),
        "pairwise_preference": PairwisePreference(PairwisePreferenceSettings(**every, questions=2), about),
        "name_to_text": NameToText(ItemMeaningSettings(**every), about),
        "text_to_name": TextToName(ItemMeaningSettings(**every), about),
        "alike_item": AlikeItem(AlikeSettings(**every, options=3, neighbours=2), about),
        "next_items": NextItems(NextItemsSettings(**every, answers=3), about),
        "co_occurring_items": CoOccurringItems(RelatedItemsSettings(**every, answers=3), about),
        "similar_items": SimilarItems(RelatedItemsSettings(**every, answers=3), about),
    }
    return tasks[name.removesuffix(UNORDERED)]


REQUEST = Request("a", ("f0", "f3"), (4.0, None), candidates=("f6", "f1", "f7"), item="f1")
UNORDERED = "_unordered"
TITLES = {
    "retrieval": "Retrieval",
    "ranking": "Ranking",
    "rating": "Rating prediction",
    "rating_alone": "Rating prediction without the ratings of the history",
    "masked_items": "Masked items (MIM)",
    "masked_language": "Masked language (MLM)",
    "pairwise_preference": "Pairwise preference (BPR)",
    "name_to_text": "Item text: name to text",
    "text_to_name": "Item text: text to name",
    "alike_item": "Item text: the most alike",
    "next_items": "Related items: taken next",
    "co_occurring_items": "Related items: co-occurring",
    "similar_items": "Related items: similar texts",
    "retrieval_unordered": "Retrieval from a history without an order",
    "ranking_unordered": "Ranking by a history without an order",
    "rating_alone_unordered": "Rating prediction without the ratings of the history, which has no order",
    "pairwise_preference_unordered": "Pairwise preference (BPR) by a history without an order",
}


# the second field is left as text where titles are the names
TWO_FIELDS = TextSettings(fields=("title", "categories"))
OTHER_SETTINGS: dict[str, tuple[str, TextSettings, dict[str, object]]] = {
    "retrieval": ("the viewer named by a symbol", TextSettings(user_ids=True), {}),
    "masked_items": ("one film masked", TextSettings(), {"max_masked": 1}),
}
"""Task -> heading and settings of one more way that its first template may look."""


def card(name: str) -> str:
    """The whole card of a task."""
    ordered = not name.endswith(UNORDERED)
    of_items = make(name, context()).about == "items"
    text = TWO_FIELDS if of_items else TextSettings()
    task = make(name, context(text=text, ordered=ordered))
    parts = [
        f"# {TITLES[name]}",
        "What the model reads in training, in every template. It learns to generate what is in ⟦ ⟧; an "
        "encoder-decoder encodes up to the first ⟦ and decodes the rest. `<a_4><b_1><z_0>` are the three "
        "symbols of an item's name. "
        "⊣ is the end of the text.",
    ]
    for template in task.templates:
        parts += [
            f"## {template.name}" + (" (held out)" if template.held_out else ""),
            shown(sample(task, template).segments),
        ]
        if isinstance(task, ServedTask):
            parts += ["The prompt of the trained model:", shown(task.prompt(REQUEST, template))]
    first = task.templates[0]
    for names, texts, heading in (
        ("semantic", False, "names alone"),
        ("titles", True, "items named by titles"),
        ("numbers", True, "items named by numbers"),
    ):
        if texts or not of_items:  # samples about items show names alone in any case
            other = make(name, context(names, text, ordered), texts)
            parts += [f"## {first.name}, {heading}", shown(sample(other, first).segments)]
    if name in OTHER_SETTINGS:
        heading, text, more = OTHER_SETTINGS[name]
        parts += [
            f"## {first.name}, {heading}",
            shown(sample(changed(make(name, context(text=text)), **more), first).segments),
        ]
    return "\n\n".join(parts) + "\n"


def sample(task: Task, template: Template) -> Sample:
    """The sample of the first user of five items or more, or of the first film in the catalogue, in the
    given template."""
    task.seen = [template]
    data = task.context.split.dataset
    numbers = np.arange(len(data.items if task.about == "items" else data.user_ids))
    samples = task.epoch(numbers, seeds.generator(0, "cards", task.name))
    return next(s for s in samples if task.about == "items" or len(set(s.items)) >= 5)


def shown(segments: Sequence[Segment]) -> str:
    """A fenced block; what bears loss in ⟦ ⟧, neighbours together."""
    text, open_ = "", False
    for segment in segments:
        if segment.bears_loss != open_:
            text += "⟦" if segment.bears_loss else "⟧"
            open_ = segment.bears_loss
        text += segment.text
    text += "⟧" if open_ else ""
    return f"```text\n{text}⊣\n```"


@pytest.mark.parametrize("name", TITLES)
def test_the_card_of_a_task_is_what_the_model_sees(name: str):
    path, now = HERE / f"{name}.md", card(name)
    if os.environ.get("SHELFTALK_WRITE_CARDS"):
        path.write_text(now, "utf-8")
    assert path.exists(), "there is no card yet; run SHELFTALK_WRITE_CARDS=1 python -m pytest tests/golden"
    assert path.read_text("utf-8") == now, (
        "read the diff; if it is meant, run SHELFTALK_WRITE_CARDS=1 python -m pytest tests/golden"
    )


def test_every_template_shows_the_same_sample():
    for name in TITLES:
        task = make(name, context(ordered=not name.endswith(UNORDERED)))
        assert len({sample(task, template).items for template in task.templates}) == 1


def test_there_is_a_card_for_every_built_in_template_file():
    templates = HERE.parents[1] / "src" / "shelftalk" / "tasks" / "templates"
    assert (
        {path.stem for path in templates.glob("*.toml")}
        == {path.stem for path in HERE.glob("*.md")}
        == set(TITLES)
    )
