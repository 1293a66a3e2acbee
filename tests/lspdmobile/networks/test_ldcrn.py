"""LDCRN and HRNet: dense concatenation, exchange between scales, sums; the light form folds completely."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from lspdmobile.fusion import cost_of, fuse, randomise_norms
from lspdmobile.networks.hrnet import Exchange, HrNet, HrNetConfig, Transition
from lspdmobile.networks.ldcrn import DenseResidualLayer, DenseResidualModule, Ldcrn, LdcrnConfig
from lspdmobile.networks.presets import preset

TINY = LdcrnConfig(
    keypoints=3,
    input_size=(64, 96),
    stem=6,
    widths=(4, 6, 8, 10),
    first_modules=2,
    modules=(1, 2, 1),
    layers=2,
    growth=(3, 4, 5, 6),
    bottleneck=2,
)
FORMS = (False, True)


@pytest.mark.parametrize("light", FORMS)
def test_a_dense_module_keeps_its_input_and_adds_what_each_layer_gives(light: bool) -> None:
    module = DenseResidualModule(5, 3, replace(TINY, light=light)).eval()
    x = torch.randn(1, 5, 7, 7)
    y = module(x)
    assert module.out_channels == 5 + 2 * 3 == y.shape[1]
    assert torch.equal(y[:, :5], x)
    assert torch.equal(y[:, 5:8], module.layers[0](x))
    assert torch.equal(y[:, 8:], module.layers[1](y[:, :8]))


def test_a_layer_adds_its_two_paths_and_ends_in_a_relu() -> None:
    layer = DenseResidualLayer(5, 3, TINY).eval()
    x = torch.randn(1, 5, 7, 7)
    assert torch.equal(layer(x), torch.relu(layer.main(x) + layer.shortcut(x)))
    assert isinstance(layer.main[0], nn.BatchNorm2d)
    assert isinstance(layer.main[-1], nn.Conv2d)


@pytest.mark.parametrize("light", FORMS)
def test_heatmaps_are_at_stride_four(light: bool) -> None:
    with torch.no_grad():
        heatmaps = Ldcrn(replace(TINY, light=light)).eval()(torch.randn(2, 3, 64, 96))
    assert heatmaps.shape == (2, 3, 16, 24)


@pytest.mark.parametrize("part", ["residual", "stages.0", "stages.1", "stages.2", "pyramid"])
def test_the_sum_before_the_head_has_all_its_terms(part: str) -> None:
    network = Ldcrn(TINY).eval()
    randomise_norms(network, torch.Generator().manual_seed(1))
    pictures = torch.randn(1, 3, 64, 96)
    seen: list[torch.Tensor] = []
    network.heatmap.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    with torch.no_grad():
        network(pictures)
        handle = network.get_submodule(part).register_forward_hook(_finest_moved_by_one)
        network(pictures)
        handle.remove()
    changed = seen[1] - seen[0]
    moved = changed[(seen[0] > 0) & (seen[1] > 0)]
    # A term enters once; the last stage enters through the pyramid as well; earlier stages go on through the network.
    assert moved.abs().mean() > 0.2
    if part in ("residual", "pyramid"):
        assert torch.allclose(moved, torch.ones_like(moved), atol=1e-4)


def _finest_moved_by_one(_module: nn.Module, _args: object, out: object) -> object:
    return out + 1 if isinstance(out, torch.Tensor) else [out[0] + 1, *out[1:]]  # type: ignore[index]


@pytest.mark.parametrize("light", FORMS)
def test_every_scale_hears_every_other(light: bool) -> None:
    exchange = Exchange((4, 6, 8), outputs=3, light=light).eval()
    scales = [torch.randn(1, c, 16 // 2**i, 16 // 2**i, requires_grad=True) for i, c in enumerate((4, 6, 8))]
    outputs = exchange(scales)
    assert [o.shape for o in outputs] == [s.shape for s in scales]
    for output in outputs:
        gradients = torch.autograd.grad(output.sum(), scales, retain_graph=True)
        assert all(g.abs().sum() > 0 for g in gradients)


def test_a_transition_leaves_scales_of_the_same_width_alone_and_adds_one() -> None:
    transition = Transition((4, 6), (4, 8, 10)).eval()
    scales = [torch.randn(1, 4, 8, 8), torch.randn(1, 6, 4, 4)]
    first, second, third = transition(scales)
    assert first is scales[0]
    assert (second.shape, third.shape) == ((1, 8, 4, 4), (1, 10, 2, 2))


def test_hrnet_ends_at_its_finest_scale() -> None:
    config = HrNetConfig(keypoints=3, input_size=(64, 96), widths=(4, 6, 8, 10), modules=(1, 2, 2))
    network = HrNet(config).eval()
    assert network(torch.randn(1, 3, 64, 96)).shape == (1, 3, 16, 24)
    assert [len(stage[-1].exchange.paths) for stage in network.stages] == [2, 3, 1]  # type: ignore[index]


def test_every_norm_of_the_light_form_folds() -> None:
    light = replace(TINY, light=True, first_modules=1, modules=(1, 1, 1), layers=1)
    assert fuse(Ldcrn(light).eval(), input_size=(32, 32)).certificate.norms_left == ()


def test_the_light_student_is_for_phones() -> None:
    config = preset("ldcrn-s")
    assert isinstance(config, LdcrnConfig)
    cost = cost_of(Ldcrn(config), config.input_size)
    assert (config.input_size, config.heatmap_stride, config.keypoints) == ((192, 192), 4, 14)
    # One byte per parameter in int8 and four in fp32: both files together within 6 MB.
    assert cost.params * 5 < 6_000_000
    assert cost.macs < 400_000_000
