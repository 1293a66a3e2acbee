"""Which operators of a graph merge, which stay, and why."""

from collections import Counter
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lspdmobile.fusion import Fused, fuse
from lspdmobile.fusion.targets import target_named

C = 6
ONE_3X3 = {"Conv2d 3x3": 1}

Fuse = Callable[[nn.Module], Fused]
Count = Callable[[Fused], Counter[str]]


class BehindActivation(nn.Module):
    """Two branches, one of which ends in a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Conv2d(C, C, 3, padding=1)
        self.other = nn.Sequential(nn.Conv2d(C, C, 1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.plain(x) + self.other(x)  # type: ignore[no-any-return]


def test_a_branch_behind_an_activation_is_not_merged_and_the_reason_is_given(fused: Fuse, operators: Count) -> None:
    found = fused(BehindActivation())
    assert operators(found) == {"Conv2d 3x3": 1, "Conv2d 1x1": 1, "ReLU": 1, "add": 1}
    refusals = [r for r in found.certificate.refused if r.rewrite == "merge branches"]
    assert len(refusals) == 1
    assert "ReLU" in refusals[0].reason


def test_a_bias_before_a_padded_kernel_is_refused_with_the_reason(fused: Fuse, operators: Count) -> None:
    chain = nn.Sequential(nn.Conv2d(C, 2, 1), nn.Conv2d(2, C, 3, padding=1))
    found = fused(chain)
    assert operators(found) == {"Conv2d 1x1": 1, "Conv2d 3x3": 1}
    assert any("border" in refusal.reason for refusal in found.certificate.refused)


def test_the_same_chain_without_padding_or_bias_is_merged_where_it_pays(fused: Fuse, operators: Count) -> None:
    wide = 8 * C
    for chain in (
        nn.Sequential(nn.Conv2d(C, wide, 1), nn.Conv2d(wide, C, 3)),
        nn.Sequential(nn.Conv2d(C, wide, 1, bias=False), nn.Conv2d(wide, C, 3, padding=1)),
        nn.Sequential(nn.Conv2d(C, wide, 3, padding=1), nn.Conv2d(wide, C, 1)),
        nn.Sequential(nn.Conv2d(C, wide, 1), nn.Conv2d(wide, C, 1)),
    ):
        assert sum(operators(fused(chain)).values()) == 1


def test_a_norm_before_an_unpadded_convolution_is_folded_and_before_a_padded_one_kept_apart(
    fused: Fuse, operators: Count
) -> None:
    before = nn.Sequential(nn.BatchNorm2d(C), nn.Conv2d(C, C, 3))
    assert operators(fused(before)) == ONE_3X3
    padded = fused(nn.Sequential(nn.BatchNorm2d(C), nn.Conv2d(C, C, 3, padding=1)))
    assert operators(padded) == {"Conv2d 1x1": 1, "Conv2d 3x3": 1}
    assert any("border" in refusal.reason for refusal in padded.certificate.refused)


def test_a_batch_norm_after_padding_is_folded_into_the_convolution_behind_it(fused: Fuse, operators: Count) -> None:
    chain = nn.Sequential(nn.ZeroPad2d(1), nn.BatchNorm2d(C), nn.Conv2d(C, C, 3))
    found = fused(chain)
    assert operators(found) == ONE_3X3
    assert found.network.get_submodule("2").padding == (1, 1)


def test_consecutive_norms_become_one_affine_map_and_constants_fold(fused: Fuse, operators: Count) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(C, C, 3)
            self.gain = nn.Parameter(torch.rand(1, C, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            """See the class."""
            out: Tensor = (self.conv(x) * self.gain + 0.5) / 3.0 - self.gain.sigmoid()
            return out

    assert operators(fused(nn.Sequential(nn.BatchNorm2d(C), nn.BatchNorm2d(C)))) == {"Conv2d 1x1": 1}
    assert operators(fused(Scaled())) == ONE_3X3


def test_norms_fold_into_transposed_convolutions_and_matrix_products(fused: Fuse, operators: Count) -> None:
    network = nn.Sequential(
        nn.ConvTranspose2d(C, 4, 4, 2, 1, groups=2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 22 * 24, 5),
        nn.BatchNorm1d(5),
    )  # fmt: skip
    found = fused(network)
    assert operators(found) == {"ConvTranspose2d": 1, "flatten": 1, "Linear": 1}


class Concatenated(nn.Module):
    """Convolutions of one input side by side, with one of another input between them."""

    def __init__(self, *, groups: int = 1) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(C, 4, 3, padding=1, groups=groups) for _ in range(2))
        self.other = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        y = torch.cat((self.first(x), self.second(x)), dim=1)
        return torch.cat((y, self.other(torch.relu(y[:, :4]))), dim=1)


def test_convolutions_of_one_input_side_by_side_become_one_wider_one(fused: Fuse, operators: Count) -> None:
    found = fused(Concatenated())
    assert operators(found)["Conv2d 3x3"] == 1
    assert operators(found)["cat"] == 1
    small = fused(Concatenated(groups=2))
    assert operators(small)["Conv2d 3x3"] == 1
    wide = fused(SideBySide([nn.Conv2d(C, 66, 5, padding=2, groups=C // 2) for _ in range(2)]))
    assert operators(wide)["Conv2d 5x5"] == 2
    assert any("cost more" in refusal.reason for refusal in wide.certificate.refused)


class SideBySide(nn.Module):
    """Layers that each read some of the channels, concatenated.

    ``how`` is the way channels are taken: ``all`` of them each time, ``split``, ``chunk`` or ``slice``.
    """

    def __init__(self, layers: Sequence[nn.Module], how: str = "all", sizes: Sequence[int] = (2, 4)) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.how, self.sizes = how, list(sizes)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        parts: Sequence[Tensor] = [x] * len(self.layers)
        if self.how == "split":
            parts = torch.split(x, self.sizes, dim=1)
        elif self.how == "chunk":
            parts = torch.chunk(x, len(self.layers), dim=1)
        elif self.how == "slice":
            starts = [sum(self.sizes[:index]) for index in range(len(self.sizes))]
            parts = [x[:, start : start + size] for start, size in zip(starts, self.sizes, strict=True)]
        return torch.cat([layer(part) for layer, part in zip(self.layers, parts, strict=True)], dim=1)


def depthwise(channels: int, kernel: int = 3) -> nn.Module:
    return nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)


@pytest.mark.parametrize(
    ("layers", "how", "sizes", "expected"),
    [
        ([depthwise(2), depthwise(4)], "split", (2, 4), {"Conv2d 3x3": 1}),
        ([depthwise(2), depthwise(4)], "slice", (2, 4), {"Conv2d 3x3": 1}),
        ([depthwise(3), depthwise(3)], "chunk", (), {"Conv2d 3x3": 1}),
        ([depthwise(2, 5), depthwise(2, 5), nn.ReLU()], "chunk", (), {"Conv2d 5x5": 1, "ReLU": 1, "cat": 1}),
        ([nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)], "chunk", (), {"Conv2d 1x1": 1}),
        ([nn.Conv2d(2, 4, 1), nn.Conv2d(4, 4, 1)], "split", (2, 4), {"Conv2d 1x1": 2, "cat": 1}),
    ],
)
def test_convolutions_of_neighbouring_channels_become_one_with_groups(  # noqa: PLR0917
    layers: list[nn.Module],
    how: str,
    sizes: Sequence[int],
    expected: dict[str, int],
    fused: Fuse,
    operators: Count,
) -> None:
    found = fused(SideBySide(layers, how, sizes))
    counted = operators(found)
    assert {name: count for name, count in counted.items() if name[0].isupper() or name == "cat"} == expected
    if "cat" not in expected:
        assert set(counted) == set(expected)


def test_channels_in_another_order_are_not_put_side_by_side(fused: Fuse, operators: Count) -> None:
    class Swapped(SideBySide):
        def forward(self, x: Tensor) -> Tensor:
            """See the class above."""
            first, second = torch.chunk(x, 2, dim=1)
            return torch.cat((self.layers[0](second), self.layers[1](first)), dim=1)

    assert operators(fused(Swapped([depthwise(3), depthwise(3)])))["Conv2d 3x3"] == 2


def test_of_four_kernels_the_equal_ones_are_put_together() -> None:
    kernels = (3, 3, 7, 7)
    network = SideBySide([depthwise(32, kernel) for kernel in kernels], "chunk").eval()
    found = fuse(network, inputs=(torch.randn(1, 128, 32, 32),), target=target_named("litert-xnnpack")).network
    made = [(layer.kernel_size[0], layer.groups) for layer in found.modules() if isinstance(layer, nn.Conv2d)]
    assert made == [(3, 64), (7, 64)]


class Idle(nn.Module):
    """Operators that do nothing, twice the same, and clamps in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(C, C, 1)
        self.drop = nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        y = self.drop(F.relu(F.relu(self.conv(x)))) * 1.0
        z = F.relu6(y) + F.relu6(y)
        return torch.clamp(torch.clamp(z, -1.0, 5.0), 2.0, 9.0).view(1, C, 11, 12)


def test_idle_duplicate_and_clamping_operators_go(fused: Fuse, operators: Count) -> None:
    found = fused(Idle())
    assert operators(found) == {"Conv2d 1x1": 1, "relu6": 1, "add": 1, "clamp": 1}
    assert sum(found.certificate.removed.values()) >= 4
