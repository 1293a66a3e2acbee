"""The benchmarks of fusion: what is compared with what, and that a slower network would be noticed."""

import time
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.fusion_cost import turns
from benchmarks.fusion_networks import Ratio, contenders_for
from benchmarks.lowering_phases import phases_of
from benchmarks.lowering_time import FORMS, compared
from benchmarks.whole_networks import STUDENTS, network_named, unfused
from lspdmobile.fusion import randomise_norms
from lspdmobile.networks.blocks import ConvNormAct, LinearBranches

CHANNELS = 8
SIDE = 16
BRANCHES = ("3x3", "3x3d2", "1x1", "identity")


@pytest.fixture
def small() -> nn.Module:
    """Stem, summed branches and head; norms nowhere near the identity."""
    # Named, since ExecuTorch cannot fold a norm whose path begins with a digit.
    layers = ConvNormAct(3, CHANNELS), LinearBranches(CHANNELS, BRANCHES), nn.ReLU(), nn.Conv2d(CHANNELS, 1, 1)
    network = nn.Sequential(OrderedDict(zip(("stem", "branches", "act", "head"), layers, strict=True))).eval()
    randomise_norms(network, torch.Generator().manual_seed(0))
    return network


def test_the_unfused_int8_network_has_every_branch_and_no_norm_and_is_the_same(small: nn.Module) -> None:
    found = unfused(small, "int8")
    kinds = [type(module) for module in found.modules()]
    assert nn.BatchNorm2d not in kinds
    assert kinds.count(nn.Conv2d) == len(BRANCHES) + 2
    picture = torch.randn(1, 3, SIDE, SIDE)
    with torch.no_grad():
        torch.testing.assert_close(found(picture), small(picture))
    assert unfused(small, "fp32") is small


def test_a_network_that_is_slower_is_noticed_and_noise_is_not() -> None:
    draw = np.random.default_rng(0)
    unfused_times = draw.normal(100.0, 3.0, 31)
    slower = Ratio.of((1.1 * unfused_times + draw.normal(0.0, 3.0, 31)).tolist(), unfused_times.tolist())
    assert slower.is_slower
    assert slower.median == pytest.approx(1.1, abs=0.02)
    assert slower.low < slower.median < slower.high
    same = Ratio.of((unfused_times + draw.normal(0.0, 3.0, 31)).tolist(), unfused_times.tolist())
    assert not same.is_slower
    assert same.low < 1.0 < same.high


def test_the_interval_of_a_median_holds_it_as_often_as_it_says() -> None:
    draw = np.random.default_rng(1)
    held = [
        (ratio := Ratio.of(draw.lognormal(0.0, 0.1, 31).tolist(), [1.0] * 31)).low <= 1.0 <= ratio.high
        for _ in range(400)
    ]
    assert 0.92 < float(np.mean(held)) < 0.99


@pytest.mark.parametrize("name", STUDENTS)
def test_every_student_can_be_had_unfused_without_norms(name: str) -> None:
    network, _ = network_named(name)
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in unfused(network, "int8").modules())


@pytest.mark.slow
def test_fused_and_unfused_networks_are_timed_on_every_runtime_and_lowered(small: nn.Module) -> None:
    times = turns(contenders_for(small, (SIDE, SIDE)), rounds=2)
    assert len(times) == 8
    assert all(len(each) == 2 and min(each) > 0 for each in times.values())
    _, found = compared(small, (SIDE, SIDE), "fp32", rounds=1)
    assert tuple(found) == FORMS
    assert found["fused"].nodes < found["unfused"].nodes
    assert min(each.lower_seconds for each in found.values()) > 0


def test_phases_of_a_lowering_add_up_and_show_what_was_left_out(small: nn.Module) -> None:
    def program() -> torch.export.ExportedProgram:
        return torch.export.export(small, (torch.zeros(1, 3, SIDE, SIDE),))

    phases_of(program(), keep_all_passes=False)
    started = time.process_time()
    whole = phases_of(program(), keep_all_passes=True)
    taken = time.process_time() - started
    assert 0.3 * taken < sum(whole.seconds.values()) <= taken
    lean = phases_of(program(), keep_all_passes=False)
    for phase in ("tracing for decompositions", "tracing for passes", "Python code of graphs"):
        assert 0 < lean.calls[phase] < whole.calls[phase]
    assert not whole.inside
