"""Make docs/pictures/: what the demo's images and Podium's own pages look like.

    python -m pipelines.pictures                     (20 minutes on 2 cores, mostly training; needs Chromium)
    python -m pipelines.pictures --only images try
    python -m pipelines.pictures --dark /tmp/dark    (in dark colours, to look at; docs/ shows light ones)

A picture is an entry of PICTURES: the commands before it, and the page that is then opened in a headless Chromium. The
commands run in this folder and do nothing if they were run before. Writes .webp files of at most 60 KB.
"""

import argparse
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from src.core.errors import InputError
from src.core.writing import write_bytes

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "pictures"
Scheme = Literal["light", "dark"]
MAX_BYTES = 60_000
QUALITIES = range(86, 40, -6)
DEMO = "bash pipelines/demo.sh"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture of a page."""

    commands: tuple[str, ...] = (DEMO,)
    """Commands that make what the page shows; `python` is this interpreter."""
    page: str = ""
    """The page's file, relative to the project's folder."""
    server: str = ""
    """Instead: a command that serves the page, and prints its address."""
    images: str = ""
    """Instead: a pattern of image files, which are shown side by side."""
    window: tuple[int, int] = (1000, 680)
    """Width and height of the page that is seen, in pixels."""
    scale: float = 1.5
    """Pixels of the picture for each of the page's; fewer if it shows many photographs."""
    show: str = ""
    """Selector of the element that is scrolled to the top."""
    upload: str = ""
    """Pattern of the files that are given to the page's file input."""
    wait: str = ""
    """Selector of an element that must be there first."""
    most: int = 24
    """How many files of a pattern are taken."""


# A second run, for a comparison: half the epochs, without augmentation.
PLAIN = (
    "python -m src.train --competition demo --fold all --run-name plain --backbone string_cnn --no-pretrained "
    "--epochs 14 --batch-size 32 --lr 3e-3 --dropout 0 --augment.rotate 0 --augment.shift 0 --augment.concat 0"
)
SEARCH = (
    "python -m src.search --competition demo --trials 8 --space lr=1e-3..1e-2:log dropout=0..0.3 augment.rotate=0..15 "
    "epochs=12 batch_size=32 backbone=string_cnn pretrained=False"
)
PICTURES: dict[str, Picture] = {
    "images": Picture(
        commands=("python -m src.make_demo",), images="input/demo/mchar_train/*.png", window=(1000, 250), most=48
    ),
    "report": Picture(page="runs/demo/baseline/evaluation/report.html", window=(1000, 860), scale=1.25),
    "gallery": Picture(page="runs/demo/baseline/evaluation/report.html", show="#gallery", scale=1),
    "watch": Picture(server="python -m src.watch baseline --competition demo --port 0", window=(1000, 760)),
    "compare": Picture(
        commands=(DEMO, PLAIN, "python -m src.compare baseline plain --competition demo"),
        page="runs/demo/compare.html",
        window=(1000, 600),
    ),
    "search": Picture(
        commands=(DEMO, SEARCH),
        page="runs/demo/searches/search/search.html",
        show="h2:text('History')",
        window=(1000, 370),
    ),
    "try": Picture(
        server="python -m src.serve --competition demo --port 0",
        upload="input/demo/mchar_test_a/00000[49].png",
        wait=".result:nth-child(2) .bar",
        window=(1000, 800),
    ),
}


def chromium() -> str:
    """Return the installed Chromium, or what the variable CHROMIUM names. Raises InputError if there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if not found:
        raise InputError("no Chromium: apt-get install chromium, or name one in the variable CHROMIUM")
    return found


def arguments_of(command: str) -> list[str]:
    """Return a command's arguments, with this interpreter for `python`."""
    first, *rest = shlex.split(command)
    return [sys.executable if first == "python" else first, *rest]


