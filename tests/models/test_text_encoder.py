"""Segments as token ids, by a tokenizer alone. What an exam checks of every backbone's encoder is
in model_exams."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelftalk.models import text_encoder
from shelftalk.models.nano import train_tokenizer
from shelftalk.models.text_encoder import Encoded, TextEncoder
from shelftalk.records import Sample, Segment
from shelftalk.tasks.samples import Tables, samples_of

SYMBOLS = ["<a_0>", "<a_1>", "<b_0>"]
TOKENIZER = train_tokenizer(["red scarf, blue hat: 4.5\n"], SYMBOLS, 300)
ENCODER = TextEncoder(TOKENIZER)

free_text = st.builds(Segment, st.text(max_size=12), st.booleans())
runs_of_symbols = st.builds(
    lambda symbols, loss: Segment("".join(symbols), loss, symbols=True),
    st.lists(st.sampled_from(SYMBOLS), min_size=1, max_size=3),
    st.booleans(),
)
segments = st.lists(free_text | runs_of_symbols, max_size=5)


def columns(encoded: Encoded) -> tuple[list[int], list[bool]]:
    return encoded.ids.tolist(), encoded.bears_loss.tolist()


@given(segments, segments)
def test_segments_together_are_each_of_them_one_after_another(
    first: list[Segment], then: list[Segment]
) -> None:
    ids, loss = columns(ENCODER.encode(first))
    more_ids, more_loss = columns(ENCODER.encode(then))
    assert columns(ENCODER.encode([*first, *then])) == (ids + more_ids, loss + more_loss)


@given(st.lists(segments, min_size=1, max_size=4))
def test_samples_and_names_of_any_segments_have_the_tokens_that_each_has_alone(
    rows: list[list[Segment]],
) -> None:
    alone = [columns(ENCODER.encode(row)) for row in rows]
    records = [Sample("task", "template", "", (), tuple(row)) for row in rows]
    assert [
        columns(encoded) for encoded in ENCODER.encode_samples(samples_of(records, Tables([], [])))
    ] == alone
    names = ENCODER.encode_names(rows)
    assert names.values.dtype == np.int32
    assert [names[row].tolist() for row in range(len(names))] == [ids for ids, _ in alone]


def test_a_symbol_is_one_token_and_the_same_text_that_is_free_is_none_of_the_symbols() -> None:
    assert ENCODER.tokens("<a_1><b_0>", symbols=True) == TOKENIZER.convert_tokens_to_ids(["<a_1>", "<b_0>"])
    free = ENCODER.tokens("<a_1><b_0>", symbols=False)
    assert free and not set(free) & set(ENCODER.symbol_ids.values())
    assert ENCODER.has_symbols(SYMBOLS) and not ENCODER.has_symbols([*SYMBOLS, "<a_2>"])
    for encode in (ENCODER.encode, lambda segments: ENCODER.encode_names([segments])):
        with pytest.raises(KeyError, match="a_2"):
            encode([Segment("<a_2>", symbols=True)])


def test_the_prompt_ends_before_the_first_token_that_bears_loss() -> None:
    segments = [
        Segment("red "),
        Segment("<a_0>", True, symbols=True),
        Segment(" hat"),
        Segment("<b_0>", True, True),
    ]
    assert ENCODER.encode(segments).prompt_length == len(ENCODER.encode(segments[:1]))
    assert ENCODER.encode(segments[:1]).prompt_length == len(ENCODER.encode(segments[:1]))
    assert ENCODER.encode(segments[1:]).prompt_length == 0 and ENCODER.encode([]).prompt_length == 0


def test_shown_tokens_spell_the_text_and_the_cache_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_encoder, "CACHE_SIZE", 2)
    encoder = TextEncoder(TOKENIZER)
    encoded = encoder.encode([Segment(text) for text in ("red ", "blue ", "hat, ", "red ", "hat")])
    assert "".join(text for text, _ in encoder.show(encoded)) == "red blue hat, red hat"
    assert len(encoder._cache) == 2


def test_no_model_is_needed() -> None:
    """In a process of its own, in which any model that is built would fail."""
    code = """
from tokenizers import Tokenizer, models
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from shelftalk.models.text_encoder import TextEncoder
from shelftalk.records import Segment

def refuse(*_, **__):
    raise AssertionError("a model was built")

PreTrainedModel.__init__ = PreTrainedModel.from_pretrained = refuse
tokenizer = Tokenizer(models.WordLevel({"red": 0, "[UNK]": 1}, unk_token="[UNK]"))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")
tokenizer.add_tokens(["<a_0>"], special_tokens=True)
encoded = TextEncoder(tokenizer).encode([Segment("red"), Segment("<a_0>", True, symbols=True)])
assert encoded.ids.tolist() == [0, 2] and encoded.bears_loss.tolist() == [False, True]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
