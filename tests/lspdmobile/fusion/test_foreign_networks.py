"""Whole networks that others defined: fused end to end, every one certified.

They come without weights; their norms are randomised, so that nothing is hidden by a fresh one. Their last pooling,
made for one picture size, is replaced by one that takes any.
"""

import importlib
from typing import Any

import pytest
import torch
from torch import nn

from lspdmobile.fusion import Fused, fuse, randomise_norms

pytest.importorskip("pytorchcv")

SIDE = 64
POSE = {"in_size": (SIDE, SIDE), "return_heatmap": True}
# Module and function of pytorchcv, and how many of its norms no convolution can take: those before an activation that
# follow an addition or a concatenation, or whose input others read too.
NETWORKS = [
    ("resnet", "resnet10", 0),
    ("mobilenetv2", "mobilenetv2_wd4", 0),
    ("mobilenetv3", "mobilenetv3_small_wd2", 0),
    ("shufflenetv2", "shufflenetv2_wd2", 0),
    ("mobilenet", "mobilenet_wd4", 0),
    ("simplepose_coco", "simplepose_resnet18_coco", 0),
    ("simpleposemobile_coco", "simplepose_mobile_mobilenet_w1_coco", 0),
    ("lwopenpose_cmupan", "lwopenpose2d_mobilenet_cmupan_coco", 0),
    ("hrnet", "hrnet_w18_small_v1", 0),
    ("ghostnet", "ghostnet", 0),
    ("efficientnet", "efficientnet_b0", 0),
    ("preresnet", "preresnet10", 5),
    ("drn", "drnc26", 0),
]
QUICK = ("mobilenet_wd4",)


def network(module: str, name: str) -> nn.Module:
    options: dict[str, Any] = POSE if module.endswith(("_coco", "_cmupan")) else {"num_classes": 10}
    made: nn.Module = getattr(importlib.import_module(f"pytorchcv.models.{module}"), name)(**options)
    features = getattr(made, "features", None)
    if isinstance(features, nn.Module) and hasattr(features, "final_pool"):
        features.final_pool = nn.AdaptiveAvgPool2d(1)
    randomise_norms(made, torch.Generator().manual_seed(1))
    return made.eval()


def check(module: str, name: str, alone: int) -> None:
    original = network(module, name)
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in original.modules())
    found: Fused = fuse(original, input_size=(SIDE, SIDE))
    certificate = found.certificate
    assert certificate.passed
    assert 0 < certificate.error_fp64 < 1e-12
    assert certificate.norms_left == ()
    assert not any("border" in refusal.reason for refusal in certificate.refused)
    assert [site.rewrite for site in certificate.sites].count("affine to 1x1") == alone
    assert certificate.operators_before - certificate.operators_after >= norms - alone
    assert certificate.after.params < certificate.before.params


@pytest.mark.parametrize(("module", "name", "alone"), [n for n in NETWORKS if n[1] in QUICK], ids=str)
def test_a_network_of_others_is_fused_and_certified(module: str, name: str, alone: int) -> None:
    check(module, name, alone)


@pytest.mark.slow
@pytest.mark.parametrize(("module", "name", "alone"), [n for n in NETWORKS if n[1] not in QUICK], ids=str)
def test_every_network_of_others_is_fused_and_certified(module: str, name: str, alone: int) -> None:
    check(module, name, alone)
