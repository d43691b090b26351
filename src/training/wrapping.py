"""What surrounds a network while it is trained: auxiliary heads, or layers of a loss without labels."""

from torch import nn

from src.competitions.spec import Competition
from src.config import TrainConfig
from src.models.network import Network, Wrapper
from src.training.auxiliary_heads import WithAuxiliaryHeads, auxiliary_flags
from src.training.pretraining import LAYERS


def wrap(
    network: Network, config: TrainConfig, competition: Competition, image_size: tuple[int, int]
) -> Network | Wrapper:
    """Return what is trained: the network, or what surrounds it. Raises InputError if the network does not suit."""
    if config.loss in LAYERS:
        return LAYERS[config.loss](network, image_size)
    return WithAuxiliaryHeads(network, config, len(competition.heads)) if auxiliary_flags(config) else network


def unwrapped(trained: nn.Module) -> nn.Module:
    """Return the network without what surrounds it."""
    return trained.network if isinstance(trained, Wrapper) else trained
