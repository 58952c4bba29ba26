"""The exam of backbones itself: each broken promise fails the check that is named for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from shelftalk.models.backbone import Backbone
from shelftalk.models.decoder_only import DecoderOnly, _Tree
from shelftalk.models.nano import build_nano
from shelftalk.models.settings import NanoSettings
from shelftalk.models.text_encoder import Encoded, TextEncoder
from shelftalk.models.token_tree import Prefilled, TokenTree
from shelftalk.ragged import Ragged
from shelftalk.records import Segment
from shelftalk.testing.model_exams import BackboneExam

SMALL = NanoSettings(vocabulary=300, width=32, layers=2, heads=2)


class LateLabels(DecoderOnly):
    """Reads the logits one position too late."""

    def collate(self, samples: Sequence[Encoded]) -> dict[str, torch.Tensor]:
        batch = super().collate(samples)
        return {**batch, "label_positions": batch["label_positions"] + 1}


class UncheckedText(TextEncoder):
    """Lets the tokenizer find control tokens in free text."""

    def tokens(self, text: str, symbols: bool) -> list[int]:
        if symbols:
            return super().tokens(text, symbols)
        return list(self.tokenizer.encode(text, add_special_tokens=False))


class SpacedNames(TextEncoder):
    """Tokenises names unlike samples."""

    def encode_names(self, names: Sequence[Sequence[Segment]]) -> Ragged:
        return super().encode_names([[Segment(" "), *name] for name in names])


class JoinedSegments(TextEncoder):
    """Tokenises neighbouring segments of free text as one."""

    def encode(self, segments: Sequence[Segment]) -> Encoded:
        free = [segment for segment in segments if not segment.symbols]
        others = [segment for segment in segments if segment.symbols]
        return super().encode([Segment("".join(segment.text for segment in free), True), *others])


class ReadsControlTokens(DecoderOnly):
    encoder: type[TextEncoder] = UncheckedText

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(model, tokenizer)
        self.text_encoder = self.encoder(tokenizer)


class NamesUnlikeSamples(ReadsControlTokens):
    encoder = SpacedNames


class JoinsSegments(ReadsControlTokens):
    encoder = JoinedSegments


class ForgetsPadding(DecoderOnly):
    """Reads the padding of shorter prompts as if it were text."""

    def prefill(self, prompts: Sequence[Encoded]) -> Prefilled:
        width = max(map(len, prompts))
        return super().prefill(
            [Encoded(np.pad(p.ids, (width - len(p), 0)), np.zeros(width, bool)) for p in prompts]
        )


class NoTree(TokenTree):
    def extend(self, parents: torch.Tensor) -> torch.Tensor:
        mask = super().extend(parents)
        return torch.ones_like(mask).tril(mask.shape[2] - mask.shape[1])


class SeesSiblings(DecoderOnly):
    """Every node sees all nodes before it."""

    def prefill(self, prompts: Sequence[Encoded]) -> Prefilled:
        tree = super().prefill(prompts)
        assert isinstance(tree, _Tree)
        tree.tree = NoTree(**vars(tree.tree))
        return tree


class ForgetsNothing(DecoderOnly):
    """Keeps all nodes."""

    def prefill(self, prompts: Sequence[Encoded]) -> Prefilled:
        tree = super().prefill(prompts)
        tree.crop = lambda nodes: None  # type: ignore[method-assign]
        return tree


class NextOwner(DecoderOnly):
    """Reads each token after the state before its own."""

    def log_probs_of(self, states: torch.Tensor, owner: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return super().log_probs_of(states, (owner - 1).clamp(min=0), tokens)


class MeansOverLabels(DecoderOnly):
    def loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return -self.label_log_probs(batch).mean()


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (LateLabels, BackboneExam.test_each_label_of_a_batch_has_the_log_probability_of_its_step),
        (MeansOverLabels, BackboneExam.test_a_samples_loss_is_minus_the_sum_of_its_step_log_probabilities),
        (ReadsControlTokens, BackboneExam.test_no_text_becomes_a_symbol_or_a_control_token),
        (NamesUnlikeSamples, BackboneExam.test_names_and_many_samples_are_encoded_as_one_by_one),
        (JoinsSegments, BackboneExam.test_a_sample_is_encoded_segment_by_segment),
        (ForgetsPadding, BackboneExam.test_a_prompt_has_the_same_log_probabilities_alone_and_in_a_batch),
        (SeesSiblings, BackboneExam.test_branches_of_a_tree_do_not_attend_to_each_other),
        (SeesSiblings, BackboneExam.test_a_tree_of_three_hundred_nodes_is_its_paths),
        (ForgetsNothing, BackboneExam.test_cropped_nodes_have_no_effect),
    ],
)
def test_a_broken_promise_fails_its_check(kind: type[Backbone], check: Callable[[BackboneExam], None]):
    class Exam(BackboneExam):
        def build(self, texts: Sequence[str], symbols: Sequence[str]) -> Backbone:
            whole = build_nano(texts, symbols, SMALL, seed=0)
            return kind(whole.model, whole.tokenizer)

    with pytest.raises(AssertionError):
        check(Exam())


def test_a_token_scored_after_another_state_fails_its_check(monkeypatch: pytest.MonkeyPatch):
    class Exam(BackboneExam):
        def build(self, texts: Sequence[str], symbols: Sequence[str]) -> Backbone:
            whole = build_nano(texts, symbols, SMALL, seed=0)
            return NextOwner(whole.model, whole.tokenizer)

    with pytest.raises(AssertionError):
        Exam().test_single_log_probabilities_are_those_of_the_table(monkeypatch)
