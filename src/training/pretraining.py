"""--loss simsiam, byol, rotation and masked: layers with which a network learns from images without labels.

With NAME:instances, as --loss contrastive, which needs no layers of its own. None of them sees a label.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional

from src.competitions.spec import Competition
from src.config import TrainConfig
from src.core.errors import InputError
from src.core.flags import check_apart
from src.models.contract import linear_last_layer
from src.models.network import Network, Wrapper

WIDTH, HIDDEN = 2048, 512  # of SimSiam's projection and predictor
TARGET_DECAY = 0.99  # of the moving average that is BYOL's target network
GRID, MASKED = 8, 0.6  # masked pixels: cells along each side, and the share of them that is hidden


class Siamese(Wrapper):
    """Images (B, H, W, C) to their projections and what is predicted of other views, side by side: (B, 2 * WIDTH).

    Source: Chen and He, Exploring Simple Siamese Representation Learning, 2020, with their layers for CIFAR.
    """

    flag: ClassVar[str] = "--loss simsiam"

    def __init__(self, network: Network, image_size: tuple[int, int]) -> None:
        super().__init__(network)
        width = linear_last_layer(network.backbone, self.flag).in_features
        self.project = nn.Sequential(
            nn.Linear(width, WIDTH, bias=False),
            nn.BatchNorm1d(WIDTH),
            nn.ReLU(inplace=True),
            nn.Linear(WIDTH, WIDTH, bias=False),
            nn.BatchNorm1d(WIDTH, affine=False),
        )
        self.predict = nn.Sequential(
            nn.Linear(WIDTH, HIDDEN, bias=False),
            nn.BatchNorm1d(HIDDEN),
            nn.ReLU(inplace=True),
            nn.Linear(HIDDEN, WIDTH),
        )

    def outputs(self, images: torch.Tensor) -> torch.Tensor:
        projected = self.project(self.network.features(images))
        return torch.cat([projected, self.predict(projected)], dim=1)


class Byol(Siamese):
    """The same, but the projections are a target network's, which is a moving average of the network's weights.

    Source: Grill et al., Bootstrap Your Own Latent, 2020, whose decay rises from 0.996 and whose layers are others.
    """

    flag: ClassVar[str] = "--loss byol"

    def __init__(self, network: Network, image_size: tuple[int, int]) -> None:
        super().__init__(network, image_size)
        self.target, self.target_project = deepcopy(network), deepcopy(self.project)
        self.target.requires_grad_(False)
        self.target_project.requires_grad_(False)

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the target network's weights towards the network's as they are before this step."""
        for moved, learned in ((self.target, self.network), (self.target_project, self.project)):
            for weights, goal in zip(moved.parameters(), learned.parameters(), strict=True):
                weights.lerp_(goal, 1 - TARGET_DECAY)

    def outputs(self, images: torch.Tensor) -> torch.Tensor:
        self._follow()
        with torch.no_grad():
            projected = self.target_project(self.target.features(images))
        return torch.cat([projected, self.predict(self.project(self.network.features(images)))], dim=1)


class Rotation(Wrapper):
    """Images (B, H, W, C), each turned by a multiple of 90 degrees, to the cross-entropy of the turn: (B, 1).

    Raises InputError for images that are not square. Source: Gidaris, Singh and Komodakis, Unsupervised Representation
    Learning by Predicting Image Rotations, 2018, who show all four turns of an image at once; here one is drawn.
    """

    def __init__(self, network: Network, image_size: tuple[int, int]) -> None:
        super().__init__(network)
        if image_size[0] != image_size[1]:
            size = "x".join(map(str, image_size))
            raise InputError(f"--loss rotation: needs square images, not {size}; give --image-size, such as 64 64")
        self.head = nn.Linear(linear_last_layer(network.backbone, "--loss rotation").in_features, 4)

    def outputs(self, images: torch.Tensor) -> torch.Tensor:
        pixels = self.network.normalise(images)  # (B, C, H, W)
        turns = torch.empty(len(pixels), dtype=torch.int64, device=pixels.device).random_(4)
        of_image = turns[:, None, None, None]
        pixels = torch.where(of_image % 2 == 1, pixels.rot90(1, (2, 3)), pixels)
        pixels = torch.where(of_image >= 2, pixels.flip((2, 3)), pixels)
        logits = self.head(self.network.features_of(pixels))
        return functional.cross_entropy(logits.float(), turns, reduction="none")[:, None]


