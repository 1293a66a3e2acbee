"""LSPD's recipe: the whole chain trained end to end, the first stage pulled to the last, the first stage shipped."""

from collections.abc import Mapping, Sequence
from typing import Final

from torch import Tensor, nn

from lspdmobile.networks.lspd import LspdChain, LspdConfig
from lspdmobile.train.config import DistillConfig
from lspdmobile.train.losses import Targets, taught

__all__ = ["CONFIGS", "candidates", "deployed", "loss", "start", "teacher", "training_network"]

CONFIGS: Final = (LspdConfig,)


def training_network(config: LspdConfig) -> nn.Module:
    """Make the chain."""
    return LspdChain(config)


def loss(
    outputs: Sequence[Tensor],
    targets: Targets,
    config: DistillConfig,
    *,
    ramp: float,
    averaged: Sequence[Tensor] | None = None,
) -> Tensor:
    """Sum the stages' losses; every stage but the last is also pulled to the last one.

    Where the averaged chain teaches, its last stage teaches all stages, the last one included: a chain of one stage
    then learns from its own average.

    Args:
        outputs: Heatmaps ``[N, K, h, w]`` of each stage, first (the student's) to last.
        targets: Labels and offline teachers.
        config: Kind and weight of the pull.
        ramp: 0..1, how much of the weight applies at this step.
        averaged: What the averaged chain gives, if it is the teacher.
    """
    last = outputs[-1] if averaged is None else averaged[-1]
    if averaged is None:
        total = targets.loss(outputs[-1].float())
    else:
        total = taught(outputs[-1], last, targets, config, ramp=ramp)
    for stage in outputs[:-1]:
        total = total + taught(stage, last, targets, config, ramp=ramp)
    return total


def candidates(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Give the first stage's heatmaps, which alone can ship."""
    return [outputs[0]]


def teacher(outputs: Sequence[Tensor]) -> Tensor | None:
    """Give the last stage's heatmaps, where it is not the first."""
    return outputs[-1] if len(outputs) > 1 else None


def deployed(network: nn.Module, candidate: int) -> nn.Module:
    """Give backbone and first stage."""
    assert isinstance(network, LspdChain)
    assert candidate == 0
    return network.student


def start(network: nn.Module, student: Mapping[str, Tensor]) -> None:
    """Load a student's weights as backbone and first stage; later stages stay fresh."""
    assert isinstance(network, LspdChain)
    network.student.load_state_dict(student)
