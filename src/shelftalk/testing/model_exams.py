"""The exam of backbones: what each of them must pass. Needs torch.

    class TestMyBackbone(BackboneExam):
        def build(self, texts, symbols):
            return my_backbone(texts, symbols)

Legend: R requests, N nodes, V vocabulary; log-probabilities in nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from shelftalk.models import backbone as backbone_module
from shelftalk.models.backbone import Backbone
from shelftalk.models.free_text import TEXT_WORDS
from shelftalk.models.text_encoder import Encoded
from shelftalk.records import Sample, Segment
from shelftalk.tasks.samples import Tables, samples_of
from shelftalk.testing.worlds import EVIL_TEXTS

SYMBOLS = ("<a_0>", "<a_1>", "<a_2>", "<b_0>", "<b_1>", "<extra_id_0>", "<extra_id_1>", "<i_7>")
TEXTS = (
    "Films a person watched, oldest first:\n",
    "Amber tea No. 1\nBold lamps No. 2\nCalm boots No. 3\n",
    "A person's ratings, from 0.5 (worst) to 5.0 (best): 4.5 3.0 2.5 10\n",
)
FULL_WIDTH = {ord(letter): ord(letter) + 0xFEE0 for letter in map(chr, range(ord("!"), ord("~") + 1))}
LINE = (Segment("<a_1><b_0>", symbols=True), Segment(" Amber tea No. 1\n"))
SAMPLES: tuple[tuple[Segment, ...], ...] = (
    (Segment("Films:\n"), *LINE, Segment("<a_2><b_1>", True, symbols=True)),
    (Segment("A person's ratings:\n"), *LINE, *LINE, Segment(": and now"), Segment(" 4.5", True)),
    (Segment("Oldest first:\n"), *LINE, Segment("Bold lamps No. 2 and more", True), Segment("\n", True)),
    (  # loss in several segments, free text between them
        Segment("Hidden:\n"),
        Segment("<extra_id_0>", symbols=True),
        Segment("<a_0><b_1>", True, symbols=True),
        Segment(" Calm boots\n"),
        Segment("<extra_id_1>", symbols=True),
        Segment("<i_7>", True, symbols=True),
    ),
)
"""Prompts and targets of different lengths and kinds."""


@cache
def _build(exam: Any) -> Backbone:
    """Each exam builds once, not once per check."""
    backbone = cast(Backbone, exam().build(list(TEXTS), list(SYMBOLS)))
    backbone.model.eval()
    return backbone


class BackboneExam:
    """What `Backbone` promises of every family."""

    tolerance: float = 1e-4
    """Largest difference in nats between two computations of one log-probability in full precision."""
    tokenizer_type: Any = AutoTokenizer
    """What opens the saved tokenizer."""

    def build(self, texts: Sequence[str], symbols: Sequence[str]) -> Backbone:
        """Override: a small backbone in full precision whose vocabulary holds `symbols`; `texts` are for
        training a tokenizer."""
        raise NotImplementedError("an exam needs a build(texts, symbols) that returns a backbone")

    @property
    def built(self) -> Backbone:
        exam: Any = type(self)
        return _build(exam)

    @property
    def samples(self) -> list[Encoded]:
        return [self.built.encode(segments) for segments in SAMPLES]

    # --- text -> ids -------------------------------------------------------------------------------------

    def test_a_sample_is_encoded_segment_by_segment(self) -> None:
        for segments in SAMPLES:
            encoded = self.built.encode(segments)
            alone = [self.built.encode([segment]) for segment in segments]
            assert encoded.ids.tolist() == [token for part in alone for token in part.ids.tolist()]
            losses = [[segment.bears_loss] * len(part) for segment, part in zip(segments, alone, strict=True)]
            assert encoded.bears_loss.tolist() == [loss for row in losses for loss in row]

    def test_names_and_many_samples_are_encoded_as_one_by_one(self) -> None:
        names = self.built.encode_names(SAMPLES)
        assert [names[row].tolist() for row in range(len(names))] == [s.ids.tolist() for s in self.samples]
        tables = Tables([], [])
        records = [Sample("task", "template", "", (), segments) for segments in SAMPLES]
        for many, one in zip(
            self.built.encode_samples(samples_of(records, tables)), self.samples, strict=True
        ):
            assert many.ids.tolist() == one.ids.tolist()
            assert many.bears_loss.tolist() == one.bears_loss.tolist()

    def test_each_symbol_is_one_token_of_its_own(self) -> None:
        ids = self.built.encode([Segment("".join(SYMBOLS), symbols=True)]).ids.tolist()
        assert len(set(ids)) == len(SYMBOLS)

    def test_an_unknown_symbol_is_a_key_error(self) -> None:
        with pytest.raises(KeyError, match="a_999"):
            self.built.encode([Segment("<a_999>", symbols=True)])

    def test_no_text_becomes_a_symbol_or_a_control_token(self) -> None:
        tokenizer = self.built.tokenizer
        added = tokenizer.get_added_vocab()
        allowed = {tokenizer.unk_token_id, *(added.get(word) for word in TEXT_WORDS)}
        forbidden = {*tokenizer.all_special_ids, *added.values()} - allowed
        words = [str(tokenizer.convert_ids_to_tokens(token)) for token in sorted(forbidden)]
        wide = [word.translate(FULL_WIDTH) for word in words]  # a tokenizer may normalise these
        broken = [f"{word[0]}\x01{word[1:]}" for word in words]  # and drop this control character
        repeated = [f"x{word}y {word} {word}{word}" for word in words]
        for text in (*EVIL_TEXTS, *words, *wide, *broken, *repeated):
            assert not forbidden.intersection(self.built.tokens(text, symbols=False)), text

    def test_line_breaks_have_tokens(self) -> None:
        assert self.built.tokens("\n", symbols=False)

    def test_a_text_of_ten_thousand_characters_is_encoded(self) -> None:
        assert len(self.built.tokens("many words " * 910, symbols=False)) > 910

    def test_shown_tokens_are_marked_where_they_bear_loss(self) -> None:
        shown = self.built.text_encoder.show(self.samples[0])
        assert [loss for _, loss in shown] == self.samples[0].bears_loss.tolist()
        assert [token.strip() for token, loss in shown if loss] == ["<a_2>", "<b_1>"]

    # --- loss and steps ----------------------------------------------------------------------------------

    def test_a_samples_loss_is_minus_the_sum_of_its_step_log_probabilities(self) -> None:
        for sample in self.samples:
            loss = float(self.built.loss(self.built.collate([sample])).detach())
            expected = -float(self.steps([sample])[0].sum())
            assert loss == pytest.approx(expected, abs=self.tolerance * len(sample))

    def test_each_label_of_a_batch_has_the_log_probability_of_its_step(self) -> None:
        labels = torch.cat(self.steps(self.samples))
        self.check_close(self.built.label_log_probs(self.built.collate(self.samples)), labels)

    def test_padding_does_not_change_a_loss(self) -> None:
        alone = [self.built.label_log_probs(self.built.collate([sample])) for sample in self.samples]
        for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 2, 0]):
            batch = self.built.collate([self.samples[number] for number in order])
            together = self.built.label_log_probs(batch)
            self.check_close(together, torch.cat([alone[number] for number in order]))

    def test_a_loss_has_a_gradient(self) -> None:
        batch = self.built.collate(self.samples)
        self.built.model.zero_grad()
        self.built.loss(batch).backward()
        gradients = (weight.grad for weight in self.built.model.parameters())
        sizes = [float(gradient.abs().sum()) for gradient in gradients if gradient is not None]
        self.built.model.zero_grad()
        assert sizes and np.isfinite(sizes).all() and max(sizes) > 0

    def test_log_probabilities_sum_to_one(self) -> None:
        prefilled = self.built.prefill(self.prompts())
        extended = prefilled.extend(torch.full((4, 1), -1), torch.full((4, 1), 5))
        for log_probs in (prefilled.log_probs, extended):
            assert log_probs.dtype == torch.float32
            assert torch.allclose(log_probs.exp().sum(-1), torch.ones(1), atol=1e-3)

    # --- prompts and trees -------------------------------------------------------------------------------

    def test_a_prompt_has_the_same_log_probabilities_alone_and_in_a_batch(self) -> None:
        together = self.built.prefill(self.prompts()).log_probs
        alone = [self.built.prefill([prompt]).log_probs for prompt in self.prompts()]
        self.check_close(together, torch.cat(alone))

    def test_a_chain_decoded_at_once_is_the_chain_decoded_step_by_step(self) -> None:
        tokens = torch.tensor([[5, 9, 7, 5], [8, 6, 5, 9], [7, 7, 7, 7], [9, 8, 7, 6]])
        chain = torch.arange(-1, 3).repeat(4, 1)
        at_once = self.built.prefill(self.prompts()).extend(chain, tokens)
        prefilled = self.built.prefill(self.prompts())
        steps = [prefilled.extend(chain[:, n : n + 1], tokens[:, n : n + 1]) for n in range(4)]
        self.check_close(torch.cat(steps, dim=1), at_once)

    def test_branches_of_a_tree_do_not_attend_to_each_other(self) -> None:
        # two requests with trees of different shape, over three calls; every node is compared with its path
        calls = [
            ([[-1, -1, 0], [-1, 0, 1]], [[5, 6, 7], [8, 9, 5]]),
            ([[2, 1], [-1, 0]], [[6, 8], [6, 6]]),
            ([[3, 0, 4, -1], [2, 4, 4, 3]], [[9, 9, 5, 7], [5, 7, 8, 9]]),
        ]
        prompts = self.prompts()[:2]
        prefilled = self.built.prefill(prompts)
        extended = [
            prefilled.extend(torch.tensor(parents), torch.tensor(tokens)) for parents, tokens in calls
        ]
        log_probs = torch.cat(extended, dim=1)  # [R, N, V]
        for row, prompt in enumerate(prompts):
            parents = [node for call, _ in calls for node in call[row]]
            tokens = [token for _, call in calls for token in call[row]]
            for node in range(len(tokens)):
                self.check_close(log_probs[row, node], self.after(prompt, path_of(node, parents, tokens)))

    def test_selected_requests_go_on_where_they_were(self) -> None:
        tokens = torch.tensor([[5, 6], [7, 8], [9, 5], [6, 7]])
        parents = torch.tensor([[-1, 0]] * 4)
        rows, more_tokens = torch.tensor([3, 1, 1]), torch.tensor([[9, 8], [5, 6], [7, 9]])
        more_parents = torch.tensor([[1, -1], [0, 1], [0, 1]])
        prefilled = self.built.prefill(self.prompts())
        prefilled.extend(parents, tokens)
        chosen = prefilled.select(rows)
        self.check_close(chosen.log_probs, prefilled.log_probs[rows])
        log_probs = chosen.extend(more_parents, more_tokens)
        for position, row in enumerate(rows.tolist()):
            all_parents = [*parents[row].tolist(), *more_parents[position].tolist()]
            all_tokens = [*tokens[row].tolist(), *more_tokens[position].tolist()]
            for node in (2, 3):
                path = path_of(node, all_parents, all_tokens)
                self.check_close(log_probs[position, node - 2], self.after(self.prompts()[row], path))

    def test_a_selection_leaves_the_others_alone(self) -> None:
        first = torch.full((4, 1), -1), torch.tensor([[5], [6], [7], [8]])
        then = torch.full((4, 1), 0), torch.tensor([[9], [9], [9], [9]])
        untouched = self.built.prefill(self.prompts())
        untouched.extend(*first)
        expected = untouched.extend(*then)
        prefilled = self.built.prefill(self.prompts())
        prefilled.extend(*first)
        prefilled.select(torch.tensor([0, 2])).extend(torch.full((2, 1), 0), torch.tensor([[5], [5]]))
        self.check_close(prefilled.extend(*then), expected)

    def test_a_tree_of_three_hundred_nodes_is_its_paths(self) -> None:
        # chains of 20 after nodes of any call, and single nodes after any node of their own call
        draw = np.random.default_rng(0)
        prompts = self.prompts()[:2]
        prefilled = self.built.prefill(prompts)
        parents, tokens = np.zeros((2, 0), np.int64), np.zeros((2, 0), np.int64)
        log_probs: list[torch.Tensor] = []
        for before in (0, 100, 200):
            new_parents = np.tile(np.arange(before - 1, before + 99), (2, 1))
            new_parents[:, :60:20] = draw.integers(-1, before, size=(2, 3)) if before else -1
            new_parents[:, 60:] = draw.integers(-1, np.arange(before + 60, before + 100), size=(2, 40))
            new_tokens = draw.integers(5, 60, size=(2, 100))
            parents, tokens = np.hstack([parents, new_parents]), np.hstack([tokens, new_tokens])
            log_probs.append(prefilled.extend(torch.from_numpy(new_parents), torch.from_numpy(new_tokens)))
        for row, prompt in enumerate(prompts):
            nodes = draw.choice(300, size=12, replace=False).tolist()
            paths = [path_of(node, parents[row].tolist(), tokens[row].tolist()) for node in nodes]
            chains = torch.zeros(len(paths), max(map(len, paths)), dtype=torch.int64)
            for position, path in enumerate(paths):
                chains[position, : len(path)] = torch.tensor(path)
            alone = self.built.prefill([prompt]).select(torch.zeros(len(paths), dtype=torch.int64))
            following = alone.extend(torch.arange(-1, chains.shape[1] - 1).repeat(len(paths), 1), chains)
            for position, (node, path) in enumerate(zip(nodes, paths, strict=True)):
                self.check_close(log_probs[node // 100][row, node % 100], following[position, len(path) - 1])

    def test_cropped_nodes_have_no_effect(self) -> None:
        tokens = torch.tensor([[5, 9, 7], [8, 6, 5], [7, 7, 7], [9, 8, 7]])
        parents = torch.tensor([[-1, 0, 0]] * 4)
        again_parents = torch.tensor([[1, 3], [-1, 2], [0, 3], [1, -1]])  # 3 is a new node
        again = again_parents, torch.tensor([[5, 6], [7, 8], [9, 5], [6, 7]])
        untouched, cropped = self.built.prefill(self.prompts()), self.built.prefill(self.prompts())
        untouched.extend(parents, tokens)
        cropped.extend(parents, tokens)
        for length in (40, 5):  # more than there is room for, and less
            cropped.extend(torch.full((4, length), 2), torch.full((4, length), 9))
            cropped.crop(3)
        cropped.crop(7)  # there are no such nodes
        self.check_close(cropped.extend(*again), untouched.extend(*again))
        cropped.crop(0)
        fresh = self.built.prefill(self.prompts())
        self.check_close(cropped.extend(parents, tokens + 1), fresh.extend(parents, tokens + 1))

    # --- states and log-probabilities --------------------------------------------------------------------

    def test_log_probabilities_are_the_output_layer_over_the_states(self) -> None:
        tokens, parents = torch.tensor([[5, 9], [8, 6], [7, 7], [9, 8]]), torch.tensor([[-1, 0]] * 4)
        prefilled = self.built.prefill(self.prompts())
        states = prefilled.decode(parents, tokens)
        assert states.shape == (4, 2, prefilled.states.shape[1])
        expected = self.built.prefill(self.prompts()).extend(parents, tokens)
        self.check_close(self.built.log_probs(states), expected)
        self.check_close(self.built.log_probs(prefilled.states), prefilled.log_probs)

    def test_single_log_probabilities_are_those_of_the_table(self, monkeypatch: pytest.MonkeyPatch) -> None:
        prefilled = self.built.prefill(self.prompts())
        states = prefilled.decode(torch.tensor([[-1, 0]] * 4), torch.tensor([[5, 9]] * 4)).flatten(0, 1)
        table = self.built.log_probs(states)  # [8, V]
        owner, tokens = torch.tensor([0, 0, 1, 3, 3, 3, 6, 7]), torch.tensor([5, 9, 5, 0, 7, 7, 60, 8])
        for largest in (1, 3 * table.shape[1], 2**26):  # one state at a time, three, all
            monkeypatch.setattr(backbone_module, "LARGEST_TABLE", largest)
            for number in (len(owner), 1, 0):
                log_probs = self.built.log_probs_of(states, owner[:number], tokens[:number])
                assert log_probs.dtype == torch.float32
                self.check_close(log_probs, table[owner[:number], tokens[:number]])

    # --- files and precision -----------------------------------------------------------------------------

    def test_a_saved_backbone_opens_with_transformers_and_computes_the_same(self, tmp_path: Path) -> None:
        self.built.save(tmp_path)
        opener = AutoModelForCausalLM if self.built.family == "decoder-only" else AutoModelForSeq2SeqLM
        tokenizer = self.tokenizer_type.from_pretrained(tmp_path)
        opened = type(self.built)(opener.from_pretrained(tmp_path).eval(), tokenizer)
        for segments, sample in zip(SAMPLES, self.samples, strict=True):
            assert opened.encode(segments).ids.tolist() == sample.ids.tolist()
        for text in EVIL_TEXTS:
            assert opened.tokens(text, symbols=False) == self.built.tokens(text, symbols=False)
        batch, prompts = self.built.collate(self.samples), self.prompts()
        self.check_close(opened.label_log_probs(batch), self.built.label_log_probs(batch))
        self.check_close(opened.prefill(prompts).log_probs, self.built.prefill(prompts).log_probs)

    def test_bf16_keeps_losses_and_steps_together(self) -> None:
        bf16 = type(self.built)(self.built.model, self.built.tokenizer, bf16=True)
        labels = bf16.label_log_probs(bf16.collate(self.samples)).detach()
        assert labels.dtype == torch.float32
        exact = self.built.label_log_probs(self.built.collate(self.samples))
        steps = torch.cat(self.steps(self.samples, bf16))
        for other in (labels, steps):  # bf16 keeps 8 bits of a number
            assert torch.allclose(other, exact, rtol=0.02, atol=0.05)

    # --- helpers -----------------------------------------------------------------------------------------

    def prompts(self) -> list[Encoded]:
        return [head(sample, sample.prompt_length) for sample in self.samples]

    def steps(self, samples: Sequence[Encoded], backbone: Backbone | None = None) -> list[torch.Tensor]:
        """Per sample the step log-probabilities of its labels, all prompts read as one batch and extended
        step by step."""
        backbone = backbone or self.built
        tails = [sample.ids[sample.prompt_length :] for sample in samples]
        tokens = torch.zeros(len(samples), max(map(len, tails)), dtype=torch.int64)
        for row, tail in enumerate(tails):
            tokens[row, : len(tail)] = torch.from_numpy(tail)
        prefilled = backbone.prefill([head(sample, sample.prompt_length) for sample in samples])
        following = [prefilled.log_probs]
        for step in range(tokens.shape[1] - 1):
            parents = torch.full((len(samples), 1), step - 1)
            following.append(prefilled.extend(parents, tokens[:, step : step + 1])[:, 0])
        log_probs = torch.stack(following, dim=1).gather(2, tokens[:, :, None])[:, :, 0]  # [R, N]
        losses = [torch.from_numpy(sample.bears_loss[sample.prompt_length :]) for sample in samples]
        return [log_probs[row, : len(loss)][loss] for row, loss in enumerate(losses)]

    def after(self, prompt: Encoded, path: Sequence[int]) -> torch.Tensor:
        """[V] the log-probabilities after the prompt and the tokens of `path`, decoded alone and as
        one chain."""
        chain = torch.arange(-1, len(path) - 1)[None]
        return self.built.prefill([prompt]).extend(chain, torch.tensor([list(path)]))[0, -1]

    def check_close(self, one: torch.Tensor, other: torch.Tensor) -> None:
        assert one.shape == other.shape
        assert torch.allclose(one, other, rtol=0, atol=self.tolerance), (one - other).abs().max().item()


def head(sample: Encoded, length: int) -> Encoded:
    """The first tokens of a sample, as a prompt."""
    return Encoded(sample.ids[:length], np.zeros(length, bool))


def path_of(node: int, parents: Sequence[int], tokens: Sequence[int]) -> list[int]:
    """The tokens from the first after the prompt to the node."""
    path: list[int] = []
    while node >= 0:
        path.append(tokens[node])
        node = parents[node]
    return path[::-1]
