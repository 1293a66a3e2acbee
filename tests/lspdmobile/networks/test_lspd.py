"""Counts are formulas over the layer list, not yesterday's output; published ones are quoted beside them."""

import copy
from dataclasses import replace
from typing import cast

import pytest
import torch
from torch import nn

from lspdmobile.fusion import cost_of, fuse, macs_of, params_of
from lspdmobile.networks.lspd import AlignmentNeck, LspdChain, LspdConfig, LspdStudent, MobileNetTrunk
from lspdmobile.networks.presets import preset

SHIPPED = cast("LspdConfig", preset("lspd-s"))
# Channels in and out and stride of each depthwise-separable layer of MobileNetV1 up to conv5_5, cut to stride 8.
SEPARABLE = [
    (32, 64, 1),
    (64, 128, 2),
    (128, 128, 1),
    (128, 256, 2),
    (256, 256, 1),
    (256, 512, 1),
    (512, 512, 1),
    *[(512, 512, 1)] * 4,
]


def trunk_formula(side: int) -> tuple[int, int]:
    """Parameters (with two per channel of each norm) and MACs of the trunk on a square picture."""
    side //= 2
    params, macs = 3 * 32 * 9 + 2 * 32, 3 * 32 * 9 * side**2
    for low, high, stride in SEPARABLE:
        side //= stride
        params += low * 9 + 2 * low + low * high + 2 * high
        macs += (low * 9 + low * high) * side**2
    return params, macs


