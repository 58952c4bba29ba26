"""Templates: a fault in a template file is reported in a sentence, and what is filled in is never read
again."""

from __future__ import annotations

import pytest

from shelftalk.errors import MissingFile, TemplateError
from shelftalk.records import Nouns, Segment
from shelftalk.tasks.masked_items import MaskedItems
from shelftalk.tasks.masked_language import MaskedLanguage
from shelftalk.tasks.pairwise_preference import PairwisePreference
from shelftalk.tasks.ranking import RankingTask
from shelftalk.tasks.rating import RatingTask
from shelftalk.tasks.retrieval import RetrievalSettings, RetrievalTask
from shelftalk.tasks.task import Task
from shelftalk.tasks.templates import fill, load_templates
from shelftalk.testing.task_exams import exam_context, world_split

GOOD = '[[template]]\nname = "one"\nsource = "{history}"\ntarget = "{item}"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            GOOD.replace("{history}", "{histroy}"),
            'template "one" of .* unknown placeholder "{histroy}"; did you mean "history"?',
        ),
        (GOOD.replace("{history}", "{history}{}"), 'unknown placeholder "{}"'),
        (
            GOOD.replace("{history}", "{ history }"),
            'unknown placeholder "{ history }"; did you mean "history"?',
        ),
        (
            GOOD.replace("{history}", "{history}{it-em}"),
            'unknown placeholder "{it-em}"; did you mean "item"?',
        ),
        (GOOD.replace("{item}", "item"), 'lacks the placeholder "{item}"'),
        (GOOD + "question = '{itm}'", 'unknown placeholder "{itm}"; did you mean "item"?'),
        (GOOD.replace("source =", "source"), "not valid TOML: .*line 3.*correct that line"),
        (GOOD + GOOD, "two templates of .* have one name"),
        (GOOD + 'sauce = "x"\n', 'unknown key "sauce"; did you mean "source"?'),
        (GOOD + "held_out = true\n", "no template to train with"),
        (GOOD + 'held_out = "yes"\n', '"held_out" in a template of .* must be a bool'),
        ('[[template]]\nname = "one"\ntarget = "{item}"\n', 'lacks "source"'),
        ("", "no template to train with"),
        (GOOD.replace("[[template]]", "[template]"), r"\[\[template\]\]"),
        ("template = 5\n", r"\[\[template\]\]"),
        ("template = [1, 2]\n", r"\[\[template\]\]"),
        (GOOD.replace("[[template]]", "[[wording]]"), r"\[\[template\]\]"),
    ],
)
def test_a_template_file_with_an_error_is_reported_in_one_sentence(tmp_path, text, message):
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(TemplateError, match=message) as caught:
        load_templates("retrieval", ("history", "item"), str(path))
    assert "own.toml" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_template_file_is_reported(tmp_path):
    with pytest.raises(MissingFile, match="nowhere.toml"):
        load_templates("retrieval", ("history", "item"), str(tmp_path / "nowhere.toml"))


def test_a_template_file_in_another_encoding_is_reported(tmp_path):
    path = tmp_path / "latin.toml"
    path.write_bytes(GOOD.replace("one", "caf\xe9").encode("latin-1"))
    with pytest.raises(TemplateError, match="not UTF-8"):
        load_templates("retrieval", ("history", "item"), str(path))


@pytest.mark.parametrize(
    "task", [RetrievalTask, RankingTask, RatingTask, MaskedItems, MaskedLanguage, PairwisePreference]
)
def test_built_in_tasks_have_several_templates_and_hold_one_out(task: type[Task]):
    templates = load_templates(task.name, task.placeholders, optional=task.optional)
    assert sum(template.held_out for template in templates) >= 1
    assert sum(not template.held_out for template in templates) >= 2
    assert len({template.source + template.question for template in templates}) == len(templates)


def test_what_is_filled_in_is_never_read_again():
    title = [Segment("{item} {noun}")]
    assert fill("A {noun}: {item}!", {"noun": "{item}", "item": title}) == [
        Segment("A {item}: "),
        *title,
        Segment("!"),
    ]


def test_strings_become_part_of_the_text_and_segments_stay_separate():
    words = Nouns("film", "films", "viewer", "watched").placeholders()
    assert fill("{Nouns} a {person} {took}:\n{history}", {**words, "history": []}) == [
        Segment("Films a viewer watched:\n")
    ]
    assert fill("{history}", {"history": [Segment("a"), Segment("b")]}) == [Segment("a"), Segment("b")]


@pytest.mark.parametrize(
    ("source", "target", "more", "message"),
    [
        (
            "after {history} comes {item}?",
            "{noun}",
            "",
            r'"\{item\}" in its source; move it to the target',
        ),
        ("which {noun}?", "{history}{item}", "", r'"\{history\}" in its target; move it to the source'),
        ("{history}", "{item}", 'question = "what?"', "has a question, and this task has none"),
    ],
)
def test_a_placeholder_in_the_wrong_part_is_reported_at_loading(tmp_path, source, target, more, message):
    path = tmp_path / "own.toml"
    path.write_text(f'[[template]]\nname = "own"\nsource = "{source}"\ntarget = "{target}"\n{more}\n')
    with pytest.raises(TemplateError, match=message):
        load_templates("retrieval", ("history", "item"), str(path), answers=("item",))


def test_the_answer_itself_begins_the_target_of_a_served_task(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text('[[template]]\nname = "own"\nsource = "{history}"\ntarget = "{noun}: {item}"\n')
    with pytest.raises(TemplateError, match="words before the answer"):
        RetrievalTask(RetrievalSettings(templates=str(path)), exam_context(world_split("tiny")))
