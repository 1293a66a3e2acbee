"""What is refused because a summand would be missing at the border: where that is, and that it could be exact."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lspdmobile.fusion import fuse
from lspdmobile.fusion.graph import capture
from lspdmobile.fusion.largest_kernel import LargestKernel
from lspdmobile.fusion.planner import Planner
from lspdmobile.fusion.probes import relative_error
from lspdmobile.fusion.rewriting import rewritten
from lspdmobile.networks.architectures import deployed_network
from lspdmobile.networks.presets import PRESETS, preset

STUDENTS = ("lspd-s", "lspd-m", "okdhp-s")
C, MEAN, STD = 3, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def refused_at_the_border(name: str) -> list[str]:
    """Rewrite a preset without certifying it; give the places."""
    config = preset(name)
    captured = capture(deployed_network(config), (torch.zeros(1, 3, *config.input_size),))
    with torch.no_grad():
        refused = rewritten(captured.graph, Planner(model=LargestKernel())).refused
    return [place for (place, _), reason in refused.items() if "border" in reason]


@pytest.mark.parametrize("name", STUDENTS)
def test_no_student_has_a_summand_before_padding(name: str) -> None:
    assert refused_at_the_border(name) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PRESETS if name not in STUDENTS])
def test_no_preset_has_a_summand_before_padding(name: str) -> None:
    assert refused_at_the_border(name) == []


def test_a_preprocess_before_a_padded_stem_is_found_and_stays_one_tap() -> None:
    stem = nn.Sequential(nn.Conv2d(C, 4, 3, padding=1, stride=2), nn.ReLU()).eval()
    found = fuse(stem, input_size=(16, 16), preprocess=(MEAN, STD))
    assert any("border" in refusal.reason for refusal in found.certificate.refused)
    kernels = [layer.kernel_size for layer in found.network.modules() if isinstance(layer, nn.Conv2d)]
    assert sorted(kernels) == [(1, 1), (3, 3)]


def test_the_forms_that_are_not_taken_are_exact() -> None:
    weight, x = torch.randn(4, C, 3, 3, dtype=torch.float64), torch.randn(1, C, 9, 10, dtype=torch.float64)
    scale, shift = (torch.randn(1, C, 1, 1, dtype=torch.float64) for _ in range(2))
    expected = F.conv2d(scale * x + shift, weight, padding=1)
    scaled = weight * scale

    def padded(values: Tensor) -> Tensor:
        frame = F.pad(torch.ones_like(x), (1, 1, 1, 1))
        return F.pad(x, (1, 1, 1, 1)) + (1 - frame) * values

    constant = (weight * shift).sum(dim=(1, 2, 3))
    by_value = F.conv2d(padded(-shift / scale), scaled, constant)
    picture = F.conv2d(shift.expand_as(x), weight, padding=1)
    by_picture = F.conv2d(x, scaled, padding=1) + picture
    ones = torch.cat((x, torch.ones_like(x[:, :1])), dim=1)
    by_ones = F.conv2d(ones, torch.cat((scaled, (weight * shift).sum(dim=1, keepdim=True)), dim=1), padding=1)
    for found in (by_value, by_picture, by_ones):
        assert relative_error(expected, found) < 1e-12
