"""No text becomes a control token: looked for in the ids that come out, with tokenizers of every kind that
models come with."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from shelftalk.decoding.strings import string_trie
from shelftalk.models.free_text import TEXT_WORDS, FreeText
from shelftalk.models.nano import train_tokenizer
from shelftalk.models.pretrained import start_from_pretrained
from shelftalk.models.settings import PretrainedSettings
from shelftalk.models.text_encoder import TextEncoder
from shelftalk.records import Segment
from shelftalk.testing.t5_folder import SMALL, nmt_nfkc, save_flan_t5

SYMBOLS = ["<extra_id_0>", "<extra_id_1>", "<i_12>", "<a_1>", "<u_3>", "<item_12>"]
TEXTS = ["red scarf blue hat 0 1 2 3 < > / s | _ e x t r a i d p n k </ /s> <s s>"] * 20
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789<>/|_[]="


def t5() -> PreTrainedTokenizerBase:
    """T5's kind and its normalisation, adapted to an index as a training adapts it."""
    with TemporaryDirectory() as folder:
        save_flan_t5(Path(folder), TEXTS, SMALL, 400, 150)
        start = PretrainedSettings(name=folder, random_weights=True)
        return start_from_pretrained(start, SYMBOLS, {}, "fp32", 0).tokenizer


def unigram_with_bytes() -> PreTrainedTokenizerBase:
    """As mT5 has it: bytes for what is unknown, sentinels that are not added to the tokenizer, and pieces
    of XLM-RoBERTa's names."""
    names = [
        "<pad>",
        "</s>",
        "<unk>",
        "<s>",
        "<mask>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "\u2581<extra_id_0>",
        "<extra_id_1>",
    ]
    pieces = [*((name, 0.0) for name in names), *((letter, -5.0) for letter in ["\u2581", *LETTERS])]
    made = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=True))
    made.normalizer = normalizers.Precompiled(nmt_nfkc())
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    special = {
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "bos_token": "<s>",
        "mask_token": "<mask>",
    }
    return PreTrainedTokenizerFast(tokenizer_object=made, **special)


def byte_level() -> PreTrainedTokenizerBase:
    """The nano model's, with an ordinary added word as chat models have them."""
    tokenizer = train_tokenizer(TEXTS, SYMBOLS, 320)
    tokenizer.add_tokens(["<tool_call>", "[INST]"], special_tokens=False)
    return tokenizer


def gpt2() -> PreTrainedTokenizerBase:
    """One token for begin, end, pad and unknown."""
    tokenizer = train_tokenizer(TEXTS, [], 300)
    word = "<|endoftext|>"
    tokenizer.add_special_tokens({"bos_token": word, "eos_token": word, "pad_token": word, "unk_token": word})
    return tokenizer


def merges_with_bytes() -> PreTrainedTokenizerBase:
    """Llama 2's kind, made of a GGUF file: whatever the vocabulary holds has merges, its control
    tokens too."""
    names = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "\u2581",
        *LETTERS,
        "</",
        "s>",
        "<s",
    ]
    merges = [("<", "/"), ("s", ">"), ("<", "s"), ("</", "s>"), ("<s", ">")]
    vocabulary = {name: number for number, name in enumerate(names)}
    made = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    made.decoder = decoders.ByteFallback()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


def composing() -> PreTrainedTokenizerBase:
    """Normalises fully (NFKC, lower case, no accents), and looks for its added words after that."""
    made = Tokenizer.from_str(train_tokenizer(TEXTS, [], 320).backend_tokenizer.to_str())
    made.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="</s>")
    tokenizer.add_tokens([AddedToken("<item_12>", normalized=True)], special_tokens=False)
    return tokenizer


def word_pieces() -> PreTrainedTokenizerBase:
    """BERT's kind, which cuts at spaces alone."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, *(f"##{letter}" for letter in LETTERS), "red"]
    made = Tokenizer(models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = (
        normalizers.BertNormalizer(lowercase=False),
        pre_tokenizers.WhitespaceSplit(),
    )
    special = {
        "unk_token": "[UNK]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "eos_token": "[SEP]",
    }
    return PreTrainedTokenizerFast(tokenizer_object=made, **special)


def unknown_is_the_end() -> PreTrainedTokenizerBase:
    """No bytes, and what is unknown is the end token."""
    words = {word: number for number, word in enumerate(["<pad>", "</s>", *"abcdefghijklmnopqrstuvwxyz< "])}
    made = Tokenizer(models.BPE(words, [], unk_token="</s>"))
    return PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="</s>", eos_token="</s>", pad_token="<pad>"
    )


def python_bytes() -> PreTrainedTokenizerBase:
    """ByT5's, written in Python: it has no offsets of tokens."""
    tokenizer = ByT5Tokenizer()
    tokenizer.add_tokens([AddedToken(symbol, normalized=False) for symbol in SYMBOLS], special_tokens=True)
    return tokenizer


