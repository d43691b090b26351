"""The score and its parts, from out-of-fold probabilities written by hand."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from src import evaluate
from src.competitions.registry import load_competition
from src.competitions.spec import Head
from src.config import EvaluateConfig
from src.core.csv_text import parse_csv
from src.core.errors import InputError
from src.report.gallery import display_text
from src.report.intervals import score_interval
from src.report.page import report_page
from src.report.scores import for_readers, matrix_table
from src.report.sections import matrices
from src.report.train_and_test import compare
from tests.fixtures import MakeFood11, MakeSvhn, Podium
from tests.helpers import replace_oof, run_at, snapshot_at, table_at
from tests.report.made import made_competition, made_report

TRAIN = ("--backbone", "svhn_cnn", "--no-pretrained", "--image-size", 24, 32, "--batch-size", 4, "--epochs", 1)
Answer = tuple[list[int], float]  # class ids, and the probability of each


def replace_answers(run_dir: Path, widths: list[int], answers: Mapping[str, Answer]) -> None:
    """Replace a trained run's out-of-fold probabilities; those with test-time augmentation are all wrong."""
    for fold in run_at(run_dir).trained():
        image_paths, rows = fold.oof()["image_path"], []
        for image_path in image_paths.tolist():
            ids, probability = answers[image_path]
            parts = [np.full(width, (1 - probability) / (width - 1)) for width in widths]
            for part, class_id in zip(parts, ids, strict=True):
                part[class_id] = probability
            rows.append(np.concatenate(parts))
        plain = np.array(rows, np.float32)
        wrong = np.roll(plain, 1, axis=1)
        replace_oof(fold, {"image_path": image_paths, "probabilities": plain, "probabilities_tta": wrong})


def trained(podium: Podium, competition: str, tmp_path: Path) -> tuple[Path, pd.DataFrame]:
    """Return a run of two folds and the label table."""
    assert podium("prepare", "--competition", competition, "--num-folds", 2).code == 0
    assert podium("train", *TRAIN, "--competition", competition, "--fold", "all").code == 0
    folder = tmp_path / "runs" / competition
    return folder / "baseline", pd.read_csv(snapshot_at(folder) / "labels.csv")


def read(path: Path) -> pd.DataFrame:
    return parse_csv(path.read_bytes(), path.name)


