"""Batches that never leave the GPU: all images are kept there, and a batch is augmented there in one go.

The policy and the draws are the loader's (`augmentations.draw_params`), so both change an image in the same way, except
for rounding and for how a concatenated string is shrunk (four samples across instead of the mean of an area). The CPU
draws some 20 numbers an image and never touches a pixel.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from src.data.augmentations import PIXEL_CHANGES
from src.data.loader import Batch, Loader
from src.data.sharded import ShardedImages

CHUNK = 4096  # images copied at a time
SAMPLES = 4  # across, for one pixel of a shrunk string


def fits(num_bytes: int, device: torch.device) -> bool:
    """Return whether this many bytes leave half of the GPU's free memory to the training."""
    if device.type != "cuda":
        return True
    torch.cuda.empty_cache()  # what the previous fold left behind is free too
    return 2 * num_bytes <= torch.cuda.mem_get_info(device)[0]


def augment_on_device(
    images: torch.Tensor, matrices: torch.Tensor, colours: torch.Tensor, pixels: dict[str, torch.Tensor], reflect: bool
) -> torch.Tensor:
    """Return changed (B, H, W, C) images; the other arguments are those of `AugmentParams`, as float32."""
    _, height, width, _ = images.shape
    rows = torch.arange(height, device=images.device, dtype=torch.float32)
    columns = torch.arange(width, device=images.device, dtype=torch.float32)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)], dim=-1)  # (H, W, 3)
    sources = torch.einsum("hwk,bck->bhwc", points, matrices)  # (B, H, W, 2), in pixels
    # From -1 to 1; a tensor made of these two numbers would make the CPU wait for the GPU.
    scaled = [sources[..., i] * (2 / max(1, side - 1)) - 1 for i, side in enumerate((width, height))]
    warped = functional.grid_sample(
        images.permute(0, 3, 1, 2).float(),
        torch.stack(scaled, dim=-1),
        padding_mode="reflection" if reflect else "border",
        align_corners=True,
    ).round()  # (B, C, H, W)
    if images.dtype == torch.uint8 and images.shape[3] == 3:
        coloured = torch.einsum("bck,bkhw->bchw", colours[:, :, :3], warped) + colours[:, :, 3, None, None]
    else:  # bands, each alike; in full precision, which a matrix product on a GPU may lack
        contrast, added = colours[:, 0, 0, None, None, None], colours[:, 0, 3, None, None, None]
        coloured = warped * contrast + added
    out = coloured.round().clamp(0, torch.iinfo(images.dtype).max)
    for name, numbers in pixels.items():
        change = PIXEL_CHANGES[name].on_batch
        assert change, f"{name} runs on the CPU only"
        out = change(out, numbers, y, x)
    return out.to(images.dtype).permute(0, 2, 3, 1).contiguous()


def warp_on_device(images: torch.Tensor, matrix: np.ndarray, reflect: bool) -> torch.Tensor:
    """Return (B, H, W, C) images all warped by one view's matrix, on their device."""
    count, device = len(images), images.device
    matrices = torch.from_numpy(matrix).to(device, torch.float32).expand(count, 2, 3)
    colours = torch.eye(3, 4, device=device).expand(count, 3, 4)
    return augment_on_device(images, matrices, colours, {}, reflect)


