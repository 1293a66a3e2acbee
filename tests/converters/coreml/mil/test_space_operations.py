"""Cells moved between space and channels or batch, compared with torch or one cell at a time."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

Array = NDArray[Any]


def _numbered(*shape: int) -> Array:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def _from_depth(x: Array, size: int) -> Array:
    """Cell (r, c) of a block lies ``(r * size + c) * channels`` channels on."""
    n, deep, h, w = x.shape
    channels = deep // size**2
    y = np.zeros((n, channels, h * size, w * size), x.dtype)
    for channel, row, column in np.ndindex(*y.shape[1:]):
        place = (row % size * size + column % size) * channels + channel
        y[:, channel, row, column] = x[:, place, row // size, column // size]
    return y


def _to_batch(x: Array, rows: int, columns: int) -> Array:
    """Pictures of each place in the blocks, one after another."""
    parts = [x[:, :, row::rows, column::columns] for row in range(rows) for column in range(columns)]
    return np.concatenate(parts)


def test_depth_to_space(check: Callable[..., None]) -> None:
    x = _numbered(2, 12, 2, 3)
    check(lambda mb, x: mb.depth_to_space(x=x, block_size=2), lambda x: _from_depth(x, 2), x)


def test_space_to_depth_is_its_inverse(check: Callable[..., None]) -> None:
    x = _numbered(2, 18, 2, 3)
    check(lambda mb, x: mb.space_to_depth(x=x, block_size=3), lambda _: x, _from_depth(x, 3))


def test_pixel_shuffle(check: Callable[..., None]) -> None:
    check(
        lambda mb, x: mb.pixel_shuffle(x=x, upscale_factor=2),
        lambda x: F.pixel_shuffle(torch.from_numpy(x), 2).numpy(),
        _numbered(1, 8, 3, 5),
    )


@pytest.mark.parametrize("target", ["iOS16", "iOS18"])
def test_pixel_unshuffle(target: str, check: Callable[..., None]) -> None:
    check(
        lambda mb, x: mb.pixel_unshuffle(x=x, downscale_factor=np.uint32(2)),
        lambda x: F.pixel_unshuffle(torch.from_numpy(x), 2).numpy(),
        _numbered(1, 3, 4, 6),
        target=target,
    )


def test_space_to_batch(check: Callable[..., None]) -> None:
    check(
        lambda mb, x: mb.space_to_batch(x=x, block_shape=[2, 3], paddings=[[1, 0], [0, 2]]),
        lambda x: _to_batch(np.pad(x, [(0, 0), (0, 0), (1, 0), (0, 2)]), 2, 3),
        _numbered(2, 3, 5, 4),
    )


def test_batch_to_space_is_its_inverse(check: Callable[..., None]) -> None:
    x = _numbered(2, 3, 6, 6)
    check(
        lambda mb, x: mb.batch_to_space(x=x, block_shape=[2, 3], crops=[[1, 0], [0, 2]]),
        lambda _: x[:, :, 1:, :-2],
        _to_batch(x, 2, 3),
    )
