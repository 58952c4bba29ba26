"""A promise holds only if something reads it: layers, light imports, pages, examples, settings, the lock
file."""

import ast
import importlib
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pydantic import BaseModel

import shelftalk
from shelftalk import parts
from shelftalk.experiment import Experiment, load_experiment

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "shelftalk"
SOURCES = sorted(PACKAGE.rglob("*.py"))
MODULES = [found.name for found in pkgutil.walk_packages([str(PACKAGE)], "shelftalk.")]

# The drawing of docs/architecture.md, from the ground up. An arrow points to a lower row only; what stands in
# one row knows nothing of its neighbours, but for the ground, where the plain values are.
LAYERS = (
    (
        "records",
        "recommender",
        "errors",
        "seeds",
        "runs",
        "locks",
        "file_hashes",
        "own_source",
        "processes",
        "machine",
        "ragged",
        "__version__",
    ),  # fmt: skip
    ("data",),
    ("indexing",),
    ("tasks",),
    ("models",),
    ("training",),
    ("evaluation", "decoding", "baselines"),
    ("report",),
    ("parts",),
    ("experiment",),
    ("assemble",),
    ("preflight",),
    ("stages", "publishing"),
    ("equal_tokens",),
    ("console", "inspecting", "ablation", "tuning", "probing", "planning"),
    ("cli",),
    ("__main__",),
)
HEIGHT = {name: number for number, names in enumerate(LAYERS) for name in names}
HEAVY = ("models", "training", "decoding", "planning")
LIGHT_IN_HEAVY = tuple(
    f"shelftalk.{name}.settings" for name in HEAVY if (PACKAGE / name / "settings.py").exists()
)
MAY_PRINT = {"cli.py", "console.py"}
LONGEST_FUNCTION = 80


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def _position(path: Path) -> str:
    """The row's word for a file: its package, or its own name at the top."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imported(path: Path) -> Iterator[str]:
    """The packages and modules of ours that a file imports, anywhere in it."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides an arrow"
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names]
                if node.module == "shelftalk"
                else [node.module or ""]
            )
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("shelftalk."))


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (
        node for node in ast.walk(_tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def _block(page: str, heading: str) -> str:
    """The first fenced block under a heading."""
    return (ROOT / page).read_text("utf-8").split(f"\n{heading}\n", 1)[1].split("```")[1]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_point_down_only(path):
    position = _position(path)
    for other in _imported(path):
        if position in ("testing", other):
            continue
        assert other != "testing", f"{position} imports shelftalk.testing, which is for tests"
        if position == "__init__":
            pytest.fail(f"shelftalk/__init__.py imports {other}: importing the package should load nothing")
        ground = HEIGHT[position] == HEIGHT[other] == 0
        assert ground or HEIGHT[other] < HEIGHT[position], (
            f"{position} imports {other}, which stands beside or above it"
        )


def test_every_module_has_its_row_in_the_layers_of_the_architecture_page():
    drawn = set(re.findall(r"[a-z_]+", _block("docs/architecture.md", "## Layers")))
    present = {_position(path) for path in SOURCES} - {"__init__", "testing"}
    assert present == set(HEIGHT) - {"__version__"}
    assert present <= drawn


def test_nothing_outside_the_language_model_loads_torch_or_transformers():
    light = [m for m in MODULES if m.split(".")[1] not in (*HEAVY, "testing")] + list(LIGHT_IN_HEAVY)
    program = (
        "import importlib, sys\n"
        f"for name in {light!r}:\n"
        "    importlib.import_module(name)\n"
        "    heavy = {'torch', 'transformers'} & set(sys.modules)\n"
        "    assert not heavy, f'importing {name} loads {sorted(heavy)}'\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_the_tree_in_the_readme_is_the_tree():
    names = re.findall(r"^(│  )?[├└]─ (\S+)", _block("README.md", "## The tree"), re.MULTILINE)
    top = {name.rstrip("/") for inside, name in names if not inside}
    package = {name.rstrip("/") for inside, name in names if inside}
    not_told = {"runs", "dist", "build", "src"}
    present = {path.name for path in ROOT.iterdir() if path.name == ".ci" or not path.name.startswith(".")}
    assert top == present - not_told | {"src/shelftalk"}
    assert package == {path.name for path in PACKAGE.iterdir() if not path.name.startswith((".", "__"))}


def test_the_tree_in_the_architecture_page_names_every_file_of_the_package():
    named = re.findall(r"\b\w+\.py\b", _block("docs/architecture.md", "## The tree"))
    assert sorted(named) == sorted(path.name for path in SOURCES if path.name != "__init__.py")


def test_the_command_line_page_is_what_the_program_says(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    page = importlib.import_module("generate_cli").page()
    assert (ROOT / "docs/cli.md").read_text("utf-8") == page, "the command line changed; run `make docs`"


def test_the_walkthrough_shows_what_the_program_does(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    walkthrough = importlib.import_module("walkthrough")
    page = (ROOT / "docs/walkthrough.md").read_text("utf-8")
    shown = {name: text.rstrip("\n") for _, name, text, _ in walkthrough.BLOCK.findall(page)}
    found = walkthrough.before_training(tmp_path)
    assert {name: shown.get(name) for name in found} == found, (
        "what the walkthrough shows changed; run `make docs`"
    )


def test_the_walkthrough_leaves_no_block_empty(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    blocks = importlib.import_module("walkthrough").BLOCK.findall(
        (ROOT / "docs/walkthrough.md").read_text("utf-8")
    )
    empty = [name for _, name, text, _ in blocks if not text.strip()]
    assert not empty, "after a full `make run`: make docs RUN=runs/movielens-small"


def test_every_prompt_in_the_concepts_page_is_a_reviewed_one():
    reviewed = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "tests/golden").glob("*.md")))
    prompts = re.findall(r"```text\n(.*?)```", (ROOT / "docs/concepts.md").read_text("utf-8"), re.DOTALL)
    assert len(prompts) == len(parts.TASKS)
    for prompt in prompts:
        assert prompt in reviewed, f"not in tests/golden:\n{prompt}"


def test_links_between_the_pages_lead_somewhere():
    for page in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        *(ROOT / "docs").glob("*.md"),
    ):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]*)?\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"


