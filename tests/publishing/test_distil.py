"""A student learns a published model's lists and vectors, is measured, and opens as any other folder does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import shelftalk
from shelftalk.baselines.neural.sasrec import SasRec
from shelftalk.baselines.neural.student import Lessons, Student, StudentSettings, fit_student
from shelftalk.errors import AnotherExperiment, SettingsError, UnknownItem, UnreadableFile
from shelftalk.pipeline.distilling import Distilled, distil, lessons, quality, training_prefixes
from shelftalk.pipeline.run import open_run
from shelftalk.publishing.contents import STUDENT
from shelftalk.ragged import ragged
from shelftalk.records import Request, Text
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.testing.exams import exam_split
from tests.end_to_end.tiny import call
from tests.publishing.test_hostile_folder import signed

SETTINGS = StudentSettings(width=(16,), epochs=12, patience=4, learning_rate=5e-3)


@pytest.fixture(scope="module")
def distilled(run: RunFolder, with_its_prior: Path, tmp_path_factory: pytest.TempPathFactory) -> Distilled:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("students") / "student"
    return distil(with_its_prior, open_run(run.path), out, SETTINGS, prefixes=3, listed=10)


def test_the_student_opens_and_answers_as_it_was_measured(run: RunFolder, distilled: Distilled) -> None:
    model, finished = shelftalk.load(distilled.folder), open_run(run.path)
    assert model.name == "student" and model.tasks == ("retrieval", "ranking")
    assert quality(model.recommender, finished.split) == distilled.metrics["student"]
    assert set(distilled.metrics) == set(distilled.milliseconds) == {"student", "aligned+prior"}
    measured = finished.metrics["retrieval"]["aligned+prior"]
    assert distilled.metrics["aligned+prior"]["ndcg@10"] == measured["ndcg@10"]
    assert 0 < distilled.milliseconds["student"]["p50"] < distilled.milliseconds["aligned+prior"]["p50"]
    items = model.items["item_id"].to_list()
    assert len(model.recommend(items[:3], 5)) == 5 and len(model.similar(items[0], 4)) == 4
    assert len(model.why(items[:3], items[9]).explanation.contributions) == 3
    with pytest.raises(UnknownItem, match="by their ids alone"):
        model.recommend([Text("a lamp")], 5)


def test_its_folder_says_what_it_is_and_holds_no_user(run: RunFolder, distilled: Distilled) -> None:
    card = (distilled.folder / "README.md").read_text("utf-8")
    assert "# A student" in card and f"{distilled.metrics['student']['ndcg@10']:.4f}" in card
    assert {path.name for path in distilled.folder.iterdir()} == {
        "README.md", "catalogue.parquet", "shelftalk.json", STUDENT,
    }  # fmt: skip
    users = open_run(run.path).split.dataset.user_ids
    assert not [user for user in users if f'"{user}"'.encode() in (distilled.folder / STUDENT).read_bytes()]


def test_what_it_stores_is_a_plain_sasrec_of_the_same_scores() -> None:
    split = exam_split()
    given = Lessons(
        ragged([[1, 2], [3]]),
        np.array([[4, 5], [6, 7]], np.int32),
        np.log(np.array([[0.5, 0.25], [0.5, 0.5]], np.float32)),
        np.eye(len(split.dataset.items), 6, dtype=np.float32),
    )
    settings = StudentSettings(width=(8,), epochs=1, patience=0)
    student = Student(split, given, settings, seed=0).eval()
    plain = fit_student(split, given, settings, seed=0).network
    assert type(plain) is SasRec
    trained = Student(split, given, settings, seed=0)
    losses = [loss.item() for loss in trained.losses(1)]
    assert all(np.isfinite(losses)) and len(losses) >= 1
    with torch.inference_mode():
        vectors = student.items.weight
        expected = given.vectors @ student.items.projection.numpy() + student.items.offsets.numpy()
    assert np.allclose(vectors.numpy(), expected, atol=1e-6)


def test_lists_are_weighed_by_position_and_confidence() -> None:
    given = Lessons(
        ragged([[1]]),
        np.zeros((1, 3), np.int32),
        np.array([[np.log(0.8), np.log(0.2), -np.inf]], np.float32),
        np.zeros((2, 2), np.float32),
    )
    (weights,) = given.weights(StudentSettings(positions=1.0))
    by_hand = np.array([0.8, 0.2 * np.exp(-1), 0.0])
    assert weights == pytest.approx(by_hand / by_hand.sum(), abs=1e-6)
    (flat,) = given.weights(StudentSettings(positions=1e9, temperature=1e9))
    assert flat[0] == pytest.approx(flat[1], abs=1e-4)


def test_lists_move_the_student_towards_the_teacher() -> None:
    """A teacher that always answers the same two items is followed, against all that the data says."""
    split = exam_split()
    histories = training_prefixes(split, 2, 50, seed=0)
    rows = len(histories)
    given = Lessons(
        ragged(histories),
        np.tile(np.array([5, 9], np.int32), (rows, 1)),
        np.zeros((rows, 2), np.float32),
        np.zeros((len(split.dataset.items), 2), np.float32),
    )
    settings = StudentSettings(
        width=(16,), epochs=8, patience=0, list_weight=20, learning_rate=5e-3, vectors=False
    )
    model = fit_student(split, given, settings, seed=0)
    scores = model.item_scores([Request("", tuple(split.dataset.item_ids[20:23]))])[0]
    assert set(np.argsort(-scores)[:2].tolist()) == {5, 9}


def test_prefixes_are_of_training_alone_and_hold_the_whole_history() -> None:
    split = exam_split()
    prefixes = training_prefixes(split, 3, 4, seed=1)
    items, position = split.dataset.event_item, 0
    for first, last in split.training_bounds.tolist():
        number = min(3, max(1, last - first)) if last > first else 0
        some = prefixes[position : position + number]
        position += number
        assert all(0 < len(prefix) <= 4 for prefix in some)
        if some:
            assert some[-1] == items[max(first, last - 4) : last].tolist()
    assert position == len(prefixes) and prefixes == training_prefixes(split, 3, 4, seed=1)


def test_the_lists_are_the_teachers(run: RunFolder, with_its_prior: Path) -> None:
    teacher, split = shelftalk.load(with_its_prior).recommender, open_run(run.path).split
    given = lessons(teacher, split, 1, 60, 50, 0, lambda *_: None)
    ids = split.dataset.item_ids
    history = tuple(ids[row] for row in given.histories[4].tolist())
    (ranking,) = teacher.recommend([Request("", history)], 60)
    listed = np.isfinite(given.log_probs[4])
    assert [ids[row] for row in given.items[4][listed].tolist()] == list(ranking.items)
    assert listed.sum() == 50 - len(set(history)) and given.vectors.shape[0] == 50


def test_what_does_not_belong_together_is_refused(
    run: RunFolder, with_its_prior: Path, distilled: Distilled, tmp_path: Path
) -> None:
    finished = open_run(run.path)
    with pytest.raises(AnotherExperiment, match="is there already"):
        distil(with_its_prior, finished, distilled.folder, SETTINGS)
    with pytest.raises(SettingsError, match="is a student itself"):
        distil(distilled.folder, finished, tmp_path / "out", SETTINGS)
    folder = Path(shutil.copytree(with_its_prior, tmp_path / "copy"))
    facts = json.loads((folder / "shelftalk.json").read_text())
    (folder / "shelftalk.json").write_text(json.dumps({**facts, "split": "0" * 64}))
    with pytest.raises(AnotherExperiment, match="trained on another split"):
        distil(folder, finished, tmp_path / "out", SETTINGS)
    with pytest.raises(SettingsError, match="at least one prefix"):
        distil(with_its_prior, finished, tmp_path / "out", SETTINGS, prefixes=0)


def test_a_damaged_student_is_refused(distilled: Distilled, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(distilled.folder, tmp_path / "copy"))
    arrays = load_file(folder / STUDENT)
    for damage in ("cut", "other", "nan"):
        if damage == "cut":
            (folder / STUDENT).write_bytes((distilled.folder / STUDENT).read_bytes()[:-9])
        elif damage == "other":
            save_file({"planted": np.zeros(3)}, folder / STUDENT)
        else:
            save_file({**arrays, "norm.bias": arrays["norm.bias"] * np.nan}, folder / STUDENT)
        with pytest.raises(AnotherExperiment, match="is not the file"):
            shelftalk.load(folder)
        with pytest.raises(UnreadableFile) as refused:
            shelftalk.load(signed(folder))
        assert "\n" not in str(refused.value)
        shutil.copy(distilled.folder / "shelftalk.json", folder)
    facts = json.loads((folder / "shelftalk.json").read_text())
    (folder / "shelftalk.json").write_text(json.dumps({**facts, "files": {**facts["files"], "x": "0" * 64}}))
    with pytest.raises(UnreadableFile, match="files are not"):
        shelftalk.load(folder)


def test_a_student_answers_batches_and_the_command_reports(
    run: RunFolder,
    with_its_prior: Path,
    distilled: Distilled,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    items = shelftalk.load(distilled.folder).items["item_id"].to_list()
    (tmp_path / "requests.jsonl").write_text(f'{{"history": ["{items[0]}"]}}\n' * 3)
    files = ["--requests", tmp_path / "requests.jsonl", "--out", tmp_path / "answers.csv"]
    result = call("batch", distilled.folder, *files, "--workers", "1")
    assert result.exit_code == 0, result.output
    monkeypatch.setattr("shelftalk.baselines.neural.student.StudentSettings", lambda: SETTINGS)
    result = call("distil", with_its_prior, "--run", run.path, "--out", tmp_path / "two", "--prefixes", "1")
    assert result.exit_code == 0, result.output
    assert "The student keeps" in result.stdout and "ms per request" in result.stdout


def test_a_service_answers_with_a_student(distilled: Distilled) -> None:
    from shelftalk.serving.answering import Asked, open_answering

    model, served = shelftalk.load(distilled.folder), open_answering(distilled.folder)
    items = model.items["item_id"].to_list()
    (answer,) = served.answer("recommend", [Asked(Request("", tuple(items[:3])), 5)])
    assert served.name == "student" and answer.items == model.recommend(items[:3], 5).items


def test_a_service_retrieves_with_a_student_and_re_ranks_with_its_teacher(
    with_its_prior: Path, distilled: Distilled, tmp_path: Path
) -> None:
    from shelftalk.serving.answering import Asked
    from shelftalk.serving.running import Address, Retriever, prepare

    teacher, student = shelftalk.load(with_its_prior), shelftalk.load(distilled.folder)
    running = prepare(
        with_its_prior, Address(port=0), str(tmp_path / "store"), retriever=Retriever(distilled.folder, 12)
    )
    try:
        (name,) = running.service.engine.models
        served = running.service.engine.answers_of(name)
        items = student.items["item_id"].to_list()
        history = tuple(items[:3])
        (answer,) = served.answer("recommend", [Asked(Request("", history), 5)])
    finally:
        running.socket.close()
        running.service.close()
    assert name == "student+aligned+prior"
    candidates = student.recommend(list(history), 12).items
    assert answer.items == teacher.rank(list(history), candidates).items[:5]
    assert answer.items != candidates[:5]  # the teacher's order, not the student's
