"""Weights spread over two processes (FSDP2 on loopback): the loss and every gradient are those of
one process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.test_several_processes import environments
from tests.training.test_trainer import FAMILIES

PROGRAM = """
import os, sys, torch
from dataclasses import replace
import numpy as np
torch.set_num_threads(1)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from shelftalk.models.allowed_tokens import AllowedTokens
from shelftalk.ragged import ragged
from shelftalk.runtime.distributed import world
from shelftalk.training.batching import share_of
from shelftalk.training.trainer import _forward_gives_loss
from tests.training.test_trainer import lesson, new

family, rows, over = sys.argv[1], int(sys.argv[2]), sys.argv[3]
with world().group() as processes:
    backbone = new(family)
    batch = [lesson(backbone, start, 2 + start % 3) for start in range(rows)]
    if over == "trie":  # every label is one of all labels' tokens and two more
        tokens = {token for sample in batch for token in sample.ids[sample.bears_loss].tolist()}
        backbone.allowed_tokens = AllowedTokens(ragged([sorted({*tokens, 5, 6})]))
        batch = [replace(one, sets=np.zeros(int(one.bears_loss.sum()), np.int32)) for one in batch]
    alone = backbone.loss(backbone.collate(batch))
    alone.backward()
    wanted = {name: weight.grad.clone() for name, weight in backbone.model.named_parameters()}
    backbone.model.zero_grad()
    mesh = init_device_mesh("cpu", (processes.size,))
    kinds = ("LlamaDecoderLayer", "T5Block")
    blocks = [layer for layer in backbone.model.modules() if type(layer).__name__ in kinds]
    assert len(blocks) >= 2
    with _forward_gives_loss(backbone):
        for block in blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(backbone.model, mesh=mesh)
        loss = backbone.model(batch=share_of(batch, backbone, processes))
        (loss * processes.size).backward()
    total = torch.tensor(sum(processes.all_gather(loss.item())))
    torch.testing.assert_close(total, alone.detach(), atol=1e-4, rtol=1e-5)
    for name, weight in backbone.model.named_parameters():
        torch.testing.assert_close(weight.grad.full_tensor(), wanted[name], atol=1e-5, rtol=1e-4)
    print("compared", len(wanted), flush=True)
    processes.barrier()
    os._exit(0)  # all is compared; a thread of gloo may abort a process whose interpreter ends
"""


@pytest.mark.parametrize("over", ["vocabulary", "trie"])
@pytest.mark.parametrize("rows", [5, 1])  # of a single row one process has none
@pytest.mark.parametrize("family", FAMILIES)
def test_a_sharded_model_has_the_loss_and_the_gradients_of_a_whole_one(
    family: str, rows: int, over: str
) -> None:
    root = str(Path(__file__).parents[2])
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, family, str(rows), over],
            env=env,
            cwd=root,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for env in environments(2)
    ]
    outputs = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0], (
        outputs[0][1][-2000:] + outputs[1][1][-2000:]
    )
    assert all(out.startswith("compared") for out, _ in outputs)
