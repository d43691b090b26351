"""Blur, noise and JPEG artefacts, from albumentations."""

import os
import threading
from typing import Any

import numpy as np

_own = threading.local()  # albumentations keeps its random generator in the object, so each thread needs one


def _make_effects() -> Any:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would look up its newest version on the network
    import albumentations

    return albumentations.Compose(
        [
            albumentations.OneOf(
                [
                    albumentations.GaussianBlur(blur_limit=(3, 5)),
                    albumentations.MotionBlur(blur_limit=(3, 5)),
                    albumentations.GaussNoise(std_range=(0.02, 0.08)),
                    albumentations.ImageCompression(quality_range=(40, 90)),
                ],
                p=1.0,
            )
        ]
    )


def apply_effects(image: np.ndarray, seed: int) -> np.ndarray:
    """Return a blurred, noisy or JPEG-compressed copy of an (H, W, 3) uint8 image; the seed alone decides which."""
    if not hasattr(_own, "effects"):
        _own.effects = _make_effects()
    _own.effects.set_random_seed(seed)
    changed: np.ndarray = _own.effects(image=image)["image"]
    return changed
