"""Untrusted pickles: only plain values and arrays are read; anything else is an error and is never executed."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.competitions.arrays import read_cifar_batch
from src.competitions.registry import load_competition
from src.core.errors import InputError
from src.core.reading import InputFiles
from src.data.labels import check_labels
from tests.fixtures import MakeCifar10, Podium

DATA = np.random.default_rng(0).integers(0, 255, (2, 3072), dtype=np.uint8)
GOOD: dict[bytes, Any] = {b"data": DATA, b"labels": [1, 2]}


class Call:
    """A pickle that calls a function when it is loaded."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.function, self.arguments


def error_of(folder: Path, content: object) -> str:
    """Return the message of the error for a batch with these bytes, or with this value pickled."""
    data = content if isinstance(content, bytes) else pickle.dumps(content, protocol=2)
    (folder / "data_batch_1").write_bytes(data)
    with pytest.raises(InputError, match=r"^data_batch_1: not a CIFAR-10 batch \(.+\); download it again$") as error:
        read_cifar_batch(InputFiles(folder), "data_batch_1")
    return str(error.value)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("position", ["data", "labels", "extra", "top level"])
def test_a_pickle_that_would_run_code_is_an_error_and_the_code_is_not_run(
    tmp_path: Path, protocol: int, position: str
) -> None:
    sprung = tmp_path / "sprung"
    trap = Call(os.mkdir, str(sprung))
    content = trap if position == "top level" else {**GOOD, position.encode(): trap}
    data = pickle.dumps(content, protocol=protocol)
    assert "disallowed global" in error_of(tmp_path, data)
    assert not sprung.exists()
    pickle.loads(data)
    assert sprung.exists()  # a plain pickle.loads runs the code


@pytest.mark.parametrize("function", [eval, getattr, np.load, np.frombuffer, np.memmap, __import__, pickle.loads])
def test_only_array_constructors_can_be_called(tmp_path: Path, function: Callable[..., Any]) -> None:
    assert "disallowed global" in error_of(tmp_path, {**GOOD, b"more": Call(function, "1")})


def test_a_dotted_name_does_not_reach_attributes_of_allowed_globals(tmp_path: Path) -> None:
    content = b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93."  # protocol 4 would look dotted names up
    assert "disallowed global numpy.ndarray.tofile" in error_of(tmp_path, content)


FORGED = """
import pickle, sys, numpy as np
from pathlib import Path
from src.competitions.arrays import read_cifar_batch
from src.core.reading import InputError, InputFiles

class Forged:
    def __reduce__(self):
        return np.ndarray, ((1,), "O", b"AAAAAAAA")  # an object array whose one pointer we choose

folder = Path(sys.argv[1])
batch = {b"data": np.zeros((1, 3072), np.uint8), b"labels": Forged()}
(folder / "data_batch_1").write_bytes(pickle.dumps(batch, protocol=2))
try:
    read_cifar_batch(InputFiles(folder), "data_batch_1")
except InputError as error:
    print(error)
"""


def test_an_array_cannot_be_built_from_forged_pointers(tmp_path: Path) -> None:
    """Runs in a subprocess, since a forged pointer would crash it."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", FORGED, str(tmp_path)]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("data_batch_1: not a CIFAR-10 batch (")


def test_a_truncated_batch_is_an_error(tmp_path: Path) -> None:
    data = pickle.dumps(GOOD, protocol=2)
    for length in [*range(0, 300, 3), len(data) // 2, *range(len(data) - 30, len(data))]:
        error_of(tmp_path, data[:length])


@pytest.mark.filterwarnings("ignore")  # numpy may warn about a damaged pickle before it raises
def test_a_batch_with_one_wrong_byte_is_read_or_an_error(tmp_path: Path) -> None:
    data = pickle.dumps(GOOD, protocol=2)
    rng = np.random.default_rng(0)
    positions = [*range(260), *range(len(data) - 90, len(data))]
    # Without "r" (LONG_BINPUT): it can write to any memo index up to 2^32, which takes all memory.
    values = [value for value in range(256) if value != ord("r")]
    for position in rng.choice(positions, 1000):
        damaged = bytearray(data)
        damaged[position] = rng.choice(values)
        (tmp_path / "data_batch_1").write_bytes(damaged)
        try:
            read_cifar_batch(InputFiles(tmp_path), "data_batch_1")
        except InputError:
            continue
        except BaseException as error:
            pytest.fail(f"byte {position} as {damaged[position]}: {error!r}")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        [1],
        5,
        {b"data": DATA},
        {b"labels": [1, 2]},
        {"data": DATA, "labels": [1, 2]},
        {**GOOD, b"data": DATA[0]},
        {**GOOD, b"data": DATA[:, :-1]},
        {**GOOD, b"data": DATA.astype(np.int64)},
        {**GOOD, b"data": DATA.tolist()},
        {**GOOD, b"labels": [1, 2, 3]},
        {**GOOD, b"labels": [1, "2"]},
        {**GOOD, b"labels": [1, 2.0]},
        {**GOOD, b"labels": [True, 2]},
        {**GOOD, b"labels": 2},
        {**GOOD, b"labels": {0: 1, 1: 2}},
    ],
    ids=lambda content: repr(content).replace(repr(DATA), "DATA"),
)
def test_a_batch_without_valid_images_and_labels_is_an_error(tmp_path: Path, content: object) -> None:
    error_of(tmp_path, content)


@pytest.mark.parametrize("label", [10, -1, 10**30])
def test_a_class_id_outside_cifars_is_an_error(cifar10: MakeCifar10, label: int) -> None:
    path = cifar10(packing="batches") / "cifar-10-batches-py" / "data_batch_2"
    batch = pickle.loads(path.read_bytes())
    batch[b"labels"][1] = label
    path.write_bytes(pickle.dumps(batch, protocol=2))
    competition = load_competition("cifar10")
    with pytest.raises(InputError, match="data_batch_2/00001|'label' must hold integers"):
        check_labels(competition.read_train(InputFiles(path.parents[1])), competition)


@pytest.mark.parametrize("name", ["data_batch_4", "test_batch"])
def test_a_missing_batch_is_an_error_naming_it(cifar10: MakeCifar10, podium: Podium, name: str) -> None:
    (cifar10(packing="batches") / "cifar-10-batches-py" / name).unlink()
    code, _, err = podium("prepare", "--competition", "cifar10")
    assert code == 2
    assert f"{name} is missing" in err
