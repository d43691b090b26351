"""Two runs on the same images: the difference of their scores with an interval, and where it comes from."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from src.inference.ensemble import OutOfFold
from src.inference.quality import likelihood_losses
from src.metrics import metric_of
from src.report.intervals import FEW, SHARES, in_groups, part_of, resampled_difference, score_interval
from src.report.scores import breakdown

VALUES = {"label": "f1", "head": "value", "value": "mean_absolute_error"}  # of breakdown's tables


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two runs' predictions of the images that both answered, in one order, and what a reader must know of them."""

    one: OutOfFold
    other: OutOfFold
    notes: tuple[str, ...]

    @property
    def has_numbers(self) -> bool:
        """Whether answers are numbers, which are never exactly right."""
        return "number" in self.one.competition.layout.kinds


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Of two scores, the other's less the one's, with a 95% interval; NaN where it is not defined."""

    value: float
    low: float
    high: float
    how: str
    p_value: float | None = None  # McNemar's, that both are equally often right


@dataclass(frozen=True, kw_only=True)
class Part:
    """The difference on some of the images."""

    name: str
    images: int
    one: float
    other: float
    low: float | None = None
    high: float | None = None


def pair_of(one: OutOfFold, other: OutOfFold) -> Pair | str:
    """Return two runs on the images that both answered, or why there are none. Images of different labels are skipped
    and counted."""
    classes = [[(head.name, head.kind, head.classes) for head in oof.competition.heads] for oof in (one, other)]
    if classes[0] != classes[1]:
        return "they were trained for other classes"
    rows = pd.Series(range(len(other.target)), index=other.labels["image_path"])
    found = rows.reindex(one.labels["image_path"]).to_numpy()
    first = np.flatnonzero(~np.isnan(found))
    second = found[first].astype(np.int64)
    same = (one.target[first] == other.target[second]).all(axis=1)
    relabelled, first, second = int((~same).sum()), first[same], second[same]
    if not len(first):
        return "no image was answered by both"
    notes, folds = [], [oof.labels["fold"].to_numpy()[at] for oof, at in ((one, first), (other, second))]
    if len({len(one.target), len(other.target), len(first)}) > 1:
        notes.append(
            f"on the {len(first):,} images that both answered, of {len(one.target):,} and {len(other.target):,}"
        )
    if relabelled:
        notes.append(f"{relabelled:,} images are skipped: their labels differ")
    moved = int((folds[0] != folds[1]).sum())
    if moved:
        notes.append(f"{moved:,} images were held out in another fold: the networks that answer them saw other images")
    chosen = [name for name, oof in (("the first", one), ("the other", other)) if oof.optimistic]
    if chosen:
        notes.append(f"{' and '.join(chosen)} chose the epoch on these images, which flatters it")
    groups = one.labels["group"].to_numpy()[first]
    return Pair(one=_only(one, first, groups), other=_only(other, second, groups), notes=tuple(notes))


def _only(oof: OutOfFold, rows: np.ndarray, groups: np.ndarray) -> OutOfFold:
    """Return the predictions of some images, whose groups are those of the other run too."""
    part = part_of(oof, rows)
    return replace(part, labels=part.labels.assign(group=groups))


def difference_of(pair: Pair) -> Difference:
    """Return the paired difference: of shares of right answers with Newcombe's interval and McNemar's exact test; of
    other scores, and if images lie in groups, with a bootstrap's over the groups."""
    one, other, metric = pair.one, pair.other, metric_of(pair.one.competition)
    value, num_groups = other.score - one.score, one.labels["group"].nunique()
    if metric.name in SHARES and not in_groups(one):
        low, high = newcombe(one.right, other.right)
        p_value = mcnemar(one.right, other.right)
        return Difference(value=value, low=low, high=high, how="Newcombe's method", p_value=p_value)
    low, high = resampled_difference([one], [other])
    few = f", fewer than {FEW}: rough" if num_groups < FEW else ""
    how = f"a bootstrap over {num_groups:,} groups{few}"
    return Difference(value=value, low=low, high=high, how=how)


