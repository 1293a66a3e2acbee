"""Rotations and wave functions the renderer is built from.

Camera and body coordinates are right-handed: x to the picture's right (the person's left when facing the camera), y up,
z towards the viewer (the way the person faces). Per-pixel work uses only + - * / sqrt and floor, which IEEE 754 rounds
the same way on every machine; sines and cosines appear only in the few float64 numbers of a pose.
"""

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "Matrix", "Vector", "rotate", "rotate_x", "rotate_y", "rotate_z", "unit", "value_noise", "wave"]

Floats: TypeAlias = NDArray[np.float32]
"""A float32 array of pixels."""
Vector: TypeAlias = NDArray[np.float64]
"""A float64 [3] point or direction."""
Matrix: TypeAlias = NDArray[np.float64]
"""A float64 [3,3] rotation; its columns are the frame's x, y and z axes."""

_X: Final = (1.0, 0.0, 0.0)
_Y: Final = (0.0, 1.0, 0.0)
_Z: Final = (0.0, 0.0, 1.0)


def unit(vector: Vector) -> Vector:
    """Scale a vector to length one."""
    length = float(np.sqrt(np.sum(vector * vector)))
    return vector / max(length, 1e-9)


def rotate(axis: Sequence[float], degrees: float) -> Matrix:
    """Rotate about a unit axis by Rodrigues' formula I + sin a K + (1 - cos a) K K."""
    x, y, z = axis
    angle = float(np.deg2rad(degrees))
    k = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    rotation: Matrix = np.eye(3) + np.sin(angle) * k + (1.0 - np.cos(angle)) * (k @ k)
    return rotation


def rotate_x(degrees: float) -> Matrix:
    """Rotate about x: positive tips the head (+y) forward (+z)."""
    return rotate(_X, degrees)


def rotate_y(degrees: float) -> Matrix:
    """Rotate about y: positive turns the face (+z) to the person's left (+x)."""
    return rotate(_Y, degrees)


def rotate_z(degrees: float) -> Matrix:
    """Rotate about z: positive tips the head (+y) to the person's right (-x)."""
    return rotate(_Z, degrees)


def wave(phase: Floats) -> Floats:
    """Give a sine-like wave of period 1 and range -1 to 1, made of exact operations only."""
    ramp = np.abs((phase - np.floor(phase)) * np.float32(4) - np.float32(2)) - np.float32(1)
    smooth: Floats = ramp * (np.float32(1.5) - np.float32(0.5) * ramp * ramp)
    return smooth


def value_noise(rng: np.random.Generator, size: int, cells: int) -> Floats:
    """Interpolate a random grid to a smooth field.

    Args:
        rng: Source of the grid.
        size: Side of the field in pixels.
        cells: Grid cells along a side; more cells, finer noise.

    Returns:
        float32 [size, size] in -1 to 1.
    """
    grid = rng.random((cells + 2, cells + 2), dtype=np.float32) * np.float32(2) - np.float32(1)
    place = np.arange(size, dtype=np.float32) * np.float32(cells / size)
    low = np.floor(place).astype(np.intp)
    part = place - low.astype(np.float32)
    part = part * part * (np.float32(3) - np.float32(2) * part)
    rows = grid[low] + (grid[low + 1] - grid[low]) * part[:, None]
    field: Floats = rows[:, low] + (rows[:, low + 1] - rows[:, low]) * part[None, :]
    return field
