"""--log: rows reach every sink once, also after interruptions; a sink that fails or hangs stops nothing."""

import signal
import threading
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from src.core.signals import Stopped
from src.core.writing import sha256_of
from src.training import fold as fold_module
from src.training import logs as logs_module
from src.training import trainer as loop
from src.training.logs import Logs, Row, Training
from src.training.sinks import open_sinks
from tests.fixtures import MakeSvhn, Podium, Train
from tests.ranks import FLAGS, NETWORK
from tests.ranks import train as torchrun

NAMES = {"loss", "score", "lr", "images_per_second", "seconds", "memory_mib"}


def needs(name: str) -> pytest.MarkDecorator:
    missing = any(find_spec(package) is None for package in logs_module.PACKAGES[name])
    return pytest.mark.skipif(missing, reason=f"requirements-{name}.txt is not installed")


class Lost:
    """A service that takes one row, then fails."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def write(self, rows: Sequence[Row]) -> None:
        if self.rows:
            raise ConnectionError("gone\nfor good")
        self.rows = list(rows)

    def close(self) -> None:
        raise AssertionError("closed after a failure")


class Hanging(Lost):
    """A service that never answers."""

    def write(self, rows: Sequence[Row]) -> None:
        threading.Event().wait()


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return steps and values of each scalar in a folder of event files, in the order in which they were written."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), purge_orphaned_data=False)
    found.Reload()
    return {name: [(one.step, one.value) for one in found.Scalars(name)] for name in found.Tags()["scalars"]}


def log_csv(folder: Path) -> list[dict[str, float]]:
    header, *lines = [line.split(",") for line in (folder / "log.csv").read_text().splitlines()]
    return [dict(zip(header, map(float, line), strict=True)) for line in lines]


def assert_same_curves(found: dict[str, list[tuple[int, float]]], folder: Path) -> None:
    """Fail unless the curves are those of log.csv, without gaps and repetitions."""
    rows = log_csv(folder)
    assert set(found) >= NAMES
    for name, points in found.items():
        assert [step for step, _ in points] == [int(row["epoch"]) for row in rows], name
        assert [value for _, value in points] == pytest.approx([row[name] for row in rows], rel=1e-4, abs=1e-6), name


def stop_before_telling(patch: pytest.MonkeyPatch, row: int) -> None:
    """End the training, as a kill would, when a row was saved but not sent."""
    save = loop.Trainer.save

    def save_and_stop(trainer: loop.Trainer) -> None:
        save(trainer)
        if len(trainer.history) == row:
            raise Stopped(signal.SIGKILL)

    patch.setattr(loop.Trainer, "save", save_and_stop)


def test_a_place_that_fails_or_hangs_costs_a_line_and_changes_no_bit(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, _ = train("plain", "--epochs", 2)
    lost, hanging = Lost(), Hanging()
    monkeypatch.setattr(logs_module, "CLOSE_SECONDS", 0.2)
    monkeypatch.setattr(fold_module, "open_sinks", lambda names, training: {"first": lost, "second": hanging})
    folder, ended = train("logged", "--epochs", 2)
    assert ended.code == 0
    assert ended.out.count("note: --log first failed and is skipped (ConnectionError: gone for good)") == 1
    assert ended.out.count("note: --log second does not answer; training continues without it") == 1
    assert [row["epoch"] for row in lost.rows] == [1]
    assert sha256_of(folder / "last.safetensors") == sha256_of(plain / "last.safetensors")


@needs("tensorboard")
def test_tensorboard_has_each_epoch_once_after_interruptions_and_a_restart(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--log", "tensorboard", "--epochs", 2)
    with monkeypatch.context() as patch:
        stop_before_telling(patch, 2)  # the last: no later row brings it along
        folder, ended = train("run", *flags)
    assert ended.code == 128 + signal.SIGKILL
    assert train("run", *flags)[1].code == 0
    assert_same_curves(scalars(folder / "tensorboard"), folder)
    seconds = [row["seconds"] for row in log_csv(folder)]
    assert train("run", *flags, "--restart")[1].code == 0
    assert_same_curves(scalars(folder / "tensorboard"), folder)
    assert [row["seconds"] for row in log_csv(folder)] != seconds


@pytest.mark.parametrize("name", logs_module.PACKAGES)
def test_a_missing_package_is_one_line_before_the_training(
    train: Train, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
    _, ended = train("run", "--log", name)
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert f"--log {name}: " in ended.err
    assert f"pip install -r requirements-{name}.txt" in ended.err


ROWS = [{"epoch": float(at), "loss": 1 / at, "lr": 1e-3 / at, "seconds": 2 + at / 7} for at in range(1, 5)]
ROWS[2]["loss"] = float("nan")


def write_in_turns(name: str, folder: Path, settings: dict[str, Any], rows: Sequence[Row] = ROWS) -> Training:
    """Write rows as a training does that is killed after the second and the third epoch."""
    training = Training(
        folder=folder, runs_dir=folder.parent, competition="leaves", run="a", run_id="x", fold=0, settings=settings
    )
    for last in (2, 3, 4):
        with Logs(open_sinks([name], training)) as logs:
            for count in range(1, last + 1):
                logs.write(rows[:count])
    return training


def records(path: Path) -> Iterator[bytes]:
    """Yield the records of a .wandb file, which is a LevelDB log after seven bytes of its own."""
    data, at, record = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        room = 32768 - at % 32768
        if room < 7:
            at += room
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        record += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):
            yield record
            record = b""


@pytest.mark.slow
@needs("wandb")
@pytest.mark.filterwarnings("default")
def test_an_offline_run_of_wandb_has_each_epoch_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record_class = import_module("wandb.proto.wandb_internal_pb2").Record
    monkeypatch.setenv("WANDB_MODE", "offline")
    write_in_turns("wandb", tmp_path / "fold0", {"lr": 0.1})
    assert "note" not in capsys.readouterr().out
    (file,) = tmp_path.glob("fold0/wandb/offline-run-*/*.wandb")
    found = []
    for data in records(file):
        record = record_class()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            values = {(item.key or ".".join(item.nested_key)): item.value_json for item in record.history.item}
            found.append((int(values["_step"]), float(values["epoch"]), float(values["lr"])))
    assert found == [(int(row["epoch"]), row["epoch"], pytest.approx(row["lr"])) for row in ROWS]


@pytest.mark.slow
@needs("mlflow")
@pytest.mark.filterwarnings("default")
def test_mlflow_has_each_epoch_once_and_a_restarted_training_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    write_in_turns("mlflow", tmp_path / "fold0", {"lr": 0.1, "backbone": "mine"})
    write_in_turns("mlflow", tmp_path / "fold0", {"lr": 0.1}, [{**row, "seconds": 9.5} for row in ROWS])
    assert "note" not in capsys.readouterr().out
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("leaves")
    assert experiment
    runs = client.search_runs([experiment.experiment_id])
    assert [(run.info.status, run.data.params["lr"]) for run in runs] == [("FINISHED", "0.1")] * 2
    for run in runs:
        points = client.get_metric_history(run.info.run_id, "lr")
        assert [(one.step, one.value) for one in points] == [(int(row["epoch"]), row["lr"]) for row in ROWS]
        assert [one.step for one in client.get_metric_history(run.info.run_id, "loss")] == [1, 2, 3, 4]


@pytest.mark.slow
@needs("tensorboard")
def test_only_rank_0_logs(svhn: MakeSvhn, podium: Podium, tmp_path: Path) -> None:
    svhn(num_train=60, num_val=9, num_test=3)
    assert podium("prepare", "--num-folds", 2).code == 0
    (tmp_path / "plain.py").write_text(NETWORK)
    torchrun(tmp_path, 2, *FLAGS, "--epochs", "3", "--log-to", "tensorboard")
    folder = tmp_path / "runs" / "svhn" / "baseline" / "fold0"
    assert len(list((folder / "tensorboard").iterdir())) == 1
    assert_same_curves(scalars(folder / "tensorboard"), folder)
