"""The released FLAN-T5s, weight for weight, without any weight."""

from __future__ import annotations

from pathlib import Path

import pytest

from shelftalk.models.pretrained import meta_model
from shelftalk.models.settings import PretrainedSettings
from shelftalk.studies.planning.memory import trainable
from shelftalk.testing.t5_folder import FLAN_T5_BASE, FLAN_T5_XL, save_flan_t5

TEXTS = [
    "Amber tea Bold lamps Calm boots No. 1 2 3",
    "abcdefghijklmnopqrstuvwxyz 0 1 2 3 4 5 6 7 8 9 . , :",
] * 3


@pytest.mark.parametrize(
    ("sizes", "published"), [(FLAN_T5_BASE, 247_577_856), (FLAN_T5_XL, 2_849_757_184)], ids=["base", "xl"]
)
def test_as_many_weights_as_were_published_all_of_them_on_paper(
    sizes: dict[str, int], published: int, tmp_path: Path
) -> None:
    model = meta_model(
        PretrainedSettings(name=str(save_flan_t5(tmp_path, TEXTS, sizes, pieces=150))), []
    ).model
    assert (
        sum(weight.numel() for weight in model.parameters())
        == published
        == sum(shape.numel() for shape in trainable(model))
    )
    assert {weight.device.type for weight in model.parameters()} == {"meta"}


def test_adapters_on_xl_train_a_hundredth_of_it(tmp_path: Path) -> None:
    folder = save_flan_t5(tmp_path, TEXTS, FLAN_T5_XL, pieces=150)
    model = meta_model(PretrainedSettings(name=str(folder), adaptation="lora", lora_rank=16), ["<i_1>"]).model
    width, inner, feed = 2048, 32 * 64, 5120
    attention = 4 * 16 * (width + inner)  # q, k, v, o
    feed_forward = 3 * 16 * (width + feed)
    encoder, decoder = 24 * (attention + feed_forward), 24 * (2 * attention + feed_forward)
    layers = encoder + decoder
    new = sum(shape.numel() for shape in trainable(model)) - layers
    assert new > 0 and new % (2 * width) == 0  # rows of new tokens, in both embeddings
