"""Every family of backbones passes the exam of the border; the transformers' own model and loss are the
second witness."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
)

from shelftalk.models.backbone import LENGTH_STEP, Backbone, padded
from shelftalk.models.decoder_only import DecoderOnly
from shelftalk.models.encoder_decoder import EncoderDecoder
from shelftalk.models.nano import build_nano, train_tokenizer
from shelftalk.models.pretrained import enable_checkpointing
from shelftalk.models.settings import NanoSettings
from shelftalk.models.text_encoder import Encoded
from shelftalk.records import Segment
from shelftalk.tasks.sentinels import all_sentinels
from shelftalk.testing.model_exams import SAMPLES, SYMBOLS, TEXTS, BackboneExam

DECODER = NanoSettings(family="decoder-only", vocabulary=300, width=32, layers=2, heads=2)
ENCODER_DECODER = NanoSettings(family="encoder-decoder", vocabulary=300, width=32, layers=4, heads=2)


class TestNanoDecoderOnly(BackboneExam):
    def build(self, texts: Sequence[str], symbols: Sequence[str]) -> Backbone:
        return build_nano(texts, symbols, DECODER, seed=0)


class TestNanoEncoderDecoder(BackboneExam):
    def build(self, texts: Sequence[str], symbols: Sequence[str]) -> Backbone:
        return build_nano(texts, symbols, ENCODER_DECODER, seed=0)


class TestLlama(BackboneExam):
    """Grouped keys, untied embeddings, a beginning-of-sequence token that no sample has."""

    def build(self, texts: Sequence[str], symbols: Sequence[str]) -> Backbone:
        tokenizer = train_tokenizer(texts, symbols, 300)
        torch.manual_seed(0)
        sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
        config = LlamaConfig(
            vocab_size=len(tokenizer), num_key_value_heads=2, bos_token_id=1, pad_token_id=0, **sizes
        )
        return DecoderOnly(LlamaForCausalLM(config), tokenizer)


class TestQwen(BackboneExam):
    tokenizer_type = (
        PreTrainedTokenizerFast  # AutoTokenizer would make a Qwen tokenizer of it, which composes accents
    )

    def build(self, texts: Sequence[str], symbols: Sequence[str]) -> Backbone:
        tokenizer = train_tokenizer(texts, symbols, 300)
        torch.manual_seed(0)
        sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
        config = Qwen2Config(
            vocab_size=len(tokenizer),
            num_key_value_heads=2,
            tie_word_embeddings=True,
            pad_token_id=0,
            **sizes,
        )
        return DecoderOnly(Qwen2ForCausalLM(config), tokenizer)


class TestFlanT5(BackboneExam):
    """Gated, untied, outputs not rescaled."""

    def build(self, texts: Sequence[str], symbols: Sequence[str]) -> Backbone:
        return t5(
            texts,
            symbols,
            feed_forward_proj="gated-gelu",
            tie_word_embeddings=False,
            scale_decoder_outputs=False,
        )


class TestT5(BackboneExam):
    """The first T5: plain, tied, outputs rescaled."""

    def build(self, texts: Sequence[str], symbols: Sequence[str]) -> Backbone:
        return t5(
            texts, symbols, feed_forward_proj="relu", tie_word_embeddings=True, scale_decoder_outputs=True
        )


def t5(texts: Sequence[str], symbols: Sequence[str], **more: object) -> Backbone:
    tokenizer = train_tokenizer(texts, symbols, 300)
    torch.manual_seed(0)
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 4}
    special = {"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
    config = T5Config(vocab_size=len(tokenizer), **sizes, **special, **more)
    return EncoderDecoder(T5ForConditionalGeneration(config), tokenizer)


# --- a second witness ------------------------------------------------------------------------------------


@pytest.mark.parametrize("exam", [TestNanoDecoderOnly, TestLlama, TestQwen])
def test_the_loss_of_a_decoder_only_sample_is_what_the_models_own_forward_says(exam: type[BackboneExam]):
    backbone = exam().built
    for segments in SAMPLES:
        sample = backbone.encode(segments)
        ids = torch.from_numpy(sample.ids.astype(np.int64))[None]
        with torch.no_grad():
            log_probs = backbone.model(ids).logits[0].log_softmax(-1)
            loss = float(backbone.loss(backbone.collate([sample])))
        log_probs = [
            float(log_probs[position - 1, ids[0, position]]) for position in np.flatnonzero(sample.bears_loss)
        ]
        assert loss == pytest.approx(-sum(log_probs), abs=1e-3)


@pytest.mark.parametrize("exam", [TestNanoEncoderDecoder, TestFlanT5, TestT5])
def test_the_loss_of_an_encoder_decoder_sample_is_what_the_models_own_forward_says(exam: type[BackboneExam]):
    backbone = exam().built
    for segments in SAMPLES:
        sample = backbone.encode(segments)
        source, target = np.append(sample.ids[: sample.prompt_length], 1), sample.ids[sample.prompt_length :]
        labels = np.where(sample.bears_loss[sample.prompt_length :], target, -100)
        with torch.no_grad():
            ids = torch.from_numpy(np.append(0, target[:-1]).astype(np.int64))[None]
            out = backbone.model(
                input_ids=torch.from_numpy(source.astype(np.int64))[None],
                decoder_input_ids=ids,
                labels=torch.from_numpy(labels.astype(np.int64))[None],
            )
            loss = float(backbone.loss(backbone.collate([sample])))
        assert loss == pytest.approx(float(out.loss) * int(sample.bears_loss.sum()), rel=1e-4)


# --- the nano tokenizer ----------------------------------------------------------------------------------


def test_any_text_can_be_told_back_from_its_tokens():
    backbone = TestNanoDecoderOnly().built
    for text in (
        "emoji 🎬👩‍👧",
        "سلام",
        " leading and trailing ",
        "tab\tand\nline\n",
        "</s> <a_1>",
        "3.14 and 2,718",
    ):
        assert backbone.tokenizer.decode(backbone.tokens(text, symbols=False)) == text


def test_ratings_of_a_scale_are_one_token_each_where_the_texts_hold_them():
    texts = [f"Amber tea: {half / 2:.1f}\n" for half in range(1, 11)] * 5
    backbone = build_nano(texts, [], NanoSettings(vocabulary=330, width=32, layers=1, heads=2), seed=0)
    assert [len(backbone.tokens(f" {half / 2:.1f}", symbols=False)) for half in range(1, 11)] == [1] * 10


@pytest.mark.parametrize("settings", [DECODER, ENCODER_DECODER])
def test_the_same_seed_makes_the_same_backbone(settings: NanoSettings):
    one, same, other = (build_nano(TEXTS, SYMBOLS, settings, seed) for seed in (0, 0, 1))
    weights = [torch.cat([w.flatten() for w in b.model.parameters()]) for b in (one, same, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert one.tokenizer.get_vocab() == same.tokenizer.get_vocab()
    assert one.parameters == sum(w.numel() for w in one.model.parameters())


def test_a_vocabulary_is_no_larger_than_asked_but_for_the_symbols():
    backbone = build_nano(
        ["many different words " + " ".join(map(str, range(3000)))], all_sentinels(), DECODER, seed=0
    )
    assert len(backbone.tokenizer) == 300 + 100


def test_symbols_that_mean_alike_begin_alike():
    backbone = build_nano(TEXTS, SYMBOLS, DECODER, seed=0)
    before = backbone.model.get_input_embeddings().weight.detach().clone()
    vectors = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    vectors[1] = vectors[0]
    backbone.start_symbols_from(SYMBOLS[:4], vectors, spread=5.0)
    moved = backbone.model.get_input_embeddings().weight.detach() - before
    rows = [int(backbone.encode([Segment(symbol, symbols=True)]).ids[0]) for symbol in SYMBOLS]
    assert torch.allclose(moved[rows[0]], moved[rows[1]], atol=1e-6) and not torch.allclose(
        moved[rows[0]], moved[rows[2]]
    )
    assert not moved[rows[4:]].any() and float(moved[rows[:4]].abs().sum()) > 0


def test_an_added_token_of_any_kind_stays_text_in_a_title():
    backbone = build_nano(TEXTS, SYMBOLS, DECODER, seed=0)
    # as some released tokenizers have them
    backbone.tokenizer.add_tokens(["<tool_call>"], special_tokens=False)
    tool = backbone.tokenizer.convert_tokens_to_ids("<tool_call>")
    for title in ("<tool_call>", "My <tool_call> is <tool_call>", "</s><tool_call></s>"):
        tokens = backbone.tokens(title, symbols=False)
        assert tool not in tokens and backbone.tokenizer.decode(tokens) == title


@pytest.mark.parametrize("title", ["</s>", "<pad>", "a</s>b", "<extra_id_0> and <extra_id_99>", "<a_1></s>"])
def test_a_tokenizer_that_has_control_tokens_among_its_pieces_gives_none_to_a_title(title: str):
    pieces = [
        "<pad>",
        "</s>",
        "<unk>",
        "\u2581",
        *"abcdefghijklmnopqrstuvwxyz/<>_0123456789",
        "<extra_id_0>",
        "<extra_id_99>",
    ]
    tokenizer = T5Tokenizer(vocab=[(piece, 0.0 if piece[0] == "<" else -3.0) for piece in pieces])
    tokenizer.add_tokens(["<a_1>"], special_tokens=True)
    model = build_nano(TEXTS, SYMBOLS, ENCODER_DECODER, seed=0).model
    kept = {
        tokenizer.convert_tokens_to_ids(piece)
        for piece in ("<pad>", "</s>", "<extra_id_0>", "<extra_id_99>", "<a_1>")
    }
    tokens = EncoderDecoder(model, tokenizer).tokens(title, symbols=False)
    assert tokens and not kept.intersection(tokens)


# --- small parts -----------------------------------------------------------------------------------------


def test_padding_stands_on_the_side_asked_for_up_to_a_round_length():
    for left in (False, True):
        ids, real = padded([np.array([1, 2, 3]), np.array([4])], pad=9, step=LENGTH_STEP, left=left)
        assert ids.shape == real.shape == (2, LENGTH_STEP)
        assert [row[mask].tolist() for row, mask in zip(ids, real, strict=True)] == [[1, 2, 3], [4]]
        assert (ids[~real] == 9).all() and real[:, -1 if left else 0].all()
    assert padded([np.arange(LENGTH_STEP + 1)], pad=9, step=LENGTH_STEP)[0].shape == (1, 2 * LENGTH_STEP)


def test_a_prompt_ends_before_the_first_token_that_bears_loss():
    assert Encoded(np.arange(4), np.array([False, False, True, False])).prompt_length == 2
    assert Encoded(np.arange(4), np.zeros(4, bool)).prompt_length == 4


def test_batches_fit_closely_in_full_precision_and_come_in_few_shapes_in_half():
    for bf16, (length, labels) in {False: (8, 16), True: (32, 256)}.items():
        backbone = build_nano(TEXTS, SYMBOLS, DECODER, seed=0, bf16=bf16)
        batch = backbone.collate([Encoded(np.full(9, 5, np.int32), np.array([False] * 5 + [True] * 4))])
        assert (batch["input_ids"].shape, batch["labels"].shape) == (
            (1, 16 if length == 8 else 32),
            (labels,),
        )
        assert backbone.prefill([Encoded(np.full(9, 5, np.int32), np.zeros(9, bool))]).states.shape == (1, 32)


def test_the_last_layer_computed_only_where_it_is_read_learns_what_the_whole_one_does():
    """A label stands at the second token of the first sample, so that its position, 0, is also what fills the
    labels up."""
    backbone = build_nano(TEXTS, SYMBOLS, DECODER, seed=0)
    ids, bears_loss = np.arange(4, 24, dtype=np.int32), np.zeros(20, bool)
    bears_loss[[1, 7, 19]] = True
    samples = [Encoded(ids, bears_loss), Encoded(ids[::-1][:11].copy(), bears_loss[:11])]
    prompts, rows = [Encoded(ids[:9], np.zeros(9, bool)), Encoded(ids[:5], np.zeros(5, bool))], list[int]()
    backbone.model.model.layers[-1].mlp.gate_proj.register_forward_hook(
        lambda _, given, __: rows.append(given[0].shape[-2])
    )

    def learned() -> tuple[list[torch.Tensor], torch.Tensor]:
        backbone.model.zero_grad()
        backbone.loss(backbone.collate(samples)).backward()
        return [weight.grad.clone() for weight in backbone.model.parameters()], backbone.prefill(
            prompts
        ).states

    gradients, states = learned()
    assert rows == [16, 2]  # five labels, filled up, and two prompts' ends
    backbone.full_precision_on_cpu = False
    whole, known = learned()
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(gradients, whole, strict=True))
    assert torch.allclose(states, known, atol=1e-5) and len(rows) == 4


def test_layers_that_are_computed_again_on_the_way_back_are_computed_whole():
    backbone = build_nano(TEXTS, SYMBOLS, DECODER, seed=0)
    sample = Encoded(np.arange(4, 24, dtype=np.int32), np.array([False] * 15 + [True] * 5))
    losses = []
    for checkpointing in (False, True):
        if checkpointing:
            enable_checkpointing(backbone.model)
        backbone.model.train().zero_grad()
        loss = backbone.loss(backbone.collate([sample]))
        loss.backward()
        losses.append((loss.item(), backbone.model.lm_head.weight.grad.norm().item()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