@contextmanager
def served(command: str) -> Iterator[str]:
    """Run a server and yield the address that it prints. Raises InputError if it ends without one."""
    with subprocess.Popen(arguments_of(command), cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            found = next(filter(None, (re.search(r"http://\S+?(?=/?[\s)]|$)", line) for line in process.stdout)), None)
            if not found:
                raise InputError(f"'{command}' printed no address")
            yield found[0]
        finally:
            process.terminate()


def files_of(pattern: str, most: int) -> list[Path]:
    """Return the first files of a pattern. Raises InputError if there are none."""
    files = sorted(ROOT.glob(pattern))[:most]
    if not files:
        raise InputError(f"{pattern}: no such files")
    return files


@contextmanager
def address_of(picture: Picture) -> Iterator[str]:
    """Yield where a picture's page is."""
    if picture.server:
        with served(picture.server) as address:
            yield address
    elif picture.images:
        with tempfile.TemporaryDirectory() as folder:
            images = "".join(f'<img src="{path.as_uri()}">' for path in files_of(picture.images, picture.most))
            style = (
                "body{margin:6px;font-size:0;text-align:center}img{height:58px;margin:2px;image-rendering:pixelated}"
            )
            (page := Path(folder) / "page.html").write_text(f"<style>{style}</style>{images}")
            yield page.as_uri()
    else:
        yield (ROOT / picture.page).resolve().as_uri()


def prepared(page: Any, picture: Picture) -> Any:
    """Return a page that is uploaded to and scrolled as the picture wants it."""
    if picture.upload:
        page.locator("input[type=file]").set_input_files(files_of(picture.upload, picture.most))
    if picture.wait:
        page.locator(picture.wait).first.wait_for(timeout=60_000)
    if picture.show:
        page.locator(picture.show).evaluate(
            "(element) => scrollTo(0, element.getBoundingClientRect().top + scrollY - 12)"
        )
    page.wait_for_timeout(1500)  # charts are drawn with a short animation
    return page


def screenshot(picture: Picture, scheme: Scheme = "light") -> bytes:
    """Return a picture as PNG."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise InputError(f"{error}; run '{sys.executable} -m pip install -r requirements-dev.txt'") from error
    with sync_playwright() as playwright, address_of(picture) as address:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        width, height = picture.window
        page = browser.new_page(
            viewport={"width": width, "height": height}, device_scale_factor=picture.scale, color_scheme=scheme
        )
        page.goto(address)
        data: bytes = prepared(page, picture).screenshot()
        browser.close()
    return data


def as_webp(data: bytes) -> bytes:
    """Return a PNG as WebP of at most MAX_BYTES. Raises InputError if no quality is small enough."""
    from PIL import Image

    image = Image.open(io.BytesIO(data)).convert("RGB")
    for quality in QUALITIES:
        image.save(stream := io.BytesIO(), "WEBP", quality=quality, method=6)
        if stream.tell() <= MAX_BYTES:
            return stream.getvalue()
    raise InputError(f"more than {MAX_BYTES:,} bytes at quality {QUALITIES[-1]}: give it a smaller window")


def make(names: list[str], folder: Path = FOLDER, scheme: Scheme = "light") -> None:
    """Run the commands of the named pictures, each once, and write the pictures in light or dark colours."""
    commands = dict.fromkeys(command for name in names for command in PICTURES[name].commands)
    for command in commands:
        print(f"$ {command}", flush=True)
        if subprocess.run(arguments_of(command), cwd=ROOT).returncode:
            raise InputError(f"'{command}' failed")
    for name in names:
        data = as_webp(screenshot(PICTURES[name], scheme))
        write_bytes(folder / f"{name}.webp", data)
        print(f"{name}.webp: {len(data):,} bytes", flush=True)


def main() -> None:
    """Parse the flags and make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PICTURES, default=list(PICTURES), help="which; default: all")
    parser.add_argument("--dark", type=Path, metavar="FOLDER", help="write pictures in dark colours there")
    given = parser.parse_args()
    try:
        make(given.only, given.dark or FOLDER, "dark" if given.dark else "light")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
