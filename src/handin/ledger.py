"""submissions/<competition>/ledger.csv: what was handed in, what out-of-fold said, what the leaderboard answered."""

import math
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from pathlib import Path

import pandas as pd

from src.core.csv_text import is_number, parse_csv
from src.core.errors import InputError
from src.core.locking import locked
from src.core.writing import write_csv


@dataclass(frozen=True, kw_only=True)
class Row:
    """A submission that was handed in; the fields are the ledger's columns, all text, "" if not known."""

    time: str  # UTC
    file: str
    sha256: str
    run: str  # names joined by +
    run_id: str
    metric: str
    out_of_fold: str = ""
    low: str = ""  # of its 95% interval
    high: str = ""
    place: str = ""  # "kaggle.com/c/NAME", or "by hand"
    leaderboard: str = ""  # public, if there are two
    private: str = ""
    note: str = ""


COLUMNS = [item.name for item in fields(Row)]
NUMBERS = ("out_of_fold", "low", "high", "leaderboard", "private")


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def score_text(value: float | None) -> str:
    """Return a score for the ledger, "" if there is none."""
    return f"{value:.10g}" if value is not None and math.isfinite(value) else ""


def _number(text: str) -> float:
    return float(text) if text else math.nan


@dataclass(frozen=True)
class Ledger:
    """The file; every change is made under a lock and written whole, so that two commands lose nothing."""

    path: Path

    def read(self) -> pd.DataFrame:
        """Return all rows as text, the oldest first; columns of the user's own stay behind ours.

        Raises InputError naming the line if the file was edited so that it cannot be read.
        """
        if not self.path.exists():
            return pd.DataFrame(columns=COLUMNS, dtype=str)
        table = parse_csv(self.path.read_bytes(), str(self.path))
        missing = [column for column in COLUMNS if column not in table.columns]
        if missing:
            raise InputError(f"{self.path}, line 1: column {missing[0]!r} is missing; put it back, empty if need be")
        for column in NUMBERS:
            for line, text in table[column].items():
                if text and not is_number(text):
                    raise InputError(f"{self.path}, line {line}: {column} is {text!r}, not a number; correct it")
        own = [column for column in table.columns if column not in COLUMNS]
        return table[[*COLUMNS, *own]]

    def numbers(self) -> pd.DataFrame:
        """Return all rows with scores as numbers, NaN where there are none."""
        table = self.read().reset_index(drop=True)
        return table.assign(**{column: table[column].map(_number).astype(float) for column in NUMBERS})

    def find(self, sha256: str) -> pd.Series | None:
        """Return the last row of a file with this content."""
        rows = self.read()
        same = rows[rows["sha256"] == sha256]
        return same.iloc[-1] if len(same) else None

    def add(self, row: Row) -> None:
        """Append a row."""
        with self._locked():
            table = self.read()
            new = pd.DataFrame([{**dict.fromkeys(table.columns, ""), **vars(row)}])
            write_csv(self.path, pd.concat([table, new], ignore_index=True), for_people=True)

    def enter(self, file: str, **values: str) -> None:
        """Write values into the last row of this file name. Raises InputError if it was not handed in."""
        with self._locked():
            table = self.read().reset_index(drop=True)
            rows = table.index[table["file"].str.removeprefix("'") == file]  # write_csv adds it before "@"
            if not len(rows):
                known = ", ".join(dict.fromkeys(table["file"])) or "none yet"
                raise InputError(f"{self.path}: {file} was not handed in; there are: {known}")
            for column, value in values.items():
                table.loc[rows[-1], column] = value
            write_csv(self.path, table, for_people=True)

    def _locked(self) -> AbstractContextManager[object]:
        return locked(self.path.with_suffix(""), "is writing the ledger", wait=True)