def neck_formula(side: int, low: int = 512, high: int = 128) -> tuple[int, int]:
    """Parameters and MACs of the alignment block at stride 8: two convolutions have a bias, the separable ones none."""
    weights = low * high + 3 * (high * 9 + high * high) + high * high * 9
    return weights + 2 * high, weights * (side // 8) ** 2


def test_the_trunk_has_the_published_parameters_and_macs() -> None:
    params, macs = trunk_formula(256)
    trunk = MobileNetTrunk()
    assert params_of(trunk) == params == 1_613_120
    assert macs_of(trunk, (256, 256)) == macs
    assert round(macs / 1e9, 4) == 1.7667


def test_the_neck_has_the_published_parameters_and_macs() -> None:
    params, macs = neck_formula(256)
    neck = AlignmentNeck(512, 128)
    assert params_of(neck) == params
    assert round(params / 1e6, 5) == 0.26586
    assert macs_of(neck, (32, 32), in_channels=512) == macs
    assert round(macs / 1e9, 4) == 0.2720


def test_macs_go_with_the_area_of_the_picture() -> None:
    assert macs_of(MobileNetTrunk(), (256, 192)) * 4 == macs_of(MobileNetTrunk(), (256, 256)) * 3


@pytest.mark.parametrize("trunk", ["pyramid", "mobilenet"])
def test_every_stage_gives_one_heatmap_per_keypoint_at_stride_eight(trunk: str) -> None:
    config = LspdConfig.from_dict({**SHIPPED.to_dict(), "trunk": trunk, "width": 0.125, "stages": 3, "detail": 0})
    with torch.no_grad():
        heatmaps = LspdChain(config).eval()(torch.randn(2, 3, 64, 96))
    assert [tuple(h.shape) for h in heatmaps] == [(2, 14, 8, 12)] * 3


def test_with_detail_heatmaps_are_at_stride_four(tiny_config: LspdConfig) -> None:
    config = replace(tiny_config, detail=8, stages=3)
    assert config.heatmap_stride == 4
    with torch.no_grad():
        heatmaps = LspdChain(config).eval()(torch.randn(2, 3, 64, 96))
    assert [tuple(h.shape) for h in heatmaps] == [(2, config.keypoints, 16, 24)] * 3


def test_detail_adds_a_lateral_and_a_3x3_and_nothing_else(tiny_config: LspdConfig) -> None:
    """By the layer list: exit and heatmaps change width, each norm has two per channel."""
    detail, c, k = 8, tiny_config.features, tiny_config.keypoints
    lateral = tiny_config.pyramid_channels[1] * detail + 2 * detail
    head = c * detail + 2 * detail + 9 * detail**2 + 2 * detail + detail * k + k
    without = c * c + 2 * c + c * k + k
    plain, fine = (params_of(LspdStudent(replace(tiny_config, detail=d))) for d in (0, detail))
    assert fine - plain == lateral + head - without


def test_detail_reaches_the_heatmaps(tiny_config: LspdConfig) -> None:
    student = LspdStudent(replace(tiny_config, detail=8)).eval()
    changed = copy.deepcopy(student)
    changed.get_parameter("backbone.detail.conv.weight").data.zero_()
    pictures = torch.randn(1, 3, *tiny_config.input_size)
    with torch.no_grad():
        assert not torch.equal(student(pictures), changed(pictures))


def test_only_the_pyramid_trunk_gives_detail(tiny_config: LspdConfig) -> None:
    with pytest.raises(ValueError, match="detail = 8: only the pyramid trunk"):
        replace(tiny_config, trunk="mobilenet", detail=8)


def test_the_deployed_student_is_the_first_stage_of_the_chain_bit_for_bit(tiny_config: LspdConfig) -> None:
    chain = LspdChain(tiny_config).eval()
    deployed = LspdStudent(tiny_config).eval()
    deployed.load_state_dict(chain.student.state_dict())
    pictures = torch.randn(2, 3, *tiny_config.input_size)
    with torch.no_grad():
        assert torch.equal(deployed(pictures), chain(pictures)[0])


@pytest.mark.parametrize("detail", [0, 8])
def test_later_stages_read_the_heatmaps_before_them(detail: int, tiny_config: LspdConfig) -> None:
    chain = LspdChain(replace(tiny_config, detail=detail)).eval()
    changed = copy.deepcopy(chain)
    changed.get_parameter("student.stage.heatmap.bias").data += 1.0
    pictures = torch.randn(1, 3, *tiny_config.input_size)
    with torch.no_grad():
        assert not torch.equal(chain(pictures)[1], changed(pictures)[1])


@pytest.mark.slow
def test_the_shipped_student_has_under_1_2_million_parameters_deployed() -> None:
    fused = fuse(LspdStudent(SHIPPED).eval(), input_size=SHIPPED.input_size)
    assert params_of(fused.network) == fused.certificate.after.params < 1_200_000


def test_the_shipped_student_before_fusion_is_under_1_2_million_parameters_too() -> None:
    cost = cost_of(LspdStudent(SHIPPED), SHIPPED.input_size)
    assert cost.params < 1_200_000
    assert "convolution" not in cost.uncounted_ops


def test_the_chain_adds_only_later_stages(tiny_config: LspdConfig) -> None:
    one, three = (LspdChain(replace(tiny_config, stages=n)) for n in (1, 3))
    assert params_of(one) == params_of(one.student)
    assert set(one.state_dict()) < set(three.state_dict())
    assert all(name.startswith("refine.") for name in set(three.state_dict()) - set(one.state_dict()))


def test_a_config_survives_its_dictionary() -> None:
    assert LspdConfig.from_dict(SHIPPED.to_dict()) == SHIPPED


def test_an_unknown_field_of_a_config_is_an_error() -> None:
    with pytest.raises(TypeError, match="surprise"):
        LspdConfig.from_dict({**SHIPPED.to_dict(), "surprise": 1})


def test_heatmap_layers_start_near_zero_and_the_others_do_not(tiny_config: LspdConfig) -> None:
    student = LspdStudent(tiny_config)
    convs = [m for m in student.modules() if isinstance(m, nn.Conv2d)]
    assert student.stage.heatmap.weight.std() < 2e-3
    assert all(m.weight.std() > 1e-2 for m in convs if m is not student.stage.heatmap)


def test_a_trunk_that_does_not_exist_is_refused(tiny_config: LspdConfig) -> None:
    with pytest.raises(ValueError, match="unknown trunk 'pyramidal'"):
        LspdConfig.from_dict({**tiny_config.to_dict(), "trunk": "pyramidal"})
