"""The trie inside transformers' generate: the same items as our own searches, whatever the checkpoint's
generation file says."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import FAMILIES, PROMPTS, small
from transformers import GenerationConfig

from shelftalk.decoding import (
    ConstrainedDecoder,
    Exclusions,
    TrieLogitsProcessor,
    generation_config,
    string_trie,
)
from shelftalk.decoding.item_trie import Trie, build_trie
from shelftalk.decoding.live_trie import LiveTrie
from shelftalk.decoding.logits_processor import longest_name
from shelftalk.errors import IllegalMove, NothingLeft, SettingsError

END = 11
NEAR = 1e-4
STRINGS = ["red scarf", "red", "blue hat", "red hat", "green glove of wool", "blue hats and gloves"]
families = pytest.mark.parametrize("family", FAMILIES)
NAMES = st.lists(
    st.lists(st.integers(0, 3), max_size=6).map(tuple), min_size=1, max_size=20, unique=True
).map(lambda names: [(*name, END) for name in names])


def inputs_of(family: str, prompts=PROMPTS):
    tokenizer = small(family)[1]
    return tokenizer(
        list(prompts), return_tensors="pt", padding=True, padding_side="left", return_token_type_ids=False
    )


def generated(
    family: str,
    decoder: ConstrainedDecoder,
    beams: int = 1,
    exclusions: Exclusions | None = None,
    model=None,
    **more,
):
    """[R, B] items and scores."""
    model, inputs = model or small(family)[0], inputs_of(family)
    processor = TrieLogitsProcessor(
        decoder.trie,
        decoder.end,
        1 if model.config.is_encoder_decoder else inputs.input_ids.shape[1],
        exclusions,
    )
    output = model.generate(
        **inputs,
        generation_config=generation_config(model, decoder.trie, decoder.end, beams, **more),
        logits_processor=[processor],
    )
    scores = output.sequences_scores if beams > 1 else None
    items = processor.items(output.sequences, scores)
    return items.reshape(len(PROMPTS), -1), None if scores is None else scores.reshape(
        items.reshape(len(PROMPTS), -1).shape
    ).numpy()


def pairs(items, scores, strings=STRINGS) -> dict[str, float]:
    return {
        strings[item]: score for item, score in zip(items.tolist(), scores.tolist(), strict=True) if item >= 0
    }


@families
def test_beams_for_every_string_find_what_our_search_finds(family):
    decoder = ConstrainedDecoder(*small(family), STRINGS)
    for beams in (6, 9):
        items, scores = generated(family, decoder, beams)
        for row, items_found, log_probs in zip(decoder.top(PROMPTS, 6), items, scores, strict=True):
            assert pairs(items_found, log_probs) == pytest.approx(dict(row), abs=NEAR)
            assert (items_found >= 0).sum() == 6  # the beams beyond the strings are recognised


@families
def test_greedy_is_a_beam_of_one(family):
    decoder = ConstrainedDecoder(*small(family), STRINGS)
    items, _ = generated(family, decoder)
    assert [[STRINGS[item] for item in row] for row in items] == [
        [row[0][0]] for row in decoder.top(PROMPTS, 1, beams=1)
    ]


@families
def test_the_checkpoints_own_settings_do_not_leak_in(family):
    decoder = ConstrainedDecoder(*small(family), STRINGS)
    hostile = copy.deepcopy(small(family)[0])
    first, other = (
        int(token) for token in decoder.trie.tokens_to(decoder.trie.children(np.array([0]))[1])[:2]
    )
    hostile.generation_config = GenerationConfig(
        do_sample=True,
        top_k=1,
        top_p=0.1,
        temperature=0.1,
        min_p=0.5,
        typical_p=0.2,
        repetition_penalty=1.5,
        min_new_tokens=12,
        min_length=50,
        max_length=4,
        max_new_tokens=2,
        num_beams=2,
        num_return_sequences=2,
        length_penalty=3.0,
        early_stopping=True,
        no_repeat_ngram_size=1,
        bad_words_ids=[[first]],
        suppress_tokens=[other],
        begin_suppress_tokens=[first],
        forced_bos_token_id=7,
        forced_eos_token_id=8,
        sequence_bias=[[[first], -9.0]],
        exponential_decay_length_penalty=(0, 9.0),
        renormalize_logits=True,
        remove_invalid_values=True,
        eos_token_id=[7, 8],
        pad_token_id=9,
        bos_token_id=9,
        decoder_start_token_id=9,
        guidance_scale=2.0,
        output_scores=False,
        return_dict_in_generate=False,
        encoder_repetition_penalty=2.0,
        encoder_no_repeat_ngram_size=1,
        stop_strings=["e"],
        max_time=1e-6,
        epsilon_cutoff=0.4,
        watermarking_config={"bias": 5.0},
        of_their_own=1,
    )
    before = hostile.generation_config.to_dict()
    for beams in (1, 3, 8):
        friendly, theirs = (generated(family, decoder, beams, model=model) for model in (None, hostile))
        assert theirs[0].tolist() == friendly[0].tolist()
        if beams > 1:
            assert theirs[1] == pytest.approx(friendly[1], abs=NEAR)
    for row, items_found, log_probs in zip(
        decoder.top(PROMPTS, 6), *generated(family, decoder, 8, model=hostile), strict=True
    ):
        assert pairs(items_found, log_probs) == pytest.approx(dict(row), abs=NEAR)
    assert hostile.generation_config.to_dict() == before


def test_settings_that_generate_does_not_have_are_refused():
    model, tokenizer = small("decoder-only")
    trie = string_trie(tokenizer, STRINGS)
    with pytest.raises(SettingsError, match='"do_smple" is no field of GenerationConfig'):
        generation_config(model, trie, tokenizer.eos_token_id, do_smple=True)
    with pytest.raises(SettingsError, match="beams=0"):
        generation_config(model, trie, tokenizer.eos_token_id, beams=0)


@families
def test_excluded_and_removed_strings_never_come_back(family):
    decoder = ConstrainedDecoder(*small(family), STRINGS)
    decoder.remove(["red"])
    decoder.add(["hat"])
    excluded = [[0], [2, 3], []]
    words = [*STRINGS, "hat"]
    items, scores = generated(family, decoder, 7, Exclusions(decoder.trie, excluded))
    top = decoder.top(PROMPTS, 7, excluded=[[words[number] for number in row] for row in excluded])
    for row, items_found, log_probs in zip(top, items, scores, strict=True):
        assert pairs(items_found, log_probs, words) == pytest.approx(dict(row), abs=NEAR)
    assert 1 not in generated(family, decoder, 7)[0]


@families
def test_samples_are_strings_too_and_come_as_often_as_their_probabilities(family):
    torch.manual_seed(0)
    decoder = ConstrainedDecoder(*small(family), ["red scarf", "red hat"])
    items, _ = generated(family, decoder, do_sample=True, num_return_sequences=300, temperature=4.0)
    assert items.shape == (3, 300) and set(items.ravel().tolist()) == {0, 1}
    only = Exclusions(decoder.trie, [[0], [1], [0]])
    assert generated(family, decoder, exclusions=only, do_sample=True, num_return_sequences=5)[
        0
    ].tolist() == [[1] * 5, [0] * 5, [1] * 5]


@st.composite
def tries(draw: st.DrawFn) -> tuple[list[tuple[int, ...]], Trie]:
    names = draw(NAMES)
    built = draw(st.integers(1, len(names)))
    return names, LiveTrie(build_trie(names[:built]), names[built:]) if draw(st.booleans()) else build_trie(
        names
    )


@given(tries(), st.data())
@settings(max_examples=120, deadline=None)
def test_what_may_follow_is_what_goes_on_with_a_name(world, data):
    names, trie = world
    requests, steps = data.draw(st.integers(1, 2)), data.draw(st.integers(0, 8))
    gone = [
        data.draw(st.sets(st.integers(0, len(names) - 1), max_size=len(names) - 1)) for _ in range(requests)
    ]
    rows = []
    for _ in range(2 * requests):  # some along a name, some outside, some beyond it
        row = list(data.draw(st.sampled_from(names)))[: data.draw(st.integers(0, 8))]
        rows.append((row + data.draw(st.lists(st.integers(0, END), min_size=steps, max_size=steps)))[:steps])
    generated = np.array(rows, np.int64).reshape(len(rows), steps)
    processor = TrieLogitsProcessor(trie, END, 0, Exclusions(trie, [sorted(row) for row in gone]))
    next_tokens = processor.allowed(generated)
    # of 12 scores the others are masked, of 4000 the few are copied
    few, many = (
        processor(torch.from_numpy(generated), torch.arange(float(v)).repeat(len(rows), 1))
        for v in (12, 4000)
    )
    assert torch.equal(many[:, :12], few) and bool((many[:, 12:] == -torch.inf).all())
    for number, row in enumerate(rows):
        excluded = gone[number // 2]
        on = {
            name[steps]
            for i, name in enumerate(names)
            if i not in excluded and len(name) > steps and name[:steps] == tuple(row)
        }
        # the tail of an excluded name, whose leaf was not allowed before
        in_tail = {name[steps] for name in names if len(name) > steps and name[:steps] == tuple(row)}
        allowed = set(next_tokens[number].tolist())
        assert allowed == (on or {END}) or (not on and allowed == in_tail and len(in_tail) == 1)
        assert {token for token in range(12) if few[number, token] > -torch.inf} == allowed
        assert all(few[number, token] == token for token in allowed)


@given(tries(), st.data())
@settings(max_examples=60, deadline=None)
def test_sequences_are_read_back_as_items(world, data):
    names, trie = world
    numbers = data.draw(st.lists(st.integers(0, len(names) - 1), min_size=1, max_size=5))
    width = longest_name(trie)
    assert width == max(map(len, names))
    rows = torch.tensor([[5, 5, *names[number], *[END] * (width - len(names[number]))] for number in numbers])
    processor = TrieLogitsProcessor(trie, END, 2)
    assert processor.items(rows).tolist() == numbers
    scores = torch.tensor([-1e9 if position == 0 else -3.0 for position in range(len(numbers))])
    for penalty in (0.0, 1.0, 2.0):
        lengths = torch.tensor([len(names[number]) for number in numbers])
        assert processor.items(rows, scores / lengths**penalty, penalty).tolist() == [-1, *numbers[1:]]


def test_a_sequence_that_is_no_name_is_an_error():
    trie = build_trie([(0, END), (1, 2, 3, END)])
    for row in ([1, 2, 3], [1, 2, 2, END], [4, END], [END, END], [1], []):
        with pytest.raises(IllegalMove, match="sequence 0 is no name"):
            TrieLogitsProcessor(trie, END, 0).items(torch.tensor([row], dtype=torch.int64))
    with pytest.raises(IllegalMove, match="sequence 1"):
        TrieLogitsProcessor(trie, END, 0, Exclusions(trie, [[], [0]])).items(
            torch.tensor([[0, END], [0, END]])
        )


def test_prompts_that_cannot_be_answered_are_refused():
    trie = build_trie([(0, END), (1, END)])
    with pytest.raises(NothingLeft, match="prompt 1"):
        TrieLogitsProcessor(trie, END, 0, Exclusions(trie, [[], [0, 1]]))
    with pytest.raises(SettingsError, match="3 rows cannot be divided among the 2 prompts"):
        TrieLogitsProcessor(trie, END, 0, Exclusions(trie, [[], []])).allowed(np.zeros((3, 0), np.int64))


def test_the_trie_needs_no_model():
    tokenizer = small("decoder-only")[1]
    trie = string_trie(tokenizer, STRINGS, end=7)
    assert trie.items == 6 and (trie.names(np.arange(6)).values == 7).sum() == 6
