"""What is counted without computing is what computing needs."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from shelftalk.models.backbone import Backbone
from shelftalk.models.nano import build_nano
from shelftalk.models.pretrained import start_from_pretrained
from shelftalk.models.settings import NanoSettings, PretrainedSettings
from shelftalk.models.text_encoder import Encoded
from shelftalk.studies.planning.tracing import FakeBackbone, like
from shelftalk.testing.t5_folder import SMALL, save_flan_t5
from shelftalk.training.packing import side_by_side

FAMILIES = ("decoder-only", "encoder-decoder")


def nano(family: str, layers: int = 2) -> Backbone:
    settings = NanoSettings(family=family, vocabulary=300, width=32, layers=layers, heads=2)
    backbone = build_nano(["some text"], ["<i_1>"], settings, 0)
    backbone.model.train()
    return backbone


@pytest.fixture(scope="module")
def flan_lora(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """A tiny FLAN-T5 with adapters."""
    texts = [
        "Amber tea Bold lamps Calm boots No. 1 2 3",
        "abcdefghijklmnopqrstuvwxyz 0 1 2 3 4 5 6 7 8 9 . , :",
    ] * 3
    folder = save_flan_t5(tmp_path_factory.mktemp("flan"), texts, SMALL, 320, 150)
    settings = PretrainedSettings(name=str(folder), random_weights=True, adaptation="lora", lora_rank=4)
    backbone = start_from_pretrained(settings, ["<i_1>", "<i_2>"], {}, "fp32", 0)
    backbone.model.train()
    return backbone


def kept_by(backbone: Backbone, samples: list[Encoded]) -> int:
    """Bytes that autograd really keeps, the weights aside."""
    own = {weight.untyped_storage().data_ptr() for weight in backbone.model.parameters()}
    storages: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        backbone.label_log_probs(backbone.collate(samples))
    return sum(storage.nbytes() for storage in storages.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_kept_for_the_backward_pass_is_what_a_real_batch_keeps(family: str) -> None:
    backbone, samples = nano(family), [like(60, 20, 12)] * 5
    trace = FakeBackbone(backbone, bf16=False, gpu=False).trace(samples)
    scores = trace.logits // 2
    # a causal model has a flag where it computes, and a mask where it is traced, which matters where the
    # model is so narrow
    tolerance = 0.03 if family == "encoder-decoder" else 0.15
    assert trace.kept + scores == pytest.approx(kept_by(backbone, samples), rel=tolerance)


@pytest.mark.parametrize(("bf16", "gpu"), [(False, False), (False, True), (True, False), (True, True)])
def test_logits_are_two_tables_over_the_labels_in_the_precision_of_the_products(
    bf16: bool, gpu: bool
) -> None:
    backbone = nano("decoder-only")
    trace = FakeBackbone(backbone, bf16, gpu).trace([like(60, 20, 12)] * 5)
    labels, vocabulary = (64 if not (bf16 or gpu) else 256), backbone.model.config.vocab_size  # 60, filled up
    assert trace.logits == 2 * (2 if bf16 else 4) * labels * vocabulary


@pytest.mark.parametrize("family", FAMILIES)
def test_batches_are_padded_as_the_hardware_pads_them(family: str) -> None:
    """72 tokens are a multiple of 8, to which fp32 on a processor pads, and 96 is the next multiple of 32; of
    an encoder-decoder 52 and 20 are padded to 56 and 24, or to 64 and 32."""
    backbone, sample = nano(family), [like(52, 20, 12)]
    tight, round_shapes = (72, 96) if family == "decoder-only" else (80, 96)
    tokens = [FakeBackbone(backbone, *on).trace(sample).tokens for on in ((False, False), (False, True))]
    assert tokens == [tight, round_shapes]
    assert FakeBackbone(backbone, bf16=True, gpu=False).trace(sample).tokens == round_shapes
    assert tokens[0] == sum(
        tensor.numel() for name, tensor in backbone.collate(sample).items() if name.endswith("input_ids")
    )


def test_rows_that_samples_share_are_traced_with_their_mask() -> None:
    backbone = nano("decoder-only")
    shared = [side_by_side([like(6, 20, 12)] * 2)] * 2
    trace = FakeBackbone(backbone, bf16=False, gpu=False).trace(shared)
    assert (
        trace.kept + trace.logits // 2 == pytest.approx(kept_by(backbone, shared), rel=0.02)
        and trace.samples == 2
    )


def test_frozen_weights_with_adapters_are_traced_as_a_real_batch_keeps_them(flan_lora: Backbone) -> None:
    samples = [like(60, 20, 12)] * 5
    trace = FakeBackbone(flan_lora, bf16=False, gpu=False).trace(samples)
    assert trace.kept + trace.logits // 2 == pytest.approx(kept_by(flan_lora, samples), rel=0.05)


@pytest.mark.parametrize("family", FAMILIES)
def test_operations_are_those_of_a_real_batch(family: str) -> None:
    backbone, samples = nano(family), [like(60, 20, 12)] * 5
    with FlopCounterMode(display=False) as counter:
        backbone.label_log_probs(backbone.collate(samples))
    assert FakeBackbone(backbone, bf16=False, gpu=False).trace(samples).flops == counter.get_total_flops() > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpointing_keeps_less_the_more_layers_there_are(family: str) -> None:
    samples = [like(60, 20, 12)] * 5
    shares = []
    for layers in (2, 6):
        backbone = nano(family, layers)
        kept = [
            FakeBackbone(backbone, False, False, checkpointing).trace(samples).kept
            for checkpointing in (False, True)
        ]
        shares.append(kept[1] / kept[0])
    assert shares[1] < shares[0] < 0.6


def test_twice_the_samples_keep_twice_as_much() -> None:
    fake = FakeBackbone(nano("decoder-only"), bf16=False, gpu=True)
    one, two = fake.trace([like(60, 20, 12)] * 8), fake.trace([like(60, 20, 12)] * 16)
    assert two.kept == pytest.approx(2 * one.kept, rel=0.05) and two.tokens == 2 * one.tokens


def test_nothing_of_the_backbone_is_changed() -> None:
    backbone = nano("encoder-decoder")
    before = [weight.clone() for weight in backbone.model.parameters()]
    FakeBackbone(backbone, bf16=True, gpu=True, checkpointing=True).trace([like(60, 20, 12)])
    assert all(torch.equal(a, b) for a, b in zip(before, backbone.model.parameters(), strict=True))
    assert (
        not backbone.bf16
        and backbone.model.training
        and torch.isfinite(backbone.loss(backbone.collate([like(6, 2, 2)])))
    )