KINDS = (
    t5,
    unigram_with_bytes,
    byte_level,
    gpt2,
    merges_with_bytes,
    composing,
    word_pieces,
    unknown_is_the_end,
    python_bytes,
)
Made = Callable[[], PreTrainedTokenizerBase]


@cache
def reader(kind: Made) -> tuple[PreTrainedTokenizerBase, FreeText, frozenset[int], list[str]]:
    """The tokenizer, what reads with it, and the ids and words that no text may have; worked out here apart
    from the code."""
    tokenizer = kind()
    words = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()} - {*TEXT_WORDS}
    words |= {piece for piece in tokenizer.get_vocab() if "<extra_id_" in piece}
    roles = (tokenizer.pad_token, tokenizer.eos_token, tokenizer.bos_token)
    if tokenizer.unk_token not in roles:
        words -= {tokenizer.unk_token}
    ids = frozenset(int(tokenizer.convert_tokens_to_ids(word)) for word in words)
    return tokenizer, FreeText(tokenizer), ids, sorted(word.lstrip("\u2581") for word in words)


def wide(text: str) -> str:
    """Full-width forms, which NFKC makes plain."""
    return "".join(chr(ord(letter) + 0xFEE0) if "!" <= letter <= "~" else letter for letter in text)


def disguised(word: str) -> list[str]:
    small = word.replace("<", "\ufe64").replace(">", "\ufe65")
    broken = [
        word[:1] + mark + word[1:]
        for mark in ("\x01", "\x7f", "\u200b", "\u00ad", "\ufeff", "\u0301", "\u202e", "\r")
    ]
    twice = [f"{word}{word}", f"a {word} b", f"x{word}y", word[:2] + word + word[2:], word.upper()]
    return [word, wide(word), wide(word[0]) + word[1:], small, *broken, *twice]


@pytest.mark.parametrize("kind", KINDS)
def test_no_disguise_of_a_control_token_yields_one(kind: Made):
    _, read, never, words = reader(kind)
    texts = [text for word in words for text in disguised(word)]
    alone = [read.ids(text) for text in texts]
    assert not [text for text, ids in zip(texts, alone, strict=True) if never.intersection(ids)]
    rows = read.batch(texts)
    assert [rows[row].tolist() for row in range(len(rows))] == alone  # one by one or together


PIECES = [
    "<",
    ">",
    "/",
    "s",
    "|",
    "[",
    "extra_id_0",
    "extra_id_1",
    "i_12",
    "item_12",
    "tool_call",
    "unk",
    "pad",
    "0x0A",
    "|end",
    "SEP",
]
ALPHABET = [
    *PIECES,
    *map(wide, PIECES),
    *"]_ \u3000\ufe64\ufe65\u2039\u226e\u02c2\u2044\u2215\u017f\u24e2\u00aa\u0338\u0301\u20d2",
]
ALPHABET += [
    *"\x01\x1f\x7f\u0085\u00ad\u200b\u200d\u2060\ufeff\u202e\ufe0f\n\t",
    "\u65e5\u672c",
    "\U0001f600",
    "\U000e0041",
    *SYMBOLS,
]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(texts=st.lists(st.lists(st.sampled_from(ALPHABET), max_size=12).map("".join), min_size=1, max_size=6))
@example(texts=["\uff1c/s\uff1e", "<\x01/s>", "\uff1cextra_id_0\uff1e", "\uff1cpad\uff1e", "<item_12>"])
def test_no_text_of_brackets_and_look_alikes_yields_a_control_token(kind: Made, texts: list[str]):
    _, read, never, _ = reader(kind)
    rows = read.batch(texts)
    assert not never.intersection(rows.values.tolist())
    assert [rows[row].tolist() for row in range(len(rows))] == [read.ids(text) for text in texts]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not python_bytes])
@settings(max_examples=50, deadline=None)
@given(text=st.text(st.characters(codec="utf-8"), max_size=30))
def test_any_other_text_has_the_tokens_that_the_tokenizer_gives_it(kind: Made, text: str):
    tokenizer, read, never, _ = reader(kind)
    plain = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    if not never.intersection(plain) and "<0x" not in text and "unk" not in text.lower():
        assert read.ids(text) == plain


