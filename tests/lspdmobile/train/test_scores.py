"""Validation figures of a chain whose keypoints are known."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lspdmobile.networks.lspd import LspdConfig
from lspdmobile.skeleton import LSP_14
from lspdmobile.train.augment import gaussian_heatmaps
from lspdmobile.train.recipes import RECIPES, contract_for
from lspdmobile.train.samples import MARGIN, STORED_SIZE, Samples
from lspdmobile.train.scores import validate

EDGE = (STORED_SIZE - STORED_SIZE / MARGIN) / 2
LSPD = RECIPES["lspd"]
CONTRACT = contract_for(LspdConfig(keypoints=14, input_size=(64, 64), trunk="pyramid"))


class _Known(nn.Module):
    """Gives target heatmaps of known points as first stage, and of points some crop pixels further as last.

    It sees the middle of the stored crop, without the margin.
    """

    def __init__(self, samples: Samples, *, last_off: float, mirrored_too: bool = False) -> None:
        super().__init__()
        self.points = torch.from_numpy(samples.points)
        self.last_off, self.mirrored_too, self.calls = last_off, mirrored_too, 0

    def forward(self, pictures: Tensor) -> list[Tensor]:
        self.calls += 1
        assert not self.training
        assert len(pictures) == len(self.points)
        stages = []
        for off in (0.0, self.last_off):
            points = (self.points + off - EDGE) * (64 / (STORED_SIZE - 2 * EDGE))
            if self.mirrored_too and self.calls == 2:
                points = torch.stack((64 - points[..., 0], points[..., 1]), dim=2)[:, list(LSP_14.flip)]
            stages.append(gaussian_heatmaps(points, size=(8, 8), stride=8, sigma=1.25))
        return stages


@pytest.fixture
def central(held_out: Samples) -> Samples:
    """Joints well inside; half of the torsos 100 pixels long, the others 40, all heads 20; joint 0 not labelled."""
    middle = STORED_SIZE / 2
    points = (middle + 0.4 * (held_out.points - middle)).astype(np.float32)
    weights = held_out.weights.copy()
    weights[:, 0] = 0
    lengths = np.full((len(held_out), 2), 20, np.float32)
    lengths[:, 0] = [100, 40] * (len(held_out) // 2)
    return replace(held_out, points=points, weights=weights, lengths=lengths)


def test_the_first_and_the_last_stage_are_scored_in_crop_pixels(central: Samples) -> None:
    """The last is 10 pixels off on both axes, 14.1 in all: within 0.2 of a torso of 100, not of one of 40."""
    chain: Any = _Known(central, last_off=10)
    scores = validate(chain, LSPD, central, CONTRACT, LSP_14)
    assert scores == {"pck@0.2": 1.0, "pckh@0.5": 1.0, "teacher pck@0.2": 0.5}
    assert chain.training


def test_the_chain_is_shown_the_middle_of_the_stored_crop(central: Samples) -> None:
    """White within the margin, black in the middle: nothing of the white is seen but the border's resampling."""
    pixels = np.full_like(central.pixels, 255)
    inner = slice(round(EDGE), STORED_SIZE - round(EDGE))
    pixels[:, inner, inner] = 0
    seen: list[Tensor] = []

    class Watching(_Known):
        def forward(self, pictures: Tensor) -> list[Tensor]:
            seen.append(pictures)
            return super().forward(pictures)

    chain: Any = Watching(central, last_off=0)
    validate(chain, LSPD, replace(central, pixels=pixels), CONTRACT, LSP_14)
    black = torch.from_numpy(CONTRACT.normalise(np.zeros((64, 64, 3), np.uint8)))
    assert len(seen) == 1
    torch.testing.assert_close(seen[0][:, :, 1:-1, 1:-1], black[:, 1:-1, 1:-1].expand(len(pixels), 3, 62, 62))


def test_an_unlabelled_joint_is_not_judged(central: Samples) -> None:
    points = central.points.copy()
    points[:, 0] = -500
    chain: Any = _Known(central, last_off=0)
    assert validate(chain, LSPD, replace(central, points=points), CONTRACT, LSP_14)["pck@0.2"] == 1.0
    points[:, 1] = -500
    found = validate(chain, LSPD, replace(central, points=points), CONTRACT, LSP_14)["pck@0.2"]
    assert found == pytest.approx(12 / 13)


def test_the_flip_test_averages_what_the_mirrored_picture_gives(central: Samples) -> None:
    chain: Any = _Known(central, last_off=0, mirrored_too=True)
    assert validate(chain, LSPD, central, CONTRACT, LSP_14, flip_test=True)["pck@0.2"] == 1.0
    assert chain.calls == 2


def test_without_torso_labels_there_is_no_torso_metric(central: Samples) -> None:
    lengths = central.lengths.copy()
    lengths[:, 0] = 0
    chain: Any = _Known(central, last_off=0)
    assert set(validate(chain, LSPD, replace(central, lengths=lengths), CONTRACT, LSP_14)) == {"pckh@0.5"}
