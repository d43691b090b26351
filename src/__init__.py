"""Podium: from an image competition's downloaded files to a submission that can be trusted and rebuilt.

input/<competition>/                      what the organiser ships; never written to
    -> python -m src.prepare              labels, checks, folds, decoded cache in runs/<competition>/prepared/
    -> python -m src.train --fold all     one network per fold in runs/<competition>/<run>/fold<k>/
    -> python -m src.evaluate             the out-of-fold score and where it errs
    -> python -m src.predict              folds x views, decoded, validated: submissions/<competition>/<run>.csv
    -> python -m src.blend                several runs, weighted on their out-of-fold predictions
"""

import sys
from importlib.util import find_spec

__version__ = "0.1.0"

NEEDED = (
    "albumentations", "cv2", "numpy", "pandas", "PIL", "safetensors", "sklearn", "timm", "torch", "torchvision",
    "tqdm", "tyro",
)  # fmt: skip

if sys.argv[:1] == ["-m"]:  # a command begins: say what is missing, before an import fails
    if sys.version_info < (3, 11):  # noqa: UP036
        print(f"error: {sys.executable} is Python {sys.version.split()[0]}: 3.11 or newer is needed", file=sys.stderr)
        sys.exit(2)
    absent = [name for name in NEEDED if not find_spec(name)]
    if absent:
        print(
            f"error: {sys.executable} lacks {', '.join(absent)}; run '{sys.executable} -m pip install -r "
            "requirements.txt', or activate the environment that has them (source .venv/bin/activate)",
            file=sys.stderr,
        )
        sys.exit(2)
