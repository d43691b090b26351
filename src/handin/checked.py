"""A submission before it is handed in: is it the file that was validated, and what does out-of-fold say of it?"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.competitions.registry import load_competition
from src.competitions.spec import Competition
from src.config import Paths
from src.core.errors import InputError
from src.core.flags import check_name
from src.core.locking import locked
from src.core.records import read_sealed, write_sealed
from src.core.writing import sha256_of
from src.data.prepared import open_snapshot
from src.inference.answers import validate
from src.inference.ensemble import OutOfFold, check_same_images, out_of_fold, weighted_mean
from src.inference.external import external_out_of_fold, read_external
from src.inference.quality import defined
from src.inference.testset import open_test_set
from src.report.intervals import interval_of
from src.runs.run import Run, open_run

REPAIR = "run predict or blend again"


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A file and what its JSON says of it."""

    path: Path
    sha256: str
    note: Mapping[str, Any]
    competition: Competition

    @property
    def parts(self) -> list[Mapping[str, Any]]:
        """What its JSON says of each run, and of each file of another tool (`blend --external`)."""
        return list(self.note["runs"])

    @property
    def runs(self) -> list[Mapping[str, Any]]:
        return _runs(self.note)

    @property
    def run_names(self) -> str:
        return "+".join(Path(part["external"]).name if "external" in part else part["run"] for part in self.parts)

    @property
    def run_id(self) -> str:
        return "+".join((part["sha256"] if "external" in part else part["run_id"])[:12] for part in self.parts)


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The out-of-fold score of what a submission averages, and its 95% interval; NaN where it is not defined."""

    score: float
    low: float
    high: float
    num_images: int = 0
    optimistic: bool = False  # whether epochs were chosen on these very images

    def describe(self) -> dict[str, Any]:
        """Return it as the submission's JSON has it."""
        interval = [defined(self.low), defined(self.high)]
        return {"score": defined(self.score), "interval_95": interval, "num_images": self.num_images,
                "optimistic": self.optimistic}  # fmt: skip


def open_submission(config: Paths, name: str) -> Submission:
    """Open submissions/<competition>/<name>.csv. Raises InputError unless it is the file that its JSON describes."""
    check_name("name", name)
    competition = load_competition(config.competition)
    folder = config.submissions_dir / competition.name
    path, note_path = folder / f"{name}.csv", folder / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(other.stem for other in folder.glob("*.json"))) or "none, run predict first"
        raise InputError(f"{path}: no such submission; there are: {known}")
    if not note_path.is_file():
        raise InputError(
            f"{note_path}: not there, so nothing says that {path.name} was validated; hand in what predict "
            "or blend wrote"
        )
    note = read_sealed(note_path, REPAIR)
    found = Submission(path=path, sha256=sha256_of(path), note=note, competition=competition)
    if note["competition"] != competition.name:
        raise InputError(
            f"{note_path}: belongs to competition {note['competition']!r}, not {competition.name!r}; move it back"
        )
    if found.sha256 != note["sha256"]:
        raise InputError(
            f"{path}: is not the file that {note_path.name} describes (its SHA-256 differs), so it was changed after "
            "it was validated; run predict again"
        )
    return found


def check_again(config: Paths, submission: Submission) -> str:
    """Validate a submission against the sample submission as it is now; return a note if that is not possible here.

    Raises InputError, naming the line, for what the organiser would refuse.
    """
    if not submission.runs:
        return "note: no run of ours answers, so the file was validated when it was written, not again now"
    run = submission.runs[0]
    folder = config.runs_dir / submission.competition.name / "prepared" / run["snapshot"]
    if not folder.is_dir():
        return f"note: {folder} is not on this machine: the file was validated when it was written, not again now"
    prepared = open_snapshot(config, run["snapshot"], tuple(run["model"]["image_size"]))
    validate(submission.path, open_test_set(prepared), prepared.competition)
    return ""


def _runs(note: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [part for part in note["runs"] if "external" not in part]


def promise(config: Paths, file: Path) -> None:
    """Add to a submission's JSON what it should score. The submission is there whatever happens to this."""
    with locked(file.with_suffix(""), "is writing this submission", wait=True):
        note = read_sealed(file, REPAIR)
        expected = expected_score(config, note)
        write_sealed(file, note | {"promised": expected.describe() if isinstance(expected, Expected) else None})


def expected_score(config: Paths, note: Mapping[str, Any]) -> Expected | str:
    """Return what a submission should score, by its JSON and its runs' out-of-fold predictions, or why it is unknown.

    A blend's score is the one that its outer cross-validation measured, since its weights were fitted on these images,
    and what calibration gained by cross-validation is added; the interval keeps its width.
    """
    tta = bool(note.get("predicted", {}).get("tta", True))
    try:
        if note.get("minutes", {}).get("images_not_reached"):
            raise InputError("some images were not reached in the time and have no prediction of their own")
        oofs = [_out_of_fold(config, run, tta) for run in _runs(note)]
        if len(oofs) > 1:
            check_same_images([run["run"] for run in _runs(note)], oofs)
        for part in note["runs"]:
            if "external" in part:
                if not oofs:
                    raise InputError("no run of ours answers")
                file = Path(part["external"])
                other = read_external(file, oofs[0].competition)
                if sha256_of(file) != part["sha256"]:
                    raise InputError(f"{file} is another one now than the one that answered")
                oofs.append(external_out_of_fold(other, oofs[0]))
    except InputError as error:
        return f"note: the out-of-fold score is not known here: {error}"
    oof = oofs[0] if len(oofs) == 1 else averaged(oofs, [float(part["weight"]) for part in note["runs"]])
    low, high, _ = interval_of(oof)
    score = oof.score
    blended = note.get("blend", {}).get("cross_validated_score")
    shift = blended - score if blended is not None else 0.0
    before, after = note.get("adjusted", {}).get("scores", (0.0, 0.0))
    shift += after - before if before is not None and after is not None else 0.0
    chosen = any(one.optimistic for one in oofs)
    return Expected(
        score=score + shift, low=low + shift, high=high + shift, num_images=len(oof.target), optimistic=chosen
    )


def _out_of_fold(config: Paths, facts: Mapping[str, Any], tta: bool) -> OutOfFold:
    run: Run = open_run(config, facts["run"])
    if run.id != facts["run_id"]:
        raise InputError(f"run {run.name} is another one now than the one that answered")
    folds = tuple(fold["fold"] for fold in facts["folds"])
    now = {fold.number: fold.result.weights_sha256 for fold in run.trained(folds) if fold.result}
    if now != {fold["fold"]: fold["weights_sha256"] for fold in facts["folds"]}:
        raise InputError(f"folds of {run.name} have other weights now than those that answered")
    tta = tta and len(facts["views"]) > 1
    return out_of_fold(run, folds, tta)


def averaged(oofs: list[OutOfFold], weights: list[float]) -> OutOfFold:
    """Return the weighted mean of runs that were scored on the same images, decided anew."""
    return oofs[0].with_probabilities(weighted_mean([oof.probabilities for oof in oofs], weights))
