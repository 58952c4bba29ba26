import errno
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from shelftalk.errors import NoSpace
from shelftalk.records import Segment
from shelftalk.report.content import (
    CertifiedFact,
    ModelRow,
    Recommendation,
    ReportContent,
    ShownSample,
    ShownUser,
)
from shelftalk.report.markdown import escaped
from shelftalk.report.render import render_html, render_json, render_markdown, write_report

VOID = {"meta", "br", "hr", "img", "link", "input"}
EVIL = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></title></svg><svg onload=alert(1)>",
    "{{ 7 * 7 }} {% include 'x' %}",
    "pipes | and ``` fences ```` and \\| and [a](javascript:alert(1))",
    "two\nlines\r\nand\x00a nul and a half pair \ud800",
    "שלום \u202e evil",
    "x" * 10_000,
)


class Page(HTMLParser):
    """What a browser would see: elements with attributes, and the text of each."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def html(content: ReportContent) -> str:
    return render_html(content)


def evil_content(content: ReportContent) -> ReportContent:
    """Every field that can hold untrusted text holds each of the hostile texts."""
    users = tuple(
        ShownUser(
            "Person 1", (evil, "Heat"), 3, "aligned", (Recommendation(evil, -1.0, hit=True),), evil, 1, 50
        )
        for evil in EVIL
    )
    samples = tuple(
        ShownSample("retrieval", evil, (Segment(evil), Segment(evil, True, True))) for evil in EVIL
    )
    task = content.tasks[0]
    rows = tuple(
        ModelRow(evil, {"recall@10": 0.1 * n}, {"recall@10": (0.0, 0.9)}) for n, evil in enumerate(EVIL)
    )
    slices = tuple(replace(row, model=EVIL[0], slice=EVIL[1], kind=EVIL[2]) for row in content.slices[:3])
    return replace(
        content, title=EVIL[0], users=users, samples=samples,
        tasks=(replace(task, rows=rows), *content.tasks[1:]), slices=slices,
        data={evil: evil for evil in EVIL}, settings=EVIL[4], command=EVIL[0], caveats=EVIL,
        left_out=EVIL[:1], warnings=EVIL,
    )  # fmt: skip


def only_baselines(content: ReportContent) -> ReportContent:
    """What `--models item_knn,popularity` leaves: no language model, no training."""
    task = content.tasks[0]
    rows = tuple(row for row in task.rows if row.baseline)
    return replace(
        content, tasks=(replace(task, rows=rows, differences=()),), model={}, curves=(), best_step=None,
        samples=(), held_out_templates=(), costs=(), costs_note="", ablations=(),
        users=(), users_note="", chosen=(), slices=(), warnings=(), published=(), published_note="",
        elsewhere=(), facts=(), certificate="",
        held_out_templates_note="",
        search_error=(), search_error_note="",
    )  # fmt: skip


def table_widths(markdown: str) -> list[set[int]]:
    """For each table the set of its rows' numbers of unescaped pipes."""
    tables = re.findall(r"(?:^\|.*\n?)+", markdown, flags=re.MULTILINE)
    return [{len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in table.splitlines()} for table in tables]


def outside_code(markdown: str) -> str:
    return re.sub(r"^(`{3,})\w*\n.*?^\1$", "", markdown, flags=re.MULTILINE | re.DOTALL)


def test_every_part_of_a_full_report_is_on_the_page(html: str) -> None:
    text = " ".join(Page(html).text)
    for expected in (
        "movielens-small", "seed 42", "Retrieval", "Ranking", "Rating", ".1237", "[.1017, .1457]", "+.0119",
        "weight 0.35 of item_knn", "by item popularity", "held out", "Learning curves", "step 1,250",
        "6 min 14 s", "Pairwise preference", "Person 20",
        "… and 52 earlier", "not among the 50 listed", "evaluated 2 times", "shelftalk run --seed 42",
        "batch_size = 32",
        "3,512,064", "metrics.json", "Twenty people drawn",
    ):  # fmt: skip
        assert expected in text, expected


def test_every_part_but_the_plots_is_in_the_markdown(content: ReportContent) -> None:
    markdown = render_markdown(content)
    for expected in (
        "# movielens-small", "### Retrieval", "### Ranking", "### Rating", "**.1237**", "+.0119",
        "weight 0.35",
        "by item popularity", "held out", "6 min 14 s", "⟦4.5⟧", "### Person 20", "**← taken next**",
        "evaluated 2 times",
        "shelftalk run --seed 42", "evaluation/retrieval%20aligned.parquet",
    ):  # fmt: skip
        assert expected in markdown, expected


