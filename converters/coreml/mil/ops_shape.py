"""Operations that move values without changing them, and padding."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from converters.coreml.mil.arguments import Arguments, Kernel, Planner

__all__ = ["PLANNERS"]


def _reshape(args: Arguments) -> Kernel:
    """-1 takes what is left; 0 keeps the axis, matched from the right."""
    target = args.integers("shape")

    def run(x: Tensor) -> Tensor:
        offset = x.dim() - len(target)
        kept = [size or (x.shape[axis + offset] if axis + offset >= 0 else 1) for axis, size in enumerate(target)]
        return x.reshape(kept)

    return args.kernel(run, "x")


def _transpose(args: Arguments) -> Kernel:
    perm = args.integers("perm", count=args.rank("x"))
    return args.kernel(lambda x: x.permute(perm), "x")


def _expand_dims(args: Arguments) -> Kernel:
    axes = args.integers("axes")
    rank = args.rank("x") + len(axes)
    places = sorted(axis % rank for axis in axes)

    def run(x: Tensor) -> Tensor:
        for axis in places:
            x = x.unsqueeze(axis)
        return x

    return args.kernel(run, "x")


def _squeeze(args: Arguments) -> Kernel:
    rank = args.rank("x")
    if not args.has("axes"):
        return args.kernel(lambda x: x.squeeze(), "x")
    axes = args.axes("axes", rank)
    return args.kernel(lambda x: x.squeeze(axes), "x")


def _concat(args: Arguments) -> Kernel:
    """Interleaved, cell j of input i lands at ``j * inputs + i``."""
    bound = args.bindings("values")
    axis = args.integer("axis")
    if args.flag("interleave"):

        def interleaved(*tensors: Tensor) -> Tensor:
            place = axis % tensors[0].dim()
            return torch.stack(tensors, place + 1).flatten(place, place + 1)

        return Kernel(operands=bound, run=interleaved)
    return Kernel(operands=bound, run=lambda *tensors: torch.cat(tensors, axis))


def _stack(args: Arguments) -> Kernel:
    axis = args.integer("axis")
    return Kernel(operands=args.bindings("values"), run=lambda *tensors: torch.stack(tensors, axis))


def _split(args: Arguments) -> Kernel:
    axis = args.axis("axis", args.rank("x"))
    count = args.integer("num_splits", default=len(args.operation.outputs))
    if count != len(args.operation.outputs):
        args.refuse("num_splits", f"{count} and {len(args.operation.outputs)} outputs disagree")
    sizes = args.integers("split_sizes", count=count) if args.has("split_sizes") else None

    def run(x: Tensor) -> tuple[Tensor, ...]:
        if sizes is not None:
            return torch.split(x, list(sizes), axis)
        if x.shape[axis] % count:
            args.refuse("num_splits", f"{count} does not divide {x.shape[axis]}")
        return torch.split(x, x.shape[axis] // count, axis)

    return args.kernel(run, "x")


def _slice_by_index(args: Arguments) -> Kernel:
    """``x[begin:end:stride]`` per axis; masks open an end, or pick the single cell at ``begin``."""
    rank = args.rank("x")
    begin, end = args.integers("begin", count=rank), args.integers("end", count=rank)
    stride = args.integers("stride", default=(1,) * rank, count=rank)
    if min(stride) < 1:
        args.refuse("stride", f"{min(stride)} is not implemented; positive steps are")
    open_begin, open_end = args.flags("begin_mask", count=rank), args.flags("end_mask", count=rank)
    squeeze = args.flags("squeeze_mask", count=rank)
    index = tuple(
        begin[axis]
        if squeeze[axis]
        else slice(None if open_begin[axis] else begin[axis], None if open_end[axis] else end[axis], stride[axis])
        for axis in range(rank)
    )
    return args.kernel(lambda x: x[index], "x")


def _slice_by_size(args: Arguments) -> Kernel:
    rank = args.rank("x")
    begin, size = args.integers("begin", count=rank), args.integers("size", count=rank)
    index = tuple(slice(b, None if s == -1 else b + s) for b, s in zip(begin, size, strict=True))
    return args.kernel(lambda x: x[index], "x")


def _crop(args: Arguments) -> Kernel:
    """Cuts rows off both ends of the last two axes."""
    top, bottom = args.integers("crop_height", count=2)
    left, right = args.integers("crop_width", count=2)

    def run(x: Tensor) -> Tensor:
        return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]

    return args.kernel(run, "x")


def _tile(args: Arguments) -> Kernel:
    reps = args.integers("reps", count=args.rank("x"))
    return args.kernel(lambda x: x.repeat(reps), "x")


def _pixel_shuffle(args: Arguments) -> Kernel:
    factor = args.integer("upscale_factor")
    return args.kernel(lambda x: F.pixel_shuffle(x, factor), "x")


def _flatten2d(args: Arguments) -> Kernel:
    axis = args.integer("axis", default=1)
    return args.kernel(lambda x: x.reshape(prod(x.shape[:axis]), -1), "x")


def _pad(args: Arguments) -> Kernel:
    """Pads the last axes, two numbers each: before, after."""
    pad = args.integers("pad")
    if len(pad) % 2 or len(pad) // 2 > args.rank("x") or min(pad, default=0) < 0:
        args.refuse("pad", f"{pad} does not fit a tensor of rank {args.rank('x')}")
    mode = args.text("mode", ("constant", "reflect", "replicate"), default="constant")
    value = args.number("constant_val", default=0.0)
    if mode == "constant":
        amounts = [rows for pair in reversed(list(zip(pad[::2], pad[1::2], strict=True))) for rows in pair]
        return args.kernel(lambda x: F.pad(x, amounts, value=value), "x")
    return args.kernel(lambda x: _mirrored(x, pad, mode), "x")


def _mirrored(x: Tensor, pad: Sequence[int], mode: str) -> Tensor:
    """Pad the last axes by their own cells: without the edge (reflect) or the edge repeated (replicate)."""
    first = x.dim() - len(pad) // 2
    for number, (before, after) in enumerate(zip(pad[::2], pad[1::2], strict=True)):
        axis = first + number
        cells = torch.arange(-before, x.shape[axis] + after)
        last = x.shape[axis] - 1
        if mode == "reflect":
            cells = cells.abs()
            cells = torch.where(cells > last, 2 * last - cells, cells)
        x = x.index_select(axis, cells.clamp(0, last))
    return x


PLANNERS: Final[Mapping[str, Planner]] = {
    "concat": _concat,
    "crop": _crop,
    "expand_dims": _expand_dims,
    "flatten2d": _flatten2d,
    "pad": _pad,
    "pixel_shuffle": _pixel_shuffle,
    "reshape": _reshape,
    "slice_by_index": _slice_by_index,
    "slice_by_size": _slice_by_size,
    "split": _split,
    "squeeze": _squeeze,
    "stack": _stack,
    "tile": _tile,
    "transpose": _transpose,
}
