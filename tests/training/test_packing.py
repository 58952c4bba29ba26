"""Rows of several samples, and histories that train each of their items: the loss is that of the samples one
by one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shelftalk.errors import SettingsError
from shelftalk.indexing.item_index import IndexSettings, ItemIndex
from shelftalk.indexing.titles import build as build_titles
from shelftalk.models.backbone import Backbone
from shelftalk.models.nano import build_nano
from shelftalk.models.settings import NanoSettings
from shelftalk.models.text_encoder import Encoded
from shelftalk.tasks.retrieval import RetrievalSettings, RetrievalTask
from shelftalk.tasks.samples import Samples
from shelftalk.testing.task_exams import exam_context, exam_index, world_split
from shelftalk.training.batching import Epochs, Steps
from shelftalk.training.encoded_files import write_encoded
from shelftalk.training.packing import packed_rows, side_by_side
from tests.training.test_trainer import PowerCut, cut_at, new, same, trained

WORDING = '[[template]]\nname = "one"\nsource = "What they took:\\n{history}"\ntarget = "{item}"\n'
WHOLE = 1000
"""A history cap that cuts none of the tiny world's, so that every window starts at the first item."""


def nano(family: str = "decoder-only", symbols: Sequence[str] = ("<a>",), dropout: float = 0.0) -> Backbone:
    settings = NanoSettings(family=family, vocabulary=400, width=32, layers=2, heads=2, dropout=dropout)
    return build_nano(["What they took:\n", "Amber tea No. 1\nBold lamps No. 2\n"], symbols, settings, seed=0)


def lone(lengths: Sequence[int], seed: int = 0) -> list[Encoded]:
    """Samples of these lengths with random tokens; about half of them bear loss, a first token among them."""
    draw = np.random.default_rng(seed)
    return [
        Encoded(draw.integers(2, 250, length).astype(np.int32), draw.random(length) < 0.5)
        for length in lengths
    ]


# --- rows ------------------------------------------------------------------------------------------------

LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=80)


@given(LENGTHS, st.integers(1, 400))
def test_every_sample_stands_in_one_row_and_no_row_is_longer_than_allowed(
    lengths: list[int], row_tokens: int
) -> None:
    rows = packed_rows(lengths, row_tokens)
    assert sorted(position for row in rows for position in row) == list(range(len(lengths)))
    assert all(sum(lengths[position] for position in row) <= row_tokens or len(row) == 1 for row in rows)


@given(LENGTHS, st.integers(1, 400))
def test_no_sample_would_have_fitted_into_a_row_begun_before_its_own(
    lengths: list[int], row_tokens: int
) -> None:
    rows = packed_rows(lengths, row_tokens)
    for number, row in enumerate(rows):
        for earlier in rows[:number]:
            assert sum(lengths[position] for position in earlier) + lengths[row[0]] > row_tokens


def test_rows_of_short_samples_are_nearly_full() -> None:
    lengths = np.random.default_rng(0).integers(10, 120, 500).tolist()
    rows = packed_rows(lengths, 256)
    assert sum(lengths) / (256 * len(rows)) > 0.97


# --- what a row means ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [[[0, 1, 2, 3, 4]], [[0, 1], [2], [3, 4]], [[4, 2, 0], [3, 1]]])
def test_a_row_gives_each_label_the_log_probability_of_its_sample_alone(rows: list[list[int]]) -> None:
    backbone, samples = nano(), lone([5, 40, 1, 17, 33])
    alone = [backbone.label_log_probs(backbone.collate([sample])) for sample in samples]
    packed = backbone.label_log_probs(
        backbone.collate([side_by_side([samples[position] for position in row]) for row in rows])
    )
    assert torch.allclose(packed, torch.cat([alone[position] for row in rows for position in row]), atol=1e-5)


def test_without_blocked_attention_the_log_probabilities_would_be_others() -> None:
    backbone, samples = nano(), lone([30, 30])
    row = side_by_side(samples)
    run_on = Encoded(row.ids, row.bears_loss)
    blocked, open_ = (backbone.label_log_probs(backbone.collate([one])) for one in (row, run_on))
    assert (blocked - open_).abs().max() > 1e-3


