"""Scores and tables computed from out-of-fold predictions."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from src.inference.ensemble import OutOfFold
from src.inference.quality import defined, likelihood_losses
from src.metrics import metric_of
from src.report.intervals import interval_of, part_of

MEASURES = {  # of one head, whatever the metric
    "class": "accuracy",
    "ordinal": "accuracy",
    "labels": "accuracy over all labels",
    "number": "mean absolute error",
}
MAX_ROWS = 40  # of a table of classes or labels that is read by people
MAX_GROUPS = 0.5  # groups per image up to which by_group.csv lists them


def summary(oof: OutOfFold) -> dict[str, Any]:
    """Return the score, its interval, its mean and standard deviation over folds, and the score of each head.

    A fold for which the metric is not defined (one class only, say) has the score None, and the mean skips it.
    """
    metric, low_high = metric_of(oof.competition), interval_of(oof)
    fold_of = oof.labels["fold"].to_numpy()
    folds = {
        int(fold): metric(oof.target[fold_of == fold], oof.decided.scored[fold_of == fold], oof.competition)
        for fold in np.unique(fold_of)
    }
    finite = [score for score in folds.values() if math.isfinite(score)]
    of_folds = {str(fold): interval_of(part_of(oof, np.flatnonzero(fold_of == fold)))[:2] for fold in folds}
    return {
        "competition": oof.competition.name,
        "score_name": metric.name.replace("_", " "),
        "greater_is_better": metric.greater_is_better,
        "score": defined(oof.score),
        "interval_95": [defined(low_high[0]), defined(low_high[1])],
        "interval_by": low_high[2],
        "plain_score": defined(oof.decided.plain_score),
        "rule": {
            head.name: list(cuts) for head, cuts in zip(oof.competition.heads, oof.decided.rule.cuts, strict=False)
        },
        "views": list(oof.views),
        "num_images": len(oof.target),
        "complete": oof.complete,
        "optimistic": oof.optimistic,
        "folds": {str(fold): defined(score) for fold, score in folds.items()},
        "fold_intervals_95": {fold: [defined(end) for end in ends] for fold, ends in of_folds.items()},
        "mean_over_folds": float(np.mean(finite)) if finite else None,
        "std_over_folds": float(np.std(finite, ddof=1)) if len(finite) > 1 else None,
        "heads": {head.name: score for head, score in zip(oof.competition.heads, _of_heads(oof), strict=True)},
        "measures": {head.name: MEASURES[head.kind] for head in oof.competition.heads},
    }


def _of_heads(oof: OutOfFold) -> list[float]:
    """Return of each head what MEASURES calls it."""
    split = oof.competition.layout.split_targets
    parts = zip(oof.competition.heads, split(oof.answers), split(oof.target), strict=True)
    return [
        float(np.abs(one - other).mean() if head.kind == "number" else (one == other).mean())
        for head, one, other in parts
    ]


def breakdown(oof: OutOfFold) -> tuple[str, pd.DataFrame]:
    """Return what the score is split by and the table: by length (strings), class, label or value, or by head."""
    if oof.competition.pad_class is not None:
        return "length", by_length(oof)
    if len(oof.competition.heads) > 1:
        return "head", by_head(oof)
    kind = oof.competition.heads[0].kind
    if kind == "labels":
        return "label", by_label(oof)
    return ("value", by_value(oof)) if kind == "number" else ("class", by_class(oof))


def tables(oof: OutOfFold) -> dict[str, pd.DataFrame]:
    """Return every table of where the run errs, by the name of its file: by_length, by_position, by_label, by_head,
    by_group, and by_class and by_value, of several heads for each; the one of `breakdown` first."""
    kind, parts = breakdown(oof)
    found = {f"by_{kind}": parts}
    if oof.competition.is_string:
        found["by_position"] = by_position(oof)
    for head, matrix in confusions(oof).items():
        found.setdefault("by_class" if head == "all" else f"by_class_{head}", per_class(*matrix))
    for start, each in zip(oof.competition.layout.target_starts, oof.competition.heads, strict=True):
        if each.kind == "number" and len(oof.competition.heads) > 1:
            found[f"by_value_{each.name}"] = by_value(oof, start)
    groups = by_group(oof)
    return found if groups is None else {**found, "by_group": groups}


def matrix_table(names: Sequence[str], counts: np.ndarray) -> pd.DataFrame:
    """Return the confusion matrix as a table, whose last column, "true", names its rows: a class may be called so."""
    table = pd.DataFrame(counts, columns=list(names))
    table.insert(len(names), "true", list(names), allow_duplicates=True)
    return table


def for_readers(kind: str, parts: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return the table's rows that are shown, and a note: of thousands of classes those with the lowest recall."""
    if kind == "value":
        return parts, "Tenths of the images, from the smallest number up; an error is the answer less the truth."
    if len(parts) <= MAX_ROWS or "recall" not in parts:
        return parts, ""
    there = parts[parts["images"] > 0] if "images" in parts else parts
    shown = there.sort_values("recall", kind="stable").head(MAX_ROWS)
    return shown, f"The {MAX_ROWS} of {len(parts):,} with the lowest recall; all are in by_{kind}.csv."


