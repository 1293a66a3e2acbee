"""Pictures sampled at places that are computed: warping, resampling and crops.

Rows and columns are numbered from 0 to n - 1 at the centres of cells; between centres values are interpolated
linearly. A picture goes on beyond its edge as its padding mode says, for 1 2 3:

- ``constant``: v v 1 2 3 v v
- ``border``: 1 1 1 2 3 3 3
- ``reflection``: 3 2 1 2 3 2 1
- ``symmetric``: 2 1 1 2 3 3 2
"""

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor

from converters.coreml.mil.arguments import Arguments, Kernel, Planner

__all__ = ["PLANNERS"]


def _reflected(cells: Tensor, size: int) -> Tensor:
    cells = cells.abs() % max(2 * (size - 1), 1)
    return torch.where(cells >= size, 2 * (size - 1) - cells, cells)


def _symmetric(cells: Tensor, size: int) -> Tensor:
    cells = cells % (2 * size)
    return torch.where(cells >= size, 2 * size - 1 - cells, cells)


_INSIDE: Final[Mapping[str, Callable[[Tensor, int], Tensor]]] = {
    "constant": lambda cells, size: cells.clamp(0, size - 1),
    "border": lambda cells, size: cells.clamp(0, size - 1),
    "reflection": _reflected,
    "symmetric": _symmetric,
}

_POSITIONS: Final[Mapping[tuple[str, bool], Callable[[Tensor, int], Tensor]]] = {
    ("unnormalized", True): lambda at, _: at,
    ("normalized_minus_one_to_one", True): lambda at, size: (at + 1) / 2 * (size - 1),
    ("normalized_minus_one_to_one", False): lambda at, size: (at + 1) / 2 * size - 0.5,
    ("normalized_zero_to_one", True): lambda at, size: at * (size - 1),
    ("normalized_zero_to_one", False): lambda at, size: at * size - 0.5,
}
"""Coordinates mode and ``align_corners`` to where a coordinate lies: the ends are centres or outer edges of cells."""


class _Picture:
    """A batch of pictures that goes on beyond its edges."""

    def __init__(self, pixels: Tensor, padding_mode: str, padding_value: float) -> None:
        self._pixels = pixels
        self._inside = _INSIDE[padding_mode]
        self._outside = padding_value if padding_mode == "constant" else None
        self._batch = torch.arange(pixels.shape[0])[:, None, None]

    def nearest(self, x: Tensor, y: Tensor) -> Tensor:
        """Sample at ``[N, H, W]`` columns and rows; half way between two cells the even one is taken."""
        return self._cells(x.round().long(), y.round().long()).permute(0, 3, 1, 2)

    def linear(self, x: Tensor, y: Tensor) -> Tensor:
        """Sample at ``[N, H, W]`` columns and rows."""
        left, top = x.floor().long(), y.floor().long()
        right, low = (x - left).float()[..., None], (y - top).float()[..., None]
        above = torch.lerp(self._cells(left, top), self._cells(left + 1, top), right)
        below = torch.lerp(self._cells(left, top + 1), self._cells(left + 1, top + 1), right)
        return torch.lerp(above, below, low).permute(0, 3, 1, 2)

    def _cells(self, columns: Tensor, rows: Tensor) -> Tensor:
        height, width = self._pixels.shape[2:]
        cells = self._pixels[self._batch, :, self._inside(rows, height), self._inside(columns, width)]
        if self._outside is None:
            return cells
        outside = (columns < 0) | (columns >= width) | (rows < 0) | (rows >= height)
        return cells.masked_fill(outside[..., None], self._outside)


def _coordinates_mode(args: Arguments) -> Callable[[Tensor, int], Tensor]:
    modes = tuple(dict.fromkeys(mode for mode, _ in _POSITIONS))
    key = args.text("coordinates_mode", modes), args.flag("align_corners")
    if key not in _POSITIONS:
        args.refuse("align_corners", f"{key[1]} with {key[0]!r} is not implemented")
    return _POSITIONS[key]


def _resample(args: Arguments) -> Kernel:
    """Coordinates are pairs of column and row along the last axis."""
    place = _coordinates_mode(args)
    nearest = args.text("sampling_mode", ("bilinear", "nearest")) == "nearest"
    mode, value = args.text("padding_mode", tuple(_INSIDE)), args.number("padding_value")

    def run(x: Tensor, coordinates: Tensor) -> Tensor:
        at = coordinates.double()
        picture = _Picture(x, mode, value)
        columns, rows = place(at[..., 0], x.shape[3]), place(at[..., 1], x.shape[2])
        return picture.nearest(columns, rows) if nearest else picture.linear(columns, rows)

    return args.kernel(run, "x", "coordinates")


def _affine(args: Arguments) -> Kernel:
    """Output coordinates (from -1 to 1 between the outer centres), mapped by a matrix to those of the input."""
    args.text("sampling_mode", ("bilinear",))
    args.text("padding_mode", ("constant",))
    args.text("coordinates_mode", ("normalized_minus_one_to_one",))
    if not args.flag("align_corners"):
        args.refuse("align_corners", "False is not implemented")
    sizes = args.integer("output_width"), args.integer("output_height")
    if min(sizes) < 2:
        args.refuse("output_width" if sizes[0] < 2 else "output_height", "below 2 is not implemented")
    place, value = _POSITIONS["normalized_minus_one_to_one", True], args.number("padding_value")

    def run(x: Tensor, matrix: Tensor) -> Tensor:
        columns, rows = (torch.linspace(-1, 1, size, dtype=torch.float64) for size in sizes)
        a0, a1, a2, b0, b1, b2 = matrix.double().expand(x.shape[0], 6)[..., None, None].unbind(1)
        columns, rows = columns[None, None], rows[None, :, None]
        across, down = a0 * columns + a1 * rows + a2, b0 * columns + b1 * rows + b2
        return _Picture(x, "constant", value).linear(place(across, x.shape[3]), place(down, x.shape[2]))

    return args.kernel(run, "x", "transform_matrix")


PLANNERS: Final[Mapping[str, Planner]] = {"affine": _affine, "resample": _resample}
