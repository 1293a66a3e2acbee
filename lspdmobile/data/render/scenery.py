"""Backgrounds: streets, parks, gyms, rooms and plain clutter, drawn from soft-edged shapes and value noise."""

from collections.abc import Callable
from typing import Final

import numpy as np

from lspdmobile.data.render.geometry import Floats, value_noise, wave
from lspdmobile.data.render.wardrobe import random_colour

__all__ = ["Canvas", "paint_scene"]


class Canvas:
    """A picture under construction and its tilted coordinates.

    Attributes:
        pixels: float32 [size,size,3], 0 to 1.
        x: float32 [size,size] tilted column of each pixel.
        y: float32 [size,size] tilted row.
        size: Side in pixels.
    """

    def __init__(self, size: int, tilt_degrees: float = 0.0) -> None:
        self.size = size
        self.pixels: Floats = np.zeros((size, size, 3), np.float32)
        axis = np.arange(size, dtype=np.float32) - np.float32(size / 2)
        c, s = np.float32(np.cos(np.deg2rad(tilt_degrees))), np.float32(np.sin(np.deg2rad(tilt_degrees)))
        self.x: Floats = c * axis[None, :] - s * axis[:, None] + np.float32(size / 2)
        self.y: Floats = s * axis[None, :] + c * axis[:, None] + np.float32(size / 2)

    def paint(self, cover: Floats, colour: tuple[float, float, float] | Floats) -> None:
        """Blend a colour (one, or one per pixel) over the picture by coverage 0 to 1."""
        touched = np.flatnonzero(np.any(cover > 0, axis=1))
        if not len(touched):
            return
        rows = slice(int(touched[0]), int(touched[-1]) + 1)
        colours = np.asarray(colour, np.float32)
        colours = colours[rows] if colours.ndim > 1 else colours
        self.pixels[rows] += cover[rows, :, None] * (colours - self.pixels[rows])

    def box(self, left: float, top: float, right: float, bottom: float) -> Floats:
        """Give the coverage of a box in tilted pixels."""
        f = np.float32
        across = np.minimum(self.x - f(left), f(right) - self.x)
        down = np.minimum(self.y - f(top), f(bottom) - self.y)
        cover: Floats = np.clip(np.minimum(across, down) + f(0.5), f(0), f(1))
        return cover

    def ellipse(self, centre: tuple[float, float], radii: tuple[float, float], soft: float = 1.0) -> Floats:
        """Give the coverage of an ellipse whose edge is about ``soft`` pixels wide."""
        f = np.float32
        dx, dy = (self.x - f(centre[0])) / f(radii[0]), (self.y - f(centre[1])) / f(radii[1])
        inside = (f(1) - np.sqrt(dx * dx + dy * dy)) * f(min(radii) / soft)
        cover: Floats = np.clip(inside + f(0.5), f(0), f(1))
        return cover

    def stroke(self, a: tuple[float, float], b: tuple[float, float], radius: float, soft: float = 1.0) -> Floats:
        """Give the coverage of a thick line with round ends."""
        away = self.distance(a, b)
        cover: Floats = np.clip((np.float32(radius) - away) / np.float32(soft) + np.float32(0.5), 0, 1)
        return cover

    def distance(self, a: tuple[float, float], b: tuple[float, float]) -> Floats:
        """Give each pixel's distance to the segment ``a`` to ``b``."""
        f = np.float32
        sx, sy = b[0] - a[0], b[1] - a[1]
        dx, dy = self.x - f(a[0]), self.y - f(a[1])
        t = np.clip((dx * f(sx) + dy * f(sy)) / f(max(sx * sx + sy * sy, 1e-6)), f(0), f(1))
        ex, ey = dx - t * f(sx), dy - t * f(sy)
        distance: Floats = np.sqrt(ex * ex + ey * ey)
        return distance


def _noise(rng: np.random.Generator, size: int, octaves: tuple[int, ...]) -> Floats:
    """Sum value noise of several finenesses, each half as strong as the one before; roughly -1 to 1."""
    total = np.zeros((size, size), np.float32)
    for step, cells in enumerate(octaves):
        total += value_noise(rng, size, min(cells, size)) * np.float32(0.5**step)
    return total


def _gradient(canvas: Canvas, rows: tuple[float, float], colours: tuple[tuple[float, ...], tuple[float, ...]]) -> None:
    share = np.clip((canvas.y - np.float32(rows[0])) / np.float32(max(rows[1] - rows[0], 1.0)), 0, 1)[..., None]
    first, second = (np.array(c, np.float32) for c in colours)
    canvas.pixels[:] = first + (second - first) * share