def test_the_truth_is_marked_where_it_was_recommended_and_only_there(
    content: ReportContent, html: str
) -> None:
    hits = sum(line.hit for user in content.users for line in user.top)
    marked = [attributes for _, attributes in Page(html).elements if attributes.get("class") == "hit"]
    assert len(marked) == hits == render_markdown(content).count("taken next**") > 0


def test_loss_bearing_parts_are_marked_and_symbols_boxed(html: str) -> None:
    assert (
        '<mark class="symbols"><bdi>&lt;a_12&gt;&lt;b_7&gt;&lt;c_3&gt;</bdi></mark><mark><bdi> Trainspotting'
        in html
    )
    assert '<bdi class="symbols">&lt;a_4&gt;' in html  # a symbol that bears no loss


def test_a_warning_is_above_the_result_in_red(content: ReportContent, html: str) -> None:
    sentence, markdown = content.warnings[0], render_markdown(content)
    boxes = [attributes for tag, attributes in Page(html).elements if attributes.get("class") == "warning"]
    assert [box["role"] for box in boxes] == ["alert"]
    assert html.index("<h1>") < html.index(sentence) < html.index('class="summary"')
    assert markdown.index("# ") < markdown.index(f"> **Warning:** {sentence}") < markdown.index("Retrieval:")
    assert json.loads(render_json(content))["warnings"] == [sentence]
    without = replace(content, warnings=())
    assert 'class="warning"' not in render_html(without) and "Warning" not in render_markdown(without)


def test_published_numbers_are_shown_with_their_source(content: ReportContent, html: str) -> None:
    line = "| Elsewhere | .0777 | – | Doe, A Paper, 2024 |"
    assert line in render_markdown(content) and "Doe, A Paper, 2024" in "".join(Page(html).text)
    # nothing is paired, so nothing is marked
    assert "best" not in html[html.index('id="published"') : html.index('id="people"')]
    none = replace(content, published=(), published_note="There are none.")
    assert "There are none." in render_html(none) and "There are none." in render_markdown(none)
    assert "Elsewhere" not in render_html(none)


def test_figures_on_other_terms_have_a_table_of_their_own_with_their_terms(
    content: ReportContent, html: str
) -> None:
    section = html[html.index('id="elsewhere"') : html.index('id="people"')]
    assert "last but one" in section and ".0999" in section and "Roe, Another Paper, 2025" in section
    # the row of this run has its terms and none of its figures
    line = (
        "| this run | leave-one-out | last | shuffled | all items | left out | train-only | 1 | yes | – |  |"
    )
    assert line in render_markdown(content)
    assert "other or unknown terms" not in render_html(replace(content, elsewhere=()))


def test_each_fact_of_the_certificate_says_whether_it_holds_and_how_it_was_checked(
    content: ReportContent, html: str
) -> None:
    section = html[html.index('id="certificate"') :]
    markdown = render_markdown(content)
    for page in (section, markdown):
        assert content.certificate in page
        for words in ("answers: holds", "split: DOES NOT HOLD", "convention: not checked"):
            assert words in page
        assert "Every answer is valid. invalid 0. Counted over all." in page
    assert 'id="certificate"' not in render_html(replace(content, facts=(), certificate=""))
    hostile = CertifiedFact("<b>x</b>", "<script>", "<i>", True, "|</td>")
    page = render_html(replace(content, facts=(hostile,), certificate="<u>"))
    assert not any(tag in page for tag in ("<b>x", "<script>", "<i>", "|</td>", "<u>"))


def test_the_change_between_templates_is_signed(content: ReportContent, html: str) -> None:
    assert "| held out − seen | 671 | −.0121 \\[−.0302, +.0051\\] |" in render_markdown(content)
    assert "−.0121<small>[−.0302, +.0051]</small>" in html and "At most 671 users" in html


def test_search_error_is_shown_in_percent(content: ReportContent, html: str) -> None:
    assert "| 10 | replay | 98 | 30.6 % | 4.4 % | 1.25 |" in render_markdown(content)
    section = html[html.index('id="search"') :]
    assert "100 users answered by beams and by exact search." in section and "30.6 %" in section
    unmeasured = replace(content, search_error=(), search_error_note="")
    assert "## Search" not in render_markdown(unmeasured) and "#search" not in render_html(unmeasured)


def test_a_left_out_task_is_listed_with_its_reason(content: ReportContent) -> None:
    sentence = "Rating prediction is left out: the interactions have no ratings."
    left = replace(content, tasks=content.tasks[:2], left_out=(sentence,))
    page = render_html(left)
    assert sentence in page and sentence in render_markdown(left)
    assert 'id="rating"' not in page


