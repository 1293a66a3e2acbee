"""Resizing of the last axes, mostly two.

A sampling mode says where output cell i looks in an input of length n that becomes length m (positions are clamped to
``0..n-1`` and interpolated linearly):

- ``STRICT_ALIGN_CORNERS``: ``i * (n - 1) / (m - 1)``; ``ALIGN_CORNERS`` is the same, but looks at the middle if m is 1
- ``DEFAULT``: ``i * n / m``
- ``UNALIGN_CORNERS``: ``(i + 0.5) * n / m - 0.5`` (PyTorch's ``align_corners=False``)
- ``OFFSET_CORNERS``: ``(i + 0.5) * max(1, n - 1) / m``

Where the nearest cell is taken instead, the reference settles less: older operations name no mode, so only whole
multiples, which repeat cells, are implemented; the general resize takes the cell nearest to the mode's position, and a
position half way between two cells is refused. Its ``DEFAULT`` is that of the older operations.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from converters.coreml.mil.arguments import Arguments, Kernel, Planner, whole_numbers

__all__ = ["PLANNERS"]

_POSITIONS: Final[Mapping[str, Callable[[Tensor, int, int], Tensor]]] = {
    "STRICT_ALIGN_CORNERS": lambda i, n, m: i * (n - 1) / max(m - 1, 1),
    "ALIGN_CORNERS": lambda i, n, m: i * (n - 1) / (m - 1) if m > 1 else i + (n - 1) / 2,
    "DEFAULT": lambda i, n, m: i * n / m,
    "UNALIGN_CORNERS": lambda i, n, m: (i + 0.5) * n / m - 0.5,
    "OFFSET_CORNERS": lambda i, n, m: (i + 0.5) * max(1, n - 1) / m,
}


class _Linear:
    """Cells and weights of a linear resize, worked out once per length."""

    def __init__(self, mode: str) -> None:
        self._position = _POSITIONS[mode]
        self._known: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}

    def resized(self, x: Tensor, sizes: Sequence[int]) -> Tensor:
        """Give ``x`` with its last axes resized."""
        for axis, size in zip(range(-len(sizes), 0), sizes, strict=True):
            x = self._along(x, axis, size)
        return x

    def _along(self, x: Tensor, axis: int, size: int) -> Tensor:
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


def _repeated(x: Tensor, rows: int, columns: int) -> Tensor:
    return x.repeat_interleave(rows, -2).repeat_interleave(columns, -1)


def _upsample_bilinear(args: Arguments) -> Kernel:
    align = args.flag("align_corners", default=True)
    half_pixel = args.flag("half_pixel_centers", default=not align)
    if align and half_pixel:
        args.refuse("half_pixel_centers", "together with align_corners is not implemented")
    mode = "STRICT_ALIGN_CORNERS" if align else "UNALIGN_CORNERS" if half_pixel else "DEFAULT"
    high, wide = args.number("scale_factor_height", default=1), args.number("scale_factor_width", default=1)
    linear = _Linear(mode)
    return args.kernel(lambda x: linear.resized(x, (int(x.shape[-2] * high), int(x.shape[-1] * wide))), "x")


def _resize_bilinear(args: Arguments) -> Kernel:
    rows, columns = args.integer("target_size_height", default=1), args.integer("target_size_width", default=1)
    linear = _Linear(args.text("sampling_mode", tuple(_POSITIONS), default="DEFAULT"))
    return args.kernel(lambda x: linear.resized(x, (rows, columns)), "x")


def _upsample_nearest_neighbor(args: Arguments) -> Kernel:
    """Whole factors only: there every convention repeats each cell."""
    names = ("scale_factor_height", "scale_factor_width")
    factors = [args.number(name, default=1) for name in names]
    for name, factor in zip(names, factors, strict=True):
        if factor < 1 or factor != int(factor):
            args.refuse(name, f"{factor} is not implemented; whole factors are")
    return args.kernel(lambda x: _repeated(x, int(factors[0]), int(factors[1])), "x")


def _resize_nearest_neighbor(args: Arguments) -> Kernel:
    rows, columns = args.integer("target_size_height"), args.integer("target_size_width")
    return args.kernel(lambda x: _nearest(args, x, "DEFAULT", (rows, columns)), "x")


def _nearest(args: Arguments, x: Tensor, mode: str, sizes: Sequence[int]) -> Tensor:
    for axis, size in zip(range(-len(sizes), 0), sizes, strict=True):
        if size != x.shape[axis]:
            x = x.index_select(axis, _nearest_cells(args, mode, x.shape[axis], size))
    return x


def _nearest_cells(args: Arguments, mode: str, length: int, size: int) -> Tensor:
    cells = torch.arange(size)
    if mode == "DEFAULT":
        if size % length:
            args.refuse("the target size", f"{size} from {length} is not implemented; whole multiples are")
        return cells // (size // length)
    position = _POSITIONS[mode](cells.double(), length, size).clamp(0, length - 1)
    if bool(((position - position.floor() - 0.5).abs() < 1e-6).any()):
        args.refuse("sampling_mode", f"{mode!r} looks half way between two cells, resizing {length} to {size}")
    return position.round().long()


def _resize(args: Arguments) -> Kernel:
    """The general resize of iOS 17: the last ``resized_dims`` axes take the last lengths of ``shape``, 0 keeping."""
    axes = args.integer("resized_dims")
    mode = args.text("sampling_mode", tuple(_POSITIONS), default="DEFAULT")
    nearest = args.text("interpolation_mode", ("LINEAR", "NEAREST_NEIGHBOR"), default="LINEAR") != "LINEAR"
    if not nearest and not args.type_of("x").dtype.is_float:
        args.refuse("interpolation_mode", "'LINEAR' of integers is not implemented")
    linear = _Linear(mode)

    def run(x: Tensor, shape: Tensor) -> Tensor:
        kept = x.shape[x.dim() - axes :]
        stated = whole_numbers(shape)
        sizes = [size or old for size, old in zip(stated[len(stated) - axes :], kept, strict=True)]
        return _nearest(args, x, mode, sizes) if nearest else linear.resized(x, sizes)

    return args.kernel(run, "x", "shape")


PLANNERS: Final[Mapping[str, Planner]] = {
    "upsample_bilinear": _upsample_bilinear,
    "resize_bilinear": _resize_bilinear,
    "upsample_nearest_neighbor": _upsample_nearest_neighbor,
    "resize_nearest_neighbor": _resize_nearest_neighbor,
    "resize": _resize,
}
