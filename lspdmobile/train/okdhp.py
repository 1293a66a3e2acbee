"""OKDHP's recipe: branches on a shared trunk, all pulled to their weighted ensemble; one branch is shipped.

Where all branches are alike the best one ships, chosen on a fixed part of the train set; where helpers are longer the
target, branch 0, does. A single branch trains on the labels alone: the twin without distillation.
"""

from collections.abc import Mapping
from typing import Final

from torch import Tensor, nn

from lspdmobile.networks.feature_aggregation import BranchOutputs
from lspdmobile.networks.okdhp import OkdhpConfig, OkdhpHourglass, OkdhpMobilePose, OkdhpMobilePoseConfig
from lspdmobile.train.config import DistillConfig
from lspdmobile.train.losses import Targets, taught

__all__ = ["CONFIGS", "candidates", "deployed", "loss", "start", "teacher", "training_network"]

CONFIGS: Final = (OkdhpMobilePoseConfig, OkdhpConfig)


def training_network(config: OkdhpConfig | OkdhpMobilePoseConfig) -> nn.Module:
    """Make trunk, branches and the unit that weighs them."""
    return OkdhpHourglass(config) if isinstance(config, OkdhpConfig) else OkdhpMobilePose(config)


def loss(
    outputs: BranchOutputs,
    targets: Targets,
    config: DistillConfig,
    *,
    ramp: float,
    averaged: BranchOutputs | None = None,
) -> Tensor:
    """Sum label terms of all heatmaps and of the ensemble, and what pulls all heatmaps to the ensemble.

    ``sum known(output) + ensemble_weight known(ensemble) + weight ramp sum pull(output, ensemble)``; the sums run over
    shared and intermediate heatmaps too. Unlike in the released code the ensemble is detached in the last term: it
    follows its targets, never the branches. The ensemble of one branch is the branch, and teaches nothing.

    Args:
        outputs: What the training network gave.
        targets: Labels and offline teachers.
        config: Kind and weight of the pull, and the weight of the ensemble's own label term.
        ramp: 0..1, how much of the weight applies at this step.
        averaged: What the averaged network gives, if its ensemble is the teacher.
    """
    alone = len(outputs.branches) == 1
    guide = outputs.ensemble if averaged is None else averaged.ensemble
    pull = 0.0 if alone and averaged is None else ramp
    first, *others = (taught(heatmaps, guide, targets, config, ramp=pull) for heatmaps in outputs.distilled)
    total = first
    for other in others:
        total = total + other
    return total if alone else total + config.ensemble_weight * targets.loss(outputs.ensemble.float())


def candidates(outputs: BranchOutputs) -> list[Tensor]:
    """Give each branch's heatmaps, or the target's alone where the helpers are longer."""
    balanced = len({len(branch) for branch in outputs.branches}) == 1
    return outputs.finals if balanced else outputs.finals[:1]


def teacher(outputs: BranchOutputs) -> Tensor | None:
    """Give the ensemble's heatmaps, where there is one."""
    return outputs.ensemble if len(outputs.branches) > 1 else None


def deployed(network: nn.Module, candidate: int) -> nn.Module:
    """Copy a branch out as the plain network it is."""
    return _of(network).deployed(candidate)


def start(network: nn.Module, student: Mapping[str, Tensor]) -> None:
    """Load a student's weights as trunk and first branch; the others stay fresh."""
    _of(network).parts(0).load_state_dict(student)


def _of(network: nn.Module) -> OkdhpHourglass | OkdhpMobilePose:
    assert isinstance(network, OkdhpHourglass | OkdhpMobilePose)
    return network
