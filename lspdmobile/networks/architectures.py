"""Every architecture a checkpoint can name: its configuration, what ships of it and what trains.

The registry is one typed dictionary; the name is written into checkpoints and stays what it is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from torch import nn

from lspdmobile.errors import BadInputError
from lspdmobile.networks.config import NetworkConfig
from lspdmobile.networks.hourglass import StackedHourglass
from lspdmobile.networks.hrnet import HrNet, HrNetConfig
from lspdmobile.networks.ldcrn import Ldcrn, LdcrnConfig
from lspdmobile.networks.lspd import LspdConfig, LspdStudent
from lspdmobile.networks.mobile_pose import MobilePose
from lspdmobile.networks.okdhp import OkdhpConfig, OkdhpMobilePoseConfig

__all__ = ["ARCHITECTURES", "Architecture", "architecture_named", "architecture_of", "deployed_network"]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One kind of network.

    Attributes:
        config: Class of its configurations.
        deployed: Builds what ships from a configuration: ``[N, 3, H, W]`` to heatmaps ``[N, K, h, w]``.
    """

    config: type[NetworkConfig]
    deployed: Callable[[Any], nn.Module]


ARCHITECTURES: Final[Mapping[str, Architecture]] = {
    "lspd": Architecture(config=LspdConfig, deployed=LspdStudent),
    "okdhp": Architecture(config=OkdhpConfig, deployed=StackedHourglass),
    "okdhp-mobile": Architecture(config=OkdhpMobilePoseConfig, deployed=MobilePose),
    "ldcrn": Architecture(config=LdcrnConfig, deployed=Ldcrn),
    "hrnet": Architecture(config=HrNetConfig, deployed=HrNet),
}


def architecture_named(name: str) -> Architecture:
    """Look an architecture up by the name a checkpoint gives.

    Raises:
        BadInputError: This version knows no such architecture.
    """
    if name not in ARCHITECTURES:
        message = f"unknown architecture {name!r}: this version reads {', '.join(ARCHITECTURES)}"
        raise BadInputError(message)
    return ARCHITECTURES[name]


def architecture_of(config: NetworkConfig) -> str:
    """Give the name of the architecture a configuration shapes."""
    return next(name for name, found in ARCHITECTURES.items() if found.config is type(config))


def deployed_network(config: NetworkConfig) -> nn.Module:
    """Build what ships, untrained and in eval mode."""
    return ARCHITECTURES[architecture_of(config)].deployed(config).eval()
