"""The pages in a real browser: narrow and wide, light and dark, on paper, with a keyboard."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from shelftalk.report.content import ReportContent
from shelftalk.report.render import render_html, write_report
from tests.chromium import Chromium, executable
from tests.report.test_render import evil_content

pytestmark = pytest.mark.skipif(executable() is None, reason="needs Chromium")
SIZES = [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]

LOW_CONTRAST = """(() => {
  const parts = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const luminance = (rgb) => {
    const linear = (c) => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
    const [r, g, b] = rgb.map((c) => linear(c / 255));
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const c = parts(getComputedStyle(e).backgroundColor);
      if (c.length >= 3 && (c.length < 4 || c[3] > 0)) return c.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), low = [];
  for (let node; node = walker.nextNode();) {
    const element = node.parentElement, style = getComputedStyle(element);
    if (!node.textContent.trim() || !element.getClientRects().length) continue;
    if (element.closest('title, desc, style')) continue;
    const colour = parts(element.closest('svg') ? style.fill : style.color).slice(0, 3);
    const pair = [luminance(colour), luminance(behind(element.closest('svg') || element))];
    const ratio = (Math.max(...pair) + .05) / (Math.min(...pair) + .05);
    if (ratio < 4.5) low.push(`${ratio.toFixed(2)} ${element.tagName} ${node.textContent.slice(0, 40)}`);
  }
  return low;
})()"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    chromium = Chromium(executable() or "")
    yield chromium
    chromium.close()


@pytest.fixture(scope="module")
def pages(content: ReportContent, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A full report, and one whose every text is hostile and long."""
    full, hostile = (tmp_path_factory.mktemp(name) for name in ("full", "hostile"))
    page = hostile / "report.html"
    page.write_text(render_html(evil_content(content)), encoding="utf-8")
    return {"full": write_report(content, full), "hostile": page}


@pytest.mark.parametrize("page", ["full", "hostile"])
@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_nothing_leaves_the_page_nothing_fails_and_nothing_is_wider_than_the_window(
    browser: Chromium, pages: dict[str, Path], page: str, width: int, scheme: str
) -> None:
    browser.open(pages[page], width, scheme)
    browser.value("document.querySelectorAll('details').forEach((d) => d.open = true)")
    assert browser.value("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    assert browser.complaints() == []
    assert browser.requested() == [pages[page].as_uri()]


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_every_text_stands_out_from_what_is_behind_it(
    browser: Chromium, pages: dict[str, Path], width: int, scheme: str
) -> None:
    browser.open(pages["full"], width, scheme)
    browser.value("document.querySelectorAll('details').forEach((d) => d.open = true)")
    expected = {"light": "rgb(251, 250, 247)", "dark": "rgb(23, 22, 20)"}[scheme]
    assert browser.value("getComputedStyle(document.body).backgroundColor") == expected
    assert browser.value(LOW_CONTRAST) == []


def test_wide_tables_are_scrolled_inside_on_a_telephone(browser: Chromium, pages: dict[str, Path]) -> None:
    browser.open(pages["full"], 390)
    wider = "[...document.querySelectorAll('.scroll')].filter((e) => e.scrollWidth > e.clientWidth)"
    assert browser.value(f"{wider}.length") > 3
    assert browser.value(f"{wider}.every((e) => e.tabIndex === 0 && e.getAttribute('aria-label'))") is True


def test_the_first_tab_offers_to_skip_to_the_content_and_enter_does(
    browser: Chromium, pages: dict[str, Path]
) -> None:
    browser.open(pages["full"], 1280)
    browser.press("Tab")
    assert browser.value("document.activeElement.textContent") == "Skip to the content"
    assert browser.value("document.activeElement.getBoundingClientRect().top") >= 0
    assert browser.value("parseFloat(getComputedStyle(document.activeElement).outlineWidth)") >= 2
    browser.press("Enter")
    assert browser.value("document.activeElement.id") == "main"


def test_whatever_a_tab_reaches_shows_that_it_is_reached(browser: Chromium, pages: dict[str, Path]) -> None:
    browser.open(pages["full"], 1280)
    outlined = "parseFloat(getComputedStyle(document.activeElement).outlineWidth) >= 2 && getComputedStyle"
    outlined += "(document.activeElement).outlineStyle !== 'none'"
    seen = set()
    for _ in range(40):
        browser.press("Tab")
        seen.add(browser.value("document.activeElement.tagName"))
        assert browser.value(outlined) is True, browser.value(
            "document.activeElement.outerHTML.slice(0, 200)"
        )
    assert {"A", "DIV"} <= seen


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_paper_the_page_is_black_on_white_without_navigation(
    browser: Chromium, pages: dict[str, Path], scheme: str
) -> None:
    browser.open(pages["full"], 688, scheme, media="print")  # A4 between its margins, in CSS pixels
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.value("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert browser.value(LOW_CONTRAST) == []
    wider = "[...document.querySelectorAll('.scroll')].filter((e) => e.scrollWidth > e.clientWidth)"
    assert browser.value(f"{wider}.map((e) => e.getAttribute('aria-label'))") == []
    paper = browser.call("Page.printToPDF", printBackground=True)["data"]
    assert base64.b64decode(paper).startswith(b"%PDF")


def test_screen_readers_get_landmarks_and_a_name_for_every_drawing_and_table(
    browser: Chromium, pages: dict[str, Path]
) -> None:
    browser.open(pages["full"], 1280)
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node.get("ignored") and "role" in node
    ]
    assert {"main", "navigation", "banner"} <= {role for role, _ in named}
    drawings = [name for role, name in named if role in ("image", "img")]
    assert len(drawings) > 10 and all(": " in name for name in drawings)
    assert all(name for role, name in named if role in ("table", "region", "link", "button"))
