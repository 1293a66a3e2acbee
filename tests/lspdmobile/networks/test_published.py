"""Costs of the networks as published: parameters to the digit, multiply-accumulates as the papers print them."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import nn

from lspdmobile.fusion import Cost, cost_of
from lspdmobile.networks.architectures import deployed_network
from lspdmobile.networks.feature_aggregation import Aggregation
from lspdmobile.networks.hourglass import HourglassConfig, StackedHourglass
from lspdmobile.networks.ldcrn import Ldcrn, LdcrnConfig
from lspdmobile.networks.okdhp import OkdhpConfig, OkdhpHourglass
from lspdmobile.networks.presets import preset

MPII = (256, 256)
COCO = (256, 192)


@pytest.fixture(autouse=True)
def _shapes_only() -> Iterator[None]:
    """Networks of tens of millions of parameters: counting needs their shapes only."""
    with torch.device("meta"):
        yield


@cache
def shipped(name: str, size: tuple[int, int]) -> Cost:
    return cost_of(deployed_network(preset(name)), size)


@pytest.mark.parametrize(
    ("name", "params", "gimacs", "gmacs_mpii", "gmacs_coco"),
    [
        ("okdhp-hg2", 6_730_912, 8.3716, 8.9889, 6.7417),
        ("okdhp-hg4", 13_018_816, 14.3027, 15.3574, 11.5181),
        ("okdhp-hg8", 25_594_624, 26.1650, 28.0945, 21.0709),
    ],
)
def test_a_deployed_hourglass_costs_what_okdhp_deploys(
    name: str, params: int, gimacs: float, gmacs_mpii: float, gmacs_coco: float
) -> None:
    on_mpii = shipped(name, MPII)
    assert on_mpii.params == params
    assert round(on_mpii.gimacs, 4) == gimacs
    assert round(on_mpii.macs / 1e9, 4) == gmacs_mpii
    assert round(shipped(name, COCO).macs / 1e9, 4) == gmacs_coco


def test_the_narrow_hourglass_costs_what_the_student_of_fpd_does() -> None:
    narrow = StackedHourglass(HourglassConfig(keypoints=16, input_size=MPII, stacks=4, channels=128))
    cost = cost_of(narrow, MPII)
    assert (round(cost.params / 1e6, 4), round(cost.gimacs, 2), round(cost.macs / 1e9, 4)) == (3.2879, 3.64, 3.9073)
    assert round(cost_of(narrow, COCO).macs / 1e9, 4) == 2.9304


@pytest.mark.parametrize(
    ("name", "params", "gimacs", "gmacs_mpii", "gmacs_coco"),
    [("okdhp-hg2", 18_339_888, 34.5215, 37.07, 27.80), ("okdhp-hg4", 30_915_696, 46.3838, 49.80, 37.35)],
)
def test_training_with_the_released_unit_costs_what_the_released_code_does(
    name: str, params: int, gimacs: float, gmacs_mpii: float, gmacs_coco: float
) -> None:
    trained = OkdhpHourglass(with_unit(name, "released"))
    cost = cost_of(trained, MPII)
    assert cost.params == params
    assert round(cost.gimacs, 4) == gimacs
    assert round(cost.macs / 1e9, 2) == gmacs_mpii
    assert round(cost_of(trained, COCO).macs / 1e9, 2) == gmacs_coco


@pytest.mark.parametrize(
    ("name", "unit", "gimacs"),
    [
        ("okdhp-hg4", "paper", 47.13),
        ("okdhp-hg4-unbalanced", "released", 64.18),
        ("okdhp-hg4-unbalanced", "paper", 64.93),
    ],
)
def test_training_with_the_units_of_the_figure_costs_what_the_paper_prints(
    name: str, unit: Aggregation, gimacs: float
) -> None:
    assert round(cost_of(OkdhpHourglass(with_unit(name, unit)), MPII).gimacs, 2) == gimacs


def with_unit(name: str, unit: Aggregation) -> OkdhpConfig:
    config = preset(name)
    assert isinstance(config, OkdhpConfig)
    return replace(config, aggregation=unit)


def test_the_released_aggregation_unit_has_5_461_million_parameters() -> None:
    unit = OkdhpHourglass(with_unit("okdhp-hg2", "released")).aggregate
    assert round(sum(p.numel() for p in unit.parameters()) / 1e6, 3) == 5.461


def test_ldcrn_costs_what_was_released() -> None:
    coco, mpii = shipped("ldcrn-coco", COCO), shipped("ldcrn-mpii", MPII)
    assert (coco.params, round(coco.gimacs, 4), round(coco.macs / 1e9, 4)) == (7_894_897, 6.0946, 6.5441)
    assert (mpii.params, round(mpii.gimacs, 4), round(mpii.macs / 1e9, 4)) == (7_894_864, 8.1261, 8.7253)
    large = shipped("ldcrn-coco", (384, 288))
    assert (round(large.gimacs, 4), round(large.macs / 1e9, 4)) == (13.7129, 14.7242)


def test_ldcrns_parts_weigh_what_was_released() -> None:
    network = Ldcrn(LdcrnConfig(keypoints=17, input_size=COCO))
    found = {
        "layer1": network.layer1,
        **{f"transition{i}": part for i, part in enumerate(network.transitions, start=1)},
        **{f"stage{i}": part for i, part in enumerate(network.stages, start=2)},
        "pyramid": network.pyramid,
    }
    assert {name: millions(part) for name, part in found.items()} == {
        "layer1": 1.2078,
        "transition1": 0.2214,
        "stage2": 0.2345,
        "transition2": 0.0740,
        "stage3": 1.3678,
        "transition3": 0.2954,
        "stage4": 4.4206,
        "pyramid": 0.0155,
    }


def millions(module: nn.Module) -> float:
    return round(sum(p.numel() for p in module.parameters()) / 1e6, 4)


def test_hrnet_w32_costs_what_was_published() -> None:
    cost = shipped("hrnet-w32", COCO)
    assert (cost.params, round(cost.gimacs, 4), round(cost.macs / 1e9, 4)) == (28_536_113, 7.1200, 7.6450)
    larger = shipped("hrnet-w32", MPII)
    assert (round(larger.gimacs, 4), round(larger.macs / 1e9, 4)) == (9.4933, 10.1933)


def test_ldcrn_saves_72_percent_of_parameters_and_14_percent_of_macs_against_hrnet() -> None:
    ldcrn, hrnet = shipped("ldcrn-coco", COCO), shipped("hrnet-w32", COCO)
    assert round(100 * (ldcrn.params / hrnet.params - 1), 1) == -72.3
    assert round(100 * (ldcrn.macs / hrnet.macs - 1), 1) == -14.4


def test_the_head_of_another_label_set_is_all_that_differs() -> None:
    coco, mpii = (deployed_network(preset(name)).state_dict() for name in ("ldcrn-coco", "ldcrn-mpii"))
    assert [k for k in coco if coco[k].shape != mpii[k].shape] == ["heatmap.weight", "heatmap.bias"]
