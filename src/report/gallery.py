"""The report's gallery: which images it shows, what it knows of them, thumbnails, and what the network looked at."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pandas as pd

from src.competitions.spec import Competition
from src.core.errors import InputError
from src.core.runtime import choose_compute, is_out_of_memory, to_device
from src.data.images import resize
from src.data.levels import thumbnails
from src.data.relabel import label_text
from src.data.remote import RemotePixels
from src.inference.ensemble import OutOfFold
from src.inference.saliency import saliency
from src.pages.page import as_json
from src.report.calibration import confidences
from src.report.sheets import Sheets, make_sheets
from src.runs.fold import TrainedFold
from src.runs.run import Run

MAX_IMAGES = 10_000
MAX_REMOTE = 500  # of images that --cache-url has elsewhere
MAX_SUSPECTS = 200  # the most suspicious labels, which are always shown
MAX_WRONG_SHARE, MAX_SUSPECTED_SHARE = 0.5, 0.1  # of the images, if there are more: the others are drawn at random
MAX_TEXT_SHARE = 0.45  # of the gallery's bytes that paths, labels and answers may take
MAX_EXPLAINED_SHARE = 0.25  # of the thumbnails' bytes that images with saliency take, half of it their maps
LEAST_BYTES = 400  # of the page for an image, without its texts: beyond that fewer images are shown
SALIENCY_SECONDS = 10.0  # after which no more images are explained
SALIENCY_CHUNK = 16
MAP_SIDE = 32  # pixels of a saliency map's longer side


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The images that the page shows, in the order in which they appear, and sheets of them."""

    rows: np.ndarray  # (K,) of the out-of-fold table
    total: int  # of the table
    columns: dict[str, Any]  # what the page knows of each image, a list of K values each
    sheets: Sheets | None = None
    large: Sheets | None = None  # of the images in columns["explained"], which have saliency
    maps: Sheets | None = None  # colours over `large`
    note: str = ""  # why saliency is missing for some or all of the images


def shown_rows(oof: OutOfFold, confidence: np.ndarray, suspected: Sequence[int], most: int) -> np.ndarray:
    """Return the rows in the gallery's order: the wrong answers, the most confident first, then the right ones, the
    least confident first. Of too many, the suspected ones, the most confident mistakes and others at random."""
    has_numbers = "number" in oof.competition.layout.kinds  # never exactly right: the largest errors first
    wrong = np.flatnonzero(~oof.right)
    wrong = wrong[np.argsort(confidence[wrong] if has_numbers else -confidence[wrong], kind="stable")]
    right = np.flatnonzero(oof.right)
    right = right[np.argsort(confidence[right], kind="stable")]
    ranked = np.concatenate([wrong, right])
    if len(ranked) <= most:
        return ranked
    kept = np.zeros(len(ranked), bool)
    kept[list(suspected)[: min(most, max(MAX_SUSPECTS, int(MAX_SUSPECTED_SHARE * most)))]] = True
    kept[wrong[: min(int(MAX_WRONG_SHARE * most), most - int(kept.sum()))]] = True
    others = np.random.default_rng(0).permutation(np.flatnonzero(~kept))
    kept[others[: most - int(kept.sum())]] = True
    found: np.ndarray = ranked[kept[ranked]]
    return found


def display_text(values: Sequence[Any], competition: Competition) -> str:
    """Return an answer for people, which relabel.csv takes too: a class by its name, if it has one."""
    if competition.class_names and len(competition.heads) == 1 and competition.heads[0].kind != "labels":
        return competition.class_names[int(values[0])]
    return label_text(values, competition)


def _columns(oof: OutOfFold, rows: np.ndarray, confidence: np.ndarray, suspected: Sequence[int]) -> dict[str, Any]:
    """Return what the page knows of each image; texts that repeat are numbers of entries of a list."""
    paths = oof.labels["image_path"].to_numpy()[rows]
    folders = [path.rpartition("/")[0] for path in paths]
    known_folders = list(dict.fromkeys(folders))
    truths, answers = (
        [display_text(values, oof.competition) for values in table[rows].tolist()]
        for table in (oof.target, oof.answers)
    )
    texts = list(dict.fromkeys([*truths, *answers]))
    number_of = {text: number for number, text in enumerate(texts)}
    split = oof.competition.layout.split_targets
    wrong_heads = np.zeros(len(rows), np.int64)
    for head, (truth, answer) in enumerate(zip(split(oof.target[rows]), split(oof.answers[rows]), strict=True)):
        wrong_heads |= (truth != answer).any(axis=1).astype(np.int64) << min(head, 30)  # JavaScript has 32 bits
    rank = {row: number for number, row in enumerate(suspected)}
    numbers = {folder: number for number, folder in enumerate(known_folders)}
    return {
        "folders": known_folders,
        "texts": texts,
        "folder": [numbers[folder] for folder in folders],
        "name": [path.rpartition("/")[2] for path in paths],
        "truth": [number_of[text] for text in truths],
        "answer": [number_of[text] for text in answers],
        "fold": oof.labels["fold"].to_numpy()[rows].astype(int).tolist(),
        "sure": [float(f"{value:.4g}") for value in _sureness(oof, confidence)[rows]],
        "wrong": wrong_heads.tolist(),
        "suspect": [[place, rank[row]] for place, row in enumerate(rows.tolist()) if row in rank],
    }


def _sureness(oof: OutOfFold, confidence: np.ndarray) -> np.ndarray:
    """Return (N,): the probability of the answer, or of numbers the sum of their absolute errors."""
    if "number" not in oof.competition.layout.kinds:
        return confidence
    parts = zip(oof.competition.heads, oof.competition.layout.split_targets(oof.answers - oof.target), strict=True)
    errors: np.ndarray = np.sum([np.abs(part[:, 0]) for head, part in parts if head.kind == "number"], axis=0)
    return errors


