"""What predict answered for the test images: submissions/<competition>/<run>.npz, checked against JSON and run."""

from pathlib import Path

import numpy as np

from src.core.errors import InputError
from src.core.records import read_sealed
from src.core.writing import sha256_of
from src.runs.run import Run


def answered_by(run: Run, folder: Path) -> tuple[list[str], np.ndarray]:
    """Return the test images' paths, and their predictions (N, num_outputs), by all trained folds of the run alone.

    Raises InputError if predict was not run, or its file is of other weights, or was edited.
    """
    file = folder / run.competition.name / f"{run.name}.npz"
    repair = f"run {run.command('predict')}"
    if not file.with_suffix(".json").is_file():
        raise InputError(f"{file}: not there; {repair} first")
    note = read_sealed(file.with_suffix(".json"), repair)
    made, *others = note["runs"]
    if others or "external" in made:
        raise InputError(f"{file.with_suffix('.json')}: is of a blend; {repair}")
    weights = [(fold["fold"], fold["weights_sha256"]) for fold in made["folds"]]
    wanted = [(fold.number, fold.result.weights_sha256) for fold in run.trained() if fold.result]
    if made["run_id"] != run.id or weights != wanted:
        raise InputError(f"{file}: was answered by other folds or weights than {run.name} has now; {repair} again")
    if not file.is_file() or sha256_of(file) != note["probabilities_sha256"]:
        raise InputError(f"{file}: is not the file that its JSON describes; {repair} again")
    with np.load(file, allow_pickle=False) as kept:
        return kept["image_path"].tolist(), kept["probabilities"]
