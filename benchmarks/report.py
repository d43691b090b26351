"""The report: its size and time, whether saliency finds what the network needs, whether suspected labels are wrong.

    python -m benchmarks.report --run food11 photos          # a run that is trained to its end; 3 rounds
    python -m benchmarks.report --plant 0.05                 # the demo with 5% wrong labels: half an hour on 2 cores

Prints tables for benchmarks/results/report.md.
"""

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.measuring import processor, with_range
from src.config import EvaluateConfig, Paths
from src.core import cli
from src.core.runtime import choose_compute, to_device
from src.data.images import resize
from src.data.prepared import open_prepared
from src.data.relabel import label_text
from src.inference.ensemble import out_of_fold
from src.inference.saliency import saliency
from src.models.heads import probabilities_of
from src.models.network import Network
from src.report import scores as counting
from src.report.page import Report, report_page
from src.report.suspects import suspects
from src.report.train_and_test import compare
from src.runs.run import Run, open_run

NUM_IMAGES = 200  # whose parts are hidden
TRAIN = (  # as pipelines/demo.sh
    "--backbone", "string_cnn", "--no-pretrained", "--epochs", "28", "--batch-size", "32", "--lr", "3e-3", "--dropout",
    "0", "--augment.rotate", "5", "--augment.shift", "0.03", "--augment.concat", "0",
)  # fmt: skip
HIDDEN = (0.1, 0.2, 0.3)  # shares of the pixels


@dataclass(frozen=True, kw_only=True)
class ReportBenchConfig:
    """What is measured."""

    run: tuple[str, ...] = ()
    """Competition and run name."""
    runs_dir: Path = Path("runs")
    input_dir: Path = Path("input")
    rounds: int = 3
    plant: float = 0.0
    """Share of the demo's labels that are changed before training."""


def page_times(config: EvaluateConfig) -> tuple[dict[str, float], int, int]:
    """Return the processor's seconds of each part of evaluate, the page's bytes, and the images in its gallery."""
    times: dict[str, float] = {}

    def lap(name: str, since: float) -> float:
        now = time.process_time()
        times[name] = now - since
        return now

    run, at = open_run(config, config.run_name), time.process_time()
    oof, folds = out_of_fold(run), run.trained()
    scores = {**counting.summary(oof), "tta": True, "run_id": run.id, "snapshot": run.prepared.id}
    at = lap("scores", at)
    report = Report(
        run=run, folds=folds, oof=oof, scores=scores, tables=counting.tables(oof), suspects=suspects(oof),
        comparison=compare(run, folds, oof),
    )  # fmt: skip
    at = lap("tables, suspicious labels, train and test", at)
    report_page(report, 0)
    at = lap("thumbnails and page", at)
    page, gallery = report_page(report, 200)
    lap("saliency", at)
    times["saliency"] -= times["thumbnails and page"]
    return times, len(page.encode()), len(gallery.rows)


def deletion(run: Run) -> pd.DataFrame:
    """Return how much the probability of the answer falls if the most salient pixels are hidden, or random cells.

    Hidden pixels take the image's mean colour. Source: Petsiuk et al., RISE, 2018.
    """
    fold, layout = run.trained()[0], run.competition.layout
    val = run.prepared.folds["image_path"][run.prepared.folds["fold"] == fold.number].tolist()[:NUM_IMAGES]
    cache = run.prepared.cache("train")
    size = run.started_record.model.image_size
    images = np.stack([resize(image, size) for image in cache.images[cache.rows_of(val)]])
    network = to_device(run.load_network(fold), choose_compute("cpu", "fp32"))
    assert isinstance(network, Network)
    maps = saliency(network, images, layout)
    rng = np.random.default_rng(0)
    coarse = rng.random((len(images), 8, 16)).astype(np.float32)
    random = np.stack([resize(one[..., None].repeat(3, 2), size)[..., 0] for one in coarse])
    before = _answer_probability(network, images, layout, None)
    rows = []
    for share in HIDDEN:
        row = {"hidden": f"{share:.0%}"}
        for name, order in (("most salient", maps), ("random", random), ("least salient", -maps)):
            cuts = np.quantile(order.reshape(len(order), -1), 1 - share, axis=1)[:, None, None]
            changed = np.where((order >= cuts)[..., None], images.mean(axis=(1, 2), keepdims=True), images)
            after = _answer_probability(network, changed.astype(np.uint8), layout, before[1])
            row[name] = f"{float(np.exp((after[0] - before[0]).mean())):.3f}"
        rows.append(row)
    return pd.DataFrame(rows)


