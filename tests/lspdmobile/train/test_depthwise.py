"""Fast depthwise gradients against PyTorch's own, in double precision and under autocast."""

from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lspdmobile.networks.architectures import deployed_network
from lspdmobile.networks.mobile_pose import MobilePose
from lspdmobile.networks.okdhp import OkdhpMobilePoseConfig
from lspdmobile.train import depthwise
from lspdmobile.train.depthwise import FastDepthwise

FORMS = [(3, 2, 1), (5, 1, 1), (3, 1, 2), (3, 1, 4)]
CHANNELS, ROWS, COLUMNS = 6, 16, 8


def convolution(kernel: int, stride: int, dilation: int, **options: Any) -> nn.Conv2d:
    torch.manual_seed(3)
    fields: dict[str, Any] = {"groups": CHANNELS, "bias": False, "padding": dilation * (kernel // 2), **options}
    return nn.Conv2d(CHANNELS, CHANNELS, kernel, stride=stride, dilation=dilation, **fields)


def results(conv: nn.Conv2d, x: Tensor, mode: Any) -> tuple[Tensor, Tensor, Tensor, str]:
    """Give output, both gradients and the name of the node that made the output."""
    x = x.clone().requires_grad_()
    conv.zero_grad()
    with mode:
        y = conv(x)
    upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(5)).to(y)
    y.backward(upstream)
    assert x.grad is not None
    assert conv.weight.grad is not None
    assert y.grad_fn is not None
    return y.detach(), x.grad, conv.weight.grad.clone(), y.grad_fn.name()


def pictures(count: int = 3, dtype: torch.dtype = torch.float64) -> Tensor:
    shape = count, CHANNELS, ROWS, COLUMNS
    return torch.randn(shape, generator=torch.Generator().manual_seed(4), dtype=dtype)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_gradients_are_those_of_pytorch(form: tuple[int, int, int], memory: torch.memory_format) -> None:
    conv, x = convolution(*form).double(), pictures().contiguous(memory_format=memory)
    expected, found = results(conv, x, nullcontext()), results(conv, x, FastDepthwise())
    assert "_Depthwise" in found[3]
    assert "_Depthwise" not in expected[3]
    for a, b in zip(found[:3], expected[:3], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_under_autocast_it_is_as_near_to_the_exact_gradients_as_pytorch(form: tuple[int, int, int]) -> None:
    exact = results(convolution(*form).double(), pictures(), nullcontext())
    conv, x = convolution(*form), pictures(dtype=torch.float32)
    errors = []
    for mode in (nullcontext(), FastDepthwise()):
        with torch.autocast("cpu", torch.bfloat16):
            found = results(conv, x, mode)
        assert found[0].dtype == torch.bfloat16
        assert (found[1].dtype, found[2].dtype) == (torch.float32, torch.float32)
        errors.append([float((a.double() - b).norm() / b.norm()) for a, b in zip(found[:3], exact[:3], strict=True)])
    for theirs, ours in zip(*errors, strict=True):
        assert ours < max(1.5 * theirs, 2**-8)


@pytest.mark.parametrize(
    "conv",
    [
        convolution(3, 1, 1),
        convolution(3, 2, 1, groups=1),
        convolution(3, 2, 1, groups=2),
        convolution(3, 2, 1, bias=True),
        convolution(3, 2, 1, padding=0),
        convolution(3, 1, 3),
        convolution(7, 1, 1),
    ],
    ids=["fast already", "dense", "grouped", "biased", "unpadded", "rows no multiple of 3", "7x7"],
)
def test_other_convolutions_stay_pytorchs(conv: nn.Conv2d) -> None:
    found = results(conv, pictures(dtype=torch.float32), FastDepthwise())
    assert "_Depthwise" not in found[3]


def test_without_gradients_nothing_is_replaced_and_plain_calls_pass() -> None:
    conv, x = convolution(5, 1, 1), pictures(dtype=torch.float32)
    with torch.no_grad(), FastDepthwise():
        assert torch.equal(conv(x), F.conv2d(x, conv.weight, None, padding=2, groups=CHANNELS))
    with FastDepthwise():
        assert F.conv2d(x, conv.weight, groups=CHANNELS).shape == (3, CHANNELS, ROWS - 4, COLUMNS - 4)


def test_a_whole_network_gets_the_same_gradients() -> None:
    config = OkdhpMobilePoseConfig(
        keypoints=14, input_size=(64, 64), stem=8, channels=(8, 12, 16, 16), blocks=(1, 2, 1, 1), features=16
    )
    network = deployed_network(config).double().train()
    assert isinstance(network, MobilePose)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    gradients = []
    for mode in (nullcontext(), FastDepthwise()):
        network.zero_grad()
        with mode:
            network(x).square().sum().backward()
        gradients.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
    for ours, theirs in pairwise(gradients):
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


def _unturned(gradient: Tensor, weight: Tensor, form: Any) -> Tensor:
    return F.conv2d(gradient, weight, None, 1, form.padding, form.dilation, weight.shape[0])


def _unshifted(gradient: Tensor, x: Tensor, weight: Tensor, _form: Any) -> Tensor:
    del gradient, x
    return torch.zeros_like(weight)


@pytest.mark.parametrize(("name", "fault"), [("_of_input", _unturned), ("_of_weight", _unshifted)])
def test_a_wrong_gradient_is_noticed(name: str, fault: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depthwise, name, fault)
    conv, x = convolution(5, 1, 1).double(), pictures()
    expected, found = results(conv, x, nullcontext()), results(conv, x, FastDepthwise())
    assert not all(torch.allclose(a, b, rtol=1e-6) for a, b in zip(found[1:3], expected[1:3], strict=True))