def test_a_row_teaches_what_its_samples_teach() -> None:
    samples, gradients = lone([5, 40, 17]), []
    for batch in (samples, [side_by_side(samples)]):
        backbone = nano()
        backbone.loss(backbone.collate(batch)).backward()
        gradients.append([weight.grad for weight in backbone.model.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-4, rtol=1e-4)


def test_steps_of_packed_rows_hold_the_samples_of_the_epoch_in_fewer_tokens() -> None:
    backbone, samples = nano(), lone(np.random.default_rng(1).integers(3, 40, 200).tolist())
    plain, packed = (Steps(backbone, [samples], 512, 0, row_tokens) for row_tokens in (0, 128))
    held = sorted(sample.ids.tolist() for step in range(len(packed)) for sample in packed.samples(step))
    assert held == sorted(sample.ids.tolist() for sample in samples)
    totals = [
        [sum(count.tokens for count in s.counts()), sum(count.targets for count in s.counts())]
        for s in (plain, packed)
    ]
    assert totals[0] == totals[1]
    for steps in (plain, packed):
        assert sum(count.padded for count in steps.counts()) == sum(
            steps[step]["input_ids"].numel() for step in range(len(steps))
        )
    assert sum(count.padded for count in packed.counts()) < 0.9 * sum(
        count.padded for count in plain.counts()
    )


def test_an_encoder_decoder_is_refused_with_the_remedy() -> None:
    with pytest.raises(SettingsError, match="set training.row_tokens = 0"):
        Steps(nano("encoder-decoder"), [lone([5])], 512, 0, row_tokens=128)


def test_resume_is_exact_with_packed_rows(tmp_path: Path) -> None:
    whole, expected = trained(tmp_path / "whole", new(dropout=0.2), epochs=3, row_tokens=32)
    with pytest.raises(PowerCut):
        trained(tmp_path / "cut", new(dropout=0.2), cut_at(expected.steps * 2 // 3), epochs=3, row_tokens=32)
    resumed, result = trained(tmp_path / "cut", new(dropout=0.2), epochs=3, row_tokens=32)
    assert result.resumed_from > 0 and same(resumed, whole)
    assert (result.steps, result.tokens, result.targets) == (
        expected.steps,
        expected.tokens,
        expected.targets,
    )


# --- one pass over a history -----------------------------------------------------------------------------


def retrieval(index: ItemIndex, templates: Path, targets: int) -> Samples:
    """An epoch over the tiny world in one wording: windows of whole histories, or a sample for
    each target."""
    context = exam_context(world_split("tiny"), index)
    settings = RetrievalSettings(
        weight=1, text_share=1, max_history=WHOLE, targets=targets, templates=str(templates)
    )
    return RetrievalTask(settings, context).samples(0)


def by_user(backbone: Backbone, samples: Samples) -> dict[str, list[Encoded]]:
    """The samples of each user, the shortest first."""
    by_user = defaultdict(list)
    for sample, encoded in zip(samples, backbone.encode_samples(samples), strict=True):
        by_user[sample.user].append(encoded)
    return {user: sorted(by_user[user], key=len) for user in sorted(by_user)}


def without_the_first_item(window: Encoded, shortest: Encoded) -> Encoded:
    """A window trains the first item of a history too, which no separate sample asks for; `shortest` asks for
    the second."""
    return Encoded(window.ids, window.bears_loss & (np.arange(len(window)) >= shortest.prompt_length))


@pytest.mark.parametrize("scheme", ["symbols", "titles"])
@pytest.mark.parametrize("row_tokens", [0, 600], ids=["a row each", "packed"])
def test_one_pass_over_a_history_is_the_sum_over_the_samples_of_its_prefixes(
    scheme: str, row_tokens: int, tmp_path: Path
) -> None:
    split = world_split("tiny")
    index = (
        exam_index(split) if scheme == "symbols" else build_titles(split, IndexSettings(scheme="titles"), 0)
    )
    templates = tmp_path / "one.toml"
    templates.write_text(WORDING)
    backbone = nano(symbols=index.vocabulary)
    separate, merged = (by_user(backbone, retrieval(index, templates, targets)) for targets in (1, 0))
    users = [user for user in separate if len(separate[user]) > 1]
    windows = [without_the_first_item(merged[user][0], separate[user][0]) for user in users]
    prefixes = [sample for user in users for sample in separate[user]]
    assert all(len(merged[user]) == 1 for user in users) and len(prefixes) > 3 * len(users)
    rows = (
        packed_rows([len(window) for window in windows], row_tokens)
        if row_tokens
        else [[position] for position in range(len(windows))]
    )
    batch = backbone.collate([side_by_side([windows[position] for position in row]) for row in rows])
    if row_tokens:
        assert len(rows) < len(windows)
    else:  # every label by itself, in the same order: by user, then along the history
        ours, theirs = (
            backbone.label_log_probs(batch),
            torch.cat([backbone.label_log_probs(backbone.collate([p])) for p in prefixes]),
        )
        assert torch.allclose(ours, theirs, atol=1e-4)
    once, one_by_one = backbone.loss(batch), backbone.loss(backbone.collate(prefixes))
    assert once.item() == pytest.approx(one_by_one.item(), rel=1e-4)
    gradients = [torch.autograd.grad(loss, list(backbone.model.parameters())) for loss in (once, one_by_one)]
    for ours, theirs in zip(*gradients, strict=True):
        assert (ours - theirs).norm() <= 1e-4 * theirs.norm()


# --- epochs ----------------------------------------------------------------------------------------------


def test_epochs_are_read_when_they_are_asked_for_and_one_is_kept() -> None:
    read: list[int] = []

    def again(number: int) -> list[Encoded]:
        read.append(number)
        return lone([number + 1])

    epochs = Epochs(again, 3)
    assert [len(epochs[number][0]) for number in (0, 0, 1, 1, 0)] == [1, 1, 2, 2, 1]
    assert read == [0, 1, 0] and len(epochs) == 3 and len(epochs[-1][0]) == 3
    with pytest.raises(IndexError):
        epochs[3]


def test_steps_over_epochs_that_are_read_on_demand_are_those_over_epochs_in_memory() -> None:
    backbone, read = nano(), list[int]()
    held = [lone([3, 50, 9, 100, 7, 80], seed) for seed in range(3)]

    def again(number: int) -> list[Encoded]:
        read.append(number)
        return held[number]

    lazy, whole = Steps(backbone, Epochs(again, 3), 128, 0), Steps(backbone, held, 128, 0)
    assert lazy.counts() == whole.counts() and lazy.epoch_ends == whole.epoch_ends and read == [0, 1, 2]
    for step in range(len(whole)):
        ours, theirs = lazy[step], whole[step]
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert read == [0, 1, 2, 0, 1, 2], "once to plan, once in its turn"


def test_encoded_files_give_the_steps_of_samples_in_memory(tmp_path: Path) -> None:
    """Written a part at a time, and read batch by batch."""
    backbone, samples = nano(), lone(np.random.default_rng(3).integers(3, 60, 40).tolist())
    files = write_encoded([samples[:15], [], samples[15:]], tmp_path / "epoch")
    assert len(files) == 40 and [len(sample) for sample in files[:3]] == [
        len(sample) for sample in samples[:3]
    ]
    assert files.targets.tolist() == [int(sample.bears_loss.sum()) for sample in samples]
    for row_tokens in (0, 64):
        one, other = (Steps(backbone, [held], 128, 0, row_tokens) for held in (samples, files))
        assert one.counts() == other.counts()
        for step in range(len(one)):
            for name, tensor in one[step].items():
                assert torch.equal(tensor, other[step][name]), name
    assert len(write_encoded([], tmp_path / "none")) == 0
