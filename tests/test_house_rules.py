"""A promise holds only if something reads it: layers, light imports, words, pages, examples, settings, the
lock file."""

import ast
import importlib
import os
import pkgutil
import re
import subprocess
import sys
import tokenize
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
MODULES = [module.name for module in pkgutil.walk_packages([str(PACKAGE)], "shelftalk.")]
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"))]
PAGES += sorted((ROOT / "docs").glob("*.md"))

# The drawing of docs/architecture.md, from the ground up. An arrow points to a lower row only; what stands in
# one row does not import its neighbours, but for the ground, where the plain values are.
LAYERS = (
    (
        "records",
        "recommender",
        "errors",
        "seeds",
        "ragged",
        "settings",
        "declarations",
        "log_linear",
        "recipes",
        "runtime",
        "__version__",
    ),
    ("data",),
    ("indexing",),
    ("tasks",),
    ("models",),
    ("training",),
    ("evaluation", "decoding", "baselines"),
    ("parts",),
    ("experiment",),
    (
        "pipeline/model_folder",
        "pipeline/teacher",
        "pipeline/costs",
        "pipeline/imported_answers",
        "pipeline/fusion",
    ),
    ("pipeline/run",),
    ("pipeline/fresh_backbone", "report", "pipeline/answer_files", "pipeline/index_building"),
    ("pipeline/fine_tuning", "pipeline/preflight", "pipeline/workers", "pipeline/continuation", "publishing"),
    ("pipeline/recommend_stage", "certificate", "batch", "pipeline/distilling"),
    ("pipeline/stages", "serving"),
    ("studies/token_budget",),
    (
        "studies/ablation",
        "studies/comparing",
        "studies/tuning",
        "studies/probing",
        "studies/planning",
        "app/console",
        "app/inspecting",
        "app/scoring",
        "app/options",
        "app/guard",
    ),
    (
        "app/data_commands",
        "app/show_commands",
        "app/study_commands",
        "app/folder_commands",
        "app/serve_commands",
        "app/use_commands",
    ),
    ("app/cli",),
    ("__main__",),
)
HEIGHT = {name: number for number, names in enumerate(LAYERS) for name in names}
ROOMS = ("studies", "app", "pipeline")
"""Packages whose parts have rows of their own."""
HEAVY = ("models", "training", "decoding", "baselines/neural", "studies/planning", "serving")
LIGHT_IN_HEAVY = tuple(
    f"shelftalk.{name.replace('/', '.')}.settings"
    for name in HEAVY
    if (PACKAGE / name / "settings.py").exists()
)
MAY_PRINT = {"guard.py", "console.py"}
LONGEST_FUNCTION = 80
LONGEST_LINE = 110

# Words of no meaning in the field, and what stands for them. In a name every word of it counts: `worth_of`,
# `NoWorth`.
NOT_IN_NAMES = {
    "bearer": "holder",
    "behind": "after",
    "chances": "probabilities",
    "grow": "extend",
    "grown": "extended",
    "lede": "headline",
    "marks": "sentinels",
    "mend": "fix",
    "paper": "meta_model",
    "place": "position, index",
    "places": "positions",
    "said": "decoded, scored",
    "say": "forward, decode, score",
    "slope": "gradient",
    "spoken": "decoded",
    "stranger": "unknown user, unknown item",
    "strangers": "unknown users, unknown items",
    "tell": "describe, format",
    "telling": "report",
    "these": "world",
    "told": "described, formatted",
    "twin": "copy",
    "unheard": "no_op",
    "widen": "expand",
    "worth": "log_prob, value",
}
NOT_ALONE = {"found": "run, match, results"}
"""As the whole name of a variable."""
NOT_IN_TEXT = {
    "bearer": "holder",
    "chances": "probabilities",
    "lede": "headline",
    "mend": "fix, correct",
    "mended": "fixed, corrected",
    "mends": "fixes, corrects",
    "on paper": "on the meta device",
    "spoken": "decoded",
    "stranger": "unknown user, unknown item",
    "strangers": "unknown users, unknown items",
    "unheard": "no_op",
    "way back": "backward pass",
}
PLAIN_SENSE = {("studies/tuning/search.py", "tell"), ("serving/guarding.py", "bearer")}
"""(file, word): where it is another library's, here optuna's `Study.tell`, or a standard's, here the scheme
of keys in HTTP."""


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def _position(path: Path) -> str:
    """The row's word for a file: its package, its name at the top, or what it is of one of ROOMS."""
    return _row(path.relative_to(PACKAGE).with_suffix("").parts)


def _row(names: tuple[str, ...]) -> str:
    inside = len(names) > 1 and names[0] in ROOMS
    return f"{names[0]}/{names[1]}" if inside else names[0]


