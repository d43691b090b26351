"""Shared by the reference nets: handling of timm's options, optional batch norm, the minimum image size."""

from typing import Any

from torch import nn

# Options that timm passes to every network; a network without that part ignores them.
COMMON = frozenset(
    {"num_classes", "in_chans", "img_size", "drop_rate", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"}
)


def own_options(options: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return the options in `names`. Raises TypeError, like a function call, for one that is not in COMMON either."""
    unknown = set(options) - COMMON - set(names)
    if unknown:
        raise TypeError(f"unexpected option {sorted(unknown)[0]!r}")
    return {name: options[name] for name in names if name in options}


def norm(channels: int, batch_norm: bool) -> nn.Module:
    """Return a batch norm, or the identity if the net is built without."""
    return nn.BatchNorm2d(channels) if batch_norm else nn.Identity()


def check_size(net: str, size: tuple[int, int], smallest: int) -> tuple[int, int]:
    """Return `size` (height, width) in pixels. Raises ValueError if it is too small for the net."""
    if min(size) < smallest:
        raise ValueError(f"{net} needs images of at least {smallest}x{smallest} pixels, not {size[0]}x{size[1]}")
    return size