def mcnemar(one: np.ndarray, other: np.ndarray) -> float:
    """Return the exact p-value of McNemar's test; one, other (N,) bool: who is right. Source: McNemar, 1947."""
    gained, lost = int((other & ~one).sum()), int((one & ~other).sum())
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def newcombe(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Return the 95% interval of the difference of two paired shares, other - one; one, other (N,) bool.

    Source: Newcombe, Improved confidence intervals for the difference between binomial proportions based on paired
    data, 1998, method 10. It has a width even if no image changed sides.
    """
    count = len(one)
    both, neither = int((one & other).sum()), int((~one & ~other).sum())
    gained, lost = int((other & ~one).sum()), int((one & ~other).sum())
    (low_1, high_1), (low_2, high_2) = score_interval(other), score_interval(one)
    p_1, p_2 = other.mean(), one.mean()
    margins = float((both + gained) * (lost + neither)) * float((both + lost) * (gained + neither))
    product = float(both * neither - gained * lost)
    if product > 0:
        product = max(product - count / 2, 0.0)
    phi = product / margins**0.5 if margins else 0.0

    def reach(left: float, right: float) -> float:
        return float(np.sqrt(max(left**2 - 2 * phi * left * right + right**2, 0.0)))

    middle = float(p_1 - p_2)
    return middle - reach(p_1 - low_1, high_2 - p_2), middle + reach(high_1 - p_1, p_2 - low_2)


def changed_sides(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that only the other has right, and those that only the one has right, the clearest change first.

    Of numbers: those to which the other, or the one, is nearer.
    """
    competition, target = pair.one.competition, pair.one.target
    losses = [likelihood_losses(oof.probabilities, target, competition) for oof in (pair.one, pair.other)]
    change = losses[0] - losses[1]  # greater: the other gives the truth more
    if pair.has_numbers:
        gained, lost = change > 0, change < 0
    else:
        gained, lost = pair.other.right & ~pair.one.right, pair.one.right & ~pair.other.right
    order = np.argsort(-np.abs(change), kind="stable")
    return order[gained[order]], order[lost[order]]


def parts_of(pair: Pair) -> Iterator[tuple[str, str, list[Part]]]:
    """Yield what the images are split by, what is measured, and the parts: by length and position of strings, by class,
    label, head or tenth of the numbers."""
    competition, target = pair.one.competition, pair.one.target
    answers = (pair.one.answers, pair.other.answers)
    if competition.pad_class is not None:
        there = target != competition.pad_class  # (N, positions)
        lengths = there.sum(axis=1)
        each = [(str(length), lengths == length, None) for length in np.unique(lengths)]
        yield "length", "share right", [_share(pair, *one) for one in each]
        columns = [(str(at + 1), there[:, at], [given[:, at] == target[:, at] for given in answers])
                   for at in range(target.shape[1]) if there[:, at].any()]  # fmt: skip
        yield "position", "share right of the characters there", [_share(pair, *one) for one in columns]
        return
    kinds = competition.layout.kinds
    if len(kinds) == 1 and kinds[0] in ("class", "ordinal"):
        names = competition.class_names or competition.heads[0].classes
        rows = [(name or "(none)", target[:, 0] == number, None) for number, name in enumerate(names)]
        yield "class", "recall", [_share(pair, *one) for one in rows if one[1].any()]
        return
    kind, table = breakdown(pair.one)
    both = [table, breakdown(pair.other)[1]]
    name, column = "tenth" if kind == "value" else kind, VALUES[kind]
    measure = "value" if kind == "head" else column.replace("_", " ")
    images = table["images"] if "images" in table else [len(target)] * len(table)
    values = zip(table[name], images, both[0][column], both[1][column], strict=True)
    yield kind, measure, [Part(name=str(name), images=int(count), one=float(one), other=float(other))
                          for name, count, one, other in values]  # fmt: skip


def _share(pair: Pair, name: str, inside: np.ndarray, right: list[np.ndarray] | None) -> Part:
    """Return the shares of right answers among the images `inside`."""
    one, other = (of[inside] for of in right or (pair.one.right, pair.other.right))
    low, high = newcombe(one, other)
    return Part(name=name, images=len(one), one=float(one.mean()), other=float(other.mean()), low=low, high=high)