class MaskedPixels(Wrapper):
    """Images (B, H, W, C) to the mean absolute error of the normalised pixels that were hidden and predicted: (B, 1).

    Of GRID x GRID cells the share MASKED is set to 0. Raises InputError if the network has no map of features.
    Source: Xie et al., SimMIM: a Simple Framework for Masked Image Modeling, 2021, where one layer predicts all pixels.
    """

    def __init__(self, network: Network, image_size: tuple[int, int]) -> None:
        super().__init__(network)
        if not hasattr(network.backbone, "forward_features"):
            raise InputError(f"--loss masked: {type(network.backbone).__name__} has no forward_features")
        shape = self._map_shape(image_size)
        self.stride = max(-(-size // cells) for size, cells in zip(image_size, shape[1:], strict=True))
        self.predict = nn.Conv2d(shape[0], network.normalise.channels * self.stride**2, 1)

    def _features(self, pixels: torch.Tensor) -> torch.Tensor:
        backbone: Any = self.network.backbone
        features: torch.Tensor = backbone.forward_features(pixels)  # (B, D, h, w)
        return features

    @torch.no_grad()
    def _map_shape(self, image_size: tuple[int, int]) -> tuple[int, int, int]:
        """Return channels, height and width of the last map of features."""
        backbone = self.network.backbone
        was_training = backbone.training
        backbone.eval()
        found = self._features(next(backbone.parameters()).new_zeros(1, self.network.normalise.channels, *image_size))
        backbone.train(was_training)
        if (
            not isinstance(found, torch.Tensor)
            or found.ndim != 4
            or found.shape[1] != getattr(backbone, "num_features", found.shape[1])
        ):
            raise InputError(
                f"--loss masked: {type(backbone).__name__} has no map of features, channels first; choose a "
                "convolutional network"
            )
        return found.shape[1], found.shape[2], found.shape[3]

    def outputs(self, images: torch.Tensor) -> torch.Tensor:
        pixels = self.network.normalise(images)  # (B, C, H, W)
        order = torch.empty(len(pixels), GRID * GRID, device=pixels.device).uniform_().argsort(dim=1)
        cells = (order < round(MASKED * GRID * GRID)).float().view(-1, 1, GRID, GRID)
        hidden = functional.interpolate(cells, size=pixels.shape[2:])  # the nearest cell
        predicted = functional.pixel_shuffle(self.predict(self._features(pixels * (1 - hidden))).float(), self.stride)
        predicted = functional.interpolate(predicted, size=pixels.shape[2:])  # if the stride does not divide the size
        errors = (predicted - pixels).abs().mean(dim=1, keepdim=True)
        return ((errors * hidden).sum(dim=(1, 2, 3)) / hidden.sum(dim=(1, 2, 3)))[:, None]


# The losses of --loss that need layers of their own.
LAYERS: dict[str, Callable[[Network, tuple[int, int]], Wrapper]] = {
    "simsiam": Siamese,
    "byol": Byol,
    "rotation": Rotation,
    "masked": MaskedPixels,
}


def check_pretraining(config: TrainConfig, competition: Competition) -> None:
    """Raise InputError if flags do not go with a loss without labels."""
    flag = f"--loss {config.loss}"
    if not competition.pretext:
        name = config.competition.removesuffix(":boxes")
        raise InputError(f"{flag}: only pretrains; use it with --competition {name}:instances")
    if config.needs_whole_batch:
        if config.aug_repeats < 2:
            raise InputError(f"{flag}: compares copies of an image; give --aug-repeats 2")
        if config.batch_size < 2 * config.aug_repeats:
            raise InputError(
                f"{flag}: a batch of {config.batch_size} has copies of only one image; give a larger --batch-size"
            )
        if config.accumulate > 1:
            raise InputError(f"{flag}: needs a whole batch at once; leave --accumulate out")
    check_apart(flag, config, "mixup", "cutmix", "soft_labels", "freeze_backbone")
    if config.loss != "contrastive":
        check_apart(flag, config, "layer_decay")
    if config.loss == "byol":
        check_apart(flag, config, "sam")  # its second forward pass would move the target network again
