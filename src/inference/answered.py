"""What predict answered for the test images: submissions/<competition>/<run>.npz, checked against JSON and run."""

import json
from pathlib import Path

import numpy as np

from src.core.errors import InputError
from src.core.writing import sha256_of
from src.runs.run import Run


def answered_by(run: Run, folder: Path) -> tuple[list[str], np.ndarray]:
    """Return the test images' paths, and their predictions (N, num_outputs), by all trained folds of the run alone.

    Raises InputError if predict was not run, or its file is of other weights, or was edited.
    """
    file = folder / run.competition.name / f"{run.name}.npz"
    repair = f"run {run.command('predict')}"
    try:
        note = json.loads(file.with_suffix(".json").read_bytes())
        (made,) = note["runs"]
        weights = [(fold["fold"], fold["weights_sha256"]) for fold in made["folds"]]
        sealed, run_id = note["probabilities_sha256"], made["run_id"]
    except FileNotFoundError as error:
        raise InputError(f"{file}: not there; {repair} first") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file.with_suffix('.json')}: is damaged, or of a blend; {repair}") from error
    wanted = [(fold.number, fold.result.weights_sha256) for fold in run.trained() if fold.result]
    if run_id != run.id or weights != wanted:
        raise InputError(f"{file}: was answered by other folds or weights than {run.name} has now; {repair} again")
    if not file.is_file() or sha256_of(file) != sealed:
        raise InputError(f"{file}: is not the file that its JSON describes; {repair} again")
    with np.load(file, allow_pickle=False) as kept:
        return kept["image_path"].tolist(), kept["probabilities"]
