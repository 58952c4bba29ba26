"""Texts as vectors: a tiny encoder with random weights, made here and opened from its folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, T5Config, T5Model

from shelftalk import parts
from shelftalk.errors import MissingFile, SettingsError
from shelftalk.indexing.item_index import IndexSettings
from shelftalk.models.sentence_encoder import encode_texts
from shelftalk.pipeline.index_building import build_index
from shelftalk.testing.task_exams import world_split
from shelftalk.testing.worlds import EVIL_TEXTS

WORDS = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "red",
    "green",
    "tea",
    "oak",
    "lamp",
    "many",
    "words",
    "x",
)


def tokenizer() -> PreTrainedTokenizerFast:
    made = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {
        "unk_token": "[UNK]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=24, **special)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> str:
    """A folder with a BERT of two layers."""
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    folder = tmp_path_factory.mktemp("encoder")
    BertModel(
        BertConfig(vocab_size=len(WORDS), max_position_embeddings=24, initializer_range=0.5, **size)
    ).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return str(folder)


def test_vectors_are_the_mean_of_the_last_states_over_the_text_and_of_unit_length(encoder):
    (vectors,) = encode_texts(["red tea"], encoder)
    model = BertModel.from_pretrained(encoder).eval()
    with torch.no_grad():
        mean = model(torch.tensor([[2, 5, 7, 3]])).last_hidden_state[0].mean(dim=0).numpy()
    np.testing.assert_allclose(vectors, mean / np.linalg.norm(mean), atol=1e-5)


def test_neither_order_nor_company_nor_batches_change_a_vector(encoder):
    texts = ["red tea", "green tea", "oak lamp", "many " * 15, "red"]
    together = encode_texts(texts, encoder)
    assert np.array_equal(encode_texts(texts, encoder), together)
    assert np.array_equal(encode_texts(texts[::-1], encoder)[::-1], together)
    np.testing.assert_allclose(encode_texts(texts, encoder, batch_size=2), together, atol=1e-5)
    np.testing.assert_allclose(
        np.vstack([encode_texts([text], encoder) for text in texts]), together, atol=1e-5
    )


def test_equal_texts_get_equal_vectors_and_blank_ones_zeros(encoder):
    vectors = encode_texts(["red tea", "", "red tea", " \n"], encoder)
    assert np.array_equal(vectors[0], vectors[2]) and vectors[0].any() and not vectors[[1, 3]].any()
    assert vectors.dtype == np.float32 and encode_texts(["", ""], encoder).shape == (2, 16)


def test_hostile_texts_have_vectors_and_no_control_tokens(encoder):
    vectors = encode_texts(list(EVIL_TEXTS), encoder)
    assert vectors.shape == (len(EVIL_TEXTS), 16) and np.isfinite(vectors).all()
    spelt, control = encode_texts(["[ MASK ] tea", "[MASK] tea"], encoder)
    np.testing.assert_allclose(spelt, control, atol=1e-5)


def test_what_is_no_encoder_is_told(tmp_path: Path):
    with pytest.raises(MissingFile, match='there is no sentence encoder ".*nowhere".*set it to "tfidf"'):
        encode_texts(["tea"], str(tmp_path / "nowhere"))
    T5Model(T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)).save_pretrained(
        tmp_path
    )
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(SettingsError, match="a t5 model, not a sentence encoder"):
        encode_texts(["tea"], str(tmp_path))


def test_a_package_that_carries_an_encoder_may_be_named_by_its_own_folder(encoder, tmp_path: Path):
    shutil.copytree(encoder, tmp_path / "package" / "model")
    (tmp_path / "package" / "__init__.py").touch()
    assert np.array_equal(
        encode_texts(["red tea"], str(tmp_path / "package")), encode_texts(["red tea"], encoder)
    )


@pytest.mark.parametrize("scheme", ["semantic", "atomic", "collaborative", "mixed"])
def test_an_index_is_made_of_the_encoders_vectors(encoder, scheme):
    split = world_split("nasty")
    settings = IndexSettings(
        scheme=scheme, encoder=encoder, codes=6, dimensions=8, text_weight=1, clusters=4, leaf_items=8
    )
    one, other = build_index(split, settings, seed=0), build_index(split, settings, seed=0)
    plain = build_index(split, settings.model_copy(update={"encoder": "tfidf"}), seed=0)
    assert one.names == other.names and np.array_equal(one.symbol_vectors, other.symbol_vectors)
    assert np.isfinite(one.symbol_vectors).all()
    if scheme != "collaborative":  # which reads texts only of items that nobody took
        assert not np.array_equal(one.symbol_vectors, plain.symbol_vectors)


def test_a_scheme_that_reads_no_text_vectors_refuses_an_encoder(encoder):
    assert not parts.INDEXINGS["titles"].reads_text_vectors
    with pytest.raises(
        SettingsError, match=r'which the scheme "titles" does not read; set index\.encoder = "tfidf"'
    ):
        build_index(world_split("tiny"), IndexSettings(scheme="titles", encoder=encoder), seed=0)
