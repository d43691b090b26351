"""Check a machine and a competition's files before money is spent; say what to do about each thing that is wrong.

    python -m src.doctor
    python -m src.doctor --competition food11 --backbone resnet18 --num-folds 5

Decodes no image and writes nothing that stays. Exit code 0 where all is well, 1 where something would stop a training.
"""

import importlib.metadata
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from src.competitions.spec import Competition, load_competition
from src.config import DoctorConfig
from src.core import cli
from src.core.errors import InputError
from src.core.reading import InputFiles
from src.core.runtime import memory_limit
from src.data.labels import check_labels, check_test
from src.models import REFERENCE_NETS
from src.models.build import build_model
from src.models.heads import num_classes_per_head
from src.training.setup import FITTING

GIB = 2**30
REQUIREMENTS = Path(__file__).resolve().parents[1] / "requirements.txt"
COPIES = 14  # of a network's weights that a fold may keep: weights, average and two moments, thrice; two finished


class Finding(NamedTuple):
    """What was found: kind is "ok", "note" (can be lived with) or "bad" (would stop a training)."""

    kind: str
    text: str


def check_python() -> Iterator[Finding]:
    """Look at Python and at the packages of requirements.txt."""
    version = ".".join(map(str, sys.version_info[:3]))
    wanted = sys.version_info >= (3, 11)
    yield Finding("ok", f"Python {version}") if wanted else Finding("bad", f"Python {version}: 3.11 or newer is needed")
    unlike, absent = [], []
    pins = REQUIREMENTS.read_text().splitlines() if REQUIREMENTS.is_file() else []
    for name, _, version in (line.partition("==") for line in pins if "==" in line and not line.startswith("#")):
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if name != "nvidia-ml-py":  # only log.csv's GPU utilisation wants it
                absent.append(name)
            continue
        if found.split("+")[0] != version:
            unlike.append(f"{name} {found} (tested with {version})")
    if absent:
        yield Finding("bad", f"not installed: {', '.join(absent)}; python -m pip install -r requirements.txt")
    if unlike:
        yield Finding("note", f"other versions than tested: {', '.join(unlike)}")
    if not absent and not unlike:
        yield Finding("ok", "packages as in requirements.txt")


def check_device() -> Iterator[Finding]:
    """Look at the GPU, or the cores."""
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        kind = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        name = torch.cuda.get_device_name()
        yield Finding("ok", f"GPU {name}, {free / GIB:.1f} of {total / GIB:.1f} GiB free, trains in {kind}")
    elif Path("/proc/driver/nvidia/version").exists():
        yield Finding(
            "bad",
            f"there is a GPU, but torch {torch.__version__} cannot use it: its driver is too old, or the container was "
            "started without --gpus all",
        )
    elif torch.backends.mps.is_available():
        yield Finding("ok", "GPU of an Apple computer (mps)")
    else:
        yield Finding("note", f"no GPU: {os.cpu_count()} cores; python -m src.bench tells how fast they train")


def check_shared_memory() -> Iterator[Finding]:
    """Look at /dev/shm, of which prepare's processes need a little and training nothing."""
    place = Path("/dev/shm")  # nosec B108
    if not place.is_dir():
        return
    free = shutil.disk_usage(place).free if os.access(place, os.W_OK) else 0
    if free < 1 << 20:
        yield Finding("note", f"{place} is full or read-only: prepare decodes in one process; docker run --shm-size=1g")
    else:
        yield Finding("ok", f"{place} has {free / 2**20:,.0f} MiB free, enough for any number of processes")


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest above it that is there."""
    while not folder.exists():
        folder = folder.parent
    return folder


def check_folders(folders: list[Path]) -> Iterator[Finding]:
    """Try to write where commands will."""
    for folder in folders:
        place = _existing(folder)
        try:
            with tempfile.TemporaryFile(dir=place):
                yield Finding("ok", f"{folder}: can be written, {shutil.disk_usage(place).free / GIB:.1f} GiB free")
        except OSError as error:
            yield Finding("bad", f"{folder}: cannot be written ({error.strerror}); run as its owner, or --runs-dir")


def check_data(config: DoctorConfig, competition: Competition) -> Iterator[Finding]:
    """Read labels and sample submission, look for each image, and tell what cache and checkpoints will take."""
    files = InputFiles(config.input_dir / competition.name, competition.source)
    competition = competition.with_heads_of(files)
    labels = check_labels(competition.read_train(files), competition)
    test = check_test(competition.read_test(files), competition)
    for name, table in (("labelled", labels), ("test", test)):
        missing = [path for path in table["image_path"] if path not in files.located]
        if missing:
            text = f"{files.root}: {len(missing):,} of {len(table):,} {name} images are missing, such as {missing[0]}"
            kind = "bad" if len(missing) == len(table) else "note"
            yield Finding(kind, f"{text}; download them again, or prepare goes on without")
        else:
            yield Finding("ok", f"{len(table):,} {name} images, all there")
    size = config.image_size or competition.image_size
    cache = (len(labels) + len(test)) * size[0] * size[1] * 3
    with torch.device("meta"):
        network = build_model(config.backbone, sum(num_classes_per_head(competition.heads)), size, competition.channels)
    kept = config.num_folds * COPIES * 4 * sum(value.numel() for value in network.parameters())
    free = shutil.disk_usage(_existing(config.runs_dir)).free
    text = f"cache {cache / GIB:.2f} GiB at {size[0]}x{size[1]}, {config.num_folds} folds {kept / GIB:.2f} GiB"
    enough = free > cache + kept
    yield Finding("ok" if enough else "bad", text + ("" if enough else f": only {free / GIB:.2f} GiB of disk are free"))
    if config.backbone not in REFERENCE_NETS:
        yield Finding("note", f"weights of {config.backbone} come from timm's hub at the first training; offline, give "
                      "src.train --weights FILE or --no-pretrained")  # fmt: skip
    memory = memory_limit()
    if cache * len(labels) / (len(labels) + len(test)) > FITTING * memory:
        yield Finding("note", f"memory of {memory / GIB:.1f} GiB is less than the cache: it is read in blocks")
    else:
        yield Finding("ok", f"memory of {memory / GIB:.1f} GiB holds the cache")


def main(config: DoctorConfig) -> None:
    """Print what is found. Raises SystemExit(1) where something would stop a training, InputError for unknown names."""
    competition = load_competition(config.competition)

    def findings() -> Iterator[Finding]:
        yield from check_python()
        yield from check_device()
        yield from check_shared_memory()
        yield from check_folders([config.runs_dir, config.submissions_dir])
        try:
            yield from check_data(config, competition)
        except InputError as error:
            yield Finding("bad", str(error))

    bad = 0
    for finding in findings():
        bad += finding.kind == "bad"
        print(f"{finding.kind:4}  {finding.text}", flush=True)
    if bad:
        print(f"{bad} of these would stop a training: the lines that begin with bad say what to do")
        sys.exit(1)
    print("ready: python -m src.prepare")


if __name__ == "__main__":
    cli.run(main, DoctorConfig, __doc__)