def test_a_run_of_baselines_only_has_no_empty_sections(content: ReportContent) -> None:
    baselines = only_baselines(content)
    identifiers = {
        attributes["id"] for tag, attributes in Page(render_html(baselines)).elements if tag == "section"
    }
    assert identifiers == {"results", "retrieval", "caveats", "training", "data", "again"}
    assert "aligned" not in render_markdown(replace(baselines, links=()))
    assert "item_knn has Recall@10 .1118, compared with nothing." in render_html(baselines)


def test_a_record_with_nothing_measured_renders() -> None:
    bare = ReportContent("bare", "today", 1, "0.1.0", "shelftalk run", data={})
    assert "No task was evaluated" in render_html(bare) and "No task was evaluated" in render_markdown(bare)


def test_links_of_the_navigation_lead_somewhere(content: ReportContent, html: str) -> None:
    for page in (html, render_html(only_baselines(content))):
        elements = Page(page).elements
        identifiers = [attributes["id"] for _, attributes in elements if "id" in attributes]
        links = [str(attributes["href"]) for tag, attributes in elements if tag == "a"]
        targets = {link[1:] for link in links if link.startswith("#")}
        assert targets <= set(identifiers) and len(identifiers) == len(set(identifiers))


@pytest.mark.parametrize("make", [lambda content: content, evil_content])
def test_the_page_refers_to_nothing_outside_and_runs_nothing(content: ReportContent, make) -> None:
    html = render_html(make(content))
    page = Page(html)
    assert not page.open  # every element is closed in its order
    assert {tag for tag, _ in page.elements}.isdisjoint(
        {"script", "link", "iframe", "img", "image", "object", "embed", "use"}
    )
    for tag, attributes in page.elements:
        assert not [
            name
            for name in attributes
            if name.startswith("on") or name in ("src", "srcset", "style", "xlink:href")
        ], tag
        assert not re.match(r"\s*([a-z][a-z0-9+.-]*:|//)", attributes.get("href") or "", re.IGNORECASE)
    style = html[html.index("<style>") : html.index("</style>")]
    assert "@import" not in style and not re.search(r"\burl\(", style)
    assert not [
        value for _, attributes in page.elements for value in attributes.values() if value and "url(" in value
    ]


def test_hostile_titles_are_shown_as_text(content: ReportContent) -> None:
    html = render_html(evil_content(content))
    text = "".join(Page(html).text)
    assert EVIL[0] in text and EVIL[1] in text and EVIL[3] in text
    assert "\x00" not in html and "\ufffd" in html
    html.encode("utf-8")


def test_a_title_of_ten_thousand_characters_is_cut(content: ReportContent) -> None:
    user = replace(content.users[0], truth="x" * 10_000)
    long = replace(only_baselines(content), users=(user,))
    for rendered in (render_html(long), render_markdown(long)):
        assert "x" * 119 + "…" in rendered and "x" * 120 not in rendered


def test_right_to_left_titles_cannot_reorder_the_text_around_them(content: ReportContent) -> None:
    evil = evil_content(content)
    assert f"<bdi>{EVIL[6]}</bdi>" in render_html(evil)
    assert f"Took next: \u2068{EVIL[6]}\u2069 (position" in render_markdown(evil)


def test_markdown_tables_keep_their_columns_whatever_the_cells_hold(content: ReportContent) -> None:
    for shown in (content, evil_content(content)):
        widths = table_widths(outside_code(render_markdown(shown)))
        assert len(widths) >= 10 and all(len(width) == 1 for width in widths)


def test_foreign_text_is_no_markup_in_markdown(content: ReportContent) -> None:
    rest = outside_code(render_markdown(evil_content(content)))
    assert not re.search(r"(?<!\\)<(script|img|svg)", rest)
    assert not re.search(r"(?<!\\)\]\(javascript", rest)
    assert escaped("a | b *c* `d` <e> & #f") == r"a \| b \*c\* \`d\` \<e\> &amp; \#f"


def test_the_record_survives_json(content: ReportContent) -> None:
    assert TypeAdapter(ReportContent).validate_json(render_json(content)) == content


def test_json_has_null_for_what_is_not_a_number(content: ReportContent) -> None:
    row = ModelRow("m", {"recall@10": float("nan"), "mrr": float("inf")})
    loaded = json.loads(render_json(replace(content, tasks=(replace(content.tasks[0], rows=(row,)),))))
    assert loaded["tasks"][0]["rows"][0]["metrics"] == {"recall@10": None, "mrr": None}


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), 0.0])
def test_a_metric_that_is_missing_or_zero_breaks_nothing(content: ReportContent, value: float | None) -> None:
    task = content.tasks[0]
    odd = ModelRow("odd", {"recall@10": value}, {"recall@10": (value, value)})
    rows = (*task.rows[:2], odd)
    shown = replace(only_baselines(content), tasks=(replace(task, rows=rows),))
    html, markdown = render_html(shown), render_markdown(shown)
    line = next(line for line in markdown.splitlines() if line.startswith("| odd"))
    assert (".0000" in line) == (value == 0.0) and "–" in line
    assert "nan" not in line.lower() and ">nan<" not in html.lower()