def empty_gallery(oof: OutOfFold) -> Gallery:
    """Return the gallery of no images."""
    rows = np.zeros(0, np.int64)
    return Gallery(rows=rows, total=len(oof.target), columns=_columns(oof, rows, confidences(oof), ()))


def make_gallery(
    run: Run, folds: Sequence[TrainedFold], oof: OutOfFold, suspected: pd.DataFrame, num_saliency: int, num_bytes: int
) -> Gallery:
    """Return the gallery of a run, which takes at most about `num_bytes` of the page: if need be, thumbnails are small
    and images few. At most `num_saliency` have saliency, half of them suspected labels.

    Raises InputError if the cache is damaged.
    """
    cache = run.prepared.cache("train")
    places = pd.Series(range(len(oof.labels)), index=oof.labels["image_path"])
    of_suspects = places[suspected["image_path"].tolist()].tolist()
    most = MAX_REMOTE if isinstance(cache.images, RemotePixels) else MAX_IMAGES
    rows, columns = _fitting(oof, of_suspects, min(most, max(1, num_bytes // LEAST_BYTES)), num_bytes)
    explained = _explained(rows, of_suspects, num_saliency)
    cache_rows = cache.rows_of(oof.labels["image_path"].tolist())
    shape = cache.images.shape[1:3]
    maps, note = _maps(run, folds, oof, cache.images, cache_rows, explained)
    explained = explained[: len(maps)]
    place_of = {row: place for place, row in enumerate(rows.tolist())}
    columns["explained"] = [place_of[row] for row in explained]

    def read(of: Sequence[int]) -> np.ndarray:
        return thumbnails(cache.images[cache_rows[np.asarray(of, np.int64)]])

    rest = int((num_bytes - len(as_json(columns).encode())) * 3 / 4)  # base64 makes four bytes of three
    large = map_sheets = None
    if explained:
        each = int(MAX_EXPLAINED_SHARE * rest / 2)
        large = make_sheets(lambda some: read([explained[i] for i in some]), len(explained), shape, each)
        map_sheets = make_sheets(lambda some: _coloured(maps, some), len(explained), maps.shape[1:], each)
        rest -= large.num_bytes + map_sheets.num_bytes
    sheets = make_sheets(lambda some: read(rows[list(some)].tolist()), len(rows), shape, rest)
    return Gallery(
        rows=rows, total=len(oof.labels), columns=columns, sheets=sheets, large=large, maps=map_sheets, note=note
    )


def _fitting(oof: OutOfFold, suspected: Sequence[int], most: int, num_bytes: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the rows of at most `most` images, and their columns, which leave thumbnails enough of `num_bytes`."""
    confidence, limit = confidences(oof), MAX_TEXT_SHARE * num_bytes
    while True:
        rows = shown_rows(oof, confidence, suspected, most)
        columns = _columns(oof, rows, confidence, suspected)
        size = len(as_json(columns).encode())
        if size <= limit or len(rows) <= 1:
            return rows, columns
        most = max(1, int(0.95 * len(rows) * max(0.1, limit / size)))


def _explained(rows: np.ndarray, suspected: Sequence[int], number: int) -> list[int]:
    """Return the rows of at most `number` images that are shown: up to half of them suspected, the others the first."""
    shown = set(rows.tolist())
    found = [row for row in suspected if row in shown][: number // 2]
    known = set(found)
    return found + [row for row in rows[:number].tolist() if row not in known][: number - len(found)]


def _map_size(shape: Sequence[int]) -> tuple[int, int]:
    factor = MAP_SIDE / max(shape)
    return max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))


def _coloured(maps: np.ndarray, some: Sequence[int]) -> np.ndarray:
    """Return (K, h, w, 3) uint8: blue where nothing speaks for the answer, red where most does."""
    bytes_of = (255 * maps[list(some)]).round().astype(np.uint8)
    return np.stack([cv2.applyColorMap(one, cv2.COLORMAP_TURBO)[..., ::-1] for one in bytes_of])


def _maps(
    run: Run,
    of_folds: Sequence[TrainedFold],
    oof: OutOfFold,
    images: Any,
    cache_rows: np.ndarray,
    explained: Sequence[int],
) -> tuple[np.ndarray, str]:
    """Return saliency maps (K, h, w) of the first K of these rows, as many as SALIENCY_SECONDS and memory allow, each
    by the network of its fold; and why there are none or few, or nothing."""
    size, shape = run.started_record.model.image_size, _map_size(images.shape[1:3])
    maps = np.zeros((len(explained), *shape), np.float32)
    device = choose_compute("auto", "fp32")
    networks: dict[int, Any] = {}
    trained = {fold.number: fold for fold in of_folds}
    started, done = time.monotonic(), 0
    folds = oof.labels["fold"].to_numpy()
    try:
        while done < len(explained) and (not done or time.monotonic() - started <= SALIENCY_SECONDS):
            some = list(explained[done : done + SALIENCY_CHUNK])
            seen = np.stack([resize(image, size) for image in images[cache_rows[some]]])
            for fold in np.unique(folds[some]).tolist():
                if fold not in networks:
                    networks[fold] = to_device(run.load_network(trained[fold]), device)
                here = folds[some] == fold
                found = saliency(networks[fold], seen[here], run.competition.layout)
                maps[done : done + len(some)][here] = [
                    cv2.resize(one, shape[::-1], interpolation=cv2.INTER_AREA) for one in found
                ]
            done += len(some)
    except InputError as error:
        return maps[:0], str(error)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return maps[:done], "out of memory; evaluate again when no other program fills the GPU"
    return maps[:done], "" if done >= len(explained) else f"stopped after {SALIENCY_SECONDS:g} seconds"