def test_the_parts_of_a_string_score_are_correct(svhn: MakeSvhn, podium: Podium, tmp_path: Path) -> None:
    svhn(num_train=18, num_val=6, num_test=2)  # four numbers of each length from 1 to 6
    run_dir, labels = trained(podium, "svhn", tmp_path)
    heads = [f"digit{position}" for position in range(1, 7)]
    truth = {row["image_path"]: [int(row[head]) for head in heads] for _, row in labels.iterrows()}
    answers: dict[str, Answer] = {path: (ids, 0.95) for path, ids in truth.items()}
    wrong = {"mchar_train/000003.png": 0.7, "mchar_train/000005.png": 0.9, "mchar_val/000001.png": 0.8}
    for path, probability in wrong.items():  # the first digit is wrong
        answers[path] = ([(truth[path][0] + 1) % 10, *truth[path][1:]], probability)
    longer = "mchar_train/000000.png"  # one digit, read as two
    answers[longer] = ([truth[longer][0], 3, *truth[longer][2:]], 0.6)
    replace_answers(run_dir, [11] * 6, answers)

    code, out, _ = podium("evaluate", "--no-tta")
    assert code == 0
    assert "string accuracy: 0.8333 on 24 images" in out
    scores = json.loads((run_dir / "evaluation" / "scores.json").read_text())
    assert scores["score"] == pytest.approx(20 / 24)
    assert scores["num_images"] == 24
    assert scores["complete"]
    assert not scores["optimistic"]
    assert scores["heads"]["digit1"] == pytest.approx(21 / 24)
    assert scores["heads"]["digit2"] == pytest.approx(23 / 24)
    assert scores["heads"]["digit6"] == 1
    fold = labels.merge(table_at(run_dir.parent, "folds"), on="image_path").set_index("image_path")["fold"]
    right = pd.Series({path: path not in {*wrong, longer} for path in truth})
    for number in (0, 1):
        assert scores["folds"][str(number)] == pytest.approx(right[fold == number].mean())
    assert scores["std_over_folds"] == pytest.approx(np.std(list(scores["folds"].values()), ddof=1))
    assert scores["interval_95"][0] < 20 / 24 < scores["interval_95"][1]

    parts = read(run_dir / "evaluation" / "by_length.csv").astype(float).set_index("length")
    assert parts["images"].tolist() == [4] * 6
    assert parts["score"].tolist() == [0.75, 0.75, 1, 0.75, 1, 0.75]
    assert parts["length_right"].tolist() == [0.75, 1, 1, 1, 1, 1]

    worst = read(run_dir / "evaluation" / "worst.csv")
    confidence = {path: probability**6 for path, probability in {**wrong, longer: 0.6}.items()}
    assert worst["image_path"].tolist() == sorted(confidence, key=lambda path: confidence[path], reverse=True)
    assert worst["confidence"].astype(float).tolist() == pytest.approx(sorted(confidence.values(), reverse=True))
    spelled = {path: "".join(str(one) for one in ids if one != 10) for path, ids in truth.items()}
    assert worst["truth"].tolist() == [spelled[path] for path in worst["image_path"]]
    assert worst["answer"].tolist()[-1] == f"{spelled[longer]}3"

    page = (run_dir / "evaluation" / "report.html").read_text()
    assert '<p class="big">0.8333</p>' in page
    data = json.loads(re.search(r'id="report-data">(.*?)</script>', page)[1])  # type: ignore[index]
    images = data["images"]
    wrong_names = [images["name"][place] for place, bits in enumerate(images["wrong"]) if bits]
    assert wrong_names == [path.split("/")[1] for path in worst["image_path"]]
    assert sorted(images["name"]) == sorted(path.split("/")[1] for path in truth)
    positions = read(run_dir / "evaluation" / "by_position.csv").astype(float)
    assert positions["images"].tolist() == [24, 20, 16, 12, 8, 4]
    assert positions["character_right"].tolist() == pytest.approx([21 / 24, 1, 1, 1, 1, 1])
    assert positions["right"].tolist() == pytest.approx([21 / 24, 23 / 24, 1, 1, 1, 1])

    code, out, _ = podium("evaluate", "--no-tta", "--num-worst", 2)
    assert len(read(run_dir / "evaluation" / "worst.csv")) == 2
    code, out, _ = podium("evaluate")
    assert "string accuracy: 0.0000 on 24 images" in out


