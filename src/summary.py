"""Print what a network costs: parameters, multiply-adds, memory, and a table of its layers with shapes.

    python -m src.summary --backbone nin --competition fashion_mnist --image-size 224 224
    python -m src.summary --backbone resnet18 --num-outputs 66

Needs no data and no weights, unless the classes are only known from the data: then prepare first. Writes nothing.
"""

from typing import TYPE_CHECKING

from src.config import SummaryConfig
from src.core import cli
from src.core.flags import check_range

if TYPE_CHECKING:
    from src.models.summary import Summary


def main(config: SummaryConfig) -> "Summary":
    """Print the summary. Raises InputError for an unknown network or a size that it cannot take."""
    from src.competitions.layout import HeadLayout
    from src.data.prepared import known_competition
    from src.models.build import build_model, read_options
    from src.models.summary import summarise

    check_range("num-outputs", config.num_outputs, 1)
    competition = known_competition(config, or_else="give --num-outputs" if config.num_outputs is None else None)
    layout = HeadLayout((config.num_outputs,)) if config.num_outputs else competition.layout
    num_outputs = layout.num_outputs
    size, channels = config.image_size or competition.image_size, competition.channels
    check_range("image-size", min(size), 1)
    model = build_model(config.backbone, layout, size, channels, read_options(config.backbone_options))
    summary = summarise(model, size, channels)
    counts = dict.fromkeys(summary.layers.columns[3:], "{:,}".format)
    print(summary.layers.to_string(index=False, formatters=counts))
    print(f"{config.backbone}: {channels}x{size[0]}x{size[1]} images to {num_outputs} outputs")
    print(f"parameters {summary.parameters:,} ({4 * summary.parameters / 2**20:.1f} MiB in fp32)")
    print(f"multiply-adds {summary.multiply_adds:,} an image forward, about three times that in training")
    print(f"activations {summary.activation_bytes / 2**20:.2f} MiB an image kept for backward in fp32")
    return summary


if __name__ == "__main__":
    cli.run(main, SummaryConfig, __doc__)
