"""Print what a network costs: parameters, multiply-adds, memory, and a table of its layers with shapes.

    python -m src.summary --backbone nin --competition fashion_mnist --image-size 224 224
    python -m src.summary --backbone resnet18 --num-outputs 66

Needs no data and no weights; writes nothing.
"""

from src.competitions.spec import load_competition
from src.config import SummaryConfig, check_range
from src.core import cli
from src.core.errors import InputError
from src.models.build import build_model, read_options
from src.models.heads import num_classes_per_head
from src.models.summary import Summary, summarise


def main(config: SummaryConfig) -> Summary:
    """Print the summary. Raises InputError for a network or size that cannot be."""
    competition = load_competition(config.competition)
    check_range("num-outputs", config.num_outputs, 1)
    num_outputs = config.num_outputs or sum(num_classes_per_head(competition.heads))
    if not num_outputs:
        raise InputError(f"{config.competition}: its classes are known from its data only; give --num-outputs")
    size, channels = config.image_size or competition.image_size, competition.channels
    check_range("image-size", min(size), 1)
    model = build_model(config.backbone, num_outputs, size, channels, read_options(config.backbone_options))
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
