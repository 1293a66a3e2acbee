"""A depth buffer for ellipsoids and tapered capsules under orthographic projection.

Pixel coordinates are those of the finished picture; the buffer holds 2x2 samples per pixel, a quarter pixel off its
centre. An ellipsoid ``(p-c)' Q (p-c) = 1`` is hit where ``Qzz dz^2 + 2 (Qxz dx + Qyz dy) dz + q(dx, dy) - 1 = 0``; its
normal is ``Q (p-c)``. A capsule is a sphere that slides along a bone.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lspdmobile.data.render.geometry import Floats, Matrix, Vector

__all__ = ["GBuffer", "Primitive"]

_NOTHING = np.float32(-1e6)


@dataclass(frozen=True, kw_only=True)
class Primitive:
    """What a shape is made of: the material's index and the bone whose frame carries the texture."""

    material: int
    bone: str


class GBuffer:
    """Depth, normal and primitive of the nearest surface at each sample.

    Attributes:
        left: First pixel column covered.
        top: First pixel row covered.
        depth: float32 [2h, 2w], pixels towards the viewer; very negative where empty.
        normal: float32 [2h, 2w, 3], y up.
        owner: int16 [2h, 2w], index into ``primitives`` or -1.
        primitives: What was added, in order.
    """

    def __init__(self, left: int, top: int, width: int, height: int) -> None:
        self.left, self.top = left, top
        self.depth: Floats = np.full((2 * height, 2 * width), _NOTHING, np.float32)
        self.normal: Floats = np.zeros((2 * height, 2 * width, 3), np.float32)
        self.owner: NDArray[np.int16] = np.full((2 * height, 2 * width), -1, np.int16)
        self.primitives: list[Primitive] = []
        self._x: Floats = np.arange(2 * width, dtype=np.float32) * np.float32(0.5) + np.float32(left - 0.25)
        self._y: Floats = np.arange(2 * height, dtype=np.float32) * np.float32(0.5) + np.float32(top - 0.25)

    def positions(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Floats:
        """Give float32 [n,3] surface points: x right, y up (minus the row), z towards the viewer."""
        return np.stack([self._x[columns], -self._y[rows], self.depth[rows, columns]], axis=-1)

    def _window(self, x: tuple[float, float], y: tuple[float, float]) -> tuple[slice, slice]:
        columns = slice(int(np.searchsorted(self._x, x[0])), int(np.searchsorted(self._x, x[1])))
        rows = slice(int(np.searchsorted(self._y, y[0])), int(np.searchsorted(self._y, y[1])))
        return rows, columns

    def _write(
        self, window: tuple[slice, slice], depth: Floats, hit: NDArray[np.bool_], primitive: Primitive
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Keep the samples nearer than what is there; return their rows and columns within the window."""
        rows, columns = np.nonzero(hit & (depth > self.depth[window]))
        self.depth[window][rows, columns] = depth[rows, columns]
        self.owner[window][rows, columns] = len(self.primitives)
        self.primitives.append(primitive)
        return rows, columns

    def add_ellipsoid(self, centre: Vector, axes: Matrix, radii: tuple[float, float, float], what: Primitive) -> None:
        """Add an ellipsoid.

        Args:
            centre: [3] pixels, y up.
            axes: [3,3] columns are its axes.
            radii: Along those axes, pixels.
            what: Material and bone.
        """
        r = np.maximum(np.array(radii), 0.3)
        reach = np.sqrt(np.sum((axes * r) ** 2, axis=1))
        q = ((axes / (r * r)) @ axes.T).astype(np.float32)
        window = self._window(
            (centre[0] - reach[0], centre[0] + reach[0]), (-centre[1] - reach[1], -centre[1] + reach[1])
        )
        dx = (self._x[window[1]] - np.float32(centre[0]))[None, :]
        dy = (-self._y[window[0]] - np.float32(centre[1]))[:, None]
        linear = q[0, 2] * dx + q[1, 2] * dy
        plane = (q[0, 0] * dx * dx - np.float32(1)) + q[1, 1] * dy * dy + (np.float32(2) * q[0, 1] * dx) * dy
        inside = linear * linear - q[2, 2] * plane
        dz = (np.sqrt(np.maximum(inside, np.float32(0))) - linear) / q[2, 2]
        rows, columns = self._write(window, dz + np.float32(centre[2]), inside > 0, what)
        ex, ey, ez = dx[0, columns], dy[rows, 0], dz[rows, columns]
        normal = np.stack([q[i, 0] * ex + q[i, 1] * ey + q[i, 2] * ez for i in range(3)], axis=-1)
        self._write_normals(window, rows, columns, normal)

    def add_capsule(self, ends: tuple[Vector, Vector], radii: tuple[float, float], what: Primitive) -> None:
        """Add a tapered capsule between two points [3] in pixels, with the radius at each."""
        a, b = ends
        span = b - a
        flat = max(float(span[0] ** 2 + span[1] ** 2), 1e-6)
        margin = max(radii)
        window = self._window(
            (min(a[0], b[0]) - margin, max(a[0], b[0]) + margin),
            (min(-a[1], -b[1]) - margin, max(-a[1], -b[1]) + margin),
        )
        one = np.float32
        dx = (self._x[window[1]] - one(a[0]))[None, :]
        dy = (-self._y[window[0]] - one(a[1]))[:, None]
        along = dx * one(span[0] / flat) + dy * one(span[1] / flat)
        across = (dx * one(span[1]) - dy * one(span[0])) * one(1 / np.sqrt(flat))
        radius = one(radii[0]) + one(radii[1] - radii[0]) * np.clip(along, 0, 1)
        rise = np.sqrt(np.maximum(radius * radius - across * across, one(0)))
        # The near surface of a tilted cylinder belongs to a point further along its axis.
        tilt = one(span[2] / (flat + float(span[2]) ** 2) * np.sqrt(1 + float(span[2]) ** 2 / flat))
        t = np.clip(along + tilt * rise, one(0), one(1))
        ex, ey = dx - t * one(span[0]), dy - t * one(span[1])
        radius = one(radii[0]) + one(radii[1] - radii[0]) * t
        inside = radius * radius - ex * ex - ey * ey
        dz = np.sqrt(np.maximum(inside, one(0)))
        rows, columns = self._write(window, one(a[2]) + t * one(span[2]) + dz, inside > 0, what)
        normal = np.stack([ex[rows, columns], ey[rows, columns], dz[rows, columns]], axis=-1)
        self._write_normals(window, rows, columns, normal)

    def _write_normals(
        self, window: tuple[slice, slice], rows: NDArray[np.intp], columns: NDArray[np.intp], normal: Floats
    ) -> None:
        length = np.sqrt(normal[:, 0] ** 2 + normal[:, 1] ** 2 + normal[:, 2] ** 2)
        self.normal[window][rows, columns] = normal / np.maximum(length, np.float32(1e-6))[:, None]
