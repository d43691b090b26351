"""Train one network per fold.

    python -m src.train --fold 0 --weights weights/tf_efficientnet_lite0.safetensors
    python -m src.train --competition demo --backbone string_cnn --no-pretrained --epochs 2      (a minute on a CPU)

Writes runs/<competition>/<run>/fold<k>/: config.json, log.csv, last.pt (to resume from), best.safetensors and
last.safetensors, oof.npz (predictions for the held-out images). The same command resumes after an interruption and does
nothing when all is done.
"""

from typing import TYPE_CHECKING

from src.config import TrainConfig
from src.core import cli
from src.core.errors import InputError

if TYPE_CHECKING:
    from src.core.runtime import Compute
    from src.runs.run import Run


def main(config: TrainConfig) -> None:
    """Train the folds that are asked for. Raises InputError for flags and files that do not fit."""
    import torch

    from src.core.runtime import choose_compute, is_out_of_memory, set_up_process
    from src.data.prepared import open_prepared
    from src.runs.run import Run
    from src.training.resume import check_run
    from src.training.setup import check_flags

    set_up_process(config.deterministic)
    prepared = open_prepared(config)
    check_flags(config, prepared.competition)
    run, numbers = Run(prepared=prepared, name=config.run_name), prepared.fold_numbers(config.fold)
    check_run(run, set(numbers) if config.restart else set())
    compute = choose_compute(config.device, config.precision)
    device = torch.cuda.get_device_name() if compute.device.type == "cuda" else compute.device.type
    print(f"training on {device}, {str(compute.dtype).removeprefix('torch.')}", flush=True)
    try:
        _train(config, run, numbers, compute)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise InputError(
                "out of memory, although batches are split as far as possible; use a smaller --image-size, "
                "--batch-size or --backbone, or --cache-on-device off"
            ) from error
        if "deterministic" in str(error) and config.deterministic:
            raise InputError(f"--deterministic: {str(error).split('. ')[0]}; leave the flag out") from error
        raise


def _train(config: TrainConfig, run: "Run", numbers: list[int], compute: "Compute") -> None:
    """Train the folds one after the other and print their mean score and their time."""
    import time

    import numpy as np

    from src.core.progress import minutes
    from src.training.fold import train_fold

    started = time.perf_counter()
    results = [
        train_fold(config, run, number, compute, folds_after=len(numbers) - done)
        for done, number in enumerate(numbers, start=1)
    ]
    if len(results) > 1:
        scores = [result.score for result in results]
        spread = np.std(scores, ddof=1)
        print(f"{len(scores)} folds: {np.mean(scores):.4f} ± {spread:.4f} (standard deviation over folds)")
    total = sum(result.seconds for result in results)
    now = time.perf_counter() - started
    print(f"trained for {minutes(total)} in all, this command took {minutes(now)}: {run.folder}")


if __name__ == "__main__":
    cli.run(main, TrainConfig, __doc__)
