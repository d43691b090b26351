"""Which of timm's options a reference net takes."""

from typing import Any

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
