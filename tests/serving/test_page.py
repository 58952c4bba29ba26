"""The page in headless Chromium, against a real service: light and dark, wide and narrow, by keyboard."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chromium import Chromium, executable
from tests.serving.running import Client, serving

pytestmark = pytest.mark.skipif(
    executable() is None, reason="there is no Chromium: the tests of pages are skipped"
)
READY = (
    "document.querySelectorAll('#columns .number').length > 0"
    " && document.querySelectorAll('#found li').length > 0"
    " && document.querySelector('#answers').getAttribute('aria-busy') === 'false'"
)
LOW_CONTRAST = """(() => {
  const context = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const parts = colour => { context.clearRect(0, 0, 1, 1); context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1); return [...context.getImageData(0, 0, 1, 1).data].map(v => v / 255); };
  const light = c => c.slice(0, 3).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, n) => sum + v * [.2126, .7152, .0722][n], 0);
  const ground = e => { for (; e; e = e.parentElement) { const c = parts(getComputedStyle(e).backgroundColor);
    if (c[3] > .5) return c; } return [1, 1, 1, 1]; };
  return [...document.querySelectorAll('main *, header *')].filter(e => e.offsetParent &&
    [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())).flatMap(e => {
      const pair = [light(parts(getComputedStyle(e).color)), light(ground(e))];
      const ratio = (Math.max(...pair) + .05) / (Math.min(...pair) + .05);
      return ratio < 4.5 ? [`${ratio.toFixed(2)} ${e.textContent.slice(0, 40)}`] : []; });
})()"""


class Page:
    """The page in a browser."""

    def __init__(self, browser: Chromium, client: Client) -> None:
        self.browser, self.client = browser, client
        self.value = browser.value

    def open(self, width: int = 1200, scheme: str = "light") -> None:
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.browser.call("Emulation.setDeviceMetricsOverride", **metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.browser.call("Emulation.setEmulatedMedia", media="", features=features)
        self.browser.events.clear()
        self.browser.call("Page.navigate", url=f"http://127.0.0.1:{self.client.port}/")
        self.until("document.readyState === 'complete' && typeof state !== 'undefined'")
        self.until(READY)

    def until(self, expression: str, seconds: float = 30.0) -> None:
        deadline = time.monotonic() + seconds
        while not self.value(expression):
            assert time.monotonic() < deadline, f"never true: {expression}"
            time.sleep(0.05)

    def search(self, text: str) -> None:
        self.value(f"$('search').value = {json.dumps(text)}; $('search').oninput()")
        self.until(f"$('found').textContent.toLowerCase().includes({json.dumps(text.lower())})")

    def texts(self, selector: str) -> list[str]:
        result: list[str] = self.value(
            f"[...document.querySelectorAll('{selector}')].map(e => e.textContent)"
        )
        return result

    def type(self, text: str) -> None:
        self.browser.call("Input.insertText", text=text)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with pytest.MonkeyPatch.context() as patch:
        store = tmp_path_factory.mktemp("page") / "store.sqlite"
        with serving(str(store), patch, models={"other": "atomic"}) as client:
            browser = Chromium(executable() or "")
            yield Page(browser, client)
            browser.close()


@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_can_be_read_and_asks_no_other_host(page: Page, width: int, scheme: str) -> None:
    page.open(width, scheme)
    page.search("lamps")
    page.value("document.querySelector('#found button.text').click()")
    page.until("$('history').children.length === 1")
    page.until(READY)
    page.value("for (const one of document.querySelectorAll('details')) one.open = true")
    assert page.value("document.documentElement.scrollWidth <= innerWidth")
    assert page.value(LOW_CONTRAST) == []
    assert page.browser.complaints() == []
    own = f"http://127.0.0.1:{page.client.port}/"
    assert all(url.startswith((own, "data:")) for url in page.browser.requested())


def test_a_history_changes_what_is_recommended_and_reasons_are_shown(page: Page) -> None:
    page.open()
    before = page.texts("#columns button.text")
    page.value("document.querySelector('#columns button.text').click()")
    page.until("$('history').children.length === 1")
    page.until(READY)
    taken = page.texts("#history .text")[0]
    after = page.texts("#columns button.text")
    assert len(after) == 10 and after != before and taken not in after
    page.value("document.querySelector('#columns button[aria-expanded]').click()")
    page.until("document.querySelectorAll('.reasons b').length === 1")
    assert page.texts(".reasons div span")[0] == taken
    page.value("$('words-text').value = 'a lamp of amber'; $('words').requestSubmit()")
    page.until("$('history').children.length === 2")
    page.until(READY)
    page.value("$('clear').click()")
    page.until("$('history').children.length === 0")
    page.until(READY)
    assert page.texts("#columns button.text") == before


def test_a_new_item_is_recommended_and_a_hidden_one_is_not(page: Page) -> None:
    page.open()
    title = '<img src=x onerror="window.broken = 1"> amber lamp'
    page.value(f"$('new-title').value = {json.dumps(title)}; $('new-categories').value = 'lamps';"
               "$('add').requestSubmit()")  # fmt: skip
    page.until("$('catalogue-status').textContent.includes('can be recommended now')")
    assert page.texts("#found button.text")[0].startswith(title) and page.value("window.broken") is None
    first = page.texts("#columns button.text")[0]
    page.value(
        "[...document.querySelectorAll('#columns button.plain')].find(e => e.textContent === 'hide').click()"
    )
    page.until(f"![...document.querySelectorAll('#columns button.text')].some(e => e.textContent === "
               f"{json.dumps(first)})")  # fmt: skip
    page.search(first)
    page.value(
        "[...document.querySelectorAll('#found button.plain')].find(e => e.textContent === 'show').click()"
    )
    page.until(f"[...document.querySelectorAll('#columns button.text')].some(e => e.textContent === "
               f"{json.dumps(first)})")  # fmt: skip
    assert page.browser.complaints() == []


def test_two_models_side_by_side_and_a_csv_file(page: Page, tmp_path: Path) -> None:
    page.open(390)
    page.value("$('second').value = 'other'; $('second').onchange()")
    page.until("document.querySelectorAll('.column').length === 2")
    assert page.texts(".column h3") == ["aligned", "other"]
    assert page.value("document.documentElement.scrollWidth <= innerWidth")
    file = tmp_path / "items.csv"
    file.write_text('item_id;title;price\nc1;"A ""quoted"";\nlamp";3.5\nc2;Plain lamp;\n', "utf-8")
    root = page.browser.call("DOM.getDocument")["root"]["nodeId"]
    node = page.browser.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    page.browser.call("DOM.setFileInputFiles", nodeId=node, files=[str(file)])
    page.value("$('upload').requestSubmit()")
    page.until("$('catalogue-status').textContent.includes('2 items of items.csv')")
    stored = page.client.call("GET", "/v1/items/c1")[1]
    assert stored["title"] == 'A "quoted";\nlamp' and stored["price"] == 3.5
    file.write_text("title\nno id\n", "utf-8")
    page.browser.call("DOM.setFileInputFiles", nodeId=node, files=[str(file)])
    page.value("$('upload').requestSubmit()")
    page.until("$('catalogue-status').textContent.includes('no column item_id')")


def test_all_of_it_by_keyboard(page: Page) -> None:
    page.open()
    page.value("document.activeElement.blur()")
    for kind in ("keyDown", "keyUp"):
        more: dict[str, Any] = {"text": "/"} if kind == "keyDown" else {}
        page.browser.call("Input.dispatchKeyEvent", type=kind, key="/", code="Slash", **more)
    assert page.value("document.activeElement.id") == "search"
    page.type("boots")
    page.until("$('found').textContent.includes('boots') && !$('found').textContent.includes('lamps')")
    page.browser.press("Enter")
    page.until("$('history').children.length === 1")
    page.until(READY)  # what is drawn anew loses the focus
    labels = {"search", "words-text", "clear", "second", "SUMMARY", "Add to the history"}
    reached = set()
    for _ in range(400):  # once round the page, however long its lists are
        page.browser.press("Tab")
        reached.add(page.value("document.activeElement.id || document.activeElement.ariaLabel || "
                               "document.activeElement.title || document.activeElement.tagName"))  # fmt: skip
        if labels <= reached:
            break
    assert labels <= reached and any(str(one).startswith(("Why ", "Hide ", "Remove ")) for one in reached)


def test_a_key_is_asked_for_where_one_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "a-key-of-at-least-16-characters"
    with serving(str(tmp_path / "s"), monkeypatch, key=key) as client:
        browser = Chromium(executable() or "")
        try:
            page = Page(browser, client)
            page.browser.call("Page.navigate", url=f"http://127.0.0.1:{client.port}/")
            page.until("typeof state !== 'undefined' && $('key-dialog').open")
            page.value(f"$('key').value = '{key}'; $('key-form').requestSubmit()")
            page.until(READY)
        finally:
            browser.close()
