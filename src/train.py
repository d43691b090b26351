"""Train one network per fold.

    python -m src.train --fold 0 --weights weights/tf_efficientnet_lite0.safetensors
    python -m src.train --competition demo --backbone string_cnn --no-pretrained --epochs 2      (a minute on a CPU)

Writes runs/<competition>/<run>/fold<k>/: config.json, log.csv, last.pt (to resume from), best.safetensors and
last.safetensors, oof.npz (predictions for the held-out images). The same command goes on after an interruption and
does nothing when all is done.
"""

import json
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch

from src.config import TrainConfig
from src.core import cli
from src.core.errors import InputError
from src.core.runtime import be_deterministic, choose_compute, is_out_of_memory, keep_freed_memory
from src.core.writing import sha256_of
from src.data.labels import open_competition, read_prepared
from src.training.fold import train_fold
from src.training.setup import check_flags


def fold_numbers(text: str, folds: pd.DataFrame) -> list[int]:
    """Return the folds that --fold asks for. Raises InputError naming those that there are."""
    known = sorted(int(number) for number in folds["fold"].dropna().unique())
    if text == "all":
        return known
    if not text.isdecimal() or int(text) not in known:
        raise InputError(f"--fold {text}: folds.csv has {', '.join(map(str, known))}; give one of them, or all")
    return [int(text)]


def _check_run(run_dir: Path, prepared: Path, anew: set[int]) -> None:
    """Raise InputError where folds of this run that stay (all but `anew`) had another folds.csv or labels.csv."""
    staying = [path for path in run_dir.glob("fold*/config.json") if path.parent.name not in {f"fold{n}" for n in anew}]
    hint = "choose another name with --run-name, prepare as it was, or train all folds with --restart"
    if staying and sha256_of(run_dir / "folds.csv") != sha256_of(prepared / "folds.csv"):
        raise InputError(f"{run_dir / 'folds.csv'}: this run was begun with other folds than there are now; {hint}")
    for path in staying:
        known = json.loads(path.read_text(encoding="utf-8")).get("labels")
        if known and known != sha256_of(prepared / "labels.csv"):
            raise InputError(f"{path}: this fold was trained on other labels than there are now; {hint}")


def main(config: TrainConfig) -> None:
    """Train the folds that are asked for. Raises InputError for flags and files that do not fit."""
    keep_freed_memory()
    cv2.setNumThreads(0)  # batches are prepared image by image; opencv's own threads would fight torch's
    competition, prepared = open_competition(config.competition, config.runs_dir)
    check_flags(config, competition)
    started = time.perf_counter()
    run_dir = config.runs_dir / competition.name / config.run_name
    folds = read_prepared(prepared, "folds")
    numbers = fold_numbers(config.fold, folds)
    _check_run(run_dir, prepared, set(numbers) if config.restart else set())
    compute = choose_compute(config.device, config.precision)
    device = torch.cuda.get_device_name() if compute.device.type == "cuda" else compute.device.type
    print(f"training on {device}, {str(compute.dtype).removeprefix('torch.')}")
    if config.deterministic:
        be_deterministic()
    try:
        scores = [train_fold(config, number, competition, prepared, folds) for number in numbers]
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise InputError(
                "out of memory, although batches are split as far as they can be; use a smaller --image-size, "
                "--batch-size or --backbone, or --cache-on-device off"
            ) from error
        if "deterministic" in str(error) and config.deterministic:
            raise InputError(f"--deterministic: {str(error).split('. ')[0]}; leave the flag out") from error
        raise
    if len(scores) > 1:
        print(
            f"{len(scores)} folds: {np.mean(scores):.4f} ± {np.std(scores, ddof=1):.4f} (standard deviation over folds)"
        )
    print(f"trained in {(time.perf_counter() - started) / 60:.1f} minutes: {run_dir}")


if __name__ == "__main__":
    cli.run(main, TrainConfig, __doc__)
