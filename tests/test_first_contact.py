"""What a new user meets: missing test images, several image sizes, labels that are not classes, mistyped names."""

import json
from pathlib import Path

import pytest

from src.core.csv_text import parse_csv
from tests.drawing import draw, write_image
from tests.fixtures import Finished, MakeLeaves, MakeSvhn, Podium
from tests.helpers import prepared_at, run_at, snapshot_at

NET = ("--backbone", "svhn_cnn", "--no-pretrained", "--batch-size", 4, "--epochs", 1, "--image-size", 24, 32)
LEAVES = ("--competition", "leaves.py")

CAPTCHAS = """
import pandas as pd
from src.competitions.spec import Competition, Head

CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def read_train(files):
    table = files.table("train.csv")
    columns = {f"character{i}": [CHARACTERS.index(text[i]) for text in table["text"]] for i in range(4)}
    return pd.DataFrame({"image_path": ["images/" + name for name in table["file"]], **columns})


def read_test(files):  # lists no folder
    names = files.table("sample.csv")["file"].tolist()
    return pd.DataFrame({"image_path": ["deeper/test/" + name for name in names], "id": names})


COMPETITION = Competition(
    name="captchas",
    heads=tuple(Head(name=f"character{i}", classes=tuple(CHARACTERS)) for i in range(4)),
    image_size=(24, 48),
    hflip_ok=False,
    read_train=read_train,
    read_test=read_test,
    columns=("file", "text"),
)
"""


@pytest.fixture
def captchas(tmp_path: Path) -> Path:
    """Write captchas.py and its files: 12 images of four characters, 3 test images in a folder that nothing lists."""
    folder = tmp_path / "input" / "captchas"
    for i in range(12):
        write_image(folder / "images" / f"{i}.png", draw(9000 + i))
    for i in range(3):
        write_image(folder / "organiser" / "deeper" / "test" / f"{i}.png", draw(9500 + i))
    rows = [f"{i}.png,{'09AZ' if i % 2 else 'QX71'}" for i in range(12)]
    (folder / "train.csv").write_text("\n".join(["file,text", *rows, ""]))
    (folder / "sample.csv").write_text("file,text\n0.png,AAAA\n1.png,AAAA\n2.png,AAAA\n")
    (tmp_path / "captchas.py").write_text(CAPTCHAS)
    return tmp_path / "captchas.py"


def done(finished: Finished) -> str:
    assert finished.code == 0, finished.err
    return finished.out


def error_of(finished: Finished) -> str:
    assert finished.code == 2, finished.out
    (line,) = (line for line in finished.err.splitlines() if line)
    return line


def test_the_layout_of_heads_reaches_the_network_by_itself(captchas: Path, podium: Podium, tmp_path: Path) -> None:
    flags = ("--competition", captchas)
    done(podium("prepare", *flags, "--num-folds", 2))
    done(podium("train", *flags, "--backbone", "string_cnn", "--no-pretrained", "--batch-size", 4, "--epochs", 1))
    run = run_at(tmp_path / "runs" / "captchas" / "baseline", str(captchas))
    assert run.started_record.model.layout.widths == (36,) * 4
    assert getattr(run.load_network(run.open_fold(0)).backbone, "head_widths", None) == (36,) * 4


def test_images_of_a_folder_that_no_reader_lists_are_found(captchas: Path, podium: Podium, tmp_path: Path) -> None:
    out = done(podium("prepare", "--competition", captchas, "--num-folds", 2))
    assert "missing" not in out
    cache = prepared_at(tmp_path / "runs" / "captchas", str(captchas)).cache("test")
    assert cache.images[:].any(axis=(1, 2, 3)).all()


def test_an_image_that_two_folders_hold_is_refused(captchas: Path, podium: Podium, tmp_path: Path) -> None:
    write_image(tmp_path / "input" / "captchas" / "copy" / "deeper" / "test" / "1.png", draw(1))
    line = error_of(podium("prepare", "--competition", captchas))
    assert "the same image lies at" in line
    assert "deeper/test/1.png" in line


