"""MODEL_CARD.md: what the exported files answer, how well, from what data, and how to use them.

After Mitchell et al., Model Cards for Model Reporting, 2019.
"""

import json
from dataclasses import fields
from typing import Any

import timm

from src.config import TrainSettings
from src.exporting.subject import Subject
from src.inference.ensemble import OutOfFold
from src.report.scores import summary
from src.runs.record import HASH, RunRecord

CROPPED = "The part of an image that `prepare --crops` names (the network learned from such parts)"
MAX_CLASSES = 60  # of a head that are listed by name
OUTPUTS = {
    "class": "the probability of each class; they sum to 1",
    "labels": "the probability of each label",
    "ordinal": "the probabilities that the grade is above the first, above the second, and so on",
    "number": "the number itself",
}


def _score(subject: Subject, oof: OutOfFold) -> list[str]:
    found = summary(oof)
    if found["score"] is None:
        text = f"Out-of-fold {found['score_name']}: not defined for these images."
    else:
        low, high = found["interval_95"]
        interval = "" if low is None else f", 95% interval {low:.4f} to {high:.4f} ({found['interval_by']})"
        direction = "" if found["greater_is_better"] else "; less is better"
        text = f"**Out-of-fold {found['score_name']}: {found['score']:.4f}**{interval}{direction}."
    views = "the mean over the views" if subject.predictor.tta else "the plain image"
    lines = ["## Score", "", text, "", f"n = {found['num_images']:,} images, each answered with {views} by a network "
             "that was not trained on it."]  # fmt: skip
    if len(subject.folds) > 1:
        lines.append(f"The file answers with the mean of {len(subject.folds)} networks. That usually scores higher; no "
                     "labelled image is left that would measure it.")  # fmt: skip
    if not found["complete"]:
        lines.append("Not all folds are in: this is the score of part of the data.")
    if found["optimistic"]:
        lines.append("The epoch was chosen on these very images: the score is optimistic.")
    return lines


def summary_of(facts: dict[str, Any]) -> str:
    """Return in words how good a file is, from its entry in model.json."""
    close = f"within {facts['largest_difference']:.0e} of predict on {facts['images_compared']} images"
    if "change" not in facts:
        return close
    if facts["change"] is None:
        return f"its score is not defined for these images, {close}"
    interval = facts["change_interval_95"]
    between = f", 95% interval {interval[0]:+.4f} to {interval[1]:+.4f}" if interval else ""
    return (
        f"out-of-fold score {facts['score_int8']:.4f} instead of {facts['score_float']:.4f} "
        f"({facts['change']:+.4f}{between}, n = {facts['images_scored']:,}), {close}"
    )


def _files(files: dict[str, dict[str, Any]]) -> list[str]:
    rows = [f"| `{name}` | {facts['bytes'] / 1e6:.1f} MB | {summary_of(facts)} |" for name, facts in files.items()]
    lines = ["## Files", "", "| file | size | compared with `predict` |", "|---|---|---|", *rows]
    if "model_int8.onnx" in files:
        lines += ["", "The score in 8 bits is that of each fold's own network on the images that it was not trained "
                  "on; the interval is of the paired difference. The file is smaller, not always faster."]  # fmt: skip
    return lines


def _use(facts: dict[str, Any], names: list[str]) -> list[str]:
    sizes, dtype, count = facts["sizes"], "uint16" if facts["depth"] == 16 else "uint8", facts["bands"] or 3
    steps = " and then stretched to ".join(f"{height}×{width}" for height, width in sizes)
    channels = facts["bands"] or "3, RGB"
    fitting = {"stretch": "stretched", "letterbox": "fitted within grey bars", "center-crop": "cropped at the centre"}
    what = CROPPED if facts["is_cropped"] else "An image"
    lines = [
        "## How to use it", "",
        f"Input `images`: {dtype} (B, {sizes[-1][0]}, {sizes[-1][1]}, {count}), any B; channels {channels}. "
        f"{what} is {fitting[facts['fit']]} to {steps} (height×width), by area to shrink and linearly to enlarge. "
        "Normalisation is inside"
        + (f", as are the views: {', '.join(facts['views'])}." if len(facts["views"]) > 1 else "."),
        "", "| output | what it holds |", "|---|---|",
        *(f"| `{head['output']}` | {OUTPUTS[head['kind']]} |" for head in facts["heads"]), "",
    ]  # fmt: skip
    if any(name.endswith(".onnx") for name in names):
        lines += ["`examples/use_onnx.py` of Podium answers images with onnxruntime, opencv and numpy alone; the "
                  "file's metadata (key `podium`, JSON) holds classes, sizes and the fitted rule.", ""]  # fmt: skip
    if "model.pt2" in names:
        lines += [
            "```python",
            'module = torch.export.load("model.pt2").module()',
            "outputs = module(images)",
            "```",
            "",
        ]
    return lines


