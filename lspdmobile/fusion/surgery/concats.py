"""Convolutions of one input whose outputs are concatenated: found in the graph and made one wider convolution."""

from collections.abc import Sequence
from itertools import groupby
from typing import Final

import torch
from torch import nn
from torch.fx import Node

from lspdmobile.fusion.linear import Linear, NotExactError, linear_of_conv
from lspdmobile.fusion.planner import Planner, conv_op, described
from lspdmobile.fusion.rewrites.branch_concat import concatenated
from lspdmobile.fusion.work import Work

__all__ = ["MERGE_CONCAT", "merge_concats"]

MERGE_CONCAT: Final = "merge concatenated"
_CAT: Final = torch.ops.aten.cat.default
_CHANNELS: Final = 1


def merge_concats(work: Work, planner: Planner) -> bool:
    """Merge neighbouring convolutions of one input in every concatenation by channels; say whether there were any."""
    found = [node for node in work.graph.nodes if node.target is _CAT]
    return any([node.users and _merge(work, planner, node) for node in found])  # noqa: C419 - every one, not the first


def _merge(work: Work, planner: Planner, root: Node) -> bool:
    pieces, axis = root.args[0], root.args[1] if len(root.args) > 1 else root.kwargs.get("dim", 0)
    shape = root.meta["shape"]
    if axis not in (_CHANNELS, -3) or shape is None or len(shape) != 4 or not isinstance(pieces, Sequence):
        return False
    joined: list[Node] = []
    forms: list[str] = []
    for source, run in groupby(pieces, key=lambda piece: _source(work, piece)):
        nodes = [node for node in run if isinstance(node, Node)]
        new = None if source is None or len(nodes) < 2 else _wide(work, planner, root, source, nodes)
        if new is None:
            joined += nodes
        else:
            joined.append(new)
            forms.append(new.meta["form"])
    if not forms:
        return False
    total = joined[0]
    if len(joined) > 1:
        with work.graph.inserting_before(root):
            total = work.operator(_CAT, (joined, _CHANNELS), like=root)
    work.replace(root, total, MERGE_CONCAT, form=" + ".join(forms))
    return True


def _source(work: Work, node: object) -> Node | None:
    """Give what a convolution reads, if the concatenation alone reads the convolution."""
    if not isinstance(node, Node) or not isinstance(work.layer(node), nn.Conv2d):
        return None
    source = node.args[0]
    return source if isinstance(source, Node) and len(node.users) == 1 and not work.shared(node) else None


def _wide(work: Work, planner: Planner, root: Node, source: Node, nodes: Sequence[Node]) -> Node | None:
    linears: list[Linear] = []
    for node in nodes:
        layer = work.layer(node)
        assert isinstance(layer, nn.Conv2d)
        linears.append(linear_of_conv(layer))
    size = source.meta["shape"][2:]
    try:
        plan = conv_op(concatenated([linear.on_meta for linear in linears]), size)
        if planner.cost([plan]) > planner.cost([conv_op(linear, size) for linear in linears]):
            work.refuse(root, MERGE_CONCAT, "one wider kernel would cost more than the convolutions it replaces")
            return None
        wide = concatenated(linears)
        shape = (*nodes[0].meta["shape"][:1], wide.out_channels, *nodes[0].meta["shape"][2:])
        with work.graph.inserting_before(root):
            new = work.conv_node(source, wide, paths=[p for node in nodes for p in node.meta["paths"]], shape=shape)
    except NotExactError as reason:
        work.refuse(root, MERGE_CONCAT, str(reason))
        return None
    new.meta["rewrites"] = tuple(dict.fromkeys(step for node in nodes for step in node.meta["rewrites"]))
    new.meta["form"] = described(wide)
    return new