def by_label(oof: OutOfFold) -> pd.DataFrame:
    """Return a row per label: images that have it, recall, precision, F1, and the fitted cut."""
    head, target, answers = oof.competition.heads[0], oof.target, oof.answers
    both, cuts = (target * answers).sum(axis=0), oof.decided.rule.of(0)
    table = pd.DataFrame({"label": head.classes, "images": target.sum(axis=0)})
    table["recall"] = both / np.maximum(target.sum(axis=0), 1)
    table["precision"] = both / np.maximum(answers.sum(axis=0), 1)
    table["f1"] = 2 * both / np.maximum(target.sum(axis=0) + answers.sum(axis=0), 1)
    return table.assign(cut=cuts if len(cuts) else 0.5)


def by_value(oof: OutOfFold, column: int = 0) -> pd.DataFrame:
    """Return a row per tenth of the images, by their true number: its range, the mean and the mean absolute error."""
    true = oof.target[:, column].astype(np.float64)
    error = oof.answers[:, column].astype(np.float64) - true
    tenth = pd.Series(true).rank(method="first").to_numpy() * 10 // (len(true) + 1)
    table = pd.DataFrame({"tenth": tenth.astype(int) + 1, "value": true, "error": error, "size": np.abs(error)})
    return (
        table.groupby("tenth")
        .agg(images=("value", "size"), lowest=("value", "min"), highest=("value", "max"), mean_error=("error", "mean"),
             mean_absolute_error=("size", "mean"))
        .reset_index()
    )  # fmt: skip


def by_group(oof: OutOfFold) -> pd.DataFrame | None:
    """Return a row per group, the worst first: images, share of right answers, mean loss; None without real groups."""
    groups = oof.labels["group"].to_numpy()
    if oof.labels["group"].nunique() > MAX_GROUPS * len(groups):
        return None
    losses = likelihood_losses(oof.probabilities, oof.target, oof.competition)
    table = pd.DataFrame({"group": groups, "right": oof.right, "loss": losses})
    found = table.groupby("group").agg(images=("loss", "size"), right=("right", "mean"), loss=("loss", "mean"))
    if "number" in oof.competition.layout.kinds:  # a number is never exactly right
        found = found.drop(columns="right")
    return found.reset_index().sort_values("loss", ascending=False)


def by_length(oof: OutOfFold) -> pd.DataFrame:
    """Return a row per true length: images, score, and how often the length itself is right."""
    predicted = oof.answers
    lengths = [(ids != oof.competition.pad_class).sum(axis=1) for ids in (oof.target, predicted)]
    table = pd.DataFrame({"length": lengths[0], "score": oof.right, "length_right": lengths[0] == lengths[1]})
    grouped = table.groupby("length").agg(
        images=("score", "size"), score=("score", "mean"), length_right=("length_right", "mean")
    )
    return grouped.reset_index()


def by_class(oof: OutOfFold) -> pd.DataFrame:
    """Return a row per class of a one-head competition, see `per_class`."""
    (matrix,) = confusions(oof).values()
    return per_class(*matrix)


