"""Pages in a headless Chromium, driven by Playwright. Tests that use it skip on a machine without Chromium."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

WIDTHS = (390, 900, 1600)
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
        .filter((one) => one.getBoundingClientRect().right > innerWidth + 1).slice(0, 5)
        .map((one) => one.tagName + "." + one.className).join(", ") || "the page" """
    return str(page.evaluate(code))


def check_widths(page: Any) -> None:
    """Fail if the page is wider than a phone's, a tablet's or a wide window."""
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(100)
        assert not overflow(page), f"at {width} pixels: {overflow(page)}"


def eventually(page: Any, check: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until a page that redraws after a moment is as it should be; fail if it never is."""
    for _ in range(round(10 * seconds)):
        if check():
            return
        page.wait_for_timeout(100)
    assert check()
