"""Feature Aggregation Unit of OKDHP: weighs the branches' heatmaps, joint by joint, into their teacher.

Two forms of it are public and differ (Li et al., ICCV 2021):

``"paper"``: the figure. 3x3, 5x5 and 7x7 convolutions side by side, each followed by a 1x1; their concatenation and a
    global average of the input that went through a 1x1 are pooled into one vector; one linear layer gives the weights.
``"released"``: the authors' code. The three convolutions are summed; a linear layer to a quarter of the width, then one
    per branch.

Every convolution is followed by norm and ReLU. Weights are a softmax over the branches, for each joint by itself. The
unit trains and never ships.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import torch
from torch import Tensor, nn

from lspdmobile.networks.blocks import ConvNormAct

__all__ = ["Aggregation", "BranchOutputs", "FeatureAggregationUnit"]

Aggregation = Literal["paper", "released"]
_KERNELS: Final = (3, 5, 7)
_REDUCTION: Final = 4


@dataclass(frozen=True, kw_only=True)
class BranchOutputs:
    """What a multi-branch training network gives: heatmaps ``[N, K, h, w]``, each in its place by name.

    Attributes:
        shared: Of the stacks that all branches share; empty where they share no heatmaps.
        branches: Of every branch, first to last of its stacks; the last is the branch's result.
        ensemble: The branches' results, weighted.
    """

    shared: tuple[Tensor, ...]
    branches: tuple[tuple[Tensor, ...], ...]
    ensemble: Tensor

    @property
    def finals(self) -> list[Tensor]:
        """Each branch's result."""
        return [branch[-1] for branch in self.branches]

    @property
    def distilled(self) -> list[Tensor]:
        """All heatmaps that are pulled to the ensemble: shared and intermediate ones included."""
        return [*self.shared, *(heatmaps for branch in self.branches for heatmaps in branch)]


class FeatureAggregationUnit(nn.Module):
    """Weighs T branches by what the features ``[N, C, h, w]`` before them hold.

    Args:
        channels: Width C of the features.
        keypoints: Heatmaps K.
        branches: Number of branches T.
        form: Which of the two public forms.

    Raises:
        ValueError: There is no such form.
    """

    def __init__(self, channels: int, *, keypoints: int, branches: int, form: Aggregation) -> None:
        super().__init__()
        if form not in get_args(Aggregation):
            message = f"unknown aggregation {form!r}: one of {', '.join(get_args(Aggregation))}"
            raise ValueError(message)
        self.keypoints, self.count = keypoints, branches
        self.scales = nn.ModuleList(self._scale(channels, kernel, form) for kernel in _KERNELS)
        self.average = ConvNormAct(channels, channels, bias=True) if form == "paper" else None
        if form == "paper":
            joined = (len(_KERNELS) + 1) * channels
            self.weigh: nn.Module = nn.Linear(joined, branches * keypoints)
        else:
            reduced = channels // _REDUCTION
            self.weigh = nn.Sequential(nn.Linear(channels, reduced), nn.Linear(reduced, branches * keypoints))

    @staticmethod
    def _scale(channels: int, kernel: int, form: Aggregation) -> nn.Module:
        wide = ConvNormAct(channels, channels, kernel, bias=True)
        return nn.Sequential(wide, ConvNormAct(channels, channels, bias=True)) if form == "paper" else wide

    def weights(self, features: Tensor) -> Tensor:
        """Map features ``[N, C, h, w]`` to weights ``[N, T, K]``, 0..1, that sum to one over the branches."""
        seen = [scale(features) for scale in self.scales]
        if self.average is None:
            pooled = torch.stack(seen).sum(dim=0).mean(dim=(2, 3))
        else:
            overall = self.average(features.mean(dim=(2, 3), keepdim=True)).flatten(1)
            pooled = torch.cat([*(scale.mean(dim=(2, 3)) for scale in seen), overall], dim=1)
        scores: Tensor = self.weigh(pooled)
        return scores.view(-1, self.count, self.keypoints).softmax(dim=1)

    def forward(self, features: Tensor, finals: Sequence[Tensor]) -> Tensor:
        """Weigh the T branches' heatmaps ``[N, K, h, w]`` into the ensemble, of the same shape."""
        weights = self.weights(features)
        ensemble: Tensor = (torch.stack(list(finals), dim=1) * weights[:, :, :, None, None]).sum(dim=1)
        return ensemble
