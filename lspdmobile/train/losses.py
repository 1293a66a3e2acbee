"""Heatmap losses.

FPD (Zhang et al., CVPR 2019): (1 - a) MSE to labels + a MSE to the teacher. OKDHP (Li et al., ICCV 2021): KL divergence
of spatial softmaxes, per joint. The teacher's heatmaps are detached: it is never pulled toward the student.
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from lspdmobile.train.config import DistillConfig

__all__ = ["chain_loss", "masked_mse", "spatial_kl"]

# Heatmaps are mostly zero; the factor keeps gradients well above Adam's epsilon and changes nothing else.
_SCALE: Final = 100.0


def masked_mse(heatmaps: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Mean squared error of ``[N, K, h, w]``, each joint weighted by ``[N, K]``, over the sum of weights."""
    per_joint = (heatmaps - target).square().mean(dim=(2, 3))
    return _SCALE * (per_joint * weights).sum() / weights.sum().clamp_min(1.0)


def spatial_kl(heatmaps: Tensor, teacher: Tensor) -> Tensor:
    """KL(softmax(teacher) || softmax(student)) over the pixels of each joint, averaged over persons and joints."""
    student = F.log_softmax(heatmaps.flatten(2), dim=2)
    target = F.log_softmax(teacher.detach().flatten(2), dim=2)
    return F.kl_div(student, target, reduction="none", log_target=True).sum(dim=2).mean()


def chain_loss(
    stages: Sequence[Tensor], target: Tensor, weights: Tensor, config: DistillConfig, *, ramp: float
) -> Tensor:
    """Sum the stages' losses; every stage but the last is also pulled to the detached last one.

    Args:
        stages: Heatmaps of each stage, first (the student's) to last.
        target: Gaussian heatmaps ``[N, K, h, w]``.
        weights: ``[N, K]``.
        config: Kind and weight of the distillation term.
        ramp: 0..1, how much of the weight applies at this step.
    """
    maps = [stage.float() for stage in stages]
    total = masked_mse(maps[-1], target, weights)
    strength = config.weight * ramp
    for stage in maps[:-1]:
        labelled = masked_mse(stage, target, weights)
        if strength == 0:
            total = total + labelled
        elif config.loss == "mse":
            everywhere = torch.ones_like(weights)
            pulled = masked_mse(stage, maps[-1].detach(), everywhere)
            total = total + (1 - strength) * labelled + strength * pulled
        else:
            total = total + labelled + strength * spatial_kl(stage, maps[-1])
    return total
