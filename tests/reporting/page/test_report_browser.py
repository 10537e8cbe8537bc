"""The page in a real browser, where there is one: sorting, narrow screens, both colour schemes, no request."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from rgal.reporting.report import render
from rgal.suite.store.folders import Store
from tests.helpers.store_builders import add_trial, grid_png, settings

playwright = pytest.importorskip(
    "playwright.sync_api", reason="no playwright: pip install -e .[browser]", exc_type=ImportError
)
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium on this machine: apt-get install chromium"
)

LAST = {
    "cmi": 90.0,
    "a_method_with_a_long_name[first=0.125,second=long]+rgal[spread=0.5]": 9.5,
    "rgal": 95.25,
}
COLUMN = "#group-kd_digits-wrn16_1-wrn10_1_small"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("store")
    for number, (method, last) in enumerate(LAST.items()):
        folder = add_trial(root, f"{number:012x}", settings(method, order=number), last=last)
        (folder / "samples.png").write_bytes(grid_png(800, 300))
    reason = "OSError: /a/very/long/path" + "/folder" * 60
    add_trial(root, "f" * 12, settings("dafl", order=9), status="failed", reason=reason)
    (root / "trials" / ("long" * 50)).mkdir()
    return render(Store(root)).page.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as engine:
        started = engine.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def opened(browser: Any, address: str, scheme: str = "light", width: int = 1280) -> tuple[Any, list[str]]:
    """The page, and what it complained of or asked for, itself and its own pictures apart."""
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": 800}, reduced_motion="reduce"
    )
    page, events = context.new_page(), []
    page.on("console", lambda message: events.append(message.text))
    page.on("pageerror", lambda error: events.append(str(error)))
    page.on("request", lambda request: events.append(request.url))
    page.goto(address)
    page.wait_for_selector("html[data-ready]", state="attached")
    return page, events


def methods(page: Any) -> list[str]:
    texts = page.locator(f"{COLUMN} table >> nth=0").locator("tbody th").all_inner_texts()
    return [text.split("_")[0] for text in texts]


def header(page: Any, name: str) -> Any:
    return page.locator(f"{COLUMN} table >> nth=0").get_by_role("columnheader", name=name)


def test_clicks_sort_and_say_so(browser: Any, address: str) -> None:
    page, _ = opened(browser, address)
    suite = ["cmi", "a", "rgal", "dafl"]
    assert methods(page) == suite
    top1 = header(page, "Top-1")
    for order, expected in (
        ("descending", ["rgal", "cmi", "a", "dafl"]),
        ("ascending", ["a", "cmi", "rgal", "dafl"]),  # what has no number stays last
        ("none", suite),
    ):
        top1.get_by_role("button").click()
        assert top1.get_attribute("aria-sort") == order and methods(page) == expected
    top1.get_by_role("button").click()
    header(page, "Method").get_by_role("button").click()
    assert methods(page) == ["a", "cmi", "dafl", "rgal"] and top1.get_attribute("aria-sort") == "none"
    page.context.close()


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_keys_sort(key: str, browser: Any, address: str) -> None:
    page, _ = opened(browser, address)
    header(page, "Top-1").get_by_role("button").focus()
    page.keyboard.press(key)
    assert methods(page) == ["rgal", "cmi", "a", "dafl"]
    assert page.evaluate("document.activeElement.tagName") == "BUTTON"
    page.context.close()


def test_the_tab_key_reaches_everything(browser: Any, address: str) -> None:
    page, _ = opened(browser, address)
    focused = []
    for _ in range(60):
        page.keyboard.press("Tab")
        focused.append(page.evaluate("document.activeElement.className || document.activeElement.tagName"))
    assert focused[0] == "skip" and {"A", "BUTTON", "SUMMARY", "scroll"} <= set(focused)
    page.context.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_asked_for_and_nothing_sticks_out(
    width: int, scheme: str, browser: Any, address: str
) -> None:
    page, events = opened(browser, address, scheme, width)
    page.evaluate("for (const list of document.querySelectorAll('details')) list.open = true")
    for figure in page.locator("figure.chart").all():
        figure.scroll_into_view_if_needed()
    for image in page.locator("main img").all():
        image.scroll_into_view_if_needed()
        image.evaluate("image => image.decode()")  # raises where a picture is broken
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert [event for event in events if not event.startswith("data:")] == [address]


@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_no_fault_that_shuts_people_out(
    width: int, scheme: str, browser: Any, address: str
) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="no axe: pip install -e .[browser]"
    )
    page, _ = opened(browser, address, scheme, width)
    page.evaluate("for (const list of document.querySelectorAll('details')) list.open = true")
    for figure in page.locator("figure.chart").all():
        figure.scroll_into_view_if_needed()
    response = axe.Axe().run(page, options={"resultTypes": ["violations"]}).response
    assert response["passes"]
    grave = [fault for fault in response["violations"] if fault["impact"] in ("serious", "critical")]
    assert not [(fault["id"], fault["nodes"][0]["html"]) for fault in grave]
    page.context.close()


def test_the_first_result_is_on_the_first_screen(browser: Any, address: str) -> None:
    page, _ = opened(browser, address)
    assert page.locator(".board tbody tr").first.bounding_box()["y"] < 400


def test_a_click_hides_a_method_in_every_figure(browser: Any, address: str) -> None:
    page, _ = opened(browser, address)
    page.locator("figure.chart").first.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('.canvas').data !== undefined")
    drawn = (
        "[...document.querySelectorAll('.canvas')].flatMap((c) => (c.data || []).map((trace) => trace.meta))"
    )
    assert {"cmi", "rgal"} <= set(page.evaluate(drawn))
    button = page.locator("#method-buttons").get_by_role("button", name="cmi", exact=True)
    button.click()
    assert button.get_attribute("aria-pressed") == "false" and "cmi" not in page.evaluate(drawn)
    assert not page.locator('figure[data-method="cmi"]').is_visible()
    button.click()
    assert "cmi" in page.evaluate(drawn)


def test_trials_are_found_compared_and_opened(browser: Any, address: str) -> None:
    page, events = opened(browser, address)
    page.fill("#trial-search", "rgal seed 0")
    assert page.locator("#trial-list tbody tr").count() == 2
    for box in page.locator("#trial-list input[type=checkbox]").all():
        box.check()
    page.get_by_role("button", name="Compare 2").click()
    dialog = page.locator("#trial")
    assert dialog.get_by_text("Settings that differ").is_visible()
    assert dialog.locator(".side img").count() == 2 and dialog.locator(".curves .canvas").count() == 1
    page.keyboard.press("Escape")
    assert not dialog.is_visible() and page.url.endswith("#trials")
    page.goto(f"{address}#trial=000000000002")
    assert dialog.get_by_role("heading", name="rgal, seed 0").is_visible()
    dialog.locator(".side img").click()
    assert page.locator("#zoom").is_visible()
    assert not [event for event in events if not event.startswith(("data:", address))]
    page.context.close()


def test_the_page_follows_the_colour_scheme(scheme: str, browser: Any, address: str) -> None:
    page, _ = opened(browser, address, scheme)
    style = (
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color].map((c) => "
    )
    back, text = page.evaluate(style + "c.match(/\\d+/g).map(Number).reduce((a, b) => a + b))")
    assert (back > 600 and text < 200) if scheme == "light" else (back < 200 and text > 600)
    page.context.close()


def test_closed_lists_open_for_print(browser: Any, address: str) -> None:
    page, _ = opened(browser, address)
    closed = page.locator("main details:not([open])")
    before = closed.count()
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert before and closed.count() == 0
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert closed.count() == before
    page.context.close()


def test_a_browser_that_cannot_unpack_says_so_and_shows_the_tables(browser: Any, address: str) -> None:
    page = browser.new_context().new_page()
    page.add_init_script("delete window.DecompressionStream")
    page.goto(address)
    assert "too old to unpack the figures" in page.locator("#old-browser").inner_text()
    assert page.locator(f"{COLUMN} table").first.is_visible()
