"""Nodes that are neighbouring channels of another node's value: splits, chunks and slices."""

import operator
from dataclasses import dataclass
from itertools import accumulate
from math import ceil
from typing import Final

import torch
from torch.fx import Node

from lspdmobile.fusion.lifting import arguments_of
from lspdmobile.fusion.work import Work

__all__ = ["Channels", "channels_of", "take"]

_ATEN: Final = torch.ops.aten
_CHANNELS: Final = (1, -3)


@dataclass(frozen=True, kw_only=True)
class Channels:
    """Channels ``start`` to ``stop`` (not included) of a node's value ``[N, C, H, W]``."""

    source: Node
    start: int
    stop: int


def channels_of(node: Node) -> Channels:
    """Read a node of a picture's shape as channels of the value they are taken from; of its own where of none."""
    count: int = node.meta["shape"][1]
    found = _piece_of_a_split(node) or _slice(node)
    source, start = (node, 0) if found is None else found
    return Channels(source=source, start=start, stop=start + count)


def take(work: Work, channels: Channels) -> Node:
    """Give a node of these channels; the caller has set where it may be added."""
    shape = channels.source.meta["shape"]
    if (channels.start, channels.stop) == (0, shape[1]):
        return channels.source
    arguments = (channels.source, _CHANNELS[0], channels.start, channels.stop)
    node = work.operator(_ATEN.slice.Tensor, arguments, like=channels.source)
    node.meta["shape"] = (shape[0], channels.stop - channels.start, *shape[2:])
    return node


def _piece_of_a_split(node: Node) -> tuple[Node, int] | None:
    """Give the value a split takes a piece of, and the piece's first channel."""
    split = node.args[0] if node.target is operator.getitem else None
    if not isinstance(split, Node) or split.op != "call_function":
        return None
    given, index = arguments_of(split), node.args[1]
    source = given.get("self")
    if not isinstance(source, Node) or not isinstance(index, int) or given.get("dim") not in _CHANNELS:
        return None
    count = source.meta["shape"][1]
    if split.target is _ATEN.split_with_sizes.default:
        return source, [0, *accumulate(given["split_sizes"])][index]
    if split.target is _ATEN.split.Tensor:
        return source, index * int(given["split_size"])
    return (source, index * ceil(count / given["chunks"])) if split.target is _ATEN.chunk.default else None


def _slice(node: Node) -> tuple[Node, int] | None:
    """Give the value that every channel from one on is taken of, and that one."""
    if node.target is not _ATEN.slice.Tensor:
        return None
    given = arguments_of(node)
    source, start = given["self"], given["start"] or 0
    if given["dim"] not in _CHANNELS or given["step"] != 1 or not isinstance(start, int):
        return None
    return source, max(start + source.meta["shape"][1], 0) if start < 0 else start
