"""Writes docs/use.ipynb with its answers: python docs/generate_notebook.py PUBLISHED. The folder is what
`shelftalk publish runs/movielens-small --with-prior` makes; a test runs the cells on a small shop."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).parent / "use.ipynb"
FOLDER = "runs/movielens-small/published"
CELLS: tuple[tuple[str, str], ...] = (
    (
        "markdown",
        "# A published model in a notebook\n\nMade from the bundled MovieLens; the answers are those of the "
        "program. [Use from Python](use.md) explains each call.",
    ),
    (
        "code",
        "import polars as pl\n\nimport shelftalk\nfrom shelftalk import Filter, Request, Text\n\n"
        f'model = shelftalk.load("{FOLDER}")\nmodel',
    ),
    ("markdown", "Somebody who watched these, the latest last:"),
    (
        "code",
        'films = r"^(Alien|Blade Runner|Matrix, The) \\("\n'
        'wanted = model.items.filter(pl.col("title").str.contains(films))\n'
        'history = wanted["item_id"].to_list()\nwanted.select("item_id", "title")',
    ),
    ("code", "model.recommend(history, k=5)"),
    ("markdown", "Why the first of them: by how much its score falls without each entry of the history."),
    ("code", "best = model.recommend(history, k=1)[0]\nmodel.why(history, best.item)"),
    ("markdown", "The model's own neighbours of one item:"),
    ("code", 'item = (history or model.items["item_id"].to_list())[0]\nmodel.similar(item, k=5)'),
    ("markdown", "What the catalogue lacks is said in words, and a filter is kept to:"),
    (
        "code",
        'comedies = model.items.filter(pl.col("categories").str.contains("Comedy"))["item_id"].to_list()\n'
        "model.recommend(\n"
        '    [*history, Text("a film about a detective in Los Angeles")],\n'
        "    k=5,\n"
        "    filters=Filter(only=tuple(comedies)) if comedies else None,\n"
        ")",
    ),
    ("markdown", "Many requests at once give plain values:"),
    (
        "code",
        'requests = [Request("u1", tuple(history)), Request("u2", ())]\n'
        "[ranking.items[:3] for ranking in model.recommend(requests, k=10)]",
    ),
)


def run_cells(folder: str) -> list[list[Any]]:
    """What each code cell ends in, in order, with `folder` in place of the one that is shown."""
    names: dict[str, Any] = {}
    results = []
    for kind, source in CELLS:
        if kind != "code":
            continue
        *before, last = ast.parse(source.replace(FOLDER, folder)).body
        exec(compile(ast.Module(before, []), "cell", "exec"), names)
        assert isinstance(last, ast.Expr)
        results.append([eval(compile(ast.Expression(last.value), "cell", "eval"), names)])
    return results


def notebook(results: list[list[Any]]) -> dict[str, Any]:
    """The notebook as its file format has it."""
    cells, number = [], 0
    for position, (kind, source) in enumerate(CELLS):
        cell: dict[str, Any] = {"cell_type": kind, "id": f"cell-{position}", "metadata": {}}
        cell["source"] = source.splitlines(keepends=True)
        if kind == "code":
            (value,), number = results[number], number + 1
            data = {"text/plain": repr(value).splitlines(keepends=True)}
            if hasattr(value, "_repr_html_"):
                data["text/html"] = value._repr_html_().splitlines(keepends=True)
            output = {
                "output_type": "execute_result",
                "execution_count": number,
                "metadata": {},
                "data": data,
            }
            cell |= {"execution_count": number, "outputs": [output]}
        cells.append(cell)
    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


if __name__ == "__main__":
    made = notebook(run_cells(sys.argv[1]))
    NOTEBOOK.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", "utf-8")
