"""report.html: the score, where it errs, and the worst mistakes as images; one file, no scripts, nothing loaded."""

import base64
import html
from collections.abc import Hashable
from typing import Any

import cv2
import numpy as np
import pandas as pd

from src.report.scores import MEASURES

MAX_MATRIX_CLASSES, MAX_PAIRS = 40, 50  # classes of a matrix that is drawn; pairs listed of more classes
GREEN, RED = "34,120,80", "179,38,30"
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #1d2733 }
h1 { font-size: 1.5rem; margin-bottom: 0 } h2 { font-size: 1.1rem; margin-top: 2rem }
.score { font-size: 2.6rem; font-weight: 650; margin: .3rem 0 0 } .note { color: #5b6b7b; margin: 0 }
.warning { background: #fff3d6; padding: .5rem .8rem; border-radius: 6px }
table { border-collapse: collapse } th { text-align: left; color: #5b6b7b; font-weight: 500 }
th, td { padding: .2rem .7rem .2rem 0; font-variant-numeric: tabular-nums }
.matrix td, .matrix th { padding: .15rem .3rem; text-align: right; font-size: 12px; min-width: 2rem }
.matrix td { border-radius: 3px } .gallery { display: flex; flex-wrap: wrap; gap: .8rem }
figure { margin: 0; width: 9rem } figure img { width: 100%; border-radius: 4px }
figcaption { font-size: 12px; color: #5b6b7b }
figcaption b { color: #b3261e }
"""


def _table(frame: pd.DataFrame) -> str:
    shown = frame.map(
        lambda value: f"{value:.4f}" if isinstance(value, float) else "undefined" if value is None else value
    )
    return shown.rename(columns=lambda name: name.replace("_", " ")).to_html(index=False, border=0, escape=True)


def _most_confused(counts: np.ndarray, names: list[str]) -> str:
    """Return a table of the most frequent mistakes: of many classes the matrix would grow with their square."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    rows, columns = np.unravel_index(np.argsort(-wrong, axis=None, kind="stable")[:MAX_PAIRS], wrong.shape)
    pairs = [(names[row], names[column], int(wrong[row, column])) for row, column in zip(rows, columns, strict=True)]
    frame = pd.DataFrame([pair for pair in pairs if pair[2]], columns=["true class", "answer", "images"])
    return f"<p>The most confused pairs of {len(names):,} classes; all are in confusion.csv.</p>{_table(frame)}"


def _matrix(counts: np.ndarray, names: list[str]) -> str:
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    head = "".join(f"<th>{html.escape(name[:9])}</th>" for name in names)
    rows = []
    for place, name in enumerate(names):
        cells = "".join(
            f'<td style="background:rgba({GREEN if column == place else RED},{share**0.6:.2f})">{count or ""}</td>'
            for column, (share, count) in enumerate(zip(shares[place], counts[place], strict=True))
        )
        rows.append(f"<tr><th>{html.escape(name)}</th>{cells}</tr>")
    return f'<table class="matrix"><tr><th></th>{head}</tr>{"".join(rows)}</table>'


def _figure(image: np.ndarray, row: dict[Hashable, Any], has_confidence: bool) -> str:
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    encoded = base64.b64encode(data.tobytes()).decode()
    path, truth, answer = (html.escape(str(row[key])) for key in ("image_path", "truth", "answer"))
    sure = f", {row['confidence']:.0%} sure" if has_confidence else ""
    caption = f"<b>{answer or '(none)'}</b> for {truth or '(none)'}{sure}<br>{path}"
    return (
        f'<figure><img alt="{path}" src="data:image/jpeg;base64,{encoded}"><figcaption>{caption}</figcaption></figure>'
    )


def render(
    scores: dict[str, Any],
    run: str,
    kind: str,
    parts: pd.DataFrame,
    note: str,
    matrices: dict[str, tuple[list[str], np.ndarray]],
    worst: pd.DataFrame,
    images: np.ndarray,
) -> str:
    """Return the page; `parts` and `note` are what `for_readers` gives, by `kind`; `images` (K, H, W, 3) uint8 are
    those of the first K rows of `worst`."""
    warnings = []
    if not scores["complete"]:
        warnings.append("Not all folds are in: this is the score of part of the data.")
    if scores["optimistic"]:
        warnings.append("The epoch was chosen on these very images: the score is optimistic.")
    folds = pd.DataFrame(
        {"fold": list(scores["folds"]), "score": pd.Series(list(scores["folds"].values()), dtype=object)}
    )
    names = list(scores["heads"])
    heads = pd.DataFrame(
        {
            "head": names,
            "measure": [scores["measures"][name] for name in names],
            "value": [scores["heads"][name] for name in names],
        }
    )
    has_numbers = MEASURES["number"] in scores["measures"].values()
    gallery = "".join(
        _figure(image, row, not has_numbers) for image, row in zip(images, worst.to_dict("records"), strict=False)
    )
    title = html.escape(f"{scores['competition']} · {run}")
    confusions = "".join(
        f"<h2>True class (rows) and answer (columns){'' if head == 'all' else ', ' + html.escape(head)}</h2>"
        + (_matrix if len(names) <= MAX_MATRIX_CLASSES else _most_confused)(counts, names)
        for head, (names, counts) in matrices.items()
    )
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>
<h1>{title}</h1><p class="score">{"undefined" if scores["score"] is None else f"{scores['score']:.4f}"}</p>
{_notes(scores)}
{"".join(f'<p class="warning">{warning}</p>' for warning in warnings)}
<h2>Folds</h2>{_table(folds)}<h2>Heads</h2>{_table(heads)}
<h2>By {kind}</h2>{f'<p class="note">{note}</p>' if note else ""}{_table(parts)}
{confusions}
<h2>The {"largest errors" if has_numbers else "most confident mistakes"}</h2>
<div class="gallery">{gallery or "none"}</div></html>
"""


def _notes(scores: dict[str, Any]) -> str:
    """Return what the score is, how far it may move, and what is decided by fitted cuts."""
    less = "" if scores["greater_is_better"] else " (less is better)"
    lines = [f"out-of-fold {html.escape(scores['score_name'])}{less} on {scores['num_images']:,} images"]
    low, high = scores["interval_95"]
    if low is None or high is None:
        lines.append("the metric is not defined for these images, or hardly ever: there is no interval")
    else:
        lines.append(f"95% interval {low:.4f} to {high:.4f} ({html.escape(scores['interval_by'])})")
    if scores["rule"]:
        plain = "undefined" if scores["plain_score"] is None else f"{scores['plain_score']:.4f}"
        lines.append(f"fitted cuts included, by cross-validation over groups; without them {plain}")
    return "".join(f'<p class="note">{line}</p>' for line in lines)
