"""The pictures of the docs: few, small, each with an entry that makes it, and shown somewhere."""

import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines import pictures
from pipelines.pictures import FOLDER, MAX_BYTES, PICTURES, Picture
from src.core.errors import InputError
from tests.browser import needs_browser

ROOT = Path(__file__).resolve().parents[2]


def test_every_picture_has_an_entry_is_small_and_is_shown_with_a_description() -> None:
    files = {path.stem: path for path in FOLDER.iterdir()}
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))
    assert set(files) == set(PICTURES)
    assert len(files) <= 8
    for name, path in files.items():
        assert path.stat().st_size <= MAX_BYTES, name
        assert re.search(rf"!\[[^\]]{{10,}}\]\(pictures/{name}\.webp\)", text), name


def test_a_picture_that_cannot_be_small_enough_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_BYTES", 500)
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream := io.BytesIO(), "PNG")
    with pytest.raises(InputError, match="give it a smaller window"):
        pictures.as_webp(stream.getvalue())


SERVER = """
import http.server
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
print(f"serving at http://127.0.0.1:{server.server_port}/ until Ctrl-C", flush=True)
server.serve_forever()
"""
PAGE = """<body style="margin:0"><p style="height:900px">above</p>
<div id="it" style="height:900px;background:#00f"></div>
<input type="file" onchange="document.getElementById('it').style.background = '#0f0'">"""


@needs_browser
@pytest.mark.slow
def test_a_page_is_uploaded_to_scrolled_and_photographed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "ROOT", tmp_path)
    (tmp_path / "index.html").write_text(PAGE)
    (tmp_path / "serve.py").write_text(SERVER)
    made = {
        "file": Picture(commands=(), page="index.html", show="#it", window=(200, 100)),
        "server": Picture(commands=(), server="python serve.py", upload="*.py", most=1, show="#it", window=(200, 100)),
        "images": Picture(commands=("python -c pass",), images="pictures/file.webp", window=(200, 100)),
    }
    monkeypatch.setattr(pictures, "PICTURES", made)
    pictures.make(list(made), tmp_path / "pictures")
    middle = {}
    for name in made:
        image = Image.open(tmp_path / "pictures" / f"{name}.webp")
        assert image.size == (300, 150)
        middle[name] = np.asarray(image)[100, 150]
    assert middle["file"].argmax() == 2
    assert middle["server"].argmax() == 1
    assert sys.executable in pictures.arguments_of("python -m src.make_demo")


@pytest.mark.parametrize("command", ["python -c pass", "python -c print('no','address')"])
def test_a_server_that_prints_no_address_is_one_line(command: str) -> None:
    with pytest.raises(InputError, match="printed no address"), pictures.served(command):
        pass
