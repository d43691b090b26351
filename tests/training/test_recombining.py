"""--augment.recombine from the labels' boxes to a finished training, and what does not go with it."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from src.competitions import svhn
from src.competitions.registry import load_competition
from src.config import Augment, TrainConfig
from src.core.errors import InputError
from src.core.runtime import choose_compute
from src.data.cache import facts_file
from src.training.checks import check_flags
from src.training.loading import make_loader
from src.training.served import Served, boxes_of
from tests.fixtures import MakeSvhn, Podium
from tests.helpers import run_at
from tests.training.test_trainer import stop_after_an_epoch
from tests.world import FLAGS, done, run_command

RECOMBINE = (*FLAGS, "--run-name", "mixed", "--augment.recombine", 0.9)


def test_a_training_sees_recombined_strings_and_resumes_to_the_same_bits(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = done(world, "train", *RECOMBINE)
    assert "variants of " in ended.out
    mixed, plain = (run_at(world / "runs/svhn" / name) for name in ("mixed", "baseline"))
    digests = [[fold.result.weights_sha256 for fold in run.trained() if fold.result] for run in (mixed, plain)]
    assert set(digests[0]).isdisjoint(digests[1])
    assert [fold.record.num_train for fold in mixed.trained()] == [fold.record.num_train for fold in plain.trained()]
    done(world, "evaluate", "--run-name", "mixed")
    flags = (*RECOMBINE[:-4], "--run-name", "again", "--augment.recombine", 0.9)
    with monkeypatch.context() as patch:
        stop_after_an_epoch(patch)
        assert run_command(world, "train", *flags).code == 130
    again = done(world, "train", *flags)
    assert "resum" in again.out
    assert "variants of " in again.out
    same = [fold.result.weights_sha256 for fold in run_at(world / "runs/svhn/again").trained() if fold.result]
    assert same == digests[0]
    with_pseudo = (*RECOMBINE[:-4], "--run-name", "both", "--augment.recombine", 0.9, "--pseudo-labels", "baseline")
    both = done(world, "train", *with_pseudo, "--pseudo-confidence", 0, "--fold", 0)
    assert "pseudo-labels: 3 of 3" in both.out
    assert "variants of " in both.out


def test_boxes_lie_in_the_caches_pixels(world: Path) -> None:
    run = run_at(world / "runs/svhn/baseline")
    cache = run.prepared.cache("train", run.started_record.cache_size)
    boxes = boxes_of("--augment.recombine", run.prepared, cache)
    assert boxes.shape == (len(cache.images), 6, 4)
    there = run.prepared.labels[[head.name for head in run.competition.heads]].to_numpy() != 10
    rows = cache.rows_of(run.prepared.labels["image_path"].tolist())
    np.testing.assert_array_equal(np.isfinite(boxes[rows]).all(axis=2), there)
    height, width = cache.image_size
    assert np.nanmax(boxes[..., 2]) <= width
    assert np.nanmax(boxes[..., 3]) <= height


def test_a_cache_without_sizes_is_made_again_by_prepare(svhn: MakeSvhn, podium: Podium, tmp_path: Path) -> None:
    svhn()
    flags = ("--competition", "svhn", "--num-folds", 2)
    assert podium("prepare", *flags).code == 0
    folder = tmp_path / "runs/svhn"
    cache = next(folder.glob("cache/train_*.json"))
    assert "cache is up to date" in podium("prepare", *flags).out
    file = next(folder.glob(f"cache/{cache.stem}_*.npz"))
    with np.load(file) as columns:
        kept = {name: columns[name] for name in columns.files if name != "shapes"}
    without_sizes(cache, file, kept)
    refused = podium("train", *FLAGS, "--augment.recombine", 0.5)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "prepare has kept no boxes of svhn, or no image sizes" in refused.err
    assert "train: 18 images at 64x128, decoded" in podium("prepare", *flags).out
    assert "cache is up to date" in podium("prepare", *flags).out


def without_sizes(cache: Path, file: Path, kept: dict[str, np.ndarray]) -> None:
    """Write a cache's facts without the sizes, as prepare does for a competition without boxes."""
    from src.core.records import write_record
    from src.core.writing import sha256_of, write_arrays
    from src.data.cache import read_cache_record

    file.unlink()
    write_arrays(file, **kept)
    digest = sha256_of(file)
    file.rename(facts_file(cache.parent, cache.stem, digest))
    write_record(cache, replace(read_cache_record(cache.parent, cache.stem, ""), facts=digest))


