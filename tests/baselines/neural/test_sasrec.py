"""SASRec: the attention mask, the same network written with torch's own parts, and what it is trained on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from shelftalk.baselines.neural.sasrec import Dropout, SasRec, fit_sasrec
from shelftalk.baselines.neural.settings import SampledSasRecSettings, SasRecSettings
from shelftalk.data.splitting import Split, SplitSettings, split_leave_one_out
from shelftalk.errors import NothingLeft, SettingsError
from shelftalk.ragged import ragged
from shelftalk.testing.exams import exam_split
from shelftalk.testing.worlds import tiny_world

SETTINGS = SasRecSettings(width=(12,), heads=3, max_history=8, batch_size=7)


def network(split: Split | None = None, settings: SasRecSettings = SETTINGS) -> SasRec:
    """Untrained, with weights large enough that every part matters."""
    made = SasRec(
        len((split or exam_split()).dataset.items), settings, seed=3, split=split or exam_split()
    ).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return made


def test_a_later_item_changes_nothing_that_is_predicted_before_it():
    model = network()
    with torch.inference_mode():
        one, other = model(ragged([[4, 7, 1, 9]])), model(ragged([[4, 7, 30, 31]]))
    assert torch.equal(one[:2], other[:2])
    assert not torch.allclose(one[2], other[2]) and not torch.allclose(one[3], other[3])


def test_an_earlier_item_changes_what_is_predicted_after_it():
    model = network()
    with torch.inference_mode():
        one, other = model(ragged([[4, 7, 1]])), model(ragged([[5, 7, 1]]))
    assert not torch.allclose(one[2], other[2])


def test_what_fills_up_shorter_histories_has_no_effect():
    model = network()
    histories = [[3], [4, 7, 1, 9, 2, 8], [], [6, 5]]
    with torch.inference_mode():
        together = model(ragged(histories))
        alone = torch.cat([model(ragged([history])) for history in histories if history])
    assert torch.allclose(together, alone, rtol=0, atol=1e-5)


def test_the_network_is_the_one_that_torchs_own_parts_make():
    """One history, post by post: torch's attention, its layer norm, its linear maps."""
    model, history = network(), [4, 7, 1, 9, 2]
    weights = dict(model.state_dict())
    hidden = weights["items.weight"][history] * 12**0.5 + weights["ages.weight"][[4, 3, 2, 1, 0]]
    for block in ("blocks.0.", "blocks.1."):
        part = {name.removeprefix(block): value for name, value in weights.items() if name.startswith(block)}
        read = functional.layer_norm(
            hidden, (12,), part["before_attention.weight"], part["before_attention.bias"]
        )
        attended, _ = functional.multi_head_attention_forward(
            *[read[:, None]] * 3,
            12,
            3,
            part["query_key_value.weight"],
            part["query_key_value.bias"],
            None,
            None,
            False,
            0.0,
            part["mixed.weight"],
            part["mixed.bias"],
            training=False,
            attn_mask=torch.nn.Transformer.generate_square_subsequent_mask(5),
        )
        hidden = hidden + attended[:, 0]
        read = functional.layer_norm(
            hidden, (12,), part["before_feed_forward.weight"], part["before_feed_forward.bias"]
        )
        inner = functional.relu(functional.linear(read, part["inner.weight"], part["inner.bias"]))
        hidden = hidden + functional.linear(inner, part["outer.weight"], part["outer.bias"])
    expected = functional.layer_norm(hidden, (12,), weights["norm.weight"], weights["norm.bias"])
    with torch.inference_mode():
        assert torch.allclose(model(ragged([history])), expected, rtol=0, atol=1e-5)
        scores = model.item_scores([-1], [history])
    assert torch.allclose(scores[0], weights["items.weight"] @ expected[-1], rtol=0, atol=1e-4)


def test_only_the_most_recent_items_are_read():
    model = network()
    long = list(range(20))
    with torch.inference_mode():
        assert torch.equal(model.item_scores([-1], [long]), model.item_scores([-1], [long[-8:]]))
        assert not torch.equal(model.item_scores([-1], [long]), model.item_scores([-1], [long[-7:]]))


def targets_of_an_epoch(model: SasRec, monkeypatch: pytest.MonkeyPatch, epoch: int = 1) -> np.ndarray:
    """The items that an epoch predicts, sorted."""
    seen: list[torch.Tensor] = []

    def loss(
        hidden: torch.Tensor, targets: torch.Tensor, rows: int, rng: np.random.Generator
    ) -> torch.Tensor:
        assert len(hidden) == len(targets) >= rows
        seen.append(targets)
        return hidden.sum()

    monkeypatch.setattr(model, "loss", loss)
    list(model.losses(epoch))
    return np.sort(torch.cat(seen).numpy())


def test_every_training_event_but_the_first_of_a_user_is_predicted_once_an_epoch(
    monkeypatch: pytest.MonkeyPatch,
):
    split, model = exam_split(), network(settings=SETTINGS.model_copy(update={"max_history": 50}))
    first = np.isin(np.arange(len(split.event_part)), split.training_bounds[:, 0])
    expected = np.sort(split.dataset.event_item[(split.event_part == 0) & ~first])
    assert np.array_equal(targets_of_an_epoch(model, monkeypatch), expected)


def test_long_histories_are_cut_elsewhere_in_every_epoch(monkeypatch: pytest.MonkeyPatch):
    split, model = exam_split(), network(settings=SETTINGS.model_copy(update={"max_history": 3}))
    first, second = (targets_of_an_epoch(model, monkeypatch, epoch) for epoch in (1, 2))
    # the first item of each window is not predicted
    assert len(split.training_items) / 2 < len(first) < len(split.training_items) - len(split.training_bounds)
    assert not np.array_equal(first, second)


def test_the_sampled_loss_reads_as_many_items_as_are_set(monkeypatch: pytest.MonkeyPatch):
    settings = SampledSasRecSettings(width=(12,), batch_size=7, negatives=17)
    model, drawn = network(settings=settings), []
    monkeypatch.setattr(
        "shelftalk.baselines.neural.sasrec.sampled_cross_entropy",
        lambda hidden, items, targets, negatives: drawn.append(negatives) or hidden.sum(),
    )
    list(model.losses(1))
    assert {negatives.shape for negatives in drawn[:-1]} == {(7, 17)}, "a set for each window"
    assert len(torch.cat(drawn).unique()) == len(exam_split().dataset.items)


def test_dropout_sets_its_share_to_0_and_keeps_the_mean():
    drop = Dropout(0.25)
    drop.generator.manual_seed(5)
    values = drop(torch.ones(200_000))
    assert values.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert float((values == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert torch.equal(drop.eval()(torch.ones(9)), torch.ones(9))


def test_users_with_one_training_event_each_leave_nothing_to_train_on():
    world = tiny_world(users=20, events=(3, 3))
    with pytest.raises(NothingLeft, match=r"not even one user with two events; give more interactions\.$"):
        fit_sasrec(split_leave_one_out(world, SplitSettings(), seed=0), SETTINGS, seed=0)


def test_a_width_that_the_heads_do_not_divide_is_refused_and_the_remedy_works():
    settings = SasRecSettings(width=(8, 9), heads=2, epochs=1, patience=0)
    with pytest.raises(SettingsError, match=r"baselines\.sasrec\.width = 9 .* 2 heads; set heads to .* 1\."):
        fit_sasrec(exam_split(), settings, seed=0)
    fit_sasrec(exam_split(), settings.model_copy(update={"heads": 1}), seed=0)
