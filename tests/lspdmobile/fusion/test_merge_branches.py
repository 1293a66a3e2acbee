from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lspdmobile.fusion.merge_branches import merge_linear_branches, merged
from lspdmobile.fusion.probes import randomise_norms, relative_error
from lspdmobile.networks.blocks import LinearBranches

NAMES = ["identity", "1x1", *(f"{k}x{k}d{d}" for k, d in product((3, 5, 7), (1, 2, 3)))]


def branches(channels: int, names: list[str], seed: int) -> LinearBranches:
    """Make float64 branches with random kernels and statistics."""
    torch.manual_seed(seed)
    module = LinearBranches(channels, names).double().eval()
    randomise_norms(module, torch.Generator().manual_seed(seed))
    return module


@given(
    channels=st.integers(1, 5),
    names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=5),
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
    seed=st.integers(0, 2**31),
)
def test_one_convolution_gives_what_the_branches_give_also_on_pictures_smaller_than_the_kernel(
    channels: int, names: list[str], rows: int, columns: int, seed: int
) -> None:
    module = branches(channels, names, seed)
    picture = torch.randn(1, channels, rows, columns, dtype=torch.float64)
    with torch.no_grad():
        expected = module(picture)
        conv = merged(module, largest_kernel=99)
        assert isinstance(conv, nn.Conv2d)
        assert relative_error(expected, conv(picture)) < 1e-12


@given(
    names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=5),
    largest=st.sampled_from([1, 3, 5, 7]),
    seed=st.integers(0, 2**31),
)
def test_branches_over_the_largest_kernel_stay_apart_and_nothing_changes(
    names: list[str], largest: int, seed: int
) -> None:
    module = branches(2, names, seed)
    picture = torch.randn(1, 2, 9, 8, dtype=torch.float64)
    with torch.no_grad():
        expected = module(picture)
        result = merged(module, largest_kernel=largest)
        assert relative_error(expected, (module if result is None else result)(picture)) < 1e-12
    if result is not None:
        convs = [m for m in result.modules() if isinstance(m, nn.Conv2d)]
        assert sum(max(c.dilation[0] * (c.kernel_size[0] - 1), 0) < largest for c in convs) == 1


@pytest.mark.parametrize(
    ("names", "side"),
    [
        (["identity"], 1),
        (["1x1", "3x3d1"], 3),
        (["3x3d1", "3x3d2", "1x1", "identity"], 5),
        (["3x3d3", "identity"], 7),
    ],
)
def test_the_kernel_holds_the_largest_branch_and_is_padded_by_its_reach(names: list[str], side: int) -> None:
    with torch.no_grad():
        conv = merged(branches(3, names, seed=0), largest_kernel=7)
    assert isinstance(conv, nn.Conv2d)
    assert conv.kernel_size == (side, side)
    assert conv.padding == (side // 2, side // 2)
    assert conv.groups == 3
    assert conv.bias is not None


def test_each_tap_lands_where_the_dilated_branch_reads() -> None:
    module = LinearBranches(1, ["3x3d2"]).double().eval()
    conv = module.get_submodule("branches.0.conv")
    assert isinstance(conv, nn.Conv2d)
    with torch.no_grad():
        conv.weight.copy_(torch.arange(1.0, 10.0).view(1, 1, 3, 3))
        result = merged(module, largest_kernel=5)
    assert isinstance(result, nn.Conv2d)
    taps = (result.weight[0, 0] * (1 + 1e-5) ** 0.5).round(decimals=9)  # a fresh norm divides by sqrt(1 + eps)
    expected = torch.zeros(5, 5, dtype=torch.float64)
    expected[::2, ::2] = torch.arange(1.0, 10.0).view(3, 3)
    assert torch.equal(taps.detach(), expected)


def test_a_branch_with_an_activation_stays_apart() -> None:
    module = branches(2, ["3x3d1", "1x1"], seed=3)
    module.get_submodule("branches.0").act = nn.ReLU().eval()
    picture = torch.randn(1, 2, 6, 6, dtype=torch.float64)
    with torch.no_grad():
        expected = module(picture)
        result = merged(module, largest_kernel=5)
        assert isinstance(result, LinearBranches)
        assert relative_error(expected, result(picture)) < 1e-12


def test_sites_name_the_merged_modules_and_their_width() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), branches(4, ["3x3d1", "identity"], seed=1)).eval()
    with torch.no_grad():
        sites = merge_linear_branches(network)
    assert [(site.name, site.in_channels) for site in sites] == [("1", 4)]
    assert isinstance(network[1], nn.Conv2d)
