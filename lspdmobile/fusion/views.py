"""Nodes of a graph read as linear maps of one input."""

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.fx import Node

from lspdmobile.fusion.linear import Linear, NotExactError, channelwise, linear_of_conv
from lspdmobile.fusion.rewrites.affine_before_conv import absorbed
from lspdmobile.fusion.rewrites.norm_after_conv import affine_of, scaled
from lspdmobile.fusion.rewrites.pointwise import pointwise_after, pointwise_before
from lspdmobile.fusion.rewrites.pooling import pooling_as_linear
from lspdmobile.fusion.work import Work

__all__ = ["linear_view", "one_after_the_other", "summands"]

_ATEN: Final = torch.ops.aten
_MULTIPLY: Final = (_ATEN.mul.Tensor, _ATEN.mul.Scalar)
_DIVIDE: Final = (_ATEN.div.Tensor, _ATEN.div.Scalar)
_ADD: Final = (_ATEN.add.Tensor, _ATEN.add.Scalar)
_SUBTRACT: Final = (_ATEN.sub.Tensor, _ATEN.sub.Scalar)


def linear_view(work: Work, node: Node) -> tuple[Linear, Node] | None:
    """Read a node as a linear map of another node's value; None where it is none.

    Raises:
        NotExactError: It is linear inside the picture, but not at its border.
    """
    shape = node.meta["shape"]
    if shape is None or len(shape) != 4 or not node.args or not isinstance(node.args[0], Node):
        return None
    source, layer = node.args[0], work.layer(node)
    if isinstance(layer, nn.Conv2d):
        return linear_of_conv(layer), source
    if isinstance(layer, nn.BatchNorm2d):
        return channelwise(*affine_of(layer)), source
    if node.target is _ATEN.avg_pool2d.default:
        return _pooling(node, shape[1]), source
    if node.target in (_ATEN.pad.default, _ATEN.constant_pad_nd.default):
        return _padding(node, shape[1])
    return _with_constant(work, node, shape)


def one_after_the_other(first: Linear, second: Linear) -> Linear:
    """Give one map that equals the first followed by the second.

    Raises:
        NotExactError: There is none, or none that a rewrite here knows.
    """
    if second.is_affine:
        return scaled(first, second.scale, second.bias)
    if first.is_pointwise and first.is_channelwise and first.stride == (1, 1):
        return absorbed(first, second)
    if second.is_pointwise:
        return pointwise_after(first, second)
    if first.is_pointwise:
        return pointwise_before(first, second)
    message = "two kernels larger than 1x1 in a row"
    raise NotExactError(message)


def summands(node: Node) -> list[tuple[Node, float]] | None:
    """Give the two nodes that an addition or subtraction of equal shapes reads, with their factors; None for others."""
    if node.target not in (_ATEN.add.Tensor, _ATEN.sub.Tensor):
        return None
    a, b = node.args[:2]
    shape = node.meta["shape"]
    for each in (a, b):
        if not isinstance(each, Node) or each.op == "get_attr" or shape is None or each.meta["shape"] != shape:
            return None
    alpha = float(node.kwargs.get("alpha", 1))  # type: ignore[arg-type]  # the schema says a number
    sign = 1.0 if node.target is _ATEN.add.Tensor else -1.0
    return [(a, 1.0), (b, sign * alpha)]  # type: ignore[list-item]


def _pooling(node: Node, channels: int) -> Linear:
    names = ("kernel", "stride", "padding", "ceil_mode", "count_include_pad", "divisor")
    given: dict[str, Any] = dict(zip(names, node.args[1:], strict=False))
    kernel = _pair(given["kernel"])
    return pooling_as_linear(
        channels,
        kernel,
        _pair(given.get("stride") or kernel),
        _pair(given.get("padding", 0)),
        ceil_mode=given.get("ceil_mode", False),
        count_include_pad=given.get("count_include_pad", True),
        divisor=given.get("divisor"),
    )


def _pair(value: Any) -> tuple[int, int]:
    numbers = list(value) if isinstance(value, Sequence) else [value]
    return int(numbers[0]), int(numbers[-1])


def _padding(node: Node, channels: int) -> tuple[Linear, Node] | None:
    """Read padding by zeros as the identity with padding."""
    sides = node.args[1]
    rest = node.args[2:]
    mode = rest[0] if node.target is _ATEN.pad.default and rest else "constant"
    value = rest[-1] if rest and not isinstance(rest[-1], str) else node.kwargs.get("value")
    if mode != "constant" or value not in (None, 0) or not isinstance(sides, Sequence) or len(sides) > 4:
        return None
    left, right, top, bottom = ([int(side) for side in sides if isinstance(side, int)] + [0, 0])[:4]
    if min(left, right, top, bottom) < 0:
        return None
    source = node.args[0]
    assert isinstance(source, Node)
    return channelwise(torch.ones(channels, dtype=torch.float64), padding=(top, bottom, left, right)), source


def _with_constant(work: Work, node: Node, shape: tuple[int, ...]) -> tuple[Linear, Node] | None:
    """Read a multiplication, division, addition or subtraction with a constant per channel."""
    if node.target is _ATEN.neg.default:
        return channelwise(-_per_channel(1.0, shape)), node.args[0]  # type: ignore[return-value]
    if len(node.args) < 2 or node.target not in (*_MULTIPLY, *_DIVIDE, *_ADD, *_SUBTRACT):
        return None
    a, b = (_constant(work, each, shape) for each in node.args[:2])
    if (a is None) == (b is None):
        return None
    source = node.args[0] if a is None else node.args[1]
    if not isinstance(source, Node) or source.meta["shape"] != shape:
        return None
    alpha = float(node.kwargs.get("alpha", 1))  # type: ignore[arg-type]
    linear = _affine(node.target, a, b, alpha, _per_channel(1.0, shape))
    return None if linear is None else (linear, source)


def _affine(target: Any, a: Tensor | None, b: Tensor | None, alpha: float, ones: Tensor) -> Linear | None:
    """Write ``a op b`` as a map of the one that is no constant."""
    if target in _MULTIPLY:
        return channelwise(b if a is None else a)  # type: ignore[arg-type]
    if target in _DIVIDE:
        return None if b is None else channelwise(1.0 / b)
    alpha = -alpha if target in _SUBTRACT else alpha
    if b is not None:
        return channelwise(ones, alpha * b)
    return channelwise(alpha * ones, a)


def _constant(work: Work, argument: Any, shape: tuple[int, ...]) -> Tensor | None:
    """Give a number or a tensor that has one value per channel, or one at all, as float64 ``[C]``."""
    if isinstance(argument, int | float):
        return _per_channel(float(argument), shape)
    value = work.constant(argument)
    if value is None or value.ndim > 4 or not value.is_floating_point():
        return None
    if value.numel() == 1:
        return _per_channel(float(value), shape)
    sides = (1,) * (4 - value.ndim) + tuple(value.shape)
    return value.reshape(-1).double() if sides == (1, shape[1], 1, 1) else None


def _per_channel(value: float, shape: tuple[int, ...]) -> Tensor:
    return torch.full((shape[1],), value, dtype=torch.float64)
