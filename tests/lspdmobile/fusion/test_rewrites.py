"""Every rewrite's algebra against PyTorch's own operators, float64, over whatever a convolution can be."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from lspdmobile.fusion.linear import NO_PADDING, Linear, NotExactError, channelwise
from lspdmobile.fusion.probes import relative_error
from lspdmobile.fusion.rewrites.affine_before_conv import absorbed
from lspdmobile.fusion.rewrites.branch_concat import concatenated, side_by_side
from lspdmobile.fusion.rewrites.branch_sum import merged
from lspdmobile.fusion.rewrites.norm_after_conv import affine_of, folded, scaled
from lspdmobile.fusion.rewrites.pointwise import pointwise_after, pointwise_before
from lspdmobile.fusion.rewrites.pooling import pooling_as_linear
from lspdmobile.fusion.rewrites.split import splits, trimmed

EXACT = 1e-12
SLOW_EXAMPLES = 300

Sides = tuple[int, int]


def ran(linear: Linear, x: Tensor) -> Tensor:
    """Run a linear map with PyTorch's convolution; the zeros are put around the picture beforehand."""
    top, bottom, left, right = linear.padding
    padded = F.pad(x, (left, right, top, bottom))
    return F.conv2d(padded, linear.weight, linear.bias, linear.stride, 0, linear.dilation, linear.groups)


def draw_channels(draw: st.DrawFn, groups: int) -> int:
    return groups * draw(st.integers(1, 3))


