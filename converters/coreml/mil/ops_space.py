"""Cells moved between space and channels or batch.

``depth_to_space``, ``space_to_depth`` and the batch operations order cells as TensorFlow does: the cell's place in its
block comes before the channel (or picture). ``pixel_shuffle`` and ``pixel_unshuffle`` are PyTorch's: channel first.
"""

from collections.abc import Mapping
from typing import Final

from torch import Tensor
from torch.nn import functional as F

from converters.coreml.mil.arguments import Arguments, Kernel, Planner
from converters.coreml.mil.ops_conv import torch_padding

__all__ = ["PLANNERS"]


def _pixel_shuffle(args: Arguments) -> Kernel:
    factor = args.integer("upscale_factor")
    return args.kernel(lambda x: F.pixel_shuffle(x, factor), "x")


def _pixel_unshuffle(args: Arguments) -> Kernel:
    factor = args.integer("downscale_factor")
    return args.kernel(lambda x: F.pixel_unshuffle(x, factor), "x")


def _depth_to_space(args: Arguments) -> Kernel:
    size = args.integer("block_size")

    def run(x: Tensor) -> Tensor:
        blocks: Tensor = x.unflatten(1, (size, size, -1))
        return blocks.permute(0, 3, 4, 1, 5, 2).flatten(4).flatten(2, 3)

    return args.kernel(run, "x")


def _space_to_depth(args: Arguments) -> Kernel:
    size = args.integer("block_size")
    return args.kernel(lambda x: _blocks(x, size, size).permute(0, 3, 5, 1, 2, 4).flatten(1, 3), "x")


def _blocks(x: Tensor, rows: int, columns: int) -> Tensor:
    """Split rows and columns into blocks: ``[n, c, h, rows, w, columns]``."""
    blocks: Tensor = x.unflatten(3, (-1, columns)).unflatten(2, (-1, rows))
    return blocks


def _pairs(args: Arguments, name: str) -> list[tuple[int, int]]:
    values = args.integers(name, count=4)
    return [(values[0], values[1]), (values[2], values[3])]


def _space_to_batch(args: Arguments) -> Kernel:
    rows, columns = args.integers("block_shape", count=2)
    padding = torch_padding(_pairs(args, "paddings"))
    return args.kernel(lambda x: _blocks(F.pad(x, padding), rows, columns).permute(3, 5, 0, 1, 2, 4).flatten(0, 2), "x")


def _batch_to_space(args: Arguments) -> Kernel:
    rows, columns = args.integers("block_shape", count=2)
    (top, bottom), (left, right) = _pairs(args, "crops")

    def run(x: Tensor) -> Tensor:
        y: Tensor = x.unflatten(0, (rows, columns, -1)).permute(2, 3, 4, 0, 5, 1).flatten(4).flatten(2, 3)
        return y[..., top : y.shape[-2] - bottom, left : y.shape[-1] - right]

    return args.kernel(run, "x")


PLANNERS: Final[Mapping[str, Planner]] = {
    "batch_to_space": _batch_to_space,
    "depth_to_space": _depth_to_space,
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "space_to_batch": _space_to_batch,
    "space_to_depth": _space_to_depth,
}
