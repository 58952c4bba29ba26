"""The item index of a split is the same wherever it is built on one kind of processor."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from shelftalk.data.sources import read_dataset
from shelftalk.data.splitting import Split, split_dataset
from shelftalk.experiment import load_experiment
from shelftalk.indexing.item_index import IndexSettings
from shelftalk.pipeline.index_building import build_index


@pytest.fixture(scope="module")
def bundled() -> Split:
    experiment = load_experiment()
    data, _ = read_dataset(experiment.data, 0)
    return split_dataset(data, experiment.split, 0, experiment.data.training_core)


def test_is_the_same_to_the_byte_with_any_number_of_threads(bundled: Split) -> None:
    vectors = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            index = build_index(bundled, IndexSettings(scheme="semantic"), seed=0)
        assert index.symbol_vectors is not None
        vectors.append(index.symbol_vectors)
    assert np.array_equal(*vectors)
