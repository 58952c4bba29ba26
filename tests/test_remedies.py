"""A sentence that refuses ends in a remedy: each is read off the message here, followed, and must work."""

from __future__ import annotations

import copy
import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from transformers import AutoConfig, BertConfig

from shelftalk.data.dataset import make_dataset
from shelftalk.data.splitting import Split, SplitSettings, split_leave_one_out
from shelftalk.decoding import ConstrainedDecoder
from shelftalk.errors import BadValue, DuplicateName, MissingFile, SettingsError, TemplateError, UnknownPart
from shelftalk.indexing.item_index import IndexSettings
from shelftalk.models.lora import add_adapters
from shelftalk.models.pretrained import check_supported, from_random_weights, read_config
from shelftalk.models.settings import NanoSettings, PretrainedSettings
from shelftalk.pipeline.index_building import build_index
from shelftalk.tasks.retrieval import RetrievalSettings, RetrievalTask
from shelftalk.tasks.templates import load_templates
from shelftalk.testing.t5_folder import SMALL, save_flan_t5
from shelftalk.testing.task_exams import exam_context, world_split
from shelftalk.testing.worlds import tiny_world
from tests.decoding.small_models import small
from tests.models.test_gguf import written


def same_titles() -> Split:
    rows = [(f"u{user}", f"i{(user + position) % 6}", position) for user in range(4) for position in range(4)]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    data = make_dataset(
        pl.DataFrame(
            {"item_id": [f"i{n}" for n in range(6)], "title": ["tea", "tea", "mug", "pot", "cup", "tin"]}
        ),
        events,
    )
    return split_leave_one_out(data, SplitSettings(ranking_negatives=1), seed=0)


def refused(kind: type[Exception], call: object, *arguments: object, **named: object) -> str:
    with pytest.raises(kind) as error:
        call(*arguments, **named)  # type: ignore[operator]
    return str(error.value)


# --- indexing --------------------------------------------------------------------------------------------


def test_items_of_one_title_are_told_apart_by_either_remedy():
    split, strict = same_titles(), IndexSettings(scheme="titles", disambiguate=False)
    message = refused(DuplicateName, build_index, split, strict, 0)
    assert "index.disambiguate = true" in message and 'index.scheme = "semantic"' in message
    for change in ({"disambiguate": True}, {"scheme": "semantic", "dimensions": 2, "codes": 2}):
        assert len(build_index(split, strict.model_copy(update=change), 0).names) == 6


def test_a_scheme_without_text_vectors_works_with_tfidf():
    message = refused(
        SettingsError, build_index, same_titles(), IndexSettings(scheme="numbers", encoder="some-encoder"), 0
    )
    assert 'index.encoder = "tfidf"' in message
    build_index(same_titles(), IndexSettings(scheme="numbers", encoder="tfidf"), 0)


def test_a_misspelt_scheme_is_named_rightly():
    message = refused(UnknownPart, build_index, same_titles(), IndexSettings(scheme="title"), 0)
    build_index(same_titles(), IndexSettings(scheme=re.findall(r'did you mean "(\w+)"', message)[0]), 0)


# --- models ----------------------------------------------------------------------------------------------


def test_of_several_gguf_files_each_that_is_named_can_be_chosen(tmp_path: Path):
    file = written(tmp_path / "one.gguf")
    shutil.copy(file, tmp_path / "other.gguf")
    names = re.findall(
        r"\w+\.gguf", refused(SettingsError, read_config, PretrainedSettings(name=str(tmp_path)))
    )
    assert names == ["one.gguf", "other.gguf"]
    assert all(read_config(PretrainedSettings(name=str(tmp_path / name))) for name in names)


def test_layers_that_are_named_for_adapters_take_them(tmp_path: Path):
    config = AutoConfig.from_pretrained(save_flan_t5(tmp_path / "t5", ["red hat"] * 20, SMALL, 400, 50))

    def adapt(*targets: str) -> None:
        wanted = {"lora_targets": targets} if targets else {"lora_targets": "all-linear"}
        add_adapters(
            from_random_weights(config),
            range(300, 310),
            PretrainedSettings(name="t5", adaptation="lora", **wanted),
        )

    message = refused(SettingsError, adapt, "no_such_layer")
    for_output = refused(SettingsError, adapt, "lm_head")  # whose rows of new tokens are trained as they are
    assert for_output.endswith(message[message.index("; choose") :])
    layers = [
        name.strip() for name in re.findall(r'choose among (.*), or "all-linear"', message)[0].split(",")
    ]
    assert layers
    for name in layers:
        adapt(name)
    adapt()


def test_a_model_of_a_kind_that_is_named_is_supported(tmp_path: Path):
    message = refused(SettingsError, check_supported, BertConfig(), "bert")
    assert "decoder-only model with full attention, or one of the T5 family" in message
    check_supported(
        AutoConfig.from_pretrained(save_flan_t5(tmp_path / "t5", ["red hat"] * 20, SMALL, 400, 50)), "t5"
    )
    check_supported(small("decoder-only")[0].config, "llama")


def test_a_width_that_the_sentence_names_is_taken():
    message = refused(ValueError, NanoSettings, width=100, heads=8)
    assert NanoSettings(width=6 * int(re.findall(r"nano.width to a multiple of (\d+)", message)[0]), heads=8)


# --- wordings --------------------------------------------------------------------------------------------

