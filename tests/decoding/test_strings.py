"""Any model over a list of strings: equal to plain forward passes, and nothing of the model or tokenizer
is changed."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import FAMILIES, PROMPTS, name_log_prob, name_of, small, with_large_weights
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertLMHeadModel,
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

import shelftalk.decoding
from shelftalk.decoding import ConstrainedDecoder, string_trie
from shelftalk.errors import BadValue, DuplicateName, SettingsError, UnknownItem
from shelftalk.models.pretrained import read_config
from shelftalk.models.settings import PretrainedSettings

PAGE = Path(__file__).parent.parent.parent / "docs" / "decoding.md"
NEAR = 1e-4  # nats, in fp32
STRINGS = ("red scarf", "red", "blue hat", "red hat", "green glove of wool", "blue hats and gloves")
WORDS = st.lists(st.sampled_from(["red", "blue", "hat", "scarf", "of", "silk"]), min_size=1, max_size=5).map(
    " ".join
)
families = pytest.mark.parametrize("family", FAMILIES)


def brute_force(family: str, prompt: str, strings: tuple[str, ...] | list[str]) -> dict[str, float]:
    model, tokenizer = small(family)
    return {text: name_log_prob(model, tokenizer, prompt, name_of(tokenizer, text)) for text in strings}


def best(scores: dict[str, float], k: int) -> dict[str, float]:
    return dict(sorted(scores.items(), key=lambda pair: -pair[1])[:k])


def decoder_of(family: str, strings: tuple[str, ...] | list[str] = STRINGS, **more) -> ConstrainedDecoder:
    return ConstrainedDecoder(*small(family), strings, **more)


@families
@given(strings=st.lists(WORDS, min_size=1, max_size=6, unique=True), k=st.integers(1, 7))
@settings(max_examples=10, deadline=None)
def test_all_answers_are_those_of_brute_force(family, strings, k):
    decoder = decoder_of(family, strings)
    exact = {prompt: brute_force(family, prompt, strings) for prompt in PROMPTS}
    by_beams, proven = (decoder.top(PROMPTS, k, search=search) for search in ("beam", "exact"))
    table, some = decoder.log_probs(PROMPTS), decoder.log_probs(PROMPTS, strings[:2])
    ranked = decoder.rank(PROMPTS, [strings[position:] for position in range(3)])
    for position, prompt in enumerate(PROMPTS):
        for top in (by_beams[position], proven[position]):
            assert dict(top) == pytest.approx(best(exact[prompt], k), abs=NEAR)
            assert [score for _, score in top] == sorted((score for _, score in top), reverse=True)
        assert dict(zip(strings, table[position], strict=True)) == pytest.approx(exact[prompt], abs=NEAR)
        assert list(some[position]) == pytest.approx([exact[prompt][text] for text in strings[:2]], abs=NEAR)
        assert dict(ranked[position]) == pytest.approx(
            {text: exact[prompt][text] for text in strings[position:]}, abs=NEAR
        )


@families
def test_strange_strings_are_text_and_nothing_else(family):
    model, tokenizer = small(family)
    # for T5 one of few tokens, for the time it takes
    long = ("gloves of silk " * 667)[:10_000] if family == "decoder-only" else "hat" + "红" * 9_997
    strange = ["</s>", "<extra_id_0>", "<pad>red", "red</s>", "r\xe9d", "红", "red\nhat", long]
    decoder = decoder_of(family, strange)
    assert len(strange[-1]) == 10_000
    special = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()} - {tokenizer.unk_token_id}
    names = decoder.trie.names(np.arange(len(strange)))
    for number in range(len(strange)):
        *tokens, end = names[number].tolist()
        assert end == tokenizer.eos_token_id and tokens and not special & set(tokens)
    top = dict(decoder.top(PROMPTS[:1], k=8, beams=8)[0])
    for number, text in enumerate(strange):
        assert top[text] == pytest.approx(
            name_log_prob(model, tokenizer, PROMPTS[0], names[number].tolist()), rel=1e-5
        )


@families
def test_a_prefix_makes_the_tokens_of_a_string_that_stands_after_a_text(family):
    model, tokenizer = small(family)
    plain, after_space = string_trie(tokenizer, ["hat"]), string_trie(tokenizer, ["hat"], prefix=" ")
    assert after_space.names(np.array([0]))[0].tolist() == name_of(tokenizer, " hat")
    if family == "decoder-only":
        assert plain.names(np.array([0]))[0].tolist() != after_space.names(np.array([0]))[0].tolist()
    decoder = decoder_of(family, ["hat"], prefix=" ")
    assert decoder.top(["red"], k=1)[0] == [
        ("hat", pytest.approx(name_log_prob(model, tokenizer, "red", name_of(tokenizer, " hat")), abs=NEAR))
    ]


@families
def test_another_end_closes_the_strings(family):
    model, tokenizer = small(family)
    (end,) = tokenizer.encode(",", add_special_tokens=False)[-1:]
    decoder = decoder_of(family, end=end)
    exact = name_log_prob(model, tokenizer, "red", [*name_of(tokenizer, "red hat")[:-1], end])
    assert decoder.log_probs(["red"], ["red hat"])[0, 0] == pytest.approx(exact, abs=NEAR)
    with pytest.raises(BadValue, match="holds the end token"):
        decoder_of(family, ["red, blue"], end=end)


@families
def test_what_is_excluded_or_not_allowed_never_comes_back(family):
    exact = [brute_force(family, prompt, STRINGS) for prompt in PROMPTS]
    decoder = decoder_of(family)
    excluded = [["red"], [], list(STRINGS[1:])]
    mask = np.array([[True] * 6, [False, True] * 3, [True] * 6])
    for search in ("beam", "exact"):
        top = decoder.top(PROMPTS, 3, search=search, excluded=excluded)
        for position, row in enumerate(top):
            left = {text: score for text, score in exact[position].items() if text not in excluded[position]}
            assert dict(row) == pytest.approx(best(left, 3), abs=NEAR)
        for row, scores in zip(
            decoder.top(PROMPTS, search=search, allowed=["red", "red hat"]), exact, strict=True
        ):
            assert dict(row) == pytest.approx({text: scores[text] for text in ("red", "red hat")}, abs=NEAR)
        assert decoder.top(PROMPTS, allowed=mask[1], search=search) == decoder.top(
            PROMPTS, allowed=STRINGS[1::2], search=search
        )
        each = decoder.top(PROMPTS, allowed=mask, excluded=excluded, search=search)
        assert [len(row) for row in each] == [5, 3, 1]
    assert decoder.top(PROMPTS, excluded=[STRINGS] * 3) == [[], [], []]


@families
def test_strings_join_and_leave(family):
    decoder = decoder_of(family, STRINGS[:3])
    decoder.remove(["red"])
    decoder.add(STRINGS[3:5])
    assert decoder.strings == ["red scarf", "blue hat", "red hat", "green glove of wool"]
    exact = brute_force(family, PROMPTS[0], decoder.strings)
    assert dict(decoder.top(PROMPTS[:1])[0]) == pytest.approx(exact, abs=NEAR)
    assert decoder.log_probs(PROMPTS[:1])[0].tolist() == pytest.approx(list(exact.values()), abs=NEAR)
    assert (
        len(
            decoder.top(
                PROMPTS[:1], excluded=[["red", "red hat"]], allowed=np.array([True, True, True, False])
            )[0]
        )
        == 2
    )
    decoder.add(["red", "blue"])
    assert decoder.strings == ["red scarf", "red", "blue hat", "red hat", "green glove of wool", "blue"]
    assert dict(decoder.top(PROMPTS[:1])[0]) == pytest.approx(
        brute_force(family, PROMPTS[0], decoder.strings), abs=NEAR
    )
    with pytest.raises(DuplicateName, match='"red" is among the strings twice'):
        decoder.add(["red"])
    with pytest.raises(UnknownItem, match='"cap" is not among the strings'):
        decoder.remove(["cap"])
    decoder.remove(decoder.strings)
    assert decoder.top(PROMPTS) == [[], [], []] and decoder.log_probs(PROMPTS).shape == (3, 0)
    with pytest.raises(UnknownItem):
        decoder.log_probs(PROMPTS, ["red"])


@families
def test_batches_change_nothing_and_report_progress(family):
    calls: list[tuple[int, int]] = []
    one = decoder_of(family, batch_size=1).top(PROMPTS, 4)
    three = decoder_of(family, batch_size=2, on_batch=lambda done, whole: calls.append((done, whole))).top(
        PROMPTS, 4
    )
    for row, other in zip(one, three, strict=True):
        assert dict(row) == pytest.approx(dict(other), abs=NEAR)
    assert calls == [(2, 3), (3, 3)]


@families
def test_prompts_may_be_none_empty_or_token_ids(family):
    model, tokenizer = small(family)
    decoder = decoder_of(family)
    assert decoder.top([]) == [] and decoder.rank([], []) == [] and decoder.log_probs([]).shape == (0, 6)
    ids = tokenizer(PROMPTS[0]).input_ids
    assert decoder.log_probs([ids]).tolist() == decoder.log_probs([PROMPTS[0]]).tolist()
    if family == "encoder-decoder":
        assert dict(decoder.top([""])[0]) == pytest.approx(brute_force(family, "", STRINGS), abs=NEAR)
        return
    with pytest.raises(BadValue, match="no begin token"):
        decoder.top([""])
    begins = copy.deepcopy(tokenizer)
    begins.bos_token = "</s>"
    log_probs = ConstrainedDecoder(model, begins, STRINGS).log_probs(["", [begins.bos_token_id]])
    assert log_probs[0].tolist() == log_probs[1].tolist()


@families
def test_the_model_and_the_tokenizer_stay_as_they_are(family):
    model, tokenizer = (copy.deepcopy(part) for part in small(family))
    tokenizer.pad_token = None if family == "decoder-only" else tokenizer.pad_token
    model.generation_config.update(do_sample=True, top_k=1, repetition_penalty=3.0)
    model.train()
    next(part for part in model.modules() if part is not model).eval()
    before = copy.deepcopy((model.state_dict(), model.config.to_dict(), model.generation_config.to_dict()))
    modes, words = (
        [part.training for part in model.modules()],
        (len(tokenizer), tokenizer.special_tokens_map, tokenizer.get_vocab()),
    )
    decoder = ConstrainedDecoder(model, tokenizer, STRINGS)
    for search in ("beam", "exact"):
        assert dict(decoder.top(PROMPTS[:1], search=search)[0]) == pytest.approx(
            brute_force(family, PROMPTS[0], STRINGS), abs=NEAR
        )
    with pytest.raises(UnknownItem):
        decoder.rank(PROMPTS[:1], [["cap"]])
    assert [part.training for part in model.modules()] == modes
    assert (model.config.to_dict(), model.generation_config.to_dict()) == before[1:]
    assert all(torch.equal(weight, before[0][name]) for name, weight in model.state_dict().items())
    assert (len(tokenizer), tokenizer.special_tokens_map, tokenizer.get_vocab()) == words


@families
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_gives_nearly_the_same_numbers(family, kind):
    model, tokenizer = small(family)
    half = ConstrainedDecoder(copy.deepcopy(model).to(kind), tokenizer, STRINGS)
    table, exact = half.log_probs(PROMPTS), decoder_of(family).log_probs(PROMPTS)
    assert np.linalg.norm(table - exact) < np.linalg.norm(exact) * (0.05 if kind == torch.bfloat16 else 0.01)
    for position, row in enumerate(half.top(PROMPTS, 6)):
        assert dict(row) == pytest.approx(dict(zip(STRINGS, table[position], strict=True)), abs=0.5)


@families
def test_states_that_overflow_in_the_middle_of_a_string_are_an_error(family):
    model, tokenizer = copy.deepcopy(small(family)[0]), small(family)[1]
    decoder = ConstrainedDecoder(model, tokenizer, STRINGS)
    rows = [name_of(tokenizer, text) for text in STRINGS]
    # a token of "red scarf" alone
    bad = next(token for token in rows[0] if all(token not in row for row in rows[1:]))
    with torch.no_grad():
        model.get_input_embeddings().weight[bad] = torch.nan
    model.train()
    for method in (
        decoder.top,
        lambda prompts: decoder.top(prompts, search="exact"),
        decoder.log_probs,
        lambda p: decoder.rank(p, [STRINGS]),
    ):
        with pytest.raises(SettingsError, match="overflow"):
            method(["red hat"])
        assert model.training  # put back although the search broke off


def test_length_penalty_divides_by_the_tokens_of_a_string_and_its_end():
    _, tokenizer = small("decoder-only")
    plain, mean = (dict(decoder_of("decoder-only").top(PROMPTS[:1], length_penalty=a)[0]) for a in (0.0, 1.0))
    assert mean == pytest.approx(
        {text: score / len(name_of(tokenizer, text)) for text, score in plain.items()}
    )


@pytest.mark.parametrize(
    ("strings", "error", "message"),
    [
        ([], BadValue, "empty list of strings"),
        (["red", ""], BadValue, "an empty string is among the strings"),
        (["red", "hat", "red"], DuplicateName, '"red" is among the strings twice'),
        ("red", BadValue, "put it in a list"),
    ],
)
@families
def test_strings_that_cannot_be_generated_are_refused(family, strings, error, message):
    with pytest.raises(error, match=message):
        decoder_of(family, strings)


def test_strings_that_a_tokenizer_cannot_tell_apart_are_named():
    for add in (False, True):
        with pytest.raises(DuplicateName, match='"red hat" and "red  hat" are the same tokens'):
            if add:
                decoder_of("encoder-decoder", ["red hat", "blue"]).add(["scarf", "red  hat"])
            else:
                decoder_of("encoder-decoder", ["red hat", "blue", "red  hat"])
    with pytest.raises(BadValue, match="has no token"):
        decoder_of("encoder-decoder", ["\n"])


def test_wrong_questions_are_answered_by_a_sentence():
    decoder = decoder_of("decoder-only")
    wrong = (
        ({"k": 0}, SettingsError, "at least 1"),
        ({"search": "breadth"}, SettingsError, 'choose "beam" or "exact"'),
        ({"finish": "retier"}, SettingsError, 'choose "replay" or "retire"'),
        ({"search": "exact", "exact_limit": -1}, SettingsError, "exact_limit not negative"),
        ({"allowed": "red"}, BadValue, "put it in a list"),
        ({"search": "exact", "length_penalty": 1.0}, SettingsError, "by log-probability alone"),
        ({"search": "exact", "exact_limit": 1}, SettingsError, "raise exact_limit"),
        ({"excluded": [["red"], []]}, BadValue, "one list of strings per prompt"),
        ({"excluded": ["red"]}, BadValue, "one list of strings per prompt"),
        ({"excluded": [["cap"]]}, UnknownItem, '"cap" is not among'),
        ({"allowed": np.ones(5, bool)}, BadValue, "of the shape"),
        ({"allowed": np.arange(6)}, BadValue, "bool mask"),
        ({"allowed": [1, 2]}, BadValue, "bool mask"),
        ({"allowed": "red"}, BadValue, "one string was given"),
        ({"finish": "retier"}, SettingsError, 'choose "replay" or "retire"'),
    )
    for more, error, message in wrong:
        with pytest.raises(error, match=re.escape(message)):
            decoder.top(PROMPTS[:1], **more)
    for method in (decoder.top, decoder.log_probs):
        with pytest.raises(BadValue, match="put it in a list"):
            method(PROMPTS[0])
    letters = decoder_of("decoder-only", ["c", "a", "p"])  # a text is not read as a list of its letters
    calls_with_a_text = (
        lambda text: letters.log_probs(PROMPTS, text),
        lambda text: letters.rank(PROMPTS[:1], [text]),
    )
    for call in (letters.add, letters.remove, *calls_with_a_text):
        with pytest.raises(BadValue, match="put it in a list"):
            call("cap")
    assert letters.strings == ["c", "a", "p"]
    for prompts, message in (
        ([1, 2], "token ids of one prompt"),
        ([None], "None is no prompt"),
        ([[1, 10**6]], "token id that this"),
    ):
        with pytest.raises(BadValue, match=message):
            decoder.top(prompts)
    with pytest.raises(BadValue, match="one string was given"):
        decoder.log_probs(PROMPTS[:1], "red")
    with pytest.raises(BadValue, match="nan is among the strings and is no text"):
        decoder.add([float("nan")])
    with pytest.raises(BadValue, match="1 prompts have 2 lists"):
        decoder.rank(PROMPTS[:1], [["red"], ["red"]])
    with pytest.raises(SettingsError, match="batch_size"):
        decoder_of("decoder-only", batch_size=0)
    nameless = copy.deepcopy(small("decoder-only")[1])
    nameless.eos_token = None
    with pytest.raises(SettingsError, match="names no end token"):
        string_trie(nameless, STRINGS)


TINY = {"vocab_size": 400, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
LLAMA = {
    **TINY,
    "intermediate_size": 32,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 1,
}


@pytest.mark.parametrize(
    "make",
    [
        lambda: MistralForCausalLM(MistralConfig(**LLAMA, sliding_window=8)),
        lambda: BertLMHeadModel(BertConfig(**TINY, intermediate_size=32)),
        lambda: BartForConditionalGeneration(
            BartConfig(vocab_size=400, d_model=16, encoder_layers=1, decoder_layers=1)
        ),
    ],
    ids=["sliding window", "both sides", "BART"],
)
def test_what_a_run_refuses_is_refused_in_the_same_words(make, tmp_path):
    model = make()
    model.config.save_pretrained(tmp_path)
    with pytest.raises(SettingsError) as ours:
        model.config.name_or_path = str(tmp_path)
        ConstrainedDecoder(model, small("decoder-only")[1], STRINGS)
    with pytest.raises(SettingsError) as theirs:
        read_config(PretrainedSettings(name=str(tmp_path)))
    assert str(ours.value) == str(theirs.value)


def test_a_model_that_the_tree_would_misread_is_refused():
    tokenizer = small("decoder-only")[1]
    # scales its output after the output layer
    scaled = with_large_weights(GraniteForCausalLM(GraniteConfig(**LLAMA, logits_scaling=4.0)))
    other = GPT2LMHeadModel(GPT2Config(vocab_size=400, n_embd=16, n_layer=1, n_head=2))
    flash = copy.deepcopy(small("decoder-only")[0])
    flash.config._attn_implementation = "flash_attention_2"
    broken = copy.deepcopy(small("decoder-only")[0])
    next(broken.parameters()).data.fill_(torch.nan)
    cases = (
        (scaled, "its own forward pass"),
        (other, "has other parts"),
        (flash, "takes no mask"),
        (broken, "overflow"),
        (object(), "is no"),
    )
    for model, message in cases:
        with pytest.raises(SettingsError, match=message):
            ConstrainedDecoder(model, tokenizer, STRINGS)
    with pytest.raises(SettingsError, match="is no transformers model"):
        ConstrainedDecoder(object(), tokenizer, STRINGS)
    fine = ConstrainedDecoder(
        with_large_weights(GraniteForCausalLM(GraniteConfig(**LLAMA, logits_scaling=1.0))), tokenizer, STRINGS
    )
    assert len(fine.top(PROMPTS[:1])[0]) == 6


@pytest.mark.parametrize(
    "make",
    [
        # a vector per position: depths count, not cache entries
        lambda: OPTForCausalLM(OPTConfig(**TINY, ffn_dim=32, word_embed_proj_dim=16)),
        lambda: GemmaForCausalLM(GemmaConfig(**LLAMA, head_dim=8)),
        lambda: MixtralForCausalLM(MixtralConfig(**LLAMA, num_local_experts=2)),
    ],
    ids=["OPT", "Gemma", "Mixtral"],
)
def test_other_decoders_give_what_their_own_forward_pass_gives(make):
    tokenizer, model = small("decoder-only")[1], with_large_weights(make())
    exact = {text: name_log_prob(model, tokenizer, PROMPTS[0], name_of(tokenizer, text)) for text in STRINGS}
    assert dict(ConstrainedDecoder(model, tokenizer, STRINGS).top(PROMPTS[:1])[0]) == pytest.approx(
        exact, abs=NEAR
    )


@families
def test_the_example_of_the_page_runs(family, tmp_path, capsys):
    model, tokenizer = small(family)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    first, *others = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert "HuggingFaceTB/SmolLM2-135M" in first
    opens = first.replace("HuggingFaceTB/SmolLM2-135M", str(tmp_path))
    if family == "encoder-decoder":
        opens = opens.replace(AutoModelForCausalLM.__name__, "AutoModelForSeq2SeqLM")
    names: dict[str, object] = {}
    exec(opens, names)
    assert capsys.readouterr().out.count("scarf") == 1
    if family == "decoder-only":  # what the page describes of `generate` is for one family at a time
        for block in others:
            exec(block, names)


def test_the_names_of_the_package_are_there():
    for name in shelftalk.decoding.__all__:
        assert getattr(shelftalk.decoding, name).__doc__
    with pytest.raises(AttributeError, match='no "beam"'):
        _ = shelftalk.decoding.beam