def _shaded(colour: tuple[float, float, float], factor: float) -> tuple[float, float, float]:
    r, g, b = (float(np.clip(c * factor, 0, 1)) for c in colour)
    return r, g, b


def _building(canvas: Canvas, rng: np.random.Generator, horizon: float) -> None:
    size = canvas.size
    left, width = rng.uniform(-0.2, 0.95) * size, rng.uniform(0.12, 0.5) * size
    top = horizon - rng.uniform(0.15, 0.9) * size
    wall = random_colour(rng)
    wall = _shaded((0.5 * wall[0] + 0.3, 0.5 * wall[1] + 0.28, 0.5 * wall[2] + 0.26), 1.0)
    cover = canvas.box(left, top, left + width, horizon + 2)
    canvas.paint(cover, wall)
    step_x, step_y = rng.uniform(0.05, 0.12) * size, rng.uniform(0.07, 0.14) * size
    fill = np.float32(rng.uniform(-0.3, 0.4))
    windows = (wave((canvas.x - np.float32(left)) / np.float32(step_x)) > fill) & (
        wave((canvas.y - np.float32(top)) / np.float32(step_y)) > fill
    )
    canvas.paint(cover * windows.astype(np.float32), _shaded(wall, rng.uniform(0.25, 1.5)))


def _tree(canvas: Canvas, rng: np.random.Generator, horizon: float) -> None:
    size = canvas.size
    x, height = rng.uniform(0, 1) * size, rng.uniform(0.25, 0.8) * size
    trunk = rng.uniform(0.01, 0.03) * size
    canvas.paint(canvas.stroke((x, horizon), (x + rng.normal(0, 6), horizon - height * 0.6), trunk), (0.28, 0.2, 0.13))
    green = (rng.uniform(0.1, 0.35), rng.uniform(0.28, 0.5), rng.uniform(0.05, 0.2))
    grain = value_noise(rng, size, 44)
    for _ in range(int(rng.integers(3, 7))):
        centre = x + rng.normal(0, 0.07) * size, horizon - height * rng.uniform(0.6, 1.0)
        crown = canvas.ellipse(centre, (rng.uniform(0.06, 0.16) * size, rng.uniform(0.05, 0.13) * size), 9)
        crown = np.clip(crown * (np.float32(1.5) + grain) + (crown - np.float32(1)) * np.float32(0.3), 0, 1)
        canvas.paint(crown, np.array(green, np.float32) * (np.float32(0.85) + np.float32(0.35) * grain[..., None]))


def _ground(canvas: Canvas, rng: np.random.Generator, horizon: float) -> None:
    size = canvas.size
    kinds = ((0.30, 0.45, 0.18), (0.45, 0.45, 0.46), (0.76, 0.68, 0.5), (0.35, 0.3, 0.25), (0.55, 0.3, 0.25))
    base = np.array(kinds[int(rng.integers(len(kinds)))], np.float32) * np.float32(rng.uniform(0.75, 1.25))
    grain = _noise(rng, size, (8, 30, 90)) * np.float32(rng.uniform(0.04, 0.2))
    near = np.clip((canvas.y - np.float32(horizon)) / np.float32(size), 0, 1)
    cover = np.clip(canvas.y - np.float32(horizon) + np.float32(0.5), 0, 1)
    canvas.paint(cover, base * (np.float32(0.85) + grain + np.float32(0.3) * near)[..., None])
    for _ in range(int(rng.integers(0, 3))):
        y = horizon + rng.uniform(0.02, 0.5) * size
        line = canvas.stroke((-50, y), (size + 50, y + rng.normal(0, 0.15) * size), rng.uniform(0.5, 4))
        canvas.paint(line * cover, _shaded((0.85, 0.85, 0.82), rng.uniform(0.3, 1.1)))


def _outdoor(canvas: Canvas, rng: np.random.Generator, horizon: float) -> None:
    size = canvas.size
    sky = (rng.uniform(0.35, 0.75), rng.uniform(0.55, 0.85), rng.uniform(0.75, 1.0))
    grey = rng.uniform(0, 1)
    pale = tuple(grey * 0.8 + (1 - grey) * c for c in sky)
    _gradient(canvas, (0, horizon), (pale, tuple(0.45 * c + 0.53 for c in pale)))
    clouds = np.clip(_noise(rng, size, (4, 9, 20)) * np.float32(0.8), 0, 0.8)
    canvas.paint(clouds, (0.96, 0.96, 0.97))
    if rng.random() < 0.4:
        rise = value_noise(rng, size, 5)[0] * np.float32(0.12 * size)
        hills = np.clip(canvas.y - np.float32(horizon - 0.1 * size) - rise[None, :], 0, 1)
        canvas.paint(hills, (rng.uniform(0.2, 0.5), rng.uniform(0.3, 0.5), rng.uniform(0.25, 0.55)))
    for _ in range(int(rng.integers(0, 5))):
        _building(canvas, rng, horizon)
    for _ in range(int(rng.integers(0, 5))):
        _tree(canvas, rng, horizon + rng.uniform(-3, 6))
    _ground(canvas, rng, horizon)
    if rng.random() < 0.3:
        _fence(canvas, rng, horizon)


