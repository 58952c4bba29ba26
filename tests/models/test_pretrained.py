"""Released models: read, refused, adapted to a catalogue, kept as two matrices where they are two."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp

import pytest
import torch
from transformers import LlamaConfig, Qwen2Config, T5ForConditionalGeneration

from shelftalk.errors import MissingFile, SettingsError
from shelftalk.models.backbone import Backbone
from shelftalk.models.nano import train_tokenizer
from shelftalk.models.pretrained import (
    check_config,
    load_backbone,
    read_config,
    read_tokenizer,
    start_from_pretrained,
)
from shelftalk.models.settings import PretrainedSettings
from shelftalk.tasks.sentinels import all_sentinels
from shelftalk.testing.model_exams import SYMBOLS, TEXTS, BackboneExam
from shelftalk.testing.t5_folder import SMALL, save_flan_t5

WORDS = [
    *TEXTS,
    "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0 1 2 3 4 5 6 7 8 9 . , : ; ( ) - <>/_'\"",
] * 3
ITEMS = [f"<i_{number}>" for number in range(50)]
TITLES = {"<i_7>": ["Amber tea", "Bold lamps"], "<i_8>": ["Calm boots"]}


def flan(folder: Path, vocabulary: int = 480) -> PretrainedSettings:
    return PretrainedSettings(
        name=str(save_flan_t5(folder, WORDS, SMALL, vocabulary, 150)), random_weights=True
    )


def llama(folder: Path) -> PretrainedSettings:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    tokenizer = train_tokenizer(TEXTS, [], 300)
    LlamaConfig(
        vocab_size=len(tokenizer), tie_word_embeddings=True, architectures=["LlamaForCausalLM"], **sizes
    ).save_pretrained(folder)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    return PretrainedSettings(name=str(folder), random_weights=True)


def qwen(folder: Path) -> PretrainedSettings:
    """A tokenizer that Qwen has not, whole in its tokenizer.json."""
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    tokenizer = train_tokenizer(TEXTS, [], 300)
    Qwen2Config(vocab_size=len(tokenizer), tie_word_embeddings=True, **sizes).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return PretrainedSettings(name=str(folder), random_weights=True)


def start(settings: PretrainedSettings, seed: int = 0) -> Backbone:
    return start_from_pretrained(settings, [*all_sentinels(), *ITEMS], TITLES, "fp32", seed)


class TestAdaptedFlanT5(BackboneExam):
    """Pieces without a line break, control tokens of its own, two matrices."""

    def build(self, texts: Sequence[str], symbols: Sequence[str]) -> Backbone:
        return start_from_pretrained(flan(Path(mkdtemp())), symbols, {}, "fp32", 0)


class TestAdaptedLlama(BackboneExam):
    """No pad token of its own."""

    def build(self, texts: Sequence[str], symbols: Sequence[str]) -> Backbone:
        return start_from_pretrained(llama(Path(mkdtemp())), symbols, {}, "fp32", 0)


def test_t5s_own_marks_are_reused_and_the_line_break_is_one_token_of_free_text(tmp_path: Path) -> None:
    settings = flan(tmp_path)
    own = read_tokenizer(settings)
    backbone = start(settings)
    assert backbone.tokens("<extra_id_0><extra_id_99>", symbols=True) == own.convert_tokens_to_ids(
        ["<extra_id_0>", "<extra_id_99>"]
    )
    lines = backbone.tokens("tea\n lamps\n", symbols=False)
    assert [backbone.tokenizer.decode([token]) for token in lines].count("\n") == 2
    assert len(backbone.tokenizer) == len(own) + 1 + len(ITEMS)


def test_a_vocabulary_grows_to_a_multiple_of_eight_and_never_shrinks(tmp_path: Path) -> None:
    exact = changed(tmp_path / "small", vocab_size=len(read_tokenizer(flan(tmp_path / "small"))))
    small, large = start(exact), start(flan(tmp_path / "large", 4000))
    rows = small.model.get_input_embeddings().weight.shape[0]
    assert rows % 8 == 0 and 0 <= rows - len(small.tokenizer) < 8
    assert large.model.get_input_embeddings().weight.shape[0] == large.model.lm_head.weight.shape[0] == 4000


@pytest.mark.parametrize("kind", [flan, llama])
def test_new_symbols_begin_at_the_mean_of_their_texts_in_every_matrix(kind: object, tmp_path: Path) -> None:
    backbone = start(kind(tmp_path))  # type: ignore[operator]
    row = {symbol: backbone.tokens(symbol, symbols=True)[0] for symbol in ITEMS}
    tokens = [token for text in TITLES["<i_7>"] for token in backbone.tokens(text, symbols=False)]
    for layer in (backbone.model.get_input_embeddings(), backbone.model.get_output_embeddings()):
        weight = layer.weight.detach()
        assert torch.allclose(weight[row["<i_7>"]], weight[tokens].mean(dim=0), atol=1e-6)
        assert torch.equal(weight[row["<i_1>"]], weight[row["<i_2>"]]) and not torch.equal(
            weight[row["<i_7>"]], weight[row["<i_8>"]]
        )


def test_flan_t5s_two_matrices_stay_two_through_growth_training_and_files(tmp_path: Path) -> None:
    backbone = start(flan(tmp_path / "flan", 260))
    model = backbone.model
    assert (
        not torch.equal(model.lm_head.weight, model.shared.weight)
        and model.config.scale_decoder_outputs is False
    )
    backbone.save(tmp_path / "saved")
    again = load_backbone(tmp_path / "saved", "fp32")
    assert torch.equal(again.model.lm_head.weight, model.lm_head.weight) and torch.equal(
        again.model.shared.weight, model.shared.weight
    )
    assert again.model.config.scale_decoder_outputs is False and again.parameters == backbone.parameters
    extended = start_from_pretrained(
        PretrainedSettings(name=str(tmp_path / "saved")), ["<j_1>"], {}, "fp32", 0
    )
    known = len(backbone.tokenizer)
    assert torch.equal(extended.model.lm_head.weight[:known], model.lm_head.weight[:known])
    assert torch.equal(extended.model.shared.weight[:known], model.shared.weight[:known])


def test_a_tokenizer_that_is_whole_in_its_file_is_not_replaced_by_that_of_the_models_kind(
    tmp_path: Path,
) -> None:
    settings = qwen(tmp_path / "qwen")
    own, text = train_tokenizer(TEXTS, [], 300), "No. 10: e\u0301"  # Qwen's would compose the accent
    assert read_tokenizer(settings).encode(text) == own.encode(text)
    backbone = start(settings)
    backbone.save(tmp_path / "saved")
    again = load_backbone(tmp_path / "saved", "fp32")
    assert again.tokenizer.backend_tokenizer.to_str() == backbone.tokenizer.backend_tokenizer.to_str()
    assert again.tokenizer.decode(again.tokens(text, symbols=False)) == text


def test_the_same_seed_draws_the_same_random_weights(tmp_path: Path) -> None:
    settings = flan(tmp_path)
    one, same, other = (
        torch.cat([w.flatten() for w in start(settings, seed).model.parameters()]) for seed in (0, 0, 1)
    )
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_released_weights_are_taken_as_they_are(tmp_path: Path) -> None:
    settings = flan(tmp_path / "flan")
    start(settings, seed=3).save(tmp_path / "released")
    released = T5ForConditionalGeneration.from_pretrained(tmp_path / "released")
    backbone = start_from_pretrained(
        PretrainedSettings(name=str(tmp_path / "released")), SYMBOLS[:2], {}, "fp32", 0
    )
    ours, theirs = (
        model.encoder.block[0].layer[0].SelfAttention.q.weight for model in (backbone.model, released)
    )
    assert torch.equal(ours, theirs)
    assert {weight.dtype for weight in backbone.model.parameters()} == {torch.float32}


def test_a_model_that_is_nowhere_is_one_sentence_with_the_remedy() -> None:
    for name in ("google/flan-t5-base", "no/such/folder/at/all"):
        with pytest.raises(MissingFile) as caught:
            read_config(PretrainedSettings(name=name))
        assert (
            name in str(caught.value)
            and "give the path of its folder" in str(caught.value)
            and "\n" not in str(caught.value)
        )
    with pytest.raises(MissingFile, match="shelftalk train"):
        load_backbone(Path("no-such-folder"))


def test_a_folder_that_holds_no_whole_model_is_not_blamed_on_the_network(tmp_path: Path) -> None:
    settings = flan(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": ')
    with pytest.raises(
        MissingFile, match=r"holds no model that can be read \(.+\); fetch it whole, or correct the path"
    ) as caught:
        read_config(settings)
    assert "hub" not in str(caught.value) and "network" not in str(caught.value)


def test_a_folder_without_weights_is_refused_unless_random_ones_are_wanted(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match="safetensors"):
        start(flan(tmp_path).model_copy(update={"random_weights": False}))


def changed(folder: Path, **values: object) -> PretrainedSettings:
    settings = flan(folder)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return settings


def test_fp16_is_refused_for_t5_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="overflow fp16"):
        start_from_pretrained(flan(tmp_path), ITEMS, {}, "fp16", 0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_fp16_is_refused_without_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="need a GPU"):
        start_from_pretrained(llama(tmp_path), ITEMS, {}, "fp16", 0)
    assert not start_from_pretrained(llama(tmp_path), ITEMS, {}, "auto", 0).fp16  # the remedy


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_model_trained_in_fp16_is_asked_in_fp32_without_a_gpu(tmp_path: Path) -> None:
    start(llama(tmp_path / "llama")).save(tmp_path / "saved")
    backbone = load_backbone(tmp_path / "saved", "fp16")
    assert not backbone.fp16 and not backbone.bf16


def test_a_folder_that_asks_for_its_own_code_is_refused_without_a_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = changed(tmp_path, model_type="things", auto_map={"AutoConfig": "code.Things"})
    (tmp_path / "code.py").write_text("raise SystemExit('it ran')")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asked"))
    with pytest.raises(MissingFile, match="holds no model that can be read"):
        read_config(settings)


def test_a_config_that_lacks_what_every_sample_needs_is_refused(tmp_path: Path) -> None:
    settings = changed(tmp_path, decoder_start_token_id=None)
    with pytest.raises(SettingsError, match="decoder_start_token_id"):
        check_config(read_config(settings), read_tokenizer(settings), "mine")


def config_of(folder: Path, model_type: str, **values: object) -> PretrainedSettings:
    (folder / "config.json").write_text(json.dumps({"model_type": model_type, **values}))
    return PretrainedSettings(name=str(folder))


@pytest.mark.parametrize(
    ("model_type", "values", "words"),
    [
        ("mistral", {"sliding_window": 4096}, "attends through a sliding window"),
        ("phi3", {"sliding_window": 2047, "pad_token_id": 0}, "attends through a sliding window"),
        ("mixtral", {"sliding_window": 4096}, "attends through a sliding window"),
        ("starcoder2", {"sliding_window": 4096}, "attends through a sliding window"),
        ("qwen2", {"use_sliding_window": True, "max_window_layers": 4}, "attends through a sliding window"),
        ("gemma3_text", {}, "attends through a sliding window"),
        ("gemma3", {}, "attends through a sliding window"),
        ("gpt_neo", {}, "attends through a sliding window"),
        ("qwen3_next", {}, "has layers of the kind linear_attention"),
        ("llama4_text", {}, "has layers of the kind chunked_attention"),
        ("mamba", {}, "has layers of the kind linear_attention"),
        ("rwkv", {}, "keeps a state in place of attention"),
        ("bert", {}, "reads its text from both sides"),
        ("vit", {}, "is no language model"),
    ],
)
def test_a_model_that_cannot_be_decoded_here_is_refused_in_one_sentence(
    model_type: str, values: dict[str, object], words: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        read_config(config_of(tmp_path, model_type, **values))
    assert f'("{model_type}")' in str(caught.value) and "choose a decoder-only model" in str(caught.value)


@pytest.mark.parametrize(
    ("model_type", "values"),
    [
        ("mistral", {"sliding_window": None}),
        ("phi3", {"sliding_window": None, "pad_token_id": 0}),
        ("qwen2", {"sliding_window": 4096, "use_sliding_window": False}),
        ("qwen3_moe", {"sliding_window": 4096, "use_sliding_window": False}),
        ("gpt2", {}),
        ("gpt_neox", {}),
        ("bert", {"is_decoder": True}),
        ("t5", {}),
    ],
)
def test_a_model_with_full_attention_is_not_refused(
    model_type: str, values: dict[str, object], tmp_path: Path
) -> None:
    assert read_config(config_of(tmp_path, model_type, **values)).model_type == model_type


def test_an_encoder_decoder_that_is_no_t5_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bart", "is_encoder_decoder": True}))
    with pytest.raises(SettingsError, match="only the T5 family"):
        read_config(PretrainedSettings(name=str(tmp_path)))
