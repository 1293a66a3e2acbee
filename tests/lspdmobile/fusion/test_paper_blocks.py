"""Blocks nobody here wrote merge into what their papers say, and every one is certified."""

import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lspdmobile.fusion import Fused, fuse, randomise_norms

sys.path.insert(0, str(Path(__file__).parent))
import paper_blocks as blocks

C = 6
ONE_3X3 = {"Conv2d 3x3": 1}


def fused(block: nn.Module, channels: int = C, **options: object) -> Fused:
    torch.manual_seed(0)
    block = block.eval()
    randomise_norms(block, torch.Generator().manual_seed(2))
    return fuse(block, inputs=(torch.randn(1, channels, 11, 12),), **options)  # type: ignore[arg-type]


def operators(found: Fused) -> Counter[str]:
    """Count what a fused network computes: convolutions by kernel, modules by class, operators by name."""
    counts: Counter[str] = Counter()
    for node in found.network.graph.nodes:
        if node.op == "call_module":
            layer = found.network.get_submodule(str(node.target))
            kernel = " {}x{}".format(*layer.kernel_size) if isinstance(layer, nn.Conv2d) else ""
            counts[type(layer).__name__ + kernel] += 1
        elif node.op == "call_function":
            counts[str(node.target).split(".")[1]] += 1
    return counts


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (blocks.RepVggBlock(C), ONE_3X3 | {"relu": 1}),
        (blocks.RepVggBlock(C, groups=2), ONE_3X3 | {"relu": 1}),
        (blocks.RepVggDown(C, 2 * C), ONE_3X3 | {"relu": 1}),
        (blocks.MobileOneBlock(C), ONE_3X3 | {"ReLU": 1}),
        (blocks.MobileOneBlock(C, branches=6, side=5), {"Conv2d 5x5": 1, "ReLU": 1}),
        (blocks.RepMixer(C), ONE_3X3),
        (blocks.RepViTTokenMixer(C), ONE_3X3),
        (blocks.RepConv(C, C), ONE_3X3 | {"SiLU": 1}),
        (blocks.RepConv(C, C + 2), ONE_3X3 | {"SiLU": 1}),
        (blocks.AcNetBlock(C, C + 1), ONE_3X3 | {"relu": 1}),
        (blocks.AcNetBlock(C, C, stride=2), ONE_3X3 | {"relu": 1}),
        (blocks.DiverseBranchBlock(C, C + 2), ONE_3X3 | {"relu": 1}),
        (blocks.DilatedReparamBlock(C), {"Conv2d 9x9": 1}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_a_block_becomes_one_convolution_and_its_activation(block: nn.Module, expected: dict[str, int]) -> None:
    found = fused(block)
    assert operators(found) == expected
    assert found.certificate.norms_left == ()
    assert found.certificate.passed
    assert found.certificate.error_fp64 < 1e-13
    assert found.certificate.operators_after < found.certificate.operators_before


def test_a_merged_kernel_has_the_groups_of_its_branches() -> None:
    convs = [m for m in fused(blocks.RepVggBlock(C, groups=2)).network.modules() if isinstance(m, nn.Conv2d)]
    assert [conv.groups for conv in convs] == [2]
    convs = [m for m in fused(blocks.RepMixer(C)).network.modules() if isinstance(m, nn.Conv2d)]
    assert [conv.groups for conv in convs] == [C]


def test_a_pooling_branch_whose_divisor_differs_at_the_border_stays_apart() -> None:
    found = fused(blocks.DiverseBranchBlock(C, C, count_include_pad=False))
    assert operators(found)["avg_pool2d"] == 1
    assert operators(found)["Conv2d 3x3"] == 1
    reasons = " ".join(refusal.reason for refusal in found.certificate.refused)
    assert "count_include_pad=False" in reasons or "avg_pool2d" in reasons


def test_a_chain_of_blocks_keeps_one_convolution_each() -> None:
    chain = nn.Sequential(blocks.RepVggBlock(C), blocks.MobileOneBlock(C), blocks.RepMixer(C), blocks.RepConv(C, C))
    found = fused(chain)
    assert sum(count for name, count in operators(found).items() if name.startswith("Conv2d")) == 4
    assert [site.name for site in found.certificate.sites][:2] == ["0", "1.branches.0.0"]


class BehindActivation(nn.Module):
    """Two branches, one of which ends in a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = blocks.conv_norm(C, C, 3)
        self.other = nn.Sequential(blocks.conv_norm(C, C, 1), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.plain(x) + self.other(x)  # type: ignore[no-any-return]


def test_a_branch_behind_an_activation_is_not_merged_and_the_reason_is_given() -> None:
    found = fused(BehindActivation())
    assert operators(found) == {"Conv2d 3x3": 1, "Conv2d 1x1": 1, "ReLU": 1, "add": 1}
    refusals = [r for r in found.certificate.refused if r.rewrite == "merge branches"]
    assert len(refusals) == 1
    assert "ReLU" in refusals[0].reason


def test_a_bias_before_a_padded_kernel_is_refused_with_the_reason() -> None:
    chain = nn.Sequential(nn.Conv2d(C, 2, 1), nn.Conv2d(2, C, 3, padding=1))
    found = fused(chain)
    assert operators(found) == {"Conv2d 1x1": 1, "Conv2d 3x3": 1}
    assert any("border" in refusal.reason for refusal in found.certificate.refused)


def test_the_same_chain_without_padding_or_bias_is_merged_where_it_pays() -> None:
    wide = 8 * C
    for chain in (
        nn.Sequential(nn.Conv2d(C, wide, 1), nn.Conv2d(wide, C, 3)),
        nn.Sequential(nn.Conv2d(C, wide, 1, bias=False), nn.Conv2d(wide, C, 3, padding=1)),
        nn.Sequential(nn.Conv2d(C, wide, 3, padding=1), nn.Conv2d(wide, C, 1)),
        nn.Sequential(nn.Conv2d(C, wide, 1), nn.Conv2d(wide, C, 1)),
    ):
        assert sum(operators(fused(chain)).values()) == 1


def test_a_batch_norm_before_an_unpadded_convolution_is_folded_and_before_a_padded_one_left() -> None:
    before = nn.Sequential(nn.BatchNorm2d(C), nn.Conv2d(C, C, 3))
    assert operators(fused(before)) == ONE_3X3
    padded = fused(nn.Sequential(nn.BatchNorm2d(C), nn.Conv2d(C, C, 3, padding=1)))
    assert padded.certificate.norms_left == ("0",)
    assert any("border" in refusal.reason for refusal in padded.certificate.refused)


def test_a_batch_norm_after_padding_is_folded_into_the_convolution_behind_it() -> None:
    chain = nn.Sequential(nn.ZeroPad2d(1), nn.BatchNorm2d(C), nn.Conv2d(C, C, 3))
    found = fused(chain)
    assert operators(found) == ONE_3X3
    assert found.network.get_submodule("2").padding == (1, 1)


def test_consecutive_norms_become_one_affine_map_and_constants_fold() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(C, C, 3)
            self.gain = nn.Parameter(torch.rand(1, C, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (self.conv(x) * self.gain + 0.5) / 3.0 - self.gain.sigmoid()

    assert operators(fused(nn.Sequential(nn.BatchNorm2d(C), nn.BatchNorm2d(C)))) == {"Conv2d 1x1": 1}
    assert operators(fused(Scaled())) == ONE_3X3


def test_norms_fold_into_transposed_convolutions_and_matrix_products() -> None:
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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.cat((self.first(x), self.second(x)), dim=1)
        return torch.cat((y, self.other(torch.relu(y[:, :4]))), dim=1)


def test_convolutions_of_one_input_side_by_side_become_one_wider_one() -> None:
    found = fused(Concatenated())
    assert operators(found)["Conv2d 3x3"] == 1
    assert operators(found)["cat"] == 1
    grouped = fused(Concatenated(groups=2))
    assert operators(grouped)["Conv2d 3x3"] == 2
    assert any("groups" in refusal.reason for refusal in grouped.certificate.refused)


class Idle(nn.Module):
    """Operators that do nothing, twice the same, and clamps in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(C, C, 1)
        self.drop = nn.Dropout()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.drop(F.relu(F.relu(self.conv(x)))) * 1.0
        z = F.relu6(y) + F.relu6(y)
        return torch.clamp(torch.clamp(z, -1.0, 5.0), 2.0, 9.0).view(1, C, 11, 12)


def test_idle_duplicate_and_clamping_operators_go() -> None:
    found = fused(Idle())
    assert operators(found) == {"Conv2d 1x1": 1, "relu6": 1, "add": 1, "clamp": 1}
    assert sum(found.certificate.removed.values()) >= 4