@pytest.mark.parametrize(
    ("competition", "values", "message"),
    [
        ("food11", {}, "food11's answers are not strings"),
        ("svhn", {"cache_url": "s3://bucket"}, "cannot be combined with --cache-url"),
        ("svhn", {"freeze_backbone": True}, "cannot be combined with --freeze-backbone"),
    ],
)
@pytest.mark.parametrize("name", ["recombine", "text_crop"])
def test_what_does_not_go_together_is_refused(
    competition: str, values: dict[str, object], message: str, name: str
) -> None:
    augment = Augment(**{name: 0.5})
    config = TrainConfig(competition=competition, augment=augment, **values)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=f"--augment.{name.replace('_', '-')} 0.5: .*{message}"):
        check_flags(config, load_competition(competition))


def test_a_competition_without_boxes_is_told(world: Path) -> None:
    source = (Path(__file__).resolve().parents[2] / "src/competitions/svhn.py").read_text()
    plain = source.replace("return table.assign(split=split)", 'return table.drop(columns="boxes").assign(split=split)')
    assert plain != source
    (world / "plain.py").write_text(plain)
    flags = ("--competition", "plain.py", "--num-folds", 2, "--num-processes", 1)
    done(world, "prepare", *flags)
    for flag in ("--augment.recombine", "--augment.text-crop", "--box-head"):
        new = (*FLAGS[:-4], "--competition", "plain.py", "--run-name", "new", "--backbone", "test_resnet", flag, 0.5)
        refused = run_command(world, "train", *new)
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert f"{flag}: prepare has kept no boxes of svhn" in refused.err


def without_boxes(file: Path) -> None:
    """Empty the boxes of an organiser's file."""
    labels = json.loads(file.read_text())
    for facts in labels.values():
        facts.update({side: [] for side in ("left", "top", "width", "height")})
    file.unlink()  # other tests have the same file
    file.write_text(json.dumps(labels))


def test_boxes_that_are_not_there_are_told(world: Path) -> None:
    """A string is only cropped to, or learned as a place, if each of its characters has a box."""
    prepare = ("prepare", "--competition", "svhn", "--num-folds", 2, "--num-processes", 1)
    without_boxes(next((world / "input").rglob("mchar_train.json")))
    done(world, *prepare)
    some = done(world, "train", *FLAGS, "--run-name", "some", "--augment.text-crop", 0.5, "--fold", 0)
    assert re.search(r"boxes: [1-6] of \d+ training images have one for each character", some.out)
    without_boxes(next((world / "input").rglob("mchar_val.json")))
    done(world, *prepare)
    refused = run_command(world, "train", *FLAGS, "--run-name", "none", "--augment.text-crop", 0.5)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "--augment.text-crop: no training image of svhn has a box for each character" in refused.err


def test_variants_that_do_not_fit_into_memory_are_not_made(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.training.served.memory_limit", lambda: 1000)
    refused = run_command(world, "train", *RECOMBINE)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "images and at least one variant of each must fit into memory" in refused.err
    assert "variants of" not in refused.out


def test_class_weights_count_the_images_and_not_their_variants() -> None:
    competition = replace(svhn.COMPETITION, heads=svhn.DIGITS[:1], pad_class=None)
    targets = np.array([[0]] * 9 + [[1]] + [[1]] * 20)  # the last 20 are variants
    weights = np.array([2.0] * 5 + [1.0] * 5 + [2.0] * 20)
    images = np.zeros((30, 8, 8, 3), np.uint8)
    config = TrainConfig(class_weights=True, augment=Augment(recombine=0.5))
    compute = choose_compute("cpu", "fp32")
    variants = np.arange(10, 30).reshape(10, 2)
    loader, plain = (
        make_loader(config, competition, compute, served, (8, 8), train=True)
        for served in (
            Served(images, np.arange(30), targets, weights=weights, variants=variants),
            Served(images, np.arange(10), targets[:10], weights=weights[:10]),
        )
    )
    assert loader.weights is not None
    assert plain.weights is not None
    np.testing.assert_allclose(
        loader.weights.of(np.arange(10), targets[:10]), plain.weights.of(np.arange(10), targets[:10])
    )
    np.testing.assert_allclose(
        loader.weights.of(np.array([10]), targets[[10]]), 2 * plain.weights.of(np.array([9]), targets[[9]])
    )