GOOD = '[[template]]\nname = "a"\nsource = "{history}"\ntarget = "{item}"\n'
WRONG = {  # what is wrong -> what the message tells to do, and that done
    GOOD.replace("{history}", "{histori}"): ('did you mean "history"', GOOD),
    GOOD.replace("{history}", "nothing"): ("add it", GOOD),
    GOOD.replace("{history}", "{history} {item}").replace('target = "{item}"', 'target = "it"'): (
        "move it to the target",
        GOOD,
    ),
    GOOD.replace("target", "targt"): ('did you mean "target"', GOOD),
    GOOD + GOOD: ("give each its own", GOOD + GOOD.replace('"a"', '"b"')),
    GOOD + "held_out = true\n": (
        "without held_out = true",
        GOOD + "held_out = true\n" + GOOD.replace('"a"', '"b"'),
    ),
    GOOD.replace('"a"', "7"): ("must be a str", GOOD),
    GOOD.replace('source = "{history}"\n', ""): ('lacks "source"; add it', GOOD),
    GOOD.replace("[[template]]", "[template]"): ("begin each template with [[template]]", GOOD),
    GOOD.replace("[[template]]", "[[wording]]"): ("add a [[template]]", GOOD),
    GOOD.replace("source =", "source"): ("correct that line", GOOD),
    GOOD + 'question = "what?"\n': (
        "move it to the source",
        GOOD.replace("{history}", "{history} what?"),
    ),
    GOOD.replace("{history}", "caf\xe9 {history}"): ("save it as UTF-8", GOOD.replace("{", "caf\xe9 {", 1)),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_template_file_corrected_as_the_sentence_says_is_read(wrong: str, tmp_path: Path):
    path, (message, right) = tmp_path / "own.toml", WRONG[wrong]

    def load() -> list:
        return load_templates(
            "retrieval", RetrievalTask.placeholders, str(path), answers=RetrievalTask.answers
        )

    assert "correct the path in the experiment file" in refused(MissingFile, load)
    path.write_text(wrong, encoding="latin-1")
    assert message in refused(TemplateError, load)
    path.write_text(right, encoding="utf-8")
    assert load()


def test_wordings_of_retrieval_corrected_as_the_sentences_say_make_the_task(tmp_path: Path):
    path, context = tmp_path / "own.toml", exam_context(world_split("tiny"))

    def task(text: str, **settings: int) -> RetrievalTask:
        path.write_text(text)
        return RetrievalTask(RetrievalSettings(templates=str(path), **settings), context)

    early = GOOD.replace("{item}", "{noun}: {item}")
    assert "move them to the end of its source" in refused(TemplateError, task, early)
    assert task(GOOD.replace("{history}", "{noun}: {history}"))
    after = GOOD.replace("{history}", "{history}\\nNext:")
    message = refused(TemplateError, task, after)
    assert task(after, targets=int(re.findall(r"set tasks.retrieval.targets = (\d+)", message)[0]))
    assert "or end the source with {history}" in message and task(GOOD)


def test_ratings_rounded_as_the_sentence_says_have_texts_of_their_own():
    world = tiny_world(users=30, items=50)

    def texts(least: float, decimals: int = 9) -> dict[float, str]:
        close = pl.Series([least + n % 3 + 1e-8 * (n % 2) for n in range(len(world.events))])
        events = world.events.with_columns(rating=close.round(decimals))
        split = split_leave_one_out(make_dataset(world.items, events), SplitSettings(ranking_negatives=5), 0)
        return exam_context(split).rating_texts

    for least in (1.0, 1.5):
        message = refused(SettingsError, texts, least)
        rounded = texts(least, int(re.findall(r"round them to (\d) decimals", message)[0]))
        assert len(set(rounded.values())) == len(rounded) > 2


# --- decoding --------------------------------------------------------------------------------------------


def test_what_a_decoder_refuses_it_takes_as_the_sentence_says():
    model, tokenizer = small("decoder-only")
    strings, prompts = ["red hat", "blue hat"], ["I bought gloves. Next:"]
    decoder = ConstrainedDecoder(model, tokenizer, strings)
    wrong = {
        "put it in a list": (lambda: decoder.top(prompts[0]), lambda: decoder.top(prompts)),
        "give an empty list": (
            lambda: decoder.top(prompts, excluded=[]),
            lambda: decoder.top(prompts, excluded=[[]]),
        ),
        "give one list per prompt": (
            lambda: decoder.rank(prompts, []),
            lambda: decoder.rank(prompts, [strings]),
        ),
        'choose search="beam"': (
            lambda: decoder.top(prompts, 1, search="exact", length_penalty=1.0),
            lambda: decoder.top(prompts, 1),
        ),
        "leave length_penalty at 0": (
            lambda: decoder.top(prompts, 1, search="exact", length_penalty=1.0),
            lambda: decoder.top(prompts, 1, search="exact"),
        ),
        "a bool mask of the shape [2]": (
            lambda: decoder.top(prompts, allowed=np.ones(3, bool)),
            lambda: decoder.top(prompts, allowed=np.ones(2, bool)),
        ),
        "give at least one": (
            lambda: ConstrainedDecoder(model, tokenizer, []),
            lambda: ConstrainedDecoder(model, tokenizer, ["a"]),
        ),
        "give each once": (
            lambda: ConstrainedDecoder(model, tokenizer, ["a", "a"]),
            lambda: ConstrainedDecoder(model, tokenizer, ["a"]),
        ),
    }
    for message, (call, remedy) in wrong.items():
        with pytest.raises((BadValue, SettingsError, DuplicateName), match=re.escape(message)):
            call()
        assert remedy()


def test_a_tokenizer_without_an_end_token_works_with_one_given():
    model, tokenizer = small("decoder-only")
    endless = copy.deepcopy(tokenizer)
    endless.eos_token = None
    assert "give `end`" in refused(SettingsError, ConstrainedDecoder, model, endless, ["red hat"])
    assert (
        ConstrainedDecoder(model, endless, ["red hat"], end=tokenizer.eos_token_id).top(["a"], k=1)[0][0][0]
        == "red hat"
    )
