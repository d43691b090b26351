"""From files of many channels or of 16 bits to a submission: prepare, train, evaluate, predict."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydantic import TypeAdapter

from src.config import BenchConfig
from src.runs.record import ModelRecord
from src.runs.run import build_network
from tests.fixtures import Podium

KINDS = ("barley", "maize")
COMPETITION = '''"""Fields from above."""

from src.competitions.tables import csv_competition

COMPETITION = csv_competition(
    name="fields", id_column="id", label_column="crop", image_size=(24, 32), bands={bands}, depth={depth}
)
'''
TRAIN = ("--backbone", "svhn_cnn", "--no-pretrained", "--epochs", 1, "--batch-size", 4, "--fold", 0)


def field(seed: int, bands: int) -> np.ndarray:
    """Return a smooth image (24, 32, bands) of 12 bits in 16; of odd seeds the last band is bright."""
    coarse = np.random.default_rng(seed).uniform(0, 2000, (4, 6, bands))
    planes = [cv2.resize(coarse[..., band], (32, 24)) for band in range(bands)]
    planes[-1] += 2000 * (seed % 2)
    return np.stack(planes, axis=2).astype(np.uint16)


def write(folder: Path, bands: int, suffix: str, num_train: int = 16, num_test: int = 4) -> None:
    """Write input/fields/, whose test images are the first train images again, and fields.py."""
    root = folder / "input" / "fields"
    for part, count in (("train", num_train), ("test", num_test)):
        (root / part).mkdir(parents=True)
        for i in range(count):
            path = root / part / f"{i:03d}{suffix}"
            if suffix == ".npy":
                np.save(path, field(i, bands).transpose(2, 0, 1))
            else:
                assert cv2.imwrite(str(path), field(i, bands))
    rows = [f"{i:03d},{KINDS[i % 2]}" for i in range(num_train)]
    (root / "train.csv").write_text("\n".join(["id,crop", *rows, ""]))
    (root / "sample_submission.csv").write_text(
        "\n".join(["id,crop", *(f"{i:03d},maize" for i in range(num_test)), ""])
    )
    (folder / "fields.py").write_text(COMPETITION.format(bands=bands, depth=16))


@pytest.mark.parametrize(("bands", "suffix"), [(6, ".npy"), (1, ".png")])
def test_the_whole_road(tmp_path: Path, podium: Podium, bands: int, suffix: str) -> None:
    num_test = 6
    write(tmp_path, bands, suffix, num_test=num_test)
    competition = ("--competition", "fields.py")
    ended = podium("prepare", *competition, "--num-folds", 2)
    assert ended.code == 0, ended.err
    caches = {path.name.split("_")[0]: path for path in (tmp_path / "runs/fields/cache").glob("*_24x32_*.npy")}
    train, test = (np.load(caches[name]) for name in ("train", "test"))
    assert train.dtype == test.dtype == np.uint16
    assert (test == np.stack([field(i, bands) for i in range(num_test)])).all()
    assert all((train == image).all(axis=(1, 2, 3)).sum() == 1 for image in test)  # read alike

    for name, flags in (("cpu", ("--mixup", 0.2, "--augment.erase", 0.5)), ("held", ("--cache-on-device", "on"))):
        ended = podium("train", *competition, *TRAIN, "--run-name", name, "--cutmix", 0.5, *flags)
        assert ended.code == 0, ended.err
    model = json.loads((tmp_path / "runs/fields/cpu/run.json").read_text())["model"]
    assert model["depth"] == 16
    assert np.allclose(model["mean"], train.mean(axis=(0, 1, 2)) / 65535, atol=1e-6)
    assert np.allclose(model["std"], train.std(axis=(0, 1, 2)) / 65535, atol=1e-6)

    again = build_network(TypeAdapter(ModelRecord).validate_python(model))
    assert np.allclose(again.normalise.shift[:bands], train.mean(axis=(0, 1, 2)), atol=0.1)

    chosen = ("--run-name", "cpu")
    commands: dict[str, tuple[object, ...]] = {
        "evaluate": (*chosen, "--folds", 0),
        "predict": chosen,
        "doctor": ("--deep",),
    }
    for command, wanted in commands.items():
        ended = podium(command, *competition, *wanted)
        assert ended.code == 0, (ended.out, ended.err)
    lines = (tmp_path / "submissions/fields/cpu.csv").read_text().split()
    assert len(lines) == 1 + num_test
    assert {line.partition(",")[2] for line in lines[1:]} <= set(KINDS)

    fold = tmp_path / "runs/fields/cpu/fold0"
    oof, answered = np.load(fold / "oof.npz"), np.load(fold / "test.npz")
    held_out = dict(zip([Path(path).stem for path in oof["image_path"]], oof["probabilities_tta"], strict=True))
    both = [i for i in range(num_test) if f"{i:03d}" in held_out]
    assert both
    for i in both:  # the network built again sees a test image as the trained one saw the same held-out image
        assert np.allclose(answered["probabilities_tta"][i], held_out[f"{i:03d}"], atol=1e-6)

    (tmp_path / "fields.py").write_text(COMPETITION.format(bands=0, depth=8))
    ended = podium("evaluate", *competition, "--run-name", "cpu", "--folds", 0)
    assert ended.code == 2
    assert f"was made with bands={bands}, depth=16, the competition has bands=0, depth=8" in ended.err


def test_flags_for_colours_are_refused_and_bench_draws_bands(tmp_path: Path, podium: Podium) -> None:
    write(tmp_path, 5, ".npy", num_train=4)
    assert podium("prepare", "--competition", "fields.py", "--num-folds", 2).code == 0
    ended = podium("train", "--competition", "fields.py", *TRAIN, "--augment.effects", 0.5)
    assert ended.code == 2
    assert "--augment.effects 0.5: is for ordinary pictures" in ended.err
    flags = ("--backbone", "svhn_cnn", "--batch-size", 4, "--steps", BenchConfig().steps // 5, "--image-size", 24, 32)
    ended = podium("bench", "--competition", "fields.py", *flags)
    assert ended.code == 0, ended.err


def test_an_unfit_image_is_told_with_its_reason(tmp_path: Path, podium: Podium) -> None:
    write(tmp_path, 6, ".npy")
    np.save(tmp_path / "input/fields/train/003.npy", np.zeros((24, 32, 6), np.float32))
    ended = podium("prepare", "--competition", "fields.py", "--num-folds", 2)
    assert ended.code == 0, ended.err
    problems = next((tmp_path / "runs/fields/prepared").glob("*/problems.csv")).read_text()
    assert "train/003.npy,unfit,skipped,float32 numbers; convert them to uint16" in problems
