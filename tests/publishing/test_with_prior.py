"""A folder that holds its prior answers as the run's "aligned+prior": exactly, by itself, and after a clear
yes alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

import shelftalk
from shelftalk.errors import AnotherExperiment, MissingFile, StageMissing, UnreadableFile
from shelftalk.experiment import load_experiment
from shelftalk.pipeline.run import Run
from shelftalk.publishing import open_recommender
from shelftalk.publishing.contents import PRIOR, RATING_PRIOR
from shelftalk.publishing.publish import publish
from shelftalk.records import Request
from shelftalk.runtime.run_folder import RunFolder
from tests.end_to_end.tiny import call
from tests.publishing.test_hostile_folder import signed


def test_the_folder_gives_exactly_the_lists_that_were_measured(run: RunFolder, with_its_prior: Path) -> None:
    away = run.dataset.rename(run.path / "hidden")  # nothing of the run is needed
    try:
        model = shelftalk.load(with_its_prior)
    finally:
        away.rename(run.dataset)
    split = Run(run, load_experiment(run.experiment)).split
    assert model.name == "aligned+prior" and model.tasks == ("retrieval", "ranking", "rating")
    listed = {task: pl.read_parquet(run.ranking(task, "aligned+prior")) for task in ("retrieval", "ranking")}
    k = len(listed["retrieval"]["items"][0])
    for task, answers in (
        ("retrieval", model.recommend(split.retrieval_requests("test")[0], k)),
        ("ranking", model.rank(split.ranking_requests("test")[0])),
    ):
        kept = listed[task]
        assert [list(ranking.items) for ranking in answers] == kept["items"].to_list(), task
        assert [list(ranking.scores) for ranking in answers] == kept["scores"].to_list(), task


def test_ratings_are_those_of_people_whom_the_run_did_not_know(run: RunFolder, with_its_prior: Path) -> None:
    finished = Run(run, load_experiment(run.experiment))
    requests = [
        Request("", r.history, r.ratings, item=r.item) for r in finished.split.rating_requests("test")[0]
    ]
    assert shelftalk.load(with_its_prior).rate(requests) == finished.model("aligned+prior").rate(requests)


def test_it_holds_no_user_says_what_it_holds_and_shows_its_own_figures(
    run: RunFolder, with_its_prior: Path, published: Path
) -> None:
    users = [user.encode() for user in pl.read_parquet(run.dataset / "events.parquet")["user_id"].unique()]
    for name in (PRIOR, RATING_PRIOR):
        assert not [user for user in users if user in (with_its_prior / name).read_bytes()]
    card, plain = (folder.joinpath("README.md").read_text("utf-8") for folder in (with_its_prior, published))
    assert 'answers as "aligned+prior"' in card and "who took what with what" in card
    assert "who took what" not in plain and not (published / "prior").exists()
    metrics = json.loads(run.metrics.read_text())["retrieval"]
    assert f"value: {round(metrics['aligned+prior']['recall@10'], 6)}" in card


def test_the_language_model_alone_can_still_be_had(with_its_prior: Path, published: Path) -> None:
    requests = [Request("", ())]
    alone = open_recommender(published).recommend(requests, 5)
    assert open_recommender(with_its_prior).recommend(requests, 5) == alone
    assert shelftalk.load(with_its_prior).language_model.recommend(requests, 5) == alone


@pytest.mark.parametrize("name", [PRIOR, RATING_PRIOR])
def test_a_prior_of_another_kind_or_damaged_or_missing_is_refused(
    name: str, with_its_prior: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(with_its_prior, tmp_path / "copy"))
    whole = (folder / name).read_bytes()
    other = RATING_PRIOR if name == PRIOR else PRIOR
    for content in (whole[:-3], whole[:40], b"", (folder / other).read_bytes()):
        (folder / name).write_bytes(content)
        with pytest.raises(AnotherExperiment, match="is not the file"):
            shelftalk.load(folder)
        with pytest.raises(UnreadableFile) as refused:  # also with hashes that fit
            shelftalk.load(signed(folder))
        assert "\n" not in str(refused.value) and str(refused.value).endswith(".")
        shutil.copy(with_its_prior / "shelftalk.json", folder)
    (folder / name).unlink()
    with pytest.raises(MissingFile, match="is missing"):
        shelftalk.load(folder)


def test_a_folder_that_claims_a_prior_must_have_weights_and_list_it(
    with_its_prior: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(with_its_prior, tmp_path / "copy"))
    facts = json.loads((folder / "shelftalk.json").read_text())
    for changes in ({"weights": []}, {"files": {k: v for k, v in facts["files"].items() if k != PRIOR}}):
        (folder / "shelftalk.json").write_text(json.dumps({**facts, **changes}))
        with pytest.raises(UnreadableFile):
            shelftalk.load(folder)


def test_nothing_is_published_without_a_clear_yes(run: RunFolder, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from shelftalk.app.cli import app

    to = tmp_path / "out"
    arguments = ["publish", str(run.path), "--to", str(to), "--with-prior"]
    for answer in ("n\n", "", "\n"):
        result = CliRunner().invoke(app, arguments, input=answer)
        assert result.exit_code == 2 and not to.exists()
        assert "who took what with what" in result.output and "give --yes" in result.output
    assert call(*arguments, "--yes").exit_code == 0 and shelftalk.load(to).name == "aligned+prior"
    shutil.rmtree(to)
    assert CliRunner().invoke(app, arguments, input="y\n").exit_code == 0 and (to / PRIOR).exists()


def test_a_run_without_weights_is_refused_and_published_without(run: RunFolder, tmp_path: Path) -> None:
    copy = RunFolder(Path(shutil.copytree(run.path, tmp_path / "copy")))
    done = call("run", copy.experiment, "--out", copy.path, "--models", "aligned,popularity")
    assert done.exit_code == 0
    with pytest.raises(StageMissing, match="no weight of a prior was chosen"):
        publish(copy.path, tmp_path / "out", with_prior=True)
    assert shelftalk.load(publish(copy.path, tmp_path / "out")).name == "aligned"


def test_a_service_answers_as_the_folder_does(with_its_prior: Path) -> None:
    from shelftalk.serving.answering import Asked, open_answering

    model, served = shelftalk.load(with_its_prior), open_answering(with_its_prior)
    items = model.items["item_id"].to_list()
    assert served.name == "aligned+prior"
    (answer,) = served.answer("recommend", [Asked(Request("", tuple(items[:3])), 5)])
    assert answer.items == model.recommend(items[:3], 5).items
