"""Runs by every scheme of splitting, and baselines that are fitted again on training and validation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from shelftalk import open_run
from shelftalk.baselines.item_knn import ItemKnnSettings, fit_item_knn
from shelftalk.data.splitting import TEST
from shelftalk.errors import UnknownPart
from shelftalk.experiment import load_experiment
from shelftalk.pipeline.answer_files import read_answers
from shelftalk.pipeline.run import Run
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.testing.worlds import tiny_world
from tests.end_to_end.tiny import call, done_again, save_world, write_experiment

SCHEMES: dict[str, dict[str, Any]] = {
    "leave_last_n": {"scheme": "leave_last_n", "last": 2},
    "by_user": {"scheme": "by_user", "user_test": 0.3, "user_validation": 0.2},
    "global_time": {"scheme": "global_time", "gap_days": 3},
}
NAMES = {
    "leave_last_n": "leave-last-n split",
    "by_user": "by-user split",
    "global_time": "global-time split",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_world(tiny_world(), tmp_path_factory.mktemp("worlds") / "tiny")


@pytest.fixture(scope="module", params=SCHEMES)
def run(request: Any, world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Run, str]:
    """Scheme, run and what the terminal printed."""
    import torch

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp(request.param)
    quick = {"epochs": 1, "validations": 1, "validation_samples": 10}
    file = write_experiment(
        folder / "experiment.toml",
        world,
        split=SCHEMES[request.param],
        training=quick,
        models=["aligned", "aligned+prior", "item_knn", "popularity", "bias", "item_knn@refit"],
        evaluation={"search_error_users": 5},
    )
    result = call("run", file, "--out", folder / "run")
    assert result.exit_code == 0, result.output
    return request.param, open_run(folder / "run"), result.output


def test_a_run_by_any_scheme_states_it_at_every_figure(run):
    scheme, finished, printed = run
    note = finished.split.protocol.note
    assert finished.metrics["split"]["note"] == note and finished.metrics["split"]["scheme"] == scheme
    assert printed.count(f"test part of a {NAMES[scheme]}") == 3
    assert " ".join(note.split()) in " ".join(printed.split())
    report = json.loads((finished.folder.path / "report.json").read_text())
    for task in report["tasks"][:2]:
        assert task["protocol"].startswith(note)
    assert note in report["caveats"] and report["published"] == []
    words = (finished.folder.path / "report.md").read_text()
    assert words.split("## ")[0].count(note[:60]) == 1  # in the headline
    assert "Each user's last interaction" not in words and "Leave-one-out" not in words
    assert ("after the moment of the test" in words) == (scheme != "global_time")


def test_every_held_out_event_has_an_answer_of_its_own(run):
    scheme, finished, _ = run
    split, folder = finished.split, finished.folder
    table = pl.read_parquet(folder.evaluation("retrieval")).filter(pl.col("model") == "popularity")
    rows = np.flatnonzero(split.event_part == TEST)
    wanted = {
        (split.dataset.user_ids[split.event_user[row]], split.dataset.item_ids[split.dataset.event_item[row]])
        for row in rows
    }
    assert set(table.select("user", "item").rows()) == wanted and len(table) == len(rows)
    if scheme == "leave_last_n":
        report = json.loads((folder.path / "report.json").read_text())
        assert (report["tasks"][0]["n"], report["tasks"][0]["unit"]) == (len(rows), "requests")


def test_the_answers_of_a_user_with_several_requests_are_read_in_their_order(run):
    _, finished, _ = run
    requests, _ = finished.split.retrieval_requests("test")
    answers = read_answers(finished.folder, "retrieval", finished.experiment, finished.split)["item_knn"]
    again = finished.model("item_knn").recommend(requests, 20)
    assert [one.items for one in answers] == [one.items for one in again]


def test_what_the_data_gives_away_is_shown_for_a_run_and_for_an_experiment_and_in_the_report(run, world):
    _, finished, _ = run
    path = finished.folder.path
    of_run = call("show", "data", path, "--json")
    assert of_run.exit_code == 0, of_run.output
    assert json.loads(of_run.stdout) == finished.folder.needed("prepare").facts["probes"]
    of_file = call("show", "data", path / "experiment.toml", "--json")
    assert json.loads(of_file.stdout) == json.loads(of_run.stdout)
    printed = call("show", "data", path).stdout.splitlines()
    report = json.loads((path / "report.json").read_text())
    assert printed == [f"- {sentence}" for sentence in report["data_probes"]] and len(printed) >= 8
    for page in ("report.md", "report.html"):
        assert "What the data itself gives away" in (path / page).read_text()


@pytest.mark.parametrize("format", ["parquet", "recbole", "trec"])
def test_the_split_of_a_run_is_exported_and_the_folder_is_never_overwritten(run, format, tmp_path):
    _, finished, _ = run
    command = ("export", finished.folder.path, "--format", format, "--out", tmp_path / "out")
    first, again = call(*command), call(*command)
    assert first.exit_code == 0, first.output
    assert first.stdout == f"Exported: {tmp_path / 'out'}\n"
    assert "# tiny, divided by shelftalk" in (tmp_path / "out" / "README.md").read_text()
    assert again.exit_code == 2 and "name another --out, or remove it" in again.output
    assert call("export", tmp_path / "no-run").exit_code == 2
    assert call("export", finished.folder.path, "--format", "csv", "--out", tmp_path / "x").exit_code == 2


# --- refit ---

REFITTED = ["item_knn@refit", "popularity@refit", "bias@refit", "global_mean@refit"]


@pytest.fixture(scope="module")
def refitted(world: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("refit")
    file = write_experiment(
        folder / "experiment.toml", world, models=[*REFITTED, "item_knn", "popularity", "bias", "global_mean"]
    )
    result = call("run", file, "--out", folder / "run")
    assert result.exit_code == 0, result.output
    (folder / "run" / "printed.txt").write_text(result.output)
    return RunFolder(folder / "run")


def test_a_refitted_baseline_is_an_entry_of_its_own(refitted):
    metrics = open_run(refitted.path).metrics
    assert {"item_knn", "item_knn.ci", "item_knn@refit", "item_knn@refit.ci"} <= set(metrics["retrieval"])
    assert {"bias@refit", "global_mean@refit"} <= set(metrics["rating"])
    assert "split" not in metrics  # the protocol is the usual one; the name states the convention


def test_popularity_fitted_again_counts_all_but_the_test_events(refitted):
    run = open_run(refitted.path)
    data, split = run.split.dataset, run.split
    counts = np.bincount(data.event_item[split.event_part != TEST], minlength=len(data.items))
    assert np.array_equal(run.model("popularity@refit").counts, counts)
    assert not np.array_equal(run.model("popularity").counts, counts)
    requests, truths = split.retrieval_requests("test")
    order = sorted(range(len(data.items)), key=lambda row: (-counts[row], row))
    hits = 0
    for request, truth in zip(requests, truths, strict=True):
        left = [data.item_ids[row] for row in order if data.item_ids[row] not in request.history]
        hits += truth in left[:10]
    assert run.metrics["retrieval"]["popularity@refit"]["recall@10"] == pytest.approx(hits / len(requests))


def test_item_knn_is_fitted_again_with_what_it_chose_on_validation(refitted):
    run = open_run(refitted.path)
    chosen = run.model("item_knn").recipe
    again = fit_item_knn(
        run.split.refitted(),
        ItemKnnSettings(
            text_weight=(chosen.text_weight,), decay=(chosen.decay,), max_history=(chosen.max_history,)
        ),
        seed=3,
    )
    requests, _ = run.split.retrieval_requests("test")
    assert run.model("item_knn@refit").recommend(requests, 10) == again.recommend(requests, 10)
    assert run.model("item_knn@refit").recipe == chosen


def test_the_mean_rating_fitted_again_is_that_of_all_ratings_but_the_tests(refitted):
    run = open_run(refitted.path)
    split = run.split
    known = ~np.isnan(split.dataset.event_rating) & (split.rating_part != TEST) & (split.event_part != TEST)
    assert run.model("global_mean@refit").mean == pytest.approx(split.dataset.event_rating[known].mean())


def test_no_paired_test_holds_a_refit_against_a_train_only_row(refitted):
    pairs = pl.read_parquet(refitted.evaluation("differences")).select("first", "second").unique().rows()
    assert ("item_knn@refit", "popularity@refit") in pairs and ("item_knn", "popularity") in pairs
    assert all(first.endswith("@refit") == second.endswith("@refit") for first, second in pairs)


def test_report_and_terminal_mark_the_convention(refitted):
    report = json.loads((refitted.path / "report.json").read_text())
    assert all("Rows that end in @refit" in task["protocol"] for task in report["tasks"])
    assert "item_knn@refit: what item_knn chose on validation, fitted again" in " ".join(report["chosen"])
    assert "popularity@refit: fitted on training and validation." in report["chosen"]
    printed = (refitted.path / "printed.txt").read_text()
    assert printed.count("train-only, @refit on validation too") == 3


def test_nothing_is_chosen_twice_and_nothing_done_twice(refitted, monkeypatch, tmp_path):
    """The refit reads what the stage of the baseline noted, whatever the order of the models."""
    assert (
        done_again(call("run", refitted.path / "experiment.toml", "--out", refitted.path, "--json")) == set()
    )
    run, fits = open_run(refitted.path), []
    import shelftalk.baselines.item_knn as module

    original = module.fit_item_knn
    monkeypatch.setattr(module, "fit_item_knn", lambda *given: fits.append(given) or original(*given))
    run.model("item_knn@refit")
    assert [len(given[1].text_weight) for given in fits] == [1]
    refitted.manifest("recommend.item_knn").rename(tmp_path / "kept.json")
    Run(refitted, run.experiment).model("item_knn@refit")
    (tmp_path / "kept.json").rename(refitted.manifest("recommend.item_knn"))
    assert [len(given[1].text_weight) for given in fits] == [1, 2, 1]


def test_other_settings_of_the_baseline_are_chosen_anew_for_the_refit(world, tmp_path):
    file = write_experiment(tmp_path / "one.toml", world, models=["item_knn", "item_knn@refit"])
    assert call("run", file, "--out", tmp_path / "run").exit_code == 0
    other = {"item_knn": {"text_weight": [1.0], "decay": [0.7], "max_history": [5]}}
    file = write_experiment(
        tmp_path / "one.toml", world, models=["item_knn", "item_knn@refit"], baselines=other
    )
    done = done_again(call("run", file, "--out", tmp_path / "run", "--json"))
    assert {"recommend.item_knn", "recommend.item_knn@refit"} <= done
    assert open_run(tmp_path / "run").model("item_knn@refit").recipe.text_weight == 1.0


@pytest.mark.parametrize("name", ["aligned@refit", "aligned+prior@refit"])
def test_a_language_model_is_not_refitted_and_what_is_named_instead_works(name):
    with pytest.raises(UnknownPart, match="not trained on validation too") as caught:
        load_experiment(None, {"models": [name]})
    assert f'name "{name.removesuffix("@refit")}"' in str(caught.value)
    load_experiment(None, {"models": [name.removesuffix("@refit"), "item_knn@refit"]})


def test_a_misspelt_model_of_a_refit_names_the_nearest_and_a_prior_is_never_refitted():
    with pytest.raises(UnknownPart, match='did you mean "item_knn"'):
        load_experiment(None, {"models": ["item_kn@refit"]})
    with pytest.raises(UnknownPart, match="is no model for that"):
        load_experiment(None, {"prior": {"model": "item_knn@refit"}})


def test_a_model_that_does_not_say_what_it_chose_cannot_be_refitted_and_both_remedies_work(
    world, tmp_path, monkeypatch
):
    (tmp_path / "own_models.py").write_text(
        "from shelftalk.baselines.popularity import fit_popularity\n"
        "class Silent:\n"
        "    name = 'silent'\n"
        "    def __init__(self, model): self.model = model\n"
        "    def recommend(self, requests, k): return self.model.recommend(requests, k)\n"
        "def silent(split, settings, seed): return Silent(fit_popularity(split))\n"
        "def speaking(split, settings, seed): return fit_popularity(split)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for number, (name, works) in enumerate(
        {
            "own_models:silent@refit": False,
            "own_models:silent": True,
            "own_models:speaking@refit": True,
        }.items()
    ):
        file = write_experiment(tmp_path / "own.toml", world, models=[name])
        result = call("run", file, "--out", tmp_path / str(number))
        assert (result.exit_code == 0) == works, result.output
        if not works:
            assert "chosen_settings()" in result.output and f'leave "{name}" out' in result.output
