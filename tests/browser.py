"""Pages in a headless Chromium, driven by Playwright. Tests that use it skip on a machine without Chromium."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

WIDTHS = (390, 900, 1600)
MIN_CONTRAST = 4.5  # of text and what is behind it: AA of the Web Content Accessibility Guidelines
CONTRAST = """(least) => {
  const parts = (colour) => { const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const over = ([r, g, b, a], below) => [r, g, b].map((value, at) => a * value + (1 - a) * below[at]);
  const light = (colour) => {
    const [r, g, b] = colour.map((one) => one > 10 ? ((one / 255 + 0.055) / 1.055) ** 2.4 : one / 255 / 12.92);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const white = [255, 255, 255];
  const ground = (one) =>
    one ? over(parts(getComputedStyle(one).backgroundColor), ground(one.parentElement)) : white;
  return [...document.querySelectorAll("body *")].filter((one) => {
    if (one.closest("script, style, option") || !one.checkVisibility()) return false;
    if (![...one.childNodes].some((child) => child.nodeType === Node.TEXT_NODE && child.data.trim())) return false;
    const behind = ground(one), both = [light(over(parts(getComputedStyle(one).color), behind)), light(behind)];
    return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05) < least;
  }).slice(0, 5).map((one) => `${one.tagName}.${one.className}: ${one.textContent.trim().slice(0, 30)}`);
}"""
CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@contextmanager
def opened(address: str | Path, width: int = 900, dark: bool = False) -> Iterator[Any]:
    """Open a file or an http address and yield Playwright's page; fails at the end if the console had an error."""
    from playwright.sync_api import sync_playwright

    problems: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", accept_downloads=True
        )
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(Path(address).resolve().as_uri() if isinstance(address, Path) else address)
        try:
            yield page
        finally:
            browser.close()
    assert not problems, f"{address}: {problems}"


def overflow(page: Any) -> str:
    """Return which elements are wider than the window, or nothing."""
    code = """() => document.documentElement.scrollWidth <= innerWidth ? "" : [...document.querySelectorAll("*")]
        .filter((one) => one.getBoundingClientRect().right > innerWidth + 1 && !one.closest(".scroll *")).slice(0, 5)
        .map((one) => one.tagName + "." + one.className).join(", ") || "the page" """
    return str(page.evaluate(code))


def check_widths(page: Any) -> None:
    """Fail if the page is wider than a phone's, a tablet's or a wide window."""
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        for _ in range(50):  # charts follow the window after a moment, on a busy machine a long one
            page.wait_for_timeout(100)
            if not (found := overflow(page)):
                break
        assert not found, f"at {width} pixels: {found}"


def check_colours(page: Any) -> None:
    """Fail if the page does not follow the system's light or dark colours, or text is hard to read in either."""
    for scheme, is_light in (("light", True), ("dark", False)):
        page.emulate_media(color_scheme=scheme)
        red = int(page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]"))
        assert (red > 127) == is_light, scheme
        assert page.evaluate(CONTRAST, MIN_CONTRAST) == [], scheme


def eventually(page: Any, check: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until a page that redraws after a moment is as it should be; fail if it never is."""
    for _ in range(round(10 * seconds)):
        if check():
            return
        page.wait_for_timeout(100)
    assert check()