def _imported(path: Path) -> Iterator[str]:
    """The packages and modules of ours that a file imports, anywhere in it."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides an arrow"
            split = node.module in ("shelftalk", *(f"shelftalk.{room}" for room in ROOMS))
            names = [f"{node.module}.{alias.name}" for alias in node.names] if split else [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (_row(tuple(name.split(".")[1:])) for name in names if name.startswith("shelftalk."))


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (
        node for node in ast.walk(_tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def _in_a_fresh_process(program: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def _block(page: str, heading: str) -> str:
    """The first fenced block under a heading."""
    return (ROOT / page).read_text("utf-8").split(f"\n{heading}\n", 1)[1].split("```")[1]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_point_down_only(path):
    position = _position(path)
    if position == "__init__":
        return  # the front door; what it loads is tested below
    for other in _imported(path):
        if position in ("testing", other):
            continue
        assert other != "testing", f"{position} imports shelftalk.testing, which is for tests"
        ground = HEIGHT[position] == HEIGHT[other] == 0
        assert ground or HEIGHT[other] < HEIGHT[position], (
            f"{position} imports {other}, which stands beside or above it"
        )


def test_every_module_has_its_row_in_the_layers_of_the_architecture_page():
    drawn = set(re.findall(r"[a-z_]+(?:/[a-z_]+)?", _block("docs/architecture.md", "## Layers")))
    present = {_position(path) for path in SOURCES if path.name != "__init__.py" or path.read_text("utf-8")}
    present -= {"__init__", "testing"}
    assert present == set(HEIGHT) - {"__version__"}
    assert present <= drawn


def test_importing_the_package_loads_nothing_and_its_public_names_are_all_there():
    program = (
        "import sys, shelftalk\n"
        "assert not [name for name in sys.modules if name.startswith('shelftalk.')]\n"
        "for name in shelftalk.__all__:\n"
        "    assert getattr(shelftalk, name) is not None\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
    )
    _in_a_fresh_process(program)


def test_nothing_outside_the_language_model_loads_torch_or_transformers():
    heavy = tuple(f"shelftalk.{name.replace('/', '.')}" for name in (*HEAVY, "testing"))
    light = [name for name in MODULES if not f"{name}.".startswith(tuple(f"{one}." for one in heavy))]
    light += LIGHT_IN_HEAVY
    program = (
        "import importlib, sys\n"
        f"for name in {light!r}:\n"
        "    importlib.import_module(name)\n"
        "    heavy = {'torch', 'transformers'} & set(sys.modules)\n"
        "    assert not heavy, f'importing {name} loads {sorted(heavy)}'\n"
    )
    _in_a_fresh_process(program)


def test_the_tree_in_the_readme_is_the_tree():
    names = re.findall(r"^(│  )?[├└]─ (\S+)", _block("README.md", "## The tree"), re.MULTILINE)
    top = {name.rstrip("/") for inside, name in names if not inside}
    package = {name.rstrip("/") for inside, name in names if inside}
    not_listed = {"runs", "dist", "build", "site", "mutants", "src"}
    shown = {".ci", ".github"}
    present = {path.name for path in ROOT.iterdir() if path.name in shown or not path.name.startswith(".")}
    assert top == present - not_listed | {"src/shelftalk"}
    inside = {path.name for path in PACKAGE.iterdir() if not path.name.startswith((".", "__"))}
    assert package == inside - {"py.typed"}


def test_the_tree_in_the_architecture_page_names_every_file_of_the_package():
    named = re.findall(r"\b\w+\.py\b", _block("docs/architecture.md", "## The tree"))
    assert sorted(named) == sorted(path.name for path in SOURCES if path.name != "__init__.py")


@pytest.mark.parametrize("page", ["cli", "settings", "api"])
def test_a_generated_page_is_what_the_package_says(page, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    text = importlib.import_module(f"generate_{page}").page()
    assert (ROOT / f"docs/{page}.md").read_text("utf-8") == text, (
        f"docs/{page}.md is out of date; run `make docs`"
    )


@pytest.mark.slow
def test_the_documentation_site_builds_without_a_warning(tmp_path):
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        str(tmp_path / "site"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "index.html").exists()


def test_the_citation_names_this_version():
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert re.findall(r"^version: (.*)$", citation, re.MULTILINE) == [shelftalk.__version__]


def test_the_walkthrough_shows_what_the_program_does(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    walkthrough = importlib.import_module("walkthrough")
    page = (ROOT / "docs/walkthrough.md").read_text("utf-8")
    shown = {name: text.rstrip("\n") for _, name, text, _ in walkthrough.BLOCK.findall(page)}
    computed = walkthrough.before_training(tmp_path)
    assert {name: shown.get(name) for name in computed} == computed, (
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
    for page in PAGES:
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
        described = (
            isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        )
        assert section or described, f"{kind.__name__}.{field.target.id} has no sentence"


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


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_names_and_sentences_are_in_the_fields_english(path):
    inside = str(path.relative_to(PACKAGE))
    words = [
        *(f"line {line}: {name}: {NOT_IN_NAMES[word]}" for line, name, word in _words_of_names(path)
          if word in NOT_IN_NAMES and (inside, word) not in PLAIN_SENSE),
        *(f"line {line}: {name}: {NOT_ALONE[name]}" for line, name in _assigned(path) if name in NOT_ALONE),
        *(line for line in _not_in_text("\n".join(_sentences(path)))
          if (inside, line.split('"')[1].lower()) not in PLAIN_SENSE),
    ]  # fmt: skip
    assert not words, "\n".join(words)


def _words_of_names(path: Path) -> Iterator[tuple[int, str, str]]:
    """(line, name, word) for every word of every name of the file, and of the file's own name."""
    with path.open("rb") as source:
        tokens = [
            (t.start[0], t.string) for t in tokenize.tokenize(source.readline) if t.type == tokenize.NAME
        ]
    for line, name in [*tokens, (0, path.stem)]:
        yield from ((line, name, word.lower()) for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name))