def _answer_probability(network, images, layout, answers):  # type: ignore[no-untyped-def]
    """Return the log-probability of the most probable classes (N,), or of these `answers`, and the answers."""
    import torch

    with torch.inference_mode():
        predicted = probabilities_of(network(torch.from_numpy(images)), layout).numpy()
    parts = layout.split(predicted)
    answers = [part.argmax(axis=1) for part in parts] if answers is None else answers
    logs = sum(np.log(part[np.arange(len(part)), ids] + 1e-9) for part, ids in zip(parts, answers, strict=True))
    return logs, answers


def planted(share: float) -> pd.DataFrame:
    """Return how many of the suspected labels are among those that were changed, trained on as if they were right."""
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--competition", "demo", "--input-dir", f"{folder}/input", "--runs-dir", f"{folder}/runs"]

        def call(command: str, *more: str) -> None:
            subprocess.run([sys.executable, "-m", f"src.{command}", *flags, *more], check=True)

        subprocess.run([sys.executable, "-m", "src.make_demo", "--input-dir", f"{folder}/input"], check=True)
        call("prepare", "--num-folds", "2")
        paths = Paths(competition="demo", input_dir=Path(folder, "input"), runs_dir=Path(folder, "runs"))
        prepared = open_prepared(paths)
        labels, competition, rng = prepared.labels, prepared.competition, np.random.default_rng(0)
        wrong = {}
        for row in rng.permutation(len(labels))[: round(share * len(labels))].tolist():
            ids = labels[competition.targets].iloc[row].tolist()
            place = int(rng.integers(0, ids.index(competition.pad_class) if competition.pad_class in ids else len(ids)))
            ids[place] = (ids[place] + int(rng.integers(1, 10))) % 10
            wrong[labels["image_path"][row]] = label_text(ids, competition)
        table = pd.DataFrame({"image_path": list(wrong), "label": list(wrong.values()), "by": "bench", "when": ""})
        table.to_csv(f"{folder}/wrong.csv", index=False)
        call("prepare", "--num-folds", "2", "--relabel", f"{folder}/wrong.csv")
        call("train", *TRAIN)
        config = EvaluateConfig(competition="demo", input_dir=paths.input_dir, runs_dir=paths.runs_dir)
        oof = out_of_fold(open_run(config, "baseline"))
        found = suspects(oof)
    hits = found["image_path"].isin(wrong).to_numpy()
    first = min(len(wrong), len(hits))
    return pd.DataFrame([{
        "images": len(labels), "wrong": len(wrong), "score": round(oof.score, 4), "suspected": len(hits),
        "of the first": f"{hits[:first].sum()} of {first}", "found in all": f"{hits.sum() / len(wrong):.3f}",
    }])  # fmt: skip


def main(config: ReportBenchConfig) -> None:
    """Print the tables that were asked for."""
    print(f"{processor()}")
    if config.plant:
        print(planted(config.plant).to_string(index=False))
    if config.run:
        competition, name = config.run
        flags = EvaluateConfig(
            competition=competition, run_name=name, runs_dir=config.runs_dir, input_dir=config.input_dir
        )
        found = [page_times(flags) for _ in range(config.rounds)]
        for part in found[0][0]:
            seconds = [times[part] for times, _, _ in found]
            print(f"{part}: {with_range(seconds, '.2f')} s, n={len(seconds)}")
        print(f"page: {found[0][1] / 1e6:.2f} MB, {found[0][2]:,} images in the gallery")
        print(deletion(open_run(flags, name)).to_string(index=False))


if __name__ == "__main__":
    cli.run(main, ReportBenchConfig, __doc__)
