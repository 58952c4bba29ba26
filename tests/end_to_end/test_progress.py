"""Progress that can be believed: one line per stage, whose total is known from its first event to its last
and reached once."""

from __future__ import annotations

from pathlib import Path

import pytest

from shelftalk.decoding.workload import PlannedCall, WorkloadProgress
from shelftalk.experiment import Experiment
from shelftalk.pipeline import stages
from shelftalk.runtime.progress import OnProgress
from shelftalk.runtime.run_folder import RunFolder
from shelftalk.studies.ablation.grid import load_grid
from shelftalk.studies.ablation.study import ablate
from shelftalk.studies.planning.plan import Hardware, plan
from shelftalk.studies.probing.report import probed_run
from shelftalk.studies.probing.study import ProbeSettings, mixtures, study
from shelftalk.studies.probing.world import WorldSettings
from shelftalk.studies.token_budget.progress import UNITS, StudyProgress
from shelftalk.studies.tuning.space import load_space
from shelftalk.studies.tuning.study import tune
from tests.end_to_end.tiny import write_experiment

Events = dict[str, list[tuple[int, int, str]]]
TRAINED = "[{kind}]\n{more}tokens = 2000\nusers = 10\nseeds = [1, 2]\n"


def recording(events: Events) -> OnProgress:
    return lambda stage, *reports: events.setdefault(stage, []).append(reports)


def believable(events: Events) -> bool:
    """Says which stage is not."""
    for stage, reports in events.items():
        done, totals = [event[0] for event in reports], {event[1] for event in reports}
        assert len(totals) == 1, f"{stage} has several totals: {sorted(totals)}"
        assert done == sorted(done), f"{stage} goes back"
        assert done[0] == 0 and [number in totals for number in done] == [False] * (len(done) - 1) + [True], (
            f"{stage}: {done}"
        )
    return True


