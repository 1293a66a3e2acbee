"""Rewrites on cases whose result can be written down."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lspdmobile.fusion.linear import NO_PADDING, Linear, NotExactError, conv_of, identity, regrouped
from lspdmobile.fusion.rewrites.activations import clamps_in_a_row
from lspdmobile.fusion.rewrites.branch_sum import merged
from lspdmobile.fusion.rewrites.norm_after_conv import affine_of
from lspdmobile.fusion.rewrites.pooling import pooling_as_linear
from lspdmobile.fusion.rewrites.split import splits, trimmed

Sides = tuple[int, int]


@given(first=st.tuples(st.integers(-5, 5), st.integers(0, 6)), second=st.tuples(st.integers(-5, 5), st.integers(0, 6)))
def test_two_clamps_equal_the_one_they_become(first: Sides, second: Sides) -> None:
    (low, width), (other_low, other_width) = first, second
    one, two = (low, low + width), (other_low, other_low + other_width)
    x = torch.linspace(-15, 15, 121)
    both = clamps_in_a_row(one, two)
    assert torch.equal(x.clamp(*one).clamp(*two), x.clamp(*both))


def test_affine_of_is_the_formula_by_hand() -> None:
    norm = nn.BatchNorm2d(1, eps=0.25)
    norm.load_state_dict(
        {
            "weight": torch.tensor([3.0]),
            "bias": torch.tensor([5.0]),
            "running_mean": torch.tensor([2.0]),
            "running_var": torch.tensor([2.0]),
            "num_batches_tracked": torch.tensor(1),
        }
    )
    scale, shift = affine_of(norm)
    assert (scale.item(), shift.item()) == (2.0, 1.0)  # 3 / sqrt(2 + 0.25); 5 - 2 * 2


def same(side: int, dilation: int = 1, *, channels: int = 1) -> Linear:
    """A depthwise kernel that keeps the size, its taps counted from 1."""
    reach = dilation * (side // 2)
    taps = torch.arange(1.0, side**2 + 1, dtype=torch.float64).reshape(1, 1, side, side)
    return Linear(
        weight=taps.expand(channels, 1, side, side),
        groups=channels,
        dilation=(dilation, dilation),
        padding=(reach,) * 4,
    )


@pytest.mark.parametrize(
    ("branches", "side", "dilation"),
    [
        ([identity(1)], 1, 1),
        ([identity(1), same(3)], 3, 1),
        ([same(3), same(3, 2), identity(1)], 5, 1),
        ([same(3, 2), identity(1)], 3, 2),
        ([same(3, 2), same(3, 4)], 5, 2),
        ([same(3, 3), identity(1)], 3, 3),
        ([same(3, 2), same(3, 3)], 7, 1),
    ],
)
def test_the_merged_kernel_is_the_smallest_that_holds_every_branch(
    branches: list[Linear], side: int, dilation: int
) -> None:
    both = merged(branches)
    assert both.kernel == (side, side)
    assert both.dilation == (dilation, dilation)
    assert both.padding == (dilation * (side // 2),) * 4


def test_each_tap_lands_where_the_dilated_branch_reads() -> None:
    both = merged([same(3, 2), replace(same(3), weight=torch.zeros(1, 1, 3, 3, dtype=torch.float64))])
    expected = torch.zeros(5, 5, dtype=torch.float64)
    expected[::2, ::2] = torch.arange(1.0, 10.0).view(3, 3)
    assert torch.equal(both.weight[0, 0], expected)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (replace(same(3), stride=(2, 2)), "strides"),
        (replace(same(3), padding=NO_PADDING), "sizes"),
        (same(3, channels=2), "channels"),
    ],
)
def test_branches_that_do_not_add_up_are_refused(other: Linear, reason: str) -> None:
    with pytest.raises(NotExactError, match=reason):
        merged([same(3), other])


def test_fewer_groups_hold_the_same_blocks() -> None:
    weight = torch.arange(1.0, 5.0).reshape(4, 1, 1, 1)
    assert torch.equal(regrouped(weight, 4, 1)[:, :, 0, 0], torch.diag(torch.arange(1.0, 5.0)))
    halves = regrouped(weight, 4, 2)[:, :, 0, 0]
    assert torch.equal(halves, torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [0.0, 4.0]]))


def test_padding_that_differs_between_sides_is_no_convolution_module() -> None:
    with pytest.raises(NotExactError, match="opposite sides"):
        conv_of(replace(same(3), padding=(0, 1, 0, 1)))


def test_pooling_that_sticks_out_of_the_picture_is_refused() -> None:
    with pytest.raises(NotExactError, match="ceil_mode"):
        pooling_as_linear(2, (2, 2), (2, 2), (0, 0), ceil_mode=True)


def test_a_zero_padded_kernel_is_split_back_into_its_dilated_branches() -> None:
    both = merged([same(3), same(3, 3)])
    assert both.kernel == (7, 7)
    found = {tuple(sorted((p.kernel[0], p.dilation[0]) for p in parts)) for parts in splits(both)}
    assert ((3, 1), (3, 3)) in found


def test_a_full_kernel_has_nothing_to_trim_or_split() -> None:
    full = same(5)
    assert trimmed(full) is full
    assert list(splits(full)) == []
