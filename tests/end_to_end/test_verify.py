"""`shelftalk verify` passes on what the program wrote, and names each kind of tampering for what it is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shelftalk.certificate import record, report_checks
from shelftalk.certificate import verify as verify_module
from shelftalk.certificate.verify import Verification, verify
from shelftalk.evaluation import comparison
from shelftalk.evaluation.comparison import Comparison
from shelftalk.experiment import Experiment
from shelftalk.pipeline import stages
from shelftalk.runtime.run_folder import RunFolder, read_signed, remove
from tests.end_to_end.tampering import (
    KINDS,
    LEFT_TO_HASHES,
    Kind,
    cell,
    change,
    covered_up,
    edit_json,
    flip_last_byte,
    metric_digit,
    report_number,
    sign_certificate,
)
from tests.end_to_end.tiny import call, command_in, sign_anew, write_experiment
from tests.verified import verified

CopyOf = Callable[[RunFolder], RunFolder]


def kinds_of(result: Verification) -> set[str]:
    return {problem.kind for problem in result.problems}


@pytest.fixture(scope="module")
def sound(finished: RunFolder) -> RunFolder:
    return verified(finished)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_tampering_is_named_for_what_it_is(kind: Kind, sound: RunFolder, copy_of: CopyOf) -> None:
    run = copy_of(sound)
    kind.tamper(run)
    result = verify(run)
    assert kind.called in kinds_of(result), result.problems
    for problem in result.problems:
        assert problem.sentence.endswith(".") and "\n" not in problem.sentence


@pytest.mark.parametrize(
    "kind", [one for one in KINDS if one.name not in LEFT_TO_HASHES], ids=lambda kind: kind.name
)
def test_what_follows_from_other_files_is_found_even_where_all_hashes_were_made_to_fit(
    kind: Kind, sound: RunFolder, copy_of: CopyOf
) -> None:
    run = copy_of(sound)
    kind.tamper(run)
    covered_up(run)
    result = verify(run)
    assert (kind.called in kinds_of(result)) == kind.follows, result.problems


def test_a_forger_who_makes_everything_fit_is_found_by_the_published_fingerprint_alone(
    sound: RunFolder, copy_of: CopyOf
) -> None:
    published = read_signed(sound.manifest("certify"))["facts"]["certificate"]
    run = copy_of(sound)
    flip_last_byte(run.model / "model.safetensors")
    covered_up(run)
    assert verify(run).holds  # answers are not asked of the model again
    assert verify(sound, fingerprint=published).holds
    assert "certificate" in kinds_of(verify(run, fingerprint=published))


def test_a_changed_data_file_is_named(world: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(world, tmp_path / "data"))
    experiment = write_experiment(tmp_path / "tiny.toml", data, models=["popularity", "bias"])
    assert call("run", experiment, "--out", tmp_path / "run").exit_code == 0
    run = RunFolder(tmp_path / "run")
    assert verify(run).holds
    change(data / "interactions.parquet", lambda frame: frame.with_columns(rating=pl.lit(3.0)))
    result = verify(run)
    assert kinds_of(result) == {"data file"} and "interactions" in result.problems[0].sentence
    shutil.rmtree(data)
    gone = verify(run)
    assert gone.holds and any("not on this machine" in what for what in gone.left_out)


def test_any_damage_of_any_file_is_a_problem_and_never_a_traceback(sound: RunFolder, copy_of: CopyOf) -> None:
    run = copy_of(sound)
    names = [path for path in sorted(run.path.rglob("*")) if path.is_file()]
    watched = [path for path in names if "checkpoints" not in path.parts and "tensorboard" not in path.parts]
    for path in watched[::3]:
        before = path.read_bytes()
        path.write_bytes(before[: len(before) // 2])
        assert not verify(run).holds, path
        path.write_bytes(before)
    assert verify(run).holds


def test_the_command_prints_the_facts_and_ends_with_one_where_something_does_not_hold(
    sound: RunFolder, copy_of: CopyOf
) -> None:
    good = call("verify", sound.path)
    assert good.exit_code == 0 and ": verified (" in good.stdout and "holds           answers" in good.stdout
    run = copy_of(sound)
    metric_digit(run)
    bad = call("verify", run.path, "--json")
    content = json.loads(bad.stdout)
    assert bad.exit_code == 1 and content["verified"] is False
    assert {problem["kind"] for problem in content["problems"]} == {"metric", "fact"}
    text = call("verify", run.path)
    assert text.exit_code == 1 and "NOT verified" in text.stdout and "ndcg@10" in text.stdout


def test_what_cannot_be_verified_at_all_is_refused(tmp_path: Path, tiny: Experiment) -> None:
    assert "MissingFile" in call("verify", tmp_path).stderr
    (tmp_path / "run").mkdir()
    experiment = write_experiment(tmp_path / "one.toml", Path(str(tiny.data.folder)), models=["popularity"])
    assert call("prepare", experiment, "--out", tmp_path / "run").exit_code == 0
    refused = call("verify", tmp_path / "run")
    assert refused.exit_code == 2 and "nothing to verify; run `shelftalk run " in refused.stderr
    assert call(*command_in(refused.stderr)).exit_code == 0
    assert call("verify", tmp_path / "run").exit_code == 0


def test_verifying_loads_no_torch(sound: RunFolder) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from shelftalk.certificate.verify import verify\n"
        "from shelftalk.runtime.run_folder import RunFolder\n"
        "assert verify(RunFolder(Path(sys.argv[1]))).holds\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(sound.path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_certificate_is_the_same_when_nothing_changed_and_is_in_the_report(
    sound: RunFolder, experiment_file: Path, tiny: Experiment, copy_of: CopyOf
) -> None:
    run = copy_of(sound)
    before = run.certificate.read_bytes()
    shutil.rmtree(run.samples)  # written again, by another process at another time
    result = call("run", experiment_file, "--out", run.path, "--json")
    assert run.certificate.read_bytes() == before
    fingerprint = json.loads(before)["sha256"]
    assert json.loads(result.stdout)["certificate"] == fingerprint
    assert fingerprint in (run.path / "report.html").read_text()
    assert fingerprint in (run.path / "report.md").read_text()
    remove(run.manifest("certify"))
    stages.report(run, tiny)
    assert run.certificate.read_bytes() == before


def test_a_run_that_was_never_certified_says_so(sound: RunFolder, copy_of: CopyOf) -> None:
    run = copy_of(sound)
    for path in (run.certificate, run.manifest("certify"), run.manifest("report")):
        remove(path)
    result = verify(run)
    assert kinds_of(result) == {"certificate"}
    (command,) = {tuple(command_in(problem.sentence)) for problem in result.problems}
    assert call(*command).exit_code == 0 and verify(run).holds


def test_a_report_of_another_program_is_compared_in_its_figures_alone(
    sound: RunFolder, copy_of: CopyOf
) -> None:
    """As that of an earlier version, which worded it otherwise and lacked what came later."""
    run = copy_of(sound)
    edit_json(run.certificate, lambda content: content["hashes"].update(program="another"), sign=True)
    sign_certificate(run)
    fingerprint = read_signed(run.manifest("certify"))["facts"]["certificate"]

    def edit(report: Any) -> None:
        report.update(certificate=fingerprint, caveats=["In other words."])
        del report["elsewhere"], report["slices"][0]["intervals"]

    edit_json(run.path / "report.json", edit)
    certified = run.record("certify")
    assert certified
    edit_json(
        run.manifest("report"),
        lambda manifest: manifest["inputs"]["built on"].update(certify=certified.fingerprint),
        sign=True,
    )
    sign_anew(run, "report")
    result = verify(run)
    assert result.holds and any("another version" in what for what in result.left_out), result.problems
    report_number(run)
    sign_anew(run, "report")
    assert kinds_of(verify(run)) == {"report"}


def test_a_later_version_that_computes_more_and_has_more_settings_verifies_an_earlier_run(
    sound: RunFolder, copy_of: CopyOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_of(sound)
    computed = comparison.compare

    def more(*arguments: Any, **named: Any) -> Comparison:
        """A metric, a column and a table that the run lacks."""
        result = computed(*arguments, **named)
        result.metrics["retrieval"]["item_knn"]["later@10"] = 0.5
        tables = {name: frame.with_columns(later=pl.lit(1.0)) for name, frame in result.tables.items()}
        return Comparison(result.metrics, {**tables, "later": tables["slices"]})

    monkeypatch.setattr(comparison, "compare", more)
    assert not verify(run).holds
    monkeypatch.setattr(record, "program_hash", lambda: "later")
    monkeypatch.setattr(verify_module, "program_hash", lambda: "later")
    monkeypatch.setattr(report_checks, "program_hash", lambda: "later")
    result = verify(run)
    assert result.holds, result.problems
    cell(run.evaluation("differences"), "p", 0, 0.0001)
    sign_anew(run, "evaluate")
    assert "difference" in kinds_of(verify(run))


def test_the_hash_of_the_settings_is_that_of_what_the_run_saved(sound: RunFolder, tiny: Experiment) -> None:
    saved = read_signed(sound.signed_experiment)["experiment"]
    assert record.settings_hash(saved) == record.settings_hash(tiny.model_dump(mode="json"))
    for other in ({"name": "other"}, {"evaluation": {**saved["evaluation"], "shown_users": 9}}):
        assert record.settings_hash(saved | other) == record.settings_hash(saved)
    for other in ({"seed": 9}, {"evaluation": {**saved["evaluation"], "resamples": 999}}, {"later": 1}):
        assert record.settings_hash(saved | other) != record.settings_hash(saved)
