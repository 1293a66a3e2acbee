"""What lies on or in front of a figure: its shadow on the ground and occluders."""

import numpy as np

from lspdmobile.data.render.geometry import Floats, Vector, value_noise
from lspdmobile.data.render.scenery import Canvas
from lspdmobile.data.render.shading import Light, box_blur
from lspdmobile.data.render.wardrobe import random_colour
from lspdmobile.skeleton import LSP_14

__all__ = ["cast_shadow", "paint_occluder"]


def cast_shadow(
    canvas: Canvas, joints: Vector, light: Light, *, ground: float, horizon: float, tilt: float, scale: float
) -> None:
    """Darken the ground where the body keeps the light off.

    Args:
        canvas: Picture to darken.
        joints: [14,3] pixels, y up.
        light: Light on the scene.
        ground: y (up) of the ground below the body, pixels.
        horizon: Tilted row above which there is no ground.
        tilt: How much of the ground's depth shows as height, 0 (from the side) to 1 (from above).
        scale: Pixels per body height.
    """
    drop = np.clip(joints[:, 1] - ground, 0, 1.2 * scale)
    d = light.direction / max(float(light.direction[1]), 0.35)
    x = joints[:, 0] - drop * d[0]
    z = joints[:, 2] - drop * d[2]
    y = -ground + tilt * (z - float(np.mean(joints[:, 2])))
    small = Canvas(canvas.size // 4)
    dark = np.zeros((small.size, small.size), np.float32)
    pairs = (*LSP_14.limbs, (3, 9), (2, 8))
    for a, b in pairs:
        ends = (float(x[a]) / 4, float(y[a]) / 4), (float(x[b]) / 4, float(y[b]) / 4)
        dark = np.maximum(dark, small.stroke(*ends, 0.035 * scale / 4, 1.5))
    full = np.repeat(np.repeat(dark, 4, axis=0), 4, axis=1)
    whole = np.zeros((canvas.size, canvas.size), np.float32)
    whole[: full.shape[0], : full.shape[1]] = full
    whole = box_blur(box_blur(whole, 3), 2) * np.clip(canvas.y - np.float32(horizon), 0, 1)
    canvas.pixels *= (np.float32(1) - np.float32(0.35 + 0.25 * light.direct) * np.float32(0.8) * whole)[..., None]


def _bar(canvas: Canvas, rng: np.random.Generator, aim: tuple[float, float]) -> Floats:
    size = canvas.size
    angle = float(rng.choice([0.0, 90.0, rng.uniform(0, 180)]))
    step = np.array([np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))]) * size * 1.5
    radius = rng.uniform(1.0, 5.0)
    a, b = (aim[0] - step[0], aim[1] - step[1]), (aim[0] + step[0], aim[1] + step[1])
    cover = canvas.stroke(a, b, radius)
    share = np.clip(canvas.distance(a, b) / np.float32(radius), 0, 1)
    colour = np.array(random_colour(rng), np.float32) * (np.float32(1.1) - np.float32(0.5) * share * share)[..., None]
    canvas.paint(cover, colour)
    return cover


def _block(canvas: Canvas, rng: np.random.Generator, aim: tuple[float, float]) -> Floats:
    """Paint a box that stands in front of the feet or comes in from a side."""
    size = canvas.size
    half = rng.uniform(0.05, 0.14) * size
    if aim[1] > 0.62 * size:
        cover = canvas.box(aim[0] - half, aim[1], aim[0] + half, size + 50)
    elif aim[0] < size / 2:
        cover = canvas.box(-50, aim[1] - half, min(aim[0], 0.4 * size), aim[1] + half)
    else:
        cover = canvas.box(max(aim[0], 0.6 * size), aim[1] - half, size + 50, aim[1] + half)
    grain = value_noise(rng, size, int(rng.integers(5, 60))) * np.float32(rng.uniform(0, 0.15))
    canvas.paint(cover, np.array(random_colour(rng), np.float32) * (np.float32(1) + grain)[..., None])
    return cover


def _foliage(canvas: Canvas, rng: np.random.Generator, aim: tuple[float, float]) -> Floats:
    size = canvas.size
    grain = value_noise(rng, size, 32) + np.float32(0.5) * value_noise(rng, size, 70)
    blob = canvas.ellipse(aim, (rng.uniform(0.08, 0.2) * size, rng.uniform(0.06, 0.16) * size), 14)
    leaves = (blob * np.float32(1.5) + grain * np.float32(0.6) - np.float32(0.75)) * np.float32(3)
    cover: Floats = np.clip(leaves, np.float32(0), np.float32(1))
    green = np.array([rng.uniform(0.1, 0.4), rng.uniform(0.25, 0.55), rng.uniform(0.05, 0.25)], np.float32)
    canvas.paint(cover, green * (np.float32(0.9) + np.float32(0.4) * grain)[..., None])
    return cover


def paint_occluder(canvas: Canvas, rng: np.random.Generator, keypoints: Floats) -> Floats:
    """Paint something in front of the figure near one of its outer joints.

    Args:
        canvas: Painted on.
        rng: Source of every choice.
        keypoints: [14,3] x, y, visibility in pixels.

    Returns:
        float32 [size,size] coverage 0 to 1 of what was painted.
    """
    outer = (0, 1, 4, 5, 6, 7, 10, 11)
    joint = keypoints[outer[int(rng.integers(len(outer)))]]
    aim = float(joint[0]) + float(rng.normal(0, 8)), float(joint[1]) + float(rng.normal(0, 8))
    kind = rng.random()
    if kind < 0.45:
        return _bar(canvas, rng, aim)
    return _block(canvas, rng, aim) if kind < 0.7 else _foliage(canvas, rng, aim)
