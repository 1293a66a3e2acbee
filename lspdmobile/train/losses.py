"""Heatmap losses that the recipes put together.

FPD (Zhang et al., CVPR 2019): (1 - a) MSE to labels + a MSE to the teacher. OKDHP (Li et al., ICCV 2021): KL divergence
of spatial softmaxes, per joint. A teacher's heatmaps are detached: it is never pulled toward the student.
"""

import math
from dataclasses import dataclass
from typing import Final, assert_never

import torch
from torch import Tensor
from torch.nn import functional as F

from lspdmobile.train.config import DistillConfig

__all__ = ["Target", "Targets", "masked_mse", "pixelwise_kl", "ramp_up", "spatial_kl", "taught"]

# Heatmaps are mostly zero; the factor keeps gradients well above Adam's epsilon and changes nothing else.
_SCALE: Final = 100.0


@dataclass(frozen=True, kw_only=True)
class Target:
    """What heatmaps are compared with.

    Attributes:
        heatmaps: ``[N, K, h, w]``.
        joints: Weight of each joint ``[N, K]``; 0 where the target is not known.
        weight: Weight of the whole.
    """

    heatmaps: Tensor
    joints: Tensor
    weight: float = 1.0

    def loss(self, heatmaps: Tensor) -> Tensor:
        """Give the weighted squared error of ``[N, K, h, w]``."""
        found = masked_mse(heatmaps, self.heatmaps, self.joints)
        return found if self.weight == 1 else self.weight * found


@dataclass(frozen=True, kw_only=True)
class Targets:
    """What is known of a batch before it is seen: the labels, and what teachers trained before say of it."""

    labels: Target
    offline: tuple[Target, ...] = ()

    def loss(self, heatmaps: Tensor) -> Tensor:
        """Sum the errors of ``[N, K, h, w]`` against the labels and the offline teachers."""
        total = self.labels.loss(heatmaps)
        for target in self.offline:
            total = total + target.loss(heatmaps)
        return total


def masked_mse(heatmaps: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Mean squared error of ``[N, K, h, w]``, each joint weighted by ``[N, K]``, over the sum of weights."""
    per_joint = (heatmaps - target).square().mean(dim=(2, 3))
    return _SCALE * (per_joint * weights).sum() / weights.sum().clamp_min(1.0)


def spatial_kl(heatmaps: Tensor, teacher: Tensor, weights: Tensor, *, temperature: float = 1.0) -> Tensor:
    """KL(softmax(teacher / T) || softmax(student / T)) over the pixels of each joint; mean weighted by ``[N, K]``.

    Gaussians of peak 1 are nearly flat under a softmax over thousands of pixels: at T = 1 the divergence is close to
    half their mean squared distance, hundreds of times below :func:`masked_mse`; at T = 0.1 they are comparable.
    """
    return (_kl(heatmaps, teacher, temperature) * weights).sum() / weights.sum().clamp_min(1.0)


def pixelwise_kl(heatmaps: Tensor, ensemble: Tensor, weights: Tensor, *, temperature: float = 1.0) -> Tensor:
    """OKDHP's divergence of ``[N, K, h, w]`` from the ensemble, each joint weighted by ``[N, K]``.

    As in the released code, the terms :func:`spatial_kl` averages are summed over joints and divided by persons and by
    pixels. With 16 joints on 64x64 cells that is 1/256 of the average: the shipped weight of 2 pulls very little.
    """
    persons, pixels = len(heatmaps), heatmaps.shape[2] * heatmaps.shape[3]
    return (_kl(heatmaps, ensemble, temperature) * weights).sum() / (persons * pixels)


def _kl(heatmaps: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Give the divergence of each joint ``[N, K]`` from the detached teacher."""
    student = F.log_softmax(heatmaps.flatten(2) / temperature, dim=2)
    target = F.log_softmax(teacher.detach().flatten(2) / temperature, dim=2)
    return F.kl_div(student, target, reduction="none", log_target=True).sum(dim=2)


def ramp_up(step: int, *, steps: int) -> float:
    """Give OKDHP's share of the distillation weight: exp(-5 (1 - step / steps)^2), from ``steps`` on 1."""
    return 1.0 if step >= steps else math.exp(-5 * (1 - step / steps) ** 2)


def taught(heatmaps: Tensor, teacher: Tensor, targets: Targets, config: DistillConfig, *, ramp: float) -> Tensor:
    """Join what heatmaps owe to their targets with their pull to a teacher.

    Args:
        heatmaps: ``[N, K, h, w]``, of any float type.
        teacher: Of the same shape; detached here.
        targets: Labels and offline teachers.
        config: Kind, weight and reach of the pull.
        ramp: 0..1, how much of the weight applies at this step (:func:`ramp_up`).
    """
    heatmaps, teacher = heatmaps.float(), teacher.detach().float()
    known, strength = targets.loss(heatmaps), config.weight * ramp
    if strength == 0:
        return known
    joints = targets.labels.joints
    if config.joints == "all":
        joints = torch.ones_like(joints)
    if config.loss == "mse":
        pull = masked_mse(heatmaps, teacher, joints)
        return known + strength * pull if config.keep_labels else (1 - strength) * known + strength * pull
    if config.loss == "kl":
        return known + strength * spatial_kl(heatmaps, teacher, joints, temperature=config.temperature)
    if config.loss == "okdhp-kl":
        # The released MSE is halved, ours is multiplied by _SCALE: the terms stay in proportion.
        pull = pixelwise_kl(heatmaps, teacher, joints, temperature=config.temperature)
        return known + 2 * _SCALE * strength * pull
    assert_never(config.loss)
