"""Single convolutions with zero taps: trimmed, or split into smaller ones where that is cheaper."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import nn
from torch.fx import Node

from lspdmobile.fusion.linear import Linear, linear_of_conv
from lspdmobile.fusion.operations import AddOp
from lspdmobile.fusion.planner import Planner, conv_op, described
from lspdmobile.fusion.rewrites.split import splits, trimmed
from lspdmobile.fusion.work import Work

__all__ = ["SPLIT_KERNEL", "reform_kernels"]

SPLIT_KERNEL: Final = "split kernel"
_ADD: Final = torch.ops.aten.add.Tensor


def reform_kernels(work: Work, planner: Planner) -> None:
    """Write every convolution with zero taps in its cheapest form."""
    for node in list(work.graph.nodes):
        layer = work.layer(node)
        if isinstance(layer, nn.Conv2d) and max(layer.kernel_size) > 1 and not work.shared(node):
            _reform(work, planner, node, linear_of_conv(layer))


def _reform(work: Work, planner: Planner, node: Node, linear: Linear) -> None:
    source, shape = node.args[0], node.meta["shape"]
    if not isinstance(source, Node) or shape is None or len(shape) != 4:
        return
    size: tuple[int, int] = source.meta["shape"][2:]

    def cost(parts: Sequence[Linear]) -> float:
        additions = [AddOp(channels=shape[1], size=shape[2:])] * (len(parts) - 1)
        return planner.cost([*(conv_op(part, size) for part in parts), *additions])

    best = min([(linear,), (trimmed(linear),), *splits(linear)], key=cost)
    if cost(best) >= cost((linear,)):
        return
    with work.graph.inserting_before(node):
        pieces = [work.conv_node(source, part, paths=node.meta["paths"], shape=shape) for part in best]
        total = pieces[0]
        for piece in pieces[1:]:
            total = work.operator(_ADD, (total, piece), like=node)
    total.meta["rewrites"] = node.meta["rewrites"]
    work.replace(node, total, SPLIT_KERNEL, form=" + ".join(described(part) for part in best))