def test_every_setting_has_a_sentence():
    for name in MODULES:
        module = importlib.import_module(name)
        kinds = [
            kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, BaseModel)
        ]
        for kind in (kind for kind in kinds if kind.__module__ == name):
            assert kind.model_config.get("frozen") and kind.model_config.get("extra") == "forbid", (
                f"{kind} can change or takes anything"
            )
            _check_sentences(name, kind)


def _check_sentences(module: str, kind: type[BaseModel]) -> None:
    """Each field is followed by a string; sections of the experiment are explained by their own type."""
    path = PACKAGE.parent / Path(*module.split(".")).with_suffix(".py")
    path = path if path.exists() else path.with_suffix("") / "__init__.py"
    body = next(
        node.body
        for node in _tree(path).body
        if isinstance(node, ast.ClassDef) and node.name == kind.__name__
    )
    for field, after in zip(body, [*body[1:], None], strict=True):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        annotation = (
            kind.model_fields[field.target.id].annotation if field.target.id in kind.model_fields else None
        )
        section = isinstance(annotation, type) and issubclass(annotation, BaseModel)
        told = (
            isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        )
        assert section or told, f"{kind.__name__}.{field.target.id} has no sentence"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_is_public_has_a_docstring(path):
    tree = _tree(path)
    assert ast.get_docstring(tree) or not tree.body, "the file says nothing about itself"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_function_is_long_and_nothing_is_left_behind(path):
    for function in _functions(path):
        length = (function.end_lineno or 0) - function.lineno + 1
        assert length <= LONGEST_FUNCTION, f"{function.name} has {length} lines"
    assert not re.search(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b", path.read_text("utf-8"))
    if path.name not in MAY_PRINT:
        calls = [
            node
            for node in ast.walk(_tree(path))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        ]
        assert not [call.lineno for call in calls if call.func.id == "print"], "only the console prints"


@pytest.mark.parametrize("menu", ["INDEXINGS", "TASKS", "MODELS"])
def test_every_entry_of_the_menu_loads(menu):
    for name in getattr(parts, menu):
        assert callable(parts.load(getattr(parts, menu), name, menu))


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.toml")), ids=lambda path: path.stem)
def test_every_experiment_file_loads_and_survives_being_written_out(path, tmp_path):
    experiment = load_experiment(path)
    (tmp_path / "resolved.toml").write_text(experiment.toml(), "utf-8")
    assert load_experiment(tmp_path / "resolved.toml") == experiment
    assert path.read_text("utf-8").startswith("#"), "say in a comment what it is for"


def test_the_movielens_experiment_is_the_programs_defaults():
    assert load_experiment(ROOT / "experiments/movielens-small.toml") == Experiment()


def test_the_lock_file_has_plain_pins_that_satisfy_the_package():
    lines = (ROOT / "requirements.lock").read_text("utf-8").splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), "name==version and nothing else"
    pinned = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    for wanted in map(
        Requirement, [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    ):
        version = pinned.get(canonicalize_name(wanted.name))
        assert version and wanted.specifier.contains(version), (
            f"{wanted} is not what the lock file pins ({version})"
        )


def test_the_changelog_tells_of_this_version():
    assert re.search(
        rf"^## {re.escape(shelftalk.__version__)}\b", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE
    )


def test_no_file_names_a_folder_of_one_machine_or_the_host_of_a_registry():
    folders = "|".join("/" + name + "/" for name in ("root", "home", "work", "opt", "Users", "tmp/w"))
    hosts = "|".join(
        re.escape(name + end)
        for name, end in (("pypi", ".org"), ("python", "hosted.org"), ("pytorch", ".org/whl"))
    )
    forbidden = re.compile(rf"(?<![\w.~-])(?:{folders})|{hosts}")
    skipped = {".git", ".venv", "runs", "dist", "build"}
    for path in sorted(ROOT.rglob("*")):
        parts_of = path.relative_to(ROOT).parts
        hidden = any(part.startswith(".") and part not in (".ci", ".gitignore") for part in parts_of)
        if (
            path.is_dir()
            or hidden
            or skipped & set(parts_of)
            or path.suffix in (".parquet", ".pyc", ".png", ".xz")
        ):
            continue
        assert not (found := forbidden.search(path.read_text("utf-8"))), (
            f"{path.relative_to(ROOT)}: {found[0] if found else ''}"
        )
