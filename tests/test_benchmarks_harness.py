"""Benchmarks keep what was measured, on what, and stop with 1 where a claim does not hold."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import __main__ as command
from benchmarks import harness
from benchmarks.harness import Claim, Result


def _run(monkeypatch, tmp_path: Path, claims: list[Claim], *arguments: str) -> tuple[int, dict]:
    """Exit code and file of a benchmark "toy-one" with these claims."""
    toy = SimpleNamespace(CLAIMS=["It is fast."], main=lambda quick: Result(7, claims, [{"quick": quick}], {"toys": "ab12"}))
    monkeypatch.setattr(command, "names", lambda: ["toy-one"])
    monkeypatch.setattr(command, "module", lambda name: toy)
    written = harness.write_result
    monkeypatch.setattr(harness, "write_result", lambda *given: written(*given, folder=tmp_path))
    code = command.main(["toy-one", *arguments])
    (path,) = tmp_path.iterdir()
    return code, {"file": path.name, **json.loads(path.read_text())}


def test_a_benchmark_whose_claims_hold_exits_0_and_keeps_what_it_ran_on(monkeypatch, tmp_path, capsys):
    code, kept = _run(monkeypatch, tmp_path, [Claim("It is fast.", 4.3, ">= 4", True)])
    assert code == 0
    assert kept["file"] == "toy-one.json"
    assert kept["claims"] == [{"claim": "It is fast.", "value": 4.3, "target": ">= 4", "holds": True}]
    assert (kept["name"], kept["seed"], kept["quick"], kept["data"]) == ("toy-one", 7, False, {"toys": "ab12"})
    assert {"cores", "memory", "processor", "bf16"} == set(kept["machine"])
    assert {"python", "torch", "polars"} <= set(kept["versions"])
    assert "It is fast." in capsys.readouterr().out


def test_a_claim_that_does_not_hold_exits_1_and_stays_in_the_file_with_its_value(monkeypatch, tmp_path, capsys):
    claims = [Claim("It is fast.", 4.3, ">= 4", True), Claim("It is small.", 9.1, "<= 4", False)]
    code, kept = _run(monkeypatch, tmp_path, claims)
    assert code == 1
    assert [(claim["value"], claim["holds"]) for claim in kept["claims"]] == [(4.3, True), (9.1, False)]
    assert "NO" in capsys.readouterr().out


def test_a_quick_run_is_told_so_and_writes_beside_the_full_one(monkeypatch, tmp_path):
    _, kept = _run(monkeypatch, tmp_path, [], "--quick")
    assert (kept["file"], kept["quick"], kept["runs"]) == ("toy-one.quick.json", True, [{"quick": True}])


def test_a_value_that_is_no_number_is_refused_and_leaves_the_earlier_file(tmp_path):
    kept = harness.write_result("toy", False, 0, [], [], folder=tmp_path).read_text()
    with pytest.raises(ValueError):
        harness.write_result("toy", False, 0, [Claim("c", float("nan"), "> 0", False)], [], folder=tmp_path)
    assert (tmp_path / "toy.json").read_text() == kept


def test_an_unknown_name_is_answered_with_the_known_ones(capsys):
    assert command.main(["no-such"]) == 2
    assert "known are:" in capsys.readouterr().err


def test_every_benchmark_has_claims_and_a_main():
    for name in command.names():
        module = command.module(name)
        assert callable(module.main), name
        assert module.CLAIMS and all(len(sentence.split()) > 2 for sentence in module.CLAIMS), name


def test_the_hash_of_data_depends_on_names_and_contents_and_not_on_the_order_given(tmp_path):
    one, two = tmp_path / "a.csv", tmp_path / "b.csv"
    one.write_text("x")
    two.write_text("y")
    known = harness.data_hash([one, two])
    assert harness.data_hash([two, one]) == known
    one.write_text("y")
    two.write_text("x")
    assert harness.data_hash([one, two]) != known
