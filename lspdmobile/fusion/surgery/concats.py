"""Convolutions whose outputs are concatenated: found in the graph and made one, run by run.

Each piece that is a convolution is a map of channels of a value above it. Neighbours form a run where all read the same
channels, or each the channels behind those of the one before it; of all ways to cut the pieces into runs the cheapest
is taken. What the concatenation and the split themselves cost is not counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import Final

import torch
from torch import nn
from torch.fx import Node

from lspdmobile.fusion.linear import Linear, NotExactError, linear_of_conv
from lspdmobile.fusion.planner import Planner, conv_op, described
from lspdmobile.fusion.rewrites.branch_concat import concatenated, side_by_side
from lspdmobile.fusion.surgery.slices import Channels, channels_of, take
from lspdmobile.fusion.work import Work

__all__ = ["MERGE_CONCAT", "merge_concats"]

MERGE_CONCAT: Final = "merge concatenated"
_CAT: Final = torch.ops.aten.cat.default
_CHANNELS: Final = 1
_DEARER: Final = "one wider kernel would cost more than the convolutions it replaces"


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """A convolution that a concatenation alone reads, and the channels above that it reads."""

    node: Node
    channels: Channels
    linear: Linear


def merge_concats(work: Work, planner: Planner) -> bool:
    """Merge neighbouring convolutions in every concatenation by channels; say whether there were any."""
    found = [node for node in work.graph.nodes if node.target is _CAT]
    return any([node.users and _merge(work, planner, node) for node in found])  # noqa: C419 - every one, not the first


def _merge(work: Work, planner: Planner, root: Node) -> bool:
    given, axis = root.args[0], root.args[1] if len(root.args) > 1 else root.kwargs.get("dim", 0)
    shape = root.meta["shape"]
    if axis not in (_CHANNELS, -3) or shape is None or len(shape) != 4 or not isinstance(given, Sequence):
        return False
    pieces = [(node, _piece(work, node)) for node in given if isinstance(node, Node)]
    joined: list[Node] = []
    forms: list[str] = []
    for first, last in _runs(work, planner, root, [piece for _, piece in pieces]):
        run = [piece for _, piece in pieces[first:last] if piece is not None]
        new = _wide(work, root, run) if last - first > 1 else None
        if new is None:
            joined += [node for node, _ in pieces[first:last]]
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


def _piece(work: Work, node: Node) -> _Piece | None:
    layer, source = work.layer(node), node.args[0] if node.args else None
    if not isinstance(layer, nn.Conv2d) or not isinstance(source, Node) or len(node.users) > 1 or work.shared(node):
        return None
    return _Piece(node=node, channels=channels_of(source), linear=linear_of_conv(layer))


def _runs(work: Work, planner: Planner, root: Node, pieces: Sequence[_Piece | None]) -> list[tuple[int, int]]:
    """Cut pieces into runs at the least cost, of equal cost into fewer; a run is given as first and behind the last."""
    best: list[tuple[float, int, int]] = [(0.0, 0, 0)]
    for last in range(1, len(pieces) + 1):
        options = []
        for first in range(last - 1, -1, -1):
            cost = _cost(work, planner, root, pieces[first:last])
            if cost == inf:
                break
            options.append((best[first][0] + cost, best[first][1] + 1, first))
        best.append(min(options))
    runs: list[tuple[int, int]] = []
    last = len(pieces)
    while last:
        runs.insert(0, (best[last][2], last))
        last = best[last][2]
    return runs


def _cost(work: Work, planner: Planner, root: Node, run: Sequence[_Piece | None]) -> float:
    """Give the cost of a run as one convolution, of one piece as it is; infinite where a run is not exact."""
    pieces = [piece for piece in run if piece is not None]
    apart = sum(_priced(planner, piece.linear, piece) for piece in pieces)
    if len(run) == 1:
        return apart
    if len(pieces) < len(run) or _read(pieces) is None:
        return inf
    try:
        cost = _priced(planner, _joined(pieces, on_meta=True), pieces[0])
    except NotExactError as reason:
        work.refuse(root, MERGE_CONCAT, str(reason))
        return inf
    if cost > apart:
        work.refuse(root, MERGE_CONCAT, _DEARER)
    return cost


def _priced(planner: Planner, linear: Linear, piece: _Piece) -> float:
    return planner.cost([conv_op(linear, piece.channels.source.meta["shape"][2:])])


def _read(run: Sequence[_Piece]) -> Channels | None:
    """Give the channels that a run reads as a whole; None where its pieces are no run."""
    first, last = run[0].channels, run[-1].channels
    if all(piece.channels == first for piece in run):
        return first
    whole = Channels(source=first.source, start=first.start, stop=last.stop)
    follow = all(
        one.channels.source is other.channels.source and one.channels.stop == other.channels.start
        for one, other in pairwise(run)
    )
    return whole if follow else None


def _joined(run: Sequence[_Piece], *, on_meta: bool = False) -> Linear:
    """Write a run as one map of the channels it reads.

    Raises:
        NotExactError: There is none.
    """
    linears = [piece.linear.on_meta if on_meta else piece.linear for piece in run]
    return (concatenated if run[0].channels == run[1].channels else side_by_side)(linears)


def _wide(work: Work, root: Node, run: Sequence[_Piece]) -> Node | None:
    """Add one convolution for a run; None where no module can do it."""
    channels = _read(run)
    assert channels is not None
    wide = _joined(run)
    nodes = [piece.node for piece in run]
    shape = (*root.meta["shape"][:1], wide.out_channels, *root.meta["shape"][2:])
    try:
        with work.graph.inserting_before(root):
            source = take(work, channels)
            new = work.conv_node(
                source, wide, paths=[path for node in nodes for path in node.meta["paths"]], shape=shape
            )
    except NotExactError as reason:
        work.refuse(root, MERGE_CONCAT, str(reason))
        return None
    new.meta["rewrites"] = tuple(dict.fromkeys(step for node in nodes for step in node.meta["rewrites"]))
    new.meta["form"] = described(wide)
    return new