def test_the_parts_of_a_class_score_are_correct(food11: MakeFood11, podium: Podium, tmp_path: Path) -> None:
    food11(num_per_class=4, num_val=4, num_test=2)  # five images of each of the classes 0 to 3
    run_dir, labels = trained(podium, "food11", tmp_path)
    truth = dict(zip(labels["image_path"], labels["category"], strict=True))
    answers: dict[str, Answer] = {path: ([int(class_id)], 0.9) for path, class_id in truth.items()}
    # Two of class 0 are predicted as 2, one of class 3 as 10.
    answers["training/0_0.jpg"] = answers["validation/0_0.jpg"] = ([2], 0.6)
    answers["training/3_3.jpg"] = ([10], 0.8)
    replace_answers(run_dir, [11], answers)

    code, out, _ = podium("evaluate", "--competition", "food11", "--no-tta", "--folds", 0, 1)
    assert code == 0
    assert "out-of-fold accuracy: 0.8500 on 20 images" in out
    parts = read(run_dir / "evaluation" / "by_class.csv").set_index("class")
    assert parts["f1"].astype(float).tolist()[:4] == pytest.approx([0.75, 1, 5 / 6, 8 / 9])
    assert parts["images"].astype(int).tolist() == [5] * 4 + [0] * 7
    assert parts["recall"].astype(float).tolist() == pytest.approx([0.6, 1, 1, 0.8] + [0] * 7)
    assert parts["precision"].astype(float).tolist() == pytest.approx([1, 1, 5 / 7, 1] + [0] * 7)
    confusion = read(run_dir / "evaluation" / "confusion.csv")
    counts = confusion.drop(columns="true").to_numpy(int)
    expected = np.diag([3, 5, 5, 4] + [0] * 7)
    expected[0, 2], expected[3, 10] = 2, 1
    assert counts.tolist() == expected.tolist()
    assert confusion["true"].tolist()[:2] == ["Bread", "Dairy product"]
    worst = read(run_dir / "evaluation" / "worst.csv")
    assert worst["image_path"].tolist() == ["training/3_3.jpg", "training/0_0.jpg", "validation/0_0.jpg"]
    assert worst["confidence"].astype(float).tolist() == pytest.approx([0.8, 0.6, 0.6])
    assert worst["probability_of_truth"].astype(float).tolist() == pytest.approx([0.02, 0.04, 0.04])

    code, out, _ = podium("evaluate", "--competition", "food11", "--no-tta", "--folds", 0)
    assert code == 0
    assert "score of part of the data" in out
    assert "score of part of the data" in (run_dir / "evaluation" / "report.html").read_text()


def test_a_score_of_the_best_epoch_is_called_optimistic(svhn: MakeSvhn, podium: Podium, tmp_path: Path) -> None:
    svhn(num_test=2)
    assert podium("prepare", "--num-folds", 2).code == 0
    assert podium("train", *TRAIN, "--fold", "all", "--keep", "best").code == 0
    _, out, _ = podium("evaluate")
    assert "the score is optimistic" in out
    assert "the score is optimistic" in (tmp_path / "runs/svhn/baseline/evaluation/report.html").read_text()


@pytest.mark.parametrize(("count", "share"), [(1000, 0.8), (4000, 0.97), (300, 0.5)])
def test_the_interval_is_near_the_normal_approximation(count: int, share: float) -> None:
    right = np.arange(count) < share * count
    half = 1.96 * (share * (1 - share) / count) ** 0.5
    assert score_interval(right) == pytest.approx((share - half, share + half), abs=0.12 * half)


@pytest.mark.parametrize("count", [1, 50, 1000])
def test_the_interval_has_a_width_even_if_all_or_none_are_right(count: int) -> None:
    """By Wilson's formula: one end is n / (n + z^2), the other 1; for none, the reverse."""
    end = count / (count + 1.959964**2)
    assert score_interval(np.ones(count, bool)) == pytest.approx((end, 1), abs=1e-6)
    assert score_interval(np.zeros(count, bool)) == pytest.approx((0, 1 - end), abs=1e-6)


def test_a_missing_run_is_refused_with_the_existing_ones(svhn: MakeSvhn, podium: Podium, tmp_path: Path) -> None:
    svhn(num_test=2)
    assert podium("prepare", "--num-folds", 2).code == 0
    assert podium("train", *TRAIN, "--run-name", "mine").code == 0
    code, _, err = podium("evaluate", "--run-name", "mien")
    assert code == 2
    assert "no such run; there are: mine" in err


@pytest.mark.parametrize(("num_classes", "drawn"), [(40, True), (41, False)])
def test_the_matrix_of_many_classes_is_not_drawn_but_their_mistakes_are_told(num_classes: int, drawn: bool) -> None:
    names = tuple(f"class {i}" for i in range(num_classes))
    competition = replace(load_competition("food11"), heads=(Head(name="label", classes=names),), class_names=())
    target = np.repeat(np.arange(num_classes), 9)[:, None]
    answers = target.copy()
    answers[3 * 9 : 3 * 9 + 4], answers[7 * 9 : 7 * 9 + 6] = 5, 2
    (found,) = matrices(SimpleNamespace(competition=competition, target=target, answers=answers))  # type: ignore[arg-type]
    assert (found["rows"] is not None) == drawn
    assert found["pairs"] == [("class 7", "class 2", 6), ("class 3", "class 5", 4)]