def test_missing_test_images_stop_prepare_before_it_decodes(
    leaves: MakeLeaves, podium: Podium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaves(num_test=6)
    for i in range(6):
        (tmp_path / "input" / "leaves" / "test" / f"{i:04d}.png").rename(
            tmp_path / "input" / "leaves" / "test" / f"other{i}.png"
        )
    monkeypatch.setattr("src.data.building.build_cache", lambda *_, **__: pytest.fail("decoded"))
    line = error_of(podium("prepare", *LEAVES))
    assert "6 of 6 test images are missing or unreadable, such as test/0005.png" in line
    assert "--max-unreadable 0.01" in line


def test_what_is_missing_is_repeated_and_equal_answers_are_pointed_out(
    leaves: MakeLeaves, podium: Podium, tmp_path: Path
) -> None:
    leaves(num_test=4)
    for i in range(4):
        (tmp_path / "input" / "leaves" / "test" / f"{i:04d}.png").write_bytes(b"")
    done(podium("prepare", *LEAVES, "--num-folds", 2, "--max-unreadable", 1))
    done(podium("train", *LEAVES, *NET))
    note = "4 of 4 test images are missing or unreadable and answered from a black image"
    assert note in done(podium("evaluate", *LEAVES))
    out = done(podium("predict", *LEAVES))
    assert note in out
    assert "warning: all 4 answers are " in out
    assert json.loads((tmp_path / "submissions" / "leaves" / "baseline.json").read_text())["num_unreadable"] == 4
    assert note in podium("doctor", *LEAVES, "--backbone", "svhn_cnn").out


def test_runs_of_different_sizes_are_predicted_and_blended_together(
    leaves: MakeLeaves, podium: Podium, tmp_path: Path
) -> None:
    leaves(num_train=16, num_test=5)
    size = ("--backbone", "svhn_cnn", "--no-pretrained", "--batch-size", 4, "--epochs", 1)
    for name, height, width in (("small", 24, 32), ("large", 40, 48)):
        done(podium("prepare", *LEAVES, "--num-folds", 2, "--image-size", height, width))
        done(podium("train", *LEAVES, *size, "--run-name", name))
    done(podium("evaluate", *LEAVES, "--run-name", "small"))
    done(podium("predict", *LEAVES, "--run-name", "small", "large"))
    done(podium("blend", *LEAVES, "--run-name", "small", "large", "--outer-folds", 2))
    runs = tmp_path / "runs" / "leaves"
    sizes = [run_at(runs / name, "leaves.py").started_record.cache_size for name in ("small", "large")]
    assert sizes == [(24, 32), (40, 48)]
    table = parse_csv((tmp_path / "submissions" / "leaves" / "small+large.csv").read_bytes(), "answers")
    assert len(table) == 5
    # Without its cache, the message's command makes it again and changes nothing else.
    prepared_at(runs, "leaves.py").cache_file("test", (24, 32)).unlink()
    (runs / "small" / "fold0" / "test.npz").unlink()
    line = error_of(podium("predict", *LEAVES, "--run-name", "small"))
    command = "python -m src.prepare --competition leaves.py --num-folds 2 --image-size 24 32"
    assert command in line
    done(podium(*command.removeprefix("python -m src.").split()))
    done(podium("predict", *LEAVES, "--run-name", "small", "large"))


def test_folds_do_not_change_with_the_image_size(svhn: MakeSvhn, podium: Podium, tmp_path: Path) -> None:
    svhn(num_train=16)
    folds = []
    for size in ((64, 128), (16, 16), (64, 128)):
        done(podium("prepare", "--num-folds", 2, "--image-size", *size))
        folds.append((snapshot_at(tmp_path / "runs" / "svhn") / "folds.csv").read_bytes())
    assert folds[0] == folds[1] == folds[2]
    assert len([path for path in (tmp_path / "runs" / "svhn" / "prepared").iterdir() if path.is_dir()]) == 1


def test_a_cache_of_other_files_is_not_used(leaves: MakeLeaves, podium: Podium, tmp_path: Path) -> None:
    leaves(num_test=4)
    done(podium("prepare", *LEAVES, "--num-folds", 2, "--image-size", 24, 32))
    done(podium("train", *LEAVES, *NET[:-3]))
    write_image(tmp_path / "input" / "leaves" / "test" / "0002.png", draw(77))
    done(podium("prepare", *LEAVES, "--num-folds", 2, "--image-size", 40, 48))
    line = error_of(podium("predict", *LEAVES))
    assert "1 test images have changed in input/ since prepare read them, such as test/0002.png" in line
    assert "--num-folds 2 --image-size 24 32" in line


@pytest.mark.parametrize("command", ["bench", "summary"])
def test_costs_are_measured_for_classes_that_only_the_data_tells(
    leaves: MakeLeaves, podium: Podium, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaves()
    monkeypatch.setattr("src.training.benchmark.NUM_IMAGES", 16)
    flags = {"bench": (*NET, "--steps", 3), "summary": ("--backbone", "svhn_cnn", "--image-size", 24, 32)}[command]
    line = error_of(podium(command, *LEAVES, *flags))
    assert "run python -m src.prepare --competition leaves.py first" in line
    done(podium("prepare", *LEAVES, "--num-folds", 2))
    done(podium(command, *LEAVES, *flags))


def test_what_heads_and_classes_count_is_checked_when_the_data_tell_them(leaves: MakeLeaves, podium: Podium) -> None:
    leaves()
    done(podium("prepare", *LEAVES, "--num-folds", 2))
    net = (*LEAVES, *NET, "--fold", 0, "--class-weights", "--sampler", "balanced")
    line = error_of(podium("train", *net, "--head-weights", 1, 2))
    assert line == "error: --head-weights: give 1 numbers of 0 or more, one for each head"
    done(podium("train", *net, "--head-weights", 2))
