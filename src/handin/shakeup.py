"""What leaderboard scores say of out-of-fold scores: do they agree on the order, and on which submission is best?"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata, spearmanr

FEW = 3  # submissions below which a rank correlation says nothing


@dataclass(frozen=True)
class Comparison:
    """Two scores of the same submissions; of equal ones, the one handed in first is chosen."""

    files: list[str]
    one: np.ndarray  # (N,) by which a submission would be chosen
    other: np.ndarray  # (N,) by which it is judged
    greater_is_better: bool

    def _ranks(self, scores: np.ndarray) -> np.ndarray:
        """Return ranks from 1, the best; equal scores share the better rank."""
        return rankdata(-scores if self.greater_is_better else scores, method="min").astype(int)

    @property
    def correlation(self) -> float | None:
        """Spearman's; None for few submissions, or all of the same score."""
        if len(self.one) < FEW or len(set(self.one)) < 2 or len(set(self.other)) < 2:
            return None
        return float(spearmanr(self.one, self.other).statistic)

    @property
    def chosen(self) -> int:
        return int(self._ranks(self.one).argmin())

    @property
    def best(self) -> int:
        return int(self._ranks(self.other).argmin())

    @property
    def rank_of_chosen(self) -> int:
        """The rank, by the other score, of the submission that the one would choose."""
        return int(self._ranks(self.other)[self.chosen])

    @property
    def shakeup(self) -> float:
        """The mean change of rank, as a share of the number of submissions: Kaggle's measure of a leaderboard."""
        return float(np.abs(self._ranks(self.one) - self._ranks(self.other)).mean() / len(self.one))


def compare(table: pd.DataFrame, one: str, other: str, greater_is_better: bool) -> Comparison | None:
    """Return the comparison of two columns of the ledger, or None unless two submissions have both."""
    both = table[table[one].notna() & table[other].notna()]
    if len(both) < 2:
        return None
    return Comparison(both["file"].tolist(), both[one].to_numpy(), both[other].to_numpy(), greater_is_better)


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _choice(by: str, found: Comparison, judge: str) -> str:
    """Return who would have chosen which submission, and how it did."""
    chosen, best, count = found.files[found.chosen], found.files[found.best], len(found.files)
    if found.rank_of_chosen == 1:
        return f"{by} would have chosen {chosen}, and it is the best of {count} on the {judge}."
    return (
        f"{by} would have chosen {chosen} ({found.other[found.chosen]:.5g}), which is {_ordinal(found.rank_of_chosen)} "
        f"of {count} on the {judge}; the best there is {best} ({found.other[found.best]:.5g})."
    )


def sentences(table: pd.DataFrame, greater_is_better: bool) -> list[str]:
    """Return what the ledger's scores say, one sentence for each finding; `table` is `Ledger.numbers()`."""
    lines = []
    found = compare(table, "out_of_fold", "leaderboard", greater_is_better)
    if found:
        if found.correlation is not None:
            lines.append(
                f"Out-of-fold and leaderboard agree on the order with a rank correlation of {found.correlation:.2f} "
                f"(Spearman, {len(found.files)} submissions; 1 is the same order)."
            )
        lines.append(_choice("Out-of-fold", found, "leaderboard"))
        gap = found.other - found.one
        side = "above" if gap.mean() > 0 else "below"
        lines.append(f"The leaderboard is on average {abs(gap.mean()):.4f} {side} out-of-fold.")
    inside = table[table["low"].notna() & table["leaderboard"].notna()]
    if len(inside):
        count = int(inside["leaderboard"].between(inside["low"], inside["high"]).sum())
        lines.append(f"{count} of {len(inside)} leaderboard scores lie within the 95% interval of out-of-fold.")
    private = compare(table, "leaderboard", "private", greater_is_better)
    if private:
        agree = "" if private.correlation is None else f"rank correlation {private.correlation:.2f}, "
        lines.append(
            f"From the public to the private leaderboard: {agree}shake-up {private.shakeup:.2f} (mean change of rank "
            "as a share of the submissions)."
        )
        lines.append(_choice("The public leaderboard", private, "private one"))
        own = compare(table, "out_of_fold", "private", greater_is_better)
        if own:
            lines.append(_choice("Out-of-fold", own, "private leaderboard"))
    return lines
