"""Convolution and matrix products.

``same`` pads as TensorFlow does: the total is ``max(0, (ceil(in / stride) - 1) * stride + dilated_kernel - in)``; an
odd one puts the extra row at the bottom or right, with ``same_lower`` at the top or left.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from converters.coreml.mil.arguments import Arguments, Kernel, Planner

__all__ = ["PAD_TYPES", "PLANNERS", "padding_of", "torch_padding"]

PAD_TYPES: Final = ("valid", "same", "same_lower", "custom")

_CONVOLVE: Final[Mapping[int, Callable[..., Tensor]]] = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}
_TRANSPOSE: Final[Mapping[int, Callable[..., Tensor]]] = {
    3: F.conv_transpose1d,
    4: F.conv_transpose2d,
    5: F.conv_transpose3d,
}


def padding_of(
    pad_type: str, pad: Sequence[int], sizes: Sequence[int], spans: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """Give the rows before and after each spatial axis.

    Args:
        pad_type: One of :data:`PAD_TYPES`.
        pad: Before and after for each axis in turn; used with ``custom`` only.
        sizes: Input lengths.
        spans: Dilated kernel lengths.
        strides: Steps.
    """
    if pad_type == "custom":
        return list(zip(pad[::2], pad[1::2], strict=True))
    if pad_type == "valid":
        return [(0, 0)] * len(sizes)
    pairs = []
    for size, span, stride in zip(sizes, spans, strides, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + span - size)
        small, large = total // 2, total - total // 2
        pairs.append((large, small) if pad_type == "same_lower" else (small, large))
    return pairs


def torch_padding(pairs: Sequence[tuple[int, int]]) -> list[int]:
    """Put before and after of each axis in the order ``F.pad`` takes them: last axis first."""
    return [rows for pair in reversed(pairs) for rows in pair]


def _conv(args: Arguments) -> Kernel:
    rank = args.rank("x")
    if rank not in _CONVOLVE:
        args.refuse("x", f"of rank {rank} is not implemented; 3, 4 and 5 are")
    spatial = rank - 2
    strides = args.integers("strides", default=(1,) * spatial, count=spatial)
    dilations = args.integers("dilations", default=(1,) * spatial, count=spatial)
    pad_type = args.text("pad_type", PAD_TYPES, default="valid")
    pad = args.integers("pad", default=(0,) * 2 * spatial, count=2 * spatial)
    groups = args.integer("groups", default=1)
    convolve = _CONVOLVE[rank]

    def run(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        spans = [(kernel - 1) * d + 1 for kernel, d in zip(weight.shape[2:], dilations, strict=True)]
        pairs = padding_of(pad_type, pad, x.shape[2:], spans, strides)
        if all(before == after for before, after in pairs):
            padding = [before for before, _ in pairs]
        else:
            x, padding = F.pad(x, torch_padding(pairs)), [0] * spatial
        return convolve(x, weight, bias, strides, padding, dilations, groups)

    return args.kernel(run, "x", "weight", "bias?")


def _conv_transpose(args: Arguments) -> Kernel:
    rank = args.rank("x")
    if rank not in _TRANSPOSE:
        args.refuse("x", f"of rank {rank} is not implemented; 3, 4 and 5 are")
    spatial = rank - 2
    strides = args.integers("strides", default=(1,) * spatial, count=spatial)
    dilations = args.integers("dilations", default=(1,) * spatial, count=spatial)
    pad_type = args.text("pad_type", ("valid", "custom"), default="valid")
    pad = args.integers("pad", default=(0,) * 2 * spatial, count=2 * spatial)
    groups = args.integer("groups", default=1)
    wanted = args.integers("output_shape") if args.has("output_shape") else None
    pairs = padding_of(pad_type, pad, (0,) * spatial, (0,) * spatial, strides)

    def run(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y = _TRANSPOSE[rank](x, weight, bias, strides, 0, 0, groups, dilations)
        for axis, (before, after) in enumerate(pairs, start=2):
            y = y.narrow(axis, before, y.shape[axis] - before - after)
        if wanted is not None and tuple(y.shape) != wanted:
            args.refuse("output_shape", f"{wanted} other than {tuple(y.shape)} is not implemented")
        return y

    return args.kernel(run, "x", "weight", "bias?")


def _linear(args: Arguments) -> Kernel:
    return args.kernel(F.linear, "x", "weight", "bias?")


def _matmul(args: Arguments) -> Kernel:
    transpose_x, transpose_y = args.flag("transpose_x"), args.flag("transpose_y")
    for name, transposed in (("x", transpose_x), ("y", transpose_y)):
        if transposed and args.rank(name) < 2:
            args.refuse(f"transpose_{name}", "of a vector is not implemented")

    def run(x: Tensor, y: Tensor) -> Tensor:
        return torch.matmul(x.mT if transpose_x else x, y.mT if transpose_y else y)

    return args.kernel(run, "x", "y")


PLANNERS: Final[Mapping[str, Planner]] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "linear": _linear,
    "matmul": _matmul,
}
