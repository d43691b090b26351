"""Downloading from Kaggle through its own client, which a program called `kaggle` stands for here."""

import os
import zipfile
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from src.core.errors import InputError
from src.core.reading import PARTIAL
from src.core.signals import Stopped
from src.handin import kaggle as client
from src.handin.bundle import settle
from tests.fixtures import MakeLeaves, Podium
from tests.handin.fake_kaggle import FakeKaggle, kaggle
from tests.handin.test_download import refused

__all__ = ["kaggle"]
LISTED = "name,totalBytes,creationDate\ntrain.csv,2000000,2020\n"
FILES = {"out": f"Warning: old client\n{LISTED}"}


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "SECONDS_BETWEEN_LOOKS", 0.02)


def bundle(tmp_path: Path, content: Path, nested: bool) -> dict[str, str]:
    """Zip a competition's files as Kaggle does; `nested` puts the images into zips inside."""
    path = tmp_path / "bundle.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(content.rglob("*.*")):
            if not nested or file.suffix == ".csv":
                archive.write(file, str(file.relative_to(content)))
        for part in ("train", "test") if nested else ():
            with zipfile.ZipFile(tmp_path / f"{part}.zip", "w") as inner:
                for file in (content / part).iterdir():
                    inner.write(file, f"{part}/{file.name}")
            archive.write(tmp_path / f"{part}.zip", f"{part}.zip")
    return {"leaf-disease.zip": str(path)}


@pytest.mark.parametrize("nested", [False, True])
def test_a_competition_arrives_as_prepare_expects_it(
    tmp_path: Path, podium: Podium, leaves: MakeLeaves, kaggle: FakeKaggle, nested: bool
) -> None:
    file = leaves()
    (tmp_path / "input" / "leaves").rename(tmp_path / "content")
    kaggle.will(files=FILES, download={"files": bundle(tmp_path, tmp_path / "content", nested)})
    ended = podium("download", "--competition", file, "--kaggle", "leaf-disease")
    assert ended.code == 0, ended.err
    assert kaggle.calls()[1] == [
        "competitions", "download", "-c", "leaf-disease", "-p", str(Path("input/leaves") / PARTIAL), "-q"
    ]  # fmt: skip
    assert not (tmp_path / "input" / "leaves" / PARTIAL).exists()
    assert (tmp_path / "input" / "leaves" / "leaf-disease.zip").exists() != nested
    assert podium("prepare", "--competition", file, "--num-folds", 2).code == 0
    assert "holds files already" in podium("download", "--competition", file, "--kaggle", "leaf-disease").out
    assert len(kaggle.calls()) == 2


@pytest.mark.parametrize(
    ("out", "listed"),
    [
        (LISTED, (2_000_000, True)),
        (f"Next Page Token = x\n{LISTED}", (2_000_000, False)),
        (f"{LISTED}test.csv,,2020\n", (2_000_000, False)),
        ("name,size,creationDate\n" + "a.png,1000,2020\n" * 200, (200_000, False)),
        ("No files found\n", (0, False)),
    ],
    ids=["whole", "more pages", "no size", "a full page", "nothing"],
)
def test_the_size_is_known_only_if_every_file_is_listed_with_its_size(
    kaggle: FakeKaggle, out: str, listed: tuple[int, bool]
) -> None:
    kaggle.will(files={"out": out})
    assert client.open_kaggle("leaf-disease").listed_bytes() == listed


