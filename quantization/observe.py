"""What a network's tensors did over the calibration pictures, in memory that does not grow with their number.

The pictures go through the exported program one by one. Of every float tensor the smallest and largest value is kept,
for each of four shares of the pictures (picture 0, 4, 8...; 1, 5, 9...; and so on), so that the shares can be compared;
and, where the estimator needs it, their moving average or a histogram.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from lspdmobile.choices import Estimator
from lspdmobile.errors import BadInputError
from quantization.estimators import holding_zero
from quantization.fixed import fixed_range
from quantization.histogram import Histogram
from quantization.plan import Estimation

__all__ = ["SHARES", "Observer", "Seen"]

SHARES: Final = 4
"""The pictures are dealt out to this many shares."""

_HISTOGRAMS: Final = (Estimator.PERCENTILE, Estimator.MSE, Estimator.ENTROPY)
_PASSES_ON: Final = frozenset(
    f"aten.{name}"
    for name in (
        *("relu", "relu_", "clamp", "clamp_min", "clone", "contiguous", "view", "reshape", "permute", "transpose"),
        *("squeeze", "unsqueeze", "flatten", "slice", "upsample_bilinear2d", "upsample_nearest2d", "pixel_shuffle"),
    )
)
_FUSED: Final = frozenset(f"aten.{name}" for name in ("relu", "relu_", "hardtanh", "hardtanh_"))
_RECORDER: Final = "calibration_recorder"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One tensor over all pictures.

    Attributes:
        lows, highs: Smallest and largest value in each share of the pictures ``[SHARES]``, or the ends of the grid
            where that is fixed; plus and minus infinity in a share without a picture.
        averaged: Moving averages of the pictures' smallest and largest values, where asked for.
        histogram: Of all values, where asked for and the tensor's range is for the estimator to choose.
    """

    lows: NDArray[np.float64]
    highs: NDArray[np.float64]
    averaged: tuple[float, float] | None = None
    histogram: Histogram | None = None

    @property
    def low(self) -> float:
        """Smallest value."""
        return float(self.lows.min())

    @property
    def high(self) -> float:
        """Largest value."""
        return float(self.highs.max())


class Observer:
    """Runs an exported program and keeps what its tensors did.

    Attributes:
        pictures: How many were seen.
    """

    def __init__(self, module: GraphModule, estimation: Estimation) -> None:
        self.pictures = 0
        nodes = [node for node in module.graph.nodes if node.op in ("placeholder", "call_function")]
        chosen = {node for node in nodes if not _takes_extremes(node, clip_output=estimation.clip_output)}
        self._recorder = _Recorder(nodes, chosen, estimation)
        self._module = _recording(module, nodes, self._recorder)

    def see(self, picture: NDArray[np.float32]) -> None:
        """Run one picture ``[1, 3, H, W]``.

        Raises:
            BadInputError: The picture or a tensor is not finite.
        """
        self._recorder.picture = self.pictures
        with torch.inference_mode():
            self._module(torch.from_numpy(np.ascontiguousarray(picture)))
        self.pictures += 1

    def seen(self) -> Mapping[str, Seen]:
        """Give every float tensor by its node's name, in program order."""
        return self._recorder.seen()


class _Recorder(nn.Module):
    """Called with every value of the program, as it is computed."""

    def __init__(self, nodes: list[Node], chosen: set[Node], estimation: Estimation) -> None:
        super().__init__()
        self.picture = 0
        self._nodes = nodes
        self._chosen = [node in chosen for node in nodes]
        self._fixed = [fixed_range(node) for node in nodes]
        self._estimation = estimation
        self._averages = estimation.estimator is Estimator.MOVING_AVERAGE
        self._counts = estimation.estimator in _HISTOGRAMS
        self._lows = np.full((len(nodes), SHARES), np.inf)
        self._highs = np.full((len(nodes), SHARES), -np.inf)
        self._averaged: dict[int, tuple[float, float]] = {}
        self._histograms: dict[int, Histogram] = {}

    def forward(self, value: Any, index: int) -> None:
        """Keep what is needed of the value of node ``index``."""
        if not (isinstance(value, Tensor) and value.is_floating_point() and value.numel()):
            return
        smallest, largest = torch.aminmax(value)
        low, high = float(smallest), float(largest)
        if not (math.isfinite(low) and math.isfinite(high)):
            self._refuse(self._nodes[index])
        fixed, share = self._fixed[index], self.picture % SHARES
        low, high = fixed or (low, high)
        self._lows[index, share] = min(low, self._lows[index, share])
        self._highs[index, share] = max(high, self._highs[index, share])
        if self._chosen[index] and fixed is None:
            self._estimate(value, index, low, high)

    def seen(self) -> dict[str, Seen]:
        """Give what was kept, of the nodes that gave a float tensor."""
        return {
            node.name: Seen(
                lows=self._lows[index],
                highs=self._highs[index],
                averaged=self._averaged.get(index),
                histogram=self._histograms.get(index),
            )
            for index, node in enumerate(self._nodes)
            if np.isfinite(self._lows[index]).any()
        }

    def _estimate(self, value: Tensor, index: int, low: float, high: float) -> None:
        if self._averages:
            kept, new = self._estimation.momentum, holding_zero(low, high)
            before = self._averaged.get(index, new)
            self._averaged[index] = (
                kept * before[0] + (1 - kept) * new[0],
                kept * before[1] + (1 - kept) * new[1],
            )
        if self._counts:
            before_all = self._histograms.get(index)
            values = value.float()
            self._histograms[index] = (
                before_all.with_values(values, low, high) if before_all else Histogram.of(values, low, high)
            )

    def _refuse(self, node: Node) -> None:
        where = "the picture itself" if node.op == "placeholder" else f"layer {_layer_of(node)!r} ({node.name})"
        message = (
            f"calibration picture {self.picture}: {where} holds values that are not finite; "
            "check the picture and the checkpoint's weights"
        )
        raise BadInputError(message)


def _recording(module: GraphModule, nodes: list[Node], recorder: _Recorder) -> GraphModule:
    """Give the program with a call of the recorder behind every node, before another operator can change the value."""
    module.add_submodule(_RECORDER, recorder)
    last_input = max(index for index, node in enumerate(nodes) if node.op == "placeholder")
    for index, node in enumerate(nodes):
        with module.graph.inserting_after(nodes[last_input] if node.op == "placeholder" else node):
            module.graph.call_module(_RECORDER, (node, index))
    module.recompile()
    return module


def _takes_extremes(node: Node, *, clip_output: bool) -> bool:
    """Whether a tensor takes its smallest and largest value whatever the estimator.

    1. No integer is made of a tensor that only a ReLU or a clamp such as ReLU6 reads: the runtimes fuse the two.
    2. The network's output, and what merely is moved, interpolated or cut at 0 on the way to it, sets the height of the
       heatmaps' peaks.
    """
    users = list(node.users)
    if len(users) == 1 and _kind(users[0]) in _FUSED and node.op != "placeholder":
        return True
    return not clip_output and bool(users) and all(_leads_out(user) for user in users)


def _leads_out(node: Node) -> bool:
    if node.op == "output":
        return True
    return _kind(node) in _PASSES_ON and bool(node.users) and all(_leads_out(user) for user in node.users)


def _kind(node: Node) -> str:
    """Name an operator without its overload, such as ``aten.relu``."""
    return str(node.target).rpartition(".")[0]


def _layer_of(node: Node) -> str:
    """Dotted name of the innermost module a node comes from."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]) if stack and stack[-1][0] else "forward"