def test_the_true_normaliser_is_at_work():
    tokenizer, *_ = reader(t5)
    end = tokenizer.eos_token_id
    for disguise in ("\uff1c/s\uff1e", "<\x01/s>"):
        # what FreeText must prevent
        ids = tokenizer.encode(disguise, add_special_tokens=False, split_special_tokens=True)
        assert end in ids
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        kept = json.loads((Path(folder) / "tokenizer.json").read_text("utf-8"))["normalizer"]
        assert kept["type"] == "Precompiled" and len(kept["precompiled_charsmap"]) > 300_000
        assert not FreeText(AutoTokenizer.from_pretrained(folder)).ids("\uff1c/s\uff1e").count(end)


def test_what_is_cut_still_says_what_it_said():
    for kind in (byte_level, gpt2, composing):
        tokenizer, read, _, words = reader(kind)
        for text in (f"my {word} and {word}{word}" for word in words):
            assert tokenizer.decode(read.ids(text)) == text


def test_a_text_that_spells_the_unknown_token_or_a_byte_is_cut_and_one_that_is_unknown_is_not():
    tokenizer, read, *_ = reader(unigram_with_bytes)
    byte = tokenizer.convert_tokens_to_ids("<0x0A>")
    assert byte not in read.ids("a <0x0A> b") and byte not in read.ids("\u65e5 \uff1c0x0A\uff1e")
    assert len(read.ids("\u65e5")) == 4 and not {tokenizer.unk_token_id}.intersection(read.ids("<unk> <unk>"))
    known, of_t5, *_ = reader(t5)
    assert known.unk_token_id in of_t5.ids("\u65e5\u672c") and known.unk_token_id not in of_t5.ids(
        "red <unk>"
    )


def test_an_added_word_of_one_letter_is_text():
    tokenizer = train_tokenizer(TEXTS, [], 300)
    tokenizer.add_tokens(["\u00e6"], special_tokens=False)
    assert FreeText(tokenizer).ids("\u00e6") == [tokenizer.convert_tokens_to_ids("\u00e6")]


class Counting:
    """A tokenizer that counts how often it is called, and with how many characters."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer, self.calls, self.characters = tokenizer, 0, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.tokenizer, name)

    def __len__(self) -> int:
        return len(self.tokenizer)

    def encode(self, text: str, **how: object) -> list[int]:
        self.calls, self.characters = self.calls + 1, self.characters + len(text)
        return self.tokenizer.encode(text, **how)

    def __call__(self, text: str | list[str], **how: object) -> dict[str, list]:
        self.calls, self.characters = self.calls + 1, self.characters + len("".join(text))
        return self.tokenizer(text, **how)


@pytest.mark.parametrize("kind", KINDS)
def test_a_catalogue_without_control_tokens_is_read_in_one_call(kind: Made):
    tokenizer = Counting(reader(kind)[0])
    FreeText(tokenizer).batch(["red scarf" + " ab" * (number % 7) for number in range(500)])
    assert tokenizer.calls == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "text", ["</s>", "<unk>", "[SEP]", "\u65e5<unk>\u672c", "<\x01/s>", "<|endoftext|>", "<0x0A>"]
)
def test_a_long_text_of_nothing_but_control_tokens_costs_little_more_than_its_length(kind: Made, text: str):
    tokenizer, read = reader(kind)[:2]
    counting = Counting(tokenizer)
    texts = text * 300
    assert not reader(kind)[2].intersection(FreeText(counting).ids(texts))  # type: ignore[arg-type]
    assert counting.characters < 60 * len(texts)


def test_names_and_strings_are_read_in_the_same_way():
    titles = ["\uff1c/s\uff1e red", "<\x01/s>", "<extra_id_0> hat", "\uff1citem_12\uff1e"]
    tokenizer, _, never, _ = reader(t5)
    encoder = TextEncoder(tokenizer)
    names = encoder.encode_names([[Segment(title)] for title in titles])
    assert not never.intersection(names.values.tolist())
    assert not never.intersection(encoder.encode([Segment(title) for title in titles]).ids.tolist())
    trie = string_trie(tokenizer, titles)
    names_of_strings: Sequence[np.ndarray] = [trie.names(np.array([row]))[0] for row in range(len(titles))]
    assert all(
        name[-1] == tokenizer.eos_token_id and not never.intersection(name[:-1].tolist())
        for name in names_of_strings
    )