def _fence(canvas: Canvas, rng: np.random.Generator, horizon: float) -> None:
    size = canvas.size
    colour = _shaded(random_colour(rng), 0.9)
    height, step, radius = rng.uniform(0.15, 0.5) * size, rng.uniform(0.05, 0.25) * size, rng.uniform(0.6, 3.0)
    for x in np.arange(rng.uniform(0, step), size + 1, step):
        canvas.paint(canvas.stroke((float(x), horizon + 3), (float(x), horizon - height), radius), colour)
    for share in (0.15, 0.95):
        y = horizon - share * height
        canvas.paint(canvas.stroke((-40, y), (size + 40.0, y), radius), colour)


def _bricks(canvas: Canvas, rng: np.random.Generator, colour: tuple[float, float, float]) -> None:
    height = np.float32(rng.uniform(5, 14))
    row = np.floor(canvas.y / height)
    x = canvas.x + np.float32(1.2) * height * (row - np.float32(2) * np.floor(row / np.float32(2)))
    width = np.float32(2.4) * height
    joint = (canvas.y - row * height < 1.2) | (x - np.floor(x / width) * width < 1.2)
    canvas.paint(joint.astype(np.float32) * np.float32(0.8), _shaded(colour, rng.uniform(0.6, 1.35)))


def _wall(canvas: Canvas, rng: np.random.Generator, floor: float) -> None:
    size = canvas.size
    wall = random_colour(rng)
    share = float(rng.uniform(0.2, 0.9))
    wall = _shaded(
        (
            share * wall[0] + 0.75 * (1 - share),
            share * wall[1] + 0.72 * (1 - share),
            share * wall[2] + 0.68 * (1 - share),
        ),
        1,
    )
    _gradient(canvas, (0, size), (wall, _shaded(wall, rng.uniform(0.7, 1.05))))
    if rng.random() < 0.3:
        _bricks(canvas, rng, wall)
    elif rng.random() < 0.3:
        stripes = (wave(canvas.x / np.float32(rng.uniform(6, 40))) > 0).astype(np.float32)
        canvas.paint(stripes * np.float32(0.5), _shaded(wall, rng.uniform(0.6, 1.3)))
    for _ in range(int(rng.integers(0, 5))):
        left, top = rng.uniform(-0.1, 0.9) * size, floor - rng.uniform(0.2, 1.0) * size
        right, bottom = left + rng.uniform(0.06, 0.4) * size, min(top + rng.uniform(0.08, 0.5) * size, floor)
        frame = _shaded(random_colour(rng), 1.0)
        canvas.paint(canvas.box(left - 2, top - 2, right + 2, bottom + 2), _shaded(wall, rng.uniform(0.4, 1.4)))
        canvas.paint(canvas.box(left, top, right, bottom), frame)
        if rng.random() < 0.5:
            middle = 0.5 * (left + right)
            canvas.paint(canvas.box(middle - 1, top, middle + 1, bottom), _shaded(frame, 0.5))


def _indoor(canvas: Canvas, rng: np.random.Generator, horizon: float) -> None:
    size = canvas.size
    _wall(canvas, rng, horizon)
    floor = _shaded((rng.uniform(0.35, 0.8), rng.uniform(0.3, 0.65), rng.uniform(0.2, 0.6)), rng.uniform(0.7, 1.15))
    grain = _noise(rng, size, (6, 60)) * np.float32(0.06)
    cover = np.clip(canvas.y - np.float32(horizon) + np.float32(0.5), 0, 1)
    deep = np.maximum(canvas.y - np.float32(horizon), np.float32(1)) / np.float32(size)
    canvas.paint(cover, np.array(floor, np.float32) * (np.float32(0.85) + grain + np.float32(0.25) * deep)[..., None])
    if rng.random() < 0.5:
        vanish = np.float32(rng.uniform(0, 1) * size)
        boards = wave((canvas.x - vanish) / (deep + np.float32(0.25)) / np.float32(rng.uniform(20, 70))) > 0.92
        canvas.paint(cover * boards * np.float32(0.6), _shaded(floor, 0.6))
    canvas.paint(canvas.box(-99, horizon - 3, size + 99, horizon), _shaded(floor, rng.uniform(0.3, 1.2)))
    if rng.random() < 0.6:
        _gym(canvas, rng, horizon)


