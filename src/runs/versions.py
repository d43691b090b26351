"""What a result depends on: the code and the packages."""

import hashlib
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import PIL
import timm
import torch

from src import __version__


@cache
def code_version() -> str:
    """Return the version and a hash of the project's sources, so that any change of code is seen."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parents[1]
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:12]}"


def versions() -> dict[str, str]:
    """Return the versions of the code and of the packages that a result depends on, and the GPU's name."""
    packages = {"torch": torch, "timm": timm, "numpy": np, "opencv": cv2, "pillow": PIL}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    found = {name: str(package.__version__) for name, package in packages.items()}
    found["albumentations"] = version("albumentations")  # importing it would look up its newest version on the network
    return {"podium": code_version(), "python": platform.python_version(), **found, "gpu": gpu}
