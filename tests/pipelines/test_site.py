"""The documentation site: all pages are in its navigation, mistakes fail the build, nothing comes from the network."""

import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pipelines import site
from src.core.errors import InputError
from tests.browser import WIDTHS, needs_browser, opened

ROOT = Path(__file__).resolve().parents[2]
needs_mkdocs = pytest.mark.skipif(not find_spec("material"), reason="requirements-docs.txt is not installed")


def test_every_page_has_its_place_in_the_navigation() -> None:
    placed = re.findall(r"^ +- (?:[^:\n]+: )?(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), flags=re.MULTILINE)
    pages = [path.relative_to(ROOT).as_posix() for pattern in site.PAGES for path in ROOT.glob(pattern)]
    assert sorted(placed) == sorted(pages), "add it to nav in mkdocs.yml, or remove it there"


def test_links_to_source_files_lead_to_pages_that_show_them(tmp_path: Path) -> None:
    (tmp_path / "docs" / "assets").mkdir(parents=True)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "one.py").write_text('"""Fence: ``` ."""\n')
    (tmp_path / "README.md").write_text("[code](code) `](code)`\n\n```\n](code)\n```\n[b](docs/b.md#b) [c](c.md)\n")
    (tmp_path / "docs" / "b.md").write_text("# B\n\n1. [one](../code/one.py)\n\n   ```\n   x\n   ```\n")
    site.collect(tmp_path, tmp_path / "tree")
    tree = tmp_path / "tree"
    assert (tree / "README.md").read_text().splitlines() == [
        "[code](code/files-of-code.md) `](code)`", "", "```", "](code)", "```", "[b](docs/b.md#b) [c](c.md)",
    ]  # fmt: skip
    assert (tree / "docs" / "b.md").read_text() == "# B\n\n1. [one](../code/one.py.md)\n\n    ```\n    x\n    ```\n"
    assert "[one.py](one.py.md)" in (tree / "code" / "files-of-code.md").read_text()
    assert '```` python linenums="1"\n"""Fence: ``` ."""\n````' in (tree / "code" / "one.py.md").read_text()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the built site of the repository."""
    output = tmp_path_factory.mktemp("built") / "site"
    site.build(ROOT, output)
    return output


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of what the site is built from."""
    others = shutil.ignore_patterns(".*", "__pycache__", "input", "runs", "submissions", "site", "tests")
    shutil.copytree(ROOT, tmp_path / "copy", ignore=others)
    shutil.copytree(ROOT / "benchmarks" / "submissions", tmp_path / "copy" / "benchmarks" / "submissions")
    return tmp_path / "copy"


MISTAKES = {
    "a link to no file": ("[gone](gone.md)", "1 warnings in strict mode"),
    "a link to no source file": ("[gone](../src/gone.py)", "1 warnings in strict mode"),
    "a link to no heading": ("[gone](flags.md#gone)", "1 warnings in strict mode"),
    "Markdown inside HTML": ("<div>\n**bold**\n</div>", "faq.html: Markdown that was not understood"),
}


@needs_mkdocs
@pytest.mark.slow
@pytest.mark.parametrize(("text", "why"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_on_a_page_fails_the_build_and_keeps_the_old_site(
    copy: Path, tmp_path: Path, text: str, why: str
) -> None:
    old = tmp_path / "site" / "search" / "search_index.js"
    old.parent.mkdir(parents=True)
    old.write_text("old")
    with open(copy / "docs" / "faq.md", "a") as stream:
        stream.write(f"\n{text}\n")
    with pytest.raises(InputError, match=why):
        site.build(copy, tmp_path / "site")
    assert old.read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"site", "copy"}


@needs_mkdocs
@pytest.mark.slow
def test_a_page_outside_the_navigation_fails_the_build(copy: Path, tmp_path: Path) -> None:
    site.build(copy, tmp_path / "site")
    (copy / "docs" / "new.md").write_text("# New\n")
    with pytest.raises(InputError, match="1 warnings in strict mode"):
        site.build(copy, tmp_path / "site")


def test_a_folder_that_is_no_site_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is not a built site"):
        site.build(ROOT, tmp_path)
    assert (tmp_path / "mine.txt").exists()


class _Files(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a browser that has left the page."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on the loopback and yield its address."""
    with _Server(("127.0.0.1", 0), partial(_Files, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def first_found(page: Any, text: str) -> str:
    """Type into the site's search and return the text of the first result."""
    page.locator("input.md-search__input").click()
    page.locator("input.md-search__input").press_sequentially(text, delay=30)
    page.locator(".md-search-result__item").first.wait_for(timeout=20_000)
    return str(page.locator(".md-search-result__item").first.inner_text())


@needs_mkdocs
@needs_browser
@pytest.mark.slow
def test_the_site_works_from_the_disk_and_fits_every_width(built: Path) -> None:
    for name in ("index", "docs/flags", "docs/scaling", "docs/alternatives", "benchmarks/RESULTS", "src/metrics.py"):
        with opened(built / f"{name}.html", width=1600) as page:
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 900})
                page.wait_for_function("document.documentElement.scrollWidth <= innerWidth", timeout=5_000)
    with opened(built / "index.html", width=1600, dark=True) as page:
        assert "progressive-resize" in first_found(page, "progressive-resize")
        page.locator(".md-search-result__item a").first.click()
        page.wait_for_url("**/docs/*.html*")


@needs_mkdocs
@needs_browser
@pytest.mark.slow
def test_every_page_asks_for_nothing_but_files_of_the_site(built: Path) -> None:
    asked: list[str] = []
    failed: list[str] = []
    with served(built) as home, opened(f"{home}index.html", width=1600) as page:
        page.on("request", lambda request: asked.append(request.url))
        page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
        for path in [*sorted(built.rglob("*.html")), built / "index.html"]:
            page.goto(home + path.relative_to(built).as_posix())
        first_found(page, "letterbox")
    assert len(asked) > 100
    assert not [url for url in asked if not url.startswith((home, "data:", "blob:"))]
    assert not failed