def per_class(names: list[str], counts: np.ndarray) -> pd.DataFrame:
    """Return a row per class: images, recall, precision and F1; counts (C, C), rows true and columns predicted."""
    right, true, given = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    return pd.DataFrame(
        {
            "class": names,
            "images": true,
            "recall": right / np.maximum(true, 1),
            "precision": right / np.maximum(given, 1),
            "f1": 2 * right / np.maximum(true + given, 1),
        }
    )


def by_position(oof: OutOfFold) -> pd.DataFrame:
    """Return a row per position of a string: images that have a character there, how often it is right, and how often
    the position is right in all images, that nothing is there included."""
    target, right = oof.target, oof.target == oof.answers
    is_there = target != oof.competition.pad_class  # everywhere if strings have one length
    return pd.DataFrame(
        {
            "position": range(1, target.shape[1] + 1),
            "images": is_there.sum(axis=0),
            "character_right": (right & is_there).sum(axis=0) / np.maximum(is_there.sum(axis=0), 1),
            "right": right.mean(axis=0),
        }
    )


def most_confused(names: list[str], counts: np.ndarray, most: int) -> list[tuple[str, str, int]]:
    """Return (true class, answer, images) of the most frequent mistakes, the most frequent first."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    rows, columns = np.unravel_index(np.argsort(-wrong, axis=None, kind="stable")[:most], wrong.shape)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return [(names[row], names[column], int(wrong[row, column])) for row, column in pairs if wrong[row, column]]


def by_head(oof: OutOfFold) -> pd.DataFrame:
    """Return a row per head: number of classes, and what is measured of it."""
    heads = oof.competition.heads
    return pd.DataFrame(
        {
            "head": [head.name for head in heads],
            "classes": [head.num_classes for head in heads],
            "measure": [MEASURES[head.kind] for head in heads],
            "value": _of_heads(oof),
        }
    )


def confusions(oof: OutOfFold) -> dict[str, tuple[list[str], np.ndarray]]:
    """Return class names and (C, C) counts, rows true and columns predicted, for each head by name; heads with the same
    classes are combined as "all"."""
    found = {}
    for head, column in zip(oof.competition.heads, oof.competition.layout.target_starts, strict=True):
        if head.kind not in ("class", "ordinal"):
            continue
        pairs = oof.target[:, column].astype(np.int64) * head.num_classes + oof.answers[:, column].astype(np.int64)
        counts = np.bincount(pairs, minlength=head.num_classes**2).reshape(head.num_classes, head.num_classes)
        texts = oof.competition.class_names if len(oof.competition.heads) == 1 else ()
        found[head.name] = ([text or "(none)" for text in texts or head.classes], counts)
    if len(found) > 1 and len({head.classes for head in oof.competition.heads}) == 1:
        names = next(iter(found.values()))[0]
        return {"all": (names, np.sum([counts for _, counts in found.values()], axis=0))}
    return {"all": next(iter(found.values()))} if len(found) == 1 else found


def mistakes(oof: OutOfFold, number: int) -> pd.DataFrame:
    """Return the wrong answers, the most confident first: image_path, fold, truth, answer, confidence (the probability
    of the whole answer) and probability_of_truth. Label errors gather at the top.

    Numbers come in the order of their error; instead of a probability they have exp(-error in standard deviations).
    """
    confidence, of_truth = (
        np.exp(-likelihood_losses(oof.probabilities, values, oof.competition)) for values in (oof.answers, oof.target)
    )
    table = pd.DataFrame(
        {
            "image_path": oof.labels["image_path"],
            "fold": oof.labels["fold"],
            "truth": [oof.competition.decode(ids) for ids in oof.target.tolist()],
            "answer": [oof.competition.decode(ids) for ids in oof.answers.tolist()],
            "confidence": confidence.round(6),
            "probability_of_truth": of_truth.round(6),
        }
    )
    by = "probability_of_truth" if "number" in oof.competition.layout.kinds else "confidence"
    wrong = table[~oof.right].sort_values([by, "image_path"], ascending=[by != "confidence", True])
    return wrong.head(number).reset_index(drop=True)
