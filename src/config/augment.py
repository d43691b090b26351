"""Flags of augmentation."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Strengths of the random changes; 0 is off. Those of one image are entries of src/data/augmentations.py."""

    rotate: float = 10.0
    """Degrees, either way."""
    zoom: float = 0.15
    """Share of the size, in or out."""
    stretch: float = 0.0
    """Share by which the aspect ratio changes, either way."""
    shear: float = 0.0
    """Degrees, either way."""
    shift: float = 0.06
    """Share of height and width, either way."""
    hflip: float | None = None
    """Probability of a horizontal flip; default: 0.5 if the competition allows it, else 0. With 0.5 an image is flipped
    in every second epoch, half of the images in the even ones."""
    saturation: float = 0.3
    """Share, either way."""
    contrast: float = 0.2
    """Share, either way."""
    brightness: float = 0.15
    """Share of 255 that is added, either way."""
    tint: float = 0.05
    """Share of 255 that is added to each channel independently, either way."""
    invert: float = 0.0
    """Probability of the negative."""
    erase: float = 0.0
    """Probability that a rectangle of 2-20% of the image is painted over."""
    effects: float = 0.0
    """Probability of blur, noise or JPEG artefacts (albumentations, CPU only)."""
    crop: float = 0.0
    """Smallest share of its area that a random crop keeps, whose aspect ratio is up to 4/3 wider or narrower (random
    resized crop); 0 is off."""
    text_crop: float = 0.0
    """Probability that only a random part of the image is shown, around all characters; for competitions whose labels
    have boxes."""
    concat: float | None = None
    """Probability that another string is placed to the right of this one, if both fit; default: 0.4 for strings, else
    0."""

    recombine: float = 0.0
    """Probability that the characters of a string are replaced by those of other images, cut out along their boxes;
    for competitions whose labels have boxes."""

    def changes_pixels(self) -> bool:
        """Return whether anything but concatenation and recombination is on."""
        return any(value for name, value in vars(self).items() if name not in ("concat", "recombine"))


NO_AUGMENT = Augment(
    rotate=0, zoom=0, shift=0, brightness=0, contrast=0, saturation=0, tint=0, hflip=0.0, concat=0.0
)  # fmt: skip
