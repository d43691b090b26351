"""What a new user gets wrong first is answered with what to do."""

from pathlib import Path

import pytest

from tests.fixtures import MakeLeaves, Podium
from tests.helpers import run_at, snapshot_at
from tests.test_first_contact import LEAVES, NET, done, error_of


def test_a_competition_file_is_suggested_for_its_bare_name(leaves: MakeLeaves, podium: Podium) -> None:
    leaves()
    line = error_of(podium("prepare", "--competition", "leaves"))
    assert line == "error: --competition leaves: no such competition; did you mean --competition leaves.py?"


def test_a_wrong_image_folder_is_answered_with_the_folders_there_are(
    leaves: MakeLeaves, podium: Podium, tmp_path: Path
) -> None:
    path = leaves(num_train=16, num_test=5)
    path.write_text(path.read_text().replace('label_column="species"', 'label_column="species", test_folder="exam"'))
    line = error_of(podium("prepare", *LEAVES))
    assert "no images in a folder or zip called 'exam'; the folders with images are train (16), test (5)" in line


def write_labels(tmp_path: Path, labels: list[str]) -> None:
    rows = [f'{i:04d},"{label}"' for i, label in enumerate(labels)]
    (tmp_path / "input" / "leaves" / "train.csv").write_text("\n".join(["image_id,species", *rows, ""]))


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([f"{20 + i / 7:.3f}" for i in range(24)], "24 images have 24 different labels (such as '20.000')"),
        (
            [" ".join(tag for k, tag in enumerate("abcd") if i & 1 << k) or "none" for i in range(24)],
            "look like lists of 5 tags ('a b')",
        ),
    ],
    ids=["numbers", "tags"],
)
def test_labels_that_are_not_classes_are_pointed_out(
    leaves: MakeLeaves, podium: Podium, tmp_path: Path, labels: list[str], words: str
) -> None:
    leaves(num_train=24, num_test=4)
    write_labels(tmp_path, labels)
    out = done(podium("prepare", *LEAVES, "--num-folds", 2))
    (warning,) = (line for line in out.splitlines() if line.startswith("warning: "))
    assert words in warning
    assert "docs/faq.md" in warning
    assert words in podium("doctor", *LEAVES, "--backbone", "svhn_cnn").out


def test_labels_that_are_classes_get_no_warning(leaves: MakeLeaves, podium: Podium, tmp_path: Path) -> None:
    leaves(num_train=24, num_test=4)
    write_labels(tmp_path, [("red maple", "silver maple", "sugar maple")[i % 3] for i in range(24)])
    assert "warning" not in done(podium("prepare", *LEAVES, "--num-folds", 2))


def test_labels_that_are_said_to_be_several_get_no_warning(leaves: MakeLeaves, podium: Podium, tmp_path: Path) -> None:
    path = leaves(num_train=24, num_test=4)
    path.write_text(path.read_text().replace('label_column="species"', 'label_column="species", kind="labels"'))
    write_labels(tmp_path, [f"tag{i} tag{i + 4}" for i in range(24)])
    assert "warning" not in done(podium("prepare", *LEAVES, "--num-folds", 2))
    write_labels(tmp_path, ["|".join(tag for k, tag in enumerate("abcd") if i & 1 << k) or "none" for i in range(24)])
    out = done(podium("prepare", *LEAVES, "--num-folds", 2))
    assert "lists of 5 tags ('a|b'), taken here as 16 labels; if they are, give separator='|'" in out


def test_a_restarted_fold_reads_the_cache_of_its_runs_other_folds(
    leaves: MakeLeaves, podium: Podium, tmp_path: Path
) -> None:
    leaves()
    net = (*LEAVES, *NET[:-3])
    done(podium("prepare", *LEAVES, "--num-folds", 2, "--image-size", 24, 32))
    done(podium("train", *net))
    done(podium("prepare", *LEAVES, "--num-folds", 2, "--image-size", 40, 48))
    done(podium("train", *net, "--fold", 1, "--restart"))
    run = run_at(tmp_path / "runs" / "leaves" / "baseline", "leaves.py")
    assert (run.started_record.cache_size, len(run.trained())) == ((24, 32), 2)
    done(podium("train", *net, "--restart"))
    run = run_at(tmp_path / "runs" / "leaves" / "baseline", "leaves.py")
    assert (run.started_record.cache_size, len(run.trained())) == ((40, 48), 2)


