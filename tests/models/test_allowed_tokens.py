"""The loss of a token over a set of tokens: the log-softmax of the full logits at these alone, its gradient,
and what the searches score."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from shelftalk.decoding.item_trie import build_trie
from shelftalk.decoding.scoring import score_items
from shelftalk.decoding.settings import Softmax
from shelftalk.models import backbone as backbone_module
from shelftalk.models.allowed_tokens import AllowedTokens
from shelftalk.models.backbone import Backbone
from shelftalk.models.lora import add_adapters
from shelftalk.models.settings import PretrainedSettings
from shelftalk.models.text_encoder import ANY_TOKEN, Encoded, SoftTargets
from shelftalk.ragged import ragged
from shelftalk.training.encoded_files import write_encoded
from shelftalk.training.packing import side_by_side
from tests.training.test_packing import nano

FAMILIES = ("decoder-only", "encoder-decoder")
SETS = [[11, 12, 13, 14], [], [13, 20]]
TEMPERATURE = 0.5
FIRST, SECOND, PLAIN = (
    Encoded(np.array(ids, np.int32), np.arange(5) >= 3, sets=sets)
    for ids, sets in (
        ([9, 8, 7, 12, 20], np.array([0, 2], np.int32)),
        ([4, 5, 6, 13, 9], np.array([2, ANY_TOKEN], np.int32)),
        ([9, 4, 4, 10, 3], None),
    )
)
SAMPLES = [FIRST, SECOND, PLAIN]


def told(family: str = "decoder-only") -> Backbone:
    """A nano model that was told the sets."""
    backbone = nano(family)
    backbone.allowed_tokens = AllowedTokens(ragged(SETS), TEMPERATURE)
    return backbone


def expected(backbone: Backbone, samples: list[Encoded]) -> torch.Tensor:
    """[labels] from the full logits after each beginning of a sample."""
    scores = []
    for sample in samples:
        sets = iter(sample.sets.tolist() if sample.sets is not None else [ANY_TOKEN] * 2)
        for position in np.flatnonzero(sample.bears_loss).tolist():
            one = Encoded(sample.ids, np.arange(5) == position)
            if backbone.family == "encoder-decoder":  # the source ends where it does
                one = replace(one, bears_loss=sample.bears_loss & (np.arange(5) <= position))
            logits = full_logits(backbone, one)
            number, token = next(sets), int(sample.ids[position])
            if number == ANY_TOKEN:
                scores.append(logits.log_softmax(-1)[token])
            else:
                of_set = (logits[SETS[number]] / TEMPERATURE).log_softmax(-1)
                scores.append(of_set[SETS[number].index(token)])
    return torch.stack(scores)


def full_logits(backbone: Backbone, sample: Encoded) -> torch.Tensor:
    """[V] before a sample's last label: from the model's own forward pass."""
    batch = backbone.collate([sample])
    model = backbone.model
    if backbone.family == "encoder-decoder":
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "decoder_input_ids")}
        position = int(batch["label_positions"][int(sample.bears_loss.sum()) - 1])
    else:
        inputs, position = {"input_ids": batch["input_ids"]}, int(batch["label_positions"][0])
    return model(**inputs).logits[0, position]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_label_of_a_set_is_scored_among_its_tokens_and_others_among_all(family: str) -> None:
    backbone = told(family)
    scores = backbone.label_log_probs(backbone.collate(SAMPLES))
    assert torch.allclose(scores, expected(backbone, SAMPLES), atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_gradient_is_that_of_the_full_logits_at_the_set(family: str) -> None:
    backbone = told(family)
    parameters = [weight for weight in backbone.model.parameters() if weight.requires_grad]
    ours = torch.autograd.grad(backbone.loss(backbone.collate(SAMPLES)), parameters, allow_unused=True)
    wanted = torch.autograd.grad(-expected(backbone, SAMPLES).sum(), parameters, allow_unused=True)
    for one, other in zip(ours, wanted, strict=True):
        if one is not None and other is not None:
            assert torch.allclose(one, other, atol=2e-4)


def test_no_logits_of_the_vocabulary_are_computed_where_every_label_is_of_a_set() -> None:
    backbone = told()
    batch = backbone.collate([FIRST, FIRST])
    assert len(batch["labels"]) > int((batch["labels"] >= 0).sum())  # labels are padded
    assert batch["set_rows"][:4].tolist() == [0, 1, 2, 3] and not len(batch["any_rows"])


def test_soft_targets_are_among_the_set_and_those_without_weight_change_nothing() -> None:
    backbone = told()
    tokens = np.array([[13, 200], [13, 0]], np.int32)  # 200 and 0 are in no set, and weigh nothing
    soft = SoftTargets(tokens, np.array([[0.25, 0.0], [0.4, 0.0]], np.float32))
    score = backbone.label_log_probs(backbone.collate([replace(FIRST, soft=soft)]))
    own = backbone.label_log_probs(backbone.collate([FIRST])).tolist()
    other = [
        backbone.label_log_probs(backbone.collate([replace(FIRST, ids=np.array(ids, np.int32))])).tolist()
        for ids in ([9, 8, 7, 13, 20], [9, 8, 7, 12, 13])
    ]
    assert score.tolist()[0] == pytest.approx(0.75 * own[0] + 0.25 * other[0][0], abs=1e-5)
    assert score.tolist()[1] == pytest.approx(0.6 * own[1] + 0.4 * other[1][1], abs=1e-5)
    assert torch.isfinite(torch.cat([weight.grad.flatten() for weight in gradients(backbone, score)])).all()


def gradients(backbone: Backbone, score: torch.Tensor) -> list[torch.nn.Parameter]:
    score.sum().backward()
    return [weight for weight in backbone.model.parameters() if weight.grad is not None]


def test_samples_with_and_without_sets_share_a_row() -> None:
    backbone = told()
    row = side_by_side(SAMPLES)
    alone = torch.cat([backbone.label_log_probs(backbone.collate([one])) for one in SAMPLES])
    assert torch.allclose(backbone.label_log_probs(backbone.collate([row])), alone, atol=1e-4)


def test_bf16_and_adapters_give_the_same() -> None:
    backbone = told()
    exact = backbone.label_log_probs(backbone.collate(SAMPLES)).detach()
    bf16 = type(backbone)(backbone.model, backbone.tokenizer, bf16=True)
    bf16.allowed_tokens = backbone.allowed_tokens
    assert torch.allclose(bf16.label_log_probs(bf16.collate(SAMPLES)), exact, rtol=0.02, atol=0.05)
    add_adapters(backbone.model, [11, 12, 13], PretrainedSettings(name="any", adaptation="lora"))
    assert torch.allclose(backbone.label_log_probs(backbone.collate(SAMPLES)), exact, atol=1e-4)


def test_what_was_not_told_is_refused() -> None:
    with pytest.raises(ValueError, match="allowed_tokens is None"):
        nano().collate([FIRST])


def test_files_keep_the_sets(tmp_path) -> None:
    read = list(write_encoded([SAMPLES[:2], SAMPLES[2:]], tmp_path / "epoch"))
    for one, other in zip(read, SAMPLES, strict=True):
        assert one.ids.tolist() == other.ids.tolist() and one.bears_loss.tolist() == other.bears_loss.tolist()
        assert (one.sets is None) == (other.sets is None)
        assert one.sets is None or one.sets.tolist() == other.sets.tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_names_loss_is_minus_its_score_over_the_trie(family: str) -> None:
    """Training and decoding agree: of every name, and together the names have all of the probability."""
    backbone, names = nano(family), [(11, 12, 30, 31), (11, 13), (20, 40), (11, 12, 5)]
    trie = build_trie(names)
    backbone.allowed_tokens = AllowedTokens(trie.next_tokens(), TEMPERATURE)
    prompt = [9, 8, 7]
    prefilled = backbone.prefill([Encoded(np.array(prompt, np.int32), np.zeros(3, bool))])
    scores = score_items(prefilled, trie, np.arange(4)[None], Softmax("trie", TEMPERATURE))[0]
    for item, name in enumerate(names):
        nodes = trie.nodes_before(np.array([item])).values
        loss = np.concatenate([[False] * len(prompt), nodes >= 0])
        ids = np.array([*prompt, *name], np.int32)
        sample = Encoded(ids, loss, sets=nodes[nodes >= 0].astype(np.int32))
        assert backbone.loss(backbone.collate([sample])).item() == pytest.approx(-scores[item], abs=1e-4)
    assert np.exp(scores).sum() == pytest.approx(1, abs=1e-5)


def test_log_probabilities_among_sets_are_those_of_the_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, states = nano(), torch.randn(5, 32)
    logits = backbone.logits(states).detach()
    sets, set_of = ragged([[2, 3], [7], [3, 7, 50]]), np.array([2, 0, 1])
    owner, tokens = torch.tensor([0, 0, 3, 4]), torch.tensor([50, 3, 3, 7])
    wanted = [
        (logits[0, [3, 7, 50]] / 2).log_softmax(-1)[[2, 0]],
        (logits[3, [2, 3]] / 2).log_softmax(-1)[1:],
        torch.zeros(1),
    ]
    for largest in (1, 2**24):
        monkeypatch.setattr(backbone_module, "LARGEST_TABLE", largest)
        none = backbone.log_probs_among(states, owner[:0], tokens[:0], ragged([]), set_of[:0], 2.0)
        log_probs = backbone.log_probs_among(states, owner, tokens, sets, set_of, 2.0)
        assert torch.allclose(log_probs, torch.cat(wanted), atol=1e-5) and len(none) == 0
