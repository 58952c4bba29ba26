"""decoding.softmax = "trie": training and decoding share one probability, also in what is published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shelftalk.experiment import load_experiment
from shelftalk.pipeline import stages
from shelftalk.pipeline.run import open_run
from shelftalk.publishing import open_recommender
from shelftalk.publishing.publish import publish
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.testing.worlds import tiny_world
from tests.end_to_end.tiny import call, save_world, write_experiment

TRIE = {"softmax": "trie", "softmax_temperature": 0.7}


@pytest.mark.parametrize("scheme", ["atomic", "semantic", "titles"])
def test_the_items_share_all_probability_and_the_loss_is_over_them_alone(tmp_path: Path, scheme: str) -> None:
    data = save_world(tiny_world(), tmp_path / "data")
    path = write_experiment(
        tmp_path / "trie.toml", data, models=["aligned"], decoding=TRIE, index={"scheme": scheme}
    )
    folder, settings = RunFolder(tmp_path / "run"), load_experiment(path)
    stages.claim(folder, settings)
    for stage in (stages.prepare, stages.index, stages.write, stages.train):
        stage(folder, settings)
    run = open_run(folder.path)
    model, items = run.language_model, len(run.split.dataset.items)
    requests, truths = run.split.retrieval_requests("validation")

    # Of every request all items together have the probability 1.
    log_probs = np.array(model.log_probs(requests[:8], [list(range(items))] * 8))
    assert np.exp(log_probs).sum(axis=1) == pytest.approx(np.ones(8), abs=1e-3)
    lists = model.with_settings(search="exact").recommend(requests[:8], 5)
    for request, ranking, scores in zip(requests, lists, log_probs, strict=False):
        left = [row for row in range(items) if run.split.dataset.item_ids[row] not in request.history]
        best = sorted(left, key=lambda row: -scores[row])[:5]
        assert ranking.scores == pytest.approx(scores[best].tolist(), abs=1e-3)

    # A loss over the vocabulary would begin at its logarithm.
    facts = folder.needed("train").facts
    rows = [row for row in facts["curve"] if row["task"] == "retrieval" and row["part"] == "validation"]
    assert min(row["loss"] for row in rows) < np.log(items) + 0.3 < np.log(facts["vocabulary"])

    # A published folder decodes as its run does.
    stages.recommend(folder, settings)
    stages.evaluate(folder, settings)
    publish(folder.path, tmp_path / "published")
    published = open_recommender(tmp_path / "published")
    again = published.recommend(requests[:8], 5)
    assert [one.items for one in again] == [one.items for one in model.recommend(requests[:8], 5)]


def test_a_temperature_over_the_vocabulary_is_refused(tmp_path: Path) -> None:
    data = save_world(tiny_world(), tmp_path / "data")
    path = write_experiment(tmp_path / "tiny.toml", data, decoding={"softmax_temperature": 0.5})
    result = call("run", path, "--out", tmp_path / "run")
    assert result.exit_code != 0 and 'decoding.softmax = "trie"' in result.output
