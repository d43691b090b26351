"""Every mistake in a run's flags, weights or files exits with code 2 and one line naming it."""

import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from src.core.records import write_record
from tests.fixtures import MakeFood11, MakeSvhn, Podium
from tests.helpers import prepared_at, run_at, snapshot_at
from tests.test_bad_input import TINY, edit_json, refused


@pytest.fixture
def prepared(podium: Podium, svhn: MakeSvhn) -> Podium:
    """Prepare svhn in three folds; return podium."""
    svhn()
    assert podium("prepare", "--num-folds", 3)[0] == 0
    return podium


@pytest.mark.parametrize("fold", ["3", "7", "first", "²", "1.0", ""])
def test_an_unknown_fold_is_refused_with_the_existing_ones(prepared: Podium, fold: str) -> None:
    refused(prepared("train", *TINY, "--fold", fold), f"--fold {fold}: folds.csv has 0, 1, 2")


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (("--epochs", 0), "--epochs 0"),
        (("--lr", -1), "--lr -1.0"),
        (("--batch-size", 0), "--batch-size 0"),
        (("--warmup", 1), "--warmup 1.0"),
        (("--accumulate", 99), "--accumulate 99"),
        (("--augment.hflip", 0.5), "--augment.hflip 0.5"),
        (("--cutmix", 1), "--cutmix 1.0"),
        (("--optimizer", "adamx"), "--optimizer adamx: did you mean adamax?"),
        (("--loss", "crossentropy"), "--loss crossentropy: did you mean cross_entropy?"),
        (("--backbone", "resnet1888"), "--backbone resnet1888: no such network"),
        (("--run-name", "a/b"), "--run-name 'a/b'"),
        (("--run-name", "prepared"), "--run-name 'prepared'"),
        (("--image-size", 7, 64), "--image-size 7 64"),
        (("--image-size", 64, 4097), "--image-size 64 4097"),
        (("--image-size", 8, 8), "at least 21x21"),
        (("--resume",), "--resume"),
        (("--lr", "nan"), "--lr nan"),
        (("--mixup", -1), "--mixup -1.0"),
        (("--seed", -1), "--seed -1"),
        (("--num-threads", -1), "--num-threads -1"),
        (("--backbone", "resnet18.nope"), "--backbone resnet18.nope"),
        (("--class-weights",), "--class-weights: later positions"),
        (("--head-weights", "nan", 1, 1, 1, 1, 1), "--head-weights: give 6 numbers"),
        (("--freeze-backbone",), "--freeze-backbone: features of random weights are useless, and svhn_cnn begins"),
        (("--augment.crop", 0.5), "--augment.crop 0.5: would cut characters off"),
    ],
)
def test_an_invalid_flag_value_is_refused_by_name(prepared: Podium, flags: tuple[object, ...], word: str) -> None:
    refused(prepared("train", *TINY, *flags), word)


def test_a_misspelt_backbone_is_refused_with_the_nearest_names(prepared: Podium) -> None:
    refused(prepared("train", "--no-pretrained", "--backbone", "resnet81"), "--backbone resnet81", "resnet18")
    refused(prepared("train", "--no-pretrained", "--backbone", "svhn_cn"), "svhn_cnn")


