from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lspdmobile.fusion.cost import macs_of
from lspdmobile.fusion.operations import AddOp, AffineOp, ConvOp


def conv(**changes: Any) -> ConvOp:
    """Describe a depthwise 3x3 of 8 channels that keeps 16x16; changes are other fields."""
    return ConvOp.same_size(8, **changes)


@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(*[st.integers(0, 3)] * 4),
    groups=st.sampled_from([1, 2, 4]),
)
def test_size_and_macs_are_pytorchs(
    kernel: tuple[int, int],
    dilation: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    groups: int,
) -> None:
    op = conv(out_channels=12, groups=groups, kernel=kernel, stride=stride, padding=padding, in_size=(11, 13))
    op = replace(op, dilation=dilation)
    top, bottom, left, right = padding
    layer = nn.Conv2d(8, 12, kernel, stride=stride, dilation=dilation, groups=groups)
    network = nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), layer)
    assert op.out_size == tuple(network(torch.zeros(1, 8, 11, 13)).shape[2:])
    assert op.macs == macs_of(network, (11, 13), in_channels=8)


def test_bytes_are_input_weights_output_and_a_bias_of_four_bytes() -> None:
    assert conv().bytes_moved("fp32") == 4 * (2 * 8 * 256 + 8 * 9) + 4 * 8
    assert conv(bias=False).bytes_moved("int8") == 2 * 8 * 256 + 8 * 9
    assert AddOp(channels=8, size=(4, 5)).bytes_moved("int8") == 3 * 8 * 20
    assert AffineOp(channels=8, size=(4, 5)).bytes_moved("fp32") == 4 * 2 * 8 * 20 + 8 * 8


def test_additions_have_no_macs_and_a_norm_one_for_each_element() -> None:
    assert AddOp(channels=8, size=(4, 5)).macs == 0
    assert AffineOp(channels=8, size=(4, 5)).macs == 160


@pytest.mark.parametrize(("changes", "said"), [({"groups": 3}, "do not divide"), ({"in_size": (0, 9)}, "does not fit")])
def test_shapes_that_no_convolution_has_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        conv(padding=(0, 0, 0, 0), **changes)
