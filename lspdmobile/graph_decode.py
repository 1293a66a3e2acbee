"""Decoding as a part of the network: heatmaps to keypoints by operators that mobile delegates take.

:mod:`lspdmobile.decode` finds peaks with integer argmax and reads their neighbours by index, which no delegate takes.
Here everything is float arithmetic on small tensors, by the same rules:

- The largest value of a map is a max-pool over all of it. Cells equal to it have a difference of zero; a difference
  times 1e30, clamped to 0..1, tells zero from anything else. Of several such cells the first row, and in it the first
  column, is the one whose countdown ``h - row`` is largest: what argmax takes.
- The cells around the peak are a product of three matrices: rows chosen by ``max(0, 1 - |row - wanted|)``, the map,
  columns chosen likewise. Cells outside of the map come out as zero, which is how the host pads before it smooths, so
  that ``dark``'s smoothing is done by choosing with its kernel's weights.
"""

import math
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lspdmobile.decode import BLUR_SIGMA, SOFT_WINDOW, HeatmapRule

__all__ = ["GraphDecode", "WithKeypoints"]

_SHARP: Final = 1e30
_SMALLEST: Final = 1e-6
_SMALLEST_DETERMINANT: Final = 1e-9
_LARGEST_STEP: Final = 0.75
_BLUR_REACH: Final = 2


