"""The report of a run with baselines only; for a trained model see tests/end_to_end/test_report.py."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from shelftalk.evaluation.beyond_accuracy import LIST_METRICS
from shelftalk.evaluation.metrics import metric_names
from shelftalk.experiment import load_experiment
from shelftalk.pipeline import stages
from shelftalk.pipeline.run import Run
from shelftalk.report.content import Difference, ReportContent
from shelftalk.report.from_run import _differences, _oriented, _pair_order, content_of, line_of
from shelftalk.report.render import render_html
from shelftalk.report.run_facts import caveats, protocol
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.testing.worlds import tiny_world, untitled_world
from tests.verified import verified

SETTINGS = {
    "name": "baselines",
    "seed": 1,
    "split": {"ranking_negatives": 20},
    "baselines": {"item_knn": {"text_weight": [0.3], "decay": [0.7], "max_history": [5]}},
    "evaluation": {"resamples": 100, "shown_users": 7},
}


def made(folder: Path, world=tiny_world, models: tuple[str, ...] = ("popularity", "item_knn", "bias")) -> Run:
    data = folder / "data"
    data.mkdir()
    dataset = world(users=25, items=50)
    dataset.items.write_parquet(data / "items.parquet")
    dataset.events.drop("position").write_parquet(data / "interactions.parquet")
    experiment = load_experiment(
        None, {**SETTINGS, "models": models, "data": {"folder": str(data), "k_core": 1}}
    )
    stages.run_all(RunFolder(folder / "run"), experiment)
    return Run(verified(RunFolder(folder / "run")), experiment)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made(tmp_path_factory.mktemp("baselines"))


@pytest.fixture(scope="module")
def content(run: Run) -> ReportContent:
    return content_of(run)


def test_every_figure_is_the_one_in_metrics_json(content: ReportContent, run: Run) -> None:
    metrics = json.loads(run.folder.metrics.read_text())
    assert [task.task for task in content.tasks] == list(metrics)
    for task in content.tasks:
        for row in task.rows:
            of_model = metrics[task.task][row.model]
            shown = [name for name in metric_names(task.task) if name != "ndcg@1"]
            assert dict(row.metrics) == {name: of_model[name] for name in shown}
            assert all(
                [*ends] == metrics[task.task][f"{row.model}.ci"][name] for name, ends in row.intervals.items()
            )
            assert row.baseline and not row.imported
        for row in task.of_lists:
            assert dict(row.metrics) == {name: metrics[task.task][row.model][name] for name in LIST_METRICS}
        assert len(task.of_lists) == (2 if task.task == "retrieval" else 0)
        assert task.main_metric in task.plotted and set(task.plotted) <= set(task.rows[0].metrics)


def test_models_are_in_the_order_in_which_they_were_named(content: ReportContent) -> None:
    shown = [[row.model for row in task.rows] for task in content.tasks]
    assert shown == [["popularity", "item_knn"], ["popularity", "item_knn"], ["bias"]]


def test_differences_have_their_adjusted_p_and_the_smallest_effect(content: ReportContent, run: Run) -> None:
    table = pl.read_parquet(run.folder.evaluation("differences")).filter(task="retrieval")
    for row in content.tasks[0].differences:
        pair = pl.col("first").is_in([row.first, row.second]) & pl.col("second").is_in(
            [row.first, row.second]
        )
        (saved,) = table.filter(pair, metric=row.metric).rows(named=True)
        assert (row.p_adjusted, row.smallest_effect) == (saved["p_adjusted"], saved["smallest_effect"])
    assert content.correction == "Holm"


def test_tables_of_an_earlier_version_without_adjusted_p_are_shown(run: Run, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(run.folder.path, folder.path)
    path = folder.evaluation("differences")
    pl.read_parquet(path).drop("p_adjusted", "smallest_effect").write_parquet(path)
    rows = _differences(folder, "retrieval")
    assert rows and all(row.p_adjusted is row.smallest_effect is None for row in rows)


def test_costs_are_those_of_the_manifests_for_a_thousand_requests(content: ReportContent, run: Run) -> None:
    assert json.loads(run.folder.costs.read_text()) == run.costs
    assert [row.model for row in content.costs] == ["popularity", "item_knn", "bias"]
    for row in content.costs:
        facts = run.folder.needed(f"recommend.{row.model}").facts["costs"]
        asked = facts["requests"]
        assert dict(row.seconds_per_1000) == {
            task: pytest.approx(1000 * seconds / asked[task], abs=1e-4)
            for task, seconds in facts["answer_seconds"].items()
        }
        assert row.training_seconds is None and 50 < row.peak_memory_mb < 50_000
    assert content.costs[0].seconds_per_1000.keys() == {"retrieval", "ranking"}
    assert content.costs[2].seconds_per_1000.keys() == {"rating"}
    assert run.folder.needed("recommend.popularity").facts["costs"]["requests"]["retrieval"] == 25


def test_a_figure_is_a_mean_over_as_many_as_it_says(content: ReportContent, run: Run) -> None:
    rated = len(run.split.rating_requests("test")[0])
    assert [(task.n, task.unit) for task in content.tasks] == [
        (25, "users"),
        (25, "users"),
        (rated, "ratings"),
    ]


def test_slices_hold_every_user_once_in_ascending_order(content: ReportContent) -> None:
    for kind in ("item popularity", "history length"):
        rows = [
            row
            for row in content.slices
            if (row.task, row.kind, row.model) == ("retrieval", kind, "item_knn")
        ]
        assert sum(row.n for row in rows) == 25
        starts = [int(row.slice.split(" ")[0].split("-")[0].replace("never", "0")) for row in rows]
        assert starts == sorted(starts)


def test_a_model_that_was_not_trained_has_no_section(content: ReportContent) -> None:
    assert not content.model and not content.curves and not content.samples and not content.held_out_templates
    assert content.best_step is None
    assert not any("nano" in caveat or "2404.00245" in caveat for caveat in content.caveats)
    assert [stage.name for stage in content.stages] == [
        "prepare",
        "recommend popularity",
        "recommend item_knn",
        "recommend bias",
        "evaluate",
    ]


def test_shown_users_are_drawn_by_seed_and_their_lists_are_the_saved_ones(
    content: ReportContent, run: Run
) -> None:
    assert len(content.users) == 7 and {user.model for user in content.users} == {"item_knn"}
    requests, truths = run.split.retrieval_requests("test")
    saved = pl.read_parquet(run.folder.ranking("retrieval", "item_knn")).rows(named=True)
    expected = {
        (
            line_of(run.split, truth),
            tuple(line_of(run.split, item) for item in row["items"][:5]),
            len(request.history),
        )
        for request, truth, row in zip(requests, truths, saved, strict=True)
    }
    for user in content.users:
        assert (
            user.truth,
            tuple(line.line for line in user.top),
            len(user.history) + user.earlier,
        ) in expected
        assert [line.hit for line in user.top] == [user.rank == position for position in range(1, 6)]
        assert user.listed == 20 and (user.rank is None or 1 <= user.rank <= 20)
        assert "u" + user.label.split()[-1] not in user.label  # a running number, never the shop's id


def test_what_was_chosen_on_validation_is_listed(content: ReportContent) -> None:
    assert [sentence.split(":")[0] for sentence in content.chosen] == ["item_knn", "bias"]


def test_links_lead_to_files_that_exist(content: ReportContent, run: Run) -> None:
    assert [link.path for link in content.links if not (run.folder.path / link.path).exists()] == []
    assert "samples/epoch-0000.parquet" not in [link.path for link in content.links]


def test_the_command_runs_the_saved_experiment_into_another_folder(content: ReportContent, run: Run) -> None:
    assert content.command == f"shelftalk run {run.folder.experiment} --out {run.folder.path}-again"


def test_data_without_titles_or_ratings_is_reported_and_shown(tmp_path: Path) -> None:
    content = content_of(made(tmp_path, untitled_world))
    assert [task.task for task in content.tasks] == ["retrieval", "ranking"]
    assert len(content.left_out) == 2 and "Rating prediction" in content.left_out[0]
    assert content.data["items with title"] == "0.0%" and content.data["interactions with a rating"] == "0.0%"
    assert all(line.startswith("untitled, ") for user in content.users for line in user.history)
    assert "untitled" in render_html(content)


def test_a_run_of_raters_only_has_no_lists_to_show(tmp_path: Path) -> None:
    content = content_of(made(tmp_path, models=("bias",)))
    assert content.users == () and content.users_note == ""
    assert [task.task for task in content.tasks] == ["rating"] and content.tasks[0].differences == ()


def test_a_difference_is_turned_so_that_the_language_model_is_judged() -> None:
    named = Difference("item_knn", "aligned", "recall@10", 0.02, -0.01, 0.05, 0.3)
    assert _oriented(named) == Difference("aligned", "item_knn", "recall@10", -0.02, -0.05, 0.01, 0.3)
    unmeasured = replace(named, value=None, low=None, high=None)
    assert _oriented(unmeasured).value is None
    assert _oriented(Difference("aligned", "aligned+prior", "mae", 1.0, 0.5, 1.5)).first == "aligned+prior"
    baselines = Difference("sasrec", "slist", "recall@10", -0.1, -0.2, 0.0)
    assert _oriented(baselines) == baselines
    assert _oriented(replace(baselines, first="item_knn")).first == "item_knn"  # as they were named
    assert _oriented(replace(baselines, first="popularity", second="item_knn")).second == "popularity"


def test_differences_to_the_reference_come_before_those_between_other_baselines() -> None:
    pairs = [("sasrec", "slist"), ("item_knn", "sasrec"), ("aligned", "sasrec"), ("aligned", "item_knn")]
    differences = [Difference(*pair, "recall@10", 0.1, 0.0, 0.2) for pair in pairs]
    ordered = sorted(differences, key=_pair_order)
    assert [(one.first, one.second) for one in ordered] == [pairs[3], pairs[1], pairs[0], pairs[2]]


def test_the_first_comparison_is_with_the_combined_baselines_where_there_are_any() -> None:
    rivals = ("aligned", "bias", "item_knn", "popularity", "svd_plus_plus", "fusion")
    pairs = [Difference("aligned+prior", name, "recall@10", 0.1, 0.0, 0.2) for name in rivals]
    assert [row.second for row in sorted(pairs, key=_pair_order)][:3] == [
        "fusion",
        "svd_plus_plus",
        "item_knn",
    ]


def test_caveats_follow_from_the_run(run: Run) -> None:
    def warned(
        words: str,
        users: int = 671,
        source: str = "shop",
        tasks: tuple[str, ...] = ("retrieval",),
        trained: bool = True,
    ) -> bool:
        return any(
            words in sentence for sentence in caveats({"users": users, "source": source}, tasks, trained, 99)
        )

    assert warned("671 users show little") and not warned("show little", users=22_363)
    assert warned("commercial", source="movielens-small (bundled)") and not warned("commercial")
    assert warned("2404.00245") and not warned("2404.00245", trained=False)
    assert warned("at random, not by time", tasks=("rating",)) and not warned("at random, not by time")
    assert warned("over 100 candidates", tasks=("retrieval", "ranking"))
    for symbols in (True, False):
        named = caveats({"users": 671, "source": "shop"}, ("retrieval",), True, 99, symbols=symbols)
        assert any("symbols that name items" in sentence for sentence in named) == symbols


def test_the_protocol_states_split_candidates_and_convention(run: Run) -> None:
    retrieval, ranking, rating = (
        protocol(task, run.experiment.split, 3496) for task in ("retrieval", "ranking", "rating")
    )
    assert "all 3,496 items" in retrieval and "MRR end at 20" in retrieval
    assert "20 that the user never took" in ranking
    assert "80% / 10% / 10%" in rating
    assert all("training part alone" in sentence for sentence in (retrieval, ranking, rating))
