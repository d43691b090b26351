"""Class counts that prepare prints: rare classes need a sampler, weights or another metric."""

import numpy as np
import pandas as pd

from src.competitions.spec import Competition, Head

MAX_SHOWN = 12  # classes of a head that are all listed
MAX_NAMED = 3  # of more classes: the largest and the smallest ones
STRONG = 10.0  # times as many images in the largest class as in the smallest, from which a remedy is named


def counts_of(labels: pd.DataFrame, head: Head) -> "pd.Series[int]":
    """Return how many images each class, grade or label of a head has."""
    if head.kind == "labels":
        found = labels[list(head.targets)].sum().to_numpy()
    else:
        found = np.bincount(labels[head.name], minlength=head.num_classes)
    return pd.Series(found, index=list(head.classes), dtype=np.int64)


def balance(labels: pd.DataFrame, competition: Competition) -> list[str]:
    """Return lines about each head's classes, none for strings, most of whose positions hold the pad class."""
    if competition.is_string or competition.pretext:
        return []
    lines = []
    for head in competition.heads:
        if head.kind == "number":
            values = labels[head.name]
            lines.append(f"{head.name}: {values.min():g} to {values.max():g}, mean {values.mean():.4g}")
            continue
        lines.append(_line(head, counts_of(labels, head), len(labels)))
    return lines


def _line(head: Head, counts: "pd.Series[int]", total: int) -> str:
    ordered = counts if head.kind == "ordinal" else counts.sort_values(ascending=False, kind="stable")
    shown = ordered if len(ordered) <= MAX_SHOWN else pd.concat([ordered[:MAX_NAMED], ordered[-MAX_NAMED:]])
    texts = [f"{text or '(none)'} {count:,}" for text, count in shown.items()]
    if len(shown) < len(ordered):
        texts.insert(MAX_NAMED, "…")
    what = {"labels": "labels", "ordinal": "grades"}.get(head.kind, "classes")
    line = f"{head.name}: {len(counts):,} {what}; images of each: {', '.join(texts)}"
    if head.kind == "labels":
        line += f"; {counts.sum() / max(total, 1):.2f} labels an image"
    ratio = counts.max() / max(counts.min(), 1)
    if ratio >= STRONG:
        line += f"; the largest has {ratio:,.0f} times the smallest (see --sampler and --class-weights of train)"
    return line
