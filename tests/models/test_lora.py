"""Adapters: what they leave alone, what they train, and what is left when they are merged into
the weights."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, LlamaConfig

from shelftalk.errors import SettingsError
from shelftalk.experiment import load_experiment
from shelftalk.models.backbone import Backbone
from shelftalk.models.lora import has_adapters, merge, module_to_train
from shelftalk.models.nano import train_tokenizer
from shelftalk.models.pretrained import load_backbone, read_tokenizer, start_from_pretrained
from shelftalk.models.settings import PretrainedSettings
from shelftalk.pipeline import stages
from shelftalk.pipeline.fresh_backbone import check_backbone
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.testing.model_exams import SAMPLES, SYMBOLS, TEXTS, BackboneExam
from shelftalk.testing.t5_folder import SMALL, save_flan_t5
from shelftalk.training.settings import TrainingSettings
from shelftalk.training.trainer import train

WORDS = [
    *TEXTS,
    "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0 1 2 3 4 5 6 7 8 9 . , : ; ( ) - <>/_'\"",
] * 3
KINDS = ("tied", "untied", "flan-t5", "t5")


@cache  # the pieces of a second folder may be others
def folder_of(kind: str) -> str:
    """A model folder without weights: Llama with one matrix or two, FLAN-T5 with two, the first
    T5 with one."""
    folder = Path(mkdtemp())
    if kind == "flan-t5":
        return str(save_flan_t5(folder, WORDS, SMALL, 480, 150))
    if kind == "t5":
        return str(save_flan_t5(folder, WORDS, {**SMALL, "tie_word_embeddings": True}, 480, 150))
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    tokenizer = train_tokenizer(TEXTS, [], 300)
    tokenizer.save_pretrained(folder)
    LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=kind == "tied", **sizes).save_pretrained(
        folder
    )
    return str(folder)


def start(kind: str, **settings: Any) -> Backbone:
    chosen = {"random_weights": True, "adaptation": "lora", "lora_rank": 4, **settings}
    return start_from_pretrained(PretrainedSettings(name=folder_of(kind), **chosen), SYMBOLS, {}, "fp32", 0)


def log_probs(backbone: Backbone) -> torch.Tensor:
    """Of every label of the samples."""
    with torch.no_grad():
        return backbone.label_log_probs(backbone.collate([backbone.encode(segments) for segments in SAMPLES]))


def after_steps(backbone: Backbone, steps: int = 3) -> Backbone:
    """The same after steps that are large enough to change its log-probabilities."""
    learner = torch.optim.AdamW(
        [weight for weight in backbone.model.parameters() if weight.requires_grad], lr=0.02
    )
    batch = backbone.collate([backbone.encode(segments) for segments in SAMPLES])
    for _ in range(steps):
        learner.zero_grad()
        backbone.loss(batch).backward()
        learner.step()
    return backbone


def row(backbone: Backbone, symbol: str) -> int:
    return backbone.tokens(symbol, symbols=True)[0]


class TestLlamaWithAdapters(BackboneExam):
    """What has learnt something and still holds its adapters passes the exam; saved, it is merged."""

    def build(self, texts: Sequence[str], symbols: Sequence[str]) -> Backbone:
        return after_steps(start("tied"))

    def test_a_saved_backbone_opens_with_transformers_and_computes_the_same(self, tmp_path: Path) -> None:
        pytest.skip("a model is merged before it is saved; see below")


@pytest.mark.parametrize("kind", KINDS)
def test_new_adapters_change_nothing(kind: str) -> None:
    assert torch.equal(log_probs(start(kind)), log_probs(start(kind, adaptation="full")))


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_trains_adapters_and_new_tokens_alone(kind: str) -> None:
    backbone = start(kind)
    trained = {name for name, weight in backbone.model.named_parameters() if weight.requires_grad}
    assert all("lora_A" in name or "lora_B" in name or "trainable_tokens_delta" in name for name in trained)
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    after_steps(backbone)
    moved = {
        name for name, value in backbone.model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert all("lora_" in name or "trainable_tokens_delta" in name for name in moved) and len(moved) > 10
    known = len(read_tokenizer(PretrainedSettings(name=folder_of(kind))))
    for layer in (backbone.model.get_input_embeddings(), backbone.model.get_output_embeddings()):
        changed = (layer.weight != layer.original_module.weight).any(dim=1).nonzero().flatten().tolist()
        assert row(backbone, "<a_2>") in changed and set(changed) <= set(
            range(known, len(backbone.tokenizer))
        )


@pytest.mark.parametrize("kind", ("flan-t5", "t5"))
def test_encoder_and_decoder_of_a_t5_read_the_trained_vectors(kind: str) -> None:
    model = after_steps(start(kind)).model
    assert model.encoder.embed_tokens is model.decoder.embed_tokens is model.shared
    merge(model)
    assert model.encoder.embed_tokens.weight is model.decoder.embed_tokens.weight is model.shared.weight


@pytest.mark.parametrize("kind", KINDS)
def test_merged_it_says_the_same_and_its_folder_opens_with_plain_transformers(
    kind: str, tmp_path: Path
) -> None:
    backbone = after_steps(start(kind))
    learnt, fresh = log_probs(backbone), log_probs(start(kind))
    assert not torch.allclose(learnt, fresh, atol=0.05)
    merge(backbone.model)
    assert torch.allclose(log_probs(backbone), learnt, atol=1e-4)
    assert not has_adapters(backbone.model) and not any(
        "lora" in name for name in backbone.model.state_dict()
    )
    backbone.save(tmp_path)
    opener = AutoModelForSeq2SeqLM if backbone.family == "encoder-decoder" else AutoModelForCausalLM
    plain = type(backbone)(opener.from_pretrained(tmp_path).eval(), backbone.tokenizer)
    assert torch.allclose(log_probs(plain), learnt, atol=1e-4) and plain.parameters == backbone.parameters
    assert torch.allclose(log_probs(load_backbone(tmp_path, "fp32")), learnt, atol=1e-4)
    matrices = (backbone.model.get_input_embeddings().weight, backbone.model.get_output_embeddings().weight)
    assert (
        (matrices[0] is matrices[1])
        == (kind in ("tied", "t5"))
        == bool(backbone.model.config.tie_word_embeddings)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_merged_model_is_the_plain_architecture_and_can_be_trained_in_full(kind: str) -> None:
    merged, plain = start(kind), start(kind, adaptation="full")
    merge(merged.model)
    assert {name for name, _ in merged.model.named_parameters()} == {
        name for name, _ in plain.model.named_parameters()
    }
    assert all(weight.requires_grad for weight in merged.model.parameters())
    assert module_to_train(merged.model) is merged.model
    merge(merged.model)  # nothing is left to merge
    assert torch.equal(log_probs(merged), log_probs(plain))


def test_a_symbol_that_the_tokenizer_had_keeps_its_vector() -> None:
    backbone = start("flan-t5")
    known = row(backbone, "<extra_id_0>")
    before = backbone.model.shared.weight[known].detach().clone()
    assert torch.equal(after_steps(backbone).model.shared.weight[known], before)


def test_a_new_model_drops_nothing() -> None:
    backbone = start("tied", lora_dropout=0.9)
    with torch.no_grad():
        for name, weight in backbone.model.named_parameters():
            weight += 0.1 if "lora_B" in name else 0
    assert torch.equal(log_probs(backbone), log_probs(backbone))


def test_the_same_seed_draws_the_same_adapters() -> None:
    one, same = (start("tied").model.state_dict() for _ in range(2))
    assert all(torch.equal(value, same[name]) for name, value in one.items())


def test_layers_are_chosen_by_name() -> None:
    names = [
        name
        for name, _ in start("tied", lora_targets=("q_proj", "v_proj")).model.named_parameters()
        if "lora_A" in name
    ]
    assert len(names) == 4 and all("q_proj" in name or "v_proj" in name for name in names)
    with pytest.raises(
        SettingsError, match=r'pretrained\.lora_targets.*choose among down_proj, .*or "all-linear"'
    ) as caught:
        start("tied", lora_targets=("query",))
    assert "\n" not in str(caught.value)


def test_what_the_model_or_the_machine_cannot_do_is_told_before_any_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    model = {"name": folder_of("tied"), "random_weights": True, "adaptation": "lora"}
    for pretrained, precision, words in (
        ({**model, "lora_targets": ["query"]}, "fp32", "choose among down_proj"),
        (model, "fp16", "fp16 products need a GPU"),
        ({}, "fp16", "fp16 products need a GPU"),
    ):
        experiment = load_experiment(
            None, {"pretrained": pretrained, "training": {"precision": precision, "trackers": []}}
        )
        with pytest.raises(SettingsError, match=words):
            stages.run_all(RunFolder(tmp_path / "run"), experiment)
        assert not (tmp_path / "run").exists()
    check_backbone(load_experiment(None, {"pretrained": {**model, "lora_targets": ["q_proj"]}}))


def test_adapters_without_a_pretrained_model_are_refused() -> None:
    with pytest.raises(ValidationError, match="set pretrained.name"):
        PretrainedSettings(adaptation="lora")


# --- in the Trainer --------------------------------------------------------------------------------------


class PowerCut(Exception):
    """Stops a training."""


def trained(kind: str, folder: Path, cut: int = 0) -> Backbone:
    backbone = start(kind, lora_dropout=0.1)
    samples = [backbone.encode(segments) for segments in SAMPLES] * 3
    settings = TrainingSettings(
        epochs=2,
        batch_tokens=128,
        learning_rate=0.01,
        validations=3,
        judged_by=("retrieval",),
        precision="fp32",
        gradient_checkpointing=True,
    )

    def on_step(done: int, steps: int, text: str) -> None:
        if cut and done == cut:
            raise PowerCut

    train(backbone, [samples] * 2, {"retrieval": samples[:4]}, folder, settings, 0, on_step)
    return backbone


@pytest.mark.parametrize("kind", ("tied", "flan-t5"))
def test_a_training_of_adapters_continues_where_it_was_cut_and_leaves_a_plain_model(
    kind: str, tmp_path: Path
) -> None:
    whole = trained(kind, tmp_path / "whole")
    checkpoints = sorted((tmp_path / "whole").glob("checkpoint-*"))
    assert checkpoints and all((folder / "adapter_model.safetensors").exists() for folder in checkpoints)
    assert all(
        "embed" not in name or "delta" in name
        for name in load_file(checkpoints[0] / "adapter_model.safetensors")
    )
    assert not list((tmp_path / "whole").rglob("model.safetensors"))
    last = max(int(folder.name.rpartition("-")[2]) for folder in checkpoints)
    with pytest.raises(PowerCut):
        trained(kind, tmp_path / "cut", cut=last - 1)
    resumed = trained(kind, tmp_path / "cut")
    assert not has_adapters(whole.model) and not torch.allclose(
        log_probs(whole), log_probs(start(kind)), atol=0.05
    )
    assert all(
        torch.equal(a, b) for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True)
    )
