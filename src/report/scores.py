"""Everything that is counted from out-of-fold predictions."""

from typing import Any

import numpy as np
import pandas as pd

from src.competitions.spec import Competition
from src.inference.ensemble import OutOfFold
from src.models.heads import most_probable


def bootstrap_interval(right: np.ndarray, num_resamples: int, seed: int = 0) -> tuple[float, float]:
    """Return the 95% percentile interval of the score; right (N,) bool.

    Resampling N zeros and ones with replacement and counting the ones is one binomial draw, so no rows are copied.
    """
    draws = np.random.default_rng(seed).binomial(len(right), right.mean(), num_resamples) / len(right)
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def summary(oof: OutOfFold, competition: Competition, num_resamples: int) -> dict[str, Any]:
    """Return the score, its interval, its mean and standard deviation over folds, and the score of each head."""
    per_fold = pd.Series(oof.right).groupby(oof.labels["fold"].to_numpy()).agg(["mean", "size"])
    predicted = most_probable(oof.probabilities, competition)
    low, high = bootstrap_interval(oof.right, num_resamples)
    return {
        "competition": competition.name,
        "score_name": competition.score_name,
        "score": float(oof.right.mean()),
        "interval_95": [low, high],
        "num_images": len(oof.right),
        "complete": oof.complete,
        "optimistic": oof.optimistic,
        "folds": {str(fold): float(row["mean"]) for fold, row in per_fold.iterrows()},
        "mean_over_folds": float(per_fold["mean"].mean()),
        "std_over_folds": float(per_fold["mean"].std(ddof=1)) if len(per_fold) > 1 else None,
        "heads": {
            head.name: float((predicted[:, place] == oof.target[:, place]).mean())
            for place, head in enumerate(competition.heads)
        },
    }


def by_length(oof: OutOfFold, competition: Competition) -> pd.DataFrame:
    """Return a row per true length: images, score, and how often the length itself is right."""
    predicted = most_probable(oof.probabilities, competition)
    lengths = [(ids != competition.pad_class).sum(axis=1) for ids in (oof.target, predicted)]
    table = pd.DataFrame({"length": lengths[0], "score": oof.right, "length_right": lengths[0] == lengths[1]})
    grouped = table.groupby("length").agg(
        images=("score", "size"), score=("score", "mean"), length_right=("length_right", "mean")
    )
    return grouped.reset_index()


def by_class(oof: OutOfFold, competition: Competition) -> pd.DataFrame:
    """Return a row per class of a one-head competition: images, recall and precision."""
    ((names, matrix),) = confusions(oof, competition).values()
    right = np.diag(matrix)
    return pd.DataFrame(
        {
            "class": names,
            "images": matrix.sum(axis=1),
            "recall": right / np.maximum(matrix.sum(axis=1), 1),
            "precision": right / np.maximum(matrix.sum(axis=0), 1),
        }
    )


def by_head(oof: OutOfFold, competition: Competition) -> pd.DataFrame:
    """Return a row per head: number of classes and accuracy."""
    right = (most_probable(oof.probabilities, competition) == oof.target).mean(axis=0)
    heads = competition.heads
    return pd.DataFrame(
        {"head": [head.name for head in heads], "classes": [head.num_classes for head in heads], "accuracy": right}
    )


def confusions(oof: OutOfFold, competition: Competition) -> dict[str, tuple[list[str], np.ndarray]]:
    """Return class names and (C, C) counts, rows true and columns predicted, for each head by name; heads with the same
    classes are counted together, as "all"."""
    predicted = most_probable(oof.probabilities, competition)
    found = {}
    for place, head in enumerate(competition.heads):
        pairs = oof.target[:, place] * head.num_classes + predicted[:, place]
        counts = np.bincount(pairs, minlength=head.num_classes**2).reshape(head.num_classes, head.num_classes)
        texts = competition.class_names if len(competition.heads) == 1 else ()
        found[head.name] = ([text or "(blank)" for text in texts or head.classes], counts)
    if len({head.classes for head in competition.heads}) == 1:
        names = next(iter(found.values()))[0]
        return {"all": (names, np.sum([counts for _, counts in found.values()], axis=0))}
    return found


def mistakes(oof: OutOfFold, competition: Competition, number: int) -> pd.DataFrame:
    """Return the wrong answers, the most confident first: image_path, fold, truth, answer, confidence (the probability
    of the whole answer) and probability_of_truth. Label errors gather at the top."""
    predicted = most_probable(oof.probabilities, competition)
    starts = np.cumsum([0, *(head.num_classes for head in competition.heads[:-1])])
    confidence, of_truth = (
        np.take_along_axis(oof.probabilities, ids + starts, axis=1).prod(axis=1) for ids in (predicted, oof.target)
    )
    table = pd.DataFrame(
        {
            "image_path": oof.labels["image_path"],
            "fold": oof.labels["fold"],
            "truth": [competition.decode(ids) for ids in oof.target.tolist()],
            "answer": [competition.decode(ids) for ids in predicted.tolist()],
            "confidence": confidence.round(6),
            "probability_of_truth": of_truth.round(6),
        }
    )
    wrong = table[~oof.right].sort_values(["confidence", "image_path"], ascending=[False, True])
    return wrong.head(number).reset_index(drop=True)
