"""A shop's own files: unsold items, users who came once, no order, one rating value. Nothing is lost
silently, and no order is claimed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from shelftalk import parts
from shelftalk.data.dataset import Dataset, make_dataset
from shelftalk.data.splitting import SplitSettings, split_dataset
from shelftalk.experiment import load_experiment
from shelftalk.pipeline.index_building import build_index
from shelftalk.pipeline.run import Run
from shelftalk.records import Filter, Request
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.tasks.samples import read_samples
from shelftalk.testing.worlds import tiny_world
from tests.end_to_end.tiny import SETTINGS, call, write_experiment
from tests.verified import verified

UNSOLD = tuple(f"new{n}" for n in range(7))
ONCE = tuple(f"once{n}" for n in range(5))
OF_ORDER = ("oldest", "in the order", "next", "at the end", "so far", "continue", "past")
"""What no template may contain about a history without an order."""


def shop() -> Dataset:
    """30 users of a tiny world, 5 more who came once, and 7 items that nobody has taken."""
    world = tiny_world(users=30, items=50)
    new = pl.DataFrame({"item_id": UNSOLD, "title": [f"Amber tea No. {n}" for n in range(len(UNSOLD))]})
    visits = pl.DataFrame(
        {
            "user_id": ONCE,
            "item_id": ["i1"] * len(ONCE),
            "timestamp": [1] * len(ONCE),
            "rating": [3.0] * len(ONCE),
        }
    )
    events = world.events.drop("position", "nanosecond")
    return make_dataset(
        pl.concat([world.items, new], how="diagonal"), pl.concat([events, visits.select(events.columns)])
    )


def saved(folder: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Path:
    folder.mkdir(parents=True)
    shop().items.write_parquet(folder / "items.parquet")
    change(shop().events.drop("position", "nanosecond")).write_parquet(folder / "interactions.parquet")
    return folder


def no_order(frame: pl.DataFrame) -> pl.DataFrame:
    """Likes: no time, and one rating value for all that are rated."""
    return frame.drop("timestamp").with_columns(rating=pl.lit(1.0), plays=pl.int_range(pl.len()))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, RunFolder]:
    """What --json prints of a run on the shop as it is."""
    return _run(tmp_path_factory.mktemp("shop"), lambda frame: frame)


@pytest.fixture(scope="module")
def unordered(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, RunFolder]:
    """The same for the shop's likes."""
    return _run(tmp_path_factory.mktemp("likes"), no_order)