def test_an_interrupted_move_of_unpacked_files_is_resumed(
    tmp_path: Path, podium: Podium, leaves: MakeLeaves, kaggle: FakeKaggle, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = leaves()
    (tmp_path / "input" / "leaves").rename(tmp_path / "content")
    kaggle.will(files=FILES, download={"files": bundle(tmp_path, tmp_path / "content", True)})
    replace = os.replace
    moved: list[Path] = []

    def stopping(source: Path, target: Path) -> None:
        if Path(source).parent.name == "unpacked":
            if moved:
                raise Stopped(15)
            moved.append(target)
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", stopping)
        assert podium("download", "--competition", file, "--kaggle", "leaf-disease").code == 143
    folder = tmp_path / "input" / "leaves"
    assert [path.name for path in moved] == ["sample_submission.csv"]
    assert not (folder / "train.csv").exists()
    ended = podium("download", "--competition", file, "--kaggle", "leaf-disease")
    assert "holds files already" not in ended.out
    assert {path.name for path in folder.iterdir()} >= {"sample_submission.csv", "train.csv", "train.zip", "test.zip"}
    assert not (folder / PARTIAL).exists()


def test_a_damaged_bundle_of_zips_is_one_line(
    tmp_path: Path, podium: Podium, leaves: MakeLeaves, kaggle: FakeKaggle
) -> None:
    file = leaves()
    (tmp_path / "input" / "leaves").rename(tmp_path / "content")
    path = tmp_path / "bundle.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train.csv", "id,label\n" * 2000)
        archive.writestr("train.zip", "")
    content = bytearray(path.read_bytes())
    content[40:60] = b"\xff" * 20
    path.write_bytes(content)
    kaggle.will(files=FILES, download={"files": {"leaf-disease.zip": str(path)}})
    refused(
        podium("download", "--competition", file, "--kaggle", "leaf-disease"), "leaf-disease.zip: is not a valid zip"
    )


def test_what_is_here_already_is_not_asked_of_the_disk_again(
    tmp_path: Path, kaggle: FakeKaggle, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / "leaf-disease.zip").write_bytes(bytes(1_500_000))  # of 2,000,000
    kaggle.will(files={"out": LISTED})
    for free, is_enough in ((600_000, True), (400_000, False)):
        usage = SimpleNamespace(free=free)
        monkeypatch.setattr("shutil.disk_usage", lambda _, usage=usage: usage)
        with nullcontext() if is_enough else pytest.raises(InputError, match="still take"):
            client.open_kaggle("leaf-disease").download(tmp_path / "partial")


def test_what_an_interrupted_unpacking_left_makes_room_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / PARTIAL / "unpacking").mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / PARTIAL / "bundle.zip", "w") as archive:
        archive.writestr("train.zip", bytes(1000))
    left = tmp_path / PARTIAL / "unpacking"
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0 if left.exists() else 2000))
    settle(tmp_path / PARTIAL / "bundle.zip", tmp_path)
    assert (tmp_path / "train.zip").stat().st_size == 1000


READABLE = "Warning: Your Kaggle API key is readable by other users; chmod 600 /home/me/.kaggle/kaggle.json\n"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("401 Client Error: Unauthorized", "you are not signed in"),
        (
            "Authentication required to call the Kaggle API.\n\n    Save the token to a file\n",
            "signed in",
        ),
        ("403 Client Error: Forbidden for url", "accept the rules at kaggle.com/c/cifar-10/rules"),
        ("404 Client Error: Not Found", "no such competition (404)"),
        (f"{READABLE}403 Client Error: Forbidden", "accept the rules"),
        ("uploadToken=64017 (timed out)", "kaggle, cifar-10: uploadToken=64017 (timed out)"),
        ("Could not find kaggle.json. Make sure it is in ~/.kaggle", "signed in"),
        ("something\nodd happened\n", "kaggle, cifar-10: odd happened"),
    ],
)
def test_the_clients_reason_is_one_line(podium: Podium, kaggle: FakeKaggle, said: str, words: str) -> None:
    kaggle.will(files=FILES, download={"err": said, "code": 1})
    refused(podium("download", "--competition", "cifar10"), words)


def test_a_broken_bundle_and_a_missing_client_are_one_line(
    tmp_path: Path, podium: Podium, kaggle: FakeKaggle, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cut.zip").write_bytes(b"PK\3\4 cut")
    kaggle.will(files=FILES, download={"files": {"cifar-10.zip": str(tmp_path / "cut.zip")}})
    refused(podium("download", "--competition", "cifar10"), "cifar-10.zip: is not a valid zip")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    refused(podium("download", "--competition", "cifar10"), "pip install -r requirements-kaggle.txt")
