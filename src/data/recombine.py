"""New strings from old ones: a string's characters are replaced by those of other images, cut out along their boxes.

A few variants of each image are made when a training begins, from its training images alone, and take the image's place
in some epochs. A character keeps its own shape and takes on the position, size, colours and contrast of the one that it
replaces.
"""

from dataclasses import dataclass

import numpy as np

from src.data.boxes import all_boxed
from src.data.images import resize
from src.data.keyed import keyed_uniforms
from src.data.pixels import Images

VARIANTS = 4  # of an image, if they fit into ...
MAX_BYTES = 1 << 30  # ... this memory, at least one
MARGIN = 0.1  # of a box's sides that is cut out around it, and fades
SMALLEST = 3.0  # pixels of a box's sides
CANDIDATES = 4  # characters that are drawn for a position, of which the one of the most similar shape is taken
REPLACED = 0.8  # share of the characters
MOST_CONTRAST = 2.0  # by which a character's contrast is raised


@dataclass(frozen=True, kw_only=True)
class Recombined:
    """New images (V, H, W, C), their targets (V, num_positions), and which of them are variants of each image."""

    images: np.ndarray
    targets: np.ndarray
    of_image: np.ndarray  # (M, K) rows of `images`; -1: the image has none


def _around(box: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of a box with its margin, within an image of (height, width)."""
    left, top, right, bottom = box
    margin_x, margin_y = MARGIN * (right - left), MARGIN * (bottom - top)
    return (
        max(0, int(np.floor(left - margin_x))), max(0, int(np.floor(top - margin_y))),
        min(size[1], int(np.ceil(right + margin_x))), min(size[0], int(np.ceil(bottom + margin_y))),
    )  # fmt: skip


def _fading(height: int, width: int) -> np.ndarray:
    """Return (height, width, 1) in (0, 1]: 1 inside, falling over the margin at each edge."""

    def along(count: int) -> np.ndarray:
        places = np.arange(count) + 0.5
        return np.clip(np.minimum(places, count - places) / max(1.0, MARGIN / (1 + 2 * MARGIN) * count), 0, 1)

    return np.minimum(along(height)[:, None], along(width)[None])[..., None]


def _edge_mean(part: np.ndarray) -> np.ndarray:
    """Return the mean colour (C,) of a part's outermost pixels."""
    edges = [part[0], part[-1], part[:, 0], part[:, -1]]
    return np.concatenate(edges).mean(axis=0)


def _like(part: np.ndarray, host: np.ndarray) -> np.ndarray:
    """Return a cut-out character with the background and the contrast of the part that it replaces; same shapes."""
    part, host = part.astype(np.float64), host.astype(np.float64)
    ground, wanted = _edge_mean(part), _edge_mean(host)
    apart, wanted_apart = part - ground, host - wanted
    factor = min(MOST_CONTRAST, wanted_apart.std() / max(apart.std(), 1.0))
    if apart.mean() * wanted_apart.mean() < 0:  # one is light on dark, the other dark on light
        factor = -factor
    return np.asarray(wanted + factor * apart)


def paste(image: np.ndarray, box: np.ndarray, other: np.ndarray, other_box: np.ndarray) -> None:
    """Replace what is in a box of `image` (H, W, C), in place, by what is in a box of another image."""
    size = (image.shape[0], image.shape[1])
    left, top, right, bottom = _around(box, size)
    x, y, x_end, y_end = _around(other_box, (other.shape[0], other.shape[1]))
    host = image[top:bottom, left:right]
    part = resize(np.ascontiguousarray(other[y:y_end, x:x_end]), (bottom - top, right - left))
    share = _fading(*host.shape[:2])
    mixed = share * _like(part, host) + (1 - share) * host
    host[:] = np.clip(np.rint(mixed), 0, np.iinfo(image.dtype).max)


def recombined(
    images: Images, rows: np.ndarray, targets: np.ndarray, boxes: np.ndarray, pad_class: int, seed: int
) -> Recombined:
    """Return variants of the images at `rows` (M,), whose targets are (M, num_positions).

    boxes (M, num_positions, 4) are left, top, right and bottom in pixels of `images`, NaN where there are none.
    """
    usable = np.flatnonzero(all_boxed(targets != pad_class, boxes, SMALLEST))
    of_image = np.full((len(rows), 1), -1)
    if len(usable) < 2:
        return Recombined(images=np.empty((0, *images.shape[1:]), images.dtype), targets=targets[:0], of_image=of_image)
    picked, labels, usable_boxes = images[rows[usable]], targets[usable], boxes[usable]
    count = max(1, min(VARIANTS, MAX_BYTES // picked.nbytes))
    image, position = np.nonzero(labels != pad_class)  # of each character
    sides = usable_boxes[image, position, 2:] - usable_boxes[image, position, :2]
    shape = np.log(sides[:, 0] / sides[:, 1])
    new, new_labels = np.concatenate([picked] * count), np.concatenate([labels] * count)
    for variant in range(count):
        draws = keyed_uniforms(seed, variant, np.arange(len(image)), CANDIDATES + 1)
        drawn = (draws[:, :CANDIDATES] * len(image)).astype(np.int64)
        best = np.abs(shape[drawn] - shape[:, None]).argmin(axis=1)
        chosen = drawn[np.arange(len(image)), best]
        for at in np.flatnonzero(draws[:, CANDIDATES] < REPLACED):
            row, source = variant * len(usable) + image[at], chosen[at]
            old, cut = ((image[one], position[one]) for one in (at, source))
            paste(new[row], usable_boxes[old], picked[image[source]], usable_boxes[cut])
            new_labels[row, position[at]] = labels[cut]
    of_image = np.full((len(rows), count), -1)
    of_image[usable] = np.arange(count)[None] * len(usable) + np.arange(len(usable))[:, None]
    return Recombined(images=new, targets=new_labels, of_image=of_image)