def _assigned(path: Path) -> Iterator[tuple[int, str]]:
    """(line, name) of every variable that is bound, parameters included."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg


def _sentences(path: Path) -> Iterator[str]:
    """Comments, docstrings and messages, in their order."""
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    with path.open("rb") as source:
        yield from (t.string for t in tokenize.tokenize(source.readline) if t.type in kinds)


def _not_in_text(text: str) -> list[str]:
    words = "|".join(word.replace(" ", r"\s+") for word in NOT_IN_TEXT)
    return [
        f'"{" ".join(word.split())}": {NOT_IN_TEXT[" ".join(word.lower().split())]}'
        for word in re.findall(rf"\b(?:{words})\b", text, re.IGNORECASE)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_a_page_is_in_the_fields_english(page):
    assert not _not_in_text(re.sub(r"`[^`\n]*`", "", page.read_text("utf-8")))


def test_no_line_is_longer_than_the_limit():
    """Of a page: outside tables, fenced blocks, comments and lines that a link makes long."""
    files = [
        path
        for name in ("src", "tests", "benchmarks", "docs")
        for path in sorted((ROOT / name).rglob("*.py"))
    ]
    long = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if len(line) > LONGEST_LINE
    ]
    for page in PAGES:
        outside = re.sub(
            r"^( *)```.*?^\1```", _blank_lines, page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL
        )
        long += [
            f"{page.relative_to(ROOT)}:{number}"
            for number, line in enumerate(outside.splitlines(), 1)
            if len(line) > LONGEST_LINE
            and not line.lstrip().startswith(("|", "!", "<!--"))
            and "](" not in line
        ]
    assert not long, "\n".join(long)


def _blank_lines(block: re.Match[str]) -> str:
    return "\n" * block[0].count("\n")


@pytest.mark.parametrize("menu", ["INDEXINGS", "TASKS", "MODELS"])
def test_every_entry_of_the_menu_loads(menu):
    for name in getattr(parts, menu):
        assert callable(parts.load(getattr(parts, menu), name, menu))


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.toml")), ids=lambda path: path.stem)
def test_every_experiment_file_loads_and_survives_being_written_out(path, tmp_path):
    experiment = load_experiment(path)
    (tmp_path / "resolved.toml").write_text(experiment.toml(), "utf-8")
    assert load_experiment(tmp_path / "resolved.toml") == experiment
    assert path.read_text("utf-8").startswith("#"), "begin with a comment that says what it is for"


def test_what_make_run_does_is_the_bundled_data_with_every_served_and_auxiliary_task():
    run = load_experiment(ROOT / "experiments/movielens-small.toml")
    assert "shelftalk run experiments/movielens-small.toml" in (ROOT / "Makefile").read_text("utf-8")
    assert run.data == Experiment().data  # names no data, so that it is for any
    trained = {name for name, task in run.tasks.items() if task.weight > 0}
    assert trained == {name for name, task in Experiment().tasks.items() if task.weight > 0}


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


def test_the_changelog_has_a_section_of_this_version():
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
    skipped = {".git", ".venv", "runs", "dist", "build", "site", "mutants"}
    for path in sorted(ROOT.rglob("*")):
        parts_of = path.relative_to(ROOT).parts
        dotted = any(
            part.startswith(".") and part not in (".ci", ".github", ".gitignore") for part in parts_of
        )
        binary = path.suffix in (".parquet", ".pyc", ".png", ".xz")
        if path.is_dir() or dotted or binary or skipped & set(parts_of):
            continue
        match = forbidden.search(path.read_text("utf-8"))
        assert not match, f"{path.relative_to(ROOT)}: {match[0] if match else ''}"
