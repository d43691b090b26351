"""From demo data or a user's own to a validated submission, with the commands a user types."""

import hashlib
import json
from pathlib import Path

import numpy as np

from src.core.csv_text import parse_csv
from tests.fixtures import MakeLeaves, Podium
from tests.helpers import table_at

# Rewritten by every evaluate, predict and blend, with the same content.
CHEAP = (".csv", ".html", ".json")
Command = tuple[str, *tuple[object, ...]]


def snapshot(*folders: Path) -> dict[str, object]:
    """Return each file's hash (without the time in a submission's note), and when costly files were written."""
    found: dict[str, object] = {}
    for path in sorted(path for folder in folders for path in folder.rglob("*") if path.is_file()):
        if path.suffix == ".lock":  # rewritten by each command
            continue
        data = path.read_bytes()
        if path.suffix == ".json":
            values = json.loads(data)
            if "written" in values:  # the time, which the seal covers
                values |= {"written": "", "seal": ""}
            data = json.dumps(values).encode()
        costly = path.suffix not in CHEAP and "submissions" not in path.parts
        found[str(path)] = (hashlib.sha256(data).hexdigest(), path.stat().st_mtime_ns if costly else 0)
    return found


def test_all_commands_run_on_the_demo_and_a_second_run_has_nothing_to_do(podium: Podium, tmp_path: Path) -> None:
    competition = ("--competition", "demo")
    net = ("--backbone", "string_cnn", "--no-pretrained", "--image-size", 16, 48, "--epochs", 1, "--batch-size", 20)
    commands: list[Command] = [
        ("prepare", "--num-folds", 2),
        ("train", *net, "--fold", "all"),
        ("train", *net, "--fold", "all", "--run-name", "second", "--seed", 1),
        ("predict",),
        ("predict", "--run-name", "baseline", "second"),
        ("blend", "--run-name", "baseline", "second"),
        ("evaluate",),  # whose report shows the test predictions that there are
        ("evaluate", "--run-name", "second"),
    ]
    code, out, _ = podium("make_demo", "--num-train", 120, "--num-val", 30, "--num-test", 20)
    assert code == 0
    assert "120 + 30 training and 20 test images" in out
    rounds = []
    for _ in range(2):
        outs = []
        for command, *flags in commands:
            code, out, err = podium(command, *competition, *flags)
            assert code == 0, err
            outs.append(out)
        rounds.append((outs, snapshot(tmp_path / "input", tmp_path / "runs", tmp_path / "submissions")))
    (first, before), (second, after) = rounds
    assert before == after
    assert "decoded" in first[0]
    assert "decoded" not in second[0]
    assert second[1].count("already trained") == second[2].count("already trained") == 2

    run = tmp_path / "runs" / "demo" / "baseline"
    assert json.loads((run / "evaluation" / "scores.json").read_text())["num_images"] == 150
    labels = table_at(run.parent, "labels").merge(table_at(run.parent, "folds"), on="image_path")
    assert (labels.groupby("group")["fold"].nunique() == 1).all()
    sample = parse_csv((tmp_path / "input/demo/mchar_sample_submit_A.csv").read_bytes(), "sample")
    for name in ("baseline", "baseline+second", "blend"):
        table = parse_csv((tmp_path / "submissions" / "demo" / f"{name}.csv").read_bytes(), name)
        assert list(table.columns) == ["file_name", "file_code"]
        assert table["file_name"].tolist() == sample["file_name"].tolist()
        assert table["file_code"].str.fullmatch(r"[0-9]{1,6}").all()
    arrays = {}
    for name in ("baseline", "baseline+second"):
        with np.load(tmp_path / "submissions" / "demo" / f"{name}.npz") as kept:
            arrays[name] = kept["probabilities"]
    parts = []
    for run_name in ("baseline", "second"):
        for fold in (0, 1):
            with np.load(run.parent / run_name / f"fold{fold}" / "test.npz") as kept:
                parts.append(kept["probabilities_tta"])
    np.testing.assert_allclose(arrays["baseline"], np.mean(parts[:2], axis=0), atol=1e-6)
    np.testing.assert_allclose(arrays["baseline+second"], np.mean(parts, axis=0), atol=1e-6)


def test_a_users_competition_file_gives_a_submission_of_label_texts(
    leaves: MakeLeaves, podium: Podium, tmp_path: Path
) -> None:
    competition = ("--competition", leaves(num_train=16, num_test=5))
    net = ("--backbone", "test_resnet", "--no-pretrained", "--epochs", 6, "--batch-size", 4, "--lr", 0.01)
    commands: list[Command] = [
        ("prepare", "--num-folds", 2, "--image-size", 32, 32),
        ("train", *net, "--fold", "all"),
        ("evaluate",),
        ("predict",),
    ]
    for command, *flags in commands:
        code, _, err = podium(command, *competition, *flags)
        assert code == 0, err
    scores = json.loads((tmp_path / "runs" / "leaves" / "baseline" / "evaluation" / "scores.json").read_text())
    assert scores["num_images"] == 16
    assert list(scores["heads"]) == ["label"]
    path = tmp_path / "submissions" / "leaves" / "baseline.csv"
    table = parse_csv(path.read_bytes(), path.name)
    assert list(table.columns) == ["image_id", "species"]
    assert table["image_id"].tolist() == [f"{i:04d}.png" for i in reversed(range(5))]
    classes = np.array(["007", "NA", "null", "oak, red"])
    with np.load(path.with_suffix(".npz")) as kept:
        assert kept["image_path"].tolist() == [f"test/{i:04d}.png" for i in reversed(range(5))]
        assert table["species"].tolist() == classes[kept["probabilities"].argmax(axis=1)].tolist()
