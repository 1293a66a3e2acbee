"""Pooling. Padding follows the convolution's rules; ``ceil_mode`` is PyTorch's."""

from collections.abc import Callable, Mapping
from math import prod
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from converters.coreml.mil.arguments import Arguments, Kernel, Planner
from converters.coreml.mil.ops_conv import PAD_TYPES, padding_of, torch_padding

__all__ = ["PLANNERS"]

_AVERAGE: Final[Mapping[int, Callable[..., Tensor]]] = {3: F.avg_pool1d, 4: F.avg_pool2d, 5: F.avg_pool3d}
_MAXIMUM: Final[Mapping[int, Callable[..., Tensor]]] = {3: F.max_pool1d, 4: F.max_pool2d, 5: F.max_pool3d}


class _Window:
    """Kernel, strides and padding of a pooling operation."""

    def __init__(self, args: Arguments) -> None:
        self.rank = args.rank("x")
        if self.rank not in _AVERAGE:
            args.refuse("x", f"of rank {self.rank} is not implemented; 3, 4 and 5 are")
        spatial = self.rank - 2
        self.kernel = args.integers("kernel_sizes", count=spatial)
        self.strides = args.integers("strides", default=(1,) * spatial, count=spatial)
        self.pad_type = args.text("pad_type", PAD_TYPES)
        self.pad = args.integers("pad", default=(0,) * 2 * spatial, count=2 * spatial)
        self.ceil_mode = args.flag("ceil_mode")
        if self.ceil_mode and self.pad_type.startswith("same"):
            args.refuse("ceil_mode", f"with pad_type {self.pad_type!r} is not implemented")
        if self.ceil_mode and any(a != b for a, b in zip(self.pad[::2], self.pad[1::2], strict=True)):
            args.refuse("ceil_mode", "with a pad that differs before and after is not implemented")

    def pairs(self, x: Tensor) -> list[tuple[int, int]]:
        """Give the rows before and after each spatial axis."""
        return padding_of(self.pad_type, self.pad, x.shape[2:], self.kernel, self.strides)


def _max_pool(args: Arguments) -> Kernel:
    window = _Window(args)

    def run(x: Tensor) -> Tensor:
        pairs = window.pairs(x)
        pool = _MAXIMUM[window.rank]
        if window.ceil_mode:
            padding = [before for before, _ in pairs]
            return pool(x, window.kernel, window.strides, padding, ceil_mode=True)
        return pool(F.pad(x, torch_padding(pairs), value=-torch.inf), window.kernel, window.strides)

    return args.kernel(run, "x")


def _avg_pool(args: Arguments) -> Kernel:
    window = _Window(args)
    exclude = args.flag("exclude_padding_from_average")

    def run(x: Tensor) -> Tensor:
        pairs = window.pairs(x)
        pool = _AVERAGE[window.rank]
        if window.ceil_mode:
            padding = [before for before, _ in pairs]
            return pool(x, window.kernel, window.strides, padding, ceil_mode=True, count_include_pad=not exclude)
        padded = torch_padding(pairs)
        average = pool(F.pad(x, padded), window.kernel, window.strides)
        if not exclude:
            return average
        inside = F.pad(torch.ones_like(x[:1, :1]), padded)
        return average / pool(inside, window.kernel, window.strides)

    return args.kernel(run, "x")


def _l2_pool(args: Arguments) -> Kernel:
    """The square root of the window's sum of squares."""
    window = _Window(args)
    if window.ceil_mode or window.rank == 5:
        args.refuse("ceil_mode" if window.ceil_mode else "x", "is not implemented for a ceiling or three axes")
    count = prod(window.kernel)

    def run(x: Tensor) -> Tensor:
        squares = F.pad(x.square(), torch_padding(window.pairs(x)))
        return torch.sqrt(_AVERAGE[window.rank](squares, window.kernel, window.strides) * count)

    return args.kernel(run, "x")


PLANNERS: Final[Mapping[str, Planner]] = {"avg_pool": _avg_pool, "l2_pool": _l2_pool, "max_pool": _max_pool}
