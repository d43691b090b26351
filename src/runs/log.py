"""Read log.csv, even while it is being written, or if it is missing or damaged."""

import csv
import math
from pathlib import Path


def read_rows(path: Path) -> list[dict[str, float | None]]:
    """Return the rows of a log.csv up to the first that is not whole; None for what is not finite."""
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            table = list(csv.DictReader(stream))
    except (OSError, ValueError, csv.Error):
        return []
    rows: list[dict[str, float | None]] = []
    for line in table:
        try:
            row = {name: float(value) for name, value in line.items()}
        except (TypeError, ValueError):
            break
        if row.get("epoch") != len(rows) + 1:
            break
        rows.append({name: value if math.isfinite(value) else None for name, value in row.items()})
    return rows
