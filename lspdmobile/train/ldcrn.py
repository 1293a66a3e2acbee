"""LDCRN's recipe: the whole network trained on its targets and shipped as it is.

The paper distils nothing. Offline teachers (``[offline]``) and the network's own average (``distill.teacher =
"average"``, a mean teacher: Tarvainen and Valpola, NeurIPS 2017) can be added.
"""

from collections.abc import Mapping
from typing import Final

from torch import Tensor, nn

from lspdmobile.networks.hrnet import HrNet, HrNetConfig
from lspdmobile.networks.ldcrn import Ldcrn, LdcrnConfig
from lspdmobile.train.config import DistillConfig
from lspdmobile.train.losses import Targets, taught

__all__ = ["CONFIGS", "candidates", "deployed", "loss", "start", "teacher", "training_network"]

CONFIGS: Final = (LdcrnConfig, HrNetConfig)


def training_network(config: LdcrnConfig | HrNetConfig) -> nn.Module:
    """Make the network."""
    return Ldcrn(config) if isinstance(config, LdcrnConfig) else HrNet(config)


def loss(
    outputs: Tensor, targets: Targets, config: DistillConfig, *, ramp: float, averaged: Tensor | None = None
) -> Tensor:
    """Give the error against the targets, and the pull to the averaged network's heatmaps, if they teach.

    Args:
        outputs: Heatmaps ``[N, K, h, w]``.
        targets: Labels and offline teachers.
        config: Kind and weight of the pull.
        ramp: 0..1, how much of the weight applies at this step.
        averaged: What the averaged network gives, if it is the teacher.
    """
    if averaged is None:
        return targets.loss(outputs.float())
    return taught(outputs, averaged, targets, config, ramp=ramp)


def candidates(outputs: Tensor) -> list[Tensor]:
    """Give the only heatmaps."""
    return [outputs]


def teacher(_outputs: Tensor) -> Tensor | None:
    """Give nothing: no other network trains along."""
    return None


def deployed(network: nn.Module, candidate: int) -> nn.Module:
    """Give the network."""
    assert candidate == 0
    return network


def start(network: nn.Module, student: Mapping[str, Tensor]) -> None:
    """Load a student's weights."""
    network.load_state_dict(student)
