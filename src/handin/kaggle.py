"""Kaggle's own client, run as a process: it knows the API and holds the user's token; nothing of either is here."""

import csv
import io
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from src.core.csv_text import is_number
from src.core.errors import InputError
from src.core.progress import Progress

MB = 10**6
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_BETWEEN_POLLS = 10.0
MAX_PAGE = 200  # files that Kaggle lists at once
NEXT_PAGE = "Next Page Token"  # what the client says if there are more
TOKEN = "make an API token at kaggle.com/settings and put it where `kaggle` looks for it (docs/kaggle.md)"  # nosec B105


@dataclass(frozen=True)
class Entry:
    """A submission as Kaggle lists it."""

    description: str
    status: str  # "complete", "pending", "error"
    public: str  # scores, "" as long as there are none
    private: str


@dataclass(frozen=True)
class Kaggle:
    """One competition, through the client."""

    program: str
    competition: str

    def run(self, *arguments: str, seconds: float | None = None) -> str:
        """Return what the client prints. Raises InputError with its reason if it fails, or takes more than `seconds`.

        Ctrl-C does not reach it: it would cancel an upload and still end as if all was well.
        """
        command = [self.program, "competitions", *arguments]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, start_new_session=True, timeout=seconds
            )
        except subprocess.TimeoutExpired as error:
            raise InputError(f"kaggle, {self.competition}: no answer within {seconds:.0f} s") from error
        if done.returncode:
            raise InputError(self.reason(done.stderr + "\n" + done.stdout))
        return done.stdout

    def reason(self, said: str) -> str:
        """Return one line for a failure of the client."""
        lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("Warning:")]
        low, what = "\n".join(lines).lower(), f"kaggle, {self.competition}: "
        codes = set(re.findall(r"\b40[134]\b", low))
        if "401" in codes or "authenticat" in low or "could not find kaggle.json" in low:
            return f"{what}you are not signed in; {TOKEN}"
        if "403" in codes:
            return f"{what}Kaggle refuses (403); accept the rules at kaggle.com/c/{self.competition}/rules first"
        if "404" in codes:
            return f"{what}no such competition (404); give --kaggle NAME as in kaggle.com/c/NAME"
        return f"{what}{(lines or ['the client failed'])[-1][:200]}"

    def listed_bytes(self) -> tuple[int, bool]:
        """Return the size of the competition's first files together, and whether those are all of them."""
        said = self.run("files", "-c", self.competition, "--csv", "-q", "--page-size", str(MAX_PAGE))
        rows = _rows(said, "name")
        sizes = [row.get("totalBytes") or row.get("size") or "" for row in rows]
        known = [int(size) for size in sizes if size.isdecimal()]
        return sum(known), 0 < len(known) == len(rows) < MAX_PAGE and NEXT_PAGE not in said

    def download(self, folder: Path) -> Path:
        """Download all files as the one zip that Kaggle makes of them, resuming; return its path in `folder`.

        Raises InputError if the disk is too small, or with the client's reason.
        """
        folder.mkdir(parents=True, exist_ok=True)
        (listed, complete), free = self.listed_bytes(), shutil.disk_usage(folder).free
        missing = listed - _bytes(folder)
        if missing > free:
            raise InputError(
                f"{folder}: the files still take {'' if complete else 'more than '}{missing / MB:,.0f} MB and "
                f"{free / MB:,.0f} MB are free; make room"
            )
        total = max(1, listed // MB) if complete else None
        command = [self.program, "competitions", "download", "-c", self.competition, "-p", str(folder), "-q"]
        with tempfile.TemporaryFile("w+") as said, subprocess.Popen(command, stdout=said, stderr=said) as client:
            try:
                with Progress(f"downloading {self.competition}", total, "MB", _bytes(folder) // MB) as progress:
                    while client.poll() is None:
                        time.sleep(SECONDS_BETWEEN_LOOKS)
                        progress.update(max(0, _bytes(folder) // MB - progress.done))
            finally:
                if client.poll() is None:
                    client.terminate()
            said.seek(0)
            if client.returncode:
                raise InputError(self.reason(said.read()))
        found = [path for path in folder.iterdir() if path.stem == self.competition and path.suffix == ".zip"]
        if not found:
            raise InputError(f"kaggle, {self.competition}: the client left no {self.competition}.zip in {folder}")
        return found[0]

    def submit(self, file: Path, message: str) -> None:
        """Hand in a file. Raises InputError if the client or Kaggle refuses it."""
        said = self.run("submit", "-c", self.competition, "-f", str(file), "-m", message)
        if any(line.startswith("Could not") for line in said.splitlines()):  # older clients end with 0 all the same
            raise InputError(self.reason(said))

    def entries(self, seconds: float) -> list[Entry]:
        """Return the submissions that Kaggle lists, the newest first. Raises InputError."""
        said = self.run("submissions", "-c", self.competition, "--csv", "-q", seconds=seconds)
        rows = _rows(said, "publicScore")
        return [
            Entry(
                row["description"],
                row["status"].rpartition(".")[2].lower(),
                _score(row["publicScore"]),
                _score(row["privateScore"]),
            )
            for row in rows
        ]

    def poll(self, message: str, seconds: float, between: float = SECONDS_BETWEEN_POLLS) -> Entry | None:
        """Wait until a submission is scored; None if that takes longer. Raises InputError if it could not be scored.

        It is handed in already, so a failure to ask is printed and Kaggle is asked again.
        """
        until, entries, told = time.monotonic() + seconds, list[Entry](), ""
        while True:
            try:
                entries = self.entries(max(between, until - time.monotonic()))
            except InputError as error:
                if str(error) != told:
                    print(f"note: {error}")
                told = str(error)
            for entry in entries:
                if entry.description == message and entry.status == "error":
                    raise InputError(f"kaggle, {self.competition}: Kaggle could not score the submission; see its page")
                if entry.description == message and entry.status == "complete" and entry.public:
                    return entry
            if time.monotonic() + between > until:
                return None
            time.sleep(between)


def open_kaggle(competition: str) -> Kaggle:
    """Find the client: on PATH, or beside this Python. Raises InputError if it is not installed."""
    beside = Path(sys.executable).parent / "kaggle"
    program = shutil.which("kaggle") or (str(beside) if beside.is_file() else None)
    if program is None:
        raise InputError("kaggle: the client is not installed; pip install -r requirements-kaggle.txt")
    return Kaggle(program, competition)


def _score(text: str) -> str:
    """Return a score as the client prints it; "" if it is not a number, such as None."""
    return text if is_number(text) else ""


def _bytes(folder: Path) -> int:
    """Return the size of the files in a folder."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def _rows(text: str, column: str) -> list[dict[str, str]]:
    """Return the rows of the CSV that the client prints, below whatever else it says."""
    lines = text.splitlines()
    first = next((at for at, line in enumerate(lines) if column in line.split(",")), None)
    return list(csv.DictReader(io.StringIO("\n".join(lines[first:])))) if first is not None else []
