"""--pseudo-labels and --suspects: which images a fold learns from, and that its score stays unbiased."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from src.competitions.registry import load_competition
from src.competitions.spec import Head
from src.config import Augment, TrainConfig
from src.core.csv_text import parse_csv
from src.core.errors import InputError
from src.core.texts import Texts
from src.core.world import World
from src.data.pixels import JoinedImages
from src.runs.fold import TrainedFold
from src.runs.ranks import check_batch
from src.runs.run import Run
from src.training.checks import check_flags, check_new_strings, without_effect
from src.training.pseudo_labels import judged_folds, right_by_confidence
from src.training.soft_labels import _hard, soft_targets
from src.training.suspects import answered_together, suspected_rows
from tests.helpers import run_at
from tests.world import FLAGS, config_of, data_of, done, run_command
from tests.world import refused as refused_by

STUDENT = (*FLAGS, "--run-name", "student", "--pseudo-labels", "baseline")


def test_flags_that_do_nothing_are_told() -> None:
    config = TrainConfig(suspects_weight=0.5, pseudo_confidence=0.5, pseudo_labels=("teacher",))
    assert without_effect(config) == ["note: --suspects-weight does nothing without --suspects"]
    assert without_effect(TrainConfig()) == []
    probe = TrainConfig(freeze_backbone=True, backbone="mine.py", augment=Augment(rotate=45))
    assert without_effect(probe) == [
        "note: --freeze-backbone trains on the features of plain images: augmentation and drop-path do nothing",
        "note: --freeze-backbone keeps the features of mine.py, which are useless unless it loads weights itself; "
        "--weights FILE gives it some",
    ]
    with_weights = TrainConfig(freeze_backbone=True, backbone="mine.py", weights=Path("mine.safetensors"))
    assert without_effect(with_weights) == without_effect(TrainConfig(freeze_backbone=True)) == []


def test_joined_images_are_those_of_one_cache_then_the_other() -> None:
    images = np.random.default_rng(0).integers(0, 255, (9, 4, 4, 3)).astype(np.uint8)
    joined = JoinedImages(images[:5], images[5:])
    assert (len(joined), joined.nbytes, joined.shape) == (9, images.nbytes, images.shape)
    for index in (np.array([8, 0, 5, 4, 4]), slice(3, 7), 6, np.array([], np.int64)):
        np.testing.assert_array_equal(joined[index], images[index])


def test_a_fold_learns_from_its_teachers_same_fold(world: Path) -> None:
    run, plain = data_of(world)
    _, data = data_of(world, pseudo_labels=("baseline",), pseudo_confidence=0.0)
    test = run.prepared.cache("test", plain.cache_size)
    count = len(test.images)
    assert len(data.train.rows) == len(plain.train.rows) + count
    np.testing.assert_array_equal(data.val.rows, plain.val.rows)
    assert isinstance(data.train.images, JoinedImages)
    assert data.pseudo is not None
    paths = data.pseudo.table["image_path"].tolist()
    np.testing.assert_array_equal(data.train.images[data.train.rows[-count:]], test.images[test.rows_of(paths)])
    with np.load(run.paths.fold(0).test) as kept:
        wanted = kept["probabilities_tta"].reshape(count, 6, 11)
    digits = wanted[:, 0, :10].argmax(axis=1)  # of the first place, which is never padding
    np.testing.assert_array_equal(data.train.targets[-count:, 0], digits)
    assert len(np.unique(data.train.numbers_of(data.train.rows))) == len(data.train.rows)  # each draws for itself
    _, none = data_of(world, pseudo_labels=("baseline",), pseudo_confidence=0.5)  # it has no answer right out of fold
    assert none.pseudo is not None
    assert len(none.pseudo.table) == 0


def test_confidence_is_how_often_the_teachers_are_right_on_the_other_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    competition = load_competition("food11")
    rng = np.random.default_rng(0)
    top = rng.choice([0.3, 0.6], 2000)  # nine in ten of those at 0.6 are right, two in ten of the others
    answers = rng.integers(0, 11, 2000)
    right = rng.random(2000) < np.where(top == 0.6, 0.9, 0.2)
    probabilities = np.repeat(((1 - top) / 10)[:, None], 11, axis=1)
    probabilities[np.arange(2000), answers] = top
    target = np.where(right, answers, (answers + 1) % 11)[:, None]
    mean = SimpleNamespace(competition=competition, target=target)
    monkeypatch.setattr("src.training.pseudo_labels.mean_out_of_fold", lambda *_: (probabilities, mean))
    curve = right_by_confidence([], (0, 2))
    np.testing.assert_allclose(curve.predict([0.1, 0.3, 0.6, 0.9]), [0.2, 0.2, 0.9, 0.9], atol=0.03)


def test_teachers_are_judged_on_the_folds_that_the_student_learns_from() -> None:
    teachers: list[Any] = [
        SimpleNamespace(trained=lambda numbers=numbers: [SimpleNamespace(number=number) for number in numbers])
        for numbers in ((0, 1, 2), (0, 1, 2, 3), (1,))
    ]
    assert judged_folds(teachers[:2], 1) == (0, 2)
    assert judged_folds(teachers, 1) == (1,)


def test_several_teachers_are_averaged(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    same = SimpleNamespace(predict=np.copy)  # the networks' own probabilities
    monkeypatch.setattr("src.training.pseudo_labels.right_by_confidence", lambda *_: same)
    tables = [data_of(world, pseudo_labels=names, pseudo_confidence=0.0)[1].pseudo for names in
              (("baseline",), ("other",), ("baseline", "other"))]  # fmt: skip
    confidence = [table.table["confidence"].to_numpy() for table in tables if table]
    assert not np.allclose(confidence[0], confidence[2], rtol=1e-6, atol=0)
    assert not np.allclose(confidence[1], confidence[2], rtol=1e-6, atol=0)
    third = float(np.sort(confidence[2])[-2])
    fewer = data_of(world, pseudo_labels=("baseline", "other"), pseudo_confidence=third)[1].pseudo
    assert fewer is not None
    assert len(fewer.table) == 2


def test_a_student_is_trained_resumed_without_its_teacher_and_scored(world: Path) -> None:
    ended = done(world, "train", *STUDENT, "--pseudo-confidence", 0)
    for number in (0, 1):
        assert f"pseudo-labels: 3 of 3 test images, which fold {number} of baseline answers" in ended.out
    first = (world / "runs/svhn/student/fold0/last.safetensors").read_bytes()
    plain = (world / "runs/svhn/baseline/fold0/last.safetensors").read_bytes()
    assert first != plain
    table = parse_csv((world / "runs/svhn/student/fold0/pseudo_labels.csv").read_bytes(), "pseudo_labels.csv")
    assert len(table) == 3
    done(world, "evaluate", "--run-name", "student")
    student = run_at(world / "runs/svhn/student")
    for fold in student.trained():
        fold.paths.oof.unlink()
    (world / "runs/svhn/baseline").rename(world / "runs/svhn/elsewhere")
    again = done(world, "train", *STUDENT, "--pseudo-confidence", 0)
    assert "is missing or damaged, and is made again" in again.out
    (world / "runs/svhn/student/fold0/oof.npz").unlink()
    (world / "runs/svhn/student/fold0/fold.json").unlink()
    assert "is made again from the checkpoint" in done(world, "train", *STUDENT, "--pseudo-confidence", 0).out
    kept = world / "runs/svhn/student/fold0/pseudo_labels.csv"
    written = kept.read_text()
    (world / "runs/svhn/student/fold0/oof.npz").unlink()
    for odd, said in (("3.5", "invalid literal"), ("99", "is 99, outside 0-10")):
        image, _, rest = written.splitlines()[1].split(",", 2)
        kept.write_text(written.replace(written.splitlines()[1], f"{image},{odd},{rest}"))
        refused = run_command(world, "train", *STUDENT, "--pseudo-confidence", 0)
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert "pseudo_labels.csv: was changed after it was written" in refused.err
        assert said in refused.err
    kept.unlink()
    refused = run_command(world, "train", *STUDENT, "--pseudo-confidence", 0)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "pseudo_labels.csv: is lost, and the fold was trained on it" in refused.err


def test_a_teacher_of_other_folds_is_refused(world: Path) -> None:
    done(world, "prepare", "--num-folds", 3, "--num-processes", 1)
    refused = run_command(world, "train", *STUDENT)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "--pseudo-labels baseline: was trained on snapshot" in refused.err


def test_a_teachers_views_are_not_chosen_by_the_labels_that_the_student_holds_out(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[list[int]] = []

    def views(run: Run, trained: Sequence[TrainedFold], tta: bool) -> tuple[str, ...]:
        chosen.append([fold.number for fold in trained])
        return run.started_record.train.views

    monkeypatch.setattr("src.training.pseudo_labels.views_of", views)
    done(world, "train", *STUDENT, "--pseudo-confidence", 0)
    assert chosen == [[1], [0]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pseudo_labels": ("student",)}, "is the run itself"),
        ({"pseudo_labels": ("baseline",), "soft_labels": "a.csv"}, "cannot be combined with --soft-labels"),
        (
            {"pseudo_labels": ("baseline",), "freeze_backbone": True, "pretrained": True},
            "cannot be combined with --freeze-backbone",
        ),
        ({"pseudo_confidence": 2.0}, "--pseudo-confidence 2.0"),
        ({"suspects_weight": -1.0}, "--suspects-weight -1.0"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path: Path, values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_flags(config_of(tmp_path, **values), load_competition("svhn"))


def suspects_file(world: Path, image_paths: list[str]) -> str:
    path = world / "suspects.csv"
    path.write_text("image_path,label\n" + "".join(f"{one},x\n" for one in image_paths))
    return str(path)


def test_suspects_are_skipped_or_weigh_less_and_are_scored(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, plain = data_of(world)
    cache = run.prepared.cache("train", plain.cache_size)
    trained, held = cache.image_paths[int(plain.train.rows[3])], cache.image_paths[int(plain.val.rows[0])]
    file = suspects_file(world, [trained, held])
    _, without = data_of(world, suspects=file)
    assert "suspects: 1 of 9 training images are skipped" in capsys.readouterr().out
    assert set(plain.train.rows) - set(without.train.rows) == {plain.train.rows[3]}
    np.testing.assert_array_equal(without.val.rows, plain.val.rows)
    _, less = data_of(world, suspects=file, suspects_weight=0.25)
    assert "1 of 9 training images have weight 0.25" in capsys.readouterr().out
    assert less.train.weights is not None
    counts = less.train.weights.of(np.arange(9), plain.train.targets)[:, 0]
    np.testing.assert_allclose(counts / counts.max(), np.where(np.arange(9) == 3, 0.25, 1))
    ended = done(world, "train", *FLAGS, "--run-name", "clean", "--suspects", file)
    assert "training images are skipped" in ended.out
    done(world, "evaluate", "--run-name", "clean")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path\na\n", "line 1: no column image_path"),
        ("image_path\nmchar_train/000000.png\nnone.png\n", "line 3: 'none.png' is not in labels.csv"),
        ("image_path\nmchar_train/000000.png\nmchar_train/000000.png\n", "line 3: .* appears twice"),
    ],
)
def test_a_wrong_list_of_suspects_is_refused(world: Path, text: str, message: str) -> None:
    path = world / "suspects.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        data_of(world, suspects=str(path))
    with pytest.raises(InputError, match="no such file"):
        data_of(world, suspects=str(world / "none.csv"))


def test_all_images_of_a_suspected_answer_are_suspects() -> None:
    image_paths = Texts.of(["a_L", "a_R", "b_L", "b_R", "c_L"])
    labels = pd.DataFrame({"image_path": ["b_R", "a_L", "b_L", "a_R"], "answer": ["b", "a", "b", "a"]})
    found = answered_together(np.array([2]), image_paths, [labels[:2], labels[2:]])
    assert sorted(found) == [2, 3]
    assert answered_together(np.array([4]), image_paths, [labels.drop(columns="answer")]).tolist() == [4]


def test_evaluates_own_suspects_are_taken(world: Path) -> None:
    done(world, "evaluate", "--run-name", "baseline")
    file = world / "runs/svhn/baseline/evaluation/suspects.csv"
    run, _ = data_of(world)
    image_paths = run.prepared.cache("train").image_paths
    found = suspected_rows(file, image_paths)
    assert list(image_paths.pick(found)) == parse_csv(file.read_bytes(), "suspects.csv")["image_path"].tolist()
    assert len(found)


def test_a_teacher_that_was_trained_anew_is_told_from_the_old_one(world: Path) -> None:
    done(world, "train", *STUDENT, "--fold", 0)
    done(world, "train", *FLAGS, "--run-name", "baseline", "--seed", 7, "--restart")
    refused_by(run_command(world, "train", *STUDENT, "--fold", 1), "was started with other settings (pseudo_labels: (")


def test_soft_labels_of_classes_beside_numbers_and_no_recombined_strings(tmp_path: Path) -> None:
    food = load_competition("food11")
    both = replace(food, heads=(*food.heads, Head(name="age", kind="number")), class_names=())
    found = _hard(both, np.array([[3, 0.5], [10, 2.0]], np.float32))
    assert found.shape == (2, 12)
    assert found[:, :11].argmax(axis=1).tolist() == [3, 10]
    paths, targets = Texts.of(["train/1.png", "train/2.png"]), np.array([[3, 0.5], [10, 2.0]], np.float32)
    chances = ",".join(["1", *["0"] * 10])
    for text in ("abc", "", "nan", "inf"):
        header = ",".join(["image_path", *(f"{food.heads[0].name}:{name}" for name in food.heads[0].classes), "age"])
        (tmp_path / "soft.csv").write_text(f"{header}\ntrain/2.png,{chances},{text}\n")
        with pytest.raises(InputError, match=f"soft.csv, line 2: age is {text!r}, not a number"):
            soft_targets(tmp_path / "soft.csv", both, paths, targets)
    config = TrainConfig(soft_labels="a.csv", augment=Augment(recombine=0.5))
    with pytest.raises(InputError, match="--augment.recombine 0.5: cannot be combined with --soft-labels"):
        check_new_strings(config, load_competition("svhn"))


@pytest.mark.parametrize(("images", "accumulate"), [(1, 1), (3, 2)])
def test_too_few_training_images_are_told(images: int, accumulate: int) -> None:
    config = TrainConfig(accumulate=accumulate)
    with pytest.raises(InputError, match=f"training images: {images}; a training needs at least {2 * accumulate}"):
        check_batch(config, World(), images)
    check_batch(config, World(), 2 * accumulate)
