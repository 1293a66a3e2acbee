"""Norms and constants per channel that are left when everything else is merged: written as depthwise 1x1."""

from typing import Final

import torch
from torch import nn
from torch.fx import Node

from lspdmobile.fusion.linear import NotExactError
from lspdmobile.fusion.operations import AddOp, AffineOp, Op
from lspdmobile.fusion.planner import Planner, conv_op, described
from lspdmobile.fusion.rewrites.affine_alone import as_depthwise
from lspdmobile.fusion.views import linear_view
from lspdmobile.fusion.work import Work

__all__ = ["AFFINE_ALONE", "rewrite_affines"]

AFFINE_ALONE: Final = "affine to 1x1"
_ATEN: Final = torch.ops.aten
_BINARY: Final = (_ATEN.mul.Tensor, _ATEN.div.Tensor, _ATEN.add.Tensor, _ATEN.sub.Tensor)


def rewrite_affines(work: Work, planner: Planner) -> None:
    """Write every norm that is left, and every operator with a constant per channel, as a convolution where it pays.

    For int8 always: a norm has no integer form, and one scale for a whole constant is coarser than one per channel.
    """
    for node in list(work.graph.nodes):
        kept = _kept(work, node)
        if kept is not None:
            _rewrite(work, planner, node, kept)


def _kept(work: Work, node: Node) -> Op | None:
    """Give what a norm, or an operator with a constant per channel, costs as it is; None for any other node.

    A factor or a summand alone has no price of its own; the nearest is that of an addition.
    """
    shape = node.meta["shape"]
    if shape is None or len(shape) != 4:
        return None
    if isinstance(work.layer(node), nn.BatchNorm2d):
        return AffineOp(channels=shape[1], size=shape[2:])
    constants = [value for each in node.all_input_nodes if (value := work.constant(each)) is not None]
    per_channel = node.target in _BINARY and any(value.numel() > 1 for value in constants)
    return AddOp(channels=shape[1], size=shape[2:]) if per_channel else None


def _rewrite(work: Work, planner: Planner, node: Node, kept: Op) -> None:
    try:
        view = linear_view(work, node)
        if view is None:
            return
        linear = as_depthwise(view[0])
    except NotExactError as reason:
        work.refuse(node, AFFINE_ALONE, str(reason))
        return
    if planner.dtype != "int8" and planner.cost([conv_op(linear, node.meta["shape"][2:])]) > planner.cost([kept]):
        work.refuse(node, AFFINE_ALONE, "a depthwise 1x1 would cost more")
        return
    with work.graph.inserting_before(node):
        new = work.conv_node(view[1], linear, paths=node.meta["paths"] or [node.name], shape=node.meta["shape"])
    work.hand_on_refusals(node, new)
    work.replace(node, new, AFFINE_ALONE, form=described(linear))
