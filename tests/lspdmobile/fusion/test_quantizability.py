import json
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from lspdmobile.fusion import fuse
from lspdmobile.fusion.quantizability import Advice, forecast_site, forecast_weight
from lspdmobile.networks.blocks import LinearBranches

CHANNELS = 32


def kernels(seed: int = 0, spread: float = 1.0) -> NDArray[np.float64]:
    """Make depthwise 3x3 kernels [32, 1, 3, 3]; channel strengths spread over a factor."""
    generator = np.random.default_rng(seed)
    strengths = np.geomspace(1.0, spread, CHANNELS)[:, None, None, None]
    return generator.normal(size=(CHANNELS, 1, 3, 3)) * strengths


def centre(strength: float) -> NDArray[np.float64]:
    """Make an identity branch of a given strength, embedded into 3x3."""
    weight = np.zeros((CHANNELS, 1, 3, 3))
    weight[:, 0, 1, 1] = strength
    return weight


def test_signal_to_noise_is_that_of_rounding_by_hand() -> None:
    weight = np.array([[[[127.0, 0.25]]], [[[12.7, 0.0]]]])
    found = forecast_weight(weight)
    assert found.per_tensor_db == pytest.approx(10 * math.log10((127**2 + 0.25**2 + 12.7**2) / (0.25**2 + 0.3**2)))
    assert found.per_channel_db == pytest.approx(10 * math.log10((127**2 + 0.25**2 + 12.7**2) / 0.25**2))
    assert found.worst_channel_db == pytest.approx(10 * math.log10((127**2 + 0.25**2) / 0.25**2))
    assert found.range_ratio == pytest.approx(10)


def test_equal_channels_have_neither_outliers_nor_dead_ones_and_lose_little_per_tensor() -> None:
    found = forecast_weight(kernels())
    assert found.outlier_channels == found.dead_channels == ()
    assert found.per_channel_db > 35
    assert found.per_tensor_db > 30


def test_planted_outlier_and_dead_channels_are_named() -> None:
    weight = kernels()
    weight[7] *= 100
    weight[11] = 0
    found = forecast_weight(weight)
    assert found.outlier_channels == (7,)
    assert found.dead_channels == (11,)
    assert found.range_ratio > 50


def test_one_scale_per_channel_is_never_worse_than_the_worst_channel() -> None:
    found = forecast_weight(kernels(spread=1000))
    assert found.worst_channel_db <= found.per_channel_db
    assert found.per_tensor_db < found.per_channel_db


def test_a_tensor_of_zeros_loses_nothing() -> None:
    found = forecast_weight(np.zeros((3, 2)))
    assert found.per_tensor_db == found.worst_channel_db == 200
    assert found.dead_channels == (0, 1, 2)


@pytest.mark.parametrize("weight", [np.array([[np.nan]]), np.array([[np.inf]]), np.empty((0, 3))])
def test_weights_that_are_none_are_refused(weight: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="finite and not empty"):
        forecast_weight(weight)


def test_alike_branches_may_be_fused() -> None:
    one, two = kernels(0), kernels(1)
    found = forecast_site("block", [one, two], one + two)
    assert found.advice is Advice.FUSE
    assert found.weakest_after_db > 30


def test_a_strong_identity_that_drowns_a_branch_is_noticed_where_the_sum_looks_well() -> None:
    texture, identity = kernels() * 0.01, centre(1.0)
    found = forecast_site("block", [texture, identity], texture + identity)
    assert found.fused.per_channel_db > 40, "the sum alone shows nothing"
    assert found.weakest_after_db < 20 < found.weakest_before_db
    assert found.advice is Advice.KEEP_BRANCHES
    assert "round away" in found.reason


def test_the_same_block_with_a_weak_identity_may_be_fused() -> None:
    texture, identity = kernels(), centre(1.0)
    assert forecast_site("block", [texture, identity], texture + identity).advice is Advice.FUSE


def test_few_outliers_ask_for_equalisation() -> None:
    weight = kernels()
    weight[3] *= 40
    found = forecast_site("block", [weight], weight)
    assert found.advice is Advice.EQUALISE
    assert "1 of 32 channels" in found.reason


def test_many_weak_channels_want_scales_of_their_own() -> None:
    weight = kernels()
    weight[: CHANNELS // 2] *= 0.005
    found = forecast_site("block", [weight], weight)
    assert found.fused.per_tensor_db > 30, "the tensor alone shows nothing"
    assert found.fused.worst_channel_per_tensor_db < 20 < found.fused.worst_channel_db
    assert found.advice is Advice.PER_CHANNEL_ONLY


def test_two_equal_branches_share_the_noise() -> None:
    one = kernels()
    found = forecast_site("block", [one, one], 2 * one)
    assert found.weakest_before_db == pytest.approx(found.before_db)
    assert found.weakest_after_db == pytest.approx(found.before_db - 10 * math.log10(2))


def test_a_fused_kernel_that_is_not_the_sum_is_refused() -> None:
    with pytest.raises(ValueError, match="not the sum of its 2 branches"):
        forecast_site("block", [kernels(0), kernels(1)], kernels(0))
    with pytest.raises(ValueError, match="fused kernel's shape"):
        forecast_site("block", [], kernels(0))


@pytest.mark.parametrize(("variance", "advice"), [(1.0, Advice.FUSE), (1e-5, Advice.KEEP_BRANCHES)])
def test_a_reparameterised_block_whose_identity_norm_saw_almost_no_variance_keeps_its_branches(
    variance: float, advice: Advice
) -> None:
    torch.manual_seed(0)
    block = LinearBranches(CHANNELS, ("3x3d1", "identity")).double().eval()
    identity = block.branches[1]
    assert isinstance(identity, nn.BatchNorm2d)
    assert identity.running_var is not None
    identity.running_var.fill_(variance)
    conv = block.branches[0].get_submodule("conv")
    inputs = (torch.zeros(1, CHANNELS, 16, 16, dtype=torch.float64),)
    result = fuse(block, inputs=inputs)
    (fused,) = (m for m in result.network.modules() if isinstance(m, nn.Conv2d))
    assert isinstance(conv, nn.Conv2d)
    texture = conv.weight.detach().numpy() / math.sqrt(1 + 1e-5)
    parts = [texture, centre(1 / math.sqrt(variance + identity.eps))]
    found = forecast_site("block", parts, fused.weight.detach().numpy())
    assert found.advice is advice
    assert found.fused.per_channel_db > 30
    (told,) = result.certificate.int8
    assert (told.advice, len(told.branches)) == (advice, 2)
    assert told.weakest_after_db == pytest.approx(found.weakest_after_db, abs=0.1)
    assert len(result.certificate.advice) == (advice is not Advice.FUSE)
    written = result.certificate.to_dict()["int8"]
    assert written["sites"] == [told.to_dict()]
    assert [layer["channels"] for layer in written["layers"].values()] == [CHANNELS]


def test_the_forecast_goes_into_a_json_file_and_back() -> None:
    texture = kernels() * 0.01
    found = forecast_site("block", [texture, centre(1.0)], texture + centre(1.0))
    written = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert written["advice"] == "keep branches"
    assert written["fused"]["per_channel_db"] == pytest.approx(found.fused.per_channel_db, abs=0.05)
    assert len(written["branches"]) == 2