class GraphDecode(nn.Module):
    """Maps heatmaps ``[1, K, h, w]`` to keypoints ``[1, K, 3]``: x and y in input pixels, score.

    Args:
        rule: How a peak is refined below one cell.
        stride: Input pixels per cell.
        size: Rows and columns of the heatmaps.
    """

    row: Tensor
    column: Tensor
    reach: Tensor

    def __init__(self, rule: HeatmapRule, stride: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.rule, self.stride, self.size = rule, float(stride), size
        radius = SOFT_WINDOW if rule == "soft-argmax" else 1
        self.register_buffer("row", torch.arange(size[0], dtype=torch.float32))
        self.register_buffer("column", torch.arange(size[1], dtype=torch.float32))
        self.register_buffer("reach", torch.arange(-radius, radius + 1, dtype=torch.float32))

    def forward(self, heatmaps: Tensor) -> Tensor:
        """Decode."""
        rows, columns = self.size
        joints = heatmaps.shape[1]
        score = _pooled(heatmaps, self.size)
        best = 1.0 - _positive(score - heatmaps)
        y = float(rows) - _largest(_pooled(best, (1, columns)) * (float(rows) - self.row.view(1, 1, rows, 1)))
        in_row = best * _at(self.row.view(1, 1, rows, 1), y)
        left = float(columns) - self.column.view(1, 1, 1, columns)
        x = float(columns) - _largest(_pooled(in_row, (rows, 1)) * left)
        y, x, maps = y.view(joints, 1, 1), x.view(joints, 1, 1), heatmaps.view(joints, rows, columns)
        dx, dy = self._refined(maps, y, x)
        limits = ((x + 0.5 + dx, float(columns)), (y + 0.5 + dy, float(rows)))
        found = [(torch.clamp(at, 0.0, end) * self.stride).view(joints, 1) for at, end in limits]
        return torch.cat([*found, score.view(joints, 1)], dim=1).view(1, joints, 3)

    def _refined(self, maps: Tensor, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give the offsets below one cell, ``[K, 1, 1]`` each."""
        rows, columns = self.size
        choose = _smoothing if self.rule == "dark" else _at
        down = choose(self.row.view(1, 1, rows), y + self.reach.view(1, -1, 1))
        across = choose(self.column.view(1, columns, 1), x + self.reach.view(1, 1, -1))
        patch = torch.bmm(torch.bmm(down, maps), across)
        room_x, room_y = (torch.minimum(at, float(end - 1) - at) for at, end in ((x, columns), (y, rows)))
        if self.rule == "soft-argmax":
            return self._centre(patch, room_x, room_y)
        inside_x, inside_y = (torch.clamp(cells, max=1.0) for cells in (room_x, room_y))
        return (_taylor if self.rule == "dark" else _quarter)(_cells(patch), inside_x, inside_y)

    def _centre(self, patch: Tensor, room_x: Tensor, room_y: Tensor) -> tuple[Tensor, Tensor]:
        """Take the mean position in the window; it shrinks with the room to the border."""
        side = len(self.reach)
        along_x, along_y = self.reach.view(1, 1, side), self.reach.view(1, side, 1)
        in_x, in_y = (_unit(r + 1.0 - a.abs()) for r, a in ((room_x, along_x), (room_y, along_y)))
        weight = torch.relu(patch) * in_x * in_y
        total = torch.clamp(_sum(weight), min=_SMALLEST)
        return _sum(weight * along_x) / total, _sum(weight * along_y) / total


class WithKeypoints(nn.Module):
    """A network of pictures that gives its heatmaps and, behind them, its keypoints."""

    def __init__(self, network: nn.Module, decode: GraphDecode) -> None:
        super().__init__()
        self.network, self.decode = network, decode

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Give heatmaps ``[1, K, h, w]`` and keypoints ``[1, K, 3]``."""
        # Times one, for ExecuTorch 1.4 trips over an int8 result that is an output and goes on to other operators.
        heatmaps: Tensor = self.network(pictures) * 1.0
        return heatmaps, self.decode(heatmaps)


def _positive(value: Tensor) -> Tensor:
    """Give 1 where a value is above zero, 0 elsewhere."""
    return _unit(value * _SHARP)


def _unit(value: Tensor) -> Tensor:
    """Clamp to 0..1 by way of 0..2: TFLite has an operator for the first range, which XNNPACK does not take."""
    return torch.clamp(value * 2.0, 0.0, 2.0) * 0.5


def _at(cells: Tensor, wanted: Tensor) -> Tensor:
    """Give 1 where whole numbers are equal, 0 elsewhere."""
    return torch.relu(1.0 - (cells - wanted).abs())


def _smoothing(cells: Tensor, wanted: Tensor) -> Tensor:
    """Give the smoothing kernel's weight of each cell for the one that is wanted."""
    taps = [math.exp(-0.5 * (i / BLUR_SIGMA) ** 2) for i in range(_BLUR_REACH + 1)]
    total = taps[0] + 2 * sum(taps[1:])
    distance = (cells - wanted).abs()
    weight = torch.relu(1.0 - distance) * (taps[0] / total)
    for i, tap in enumerate(taps[1:], start=1):
        weight = weight + torch.relu(1.0 - (distance - float(i)).abs()) * (tap / total)
    return weight


def _largest(values: Tensor) -> Tensor:
    """Give the largest of each map, ``[1, K, 1, 1]``."""
    return _pooled(values, (values.shape[2], values.shape[3]))


def _pooled(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Max-pool without overlap; Core ML Tools wants the stride written out."""
    return F.max_pool2d(values, size, stride=size)


def _sum(values: Tensor) -> Tensor:
    """Sum ``[K, n, n]`` to ``[K, 1, 1]`` by a mean, the one sum that every delegate takes."""
    joints, rows, columns = values.shape
    total: Tensor = values.view(1, joints, rows, columns).mean(dim=(-2, -1), keepdim=True) * float(rows * columns)
    return total.view(joints, 1, 1)


def _cells(patch: Tensor) -> list[list[Tensor]]:
    """Take a patch ``[K, 3, 3]`` apart: rows of cells ``[K, 1, 1]``."""
    return [[patch[:, i : i + 1, j : j + 1] for j in range(3)] for i in range(3)]


def _quarter(cells: list[list[Tensor]], inside_x: Tensor, inside_y: Tensor) -> tuple[Tensor, Tensor]:
    across, down = cells[1][2] - cells[1][0], cells[2][1] - cells[0][1]
    dx, dy = (0.25 * torch.clamp(each * _SHARP, -1.0, 1.0) for each in (across, down))
    return dx * inside_x, dy * inside_y


def _taylor(cells: list[list[Tensor]], inside_x: Tensor, inside_y: Tensor) -> tuple[Tensor, Tensor]:
    log = [[torch.log(torch.clamp(cell, min=_SMALLEST)) for cell in row] for row in cells]
    gx, hxx = _derivatives(log[1][0], log[1][1], log[1][2], inside_x)
    gy, hyy = _derivatives(log[0][1], log[1][1], log[2][1], inside_y)
    hxy = 0.25 * (log[2][2] - log[2][0] - log[0][2] + log[0][0]) * inside_x * inside_y
    determinant = hxx * hyy - hxy * hxy
    good = _positive(determinant - _SMALLEST_DETERMINANT) * _positive(-hxx)
    safe = good * determinant + (1.0 - good)
    dx, dy = (hxy * gy - hyy * gx) / safe * good, (hxy * gx - hxx * gy) / safe * good
    return torch.clamp(dx, -_LARGEST_STEP, _LARGEST_STEP), torch.clamp(dy, -_LARGEST_STEP, _LARGEST_STEP)


def _derivatives(before: Tensor, here: Tensor, after: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Give slope and curvature; 0 and -1 on the border."""
    return 0.5 * (after - before) * inside, (after - 2.0 * here + before) * inside - (1.0 - inside)
