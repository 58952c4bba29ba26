"""The settings files for several devices are what accelerate reads, key by key, and fit the models that they
are for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from accelerate.utils.deepspeed import HfDeepSpeedConfig
from transformers import T5Config, T5ForConditionalGeneration

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "launch").glob("*.yaml"))
COMMAND = "accelerate launch --config_file launch/{} -m shelftalk run "


def read(name: str) -> ClusterConfig:
    return load_config_from_file(str(ROOT / "launch" / f"{name}.yaml"))


def fsdp_plugin(monkeypatch: pytest.MonkeyPatch) -> FullyShardedDataParallelPlugin:
    """As `accelerate launch` hands the file's settings over: each in a variable of the environment."""
    for key, value in read("fsdp").fsdp_config.items():
        name = {"fsdp_transformer_layer_cls_to_wrap": "FSDP_TRANSFORMER_CLS_TO_WRAP"}.get(key, key.upper())
        monkeypatch.setenv(name, str(value).lower() if isinstance(value, bool) else str(value))
    return FullyShardedDataParallelPlugin()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_file_is_read_by_accelerate_and_says_how_it_is_used(file: Path) -> None:
    config = load_config_from_file(str(file))
    assert isinstance(config, ClusterConfig) and (
        config.num_processes,
        config.num_machines,
        config.use_cpu,
    ) == (8, 1, False)
    text = file.read_text("utf-8")
    assert COMMAND.format(file.name) in text
    experiment = text.partition(COMMAND.format(file.name))[2].split()[0]
    assert (ROOT / experiment).exists()


def test_the_kinds_are_those_that_the_names_say() -> None:
    kinds = {
        "ddp": DistributedType.MULTI_GPU,
        "fsdp": DistributedType.FSDP,
        "deepspeed-zero3": DistributedType.DEEPSPEED,
    }
    assert {file.stem: read(file.stem).distributed_type for file in FILES} == kinds
    assert read("ddp").mixed_precision == "no" and read("fsdp").mixed_precision == "no"


@pytest.mark.parametrize("name", ["fsdp", "deepspeed-zero3"])
def test_every_nested_key_is_an_option_of_the_launcher(name: str) -> None:
    """accelerate copies nested keys without looking at them: a
    wrong one would change nothing, and nobody would know."""
    known = {action.dest for action in launch_command_parser()._actions}
    nested: dict[str, Any] = read(name).fsdp_config | read(name).deepspeed_config
    assert nested and set(nested) <= known


def test_fsdp_is_the_second_version_and_its_plugin_takes_every_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plugin = fsdp_plugin(monkeypatch)
    assert plugin.fsdp_version == 2 and plugin.reshard_after_forward is True
    assert (
        plugin.state_dict_type.name == "FULL_STATE_DICT"
    )  # one whole checkpoint, whatever the number of GPUs
    assert not plugin.cpu_ram_efficient_loading and not plugin.activation_checkpointing
    assert type(plugin.cpu_offload).__name__ == "OffloadPolicy"  # the one that leaves all where it is


def test_the_layers_that_are_wrapped_are_those_of_t5(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = fsdp_plugin(monkeypatch)
    with torch.device("meta"):
        model = T5ForConditionalGeneration(
            T5Config(vocab_size=32, d_model=16, d_ff=16, d_kv=8, num_layers=2, num_heads=2)
        )
    plugin.set_auto_wrap_policy(model)  # raises where no layer has the name
    assert plugin.transformer_cls_names_to_wrap == ["T5Block"]
    assert sum(type(part).__name__ == "T5Block" for part in model.modules()) == 4


def test_deepspeed_is_stage_3_and_leaves_open_what_the_trainer_knows() -> None:
    settings = read("deepspeed-zero3")
    path = ROOT / settings.deepspeed_config["deepspeed_config_file"]
    config = HfDeepSpeedConfig(json.loads(path.read_text("utf-8")))
    assert config.is_zero3() and not config.is_offload()
    # accelerate refuses these beside a file that says them
    assert settings.mixed_precision is None and not {"zero_stage", "gradient_clipping"} & set(
        settings.deepspeed_config
    )
    # a value that contradicts what training sets would end the run when it begins
    for key in (
        "bf16.enabled",
        "gradient_clipping",
        "gradient_accumulation_steps",
        "train_micro_batch_size_per_gpu",
        "train_batch_size",
    ):
        assert config.get_value(key) == "auto", key
