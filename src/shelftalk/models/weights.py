"""Checks that weights, config and tokenizer of a folder go together: before memory is allocated for them, and
after they are loaded."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path

import torch
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

REPEATED = (
    "num_hidden_layers",
    "num_layers",
    "num_decoder_layers",
    "num_experts",
    "num_local_experts",
    "n_routed_experts",
)
"""Numbers in a config of layers or experts, each with weights of its own."""
LONGEST_HEADER = 100_000_000
"""Bytes; the format allows no more."""


def check_size(folder: Path, built: PreTrainedModel) -> None:
    """`built`: the model of the config on the meta device. Raises ValueError where the weights in the folder
    are more or fewer."""
    weights = {name for name, _ in built.named_parameters(remove_duplicate=False)}
    buffers = (value.numel() for name, value in built.state_dict().items() if name not in weights)
    described = sum(weight.numel() for weight in built.parameters()) + sum(buffers)
    stored = sum(prod(shape) for path in weight_files(folder) for shape in shapes(path).values())
    if described != stored:
        raise ValueError(f"config.json describes {described:,} weights, and there are {stored:,}")


def check_repeats(folder: Path, config: PreTrainedConfig) -> None:
    """Raises ValueError where a config has more layers or experts than there are weights: to build such a
    model takes long even on the meta device."""
    tensors = sum(len(shapes(path)) for path in weight_files(folder))
    for name in REPEATED:
        number = getattr(config, name, None) or 0
        if not isinstance(number, int) or not 0 <= number <= tensors:
            raise ValueError(f"config.json has {name} = {number!r}, and the folder {tensors} weights")


def check_loaded(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises ValueError for a weight that is no finite number, and for a token without a vector."""
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise ValueError(f"the weight {name} holds a number that is not finite")
    rows = model.get_input_embeddings().weight.shape[0]
    start = getattr(model.config, "decoder_start_token_id", None) or 0
    highest = max(*tokenizer.get_vocab().values(), start)
    if highest >= rows or start < 0:
        raise ValueError(f"the tokenizer has a token {highest}, and the model {rows} vectors")


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a folder's weights: one, or those that its index names. Raises ValueError for a
    name outside the folder."""
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").exists() or not index.exists():
        return [folder / "model.safetensors"]
    names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ValueError(f"its index of weights names {name!r}")
    return [folder / name for name in names]


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of each weight of a safetensors file, from its header alone. Raises ValueError
    or OSError."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(LONGEST_HEADER, path.stat().st_size):
            raise ValueError(f"{path.name} is damaged or cut short")
        header = json.loads(file.read(length))
    return {name: tuple(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__"}
