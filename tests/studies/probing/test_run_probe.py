"""The probe of a run: questions from the validation part alone, and the model before and after alignment."""

import json

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from shelftalk.app.cli import app
from shelftalk.data.dataset import Dataset
from shelftalk.data.splitting import TEST, SplitSettings, split_leave_one_out
from shelftalk.experiment import load_experiment
from shelftalk.pipeline import stages
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.studies.probing.references import reference_answers
from shelftalk.studies.probing.run_probe import RUN_KINDS, run_questions
from shelftalk.studies.probing.scoring import accuracies
from shelftalk.testing.worlds import tiny_world


@pytest.fixture(scope="module")
def split():
    return split_leave_one_out(tiny_world(users=600, items=120), SplitSettings(), 0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder that has been trained, and not evaluated."""
    root = tmp_path_factory.mktemp("probe")
    world = tiny_world(users=120, items=60)
    (root / "data").mkdir()
    world.items.write_parquet(root / "data" / "items.parquet")
    world.events.drop("position").write_parquet(root / "data" / "interactions.parquet")
    settings = {
        "data": {"folder": str(root / "data"), "k_core": 1},
        "split": {"ranking_negatives": 20},
        "index": {"dimensions": 8},
        "nano": {"width": 32, "layers": 1, "heads": 2, "vocabulary": 400},
        "training": {"epochs": 1, "batch_tokens": 1024, "validations": 1, "validation_samples": 10},
    }
    experiment, folder = load_experiment(None, settings), RunFolder(root / "run")
    stages.claim(folder, experiment)
    for stage in (stages.prepare, stages.index, stages.write, stages.train):
        stage(folder, experiment)
    return folder


def test_the_answer_is_the_validation_item_among_items_that_the_user_did_not_take(split):
    requests, truths = split.retrieval_requests("validation")
    truth_of = {request.user: (request, truth) for request, truth in zip(requests, truths, strict=True)}
    questions = run_questions(split, 200, 0)
    assert {question.kind for question in questions} == set(RUN_KINDS)
    for question in questions:
        request, truth = truth_of[question.fact]
        assert question.answer == truth
        assert question.history == request.history[-len(question.history) :]
        assert not (set(question.options) - {truth}) & {*request.history, truth}
        assert len(set(question.options)) == len(question.options)


def test_what_is_held_out_for_the_test_changes_no_question(split):
    """Every test item replaced by another: the same questions, to the letter."""
    data = split.dataset
    others = [data.item_ids[(data.row_of[item] + 7) % len(data.items)] for item in data.events["item_id"]]
    items = np.where(split.event_part == TEST, others, data.events["item_id"].to_numpy())
    replaced = Dataset(data.items, data.events.with_columns(pl.Series("item_id", items.tolist())))
    again = type(split)(replaced, split.event_part, split.rating_part, split.candidates)
    assert run_questions(again, 200, 0) == run_questions(split, 200, 0)


def test_popularity_is_at_chance(split):
    answers = reference_answers(split, run_questions(split, 600, 0), 0)
    for row in accuracies(answers.filter(pl.col("model") == "popularity")):
        assert row["low"] - 0.03 < row["chance"] < row["high"] + 0.03, row


def test_item_knn_is_above_chance_where_there_is_something_to_know(split):
    answers = reference_answers(split, run_questions(split, 600, 0), 0)
    for row in accuracies(answers.filter(pl.col("model") == "item_knn")):
        assert row["low"] > row["chance"] + 0.1, row


def test_the_command_asks_before_and_after_alignment_and_spends_no_look_at_the_test_part(run):
    done = CliRunner().invoke(app, ["probe", "--run", str(run.path), "--questions", "40", "--json"])
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    measured = {(row["model"], row["way"]) for row in record["accuracy"]}
    for model in ("before alignment", "aligned"):
        assert {
            (model, way) for way in ("retrieval", "masked_items", "masked_language", "pairwise_preference")
        } <= measured
    assert {"item_knn", "popularity"} <= {model for model, _ in measured}
    assert {(row["first"], row["second"]) for row in record["differences"]} == {
        ("aligned", "before alignment")
    }
    assert run.test_evaluations() == 0
    assert json.loads((run.path / "probe.json").read_text()) == record
    assert "co-purchase" in (run.path / "probe.md").read_text()
    page = (run.path / "probe.html").read_text()
    assert "co-purchase" in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")


def test_a_folder_without_a_trained_model_is_refused_in_a_sentence(tmp_path):
    done = CliRunner().invoke(app, ["probe", "--run", str(tmp_path)])
    assert done.exit_code == 2
    assert "train" in done.stderr


@pytest.mark.parametrize("arguments", [["--seeds", "one"], ["--tasks", "masked_itmes"]])
def test_a_misspelt_option_is_refused_in_a_sentence(arguments):
    done = CliRunner().invoke(app, ["probe", *arguments])
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