def _gym(canvas: Canvas, rng: np.random.Generator, horizon: float) -> None:
    """Lay mats on the floor and put bars in front of the wall."""
    size = canvas.size
    for _ in range(int(rng.integers(1, 4))):
        left, top = rng.uniform(-0.3, 0.7) * size, horizon + rng.uniform(0.0, 0.3) * size
        right, bottom = left + rng.uniform(0.3, 1.2) * size, top + rng.uniform(0.04, 0.2) * size
        mat = random_colour(rng)
        canvas.paint(canvas.box(left, top, right, bottom), mat)
        canvas.paint(canvas.box(left, bottom, right, bottom + rng.uniform(2, 8)), _shaded(mat, 0.6))
    for _ in range(int(rng.integers(0, 4))):
        steel = _shaded((0.6, 0.6, 0.62), rng.uniform(0.3, 1.5))
        radius = rng.uniform(0.8, 3)
        if rng.random() < 0.5:
            y = rng.uniform(0, 0.8) * size
            canvas.paint(canvas.stroke((-50, y), (size + 50, y + rng.normal(0, 12)), radius), steel)
        else:
            x = rng.uniform(0, 1) * size
            canvas.paint(canvas.stroke((x, -50), (x, horizon + rng.uniform(0, 20)), radius), steel)


def _clutter(canvas: Canvas, rng: np.random.Generator, horizon: float) -> None:
    """Fill the picture with noise and shapes of any kind; no ground line."""
    del horizon
    size = canvas.size
    first, second = random_colour(rng), random_colour(rng)
    _gradient(canvas, (0, size), (first, second))
    blotches = np.clip(_noise(rng, size, (3, 8, 25, 80)) * np.float32(0.7) + np.float32(0.4), 0, 1)
    canvas.paint(blotches, random_colour(rng))
    for _ in range(int(rng.integers(2, 12))):
        centre = rng.uniform(0, 1) * size, rng.uniform(0, 1) * size
        radii = rng.uniform(0.03, 0.25) * size, rng.uniform(0.03, 0.25) * size
        soft = float(rng.choice([1.0, 4.0, 12.0]))
        canvas.paint(canvas.ellipse(centre, radii, soft) * np.float32(rng.uniform(0.4, 1)), random_colour(rng))
    _sticks(canvas, rng, int(rng.integers(1, 8)))


def _sticks(canvas: Canvas, rng: np.random.Generator, count: int) -> None:
    """Scatter limb-like strokes, so that a network cannot call every stroke a limb."""
    size = canvas.size
    skin = (rng.uniform(0.4, 0.95), rng.uniform(0.3, 0.75), rng.uniform(0.2, 0.6))
    for _ in range(count):
        x, y = rng.uniform(0, 1) * size, rng.uniform(0, 1) * size
        end = x + rng.normal(0, 0.2) * size, y + rng.normal(0, 0.2) * size
        colour = skin if rng.random() < 0.3 else random_colour(rng)
        canvas.paint(canvas.stroke((x, y), end, rng.uniform(0.6, 6), float(rng.choice([1.0, 3.0]))), colour)


_SCENES: Final[tuple[tuple[Callable[[Canvas, np.random.Generator, float], None], float], ...]] = (
    (_outdoor, 0.48),
    (_indoor, 0.40),
    (_clutter, 0.12),
)


def paint_scene(canvas: Canvas, rng: np.random.Generator, *, horizon: float) -> None:
    """Fill a canvas with a background.

    Args:
        canvas: Overwritten.
        rng: Source of every choice.
        horizon: Row where the ground begins, in tilted pixels.
    """
    pick = float(rng.random())
    for scene, weight in _SCENES:
        pick -= weight
        if pick < 0 or scene is _SCENES[-1][0]:
            scene(canvas, rng, horizon)
            break
    if rng.random() < 0.35:
        _sticks(canvas, rng, int(rng.integers(1, 5)))
    canvas.pixels += value_noise(rng, canvas.size, 104)[..., None] * np.float32(rng.uniform(0, 0.05))
    np.clip(canvas.pixels, 0, 1, out=canvas.pixels)
