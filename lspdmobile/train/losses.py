"""Heatmap losses.

FPD (Zhang et al., CVPR 2019): (1 - a) MSE to labels + a MSE to the teacher. OKDHP (Li et al., ICCV 2021): KL divergence
of spatial softmaxes, per joint, and its whole loss. The teacher's heatmaps are detached: it is never pulled toward the
student.
"""

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from lspdmobile.networks.feature_aggregation import BranchOutputs
from lspdmobile.train.config import DistillConfig

__all__ = ["chain_loss", "masked_mse", "okdhp_loss", "pixelwise_kl", "ramp_up", "spatial_kl"]

# Heatmaps are mostly zero; the factor keeps gradients well above Adam's epsilon and changes nothing else.
_SCALE: Final = 100.0


def masked_mse(heatmaps: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Mean squared error of ``[N, K, h, w]``, each joint weighted by ``[N, K]``, over the sum of weights."""
    per_joint = (heatmaps - target).square().mean(dim=(2, 3))
    return _SCALE * (per_joint * weights).sum() / weights.sum().clamp_min(1.0)


def spatial_kl(heatmaps: Tensor, teacher: Tensor) -> Tensor:
    """KL(softmax(teacher) || softmax(student)) over the pixels of each joint, averaged over persons and joints."""
    return _kl(heatmaps, teacher).mean()


def pixelwise_kl(heatmaps: Tensor, ensemble: Tensor, weights: Tensor) -> Tensor:
    """OKDHP's divergence of ``[N, K, h, w]`` from the ensemble, each joint weighted by ``[N, K]``.

    As in the released code, the terms :func:`spatial_kl` averages are summed over joints and divided by persons and by
    pixels. With 16 joints on 64x64 cells that is 1/256 of the average: the shipped weight of 2 pulls very little.
    """
    persons, pixels = len(heatmaps), heatmaps.shape[2] * heatmaps.shape[3]
    return (_kl(heatmaps, ensemble) * weights).sum() / (persons * pixels)


def _kl(heatmaps: Tensor, teacher: Tensor) -> Tensor:
    """Give the divergence of each joint ``[N, K]`` from the detached teacher."""
    student = F.log_softmax(heatmaps.flatten(2), dim=2)
    target = F.log_softmax(teacher.detach().flatten(2), dim=2)
    return F.kl_div(student, target, reduction="none", log_target=True).sum(dim=2)


def ramp_up(step: int, *, steps: int) -> float:
    """Give OKDHP's share of the distillation weight: exp(-5 (1 - step / steps)^2), from ``steps`` on 1."""
    return 1.0 if step >= steps else math.exp(-5 * (1 - step / steps) ** 2)


def okdhp_loss(
    outputs: BranchOutputs,
    target: Tensor,
    weights: Tensor,
    *,
    ramp: float,
    ensemble_weight: float = 1.0,
    distill_weight: float = 2.0,
) -> Tensor:
    """Sum label terms of all heatmaps and of the ensemble, and what pulls all heatmaps to the ensemble.

    ``sum MSE(output, labels) + ensemble_weight MSE(ensemble, labels) + distill_weight ramp sum KL(output)``, where KL
    is the divergence from the ensemble (:func:`pixelwise_kl`), and the sums run over shared and intermediate heatmaps
    too. The terms are in the proportions of the released code (whose MSE has a factor 1/2). Unlike there, the ensemble
    is detached in the last term: it follows the labels, never the branches.

    Args:
        outputs: What the training network gave.
        target: Gaussian heatmaps ``[N, K, h, w]``.
        weights: ``[N, K]``.
        ramp: 0..1, how much of the distillation weight applies at this step (:func:`ramp_up`).
        ensemble_weight: Of the ensemble's label term; the released 4-stack script's.
        distill_weight: Of the distillation term; the released 4-stack script's.
    """
    ensemble = outputs.ensemble.float()
    total = ensemble_weight * masked_mse(ensemble, target, weights)
    for heatmaps in outputs.distilled:
        maps = heatmaps.float()
        total = total + masked_mse(maps, target, weights)
        if distill_weight * ramp > 0:
            total = total + 2 * _SCALE * distill_weight * ramp * pixelwise_kl(maps, ensemble, weights)
    return total


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
