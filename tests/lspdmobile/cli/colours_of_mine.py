"""A network as a user may bring it: joint k is wherever the picture is reddest, greenest or bluest (k modulo 3).

Its weights are set by hand, so that its results have clear peaks; its channels are shuffled on the way.
"""

from typing import Any

import torch
from torch import Tensor, nn

CHANNELS, STRIDE, REACH = 8, 4, 12


class Colours(nn.Module):
    """Heatmaps ``[N, K, size / 4, size / 4]``; or what a SimCC or a regression head reads from them."""

    def __init__(self, keypoints: int = 14, head: str = "heatmap", size: int = 96) -> None:
        super().__init__()
        self.head, self.cells = head, size // STRIDE
        self.mix = nn.Conv2d(3, CHANNELS, 2 * REACH + 1, STRIDE, REACH)
        self.norm = nn.BatchNorm2d(CHANNELS)
        self.heatmap = nn.Conv2d(CHANNELS, keypoints, 1)
        self.across = nn.Linear(self.cells**2, 2 * size if head == "simcc" else 2)
        self.down = nn.Linear(self.cells**2, 2 * size)
        with torch.no_grad():
            self._set_weights(keypoints, size)

    def _set_weights(self, keypoints: int, size: int) -> None:
        mean, std = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
        colours = 1.5 * torch.eye(3) - 0.5
        steps = torch.arange(-REACH, REACH + 1)
        cone = (REACH - torch.hypot(steps[:, None].float(), steps.float())).clamp(min=0)
        self.mix.weight.mul_(0.02)
        self.mix.weight[:3] = (colours * std)[:, :, None, None] * (cone / cone.sum())
        bias: Any = self.mix.bias
        bias[:3] = colours @ mean - 0.05
        self.eval()
        statistics: Any = self.norm
        statistics.running_mean[3:].uniform_(-0.1, 0.1)
        statistics.running_var[3:].uniform_(0.5, 2)
        self.heatmap.weight.mul_(0.001)
        for joint in range(keypoints):
            self.heatmap.weight[joint, 2 * (joint % 3)] = 1.0  # where the shuffle takes the first three channels
        nn.init.zeros_(self.heatmap.bias) if self.heatmap.bias is not None else None
        centres = (torch.arange(self.cells) + 0.5) * STRIDE
        y, x = (each.flatten() for each in torch.meshgrid(centres, centres, indexing="ij"))
        if self.head == "simcc":
            strips = (torch.arange(2 * size) + 0.5) / 2
            for layer, places in ((self.across, x), (self.down, y)):
                layer.weight.copy_((1 - ((strips[:, None] - places) / 10) ** 2).clamp(min=0))
                layer.bias.zero_()
        elif self.head == "regression":
            self.across.weight.copy_(torch.stack((x, y)) / size)
            self.across.bias.zero_()

    def _maps(self, pictures: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.mix(pictures)))
        count, _, rows, columns = x.shape
        pairs = x.view(count, 2, CHANNELS // 2, rows, columns).transpose(1, 2)
        return torch.relu(self.heatmap(pairs.reshape(count, CHANNELS, rows, columns)))

    def forward(self, pictures: Tensor) -> Tensor | dict[str, Tensor]:
        """Map normalised pictures ``[N, 3, size, size]`` to what the head gives."""
        maps = self._maps(pictures)
        if self.head == "heatmap":
            return maps
        flat = maps.flatten(2)
        if self.head == "simcc":
            return {"down": self.down(flat), "across": self.across(flat)}
        points: Tensor = self.across(flat) / (flat.sum(-1, keepdim=True) + 1e-3)
        return points.flatten(1)


def build(keypoints: int = 14, head: str = "heatmap", size: int = 96) -> nn.Module:
    """Make the network."""
    torch.manual_seed(0)
    return Colours(keypoints, head, size)