def test_weights_that_do_not_fit_are_refused(prepared: Podium, tmp_path: Path) -> None:
    save_file({"conv.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    refused(prepared("train", *TINY, "--weights", "other.safetensors"), "other.safetensors", "do not fit this backbone")
    refused(prepared("train", *TINY, "--weights", "none.safetensors"), "--weights none.safetensors: no such file")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("content", [b"", b"not weights at all"])
def test_a_file_without_weights_is_refused(prepared: Podium, tmp_path: Path, suffix: str, content: bytes) -> None:
    (tmp_path / f"w{suffix}").write_bytes(content)
    refused(prepared("train", *TINY, "--weights", f"w{suffix}"), f"--weights w{suffix}")


class Trap:
    """A pickle that creates a folder when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_weights_with_code_are_refused_and_the_code_is_not_run(prepared: Podium, tmp_path: Path, kind: str) -> None:
    path, sprung = tmp_path / "trap.pth", tmp_path / "sprung"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Trap(sprung)))
    else:
        torch.save({"conv.weight": Trap(sprung)}, path)
    refused(prepared("train", *TINY, "--weights", "trap.pth"), "trap.pth", "refused")
    assert not sprung.exists()
    if kind == "pickle":  # an unguarded load runs it
        pickle.loads(path.read_bytes())
        assert sprung.exists()


@pytest.fixture
def trained(prepared: Podium) -> Podium:
    """Train fold 0 of svhn for one epoch; return podium."""
    assert prepared("train", *TINY)[0] == 0
    return prepared


@pytest.mark.parametrize("other", ["food11", "demo"])  # demo has the same heads as svhn
def test_a_run_of_another_competition_is_refused(
    trained: Podium, food11: MakeFood11, tmp_path: Path, other: str
) -> None:
    food11()
    trained("make_demo", "--num-train", 12, "--num-val", 6, "--num-test", 5)
    assert trained("prepare", "--competition", other, "--num-folds", 3)[0] == 0
    (tmp_path / "runs" / "svhn" / "baseline").rename(tmp_path / "runs" / other / "baseline")
    words = ("baseline/run.json", "belongs to competition 'svhn'", f"not '{other}'")
    refused(trained("predict", "--competition", other), *words)
    assert not (tmp_path / "submissions").exists()


def test_a_missing_run_is_refused_with_the_existing_ones(trained: Podium) -> None:
    refused(trained("predict", "--run-name", "baselin"), "baselin: no such run; there are: baseline")
    refused(
        trained("predict", "--folds", 2),
        "fold2/fold.json: not there; run",
        "--competition svhn --fold 2 ",
        " first",
    )


def test_changed_settings_of_a_run_are_refused_and_named(trained: Podium) -> None:
    refused(trained("train", *TINY, "--lr", 0.5), "was started with other settings", "lr: 0.002 then, 0.5 now")


def test_folds_that_a_run_does_not_have_are_refused(trained: Podium) -> None:
    assert trained("prepare", "--num-folds", 4)[0] == 0
    refused(trained("train", *TINY, "--fold", 3), "--fold 3: folds.csv has 0, 1, 2")
    refused(trained("predict", "--folds", 3), "--folds 3: this run has folds 0, 1, 2")


@pytest.mark.parametrize("count", [0, -1])
def test_predict_refuses_an_invalid_batch_size(trained: Podium, count: int) -> None:
    refused(trained("predict", "--batch-size", count), f"--batch-size {count}")


@pytest.mark.parametrize("name", ["current.json", "snapshot.json", "labels.csv", "folds.csv"])
@pytest.mark.parametrize("kept", [0.0, 0.5])
def test_a_truncated_prepared_file_is_refused(prepared: Podium, tmp_path: Path, name: str, kept: float) -> None:
    root = tmp_path / "runs" / "svhn"
    path = root / "prepared" / name if name == "current.json" else snapshot_at(root) / name
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    refused(prepared("train", *TINY), name, "python -m src.prepare")
    assert prepared("prepare", "--num-folds", 3)[0] == 0
    assert path.read_bytes() == whole


def test_damaged_weights_of_a_run_are_refused(trained: Podium, tmp_path: Path) -> None:
    path = tmp_path / "runs" / "svhn" / "baseline" / "fold0" / "last.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    refused(trained("predict"), "last.safetensors: is damaged", "run python -m src.train --competition svhn --fold 0")
    assert trained("train", *TINY)[0] == 0
    assert trained("predict")[0] == 0


def test_weights_of_another_network_are_refused(trained: Podium, tmp_path: Path) -> None:
    run = run_at(tmp_path / "runs" / "svhn" / "baseline")
    fold = run.open_fold(0)
    edit_json(run.paths.record, lambda record: record["model"].update(backbone="string_cnn"))
    edit_json(fold.paths.record, lambda record: record["run"]["model"].update(backbone="string_cnn"))
    refused(trained("predict"), "run.json: was edited after it was written (its checksum does not match)")
    other = replace(run.started_record, model=replace(run.started_record.model, backbone="string_cnn"))
    write_record(run.paths.record, other)
    write_record(fold.paths.record, replace(fold.record, run=other))
    refused(trained("predict"), "last.safetensors", "not of the network in run.json")


def test_a_truncated_cache_is_refused(trained: Podium, tmp_path: Path) -> None:
    path = prepared_at(tmp_path / "runs" / "svhn").cache_file("test", (64, 128))
    path.write_bytes(path.read_bytes()[:-9])
    refused(
        trained("predict"),
        "cache/test_64x128",
        "damaged",
        "--competition svhn --num-folds 3 --image-size 64 128 again",
    )
