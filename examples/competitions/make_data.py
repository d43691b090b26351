"""Make tiny data for the examples, with the organisers' file names, headers and folders.

    python -m examples.competitions.make_data aptos2019
    python -m examples.competitions.make_data all --num-train 400

Writes input/NAME/: small images with marks that encode the label, so that a network learns them on a CPU.
"""

import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro

from src.core import cli
from src.core.errors import InputError, nearest
from src.core.flags import check_range

HEX = "0123456789abcdef"
CODE = string.digits + string.ascii_lowercase


@dataclass(frozen=True, kw_only=True)
class MakeDataConfig:
    """Which competition, and how many images."""

    name: tyro.conf.Positional[str]
    """A file of this folder, such as aptos2019, or all."""
    folder: Path | None = None
    """Where the files are written; default: input/NAME. With all: what to use instead of input/."""
    num_train: int = 48
    """Training images."""
    num_test: int = 10
    """Test images."""


class Maker:
    """Writes the files of one competition: at random, but the same each time."""

    def __init__(self, folder: Path, num_train: int, num_test: int) -> None:
        self.folder, self.num_train, self.num_test = folder, num_train, num_test
        self.random = np.random.default_rng(0)

    def classes(self, number: int, num_classes: int) -> list[int]:
        """Return class ids, each about equally often, in random order."""
        ids: list[int] = (self.random.permutation(number) % num_classes).tolist()
        return ids

    def name(self, length: int, characters: str) -> str:
        return "".join(self.random.choice(list(characters), length))

    def names(self, number: int, length: int, characters: str = HEX, pattern: str = "{}") -> list[str]:
        """Return different random names."""
        found: dict[str, None] = {}
        while len(found) < number:
            found[pattern.format(self.name(length, characters))] = None
        return list(found)

    def draw(self, marks: Iterable[int], size: tuple[int, int] = (32, 32)) -> np.ndarray:
        """Return (H, W, 3) uint8, BGR: a mark for each number on a dark, cloudy background.

        The number decides the mark's colour, shape and rough position.
        """
        clouds = self.random.uniform(0, 110, (6, 6, 3)).astype(np.uint8)
        image = cv2.resize(clouds, size[::-1], interpolation=cv2.INTER_LINEAR)
        for mark in marks:
            hue = np.array([[[mark * 47 % 180, 200, 255]]], np.uint8)
            colour = cv2.cvtColor(hue, cv2.COLOR_HSV2BGR)[0, 0].tolist()
            share = np.array([0.3 + 0.4 * (mark % 2), 0.3 + 0.4 * (mark // 2 % 2)])  # of width and height
            x, y = (share * size[::-1] + self.random.uniform(-2, 2, 2)).astype(int).tolist()
            radius = min(size) // 6
            if mark % 3 == 0:
                cv2.circle(image, (x, y), radius, colour, -1)
            else:
                half = radius // (mark % 3)
                cv2.rectangle(image, (x - radius, y - half), (x + radius, y + half), colour, -1)
        return image

    def save(self, path: str, image: np.ndarray) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target), image)

    def table(self, name: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Write a CSV."""
        lines = [",".join(map(str, row)) for row in (header, *rows)]
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text("\n".join([*lines, ""]), encoding="utf-8")


def dog_breed_identification(maker: Maker) -> None:
    breeds = ("affenpinscher", "beagle", "chow", "wire-haired_fox_terrier")
    names = maker.names(maker.num_train + maker.num_test, 32)
    train, test = names[: maker.num_train], names[maker.num_train :]
    labels = maker.classes(maker.num_train, len(breeds))
    for name, label in zip(train, labels, strict=True):
        maker.save(f"train/{name}.jpg", maker.draw([label]))
    for name, label in zip(test, maker.classes(maker.num_test, len(breeds)), strict=True):
        maker.save(f"test/{name}.jpg", maker.draw([label]))
    maker.table("labels.csv", ("id", "breed"), zip(train, (breeds[label] for label in labels), strict=True))
    maker.table("sample_submission.csv", ("id", *breeds), ((name, *[1 / len(breeds)] * len(breeds)) for name in test))


def cassava_leaf_disease(maker: Maker) -> None:
    names = maker.names(maker.num_train + maker.num_test, 10, string.digits, "{}.jpg")
    train, test = names[: maker.num_train], names[maker.num_train :]
    labels = maker.classes(maker.num_train, 5)
    for name, label in zip(train, labels, strict=True):
        maker.save(f"train_images/{name}", maker.draw([label], (30, 40)))
    for name, label in zip(test, maker.classes(maker.num_test, 5), strict=True):
        maker.save(f"test_images/{name}", maker.draw([label], (30, 40)))
    maker.table("train.csv", ("image_id", "label"), zip(train, labels, strict=True))
    maker.table("sample_submission.csv", ("image_id", "label"), ((name, 4) for name in test))


def aptos2019(maker: Maker) -> None:
    names = maker.names(maker.num_train + maker.num_test, 12)
    train, test = names[: maker.num_train], names[maker.num_train :]
    grades = maker.classes(maker.num_train, 5)
    for name, grade in zip(train, grades, strict=True):  # the higher the grade, the more marks
        maker.save(f"train_images/{name}.png", maker.draw(range(grade)))
    for name, grade in zip(test, maker.classes(maker.num_test, 5), strict=True):
        maker.save(f"test_images/{name}.png", maker.draw(range(grade)))
    maker.table("train.csv", ("id_code", "diagnosis"), zip(train, grades, strict=True))
    maker.table("test.csv", ("id_code",), ((name,) for name in test))
    maker.table("sample_submission.csv", ("id_code", "diagnosis"), ((name, 0) for name in test))


def plant_pathology_2020(maker: Maker) -> None:
    columns = ("healthy", "multiple_diseases", "rust", "scab")
    marks: tuple[tuple[int, ...], ...] = ((), (0, 1), (0,), (1,))  # of each label: rust, scab, or both
    labels = maker.classes(maker.num_train, 4)
    for number, label in enumerate(labels):
        maker.save(f"images/Train_{number}.jpg", maker.draw(marks[label], (30, 44)))
    for number, label in enumerate(maker.classes(maker.num_test, 4)):
        maker.save(f"images/Test_{number}.jpg", maker.draw(marks[label], (30, 44)))
    rows = ((f"Train_{row}", *(int(label == place) for place in range(4))) for row, label in enumerate(labels))
    maker.table("train.csv", ("image_id", *columns), rows)
    maker.table("test.csv", ("image_id",), ((f"Test_{number}",) for number in range(maker.num_test)))
    rows = ((f"Test_{number}", 0.25, 0.25, 0.25, 0.25) for number in range(maker.num_test))
    maker.table("sample_submission.csv", ("image_id", *columns), rows)


def human_protein_atlas(maker: Maker) -> None:
    proteins = (0, 2, 5, 7, 25)  # of 28: macro F1 counts 0 for each of the others
    names = maker.names(maker.num_train + maker.num_test, 12, HEX, "00000000-bad0-11e8-b2b8-{}")
    targets = []
    for row, name in enumerate(names):
        chosen = sorted(maker.random.choice(proteins, 1 + row % 2, replace=False).tolist(), reverse=True)
        targets.append(" ".join(map(str, chosen)))
        folder = "train" if row < maker.num_train else "test"
        green = maker.draw([proteins.index(one) for one in chosen]).max(axis=2)
        maker.save(f"{folder}/{name}_green.png", green)
        for colour in ("red", "blue", "yellow"):
            maker.save(f"{folder}/{name}_{colour}.png", maker.draw([])[..., 0])
    train, test = names[: maker.num_train], names[maker.num_train :]
    maker.table("train.csv", ("Id", "Target"), zip(train, targets[: maker.num_train], strict=True))
    maker.table("sample_submission.csv", ("Id", "Predicted"), ((name, 0) for name in test))


def bengaliai_cv19(maker: Maker) -> None:
    heads = ("grapheme_root", "vowel_diacritic", "consonant_diacritic")
    roots, vowels, consonants = (("0", "15", "72", "167"), ("0", "1", "7"), ("0", "4"))
    rows = []
    for part, count in (("train", maker.num_train), ("test", maker.num_test)):
        ids = [maker.classes(count, len(texts)) for texts in (roots, vowels, consonants)]
        images = []
        for root, vowel, consonant in zip(*ids, strict=True):  # as grey as the organiser's: one is below the other
            marks = [maker.draw([one], (46, 236)) for one in (root, 3 * vowel, 5 * consonant)]
            images.append(np.concatenate(marks).max(axis=2)[:137])
            rows.append((roots[root], vowels[vowel], consonants[consonant]))
        write_parquet(maker, part, np.stack(images))
    train = ((f"Train_{row}", *texts, "ক") for row, texts in enumerate(rows[: maker.num_train]))
    maker.table("train.csv", ("image_id", *heads, "grapheme"), train)
    asked = [(f"Test_{row}_{head}", f"Test_{row}", head) for row in range(maker.num_test) for head in sorted(heads)]
    maker.table("test.csv", ("row_id", "image_id", "component"), asked)
    maker.table("sample_submission.csv", ("row_id", "target"), ((row_id, 0) for row_id, _, _ in asked))


def write_parquet(maker: Maker, part: str, images: np.ndarray) -> None:
    """Write images (N, 137, 236) uint8 in two files, one row each. Raises InputError without pyarrow."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise InputError("bengaliai_cv19: pyarrow is not installed; pip install -r requirements-parquet.txt") from error
    maker.folder.mkdir(parents=True, exist_ok=True)
    pixels = images.reshape(len(images), -1)
    for number, rows in enumerate(np.array_split(np.arange(len(images)), 2)):
        names = pyarrow.array([f"{part.title()}_{row}" for row in rows])
        columns = [names, *(pyarrow.array(column) for column in pixels[rows].T)]
        table = pyarrow.Table.from_arrays(columns, ["image_id", *map(str, range(pixels.shape[1]))])
        path = maker.folder / f"{part}_image_data_{number}.parquet"
        pyarrow.parquet.write_table(table, path, use_dictionary=False)


def siim_isic_melanoma(maker: Maker) -> None:
    header = ("image_name", "patient_id", "sex", "age_approx", "anatom_site_general_challenge")
    names = maker.names(maker.num_train + maker.num_test, 7, string.digits, "ISIC_{}")
    targets, rows = [int(row % 8 == 3) for row in range(len(names))], []
    for row, name in enumerate(names):
        part = "train" if row < maker.num_train else "test"
        maker.save(f"jpeg/{part}/{name}.jpg", maker.draw([3 + targets[row]], (32, 44)))
        rows.append((name, f"IP_{1000000 + row // 3}", "female", "" if row % 9 == 0 else 45, "torso"))
    known = ((*row, "melanoma", "malignant", 1) if target else (*row, "unknown", "benign", 0)
             for row, target in zip(rows[: maker.num_train], targets, strict=False))  # fmt: skip
    maker.table("train.csv", (*header, "diagnosis", "benign_malignant", "target"), known)
    maker.table("test.csv", header, rows[maker.num_train :])
    maker.table("sample_submission.csv", ("image_name", "target"), ((name, 0) for name in names[maker.num_train :]))


def humpback_whale(maker: Maker) -> None:
    whales = (*maker.names(6, 7, HEX, "w_{}"), "new_whale", "new_whale", "new_whale")
    names = maker.names(maker.num_train + maker.num_test, 8, HEX, "{}.jpg")
    train, test = names[: maker.num_train], names[maker.num_train :]
    labels = maker.classes(maker.num_train, len(whales))
    for name, label in zip(train, labels, strict=True):
        maker.save(f"train/{name}", maker.draw([label], (32, 64)))
    for name, label in zip(test, maker.classes(maker.num_test, len(whales)), strict=True):
        maker.save(f"test/{name}", maker.draw([label], (32, 64)))
    maker.table("train.csv", ("Image", "Id"), zip(train, (whales[label] for label in labels), strict=True))
    guess = " ".join(["new_whale", *whales[:4]])
    maker.table("sample_submission.csv", ("Image", "Id"), ((name, guess) for name in test))


def state_farm(maker: Maker) -> None:
    names = maker.names(maker.num_train + maker.num_test, 6, string.digits, "img_{}.jpg")
    rows = []
    for row, name in enumerate(names):
        if row < maker.num_train:
            rows.append((f"p{row // 10 % 5:03d}", f"c{row % 10}", name))
            maker.save(f"imgs/train/c{row % 10}/{name}", maker.draw([row % 10], (30, 40)))
        else:
            maker.save(f"imgs/test/{name}", maker.draw([row % 10], (30, 40)))
    maker.table("driver_imgs_list.csv", ("subject", "classname", "img"), rows)
    header = ("img", *(f"c{number}" for number in range(10)))
    maker.table("sample_submission.csv", header, ((name, *[0.1] * 10) for name in names[maker.num_train :]))


def captcha(maker: Maker) -> None:
    texts = maker.names(maker.num_train + maker.num_test, 5, CODE)
    for row, text in enumerate(texts):
        image = maker.draw([], (32, 96))
        for place, character in enumerate(text):
            origin = (3 + 18 * place, 22 + int(maker.random.integers(0, 6)))
            cv2.putText(image, character, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.8, (235, 235, 235), 2, cv2.LINE_AA)
        maker.save(f"samples/{text}.png" if row < maker.num_train else f"test/{row - maker.num_train}.png", image)
    maker.table("sample_submission.csv", ("id", "text"), ((number, "00000") for number in range(maker.num_test)))


MAKERS = {
    maker.__name__: maker
    for maker in (
        dog_breed_identification, cassava_leaf_disease, aptos2019, plant_pathology_2020, human_protein_atlas,
        bengaliai_cv19, siim_isic_melanoma, humpback_whale, state_farm, captcha,
    )
}  # fmt: skip


def main(config: MakeDataConfig) -> None:
    """Write one example's files, or those of all. Raises InputError for an unknown name, or a folder with files."""
    check_range("num-train", config.num_train, 20)
    check_range("num-test", config.num_test, 1)
    names = list(MAKERS) if config.name == "all" else [config.name]
    for name in names:
        if name not in MAKERS:
            raise InputError(f"{name}: no such example; {nearest(name, [*MAKERS, 'all'])}")
        folder = config.folder if config.folder and config.name != "all" else (config.folder or Path("input")) / name
        if folder.is_dir() and any(folder.iterdir()):
            if config.name == "all":
                print(f"{folder}: there are files already")
                continue
            raise InputError(f"{folder}: there are files already; remove them, or give another --folder")
        MAKERS[name](Maker(folder, config.num_train, config.num_test))
        print(f"{config.num_train} training and {config.num_test} test images in {folder}")


if __name__ == "__main__":
    cli.run(main, MakeDataConfig, __doc__)
