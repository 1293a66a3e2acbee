"""Which part costs what: a planted outlier channel is found first, named, and its noise is what arithmetic says."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lspdmobile.choices import Precision
from quantization.calibrate import calibrate
from quantization.mixed import MixedNetwork
from quantization.sensitivity import Sensitivity, sensitivity, snr_db

SIZE = (16, 16)


def looked_at(network: nn.Module, pictures: NDArray[np.float32]) -> Sensitivity:
    plan = calibrate(network, pictures, precision=Precision.W8A8)
    return sensitivity(MixedNetwork(network, plan, SIZE), pictures)


def test_a_planted_outlier_channel_is_found_first_and_named(loud: nn.Module, few_pictures: NDArray[np.float32]) -> None:
    found = looked_at(loud, few_pictures)
    first = found.candidates[0]
    assert (first.name, first.kind) == ("conv2d_1", "tensor")
    assert first.units == {"conv2d_1", "relu_1"}, "whoever makes it and whoever reads it"
    assert first.share > 0.5
    assert first.cause.startswith("outlier channel 3 of conv2d_1 has ")
    times = float(first.cause.split(" has ")[1].partition("x")[0])
    assert 20 < times < 80
    assert first.left_out_db > found.snr_db + 3


def test_without_a_fault_no_outlier_is_claimed(branched: nn.Module, few_pictures: NDArray[np.float32]) -> None:
    assert not any("outlier" in candidate.cause for candidate in looked_at(branched, few_pictures).candidates)


def test_every_unit_and_every_tensor_is_looked_at(branched: nn.Module, few_pictures: NDArray[np.float32]) -> None:
    steps: list[tuple[int, int]] = []
    plan = calibrate(branched, few_pictures, precision=Precision.W8A8)
    found = sensitivity(MixedNetwork(branched, plan, SIZE), few_pictures, progress=lambda *step: steps.append(step))
    names = [candidate.name for candidate in found.candidates]
    assert set(names) >= {"stem", "down", "depthwise", "relu_2", "head", "relu", "conv2d_1"}
    assert steps[-1] == (len(names), len(names))
    assert found.runs == 2 + 2 * len(names)
    sizes = {c.name: c.extra_bytes for c in found.candidates if c.kind == "unit"}
    assert sizes == {"stem": 3 * 216, "down": 3 * 576, "depthwise": 3 * 200, "relu_2": 0, "head": 3 * 32}


def test_any_number_of_threads_gives_the_same(loud: nn.Module, few_pictures: NDArray[np.float32]) -> None:
    plan = calibrate(loud, few_pictures, precision=Precision.W8A8)
    one, three = (sensitivity(MixedNetwork(loud, plan, SIZE), few_pictures, jobs=jobs) for jobs in (1, 3))
    assert one == three


def test_beside_the_loudest_the_rest_is_ranked_by_what_is_left(
    loud: nn.Module, few_pictures: NDArray[np.float32]
) -> None:
    plan = calibrate(loud, few_pictures, precision=Precision.W8A8)
    network = MixedNetwork(loud, plan, SIZE)
    first = sensitivity(network, few_pictures).candidates[0]
    rest = sensitivity(network, few_pictures, kept=first.units)
    assert rest.snr_db == first.left_out_db
    assert all(not candidate.units & first.units for candidate in rest.candidates)
    for candidate in rest.candidates:
        maps = network.heatmaps(few_pictures, kept=first.units | candidate.units)
        exact = network.heatmaps(few_pictures, kept=network.units)
        assert candidate.left_out_db == snr_db(torch.from_numpy(exact), torch.from_numpy(maps))


def test_channels_that_say_nothing_do_not_make_the_others_outliers(
    branched: Any, few_pictures: NDArray[np.float32]
) -> None:
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(branched.down, name)[2:] = 0
    causes = [candidate.cause for candidate in looked_at(branched, few_pictures).candidates]
    assert not any("outlier" in cause for cause in causes), causes


class _Head(nn.Module):
    """One layer that gives its input back."""

    def __init__(self) -> None:
        super().__init__()
        self.same = nn.Conv2d(3, 3, 1, bias=False)
        with torch.no_grad():
            self.same.weight.copy_(torch.eye(3)[:, :, None, None])

    def forward(self, pictures: Tensor) -> Tensor:
        """Copy ``[1, 3, H, W]``."""
        heatmaps: Tensor = self.same(pictures)
        return heatmaps


def test_the_noise_of_rounding_is_that_of_a_uniform_error() -> None:
    """Values spread evenly over 255 steps: step^2 / 12 once, since a value on the grid is not rounded again."""
    pictures = np.random.default_rng(1).uniform(-1, 1, (8, 3, *SIZE)).astype(np.float32)
    pictures[0, 0, 0, :2] = -1, 1
    expected = 10 * np.log10((1 / 3) / ((2 / 255) ** 2 / 12))
    assert looked_at(_Head().eval(), pictures).snr_db == pytest.approx(expected, abs=0.2)


def test_decibels_by_hand() -> None:
    truth = torch.tensor([3.0, 4.0])
    assert snr_db(truth, truth + torch.tensor([0.3, 0.4])) == pytest.approx(20.0, abs=1e-5)
    assert snr_db(truth, truth) == 200.0
