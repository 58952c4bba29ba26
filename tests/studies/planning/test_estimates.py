"""Memory, time and what would fit: by hand, on small figures."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel
from transformers.optimization import Adafactor

from shelftalk.errors import UnknownPart
from shelftalk.models.nano import build_nano
from shelftalk.models.pretrained import enable_checkpointing
from shelftalk.models.settings import NanoSettings
from shelftalk.studies.planning import memory, time
from shelftalk.studies.planning.fitting import Fit, what_fits
from shelftalk.studies.planning.gpus import GPUS, Gpu, gpu_named
from shelftalk.studies.planning.tracing import Trace, like
from shelftalk.training.settings import TrainingSettings

GB = 10**9
MODEL = build_nano(
    ["some text"], ["<i_1>"], NanoSettings(vocabulary=300, width=32, layers=1, heads=2), 0
).model
WEIGHTS = 4 * sum(weight.numel() for weight in MODEL.parameters())
BATCH = Trace(kept=20 * GB, logits=GB, flops=10**12, tokens=4096, samples=16)
SPARE = Trace(kept=2 * GB, logits=GB, flops=10**12, tokens=4096, samples=16)


def fit(plain: Trace = BATCH, spare: Trace = SPARE, **settings: Any) -> Fit:
    return Fit(MODEL, TrainingSettings(**settings), plain, spare, base=GB)


def test_adamw_holds_sixteen_bytes_for_each_weight() -> None:
    result = fit().memory()
    assert (result.weights, result.gradients, result.optimizer) == (WEIGHTS, WEIGHTS, 2 * WEIGHTS)
    assert result.peak == GB + 3 * WEIGHTS + 21 * GB


def test_accumulated_gradients_are_kept_beside_the_activations() -> None:
    assert fit(gradient_accumulation=2).memory().peak - fit().memory().peak == WEIGHTS


def test_adafactor_holds_a_row_and_a_column_for_each_matrix() -> None:
    states = memory.adafactor_states([torch.Size([100, 50]), torch.Size([7])])
    assert states == 4 * (100 + 50 + 7 + 3 * 5000)


def test_frozen_weights_have_neither_gradients_nor_a_place_in_the_optimizer() -> None:
    model = build_nano(
        ["some text"], ["<i_1>"], NanoSettings(vocabulary=300, width=32, layers=1, heads=2), 0
    ).model
    model.requires_grad_(False)
    model.model.norm.requires_grad_(True)
    result = memory.training_memory(model, BATCH, GB, "adamw", 1)
    assert (result.weights, result.gradients, result.optimizer) == (WEIGHTS, 4 * 32, 2 * 4 * 32)


def test_several_gpus_divide_weights_gradients_optimizer_and_the_rows_of_a_batch() -> None:
    result = fit().each_of(8)
    whole_layers = memory.GATHERED * 4 * memory.largest_layer(MODEL)
    assert (result.weights - whole_layers, result.gradients, result.optimizer) == (
        WEIGHTS / 8,
        WEIGHTS / 8,
        2 * WEIGHTS / 8,
    )
    assert (result.activations, result.logits) == (20 * GB * 2 / 16, GB * 2 / 16)  # two of sixteen rows
    assert memory.smaller(BATCH, 3).samples == 6  # who has most


def test_what_cannot_be_spread_is_planned_whole_on_every_gpu() -> None:
    result = fit(optimizer="adafactor").each_of(8)
    assert (result.weights, result.gradients) == (WEIGHTS, 2 * WEIGHTS)
    assert (result.activations, result.logits) == (20 * GB * 2 / 16, GB * 2 / 16)
    replicated, alone = fit(validation_users=100).each_of(8), fit().each_of(8)
    assert (replicated.weights, replicated.optimizer) == (
        WEIGHTS,
        2 * WEIGHTS,
    ) and replicated.peak > alone.peak


def test_adapters_or_several_gpus_are_named_where_no_other_setting_helps() -> None:
    wide = Trace(kept=20 * GB, logits=GB, flops=1, tokens=4096, samples=1)
    tight, light = Gpu("small", 8, 1, 1, ""), fit(SPARE, SPARE)
    assert 'set pretrained.adaptation = "lora" (about 4 GB)' in what_fits(
        fit(wide, wide), tight, adapters=light
    )
    many = Trace(kept=900 * GB, logits=GB, flops=1, tokens=4096, samples=64)
    assert what_fits(fit(many, many), GPUS["h200"]) and not what_fits(fit(many, many), GPUS["h200"], gpus=8)


def test_what_fits_is_not_refused() -> None:
    assert what_fits(fit(), GPUS["a100-80gb"]) == ""


def test_the_first_change_that_makes_it_fit_is_named() -> None:
    assert "set training.gradient_checkpointing = true (" in what_fits(fit(), Gpu("small", 8, 1, 1, ""))
    both = what_fits(fit(spare=BATCH), Gpu("small", 8, 1, 1, ""))
    assert "set training.batch_tokens = 1024 and training.gradient_accumulation = 4 (" in both
    wide = Trace(kept=20 * GB, logits=GB, flops=1, tokens=4096, samples=1)  # one sample: no batch is smaller
    assert "choose --gpu rtx-3090" in what_fits(fit(wide, wide), Gpu("small", 8, 1, 1, ""))


def test_what_fits_no_gpu_says_so() -> None:
    huge = Trace(kept=900 * GB, logits=GB, flops=1, tokens=4096, samples=1)
    assert "no setting or GPU of the table" in what_fits(fit(huge, huge), GPUS["h200"])


def test_hours_follow_from_operations_rate_and_number() -> None:
    assert time.gpu_seconds(3e15, 100, 1, 0.3, 0.9) == pytest.approx(100)
    assert time.gpu_seconds(3e15, 100, 4, 0.3, 0.9) == pytest.approx(100 / 3.6)
    assert [time.passes(*two) for two in ((False, False), (True, False), (False, True), (True, True))] == [
        3,
        4,
        2,
        3,
    ]


def test_a_step_takes_its_products_and_what_is_moved() -> None:
    rate = time.Rate(flops=1e12, bandwidth=1e10)
    batch = Trace(kept=10**9, logits=0, flops=10**12, tokens=1, samples=1)
    assert time.step_seconds(batch, 10**8, rate, 3) == pytest.approx(3 + 0.3 + 0.28)


def test_this_processor_is_measured() -> None:
    rate = time.measured_rate(bf16=False)
    assert 1e8 < rate.flops < 1e15 and 1e7 < rate.bandwidth < 1e13


def busy_clock(monkeypatch: pytest.MonkeyPatch, passed: float, thread: float, process: float) -> None:
    """Whatever is timed takes so many seconds by each of the three clocks."""
    moments = itertools.count()

    def now() -> time.Moment:
        turn = next(moments)
        return time.Moment(turn * passed, turn * thread, turn * process)

    monkeypatch.setattr(time, "now", now)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


@pytest.mark.parametrize("passed", [1.0, 5.0])
def test_other_work_on_the_machine_does_not_lengthen_the_estimate(
    passed: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # of two threads: the other worked a second beside this one's 0.9
    busy_clock(monkeypatch, passed, thread=0.9, process=1.9)
    backbone = build_nano(
        ["some text"], ["<i_1>"], NanoSettings(vocabulary=300, width=32, layers=1, heads=2), 0
    )
    step, rate = (
        time.measured_step(backbone, [[like(20, 5, 2)]] * 3, TrainingSettings()),
        time.measured_rate(bf16=False),
    )
    assert step.seconds == pytest.approx(0.95) and step.passed == pytest.approx(passed)
    assert rate.bandwidth == pytest.approx(8 * 16_000_000 / 0.95)
    assert [step.busy, rate.busy] == pytest.approx([passed / 0.95] * 2)


def test_a_thread_that_leads_alone_is_not_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    busy_clock(monkeypatch, 1.2, thread=1.0, process=1.0)  # the other thread had nothing to do
    assert time.timed(lambda: None).seconds == pytest.approx(1.0)


def test_a_machine_that_was_busy_is_reported_and_an_idle_one_is_not() -> None:
    assert time.other_work(1.05) == ""
    assert "busy with other work meanwhile (5.2 seconds passed for each" in time.other_work(5.2)


@pytest.mark.parametrize(("optimizer", "checkpointing"), [("adamw", False), ("adafactor", True)])
def test_steps_are_measured_step_with_the_optimizer_and_checkpointing_of_the_settings(
    optimizer: str, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stepped: list[type] = []
    spared: list[object] = []

    def noting(own: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def step(self: Any) -> Any:
            stepped.append(type(self))
            return own(self)

        return step

    def enable(model: PreTrainedModel) -> None:
        spared.append(model)
        enable_checkpointing(model)

    for kind in (torch.optim.AdamW, Adafactor):
        monkeypatch.setattr(kind, "step", noting(kind.step))
    monkeypatch.setattr(time, "enable_checkpointing", enable)
    backbone = build_nano(
        ["some text"], ["<i_1>"], NanoSettings(vocabulary=300, width=32, layers=1, heads=2), 0
    )
    settings = TrainingSettings.model_validate(
        {"optimizer": optimizer, "gradient_checkpointing": checkpointing}
    )
    assert 0 < time.measured_step(backbone, [[like(20, 5, 2)] * 3], settings).seconds < 60
    assert stepped == [{"adamw": torch.optim.AdamW, "adafactor": Adafactor}[optimizer]] * 2
    assert spared == [backbone.model] * checkpointing


def test_every_gpu_is_slower_in_fp32_and_auto_is_bf16() -> None:
    for gpu in GPUS.values():
        assert (
            gpu.peak("auto")
            == gpu.peak("bf16")
            == gpu.peak("fp16")
            == gpu.bf16
            > gpu.peak("fp32")
            == gpu.fp32
            > 0
        )
        assert gpu.source


def test_an_unknown_gpu_names_the_nearest() -> None:
    with pytest.raises(UnknownPart, match='did you mean "a100-80gb"'):
        gpu_named("a100-80")
