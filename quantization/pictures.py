"""Calibration pictures that are read when they are needed."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Pictures", "one_by_one"]


class Pictures(Protocol):
    """Normalised calibration inputs, read when they are asked for; an array float32 ``[M, 3, H, W]`` is one.

    ``len`` gives the number M of pictures. Iterating gives them in order, float32 ``[3, H, W]`` one by one or
    ``[n, 3, H, W]`` in batches.
    """

    def __len__(self) -> int:
        """Give the number of pictures."""
        ...

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Give the pictures, or batches of them."""
        ...


def one_by_one(pictures: Pictures) -> Iterator[NDArray[np.float32]]:
    """Yield every picture as ``[1, 3, H, W]``.

    Raises:
        ValueError: One is not float32, not of three channels or not of the first one's size.
    """
    first: tuple[int, ...] | None = None
    for batch in pictures:
        shape = (1, *batch.shape) if batch.ndim == 3 else batch.shape
        first = first or shape[1:]
        if len(shape) != 4 or shape[1] != 3 or shape[1:] != first or batch.dtype != np.float32:
            message = f"calibration pictures are float32 [M, 3, H, W], not {batch.dtype} {list(shape)}"
            raise ValueError(message)
        for picture in batch.reshape(shape):
            yield picture[None]
