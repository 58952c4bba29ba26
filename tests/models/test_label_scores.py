"""Log-probabilities of labels: those of torch's cross-entropy, and its gradient, with nothing kept but
the logits."""

from __future__ import annotations

import pytest
import torch

from shelftalk.models.backbone import NOT_COUNTED
from shelftalk.models.label_scores import CHUNK, LabelScores
from tests.training.test_packing import nano


@pytest.mark.parametrize("number", [1, CHUNK, 3 * CHUNK + 5])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_scores_and_gradient_are_those_of_cross_entropy(number: int, kind: torch.dtype) -> None:
    torch.manual_seed(0)
    logits = (5 * torch.randn(number, 300)).to(kind).requires_grad_()
    labels, weights = torch.randint(0, 300, (number,)), torch.randn(number)
    expected = -torch.nn.functional.cross_entropy(logits.float(), labels, reduction="none")
    ours = LabelScores.apply(logits, labels[:, None], None)
    assert ours.dtype == torch.float32 and torch.allclose(ours, expected, atol=1e-5)
    (gradient,), (wanted,) = (
        torch.autograd.grad((scores * weights).sum(), logits) for scores in (ours, expected)
    )
    assert gradient.dtype == kind and torch.allclose(
        gradient, wanted, atol=1e-6 if kind == torch.float32 else 1e-2
    )


def test_labels_that_do_not_count_are_left_out_and_teach_nothing() -> None:
    backbone, states = nano(), torch.randn(4, 32, requires_grad=True)
    labels = torch.tensor([3, NOT_COUNTED, 8, NOT_COUNTED])
    scores = backbone._scores_of_labels(states, {"labels": labels})
    assert torch.allclose(scores, backbone.logits(states).log_softmax(-1)[[0, 2], [3, 8]], atol=1e-5)
    scores.sum().backward()
    assert states.grad is not None and states.grad.abs().sum(1).gt(0).tolist() == [True, False, True, False]


def test_of_several_tokens_with_weights_score_and_gradient_are_those_of_the_cross_entropy_to_them() -> None:
    torch.manual_seed(0)
    logits = (3 * torch.randn(CHUNK + 3, 40)).requires_grad_()
    tokens = torch.stack([torch.randperm(40)[:5] for _ in range(len(logits))])
    weights = torch.rand(len(logits), 5).softmax(-1)
    targets = torch.zeros(len(logits), 40).scatter_(1, tokens, weights)
    expected = -torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    ours = LabelScores.apply(logits, tokens, weights)
    assert torch.allclose(ours, expected, atol=1e-5)
    (gradient,), (wanted,) = (torch.autograd.grad(scores.sum(), logits) for scores in (ours, expected))
    assert torch.allclose(gradient, wanted, atol=1e-6)


def test_the_way_back_keeps_the_logits_and_no_other_table() -> None:
    logits, kept = torch.randn(200, 1000, requires_grad=True), list[int]()

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        LabelScores.apply(logits, torch.zeros(200, 1, dtype=torch.int64), None)
    assert sorted(kept) == [200, 200, 200_000]
