"""GGUF files: a small one of its own kind, written here, and what cannot be opened."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter, dequantize, quantize
from transformers.convert_slow_tokenizer import bytes_to_unicode

from shelftalk.errors import MissingFile, SettingsError
from shelftalk.models import gguf
from shelftalk.models.backbone import Backbone
from shelftalk.models.pretrained import load_backbone, read_config, read_tokenizer, start_from_pretrained
from shelftalk.models.settings import PretrainedSettings

WIDTH, LAYERS, FEED = 64, 2, 96
TOKENS = ["<|end|>", "<|start|>", *bytes_to_unicode().values(), "ĠĠ", "Ġ7"]


def written(file: Path, way: str = "smollm") -> Path:
    """A Llama with random weights in eight bits; texts are cut in the `way` named."""
    draw = np.random.default_rng(0)
    writer = GGUFWriter(file, "llama")
    writer.add_context_length(512)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(way)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, *[1] * (len(TOKENS) - 2)])
    writer.add_token_merges(["Ġ Ġ", "Ġ 7"])
    writer.add_eos_token_id(0)
    writer.add_bos_token_id(1)
    shapes = {
        "attn_q": (WIDTH, WIDTH),
        "attn_k": (WIDTH // 2, WIDTH),
        "attn_v": (WIDTH // 2, WIDTH),
        "attn_output": (WIDTH, WIDTH),
    }
    shapes |= {
        "ffn_gate": (FEED, WIDTH),
        "ffn_up": (FEED, WIDTH),
        "ffn_down": (WIDTH, FEED),
        "attn_norm": (WIDTH,),
        "ffn_norm": (WIDTH,),
    }
    layers = {
        f"blk.{layer}.{name}.weight": shape for layer in range(LAYERS) for name, shape in shapes.items()
    }
    for name, shape in {
        "token_embd.weight": (len(TOKENS), WIDTH),
        "output_norm.weight": (WIDTH,),
        **layers,
    }.items():
        values = draw.normal(0, 0.1, shape).astype(np.float32)
        kind = GGMLQuantizationType.Q8_0 if len(shape) == 2 else GGMLQuantizationType.F32
        writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("gguf") / "small.gguf")


def start(name: Path) -> Backbone:
    return start_from_pretrained(PretrainedSettings(name=str(name)), ["<i_1>"], {"<i_1>": ["tea"]}, "fp32", 0)


def test_a_file_and_the_folder_that_holds_it_are_one_model_in_full_precision(file: Path) -> None:
    by_file, by_folder = start(file), start(file.parent)
    assert all(
        torch.equal(one, other)
        for one, other in zip(by_file.model.parameters(), by_folder.model.parameters(), strict=True)
    )
    assert {weight.dtype for weight in by_file.model.parameters()} == {torch.float32}
    table = np.random.default_rng(0).normal(0, 0.1, (len(TOKENS), WIDTH)).astype(np.float32)
    known = torch.from_numpy(
        dequantize(quantize(table, GGMLQuantizationType.Q8_0), GGMLQuantizationType.Q8_0)
    )
    assert torch.equal(by_file.model.model.embed_tokens.weight[: len(TOKENS)], known)


def test_what_is_saved_needs_no_gguf_file_any_more(file: Path, tmp_path: Path) -> None:
    backbone = start(file)
    backbone.save(tmp_path)
    again = load_backbone(tmp_path, "fp32")
    assert all(
        torch.equal(one, other)
        for one, other in zip(backbone.model.parameters(), again.model.parameters(), strict=True)
    )
    for text in ("a  7", "<|start|>x\n", "17  17"):
        assert again.tokens(text, symbols=False) == backbone.tokens(text, symbols=False)


@pytest.mark.parametrize(("way", "expected"), [("smollm", ["a", "ĠĠ", "7"]), ("gpt-2", ["a", "Ġ", "Ġ7"])])
def test_text_is_cut_in_the_way_that_the_file_names(way: str, expected: list[str], tmp_path: Path) -> None:
    tokenizer = read_tokenizer(PretrainedSettings(name=str(written(tmp_path / "model.gguf", way))))
    assert tokenizer.tokenize("a  7") == expected
    assert tokenizer.decode(tokenizer.encode("a  7")) == "a  7"


def test_an_unknown_way_of_cutting_is_refused(tmp_path: Path) -> None:
    settings = PretrainedSettings(name=str(written(tmp_path / "model.gguf", "chameleon")))
    with pytest.raises(SettingsError, match='has the pre-tokenizer "chameleon".*tokenizer.json'):
        read_tokenizer(settings)


def test_a_missing_file_a_broken_one_and_two_in_a_folder_are_one_sentence_each(
    file: Path, tmp_path: Path
) -> None:
    with pytest.raises(MissingFile, match="there is no file"):
        read_config(PretrainedSettings(name=str(tmp_path / "nowhere.gguf")))
    (tmp_path / "broken.gguf").write_bytes(b"no such thing")
    with pytest.raises(MissingFile, match="broken.gguf"):
        read_config(PretrainedSettings(name=str(tmp_path / "broken.gguf")))
    shutil.copy(file, tmp_path / "whole.gguf")
    with pytest.raises(SettingsError, match="several GGUF files.*broken.gguf, whole.gguf"):
        read_config(PretrainedSettings(name=str(tmp_path)))


def test_a_missing_reader_is_one_sentence_with_the_remedy(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="pip install gguf"):
        read_config(PretrainedSettings(name=str(file)))
