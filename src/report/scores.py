"""Scores and tables computed from out-of-fold predictions."""

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from src.inference.ensemble import OutOfFold
from src.models.heads import most_probable


def score_interval(right: np.ndarray) -> tuple[float, float]:
    """Return the 95% Wilson interval of a share of right answers; right (N,) bool.

    Unlike a bootstrap's it has a width if all or none are right. Images are taken as independent.
    """
    interval = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def summary(oof: OutOfFold) -> dict[str, Any]:
    """Return the score, its interval, its mean and standard deviation over folds, and the score of each head."""
    per_fold = pd.Series(oof.right).groupby(oof.labels["fold"].to_numpy()).agg(["mean", "size"])
    predicted = most_probable(oof.probabilities, oof.competition)
    low, high = score_interval(oof.right)
    return {
        "competition": oof.competition.name,
        "score_name": oof.competition.score_name,
        "score": float(oof.right.mean()),
        "interval_95": [low, high],
        "num_images": len(oof.right),
        "complete": oof.complete,
        "optimistic": oof.optimistic,
        "folds": {str(fold): float(row["mean"]) for fold, row in per_fold.iterrows()},
        "mean_over_folds": float(per_fold["mean"].mean()),
        "std_over_folds": float(per_fold["mean"].std(ddof=1)) if len(per_fold) > 1 else None,
        "heads": {
            head.name: float((predicted[:, i] == oof.target[:, i]).mean())
            for i, head in enumerate(oof.competition.heads)
        },
    }


def breakdown(oof: OutOfFold) -> tuple[str, pd.DataFrame]:
    """Return what the score is split by and the table: by length (strings), by class (one head) or by head."""
    if oof.competition.pad_class is not None:
        return "length", by_length(oof)
    if len(oof.competition.heads) == 1:
        return "class", by_class(oof)
    return "head", by_head(oof)


def by_length(oof: OutOfFold) -> pd.DataFrame:
    """Return a row per true length: images, score, and how often the length itself is right."""
    predicted = most_probable(oof.probabilities, oof.competition)
    lengths = [(ids != oof.competition.pad_class).sum(axis=1) for ids in (oof.target, predicted)]
    table = pd.DataFrame({"length": lengths[0], "score": oof.right, "length_right": lengths[0] == lengths[1]})
    grouped = table.groupby("length").agg(
        images=("score", "size"), score=("score", "mean"), length_right=("length_right", "mean")
    )
    return grouped.reset_index()


def by_class(oof: OutOfFold) -> pd.DataFrame:
    """Return a row per class of a one-head competition: images, recall and precision."""
    ((names, matrix),) = confusions(oof).values()
    right = np.diag(matrix)
    return pd.DataFrame(
        {
            "class": names,
            "images": matrix.sum(axis=1),
            "recall": right / np.maximum(matrix.sum(axis=1), 1),
            "precision": right / np.maximum(matrix.sum(axis=0), 1),
        }
    )


def by_head(oof: OutOfFold) -> pd.DataFrame:
    """Return a row per head: number of classes and accuracy."""
    right = (most_probable(oof.probabilities, oof.competition) == oof.target).mean(axis=0)
    heads = oof.competition.heads
    return pd.DataFrame(
        {"head": [head.name for head in heads], "classes": [head.num_classes for head in heads], "accuracy": right}
    )


def confusions(oof: OutOfFold) -> dict[str, tuple[list[str], np.ndarray]]:
    """Return class names and (C, C) counts, rows true and columns predicted, for each head by name; heads with the same
    classes are combined as "all"."""
    predicted = most_probable(oof.probabilities, oof.competition)
    found = {}
    for i, head in enumerate(oof.competition.heads):
        pairs = oof.target[:, i] * head.num_classes + predicted[:, i]
        counts = np.bincount(pairs, minlength=head.num_classes**2).reshape(head.num_classes, head.num_classes)
        texts = oof.competition.class_names if len(oof.competition.heads) == 1 else ()
        found[head.name] = ([text or "(none)" for text in texts or head.classes], counts)
    if len({head.classes for head in oof.competition.heads}) == 1:
        names = next(iter(found.values()))[0]
        return {"all": (names, np.sum([counts for _, counts in found.values()], axis=0))}
    return found


def mistakes(oof: OutOfFold, number: int) -> pd.DataFrame:
    """Return the wrong answers, the most confident first: image_path, fold, truth, answer, confidence (the probability
    of the whole answer) and probability_of_truth. Label errors gather at the top."""
    predicted = most_probable(oof.probabilities, oof.competition)
    confidence, of_truth = (
        oof.competition.layout.pick(oof.probabilities, ids).prod(axis=1) for ids in (predicted, oof.target)
    )
    table = pd.DataFrame(
        {
            "image_path": oof.labels["image_path"],
            "fold": oof.labels["fold"],
            "truth": [oof.competition.decode(ids) for ids in oof.target.tolist()],
            "answer": [oof.competition.decode(ids) for ids in predicted.tolist()],
            "confidence": confidence.round(6),
            "probability_of_truth": of_truth.round(6),
        }
    )
    wrong = table[~oof.right].sort_values(["confidence", "image_path"], ascending=[False, True])
    return wrong.head(number).reset_index(drop=True)
