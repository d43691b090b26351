"""`--competition NAME:instances`: every labelled and every test image of NAME is its own class.

Self-supervised pretraining: the network learns to recognise each image under random crops and colour changes.
Training with labels can then start from its weights (`train --weights`). No label is used, so the network cannot learn
the answers of images that a fold holds out. It does see the test images: check that the rules allow it.
On food-11 it did not help by itself (docs/what-helps.md). With `--loss contrastive` an image is compared with those of
its batch alone, instead of with all others; `--loss simsiam`, `byol`, `rotation` and `masked` do not ask which image it
is.

Sources: Dosovitskiy et al., Discriminative Unsupervised Feature Learning with Exemplar CNNs, 2014; Cao, Yu and Wu,
Training Vision Transformers with Only 2040 Images, 2022 (the same with CutMix and label smoothing, for few images).
"""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from src.competitions.spec import Competition, Head
from src.core.reading import InputFiles


def read_train(files: InputFiles, original: Competition) -> pd.DataFrame:
    """Return the label table: image_path and instance, a number, of each image once. Raises InputError."""
    tables = original.read_train(files), original.read_test(files)
    paths = np.unique(np.concatenate([table["image_path"].to_numpy(dtype=object) for table in tables]))
    return pd.DataFrame({"image_path": paths, "instance": np.arange(len(paths))})


def read_heads(files: InputFiles, original: Competition) -> tuple[Head, ...]:
    """Return one head with a class for each image. Raises InputError."""
    return (Head(name="instance", classes=tuple(map(str, range(len(read_train(files, original)))))),)


def instances_of(original: Competition) -> Competition:
    """Return the competition in which every image of another one is its own class."""
    return replace(
        original,
        name=f"{original.name}_instances",
        folder=original.input_folder,
        heads=(),
        read_heads=partial(read_heads, original=original),
        read_train=partial(read_train, original=original),
        columns=("id", "instance"),
        answer="text",
        num_answers=1,
        none_class="",
        combine="mean",
        metric="accuracy",
        head_weights=(),
        pad_class=None,
        class_names=(),
        moves_ok=True,
        follow=None,
        pretext=True,
    )