def test_the_report_is_written_as_whole_files(content: ReportContent, html: str, tmp_path: Path) -> None:
    page = write_report(content, tmp_path)
    assert page == tmp_path / "report.html" and page.read_text(encoding="utf-8") == html
    assert {path.name for path in tmp_path.iterdir()} == {
        "report.html",
        "report.md",
        "report.json",
        "tables",
    }


def test_hostile_texts_reach_the_disk_as_utf8(content: ReportContent, tmp_path: Path) -> None:
    evil = evil_content(content)
    whole = replace(
        evil, users=evil.users[:5], samples=evil.samples[:5], data={}, caveats=(), tasks=(), warnings=()
    )
    assert (
        EVIL[0]
        in json.loads((write_report(whole, tmp_path).parent / "report.json").read_text(encoding="utf-8"))[
            "title"
        ]
    )


def test_a_full_disk_is_reported_and_the_old_report_stays(
    content: ReportContent, tmp_path: Path, monkeypatch
) -> None:
    before = write_report(only_baselines(content), tmp_path).read_bytes()

    def full(path: Path, *args: object, **kwargs: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(NoSpace, match="no space left"):
        write_report(only_baselines(replace(content, title="another")), tmp_path)
    assert (tmp_path / "report.html").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 4


def test_the_same_record_gives_the_same_bytes(content: ReportContent, html: str) -> None:
    assert render_html(content) == html


@pytest.mark.parametrize("module", ["shelftalk", "shelftalk.report", "shelftalk.report.render"])
def test_importing_starts_no_javascript_engine_and_no_torch(module: str) -> None:
    script = (
        f"import sys, {module}; sys.exit(any(name in sys.modules for name in ('vl_convert', 'torch', "
        "'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def headings_of(html: str) -> list[int]:
    return [int(tag[1]) for tag, _ in Page(html).elements if re.fullmatch(r"h[1-6]", tag)]


def test_headings_descend_one_level_at_a_time_below_the_one_title(content: ReportContent, html: str) -> None:
    for page in (html, render_html(only_baselines(content)), render_html(evil_content(content))):
        levels = headings_of(page)
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))


def test_every_table_has_a_caption_and_every_heading_cell_a_scope(html: str) -> None:
    elements = Page(html).elements
    count = {tag: sum(one == tag for one, _ in elements) for tag in ("table", "caption")}
    assert count["table"] == count["caption"] > 10
    assert {attributes.get("scope") for tag, attributes in elements if tag == "th"} == {"col", "row"}


def test_there_is_one_main_one_navigation_and_a_way_to_skip_to_the_content(html: str) -> None:
    elements = Page(html).elements
    tags = [tag for tag, _ in elements]
    assert tags.count("main") == tags.count("nav") == 1 and tags.count("header") >= 1
    first = next(attributes for tag, attributes in elements if tag == "a")
    assert first["href"] == "#main" and ("main", "main") in [(tag, one.get("id")) for tag, one in elements]


def test_every_drawing_has_a_title_and_a_description(html: str) -> None:
    drawings = re.findall(r"<svg [^>]*>(.{40})", html)
    assert len(drawings) > 10 and all(start.startswith("<title>") for start in drawings)
    assert html.count("<desc>") == len(drawings)


def luminance(colour: str) -> float:
    """Relative luminance as in WCAG 2.2."""
    channels = [int(colour[position : position + 2], 16) / 255 for position in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_colour_of_text_has_a_contrast_of_at_least_four_and_a_half_light_and_dark(html: str) -> None:
    style = html[html.index("<style>") : html.index("</style>")]
    palettes = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in style.split(":root")[1:3]]
    assert len(palettes) == 2 and all(len(palette) > 12 for palette in palettes)
    pairs = [("ink", "mark"), ("accent", "soft")]
    text = ("ink", "muted", "accent", "grey", "warn", "alarm", *(f"series-{n}" for n in range(1, 7)))
    pairs += [(name, behind) for name in text for behind in ("paper", "card")]
    for palette in palettes:
        for name, behind in pairs:
            bright, dark = sorted((luminance(palette[name]), luminance(palette[behind])), reverse=True)
            assert (bright + 0.05) / (dark + 0.05) >= 4.5, (name, behind)