@st.composite
def linears(
    draw: st.DrawFn, *, inputs: int | None = None, outputs: int | None = None, pointwise: bool = False
) -> Linear:
    """A convolution of any form, drawn at random; its channels may be given."""
    groups = draw(st.sampled_from([g for g in (1, 2, 3) if (inputs or g) % g == 0 and (outputs or g) % g == 0]))
    inputs = inputs or draw_channels(draw, groups)
    outputs = outputs or draw_channels(draw, groups)
    kernel: Sides = (1, 1) if pointwise else (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    return Linear(
        weight=torch.randn(outputs, inputs // groups, *kernel, dtype=torch.float64),
        bias=draw(st.one_of(st.none(), st.just(torch.randn(outputs, dtype=torch.float64)))),
        groups=groups,
        stride=(draw(st.integers(1, 2)), draw(st.integers(1, 3))),
        dilation=(draw(st.integers(1, 3)), draw(st.integers(1, 2))),
        padding=tuple(draw(st.integers(0, 3)) for _ in range(4)),  # type: ignore[arg-type]
    )


@st.composite
def norms(draw: st.DrawFn, channels: int) -> nn.BatchNorm2d:
    """A batch norm with statistics of any magnitude."""
    norm = nn.BatchNorm2d(channels, eps=draw(st.sampled_from([1e-5, 1e-3])), affine=draw(st.booleans())).double().eval()
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.normal_(std=10.0 ** draw(st.integers(-3, 3)))
    norm.running_var.uniform_(0.1, 2.0).mul_(10.0 ** draw(st.integers(-8, 6)))
    if norm.affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return norm


def picture(data: st.DataObject, *maps: Linear) -> Tensor:
    """An input that is large enough for some maps in a row."""
    need = [sum(m.dilation[a] * (m.kernel[a] - 1) + m.stride[a] for m in maps) * 3 for a in (0, 1)]
    rows, columns = (side + data.draw(st.integers(1, 5)) for side in need)
    return torch.randn(2, maps[0].in_channels, rows, columns, dtype=torch.float64)


Case = Callable[[st.DataObject], None]


def norm_after_a_convolution(data: st.DataObject) -> None:
    linear = data.draw(linears())
    norm = data.draw(norms(linear.out_channels))
    x = picture(data, linear)
    assert relative_error(norm(ran(linear, x)), ran(scaled(linear, *affine_of(norm)), x)) < EXACT


def norm_or_padding_before_a_convolution(data: st.DataObject) -> None:
    linear = data.draw(linears())
    norm = data.draw(norms(linear.in_channels))
    pads = data.draw(st.tuples(*[st.integers(0, 2)] * 4))
    first = channelwise(*affine_of(norm), padding=pads)
    x = picture(data, linear)
    before = ran(linear, norm(F.pad(x, (pads[2], pads[3], pads[0], pads[1]))))
    if linear.padding == NO_PADDING:
        assert relative_error(before, ran(absorbed(first, linear), x)) < EXACT
    else:
        with pytest.raises(NotExactError, match="border"):
            absorbed(first, linear)
        bare = first.without_bias()
        before = ran(linear, ran(bare, x))
        assert relative_error(before, ran(absorbed(bare, linear), x)) < EXACT


def pointwise_after_any(data: st.DataObject) -> None:
    first = data.draw(linears())
    second = data.draw(linears(inputs=first.out_channels, pointwise=True))
    x = picture(data, first, second)
    if second.padding != NO_PADDING:
        with pytest.raises(NotExactError, match="padded"):
            pointwise_after(first, second)
        second = replace(second, padding=NO_PADDING)
    assert relative_error(ran(second, ran(first, x)), ran(pointwise_after(first, second), x)) < EXACT


def pointwise_before_any(data: st.DataObject) -> None:
    first = data.draw(linears(pointwise=True))
    second = data.draw(linears(inputs=first.out_channels))
    x = picture(data, first, second)
    if first.stride != (1, 1):
        with pytest.raises(NotExactError, match="strided"):
            pointwise_before(first, second)
        first = replace(first, stride=(1, 1))
    if first.bias is not None and second.padding != NO_PADDING:
        with pytest.raises(NotExactError, match="border"):
            pointwise_before(first, second)
        second = replace(second, padding=NO_PADDING)
    assert relative_error(ran(second, ran(first, x)), ran(pointwise_before(first, second), x)) < EXACT


def branches_summed(data: st.DataObject) -> None:
    """Branches of one input with equal strides whose sizes agree; every even and odd kernel among them."""
    groups = data.draw(st.sampled_from([1, 2, 4]))
    stride = (data.draw(st.integers(1, 2)), data.draw(st.integers(1, 3)))
    lost = (data.draw(st.integers(-1, 1)), data.draw(st.integers(-1, 1)))
    branches = []
    for _ in range(data.draw(st.integers(1, 4))):
        kernel = (data.draw(st.integers(1, 4)), data.draw(st.integers(1, 5)))
        dilation = (data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3)))
        pads: list[int] = []
        for axis in (0, 1):
            total = dilation[axis] * (kernel[axis] - 1) - lost[axis]
            assume(total >= 0)
            front = data.draw(st.integers(0, total))
            pads += [front, total - front]
        own = data.draw(st.sampled_from([g for g in (1, 2, 4) if g % groups == 0]))
        branches.append(
            Linear(
                weight=torch.randn(4, 4 // own, *kernel, dtype=torch.float64),
                bias=data.draw(st.one_of(st.none(), st.just(torch.randn(4, dtype=torch.float64)))),
                groups=own,
                stride=stride,
                dilation=dilation,
                padding=(pads[0], pads[1], pads[2], pads[3]),
            )
        )
    x = torch.randn(1, 4, data.draw(st.integers(3, 14)), data.draw(st.integers(3, 14)), dtype=torch.float64)
    both = merged(branches)
    assert both.groups == min(branch.groups for branch in branches)
    assert relative_error(torch.stack([ran(branch, x) for branch in branches]).sum(0), ran(both, x)) < EXACT


def branches_concatenated(data: st.DataObject) -> None:
    """Two maps of one input, any groups; the second kernel is two rows taller."""
    first, second = two_kernels(data, 6)
    x = picture(data, first, second)
    apart = torch.cat((ran(first, x), ran(second, x)), dim=1)
    assert relative_error(apart, ran(concatenated([first, second]), x)) < EXACT


def branches_side_by_side(data: st.DataObject) -> None:
    """Two maps of neighbouring channels; exact in as many groups as there are blocks of one shape."""
    first, second = two_kernels(data, None)
    x = picture(data, first, second)
    x = torch.cat((x, torch.randn(2, second.in_channels, *x.shape[2:], dtype=torch.float64)), dim=1)
    apart = torch.cat((ran(first, x[:, : first.in_channels]), ran(second, x[:, first.in_channels :])), dim=1)
    common = blocks(first) & blocks(second)
    if not common:
        with pytest.raises(NotExactError, match="differ in shape"):
            side_by_side([first, second])
        return
    both = side_by_side([first, second])
    assert both.in_channels // both.groups == min(inputs for inputs, _ in common)
    assert relative_error(apart, ran(both, x)) < EXACT


def blocks(linear: Linear) -> set[tuple[int, int]]:
    """Give the inputs and outputs of a block of every number of groups that a map can be written in."""
    fewer = (count for count in range(1, linear.groups + 1) if linear.groups % count == 0)
    return {(linear.in_channels // count, linear.out_channels // count) for count in fewer}


def two_kernels(data: st.DataObject, inputs: int | None) -> tuple[Linear, Linear]:
    """Draw two maps with equal strides whose outputs have equal sizes."""
    first = replace(data.draw(linears(inputs=inputs)), dilation=(1, 1))
    top, bottom, left, right = first.padding
    second = data.draw(linears(inputs=inputs, pointwise=True))
    taller = torch.randn(*second.weight.shape[:2], first.kernel[0] + 2, first.kernel[1], dtype=torch.float64)
    padding = (top + 1, bottom + 1, left, right)
    return first, replace(second, weight=taller, stride=first.stride, dilation=(1, 1), padding=padding)


def kernels_trimmed_and_split(data: st.DataObject) -> None:
    side = data.draw(st.sampled_from([3, 5, 7]))
    mask = torch.zeros(side, side, dtype=torch.float64)
    for dilation in data.draw(st.lists(st.integers(1, side // 2), min_size=1, max_size=2)):
        centre = side // 2
        mask[
            centre - dilation : centre + dilation + 1 : dilation, centre - dilation : centre + dilation + 1 : dilation
        ] = 1
    linear = Linear(
        weight=torch.randn(4, 1, side, side, dtype=torch.float64) * mask,
        bias=torch.randn(4, dtype=torch.float64),
        groups=4,
        padding=(side // 2,) * 4,
    )
    x = torch.randn(1, 4, 11, 9, dtype=torch.float64)
    expected = ran(linear, x)
    small = trimmed(linear)
    assert small.weight.numel() <= linear.weight.numel()
    assert relative_error(expected, ran(small, x)) < EXACT
    for parts in splits(linear):
        assert relative_error(expected, torch.stack([ran(part, x) for part in parts]).sum(0)) < EXACT


def average_pooling(data: st.DataObject) -> None:
    kernel = (data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4)))
    stride = (data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3)))
    padding = (data.draw(st.integers(0, kernel[0] // 2)), data.draw(st.integers(0, kernel[1] // 2)))
    counted = data.draw(st.booleans())
    divisor = data.draw(st.sampled_from([None, 2, 7]))
    x = torch.randn(1, 3, 9, 10, dtype=torch.float64)
    if any(padding) and not counted and divisor is None:
        with pytest.raises(NotExactError, match="count_include_pad"):
            pooling_as_linear(3, kernel, stride, padding, count_include_pad=False)
        counted = True
    linear = pooling_as_linear(3, kernel, stride, padding, count_include_pad=counted, divisor=divisor)
    expected = F.avg_pool2d(x, kernel, stride, padding, False, counted, divisor)
    assert relative_error(expected, ran(linear, x)) < EXACT


def any_layer_with_a_norm(data: st.DataObject) -> None:
    groups = data.draw(st.sampled_from([1, 2]))
    bias = data.draw(st.booleans())
    kind, dims = data.draw(
        st.sampled_from(
            [(nn.Conv1d, 1), (nn.Conv3d, 3), (nn.ConvTranspose1d, 1), (nn.ConvTranspose2d, 2), (nn.Linear, 0)]
        )
    )
    stride = data.draw(st.integers(1, 2))
    layer: Any = (
        nn.Linear(4, 6, bias=bias) if kind is nn.Linear else kind(4, 6, 3, stride=stride, groups=groups, bias=bias)
    )
    norm = data.draw(norms(6))
    x = torch.randn(2, 4, *[5] * dims, dtype=torch.float64)
    layer = layer.double().eval()
    scale, shift = affine_of(norm)
    shape = (1, 6, *[1] * dims)
    expected = layer(x) * scale.reshape(shape) + shift.reshape(shape)
    found = folded(layer, scale, shift)
    assert relative_error(expected, found(x)) < EXACT
    assert layer.bias is None or found.bias is not layer.bias


CASES = (
    norm_after_a_convolution,
    norm_or_padding_before_a_convolution,
    pointwise_after_any,
    pointwise_before_any,
    branches_summed,
    branches_concatenated,
    branches_side_by_side,
    kernels_trimmed_and_split,
    average_pooling,
    any_layer_with_a_norm,
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
@torch.no_grad()
def test_a_rewrite_keeps_every_value(case: Case) -> None:
    given(st.data())(case)()


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
@torch.no_grad()
def test_a_rewrite_keeps_every_value_over_many_examples(case: Case) -> None:
    assert SLOW_EXAMPLES * len(CASES) >= 2000
    settings(max_examples=SLOW_EXAMPLES, derandomize=False)(given(st.data())(case))()