def _classes(subject: Subject) -> list[str]:
    lines = ["## Classes", ""]
    seen: dict[str, list[str]] = {}
    for head in subject.run.competition.heads:
        shown = ", ".join(text or "(none)" for text in head.classes[:MAX_CLASSES])
        more = f" and {head.num_classes - MAX_CLASSES:,} more" if head.num_classes > MAX_CLASSES else ""
        seen.setdefault(f"{shown}{more}" or "a number", []).append(head.name)
    return lines + [f"- {', '.join(names)}: {text}" for text, names in seen.items()]


def _data(subject: Subject) -> list[str]:
    prepared, competition = subject.run.prepared, subject.run.competition
    folds = ", ".join(f"fold {fold.number}: {fold.record.num_train:,} trained on, {fold.record.num_val:,} held out"
                      for fold in subject.folds)  # fmt: skip
    return [
        "## Data", "",
        f"{competition.name}, {prepared.snapshot.train.num_images:,} labelled images ({folds}). "
        f"Snapshot `{prepared.id}`. {competition.source}".strip(),
    ]  # fmt: skip


def _settings(subject: Subject) -> list[str]:
    record, usual = subject.run.started_record, TrainSettings()
    given = {item.name: getattr(record.train, item.name) for item in fields(TrainSettings)}
    other = {name: value for name, value in given.items() if value != getattr(usual, name) and name != "weights"}
    lines = ["## Settings", "", f"- network: {record.model.backbone}, {record.model.image_size[0]}×"
             f"{record.model.image_size[1]} pixels, {given['epochs']} epochs"]  # fmt: skip
    lines += [f"- started from: {_start(record)}"]
    told = ("backbone", "epochs", "pretrained", "start_from")
    lines += [f"- {name}: {value}" for name, value in other.items() if name not in told]
    return [*lines, *(f"- {name} {value}" for name, value in subject.folds[0].record.versions.items())]


def _start(record: RunRecord) -> str:
    """Return what the network's weights were when its training began."""
    if record.train.start_from:
        return f"run {HASH.sub('', record.train.start_from)}"
    return record.weights or ("pretrained weights of timm" if _of_timm(record) else "nothing")


def _weights_licence(record: RunRecord) -> str:
    """Return the licence of timm's weights, by the name with its tag: others of a network have others."""
    facts = timm.models.get_pretrained_cfg(record.model.backbone) if _of_timm(record) else None
    return getattr(facts, "license", None) or "not stated by timm"


def _of_timm(record: RunRecord) -> bool:
    """Return whether weights of timm's were the start: our own and users' networks have none."""
    name = record.model.backbone
    return record.train.pretrained and not name.endswith(".py") and bool(timm.is_model_pretrained(name))


def _licences(subject: Subject) -> list[str]:
    record = subject.run.started_record
    backbone = record.model.backbone
    origin = f"{backbone}, licence: {_weights_licence(record)}" if record.weights or _of_timm(record) else "none"
    if record.train.start_from:
        origin = f"those of {_start(record)}; see its model card"
    return [
        "## Licences", "",
        f"- Weights it started from: {origin}.",
        f"- Data: the terms of {subject.run.competition.name} may bind what is learned from it; read them before you "
        "pass these files on or sell what they do.",
        "- Code: MIT (Podium); timm is Apache 2.0.",
    ]  # fmt: skip


LIMITS = [
    "## Limits", "",
    "- It always answers: an image of something else gets one of these answers too, perhaps with a high probability.",
    "- The score holds for images like those of the competition: other cameras, places or times were not tested.",
    "- Probabilities are the network's; whether they can be taken at their word was not checked here.",
]  # fmt: skip


def model_card(subject: Subject, oof: OutOfFold, files: dict[str, dict[str, Any]]) -> str:
    """Return the card of exported files; `oof` holds the predictions that the score is of."""
    run, facts = subject.run, subject.facts()
    title = f"{run.competition.name}: {run.name}"
    front = {
        "library_name": "onnx",
        "pipeline_tag": "image-classification",
        "base_model": run.started_record.model.backbone,
    }
    sections = [
        ["---", *(f"{name}: {json.dumps(value)}" for name, value in front.items()), "---", "", f"# {title}", "",
         f"Images to {' and '.join(sorted({head.kind for head in run.competition.heads}))} answers: "
         f"{len(subject.folds)} {run.started_record.model.backbone} "
         f"network{'s, averaged' if len(subject.folds) > 1 else ''}."],
        _score(subject, oof), _files(files), _use(facts, list(files)), _classes(subject),
        _data(subject), _settings(subject), LIMITS, _licences(subject),
    ]  # fmt: skip
    return "\n\n".join("\n".join(section).strip() for section in sections) + "\n"
