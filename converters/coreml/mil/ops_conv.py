"""Convolution.

``same`` pads as TensorFlow does: the total is ``max(0, (ceil(in / stride) - 1) * stride + dilated_kernel - in)``; an
odd one puts the extra row at the bottom or right, with ``same_lower`` at the top or left.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

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
    """The gradient of a convolution: its output has the lengths of that one's input, stated or the least possible.

    With ``same`` that is the input's length times the stride.
    """
    rank = args.rank("x")
    if rank not in _TRANSPOSE:
        args.refuse("x", f"of rank {rank} is not implemented; 3, 4 and 5 are")
    spatial = rank - 2
    strides = args.integers("strides", default=(1,) * spatial, count=spatial)
    dilations = args.integers("dilations", default=(1,) * spatial, count=spatial)
    pad_type = args.text("pad_type", ("valid", "same", "custom"), default="valid")
    pad = args.integers("pad", default=(0,) * 2 * spatial, count=2 * spatial)
    groups = args.integer("groups", default=1)
    wanted = args.integers("output_shape", count=rank)[2:] if args.has("output_shape") else None

    def run(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y = _TRANSPOSE[rank](x, weight, None, strides, 0, 0, groups, dilations)
        spans = [(kernel - 1) * d + 1 for kernel, d in zip(weight.shape[2:], dilations, strict=True)]
        sizes = wanted or _whole_outputs(x.shape[2:], spans, strides, pad_type, pad)
        pairs = padding_of(pad_type, pad, sizes, spans, strides)
        if _outputs(sizes, spans, strides, pairs) != list(x.shape[2:]):
            args.refuse("output_shape", f"{list(sizes)} is not what a convolution takes to {list(x.shape[2:])}")
        for axis, (size, (before, _)) in enumerate(zip(sizes, pairs, strict=True), start=2):
            missing = max(0, before + size - y.shape[axis])
            y = F.pad(y, [0, 0] * (rank - 1 - axis) + [0, missing]).narrow(axis, before, size)
        return y if bias is None else y + bias.reshape(-1, *(1,) * spatial)

    return args.kernel(run, "x", "weight", "bias?")


def _whole_outputs(
    sizes: Sequence[int], spans: Sequence[int], strides: Sequence[int], pad_type: str, pad: Sequence[int]
) -> tuple[int, ...]:
    """Give the lengths a transposed convolution makes where none are stated."""
    if pad_type == "same":
        return tuple(size * stride for size, stride in zip(sizes, strides, strict=True))
    pairs = padding_of(pad_type, pad, sizes, spans, strides)
    rows = zip(sizes, spans, strides, pairs, strict=True)
    return tuple((size - 1) * stride + span - sum(pair) for size, span, stride, pair in rows)


def _outputs(
    sizes: Sequence[int], spans: Sequence[int], strides: Sequence[int], pairs: Sequence[tuple[int, int]]
) -> list[int]:
    """Give the lengths a convolution makes."""
    rows = zip(sizes, spans, strides, pairs, strict=True)
    return [(size + sum(pair) - span) // stride + 1 for size, span, stride, pair in rows]


PLANNERS: Final[Mapping[str, Planner]] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
}
