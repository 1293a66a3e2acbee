"""Which channels of a network can be scaled, and what has to be scaled with them.

Every channel of every tensor of the exported program is put into a class of channels that must share one factor:

1. An operator that passes positive factors through (``max(0, s x) = s max(0, x)``; average and maximum over pixels,
   interpolation, padding with zeros) ties each output channel to its input channel.
2. An addition, subtraction, maximum or minimum of tensors of one shape ties the channels of all three.
3. A concatenation of channels ties each part to its place in the whole.
4. A product ties its result to its larger operand; the other one, a gate, keeps factor 1.
5. A layer ties nothing: factors of its output go into the rows of its weight and its bias, those of its input into
   the columns. A depthwise layer's output channel is therefore free of its input channel.
6. Input, output, and what an operator not named here reads or gives keep factor 1. So does everything about a layer
   whose weight or bias another layer uses as well. ReLU6 is such an operator: ``min(6, s x)`` is not ``s min(6, x)``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.fx import GraphModule, Node

from quantization.methods.layers import Layer, argument, kind_of, layers_of

__all__ = ["ChannelClasses", "channel_classes"]

Integers = NDArray[np.int64]

_PASSES: Final = frozenset(
    {"relu", "leaky_relu", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d",
     "upsample_bilinear2d", "upsample_nearest2d", "dropout", "alias", "contiguous", "clone", "constant_pad_nd", "pad"}
)  # fmt: skip
_TIES_ALL: Final = frozenset({"add", "sub", "maximum", "minimum"})
_PADS: Final = frozenset({"constant_pad_nd", "pad"})
_PICTURE_PADS: Final = 4


@dataclass(frozen=True, kw_only=True)
class ChannelClasses:
    """Classes of channels that must share one factor.

    Attributes:
        of: Node name to the class of each of its channels ``[C]``, for four-dimensional tensors.
        fixed: For each class, whether its factor has to stay 1.
        layers: The layers whose weights take the factors up.
    """

    of: Mapping[str, Integers]
    fixed: NDArray[np.bool_]
    layers: tuple[Layer, ...]


def channel_classes(program: GraphModule) -> ChannelClasses:
    """Sort the channels of an exported program into classes."""
    return _Sorter(program).sorted()


class _Sorter:
    """Union-find over single channels; a class is named by its smallest member."""

    def __init__(self, program: GraphModule) -> None:
        self._nodes = list(program.graph.nodes)
        self._layers = {layer.name: layer for layer in layers_of(program)}
        self._first: dict[Node, int] = {}
        self._counts = {node: count for node in self._nodes if (count := _channels(node))}
        total = 0
        for node, count in self._counts.items():
            self._first[node] = total
            total += count
        self._parent = list(range(total))
        self._stuck: set[int] = set()

    def sorted(self) -> ChannelClasses:
        for node in self._nodes:
            self._visit(node)
        roots = np.array([self._root(channel) for channel in range(len(self._parent))], np.int64)
        names, classes = np.unique(roots, return_inverse=True)
        stuck = {self._root(channel) for channel in self._stuck}
        return ChannelClasses(
            of={node.name: classes[first : first + self._counts[node]] for node, first in self._first.items()},
            fixed=np.isin(names, list(stuck)),
            layers=tuple(self._layers.values()),
        )

    def _visit(self, node: Node) -> None:
        kind, layer = kind_of(node), self._layers.get(node.name)
        tensors = [each for each in node.all_input_nodes if each.op != "get_attr"]
        if node.op == "get_attr":
            return
        if layer is not None and not layer.shared and all(each in self._first for each in (node, *tensors)):
            return
        constants = len(tensors) < len(node.all_input_nodes)
        if kind in _PASSES and len(tensors) == 1 and not constants and self._passes(node):
            self._tie(node, tensors[0])
        elif kind in _TIES_ALL and not constants and self._adds(node):
            for each in tensors:
                self._tie(node, each)
        elif kind == "cat" and not constants and all(each in self._first for each in (node, *tensors)):
            self._concatenate(node)
        elif kind == "mul" and not constants and len(tensors) == 2:
            carried, gate = sorted(tensors, key=_size, reverse=True)
            self._tie(node, carried)
            self._fix(gate)
        else:
            for each in (node, *tensors):
                self._fix(each)

    def _passes(self, node: Node) -> bool:
        if kind_of(node) not in _PADS:
            return True
        value = argument(node, "value")
        return not value and len(argument(node, "pad")) <= _PICTURE_PADS

    def _adds(self, node: Node) -> bool:
        """Whether both operands are tensors of the result's shape."""
        operands = node.args[:2]
        return all(isinstance(each, Node) and _shape(each) == _shape(node) for each in operands)

    def _concatenate(self, node: Node) -> None:
        parts: Any = node.args[0]
        if argument(node, "dim") not in (1, 1 - len(_shape(node))):
            for each in (node, *parts):
                self._fix(each)
            return
        place = self._first[node]
        for part in parts:
            for channel in range(self._counts[part]):
                self._join(place + channel, self._first[part] + channel)
            place += self._counts[part]

    def _tie(self, one: Node, other: Node) -> None:
        if self._counts.get(one) != self._counts.get(other) or one not in self._counts:
            self._fix(one)
            self._fix(other)
            return
        for channel in range(self._counts[one]):
            self._join(self._first[one] + channel, self._first[other] + channel)

    def _fix(self, node: Node) -> None:
        first = self._first.get(node)
        if first is not None:
            self._stuck.update(range(first, first + self._counts[node]))

    def _join(self, one: int, other: int) -> None:
        one, other = sorted((self._root(one), self._root(other)))
        self._parent[other] = one

    def _root(self, channel: int) -> int:
        while self._parent[channel] != channel:
            self._parent[channel] = self._parent[self._parent[channel]]
            channel = self._parent[channel]
        return channel


def _shape(node: Node) -> tuple[int, ...]:
    value = node.meta.get("val")
    return tuple(int(side) for side in value.shape) if isinstance(value, Tensor) else ()


def _channels(node: Node) -> int:
    """Count the channels of a four-dimensional activation; 0 for anything else."""
    shape = _shape(node)
    return shape[1] if len(shape) == 4 and node.op != "get_attr" else 0


def _size(node: Node) -> int:
    return int(np.prod(_shape(node)))
