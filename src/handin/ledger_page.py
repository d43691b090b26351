"""ledger.html: out-of-fold against leaderboard scores, and what that says."""

from typing import Any

import numpy as np
import pandas as pd

from src.handin.shakeup import compare, sentences
from src.pages.page import render, scatter_chart

MARGIN = 0.08  # of the axes, as a share of what they show


def _range(*parts: "pd.Series[float]") -> list[float]:
    """Return where an axis begins and ends so that all values, and something around them, fit."""
    values = np.concatenate([part.dropna().to_numpy(float) for part in parts])
    margin = MARGIN * (values.max() - values.min()) or 0.01 * max(1e-3, abs(values.max()))
    return [float(values.min() - margin), float(values.max() + margin)]


def _plot(table: pd.DataFrame, x: str, y: dict[str, str], names: tuple[str, str]) -> dict[str, Any] | None:
    """Return a chart of columns `y` (by series) against column `x`; None if no submission has both."""
    series, labels, intervals, shown = {}, {}, {}, []
    for name, column in y.items():
        rows = table[table[x].notna() & table[column].notna()]
        if len(rows):
            series[name] = (rows[x].tolist(), rows[column].tolist())
            labels[name] = rows["file"].str.removesuffix(".csv").tolist()
            shown.append(rows)
            if x == "out_of_fold":
                intervals[name] = rows[["low", "high"]].to_numpy(float).tolist()
    if not shown:
        return None
    rows = pd.concat(shown)
    xrange = _range(rows[x], *([rows["low"], rows["high"]] if intervals else []))
    yrange = _range(*[table[column] for column in y.values() if table[column].notna().any()])
    both = [max(xrange[0], yrange[0]), min(xrange[1], yrange[1])]
    diagonal = both if both[0] < both[1] else False
    return scatter_chart(
        "", *names, series, labels=labels, intervals=intervals, xrange=xrange, yrange=yrange, diagonal=diagonal
    )


def ledger_page(table: pd.DataFrame, competition: str, metric: str, greater_is_better: bool) -> str:
    """Return the page; `table` is `Ledger.numbers()`."""
    told = sentences(table, greater_is_better)
    found = compare(table, "out_of_fold", "leaderboard", greater_is_better)
    has_private = bool(table["private"].notna().any())
    scores = {("public leaderboard" if has_private else "leaderboard"): "leaderboard"}
    main = _plot(
        table, "out_of_fold", scores | ({"private leaderboard": "private"} if has_private else {}),
        (f"out-of-fold {metric}", "leaderboard"),
    )  # fmt: skip
    return render(
        "ledger.html",
        title=f"{competition} · submissions",
        metric=metric,
        greater_is_better=greater_is_better,
        rows=_rows(table, greater_is_better),
        sentences=told[1:] if found and found.correlation is not None else told,  # the first is the headline
        correlation=found.correlation if found else None,
        plot=main,
        private_plot=_plot(table, "leaderboard", {"submissions": "private"}, ("public leaderboard", "private")),
        has_private=has_private,
        charts=main is not None,
    )


def _rows(table: pd.DataFrame, greater_is_better: bool) -> list[dict[str, Any]]:
    """Return the ledger's rows for the page, the newest first; `best` names the columns in which a row is the best."""
    best = {
        column: (table[column].max() if greater_is_better else table[column].min())
        for column in ("out_of_fold", "leaderboard", "private")
    }
    return [
        {**row, "best": [column for column, value in best.items() if row[column] == value]}
        for row in reversed(table.to_dict("records"))
    ]
