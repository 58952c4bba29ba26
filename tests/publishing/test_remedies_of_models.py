"""What is refused of published models: the sentence is read, the call or the command given as it says, and it
succeeds."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from huggingface_hub.utils import validate_repo_id

import shelftalk
from shelftalk import Request
from shelftalk.baselines.popularity import fit_popularity
from shelftalk.batch.run import answer_file
from shelftalk.errors import ShelftalkError
from shelftalk.experiment import saved_experiment
from shelftalk.indexing.item_index import IndexSettings
from shelftalk.pipeline.index_building import build_index
from shelftalk.pipeline.run import Run
from shelftalk.publishing.constraints import static_arrays, write_constraints
from shelftalk.publishing.hub import _token, push
from shelftalk.publishing.opening import with_prior
from shelftalk.publishing.publish import publish
from shelftalk.publishing.served_model import ServedModel
from shelftalk.ragged import ragged
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.testing.exams import exam_split
from tests.end_to_end.tiny import call


def told(call: Callable[..., Any], *arguments: Any, **named: Any) -> str:
    with pytest.raises(ShelftalkError) as error:
        call(*arguments, **named)
    return str(error.value)


@pytest.fixture(scope="module")
def model(published: Path) -> ServedModel:
    return shelftalk.load(published)


# --- opening ---------------------------------------------------------------------------------------------


def test_a_folder_that_is_damaged_or_no_model_is_published_or_fetched_as_the_sentence_says(
    run: RunFolder, published: Path, copied: Callable[[], Path], tmp_path: Path
) -> None:
    (tmp_path / "nothing").mkdir()
    command = re.findall(r"`(shelftalk publish) RUN`", told(shelftalk.load, tmp_path / "nothing"))[0]
    result = call(*command.split()[1:], run.path, "--to", tmp_path / "nothing")
    assert result.exit_code == 0 and shelftalk.load(tmp_path / "nothing").items.height == 50
    folder = copied()
    for name, damage in (
        ("shelftalk.json", lambda path: path.write_text("{")),
        ("catalogue.parquet", Path.unlink),
        ("item_index.parquet", lambda path: path.write_bytes(b"PAR1")),
    ):
        damage(folder / name)
        assert "fetch the folder again as a whole, or publish the run again" in told(shelftalk.load, folder)
        shutil.rmtree(folder)
        shutil.copytree(published, folder)
        assert shelftalk.load(folder).items.height == 50


def test_a_revision_is_left_out_for_a_folder(published: Path, tmp_path: Path) -> None:
    assert "leave revision out" in told(shelftalk.load, published, revision="main")
    message = told(shelftalk.load, tmp_path / "not there", revision="main")
    assert "has no revisions" not in message and "or correct the path" in message
    assert shelftalk.load(published)


def test_the_prior_that_is_named_is_the_one_that_joins(run: RunFolder, published: Path) -> None:
    finished = Run(run, saved_experiment(run))
    model = shelftalk.load(published).language_model
    message = told(with_prior, published, model, fit_popularity(finished.split))
    wanted = re.findall(r'chosen for the prior "(\w+)".+; give that one', message)[0]
    assert with_prior(published, model, finished.model(wanted)).name == "aligned+prior"


# --- asking ----------------------------------------------------------------------------------------------


def test_a_call_corrected_as_the_sentence_says_is_answered(model: ServedModel) -> None:
    items = model.items["item_id"].to_list()
    request = Request("u", tuple(items[:2]), candidates=tuple(items[4:7]), item=items[5])
    message = told(model.recommend, items[0])
    written = re.findall(r"as a sequence: (\[.+?\])", message)[0]
    assert model.recommend(eval(written), 3)  # what the sentence tells to write in Python
    assert "shelftalk.Text" in message and model.recommend(shelftalk.Text(items[0]), 3)
    assert "give a sequence of item ids beside the history" in told(model.rank, items[:2])
    assert model.rank(items[:2], items[4:7])
    assert "give them in each Request" in told(model.rank, [request], items[4:7])
    assert "give them in each Request" in told(model.recommend, [request], excluded=["x"])
    assert model.rank([request]) and model.recommend([request], 3)
    if "rating" in model.tasks:
        assert "give its id beside the history" in told(model.rate, items[:2])
        assert "give them in each Request" in told(model.rate, [request], items[5])
        assert model.rate(items[:2], items[5]) and model.rate([request])
    message = told(model.recommend, [items[0], "a red lamp"], 3)
    assert "give words as shelftalk.Text(...)" in message
    assert model.recommend([items[0], shelftalk.Text("a red lamp")], 3)


def test_a_model_that_knows_no_ratings_answers_what_the_sentence_names() -> None:
    split = exam_split()
    model, items = ServedModel(fit_popularity(split), split.dataset.items), split.dataset.item_ids
    asked = re.findall(r"ask it (.+)\.$", told(model.rate, items[:1], items[5]))[0].split(" or ")
    answers = {
        "retrieval": lambda: model.recommend(items[:1], 3),
        "ranking": lambda: model.rank(items[:1], items[3:5]),
    }
    assert asked == list(answers) and all(answers[task]() for task in asked)


# --- publishing ------------------------------------------------------------------------------------------


def test_a_run_without_figures_or_weights_is_run_again_as_the_sentences_say(
    run: RunFolder, tmp_path: Path
) -> None:
    copy = RunFolder(Path(shutil.copytree(run.path, tmp_path / "run")))
    shutil.rmtree(copy.path / "published", ignore_errors=True)

    def run_again(models: str) -> None:
        result = call("run", copy.experiment, "--out", copy.path, "--models", models)
        assert result.exit_code == 0, result.output

    run_again("popularity")
    message = told(publish, copy.path)
    named = re.findall(r'run `shelftalk run` again with "(\S+)" among the models, then publish', message)[0]
    run_again(named)
    assert publish(copy.path).is_dir()
    message = told(publish, copy.path, with_prior=True)
    assert "or publish without the prior" in message and publish(copy.path).is_dir()
    prior = re.findall(r'run `shelftalk run` again with "(\S+)" among the models', message)[0]
    run_again(f"{named},{prior}")
    assert shelftalk.load(publish(copy.path, with_prior=True)).name == prior


def test_what_is_there_is_left_for_another_to_or_removed(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    assert "choose another --to, or remove it" in told(publish, run.path, tmp_path / "mine")
    assert publish(run.path, tmp_path / "other").is_dir()
    (tmp_path / "mine").unlink()
    assert publish(run.path, tmp_path / "mine").is_dir()


def test_a_token_and_a_name_as_the_sentences_write_them_are_taken(
    published: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    variable = re.findall(r"`hf auth login` or set (\w+), then push again", told(_token))[0]
    monkeypatch.setenv(variable, "hf_secret")
    assert _token() == "hf_secret"

    class Api:
        def create_repo(self, name: str, **more: Any) -> str:
            validate_repo_id(name)
            return f"https://hub/{name}"

        def repo_info(self, name: str) -> Any:
            return type("Info", (), {"private": True})

        def upload_folder(self, **more: Any) -> None: ...

    shown = re.findall(r'give one such as "(.+)"\.$', told(push, published, "my shop", api=Api()))[0]
    assert push(published, shown, api=Api()) == f"https://hub/{shown}"


# --- batches and constraints -----------------------------------------------------------------------------


def test_a_batch_that_is_refused_is_answered_as_the_sentences_say(published: Path, tmp_path: Path) -> None:
    requests, out = tmp_path / "requests.jsonl", tmp_path / "out.csv"
    requests.write_text('{"history": []}\n')
    given: dict[str, Any] = {"k": 3, "workers": 1}
    message = told(answer_file, published, requests, out, **given | {"engine": "spark"})
    for engine in re.findall(r'give engine "(\w+)"', message):
        answer_file(published, requests, out, **given | {"engine": engine})
    message = told(answer_file, published, requests, out, **given)
    assert "remove it, or choose another --out" in message
    answer_file(published, requests, tmp_path / "other.csv", **given)
    out.unlink()
    answer_file(published, requests, out, **given)
    message = told(answer_file, published, requests, tmp_path / "tasks.csv", **given | {"task": "writing"})
    tasks = re.findall(r"ask it (.+)\.$", message)[0].split(" or ")
    items = shelftalk.load(published).items["item_id"].to_list()
    requests.write_text(f'{{"history": [], "candidates": ["{items[0]}"], "item_id": "{items[0]}"}}\n')
    for task in tasks:
        answer_file(published, requests, tmp_path / f"{task}.csv", **given | {"task": task})
    requests.write_text('{"history": []}\n{"history": [1.5]}\n')
    message = told(answer_file, published, requests, tmp_path / "bad.csv", **given)
    assert "give ids as text" in message and "or give --keep-bad-rows, which notes the error" in message
    answer_file(published, requests, tmp_path / "bad.csv", **given, keep_bad_rows=True)
    assert pl.read_csv(tmp_path / "bad.csv")["error"].null_count() == 1


def test_constraints_are_written_in_each_form_that_is_named_and_that_the_names_have(
    published: Path, tmp_path: Path
) -> None:
    forms = re.findall(r"give (\w+) or (\w+)", told(write_constraints, published, tmp_path / "a", "trie"))[0]
    assert write_constraints(published, tmp_path / "b", forms[0]).is_dir()
    message = told(write_constraints, published, tmp_path / "a", forms[1])  # names of one token
    scheme = re.findall(r'leave --form out, or train with index.scheme = "(\w+)"', message)[0]
    assert "remove it, or choose another --out" in told(write_constraints, published, tmp_path / "b")
    assert write_constraints(published, tmp_path / "a").is_dir()
    split = exam_split()
    index = build_index(split, IndexSettings(scheme=scheme, dimensions=8), 0)
    symbols = [re.findall(r"<\w+>", name) for name in index.names]
    number = {symbol: row for row, symbol in enumerate(sorted({one for name in symbols for one in name}))}
    assert static_arrays(ragged([[number[one] for one in name] for name in symbols]), len(number))
