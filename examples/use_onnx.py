"""Answer images with a file that src.export wrote; needs only onnxruntime, opencv and numpy.

python examples/use_onnx.py runs/demo/baseline/export/model.onnx input/demo/mchar_test_a/*.png
"""

import json
import sys

import cv2
import numpy as np
import onnxruntime


def resized(image: np.ndarray, size: list[int]) -> np.ndarray:
    """Stretch an image to height and width, as Podium's prepare does."""
    across, down = image.shape[1] > 2 * size[1], image.shape[0] > 2 * size[0]
    if (down and size[1] > image.shape[1]) or (across and size[0] > image.shape[0]):  # or opencv skips pixels
        image = resized(image, [size[0], image.shape[1]] if down else [image.shape[0], size[1]])
    shrinks = image.shape[0] * image.shape[1] > size[0] * size[1]
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


session = onnxruntime.InferenceSession(sys.argv[1])
facts = json.loads(session.get_modelmeta().custom_metadata_map["podium"])
if facts["fit"] != "stretch" or facts["bands"]:
    sys.exit(f"{sys.argv[1]}: takes images by --resize {facts['fit']}, bands={facts['bands']}; this example only "
             "stretches RGB images, see `fitted` in src/data/images.py and src/data/bands.py")  # fmt: skip
for path in sys.argv[2:]:
    image = cv2.imread(path, cv2.IMREAD_COLOR_RGB)
    if image is None:
        sys.exit(f"{path}: not an image")
    for size in facts["sizes"]:
        image = resized(image, size)
    for head, values in zip(facts["heads"], session.run(None, {"images": image[None]}), strict=True):
        above = [f"above {text}" for text in head["classes"]]
        names = {"number": ["value"], "ordinal": above}.get(head["kind"], head["classes"])
        likeliest = np.argsort(-values[0])[:3]
        shown = ", ".join(f"{names[i] or 'none'} {values[0, i]:.3f}" for i in likeliest)
        print(f"{path} {head['name']}: {shown}")