def test_of_many_classes_the_worst_are_shown() -> None:
    parts = pd.DataFrame({"class": [f"c{i}" for i in range(100)], "images": 1, "recall": np.arange(100)[::-1] / 100})
    shown, note = for_readers("class", parts)
    assert shown["class"].tolist()[:2] == ["c99", "c98"]
    assert (len(shown), note) == (40, "The 40 of 100 with the lowest recall; all are in by_class.csv.")
    assert for_readers("class", parts.head(40))[1] == ""
    absent = parts.assign(images=np.where(parts["recall"] < 0.1, 0, 1))
    assert for_readers("class", absent)[0]["class"].tolist()[:2] == ["c89", "c88"]


def test_the_matrix_keeps_a_class_that_is_called_true() -> None:
    table = matrix_table(("false", "true"), np.array([[5, 1], [2, 7]]))
    assert table.to_csv(index=False).splitlines() == ["false,true,true", "5,1,false", "2,7,true"]


def test_labels_are_shown_by_their_own_texts() -> None:
    food = load_competition("food11")
    head = Head(name="organ", kind="labels", classes=("0", "1", "2"))
    several = replace(food, heads=(head,), class_names=("a", "b", "c"))
    assert display_text([1, 0, 1], several) == "0 2"
    assert display_text([1], food) == food.class_names[1]


def test_scores_are_written_even_if_the_page_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = made_report(tmp_path, made_competition("named"), 60)
    run: Any = report.run
    monkeypatch.setattr("src.runs.run.open_run", lambda *_: run)
    monkeypatch.setattr("src.inference.ensemble.out_of_fold", lambda *_: report.oof)

    def damaged(*_: Any) -> None:
        raise InputError("the cache is damaged")

    monkeypatch.setattr("src.report.train_and_test.compare", lambda *_: report.comparison)
    monkeypatch.setattr("src.report.page.make_gallery", damaged)
    with pytest.raises(InputError, match="the cache is damaged"):
        evaluate.main(EvaluateConfig())
    assert "out-of-fold accuracy: " in capsys.readouterr().out
    scores = json.loads(run.paths.scores.read_text())
    fold = report.oof.labels["fold"].to_numpy()
    for number in range(3):
        assert scores["fold_intervals_95"][str(number)] == pytest.approx(
            score_interval(report.oof.right[fold == number])
        )
    assert len(read(run.paths.evaluation / "suspects.csv")) == len(report.suspects)
    run.prepared.cache = damaged
    found = compare(run, report.folds, report.oof)
    assert found.notes == [
        "Answers on test images are not known yet: run predict, then evaluate again.",
        "the cache is damaged",
    ]
    assert list(found.answers["pet"].columns) == ["name", "labels", "answers out of fold"]
    with pytest.raises(InputError, match="--num-saliency 501: must be at least 0 and at most 500"):
        evaluate.main(EvaluateConfig(num_saliency=501))


@pytest.mark.parametrize("probe", [False, True])
def test_the_page_has_four_curves_and_each_folds_interval(tmp_path: Path, probe: bool) -> None:
    report = made_report(tmp_path, made_competition("named"), 60, freeze_backbone=probe)
    text, _ = report_page(report, 0)
    served = "Features" if probe else "Images"
    for title in ("Training loss", "Score on the held-out images", "Learning rate", f"{served} per second"):
        assert f'aria-label="{title}"' in text
    assert f">{served.lower()}/s</th>" in text
    low, high = report.scores["fold_intervals_95"]["2"]
    assert f"<td>{low:.4f} to {high:.4f}</td>" in text
