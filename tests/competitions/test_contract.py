"""The contract of every competition, checked on tiny data: the built-in ones and one from a user's file."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.competitions.registry import competition_names, load_competition
from src.competitions.spec import Competition
from src.core.csv_text import parse_csv
from src.core.errors import InputError
from src.core.reading import InputFiles
from src.data.labels import check_labels
from src.make_demo import MakeDemoConfig
from src.make_demo import main as make_demo
from tests.fixtures import MakeFood11, MakeLeaves, MakeSvhn

NAMES = [*competition_names(), "leaves"]
OTHER_PACKINGS = ["mnist, idx", "mnist, kaggle", "cifar10, zip", "cifar10, batches", "food11, zip"]
COUNTED_FROM_1 = ("mnist", "fashion_mnist", "cifar10")  # if no sample submission lists the ids
Opened = tuple[Competition, InputFiles]


def open_files(competition: Competition, folder: Path) -> Opened:
    files = InputFiles(folder, competition.source)
    return competition.with_heads_of(files), files


@pytest.fixture
def opened(tmp_path: Path, request: pytest.FixtureRequest) -> Opened:
    """Write tiny data for the requested competition and open it. Add new competitions here."""
    name, _, packing = request.param.partition(", ")
    if name == "demo":
        make_demo(MakeDemoConfig(input_dir=tmp_path / "input", num_train=12, num_val=6, num_test=5))
        return open_files(load_competition(name), tmp_path / "input" / "demo")
    written = request.getfixturevalue(name)(**({"packing": packing} if packing else {}))
    competition = load_competition(str(written) if name == "leaves" else name)
    return open_files(competition, tmp_path / "input" / name)


every_competition = pytest.mark.parametrize("opened", [*NAMES, *OTHER_PACKINGS], indirect=True)


@every_competition
def test_training_images_are_found_and_have_a_class_id_for_each_head(opened: Opened) -> None:
    competition, files = opened
    labels = check_labels(competition.read_train(files), competition)
    assert len(labels) >= 16
    assert set(labels["image_path"]) <= set(files.located)
    for head in competition.heads:
        assert labels[head.name].between(0, head.num_classes - 1).all()
    assert set(labels.columns) <= {"image_path", *competition.targets, "group", "boxes", "split"}
    assert set(labels.get("split", pd.Series(["train", "val"]))) == {"train", "val"}


@every_competition
def test_test_images_are_found_and_follow_the_sample_submissions_order(opened: Opened) -> None:
    competition, files = opened
    test = competition.read_test(files)
    assert list(test.columns) == ["image_path", "id"]
    assert set(test["image_path"]) <= set(files.located)
    assert test["image_path"].is_unique
    assert len(test) > 0
    samples = [name for name in (path.rsplit("/", 1)[-1] for path in files.found.paths) if "sample" in name]
    if samples:
        sample = files.table(samples[0])
        assert tuple(sample.columns) == competition.columns
        assert test["id"].tolist() == sample.iloc[:, 0].tolist()
    else:
        first = int(competition.name in COUNTED_FROM_1)
        assert test["id"].tolist() == [str(number + first) for number in range(len(test))]


@every_competition
def test_no_image_is_in_both_train_and_test(opened: Opened) -> None:
    competition, files = opened
    train, test = competition.read_train(files), competition.read_test(files)
    assert not set(train["image_path"]) & set(test["image_path"])


@every_competition
def test_each_answer_joins_the_classes_before_the_first_pad_class(opened: Opened) -> None:
    competition, _ = opened
    some = [(0, 1, head.num_classes - 1) for head in competition.heads]
    for class_ids in itertools.product(*some):
        answer = competition.decode(class_ids)
        kept = list(itertools.takewhile(lambda class_id: class_id != competition.pad_class, class_ids))
        assert answer == "".join(head.classes[i] for head, i in zip(competition.heads, kept, strict=False))


@every_competition
def test_a_competition_has_a_name_a_source_and_valid_heads(opened: Opened) -> None:
    competition, _ = opened
    assert competition.source
    assert competition.name in NAMES
    assert min(competition.image_size) >= 8
    assert competition.channels in (1, 3)
    assert len(set(competition.targets)) == len(competition.heads) > 0
    assert all(len(set(head.classes)) == head.num_classes > 1 for head in competition.heads)


def test_a_house_number_keeps_leading_zeros_and_ends_at_the_first_pad_class() -> None:
    decode = load_competition("svhn").decode
    assert decode([0, 0, 7, 10, 10, 10]) == "007"
    assert decode([0, 10, 10, 10, 10, 10]) == "0"
    assert decode([1, 10, 2, 3, 10, 4]) == "1"
    assert decode([1, 2, 3, 4, 5, 6]) == "123456"


@pytest.mark.parametrize("pad_class", [None, 10])
def test_the_places_of_a_string_have_the_same_classes_in_the_same_order(pad_class: int | None) -> None:
    svhn = load_competition("svhn")
    first = replace(svhn.heads[0], classes=(*reversed(svhn.heads[0].classes[:-1]), ""))
    with pytest.raises(
        InputError, match="svhn: the heads of a string .* must all have the same classes in the same order"
    ):
        replace(svhn, heads=(first, *svhn.heads[1:]), pad_class=pad_class)
    other = replace(svhn, heads=(first, *svhn.heads[1:]), pad_class=None, answer="heads", columns=("id",))
    assert not other.is_string


def test_house_numbers_are_padded_on_the_right_and_keep_their_boxes(svhn: MakeSvhn) -> None:
    folder = svhn()
    entries = json.loads((folder / "mchar_train.json").read_text())
    labels = load_competition("svhn").read_train(InputFiles(folder)).set_index("image_path")
    for name, entry in entries.items():
        row = labels.loc[f"mchar_train/{name}"]
        assert isinstance(row, pd.Series)
        number = entry["label"]
        assert row[[f"digit{i}" for i in range(1, 7)]].tolist() == number + [10] * (6 - len(number))
        boxes = [[5 * i + 1, 5 * i + 1, 4, 9] for i in range(len(number))]
        assert json.loads(row["boxes"]) == boxes


def test_official_train_and_val_are_joined_with_a_split_column(svhn: MakeSvhn, food11: MakeFood11) -> None:
    for name, folder, train, val in (("svhn", svhn(), 12, 6), ("food11", food11(), 16, 4)):
        labels = load_competition(name).read_train(InputFiles(folder))
        assert labels["split"].value_counts().to_dict() == {"train": train, "val": val}
        first = labels["image_path"].str.split("/").str[0]
        assert ((labels["split"] == "val") == first.isin(["mchar_val", "validation"])).all()


def test_a_house_number_without_boxes_is_accepted_but_an_incomplete_box_is_not(svhn: MakeSvhn) -> None:
    folder = svhn()
    entries = json.loads((folder / "mchar_train.json").read_text())
    entries["000001.png"] = {"label": entries["000001.png"]["label"]}
    (folder / "mchar_train.json").write_text(json.dumps(entries))
    labels = load_competition("svhn").read_train(InputFiles(folder))
    assert labels["boxes"].tolist().count("[]") == 1
    entries["000002.png"]["left"].pop()
    (folder / "mchar_train.json").write_text(json.dumps(entries))
    with pytest.raises(InputError, match=r"mchar_train.json, line 1: '000002.png': 'left' is not a list of 3 numbers"):
        load_competition("svhn").read_train(InputFiles(folder))


def test_food_follows_numeric_order_or_the_order_of_the_sample_submission(food11: MakeFood11) -> None:
    folder = food11(num_test=12)
    read_test = load_competition("food11").read_test
    assert read_test(InputFiles(folder))["id"].tolist() == [str(i) for i in range(12)]
    (folder / "sample_submission.csv").write_text("Id,Category\n" + "".join(f"{i},0\n" for i in reversed(range(12))))
    test = read_test(InputFiles(folder))
    assert test["id"].tolist() == [str(i) for i in reversed(range(12))]
    assert test["image_path"].tolist()[0] == "testing/0011.jpg"


def test_food_class_comes_from_the_file_name(food11: MakeFood11) -> None:
    labels = load_competition("food11").read_train(InputFiles(food11()))
    first = labels["image_path"].str.extract(r"/(\d+)_")[0].astype(int)
    assert (labels["category"] == first).all()


def test_classes_of_a_csv_are_the_sorted_labels_and_decode_to_the_same_text(leaves: MakeLeaves) -> None:
    competition, files = open_files(load_competition(str(leaves())), Path("input/leaves").absolute())
    texts = files.table("train.csv")["species"].tolist()
    assert competition.heads[0].classes == tuple(sorted({"NA", "007", "oak, red", "null"}))
    assert [competition.decode([i]) for i in competition.read_train(files)["label"]] == texts


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_demo_is_reproducible_to_the_byte(tmp_path: Path) -> None:
    outputs = []
    for name in ("one", "two"):
        make_demo(MakeDemoConfig(input_dir=tmp_path / name, num_train=7, num_val=3, num_test=4))
        folder = tmp_path / name / "demo"
        outputs.append({path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")})
    assert len(outputs[0]) == 7 + 3 + 4 + 4
    assert outputs[0] == outputs[1]


def test_the_demos_hidden_answers_are_for_the_test_images_and_vary(tmp_path: Path) -> None:
    make_demo(MakeDemoConfig(input_dir=tmp_path, num_train=1, num_val=1, num_test=20))
    answers = parse_csv((tmp_path / "demo" / "hidden_answers.csv").read_bytes(), "hidden_answers.csv")
    assert answers["file_name"].tolist() == [f"{i:06d}.png" for i in range(20)]
    assert answers["file_code"].str.fullmatch(r"\d{1,6}").all()
    assert answers["file_code"].nunique() > 10


def test_the_demos_groups_share_no_handwriting(tmp_path: Path) -> None:
    make_demo(MakeDemoConfig(input_dir=tmp_path, num_train=12, num_val=6, num_test=1))
    labels = load_competition("demo").read_train(InputFiles(tmp_path / "demo"))
    numbers = labels["image_path"].str.extract(r"(\d+)\.png")[0].astype(int)
    assert (labels["group"] == "digits" + (numbers % 6).astype(str)).all()


def test_an_image_labelled_twice_is_an_error_naming_it(leaves: MakeLeaves) -> None:
    competition, files = open_files(load_competition(str(leaves())), Path("input/leaves").absolute())
    labels = competition.read_train(files)
    with pytest.raises(InputError, match="image 'train/0000.png' is labelled twice"):
        check_labels(pd.concat([labels, labels.head(1)]), competition)


@pytest.mark.parametrize("class_id", [-1, 4])
def test_a_class_id_out_of_range_is_an_error_naming_the_image(leaves: MakeLeaves, class_id: int) -> None:
    competition, files = open_files(load_competition(str(leaves())), Path("input/leaves").absolute())
    labels = competition.read_train(files)
    labels.loc[3, "label"] = class_id
    with pytest.raises(InputError, match=f"train/0003.png: label is {class_id}, outside 0-3"):
        check_labels(labels, competition)


def test_non_integer_class_ids_are_an_error(leaves: MakeLeaves) -> None:
    competition, files = open_files(load_competition(str(leaves())), Path("input/leaves").absolute())
    labels = competition.read_train(files).astype({"label": np.float64})
    with pytest.raises(InputError, match="'label' must hold integers"):
        check_labels(labels, competition)
