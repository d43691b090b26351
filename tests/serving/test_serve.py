"""serve: the answers of predict, and clear refusals."""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from src.config import ServeConfig
from src.core.modules import has_modules
from src.data.images import ImageProblem, decode_image
from src.serving.uploads import refusal_of
from tests.fixtures import Finished
from tests.serving.asking import form, get, post
from tests.world import refused, run_command

pytestmark = pytest.mark.skipif(not has_modules("fastapi", "uvicorn"), reason="requirements-serve.txt is not installed")


def test_a_request_that_could_never_be_answered_is_refused_at_the_start(tmp_path: Path) -> None:
    refused(run_command(tmp_path, "serve", "--max-waiting", 4, "--max-files", 8), "--max-waiting 4: is less than one")


@pytest.fixture(scope="module")
def served(finished_world: Path) -> Iterator[Any]:
    """Return the application of a finished run, with small limits."""
    from src.serving.answering import open_answerer
    from src.serving.app import make_app
    from src.serving.limits import Limits

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(finished_world)
        answerer = open_answerer(ServeConfig(device="cpu", max_pixels=100_000))
        yield make_app(answerer, Limits(max_mb=0.1, max_files=4, max_waiting=8), answerer.facts())


def test_answers_are_those_of_predict(served: Any, finished_world: Path) -> None:
    folder = finished_world / "submissions" / "svhn"
    expected = pd.read_csv(folder / "baseline.csv", dtype=str)
    images = finished_world / "input" / "svhn" / "mchar_test_a"
    status, answer, _ = post(
        served, "/predict", *form(**{name: (images / name).read_bytes() for name in expected["file_name"]})
    )
    assert status == 200
    assert [one["answer"] for one in answer["images"]] == expected["file_code"].tolist()
    assert [one["file"] for one in answer["images"]] == expected["file_name"].tolist()
    assert all(one["saliency"] is None for one in answer["images"])
    with np.load(folder / "baseline.npz") as kept:
        rows = kept["probabilities"].reshape(3, 6, 11)
    for one, row in zip(answer["images"], rows, strict=True):
        for head, shares in zip(one["heads"], row, strict=True):
            assert head["probabilities"][0]["probability"] == pytest.approx(shares.max(), abs=1e-5)


def test_saliency_is_a_picture_of_the_size_that_the_network_sees(served: Any, finished_world: Path) -> None:
    image = (finished_world / "input" / "svhn" / "mchar_test_a" / "000000.png").read_bytes()
    answer = post(served, "/predict?saliency=true", *form(a=image)).answer
    head, _, data = answer["images"][0]["saliency"].partition(",")
    assert head == "data:image/png;base64"
    assert decode_image(base64.b64decode(data)).shape == (32, 48, 3)


def test_all_classes_are_told_if_asked_for(served: Any, finished_world: Path) -> None:
    image = (finished_world / "input" / "svhn" / "mchar_test_a" / "000000.png").read_bytes()
    few, every = (post(served, path, *form(a=image)).answer["images"][0] for path in ("/predict", "/predict?all=true"))
    assert few["answer"] == every["answer"]
    for head, whole in zip(few["heads"], every["heads"], strict=True):
        shares = [one["probability"] for one in whole["probabilities"]]
        assert (len(head["probabilities"]), len(shares)) == (10, 11)
        assert head["probabilities"] == whole["probabilities"][:10]
        assert sum(shares) == pytest.approx(1, abs=1e-4)


def test_too_many_with_saliency_are_told_so_before_anything_is_predicted(
    served: Any, finished_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from src.serving import app as module

    class Answering:
        """Nothing may be asked of it."""

        facts: dict[str, Any] = {"competition": "c", "run": "r"}

        def predict(self, images: np.ndarray) -> np.ndarray:
            pytest.fail("predicted")

        read = predict

    monkeypatch.setattr(module, "MAX_LOOKS", 0)
    image = (finished_world / "input" / "svhn" / "mchar_test_a" / "000000.png").read_bytes()
    answering: Any = Answering()
    application = module.make_app(answering, served.limits, answering.facts)
    status, answer, headers = post(application, "/predict?saliency=true", *form(a=image))
    assert (status, headers["retry-after"]) == (503, "1")
    assert answer["detail"] == "0 requests with saliency are being answered; try again in a second"


def test_requests_that_cannot_be_answered_are_a_4xx_that_says_why(
    served: Any, finished_world: Path, png_header: Callable[[int, int], bytes]
) -> None:
    image = (finished_world / "input" / "svhn" / "mchar_test_a" / "000000.png").read_bytes()
    plain = {"content-type": "text/plain"}
    cases = [
        (form(a=b""), 422, "a: empty"),
        (form(a=b"hello"), 415, "a: not an image"),
        (form(good=image, a=image[:200]), 422, "a: truncated"),
        (form(a=png_header(400, 400)), 413, "a: over-large: 400x400 pixels, the limit is 100,000"),
        (form(a=png_header(60_000, 60_000)), 413, "a: over-large"),
        (form(a=bytes(200_000)), 413, "more than 0.1 MB"),
        (form(**{f"f{i}": image for i in range(5)}), 413, "5 files"),
        (form(**{f"f{i}": b"" for i in range(1001)}), 413, "at most 4 are answered"),
        (form(), 422, "no images"),
        ((b"{}", plain), 415, "content type text/plain; send images as multipart/form-data"),
        ((image, {"content-type": "multipart/form-data"}), 400, "boundary"),
        ((b"x", {**plain, "content-length": "999999999"}), 413, "more than 0.1 MB"),
    ]
    for (body, headers), status, text in cases:
        found, answer, _ = post(served, "/predict", body, headers)
        assert found == status, (answer, text)
        assert text in answer["detail"]
    assert get(served, "/nothing").status == 404
    wrong = get(served, "/predict")
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")
    status, answer, _ = post(served, "/predict?saliency=maybe", *form(a=image))
    assert status == 422
    assert answer["detail"].startswith("?saliency=maybe: Input should be a valid boolean")
    assert refusal_of(ImageProblem("unfit", "5 channels"), "x").status == 422


def test_the_pages_load_nothing_from_elsewhere(served: Any) -> None:
    for path in ("/", "/docs"):
        status, text, _ = get(served, path)
        assert status == 200
        assert 'src="http' not in text
        assert "//cdn" not in text
    assert "?all</code>, boolean: All classes" in text
    operation = get(served, "/openapi.json").answer["paths"]["/predict"]["post"]
    assert {"200", "400", "413", "415", "422", "503"} <= set(operation["responses"])
    assert [one["name"] for one in operation["parameters"]] == ["saliency", "all"]


def test_a_port_that_is_taken_and_a_missing_extra_are_one_line(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from src.core import modules
    from src.core.listening import listen

    with listen("127.0.0.1", 0) as (socket, address):
        assert address.startswith("http://127.0.0.1:")
        port = socket.getsockname()[1]
        refused(
            run_command(world, "serve", "--port", port, "--no-tta"), f"--port {port}: another program listens there"
        )
    for host in ("a..b", "a" * 64):
        refused(run_command(world, "serve", "--host", host, "--no-tta"), f"--host {host}: is not a host name")
    monkeypatch.setattr(modules.importlib.util, "find_spec", lambda name: None)
    ended: Finished = run_command(world, "serve")
    refused(ended, "src.serve: fastapi, uvicorn, python_multipart not installed; pip install -r requirements-serve.txt")
