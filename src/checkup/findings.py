"""What src.doctor looks at: the machine, the folders, the data; each finding says what to do."""

import importlib.metadata
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from src.competitions.registry import load_competition
from src.config import DoctorConfig, PrepareConfig
from src.core.errors import InputError
from src.core.machine import memory_limit, num_cores
from src.data.labels import Tables, read_tables
from src.data.prepared import open_prepared, prepared_folder
from src.data.problems import label_warnings
from src.models.build import build_model
from src.models.contract import find_backbone
from src.training.served import MAX_MEMORY_SHARE

GIB = 2**30
REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements.txt"
COPIES = 14  # of a network's weights that a fold may keep: weights, average and two moments, three times; two finished


class Finding(NamedTuple):
    """What was found: kind is "ok", "note" (worth knowing) or "bad" (would stop a training)."""

    kind: str
    text: str


def check_python() -> Iterator[Finding]:
    """Check Python and the packages of requirements.txt."""
    version = ".".join(map(str, sys.version_info[:3]))
    new_enough = sys.version_info >= (3, 11)
    yield (
        Finding("ok", f"Python {version}")
        if new_enough
        else Finding("bad", f"Python {version}: 3.11 or newer is needed")
    )
    different, missing = [], []
    pins = REQUIREMENTS.read_text().splitlines() if REQUIREMENTS.is_file() else []
    for name, _, version in (line.partition("==") for line in pins if "==" in line and not line.startswith("#")):
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if name != "nvidia-ml-py":  # only log.csv's GPU utilisation needs it
                missing.append(name)
            continue
        if found.split("+")[0] != version:
            different.append(f"{name} {found} (tested with {version})")
    if missing:
        yield Finding("bad", f"not installed: {', '.join(missing)}; python -m pip install -r requirements.txt")
    if different:
        yield Finding("note", f"other versions than tested: {', '.join(different)}")
    if not missing and not different:
        yield Finding("ok", "packages as in requirements.txt")


def check_device() -> Iterator[Finding]:
    """Check the GPU, or count the cores."""
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
        yield Finding("note", f"no GPU; CPU cores: {num_cores()}; python -m src.bench tells how fast they train")


def check_shared_memory() -> Iterator[Finding]:
    """Check /dev/shm: prepare's processes need a little of it, training nothing."""
    folder = Path("/dev/shm")  # nosec B108
    if not folder.is_dir():
        return
    free = shutil.disk_usage(folder).free if os.access(folder, os.W_OK) else 0
    if free < 1 << 20:
        yield Finding("note", f"{folder} is full or read-only: prepare uses one process; docker run --shm-size=1g")
    else:
        yield Finding("ok", f"{folder} has {free / 2**20:,.0f} MiB free, enough for any number of processes")


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest existing one above it."""
    while not folder.exists():
        folder = folder.parent
    return folder


def check_folders(folders: list[Path]) -> Iterator[Finding]:
    """Try to write where commands will."""
    for folder in folders:
        existing = _existing(folder)
        try:
            with tempfile.TemporaryFile(dir=existing):
                yield Finding("ok", f"{folder}: can be written, {shutil.disk_usage(existing).free / GIB:.1f} GiB free")
        except OSError as error:
            yield Finding("bad", f"{folder}: cannot be written ({error.strerror}); run as its owner, or --runs-dir")


def check_images(tables: Tables) -> Iterator[Finding]:
    """Look for each labelled and each test image, without decoding it."""
    most = PrepareConfig().max_unreadable
    for name, table in (("labelled", tables.labels), ("test", tables.test)):
        gone = tables.files.located.locations(table["image_path"]).missing()
        missing = table["image_path"].iloc[gone].tolist()
        if not missing:
            yield Finding("ok", f"{len(table):,} {name} images, all there")
            continue
        text = (
            f"{tables.files.root}: {len(missing):,} of {len(table):,} {name} images are missing, such as {missing[0]}; "
            "download them again"
        )
        stops = len(missing) > most * len(table) if name == "test" else len(missing) == len(table)
        yield Finding("bad", text) if stops else Finding("note", f"{text}, or prepare skips them")
    for line in label_warnings(tables.labels, tables.competition):
        yield Finding("note", line.removeprefix("warning: ").removeprefix("note: "))


def _num_folds(config: DoctorConfig) -> int:
    """Return how many folds the newest snapshot has, or prepare would make."""
    try:
        return len(open_prepared(config).fold_numbers("all"))
    except InputError:
        return PrepareConfig.num_folds


def check_room(config: DoctorConfig, tables: Tables) -> Iterator[Finding]:
    """Compare disk and memory with what cache and checkpoints will take."""
    size = config.image_size or tables.competition.image_size
    competition = tables.competition
    pixel = (competition.bands or 3) * competition.depth // 8  # bytes
    cache = (len(tables.labels) + len(tables.test)) * size[0] * size[1] * pixel
    with torch.device("meta"):
        network = build_model(config.backbone, competition.layout, size, competition.channels)
    num_folds = config.num_folds or _num_folds(config)
    kept = num_folds * COPIES * 4 * sum(value.numel() for value in network.parameters())
    free = shutil.disk_usage(_existing(config.runs_dir)).free
    text = f"cache {cache / GIB:.2f} GiB at {size[0]}x{size[1]}, {num_folds} folds {kept / GIB:.2f} GiB"
    enough = free > cache + kept
    yield Finding("ok" if enough else "bad", text + ("" if enough else f": only {free / GIB:.2f} GiB of disk are free"))
    if not find_backbone(config.backbone).is_own:
        yield Finding(
            "note",
            f"weights of {config.backbone} are downloaded from timm's hub at the first training; offline, give "
            "src.train --weights FILE or --no-pretrained",
        )
    memory = memory_limit()
    if cache * len(tables.labels) / (len(tables.labels) + len(tables.test)) > MAX_MEMORY_SHARE * memory:
        yield Finding("note", f"memory of {memory / GIB:.1f} GiB is less than the cache: it is read in blocks")
    else:
        yield Finding("ok", f"memory of {memory / GIB:.1f} GiB holds the cache")


def check_prepared(config: DoctorConfig) -> Iterator[Finding]:
    """Repeat what prepare could not read, if it has run."""
    if (prepared_folder(config, load_competition(config.competition)) / "current.json").exists():
        note = open_prepared(config).unreadable_note()
        if note:
            yield Finding("note", note.removeprefix("note: "))


def findings(config: DoctorConfig) -> Iterator[Finding]:
    """Yield everything that was found; bad input is a finding too."""
    yield from check_python()
    yield from check_device()
    yield from check_shared_memory()
    yield from check_folders([config.runs_dir, config.submissions_dir])
    try:
        tables = read_tables(config)
        yield from check_images(tables)
        yield from check_room(config, tables)
        yield from check_prepared(config)
    except InputError as error:
        yield Finding("bad", str(error))
