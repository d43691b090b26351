"""src.auto against its budget: time used, score out of fold, and a linear probe's on the same images.

    python -m benchmarks.auto --minutes 10 30 90 --weights tf_efficientnet_lite0.safetensors
    python -m benchmarks.auto --competition svhn food11 cifar10 --minutes 3 --weights ...         (some of it)

Each run begins from the organiser's files in a folder of its own; nothing is prepared before. The probe is trained
afterwards on the snapshot and the folds that auto chose, outside its time, if there are ImageNet weights. `others` is
how many cores other programs used meanwhile, from /proc/stat: if it is not near 0, the run was disturbed and its time
means little. Appends a row per run to <out>/auto.json and prints the table. One seed; n is the number of images scored.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.measuring import cpu_seconds, processor
from src.config import Paths
from src.core import cli
from src.core.errors import InputError
from src.core.machine import num_cores
from src.core.writing import write_json
from src.inference.ensemble import out_of_fold
from src.metrics import metric_of
from src.runs.run import open_run
from src.sweeping.table import difference_over_seeds

BACKBONE = "tf_efficientnet_lite0"


@dataclass(frozen=True, kw_only=True)
class AutoBenchConfig:
    """What is run."""

    competition: tuple[str, ...] = ("svhn", "food11", "cifar10", "benchmarks/fashion_csv.py")
    """Names or files; benchmarks.fashion_csv makes the data of the last one."""
    minutes: tuple[float, ...] = (10, 30, 90)
    weights: Path | None = None
    """ImageNet weights of tf_efficientnet_lite0, in timm's naming, or a text recogniser's ONNX file; without them from
    scratch."""
    input_dir: Path = Path("input")
    out: Path = Path("benchmarks/results")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run."""

    competition: str
    minutes: float
    used: float  # minutes by the wall clock, the start of Python included
    others: float  # cores that other programs used
    metric: str
    score: float
    num_images: int
    chosen: str
    events: list[str]
    probe: float | None = None
    gain: float | None = None  # over the probe, and half the width of its 95% interval, paired
    gain_95: float | None = None
    cores: int
    threads: str
    processor: str


def busy_seconds() -> float:
    """Return the processor seconds that the whole machine was busy since it started."""
    values = list(map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]))
    idle = values[3] + values[4]
    return (sum(values) - idle) / os.sysconf("SC_CLK_TCK")


def measure(config: AutoBenchConfig, competition: str, minutes: float, folder: Path) -> Row:
    """Run auto once and return what came of it. Raises InputError if it fails."""
    paths = ["--competition", competition, "--input-dir", str(config.input_dir), "--runs-dir", str(folder / "runs")]
    weights = ["--weights", str(config.weights)] if config.weights else ["--no-pretrained"]
    command = [*paths, "--submissions-dir", str(folder / "submissions"), "--minutes", str(minutes), *weights]
    started, busy, own = time.monotonic(), busy_seconds(), cpu_seconds()
    if subprocess.run([sys.executable, "-m", "src.auto", *command], check=False).returncode:
        raise InputError(f"src.auto failed for {competition} with {minutes:g} minutes; see the lines above")
    seconds = time.monotonic() - started
    others = (busy_seconds() - busy - cpu_seconds() + own) / seconds
    place = Paths(competition=competition, input_dir=config.input_dir, runs_dir=folder / "runs")
    record = json.loads(next((folder / "runs").glob("*/auto.json")).read_text())
    folds = tuple(record["folds_trained"])
    found = out_of_fold(open_run(place, record["answered_by"]), folds)
    probe: dict[str, Any] = {}
    if config.weights and config.weights.suffix != ".onnx":
        flags = ["--run-name", "probe", "--backbone", BACKBONE, *weights, "--freeze-backbone"]
        for fold in folds:
            subprocess.run([sys.executable, "-m", "src.train", *paths, *flags, "--fold", str(fold)], check=True)
        other = out_of_fold(open_run(place, "probe"), folds)
        gain, half = difference_over_seeds([other], [found])
        probe = {"probe": other.score, "gain": gain, "gain_95": half}
    return Row(
        competition=found.competition.name, minutes=minutes, used=seconds / 60, others=max(0.0, others),
        metric=metric_of(found.competition).name, score=found.score, num_images=len(found.target),
        chosen=f"{record['reasons'][0].split(';')[0].removeprefix('chosen: ')}, {record['epochs']} epochs, "
        f"fold {', '.join(map(str, folds))}",
        events=record["events"], cores=num_cores(), threads=os.environ.get("OMP_NUM_THREADS", "all"),
        processor=processor(), **probe,
    )  # fmt: skip


def line(row: Row) -> str:
    """Return a row of the table."""
    probe = "–" if row.probe is None else f"{row.probe:.3f}"
    gain = "–" if row.gain is None or row.gain_95 is None else f"{row.gain:+.3f} ± {row.gain_95:.3f}"
    return (
        f"| {row.competition} | {row.minutes:g} | {row.used:.2f} ({row.used / row.minutes:.0%}) | {row.others:.1f} | "
        f"{row.score:.3f} ({row.metric}, n = {row.num_images:,}) | {probe} | {gain} | {row.chosen} |"
    )


def main(config: AutoBenchConfig) -> None:
    """Run every competition with every budget; print and keep the rows."""
    file = config.out / "auto.json"
    rows = json.loads(file.read_text()) if file.exists() else []
    for competition in config.competition:
        for minutes in config.minutes:
            with tempfile.TemporaryDirectory() as folder:
                row = measure(config, competition, minutes, Path(folder))
            rows.append(asdict(row))
            write_json(file, rows)
            print(line(row), flush=True)
    print(
        "| competition | minutes | used | others | score | probe | gain | chosen |\n|---|---|---|---|---|---|---|---|"
    )
    print("\n".join(line(Row(**row)) for row in rows))


if __name__ == "__main__":
    cli.run(main, AutoBenchConfig, __doc__)
