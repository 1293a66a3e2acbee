"""Resizing of the last two axes.

A sampling mode says where output cell i looks in an input of length n that becomes length m (positions are clamped to
``0..n-1`` and interpolated linearly):

- ``STRICT_ALIGN_CORNERS``: ``i * (n - 1) / (m - 1)``; ``ALIGN_CORNERS`` is the same, but looks at the middle if m is 1
- ``DEFAULT``: ``i * n / m``
- ``UNALIGN_CORNERS``: ``(i + 0.5) * n / m - 0.5`` (PyTorch's ``align_corners=False``)
- ``OFFSET_CORNERS``: ``(i + 0.5) * max(1, n - 1) / m``
"""

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor

from converters.coreml.mil.arguments import Arguments, Kernel, Planner

__all__ = ["PLANNERS"]

_POSITIONS: Final[Mapping[str, Callable[[Tensor, int, int], Tensor]]] = {
    "STRICT_ALIGN_CORNERS": lambda i, n, m: i * (n - 1) / max(m - 1, 1),
    "ALIGN_CORNERS": lambda i, n, m: i * (n - 1) / (m - 1) if m > 1 else i + (n - 1) / 2,
    "DEFAULT": lambda i, n, m: i * n / m,
    "UNALIGN_CORNERS": lambda i, n, m: (i + 0.5) * n / m - 0.5,
    "OFFSET_CORNERS": lambda i, n, m: (i + 0.5) * max(1, n - 1) / m,
}


class _Axis:
    """Cells and weights of a linear resize along one axis, worked out once per length."""

    def __init__(self, mode: str) -> None:
        self._position = _POSITIONS[mode]
        self._known: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}

    def resized(self, x: Tensor, axis: int, size: int) -> Tensor:
        """Give ``x`` with ``size`` cells along a negative ``axis``."""
        key = x.shape[axis], size
        if key not in self._known:
            self._known[key] = self._cells(*key)
        low, high, weight = self._known[key]
        weight = weight.reshape(-1, *(1,) * (-axis - 1))
        return torch.lerp(x.index_select(axis, low), x.index_select(axis, high), weight)

    def _cells(self, length: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
        position = self._position(torch.arange(size, dtype=torch.float64), length, size).clamp(0, length - 1)
        low = position.floor().long()
        return low, (low + 1).clamp(max=length - 1), (position - low).float()


def _linear(mode: str) -> Callable[[Tensor, int, int], Tensor]:
    axis = _Axis(mode)
    return lambda x, rows, columns: axis.resized(axis.resized(x, -2, rows), -1, columns)


def _repeated(x: Tensor, rows: int, columns: int) -> Tensor:
    return x.repeat_interleave(rows, -2).repeat_interleave(columns, -1)


def _upsample_bilinear(args: Arguments) -> Kernel:
    align = args.flag("align_corners", default=True)
    half_pixel = args.flag("half_pixel_centers", default=not align)
    if align and half_pixel:
        args.refuse("half_pixel_centers", "together with align_corners is not implemented")
    mode = "STRICT_ALIGN_CORNERS" if align else "UNALIGN_CORNERS" if half_pixel else "DEFAULT"
    high, wide = args.number("scale_factor_height", default=1), args.number("scale_factor_width", default=1)
    resize = _linear(mode)
    return args.kernel(lambda x: resize(x, int(x.shape[-2] * high), int(x.shape[-1] * wide)), "x")


def _resize_bilinear(args: Arguments) -> Kernel:
    rows, columns = args.integer("target_size_height", default=1), args.integer("target_size_width", default=1)
    resize = _linear(args.text("sampling_mode", tuple(_POSITIONS), default="DEFAULT"))
    return args.kernel(lambda x: resize(x, rows, columns), "x")


def _upsample_nearest_neighbor(args: Arguments) -> Kernel:
    """Whole factors only: there every convention repeats each cell."""
    names = ("scale_factor_height", "scale_factor_width")
    factors = [args.number(name, default=1) for name in names]
    for name, factor in zip(names, factors, strict=True):
        if factor < 1 or factor != int(factor):
            args.refuse(name, f"{factor} is not implemented; whole factors are")
    return args.kernel(lambda x: _repeated(x, int(factors[0]), int(factors[1])), "x")


def _nearest(args: Arguments, rows: int, columns: int) -> Kernel:
    def run(x: Tensor) -> Tensor:
        for size, target in ((x.shape[-2], rows), (x.shape[-1], columns)):
            if target % size:
                args.refuse("the target size", f"{target} from {size} is not implemented; whole multiples are")
        return _repeated(x, rows // x.shape[-2], columns // x.shape[-1])

    return args.kernel(run, "x")


def _resize_nearest_neighbor(args: Arguments) -> Kernel:
    return _nearest(args, args.integer("target_size_height"), args.integer("target_size_width"))


def _resize(args: Arguments) -> Kernel:
    """The general resize of iOS 17, for the last two axes and a constant shape."""
    if args.integer("resized_dims") != 2:
        args.refuse("resized_dims", f"{args.integer('resized_dims')} is not implemented; 2 is")
    given = args.type_of("x").shape[-2:]
    targets = [size or known for size, known in zip(args.integers("shape")[-2:], given, strict=True)]
    if targets[0] is None or targets[1] is None:
        args.refuse("shape", "0 for an axis of unknown length is not implemented")
    rows, columns = targets[0], targets[1]
    mode = args.text("sampling_mode", tuple(_POSITIONS), default="DEFAULT")
    if args.text("interpolation_mode", ("LINEAR", "NEAREST_NEIGHBOR"), default="LINEAR") == "NEAREST_NEIGHBOR":
        if mode not in ("DEFAULT", "UNALIGN_CORNERS"):
            args.refuse("sampling_mode", f"{mode!r} with NEAREST_NEIGHBOR is not implemented")
        return _nearest(args, rows, columns)
    resize = _linear(mode)
    return args.kernel(lambda x: resize(x, rows, columns), "x")


PLANNERS: Final[Mapping[str, Planner]] = {
    "upsample_bilinear": _upsample_bilinear,
    "resize_bilinear": _resize_bilinear,
    "upsample_nearest_neighbor": _upsample_nearest_neighbor,
    "resize_nearest_neighbor": _resize_nearest_neighbor,
    "resize": _resize,
}