def _run(folder: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> tuple[dict, RunFolder]:
    experiment = write_experiment(
        folder / "shop.toml", saved(folder / "data", change), training={"max_steps": 2}
    )
    experiment.write_text(experiment.read_text().replace("k_core = 1\n", ""))  # the default for own data
    result = call("run", experiment, "--out", folder / "run", "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout), verified(RunFolder(folder / "run"))


def _printed(folder: RunFolder) -> str:
    """What the same command prints in words; nothing is done again."""
    result = call("run", folder.experiment, "--out", folder.path)
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split())


def test_what_was_read_and_kept_is_in_terminal_json_and_report(finished):
    printed_json, folder = finished
    counts = {"users": {"read": 35, "kept": 35}, "items": {"read": 57, "kept": 57}}
    assert {name: printed_json["data"][name] for name in counts} == counts
    printed, report = _printed(folder), json.loads((folder.path / "report.json").read_text())
    for sentence in printed_json["data"]["sentences"][:2]:
        assert sentence in printed
    assert (
        "kept 35 users" in printed
        and "5 of 35 users are not evaluated, since they have fewer than 3 interactions" in printed
    )
    assert "57 items (50 of them with an interaction)" in report["data"]["before the filter"]
    assert report["data"]["users evaluated"] == "30" and {
        task["n"] for task in report["tasks"] if task["unit"] == "users"
    } == {30}


def test_unsold_items_can_be_recommended_by_every_model(finished):
    _, folder = finished
    run = Run(folder, load_experiment(folder.experiment))
    wanted = Request("anyone", ("i1", "i2"), filter=Filter(only=UNSOLD), candidates=(*UNSOLD, "i9"))
    for model in (run.model("item_knn"), run.model("popularity"), run.language_model):
        assert set(model.recommend([wanted], 20)[0].items) == set(UNSOLD), model
        assert set(model.rank([wanted])[0].items) == {*UNSOLD, "i9"}, model
    shown = pl.read_parquet(folder.path / "rankings" / "ranking.item_knn.parquet")["items"].explode()
    assert set(UNSOLD) & set(shown)  # as negatives


@pytest.mark.parametrize("scheme", parts.INDEXINGS)
@pytest.mark.parametrize("ordered", [True, False])
def test_every_index_and_task_can_do_with_unsold_items_and_users_who_came_once(scheme, ordered, tmp_path):
    kinds = ("uniform", "popular", "category", "neighbour")
    on = {name: {"weight": 1.0, "text_share": 1.0} for name in parts.TASKS}
    on |= {name: {**on[name], "negatives": kinds} for name in ("ranking", "pairwise_preference")}
    experiment = load_experiment(None, {"tasks": on, "index": {**SETTINGS["index"], "scheme": scheme}})
    split = split_dataset(
        shop(), SplitSettings(ranking_negatives=20, scheme=None if ordered else "random"), 0
    )
    index = build_index(split, experiment.index, 0)
    assert set(UNSOLD) <= set(index.item_ids) and len({index.name(item) for item in index.item_ids}) == 57
    run = RunFolder(tmp_path)
    split.save(run.dataset)
    index.save(run.item_index)
    for name, task in Run(run, experiment).tasks.items():
        samples = task.samples(0)
        if name == "next_items" and not ordered:  # nothing comes next
            assert not len(samples)
            continue
        # where titles are the names, there is no text to learn
        assert len(samples) or (task.about == "items" and index.includes_title), name
        if name in ("retrieval", "ranking", "masked_language"):
            assert set(ONCE) <= {sample.user for sample in samples}, name


def test_a_random_split_is_noted_at_every_figure(unordered):
    printed_json, folder = unordered
    sentence = "The split is random"
    assert (
        printed_json["metrics"]["split"]["scheme"] == "random"
        and sentence in printed_json["metrics"]["split"]["note"]
    )
    assert any(line.startswith(sentence) for line in printed_json["data"]["sentences"])
    printed, report = _printed(folder), json.loads((folder.path / "report.json").read_text())
    assert printed.count("test part of a random split") == 2 and sentence in printed
    assert all(task["protocol"].startswith(sentence) for task in report["tasks"])
    assert "no order" in report["data"]["order"] and any(
        caveat.startswith(sentence) for caveat in report["caveats"]
    )
    assert (folder.path / "report.md").read_text().split("## ")[0].count(sentence) == 1  # in the headline
    page = (folder.path / "report.md").read_text() + json.dumps(report)
    for claim in (
        "Took next",
        "taken next",
        "earlier than",
        "last interaction",
        "Leave-one-out",
        "over the last",
    ):
        assert claim not in page, claim


def test_no_prompt_claims_an_order_that_the_data_has_not(unordered, finished):
    for (_, folder), claims in ((unordered, False), (finished, True)):
        texts = {
            _text_around_items(sample) for epoch in (0, 1) for sample in read_samples(folder.epoch(epoch))
        }
        for name in ("retrieval", "ranking"):
            texts |= {
                _text_around_items(sample)
                for sample in read_samples(folder.samples / f"validation.{name}.parquet")
            }
        words = {word for word in OF_ORDER for text in texts if word in text.lower()}
        assert bool(words) == claims, words


def _text_around_items(sample) -> str:
    """A sample without the names and texts of items."""
    return " ".join(
        segment.text for segment in sample.segments if "No. " not in segment.text and not segment.symbols
    )


def test_ratings_of_one_value_are_left_out_everywhere_with_a_message(unordered):
    printed_json, folder = unordered
    assert set(printed_json["metrics"]) == {"retrieval", "ranking", "split"}
    assert "every rating of the training part is 1, so there is nothing to predict" in " ".join(
        printed_json["data"]["sentences"]
    )
    facts = RunFolder(folder.path).needed("train").facts
    assert not any("rating" in row["task"] for row in facts["curve"])
    assert "rating" not in {sample.task for sample in read_samples(folder.epoch(0))}
    assert "Rating prediction is left out" in (folder.path / "report.html").read_text()
    assert "bias is left out: every rating" in _printed(folder)


def test_a_column_that_seems_to_order_events_is_refused_and_both_remedies_work(tmp_path):
    data = saved(tmp_path / "data", lambda frame: frame.rename({"timestamp": "ordered_at"}))
    for name, changes, scheme in (
        ("as-it-is", {}, None),
        (
            "mapped",
            {"data": {"folder": str(data), "interactions_columns": {"timestamp": "ordered_at"}}},
            "leave_one_out",
        ),
        ("random", {"split": {"ranking_negatives": 20, "scheme": "random"}}, "random"),
    ):
        experiment = write_experiment(tmp_path / f"{name}.toml", data, models=["popularity"], **changes)
        result = call("prepare", experiment, "--out", tmp_path / name, "--json")
        if scheme is None:
            assert result.exit_code == 2 and "split.scheme" in result.output and "ordered_at" in result.output
        else:
            assert result.exit_code == 0, result.output
            assert RunFolder(tmp_path / name).needed("prepare").facts["scheme"] == scheme


def test_a_training_on_ratings_of_one_value_is_refused_with_the_reason(tmp_path):
    data = saved(tmp_path / "data", lambda frame: frame.with_columns(rating=pl.lit(4.0)))
    off = {name: {"weight": 0.0} for name in parts.TASKS if name != "rating"}
    experiment = write_experiment(tmp_path / "ratings.toml", data, models=["aligned"], tasks=off)
    for command in (("run", experiment, "--out", tmp_path / "run"), ("plan", experiment)):
        result = call(*command)
        assert result.exit_code == 2 and "every rating of the training part is 4" in result.output, (
            result.output
        )
    assert "every rating" in call("show", "sample", "rating", experiment).output


def test_times_that_are_all_equal_are_reported(tmp_path):
    data = saved(tmp_path / "data", lambda frame: frame.with_columns(timestamp=pl.lit(1_700_000_000)))
    experiment = write_experiment(tmp_path / "shop.toml", data, models=["popularity"])
    printed_json = json.loads(call("prepare", experiment, "--out", tmp_path / "run", "--json").stdout)[
        "data"
    ]["sentences"]
    assert any(
        "drawn by seed for 85.7% of the users: their last two have the same timestamp" in one
        for one in printed_json
    )
