"""Flags of download and submit."""

from dataclasses import dataclass
from pathlib import Path

from src.config.paths import Paths


@dataclass(frozen=True, kw_only=True)
class DownloadConfig(Paths):
    """The organiser's files, from Kaggle or from a list of links."""

    kaggle: str | None = None
    """Name of the Kaggle competition, as in kaggle.com/c/NAME; default: the competition's own, if it has one. Needs
    requirements-kaggle.txt and your API token."""
    links: Path | None = None
    """CSV file with the columns file, link and perhaps size, such as Tianchi's mchar_data_list_0515.csv; default: the
    competition's own list, if it lies in input/<competition>/."""
    connections: int = 3
    """Files of a list that are downloaded at the same time."""
    replace: bool = False
    """Download files again even if they are already there."""


@dataclass(frozen=True, kw_only=True)
class SubmitConfig(Paths):
    """A submission, handed in and noted in the ledger; or the leaderboard score of one that was."""

    name: str = "baseline"
    """Name of the submission: submissions/<competition>/<name>.csv."""
    kaggle: str | None = None
    """Name of the Kaggle competition; default: the competition's own, if it has one."""
    by_hand: bool = False
    """Print what to upload where, even if the competition is on Kaggle."""
    message: str | None = None
    """What Kaggle shows beside the submission; default: the out-of-fold score, its interval and the run's id. The
    file's hash is always added."""
    poll: float = 0.0
    """Minutes to wait for Kaggle's public score."""
    again: bool = False
    """Hand in a file that was handed in before."""
    leaderboard: float | None = None
    """Enter the (public) leaderboard score of a submission that was handed in; nothing is handed in."""
    private: float | None = None
    """Enter its score on the private leaderboard."""
    note: str = ""
    """Your own words for the ledger."""
