"""Tiny tensors: one thread is faster than two that wait for each other."""

import pytest
import torch

from shelftalk.data.splitting import SplitSettings, split_leave_one_out
from shelftalk.studies.probing.questions import world_questions
from shelftalk.studies.probing.world import WorldSettings, make_world

torch.set_num_threads(1)


@pytest.fixture(scope="session", params=[0, 1, 2])
def generated(request):
    """A world, its split and questions about it, for each of three seeds."""
    world = make_world(WorldSettings(), request.param)
    split = split_leave_one_out(world.dataset, SplitSettings(ranking_negatives=9), request.param)
    popularity = dict(zip(world.dataset.item_ids, split.popularity.tolist(), strict=True))
    return world, split, world_questions(world, popularity, 4, request.param)
