"""What the reference nets share: which of timm's options they take, batch norm as a switch, the smallest image."""

from typing import Any

from torch import nn

# What timm passes to every network; one that has no such part may pass over it.
COMMON = frozenset(
    {"num_classes", "in_chans", "img_size", "drop_rate", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"}
)


def own_options(options: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return the options called `names`. Raises TypeError, as a function would, for one that no network has to take."""
    unknown = set(options) - COMMON - set(names)
    if unknown:
        raise TypeError(f"unexpected option {sorted(unknown)[0]!r}")
    return {name: options[name] for name in names if name in options}


def norm(channels: int, batch_norm: bool) -> nn.Module:
    """Return a batch norm, or nothing where a net is built without."""
    return nn.BatchNorm2d(channels) if batch_norm else nn.Identity()


def check_size(net: str, size: tuple[int, int], smallest: int) -> tuple[int, int]:
    """Return (height, width) in pixels. Raises ValueError where the net would shrink them to nothing."""
    if min(size) < smallest:
        raise ValueError(f"{net} needs images of at least {smallest}x{smallest} pixels, not {size[0]}x{size[1]}")
    return size
