"""Each figure of the documents stands in the file that its section names, and a changed one is noticed."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import pytest

from benchmarks import _figures
from benchmarks._figures import Figure, Numbers, figures, notes, numbers, sources_of

ROOT = Path(__file__).parents[1]
GENERATED = {"api.md", "cli.md", "settings.md", "walkthrough.md"}
"""Held by tests of their own."""
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md") if path.name not in GENERATED),
]


@cache
def numbers_of(sources: tuple[str, ...]) -> Numbers:
    return numbers(sources)


def figures_of(document: str) -> list[Figure]:
    return figures((ROOT / document).read_text(encoding="utf-8"))


def nudged(written: str) -> str:
    """A number whose last digit is one more: of an interval, that of its low end."""
    number = re.search(_figures.NUMBER, written)
    assert number
    last = number.end() - 1
    return f"{written[:last]}{(int(written[last]) + 1) % 10}{written[last + 1 :]}"


def long(figure: Figure) -> bool:
    """Three digits and more, or an interval: what is not in a file by chance."""
    return len(re.sub(r"\D", "", figure.text).lstrip("0")) >= 3


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_figure_stands_in_a_file_that_its_section_names(document: str) -> None:
    lost = [
        f"{document}:{figure.line} {figure} in {', '.join(figure.sources) or 'no named file'}"
        for figure in figures_of(document)
        if not (figure.sources and numbers_of(figure.sources).hold(figure))
    ]
    assert not lost, "\n".join(lost)


def test_a_figure_changed_in_its_last_digit_is_noticed() -> None:
    """By chance the changed number may be another one of the file: rarely so with three digits or more, more
    often in the file of the baselines, which has thousands of numbers."""
    changed = [
        Figure(nudged(figure.text), figure.unit, figure.line, figure.sources)
        for document in ("README.md", "docs/results.md")
        for figure in figures_of(document)
        if long(figure)
    ]
    noticed = [not numbers_of(figure.sources).hold(figure) for figure in changed]
    assert len(changed) > 350 and sum(noticed) > 0.85 * len(changed)
    intervals = [seen for seen, figure in zip(noticed, changed, strict=True) if figure.text.startswith("[")]
    assert len(intervals) > 80 and sum(intervals) > 0.98 * len(intervals)


def test_the_page_goes_red_where_the_main_figure_of_the_readme_is_another() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace(".1878 [.1595", ".1876 [.1595")
    assert [f.text for f in figures(text) if f.sources and not numbers_of(f.sources).hold(f)] == [".1876"]


def test_no_note_is_left_over_and_each_says_what_when_how_and_why() -> None:
    used = [(f.sources, str(f)) for name in DOCUMENTS for f in figures_of(name)]
    for name, note in notes().items():
        assert set(note) == {"figures", "what", "when", "how", "why"} and all(note.values()), name
        needed = {text for sources, text in used if f"notes.{name}" in sources}
        assert set(note["figures"]) <= needed, (name, set(note["figures"]) - needed)


def test_no_note_repeats_what_a_result_file_holds() -> None:
    """Else a note would cover a figure that was changed."""
    for document in DOCUMENTS:
        for figure in figures_of(document):
            files = tuple(source for source in figure.sources if not source.startswith("notes."))
            noted = numbers_of(tuple(source for source in figure.sources if source.startswith("notes.")))
            if files and long(figure) and noted.hold(figure):
                assert not numbers_of(files).hold(figure), f"{document}:{figure.line} {figure}"


PAGE = """
# A page

<!-- figures: a.json, b.json(row=one, of=x y) -->
Recall@10 +.0447 [.0238, -.0641], 18.8 × and 5.9 and 15.2 %; 6.7 minutes, `0.5` in
[a link](https://x.org/1.5).
Version 0.1.0, SmolLM2-135M, 2e-4, T5, 95 % intervals, arXiv 2404.00245, Python 3.11, 20 beams, 1,000 users,
671 people, 40 MB a step, 80 texts a second.

| name 1.5 | value | note |
| --- | ---: | --- |
| 7.7 | 763 | 1.2 / 2.9 GB |
| row | **.5**\\* | 4 of 5 |

```sh
sleep 1.5
```

## Next

3.5 apples
"""


def test_what_is_a_figure_and_what_is_none() -> None:
    found = figures(PAGE)
    assert [str(figure) for figure in found] == [
        "[.0238, -.0641]", "+.0447", "18.8 ×", "5.9 %", "15.2 %", "6.7 minutes", "1,000", "40 MB",
        "80 texts a second", "763", "1.2 GB", "2.9 GB", ".5", "3.5",
    ]  # fmt: skip
    assert {figure.sources for figure in found} == {("a.json", "b.json(row=one, of=x y)"), ()}
    assert found[-1].line == 21 and not found[-1].sources  # a heading ends what a comment named


def test_a_number_is_found_rounded_in_its_unit_and_with_its_sign(tmp_path: Path) -> None:
    content = {
        "claims": [{"value": "0.0839; -.0027 [-0.0100, +0.0030]"}],
        "runs": [
            {
                "row": "one",
                "recall": 0.16688,
                "low": 0.14,
                "high": 0.19674,
                "seconds": 402.9,
                "share": 0.1876,
            },
            {"row": "two", "ci": [-0.5, 0.25], "steps": 1480808, "open": 0.0014, "memory": 1512.2},
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    (tmp_path / "notes.toml").write_text('[few]\nfigures = [".98", "34 times"]\n')
    every = numbers(["a.json", "notes.few"], tmp_path)

    def held(text: str, unit: str = "", among: Numbers = every) -> bool:
        return among.hold(Figure(text, unit, 1, ()))

    assert held(".1669") and held(".167") and not held(".1668") and not held("-.1669")
    assert held("6.7", "minutes") and held("402.9", "s") and not held("6.8", "minutes")
    assert held("18.8", "%") and held("19", "%") and not held("18.7", "%") and not held("18.8")
    assert held("1.4", "ms") and held("1,480,808") and held("1.5", "GB") and held("1.48", "million")
    assert (
        held("[.1400, .1967]")
        and held("[-.0100, .0030]")
        and held("[-.50, .25]")
        and not held("[.1400, .2500]")
    )
    assert held("-.0027") and not held(".0027") and held(".0839")
    assert held(".98") and held("34", "times") and not held("35", "times") and not held("34")
    one = numbers(["a.json(row=one)"], tmp_path)
    assert held(".1669", "", one) and not held("1,480,808", "", one)
    with pytest.raises(KeyError, match="names no row"):
        numbers(["a.json(row=three)"], tmp_path)
    with pytest.raises(FileNotFoundError):
        numbers(["b.json"], tmp_path)
    assert sources_of("a.json, b.json(x=1, y=two words)") == ("a.json", "b.json(x=1, y=two words)")
