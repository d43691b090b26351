"""What the files of a run say at this moment. A file that is missing, half written or damaged says nothing."""

import json
import os
import platform
import time
from pathlib import Path
from typing import Any

from src.runs.log import read_rows
from src.runs.paths import FoldPaths, RunPaths

# Seconds without a sign of life after which a training is doubted:
SILENT = 120.0  # on another machine
ENDED = 20.0  # on this machine, and its process is gone too
REUSED = 2 * 3600.0  # on this machine, and a process of its id lives, which may be another one by now
NUM_LINES = 20
NUMBERS = ("updated", "pid", "epochs", "done", "total", "seconds_left")  # of status.json
TEXTS = ("state", "stage", "text", "device", "host")
SHOWN = ("backbone", "epochs", "batch_size", "lr", "optimizer", "loss", "schedule")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _is_number(value: object) -> bool:
    """Return whether a value is a number that a status can have: neither negative nor huge, infinite or NaN."""
    return isinstance(value, int | float) and 0 <= value < 1e12


def _status(path: Path) -> dict[str, Any]:
    """Return what status.json says; values of the wrong type are ignored."""
    said = _read_json(path)
    status = {name: said[name] for name in NUMBERS if _is_number(said.get(name))}
    status |= {name: said[name] for name in TEXTS if isinstance(said.get(name), str)}
    folds, lines = (said[name] if isinstance(said.get(name), list) else [] for name in ("folds", "lines"))
    return status | {"folds": [int(fold) for fold in folds if _is_number(fold)], "lines": [str(line) for line in lines]}


def _longest_silence(status: dict[str, Any]) -> float:
    """Return for how many seconds without a sign of life a training that says it runs is believed."""
    if status.get("host") != platform.node():
        return SILENT
    pid = int(status.get("pid", 0))
    if not pid:
        return ENDED
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return ENDED
    except OSError:  # of another user
        pass
    return REUSED


def _state(status: dict[str, Any], finished: bool, now: float) -> str:
    said = str(status.get("state", ""))
    if said == "running":
        return "running" if now - status.get("updated", 0.0) < _longest_silence(status) else "silent"
    if finished:
        return "done"
    return said if said in ("stopped", "failed") else "not running"


def _score_of(record: dict[str, Any]) -> float | None:
    result = record.get("result")
    score = result.get("score_tta") if isinstance(result, dict) else None
    return score if isinstance(score, int | float) else None


def _fold(paths: FoldPaths, restarted: bool, now: float) -> dict[str, Any]:
    """Return what the files of a fold say."""
    record, status, rows = _read_json(paths.record), _status(paths.status), read_rows(paths.log)
    run = record.get("run") if isinstance(record.get("run"), dict) else {}
    train = run.get("train") if isinstance(run, dict) and isinstance(run.get("train"), dict) else {}
    assert isinstance(train, dict)
    state, epochs = _state(status, bool(record.get("result")), now), train.get("epochs")
    epochs = epochs if _is_number(epochs) else status.get("epochs")
    running = state == "running"
    left = status.get("seconds_left")
    if running and left is not None:
        left = max(0.0, left - (now - status.get("updated", now)))
    return {
        "number": paths.number,
        "restarted": restarted,
        "state": state,
        "epochs": int(epochs or len(rows)),
        "rows": rows,
        "score": _score_of(record),
        "seconds_left": left if running else None,
        "part": _part(status) if running else 0.0,
        "status": status,
        "train": {name: train[name] for name in SHOWN if name in train},
    }


def _part(status: dict[str, Any]) -> float:
    """Return which part of the epoch at hand is done."""
    total, done = status.get("total", 0), status.get("done", 0)
    return min(1.0, done / total) if total and " epoch " in status.get("stage", "") else 0.0


def _folds(run: RunPaths) -> dict[int, tuple[FoldPaths, bool]]:
    """Return each fold, that of a --restart in progress first, and whether it is one."""
    found = {fold.number: (fold, paths is not run) for paths in (run, run.restart) for fold in paths.folds()}
    return dict(sorted(found.items()))


def state_of(run: Path, now: float | None = None) -> dict[str, Any]:
    """Return what the page shows of a run, given its folder, as plain values."""
    now = time.time() if now is None else now
    folds = [_fold(fold, restarted, now) for fold, restarted in _folds(RunPaths(folder=run)).values()]
    last = max(folds, key=lambda fold: float(fold["status"].get("updated", 0)), default=None)
    status = last["status"] if last else {}
    wanted = set(status.get("folds", ()))
    if last and last["state"] == "running":
        if last["restarted"]:  # the old ones are to be trained again
            folds = [fold for fold in folds if fold["restarted"] or fold["number"] not in wanted]
        folds += [_waiting(number, last) for number in sorted(wanted - {fold["number"] for fold in folds})]
    folds.sort(key=lambda fold: int(fold["number"]))
    left = [fold["seconds_left"] for fold in folds if fold["seconds_left"] is not None]
    return {
        "run": run.name,
        "competition": run.parent.name,
        "now": now,
        "state": _whole(folds, last),
        "seconds_left": max(left, default=None),
        "share": _share(folds),
        "stage": status.get("stage", ""),
        "text": status.get("text", ""),
        "device": status.get("device", ""),
        "host": status.get("host", ""),
        "updated": status.get("updated"),
        "settings": last["train"] if last else {},
        "lines": status.get("lines", [])[-NUM_LINES:],
        "folds": [{name: value for name, value in fold.items() if name not in ("status", "train")} for fold in folds],
    }


def _waiting(number: int, last: dict[str, Any]) -> dict[str, Any]:
    empty = {"restarted": False, "rows": [], "score": None, "seconds_left": None, "part": 0.0}
    return {**empty, "number": number, "state": "waiting", "epochs": last["epochs"], "status": {}, "train": {}}


def _whole(folds: list[dict[str, Any]], last: dict[str, Any] | None) -> str:
    """Return the state of the run: that of a fold that runs, or of the one that was last heard of."""
    states = [fold["state"] for fold in folds]
    if "running" in states:
        return "running"
    if states and set(states) == {"done"}:
        return "done"
    return str(last["state"]) if last and last["state"] != "done" else "not running"


def _share(folds: list[dict[str, Any]]) -> float:
    """Return which part of all epochs of all folds is done."""
    total = sum(max(fold["epochs"], 1) for fold in folds)
    done = sum(
        max(fold["epochs"], 1) if fold["state"] == "done" else len(fold["rows"]) + fold["part"] for fold in folds
    )
    return min(1.0, done / total) if total else 0.0
