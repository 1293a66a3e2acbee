"""Operations that move values without changing them, and padding."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from converters.coreml.mil.arguments import Arguments, Kernel, Planner, whole_numbers
from converters.coreml.mil.ops_conv import torch_padding

__all__ = ["PLANNERS"]


def _reshape(args: Arguments) -> Kernel:
    """-1 takes what is left; 0 keeps the axis, matched from the right."""

    def run(x: Tensor, shape: Tensor) -> Tensor:
        target = whole_numbers(shape)
        offset = x.dim() - len(target)
        kept = [size or (x.shape[axis + offset] if axis + offset >= 0 else 1) for axis, size in enumerate(target)]
        return x.reshape(kept)

    return args.kernel(run, "x", "shape")


def _reshape_like(args: Arguments) -> Kernel:
    """The shape is put together from ``shape[begin:end]`` of each reference; a mask opens the end."""
    begins, ends, masks = (args.all_integers(name) for name in ("begins", "ends", "end_masks"))
    references = args.bindings("ref_tensors")
    if not len(begins) == len(ends) == len(masks) == len(references):
        args.refuse("ref_tensors", "and begins, ends and end_masks differ in number")

    def run(x: Tensor, *tensors: Tensor) -> Tensor:
        parts = zip(tensors, begins, ends, masks, strict=True)
        return x.reshape([n for like, begin, end, mask in parts for n in like.shape[begin : None if mask else end]])

    return Kernel(operands=(*args.bindings("x"), *references), run=run)


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
    return Kernel(operands=bound, run=lambda *tensors: _joined(tensors, axis))


def _joined(tensors: Sequence[Tensor], axis: int) -> Tensor:
    """Scalars are joined to a vector."""
    return torch.cat(list(tensors), axis) if tensors[0].dim() else torch.stack(list(tensors))


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


def _tile(args: Arguments) -> Kernel:
    return args.kernel(lambda x, reps: x.repeat(whole_numbers(reps)), "x", "reps")


def _flatten2d(args: Arguments) -> Kernel:
    axis = args.integer("axis", default=1)
    return args.kernel(lambda x: x.reshape(prod(x.shape[:axis]), -1), "x")


def _pad(args: Arguments) -> Kernel:
    """Pads the last axes, two numbers each: before, after."""
    if args.is_constant("pad"):
        pad = args.integers("pad")
        if len(pad) % 2 or len(pad) // 2 > args.rank("x") or min(pad, default=0) < 0:
            args.refuse("pad", f"{pad} does not fit a tensor of rank {args.rank('x')}")
    mode = args.text("mode", ("constant", "reflect", "replicate"), default="constant")
    value = args.number("constant_val", default=0.0)

    def run(x: Tensor, pad: Tensor) -> Tensor:
        rows = whole_numbers(pad)
        pairs = list(zip(rows[::2], rows[1::2], strict=True))
        if min(rows, default=0) < 0:
            message = f"pad {rows} is negative"
            raise ValueError(message)
        return F.pad(x, torch_padding(pairs), value=value) if mode == "constant" else _mirrored(x, pairs, mode)

    return args.kernel(run, "x", "pad")


def _mirrored(x: Tensor, pairs: Sequence[tuple[int, int]], mode: str) -> Tensor:
    """Pad the last axes by their own cells: without the edge (reflect) or the edge repeated (replicate)."""
    for axis, (before, after) in enumerate(pairs, start=x.dim() - len(pairs)):
        last = x.shape[axis] - 1
        cells = torch.arange(-before, x.shape[axis] + after)
        if mode == "reflect":
            if max(before, after) > last:
                message = f"{max(before, after)} rows cannot be reflected from {last + 1}"
                raise ValueError(message)
            cells = cells.abs()
            cells = torch.where(cells > last, 2 * last - cells, cells)
        x = x.index_select(axis, cells.clamp(0, last))
    return x


PLANNERS: Final[Mapping[str, Planner]] = {
    "concat": _concat,
    "expand_dims": _expand_dims,
    "flatten2d": _flatten2d,
    "pad": _pad,
    "reshape": _reshape,
    "reshape_like": _reshape_like,
    "split": _split,
    "squeeze": _squeeze,
    "stack": _stack,
    "tile": _tile,
    "transpose": _transpose,
}