@pytest.fixture(scope="module")
def run(tiny: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Events:
    """What a run from the data to the report tells, its answers given in batches of eight."""
    events: Events = {}
    decoding = tiny.decoding.model_copy(update={"batch_size": 8})
    stages.run_all(
        RunFolder(tmp_path_factory.mktemp("run") / "out"),
        tiny.model_copy(update={"decoding": decoding}),
        recording(events),
    )
    return events


def test_every_stage_of_a_run_knows_its_total_from_the_start_and_reaches_it_once(
    run: Events, tiny: Experiment
) -> None:
    assert believable(run)
    assert list(run) == [
        *["prepare", "index", "write", "train"],
        *(f"recommend.{name}" for name in tiny.models),
        "evaluate",
        "certify",
        "report",
    ]


def test_stages_that_are_made_of_pieces_count_them(run: Events, tiny: Experiment) -> None:
    models, rankers = len(tiny.models), 4  # of these popularity and item_knn, and the language model's two
    assert models == 6
    # retrieval and ranking: two metrics, and rating with one, of all pairs of four models each
    pieces = 3 * (4 + 4 + 4) + (2 + 2 + 1) * rankers * (rankers - 1) // 2
    assert run["evaluate"][0][1] == pieces + 1
    assert [text for *_, text in run["report"]] == [
        "collecting", "writing", "report.json", "report.md", "report.html", "finished"
    ]  # fmt: skip
    assert [text for *_, text in run["recommend.item_knn"]] == [
        "fitting", "fitted", "answering retrieval", "answering ranking", "finished"
    ]  # fmt: skip


def test_a_plan_counts_its_pieces_from_the_start(tiny: Experiment) -> None:
    events: Events = {}
    plan(tiny, Hardware(), 10, recording(events))
    assert believable(events) and list(events) == ["plan"]
    trained = [name for name, settings in tiny.tasks.items() if settings.weight]
    texts = [text for *_, text in events["plan"]]
    assert texts[3:-3] == [f"counting samples: {name}" for name in trained]
    assert events["plan"][0][1] == len(texts) - 1


def test_the_probe_of_a_run_is_one_line_over_both_models_and_all_templates(finished: RunFolder) -> None:
    events: Events = {}
    probed_run(finished.path, 5, recording(events))
    assert (
        believable(events) and list(events) == ["probe"] and events["probe"][0][1] == len(events["probe"]) - 1
    )
    assert {"before alignment", "aligned"} <= {text.partition(":")[0] for *_, text in events["probe"]}


def test_a_language_model_counts_all_requests_to_come(run: Events, tiny: Experiment) -> None:
    for name in ("aligned", "aligned+prior"):
        reports = run[f"recommend.{name}"]
        assert (
            len(reports) > 10
            and max(after[0] - before[0] for before, after in zip(reports, reports[1:], strict=False))
            < reports[0][1] / 2
        )
    assert run["recommend.aligned"][0][1] != run["recommend.aligned+prior"][0][1]


def test_a_grid_is_one_line_from_its_first_run_to_its_last(
    tiny: Experiment, world: Path, tmp_path: Path
) -> None:
    write_experiment(tmp_path / "tiny.toml", world)
    head = TRAINED.format(
        kind="ablation",
        more='experiment = "tiny.toml"\npart = "validation"\nbaseline = "a"\nresamples = 100\n',
    )
    (tmp_path / "grid.toml").write_text(
        f'{head}\n[[variant]]\nname = "a"\n\n[[variant]]\nname = "b"\nnano.width = 16\n'
    )
    events: Events = {}
    ablate(load_grid(tmp_path / "grid.toml"), tmp_path / "out", recording(events))
    assert believable(events) and "train" not in events
    assert events["runs"][0][1] == 4 * UNITS and any(
        text.startswith("b, seed 2: evaluate ") for *_, text in events["runs"]
    )
    again: Events = {}
    ablate(load_grid(tmp_path / "grid.toml"), tmp_path / "out", recording(again))
    assert believable(again)


def test_a_search_is_one_line_and_its_finals_another(world: Path, tmp_path: Path) -> None:
    write_experiment(tmp_path / "tiny.toml", world)
    more = "trials = 3\nrandom_trials = 2\nunpruned_trials = 1\nfinalists = 1\n"
    rates = "training.learning_rate = { low = 1e-4, high = 1e-2, log = true }"
    (tmp_path / "space.toml").write_text(f"{TRAINED.format(kind='tuning', more=more)}\n[space]\n{rates}\n")
    events: Events = {}
    tune(load_space(tmp_path / "tiny.toml", tmp_path / "space.toml"), tmp_path / "out", recording(events))
    assert believable(events) and list(events) == ["prepare", "trials", "finals"]
    assert (events["trials"][0][1], events["finals"][0][1]) == (3 * UNITS, 4 * UNITS)


def test_a_probe_is_one_line_over_seeds_and_mixtures() -> None:
    small = WorldSettings(
        users=200, pairs=8, rules=8, rules_taken=1, shelves=4, shelves_taken=2, choices=4, choices_taken=2
    )
    settings = ProbeSettings(world=small, tokens=2000, repeats=1)
    events: Events = {}
    study(settings, mixtures(["masked_items"], controls=False), [0, 1], recording(events))
    assert believable(events) and list(events) == ["probe"] and events["probe"][0][1] == 4 * UNITS


def test_calls_of_a_model_add_up_to_what_was_announced() -> None:
    reports: list[tuple[int, int, str]] = []
    workload = WorkloadProgress(lambda *event: reports.append(event))
    workload.plan(
        [PlannedCall("retrieval", 10, 3), PlannedCall("rating", 0, 1), PlannedCall("ranking", 4, 1)]
    )
    for done, of in ((8, 10), (10, 10), (4, 4), (5, 5)):  # the last was not announced
        workload(done, of)
    assert reports == [
        (0, 34, "retrieval"),
        (24, 34, "retrieval"),
        (30, 34, "retrieval"),
        (34, 34, "ranking"),
    ]


def test_trainings_that_are_left_out_do_not_make_progress_go_back() -> None:
    events: Events = {}
    shares = StudyProgress(recording(events), "runs", 3, "")
    first = shares.training(0, "a")
    first("train", 50, 100, "loss 5")
    first("evaluate", 0, 10, "")
    first("train", 20, 100, "loss 4")
    shares.training(2, "c")("evaluate", 10, 10, "rating")
    shares.finish()
    assert believable(events) and [done for done, *_ in events["runs"]] == [0, 0, 42, 85, 85, 200, 299, 300]
