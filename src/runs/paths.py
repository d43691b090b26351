"""Where the files of a run lie: every path below its folder is named here (data/shelf.py, a room below, reads two)."""

import re
from dataclasses import dataclass
from pathlib import Path

FOLD = re.compile(r"fold(0|[1-9]\d*)")


@dataclass(frozen=True, kw_only=True)
class FoldPaths:
    """The files of one fold."""

    folder: Path

    @property
    def number(self) -> int:
        return int(self.folder.name.removeprefix("fold"))

    @property
    def record(self) -> Path:
        return self.folder / "fold.json"

    @property
    def log(self) -> Path:
        return self.folder / "log.csv"

    @property
    def status(self) -> Path:
        """What its training says it is doing."""
        return self.folder / "status.json"

    @property
    def state(self) -> Path:
        """What training resumes from."""
        return self.folder / "last.pt"

    @property
    def last(self) -> Path:
        return self.folder / "last.safetensors"

    @property
    def best(self) -> Path:
        return self.folder / "best.safetensors"

    @property
    def oof(self) -> Path:
        """Predictions for the held-out images."""
        return self.folder / "oof.npz"

    @property
    def pseudo_labels(self) -> Path:
        """What test images it was trained on, and with which labels."""
        return self.folder / "pseudo_labels.csv"

    @property
    def test(self) -> Path:
        """Predictions for the test images, kept to be used again."""
        return self.folder / "test.npz"


@dataclass(frozen=True, kw_only=True)
class RunPaths:
    """The files of one run."""

    folder: Path

    @property
    def record(self) -> Path:
        return self.folder / "run.json"

    @property
    def restart(self) -> "RunPaths":
        """The run that --restart trains beside this one, until its folds replace this one's."""
        return RunPaths(folder=self.folder / "restart")

    @property
    def complete(self) -> Path:
        """Which folds are being replaced, and by which: there while --restart moves them."""
        return self.folder / "complete"

    @property
    def evaluation(self) -> Path:
        return self.folder / "evaluation"

    @property
    def scores(self) -> Path:
        return self.evaluation / "scores.json"

    @property
    def report(self) -> Path:
        return self.evaluation / "report.html"

    @property
    def export(self) -> Path:
        return self.folder / "export"

    @property
    def crops(self) -> Path:
        """What `crops` writes of a localiser."""
        return self.folder / "crops.csv"

    def fold(self, number: int) -> FoldPaths:
        return FoldPaths(folder=self.folder / f"fold{number}")

    def folds(self) -> list[FoldPaths]:
        """Return the folds that have a folder, in order; fold00 is none."""
        found = [FoldPaths(folder=path) for path in self.folder.glob("fold*/") if FOLD.fullmatch(path.name)]
        return sorted(found, key=lambda paths: paths.number)

    def started_folds(self) -> list[FoldPaths]:
        """Return the folds that have a fold.json, in order."""
        return [paths for paths in self.folds() if paths.record.is_file()]


def run_names(root: Path, staged: bool = False) -> list[str]:
    """Return the names of the runs in runs/<competition>; `staged`: also of those that only --restart has begun."""
    patterns = ("*/run.json", "*/fold*/fold.json", *(("*/restart/run.json",) if staged else ()))
    found = [path for pattern in patterns for path in root.glob(pattern)]
    return sorted({path.relative_to(root).parts[0] for path in found})
