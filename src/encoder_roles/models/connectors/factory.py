"""Builds the connector of the kind that the config names."""

from __future__ import annotations

from collections.abc import Callable

from encoder_roles.models.connector import Connector, Levels
from encoder_roles.models.connectors.aggregator import SpatialVisionAggregator
from encoder_roles.models.connectors.channels import ChannelConcat
from encoder_roles.models.connectors.levels import MultiLevel
from encoder_roles.models.connectors.resampler import Resampler
from encoder_roles.models.connectors.tokens import TokenConcat, TokenInterleave
from encoder_roles.models.connectors.vit import SmallViT
from encoder_roles.study.sections import ConnectorSettings

KINDS: dict[str, Callable[[Levels, ConnectorSettings, int, int], Connector]] = {
    "linear": ChannelConcat,
    "mlp": ChannelConcat,
    "token_concat": TokenConcat,
    "token_interleave": TokenInterleave,
    "multi_level": MultiLevel,
    "resampler": Resampler,
    "sva": SpatialVisionAggregator,
    "vit": SmallViT,
}


def build_connector(levels: Levels, settings: ConnectorSettings, hidden: int, seed: int) -> Connector:
    """A new connector.

    Args:
        levels: encoder -> channels of each of its levels, in pool order.
        settings: its kind and sizes.
        hidden: width H of the language model.
        seed: of the initial weights. They also depend on the shapes and, except for `linear` and `mlp`, on
            the encoders' names.

    Raises:
        StudyError: the sizes do not fit each other.
    """
    return KINDS[settings.kind](levels, settings, hidden, seed)