def resize_on_device(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Return (B, H, W, C) images at another size, on their device."""
    shrinks = size[0] * size[1] < images.shape[1] * images.shape[2]
    how = {"mode": "area"} if shrinks else {"mode": "bilinear", "align_corners": False}
    resized = functional.interpolate(images.permute(0, 3, 1, 2).float(), size=size, **how)
    return resized.round().clamp(0, torch.iinfo(images.dtype).max).to(images.dtype).permute(0, 2, 3, 1)


def concat_side_by_side(images: torch.Tensor, others: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Return `images` shrunk into their left `kept` (B,) columns, with `others` in the rest; (B, H, W, C)."""
    width = images.shape[2]
    columns = torch.arange(width, device=images.device, dtype=torch.float32)
    within = (torch.arange(SAMPLES, device=images.device) + 0.5) / SAMPLES  # positions within a pixel

    def shrunk(source: torch.Tensor, start: torch.Tensor, room: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(source.shape, device=source.device)
        for part in within:
            at = (columns[None] - start[:, None] + part) * width / room.clamp(min=1)[:, None] - 0.5  # (B, W)
            low = at.floor().clamp(0, width - 1)
            share = (at - low).clamp(0, 1)[:, None, :, None]
            first, second = (
                source.gather(2, column.long()[:, None, :, None].expand(source.shape)).float()
                for column in (low, (low + 1).clamp(max=width - 1))
            )
            total += first * (1 - share) + second * share
        return (total / SAMPLES).round()

    left = shrunk(images, torch.zeros_like(kept), kept)
    right = shrunk(others, kept, width - kept)
    at_left = columns[None] < kept[:, None]  # (B, W)
    joined = torch.where(at_left[:, None, :, None], left, right).to(images.dtype)
    return torch.where((kept < width)[:, None, None, None], joined, images)


@dataclass(frozen=True, kw_only=True)
class DeviceLoader:
    """Serves what `loader` would, from images on the device, in the order of `loader.rows`.

    They are held as bytes, (M, H, W, C * bytes of a number): torch can pick and send no uint16 everywhere.
    """

    loader: Loader
    images: torch.Tensor | ShardedImages
    device: torch.device
    change: Callable[..., torch.Tensor]  # augment_on_device, perhaps compiled

    @property
    def batch_size(self) -> int:
        return self.loader.batch_size

    @property
    def num_images(self) -> int:
        return self.loader.num_images

    def __len__(self) -> int:
        return len(self.loader)

    @property
    def dtype(self) -> torch.dtype:
        """Of the images."""
        return torch.uint8 if self.loader.images.dtype == np.uint8 else torch.uint16

    def _put(self, array: np.ndarray, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device, dtype, non_blocking=True)

    def _gather(self, whole: np.ndarray, size: tuple[int, int], partners_in: int | None = None) -> torch.Tensor:
        """Return the images of this rank's part of a batch, or their partners in an epoch, at a size."""

        def positions(rank: int) -> np.ndarray:
            own = self.loader.own(whole, rank)
            return own if partners_in is None else self.loader.concatenated(own, partners_in)[0]

        world = self.loader.world
        if isinstance(self.images, ShardedImages):
            picked = self.images.pick([positions(rank) for rank in range(world.size)])
        else:
            picked = self.images[self._put(positions(world.rank), torch.int64)]
        picked = picked.view(self.dtype)
        if tuple(picked.shape[1:3]) == size:
            return picked
        return resize_on_device(picked, size)

    def _batch(self, whole: np.ndarray, first: int, epoch: int) -> Batch:
        loader, positions = self.loader, self.loader.own(whole)
        size, rows, target = loader.size_at(epoch), loader.rows[positions], loader.targets[positions]
        images, beside, joined = self._gather(whole, size), None, None
        if loader.concatenates:
            partners, kept, target = loader.concatenated(positions, epoch)
            joined = kept < size[1]
            beside = np.where(joined, partners, positions)
            others = self._gather(whole, size, epoch)
            if self.dtype != torch.uint8:  # of which torch can do less
                images, others = images.int(), others.int()
            images = concat_side_by_side(images, others, self._put(kept)).to(self.dtype)
        boxes = loader.boxes_of(positions, joined)
        if loader.policy and loader.policy.changes_pixels():
            params = loader.params_of(whole, first, epoch, boxes)
            matrices, colours = self._put(params.matrices), self._put(params.colours)
            pixels = {name: self._put(numbers) for name, numbers in params.pixels.items()}
            images = self.change(images, matrices, colours, pixels, loader.hflip_ok)
            target = loader.followed(target, params, size)
            boxes = loader.moved_boxes(boxes, params, size)
        batch: Batch = {
            "index": torch.from_numpy(rows),
            "image": images,
            "target": self._put(target, torch.from_numpy(target).dtype),
            "count": len(whole),
        }
        if loader.weights:
            batch["weight"] = self._put(loader.weights.of(positions, target, beside))
        if loader.serves_boxes and boxes is not None:
            batch["boxes"] = self._put(boxes)
        return batch

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the epoch's batches, all or those from number `start`."""
        order = self.loader.order(epoch)
        for first in range(start * self.batch_size, len(self) * self.batch_size, self.batch_size):
            yield self._batch(order[first : first + self.batch_size], first, epoch)


def on_device(loader: Loader, device: torch.device, compiled: bool, *, sharded: bool = False) -> DeviceLoader:
    """Copy the loader's images to the device, all or only this rank's part; return a loader that serves them there."""
    rows = loader.rows[loader.world.rank :: loader.world.size] if sharded else loader.rows
    _, height, width, channels = loader.images.shape
    room = (len(rows), height, width, channels * loader.images.dtype.itemsize)
    images = torch.empty(room, dtype=torch.uint8, device=device)
    for start in range(0, len(rows), CHUNK):
        images[start : start + CHUNK] = torch.from_numpy(loader.images[rows[start : start + CHUNK]].view(np.uint8)).to(
            device
        )
    change = torch.compile(augment_on_device) if compiled and loader.progressive_resize == 1 else augment_on_device
    held = ShardedImages(images, loader.world) if sharded else images
    return DeviceLoader(loader=loader, images=held, device=device, change=change)