def test_a_restarted_run_may_have_fewer_folds(leaves: MakeLeaves, podium: Podium, tmp_path: Path) -> None:
    leaves()
    net = (*LEAVES, *NET)
    for num_folds in (3, 2):
        done(podium("prepare", *LEAVES, "--num-folds", num_folds))
        done(podium("train", *net, "--restart"))
    assert not (tmp_path / "runs" / "leaves" / "baseline" / "fold2").exists()
    done(podium("evaluate", *LEAVES))


def test_commands_in_messages_can_be_pasted(leaves: MakeLeaves, podium: Podium) -> None:
    leaves()
    place = (*LEAVES, "--runs-dir", "my runs")
    done(podium("prepare", *place, "--num-folds", 2))
    done(podium("train", *place, *NET, "--run-name", "my run", "--fold", 0))
    line = error_of(podium("evaluate", *place, "--run-name", "my run"))
    assert "run python -m src.train --competition leaves.py --runs-dir 'my runs' --run-name 'my run' --fold 1" in line
    assert "this run has folds 0, 1" in error_of(podium("predict", *place, "--run-name", "my run", "--folds", 7))


@pytest.mark.parametrize(("name", "cut"), [("folds.csv", "fold"), ("test.csv", "id"), ("labels.csv", "group")])
def test_a_table_without_a_column_is_one_line(
    leaves: MakeLeaves, podium: Podium, tmp_path: Path, name: str, cut: str
) -> None:
    leaves()
    done(podium("prepare", *LEAVES, "--num-folds", 2))
    done(podium("train", *LEAVES, *NET))
    path = snapshot_at(tmp_path / "runs" / "leaves") / name
    path.write_text(path.read_text().replace(cut, "other", 1))
    command = "predict" if name == "test.csv" else "train"
    flags = () if command == "predict" else (*NET, "--run-name", "new")
    line = error_of(podium(command, *LEAVES, *flags))
    assert f"{name}: was changed after prepare wrote it" in line
    assert "run python -m src.prepare --competition leaves.py --num-folds 2 again" in line
    done(podium("prepare", *LEAVES, "--num-folds", 2))
    done(podium(command, *LEAVES, *flags))


TWO = "Head(name='kind', classes=('a', 'b')),"


@pytest.mark.parametrize(
    ("heads", "changes", "words"),
    [
        (TWO, "class_names=('a',),", "1 class_names for 2 classes"),
        (TWO, "pad_class=7,", "pad_class 7 is not one of 2 classes"),
        (TWO.replace("kind", "fold"), "", "a head cannot be called 'fold'"),
        (TWO.replace("'b'", "'a'"), "", "kind has the class 'a' twice; remove one"),
        ("Head(name='kind', classes=(1, 2)),", "", "give a tuple of texts, such as ('a', 'b')"),
        ("Head(name='kind', classes='ab'),", "", "kind: classes is 'ab'; give a tuple of texts"),
        (TWO * 2, "", "two heads are called 'kind'; give each a name of its own"),
    ],
)
def test_a_competition_that_contradicts_itself_is_refused(
    podium: Podium, tmp_path: Path, heads: str, changes: str, words: str
) -> None:
    (tmp_path / "odd.py").write_text(
        "from src.competitions.spec import Competition, Head\n"
        f'COMPETITION = Competition(name="odd", heads=({heads}), {changes}\n'
        "    image_size=(8, 8), hflip_ok=True, read_train=None, read_test=None, columns=('id', 'answer'))\n"
    )
    assert words in error_of(podium("prepare", "--competition", "odd.py"))


def test_names_that_nearly_fit_are_pointed_out(leaves: MakeLeaves, podium: Podium, tmp_path: Path) -> None:
    leaves(num_train=8, num_test=4)
    file = tmp_path / "input" / "leaves" / "train.csv"
    file.write_text(file.read_text().replace("0003,", " 0003,"))
    out = done(podium("prepare", *LEAVES, "--num-folds", 2))
    assert (
        "labels without an image: 1, such as 'train/ 0003'; images without a label: 1, such as 'train/0003.png'" in out
    )
