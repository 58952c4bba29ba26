"""Benchmarks keep what was measured, on what, and stop with 1 where a claim does not hold."""

import ast
import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import __main__ as command
from benchmarks import harness
from benchmarks.harness import Claim, Result


def _run(monkeypatch, tmp_path: Path, claims: list[Claim], *arguments: str) -> tuple[int, dict]:
    """Exit code and file of a benchmark "toy-one" with these claims."""
    toy = SimpleNamespace(
        CLAIMS=["It is fast."], main=lambda quick: Result(7, claims, [{"quick": quick}], {"toys": "ab12"})
    )
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
    assert (kept["name"], kept["seed"], kept["quick"], kept["data"]) == (
        "toy-one",
        7,
        False,
        {"toys": "ab12"},
    )
    assert {"cores", "memory", "processor", "bf16"} == set(kept["machine"])
    assert {"python", "torch", "polars"} <= set(kept["versions"])
    assert kept["code"] == harness.code()
    assert kept["machine"]["cores"] >= 1 and kept["machine"]["processor"]
    assert "It is fast." in capsys.readouterr().out


def test_a_claim_that_does_not_hold_exits_1_and_stays_in_the_file_with_its_value(
    monkeypatch, tmp_path, capsys
):
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


def git(folder: Path, *arguments: str) -> str:
    identity = {f"GIT_{who}_{what}": "a@x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    command = ["git", "-C", str(folder), *arguments]
    run = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | identity)
    return run.stdout.strip()


def test_a_result_names_the_commit_and_whether_files_differ_from_it_results_aside(tmp_path):
    assert harness.code(tmp_path) == {"commit": None, "changed": None}  # an unpacked archive
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert harness.code(tmp_path) == {"commit": head, "changed": False}
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    (tmp_path / "benchmarks" / "results" / "a.json").write_text("{}")
    assert harness.code(tmp_path) == {"commit": head, "changed": False}
    (tmp_path / "code.py").write_text("2")
    assert harness.code(tmp_path) == {"commit": head, "changed": True}


def test_the_commit_is_that_at_the_beginning_of_the_measurement(monkeypatch, tmp_path):
    heads = iter(["first", "second"])
    monkeypatch.setattr(harness, "code", lambda: {"commit": next(heads), "changed": False})
    _, kept = _run(monkeypatch, tmp_path, [])
    assert kept["code"]["commit"] == "first"


def modules() -> dict[str, ast.Module]:
    folder = Path(command.__file__).parent
    return {path.name: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.py"))}


def settled(claim: ast.Call | ast.Tuple) -> bool:
    """Whether value or `holds` of a claim, its second and last parts, is written down instead of measured."""
    parts = claim.args if isinstance(claim, ast.Call) else claim.elts
    kept = {keyword.arg: keyword.value for keyword in claim.keywords} if isinstance(claim, ast.Call) else {}
    judged = [*parts[1:2], *parts[3:4]] if isinstance(claim, ast.Call) else [parts[0], parts[-1]]
    judged += [value for name, value in kept.items() if name in ("value", "holds")]
    return any(not any(isinstance(node, ast.Name) for node in ast.walk(part)) for part in judged)


def claims_in(tree: ast.Module) -> list[ast.Call | ast.Tuple]:
    """Claims as they are made: Claim(...), or value, target
    and `holds` in a row where a function makes several."""
    made: list[ast.Call | ast.Tuple] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Claim":
            if not any(isinstance(argument, ast.Starred) for argument in node.args):
                made.append(node)
        elif isinstance(node, ast.Tuple) and len(node.elts) == 3 and isinstance(node.elts[2], ast.Compare):
            made.append(node)
    return made


def test_no_claim_holds_because_somebody_wrote_so():
    claims_of = {name: claims_in(tree) for name, tree in modules().items()}
    assert sum(map(len, claims_of.values())) > 60
    assert [
        f"{name}:{one.lineno}" for name, claims in claims_of.items() for one in claims if settled(one)
    ] == []
    for written in (
        'Claim(C[0], x, "> 0", True)',
        "Claim(C, 4.3, '> 4', x > 4)",
        'Claim(C, x, "", holds=True)',
    ):
        assert [settled(claim) for claim in claims_in(ast.parse(written))] == [True]


def test_a_benchmark_that_reads_data_keeps_its_hash():
    """The probe makes its own world, the report its own results, the scale its own interactions and the fuzz
    its own files; what is written to the store of durability is counted alone. No other does without data."""
    kept = {}
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Result":
                kept[name] = len(node.args) + len(node.keywords)
    assert set(kept) >= {f"{name.replace('-', '_')}.py" for name in command.names()}
    assert {name for name, arguments in kept.items() if arguments < 4} == {
        "probe.py", "report.py", "scale.py", "durability.py", "fuzz.py",
    }  # fmt: skip


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
