"""The doctor command takes seconds at the scale of the street-view competition."""

import json
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures import MakeSvhn
from tests.trust.conftest import ROOT


@pytest.mark.slow
def test_the_doctor_checks_thirty_thousand_images(
    tmp_path: Path, svhn: MakeSvhn, figure: Callable[[str], None]
) -> None:
    folder = svhn(num_train=2, num_val=2, num_test=2, packing="folder")
    labels = json.loads((folder / "mchar_train.json").read_text())
    image, label = (folder / "mchar_train" / "000000.png").read_bytes(), labels["000000.png"]
    with zipfile.ZipFile(folder / "mchar_train.zip", "w") as archive:
        for number in range(30_000):
            archive.writestr(f"mchar_train/{number:06d}.png", image)
    shutil.rmtree(folder / "mchar_train")
    (folder / "mchar_train.json").write_text(json.dumps({f"{number:06d}.png": label for number in range(30_000)}))
    command = [sys.executable, "-m", "src.doctor", "--input-dir", str(tmp_path / "input")]
    started = time.perf_counter()
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    assert finished.returncode == 0, finished.stdout
    assert "ok    30,002 labelled images, all there" in finished.stdout
    figure(f"doctor with 30,002 labelled images: {seconds:.1f} s from start to end")  # printed, not tested
