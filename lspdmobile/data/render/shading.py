"""Colours of the samples in a depth buffer, and their mean per pixel.

Every sample is shaded by ``colour * (ambient (0.8 + 0.2 ny) + direct max(0, n.l)) + sheen``; creases are darkened where
the surroundings lie nearer to the viewer (a blurred depth minus the depth). Textures live in the frame of the bone a
shape belongs to, so they turn with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lspdmobile.data.render.body import Body, Frame
from lspdmobile.data.render.gbuffer import GBuffer
from lspdmobile.data.render.geometry import Floats, Vector, unit, wave
from lspdmobile.data.render.wardrobe import Material, Outfit, Pattern

__all__ = ["Light", "Sprite", "box_blur", "sample_light", "shade"]


@dataclass(frozen=True, kw_only=True)
class Light:
    """Direction [3] towards the light, shares of ambient and direct light, and the direct light's colour [3]."""

    direction: Vector
    ambient: float
    direct: float
    colour: Vector


@dataclass(frozen=True, kw_only=True)
class Sprite:
    """A shaded cut-out at the picture's resolution.

    Attributes:
        left: Picture column of its first column.
        top: Picture row of its first row.
        colour: float32 [h,w,3], 0 to 1, multiplied by alpha.
        alpha: float32 [h,w], the share of each pixel covered.
    """

    left: int
    top: int
    colour: Floats
    alpha: Floats


def sample_light(rng: np.random.Generator) -> Light:
    """Draw a light from above, mostly from the viewer's side."""
    direction = unit(np.array([rng.normal(0, 0.8), abs(rng.normal(0.7, 0.4)) + 0.1, rng.normal(0.7, 0.5)]))
    ambient = float(rng.uniform(0.32, 0.62))
    warmth = float(rng.uniform(-0.08, 0.1))
    return Light(
        direction=direction,
        ambient=ambient,
        direct=float(rng.uniform(0.85, 1.15)) - ambient + 0.1,
        colour=np.array([1 + warmth, 1.0, 1 - warmth]),
    )


def box_blur(field: Floats, radius: int) -> Floats:
    """Average a [h,w] field over a square of side ``2 radius + 1``; edges are repeated."""
    width = 2 * radius + 1
    for axis in (0, 1):
        padded = np.pad(field, [(radius + 1, radius) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        total = np.cumsum(padded, axis=axis, dtype=np.float64)
        size = field.shape[axis]
        ends, starts = np.arange(width, width + size), np.arange(size)
        field = ((np.take(total, ends, axis) - np.take(total, starts, axis)) / width).astype(np.float32)
    return field


def _creases(buffer: GBuffer, scale: float) -> Floats:
    """Give float32 [2h,2w] darkness 0 to 1 where nearer surfaces surround a sample; found at every other sample."""
    owned = buffer.owner[::2, ::2] >= 0
    solid = owned.astype(np.float32)
    depth = np.where(owned, buffer.depth[::2, ::2], np.float32(0))
    radius = max(1, round(0.03 * scale))
    share = box_blur(solid, radius)
    mean = box_blur(depth, radius) / np.maximum(share, np.float32(1e-3))
    dark = np.clip((mean - depth) / np.float32(0.11 * scale), 0, 1) * np.minimum(share, 1)
    return np.repeat(np.repeat(dark, 2, axis=0), 2, axis=1)


def _local(points: Floats, bones: NDArray[np.int16], frames: tuple[Frame, ...], place: Vector, scale: float) -> Floats:
    """Give float32 [n,3] coordinates in each point's own bone frame, in body heights."""
    origins = np.stack([place + scale * f.origin for f in frames]).astype(np.float32)[bones]
    axes = (np.stack([f.axes for f in frames]) / scale).astype(np.float32)[bones]
    away = points - origins
    return np.stack([_sum_products(away, axes[:, :, i]) for i in range(3)], axis=-1)


def _sum_products(a: Floats, b: Floats) -> Floats:
    """Give the dot products of two [n,3] arrays, summed in a fixed order."""
    total: Floats = a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1] + a[:, 2] * b[:, 2]
    return total


def _texture(material: Material, local: Floats) -> Floats:
    """Give float32 [n,3] colours of a material at local points [n,3]."""
    first, second = np.array(material.colour, np.float32), np.array(material.second, np.float32)
    f, p = np.float32(material.frequency), np.float32(material.phase)
    x, y, z = local[:, 0], local[:, 1], local[:, 2]
    match material.pattern:
        case Pattern.PLAIN:
            return np.broadcast_to(first, (len(local), 3)).copy()
        case Pattern.HOOPS:
            share = wave(y * f * np.float32(0.5) + p) > 0
        case Pattern.PINSTRIPES:
            share = wave(x * f + p) > np.float32(0.55)
        case Pattern.CHECKS:
            share = wave(x * f * np.float32(0.7) + p) * wave(y * f * np.float32(0.7)) > 0
        case Pattern.CAMOUFLAGE:
            blobs = wave(x * f * np.float32(0.6) + wave(y * f * np.float32(0.4)))
            share = blobs + wave(y * f * np.float32(0.5) + z * f + p) > np.float32(0.3)
        case Pattern.SIDE_STRIPE:
            share = np.abs(z) < np.float32(0.012)
    return np.where(share[:, None], second, first)


def _print_clothes(colour: Floats, local: Floats, normal_forward: Floats, outfit: Outfit, trunk: float) -> None:
    """Print badge, number and neckline on the trunk's samples, in place."""
    top, skin = outfit.materials[outfit.TOP], outfit.materials[outfit.SKIN]
    x, y = np.abs(local[:, 0]), local[:, 1] - np.float32(0.33 * trunk)
    front = normal_forward > np.float32(0.2)
    if not outfit.bare_chest:
        neckline = front & (x + (np.float32(0.47 * trunk - outfit.collar) - local[:, 1]) < 0) & (x < 0.06)
        colour[neckline] = skin.colour
        if outfit.badge:
            colour[front & (x < outfit.badge) & (np.abs(y) < 0.6 * outfit.badge)] = top.second
        if outfit.number:
            digits = (np.abs(x - np.float32(0.025)) < 0.014) & (np.abs(y) < 0.045)
            colour[(normal_forward < -0.2) & digits] = top.second
    else:
        nipples = front & (np.abs(x - np.float32(0.05)) < 0.008) & (np.abs(y - np.float32(0.01)) < 0.008)
        colour[nipples] = np.array(skin.colour) * 0.7
        navel = front & (x < 0.006) & (np.abs(y + np.float32(0.40 * trunk)) < 0.008)
        colour[navel] = np.array(skin.colour) * 0.55


def _print_face(colour: Floats, local: Floats, outfit: Outfit, h: float) -> None:
    """Print eyes, brows and mouth on the head's skin samples, in place."""
    x, y = np.abs(local[:, 0]) / np.float32(h), local[:, 1] / np.float32(h)
    front = local[:, 2] > np.float32(0.1 * h)
    skin = np.array(outfit.materials[outfit.SKIN].colour)
    hair = np.array(outfit.materials[outfit.HAIR].colour)
    colour[front & (np.abs(x - np.float32(0.14)) < 0.072) & (np.abs(y - np.float32(0.64)) < 0.034)] = 0.45 * skin + 0.42
    colour[front & (np.abs(x - np.float32(0.14)) < 0.042) & (np.abs(y - np.float32(0.64)) < 0.045)] = (0.1, 0.07, 0.06)
    colour[front & (np.abs(x - np.float32(0.14)) < 0.1) & (np.abs(y - np.float32(0.735)) < 0.02)] = 0.7 * hair
    lips = skin * np.array([0.8, 0.45, 0.45])
    colour[front & (x < 0.1) & (np.abs(y - np.float32(0.385)) < 0.024)] = lips


def _surface_colours(
    local: Floats,
    normal: Floats,
    kinds: tuple[NDArray[np.int16], NDArray[np.int16]],
    body: Body,
    outfit: Outfit,
) -> Floats:
    """Give unlit colours float32 [n,3] of samples with the given materials and bones."""
    materials, bones = kinds
    names = tuple(body.frames)
    colour = np.zeros_like(local)
    for index, material in enumerate(outfit.materials):
        rows = np.flatnonzero(materials == index)
        if len(rows):
            colour[rows] = _texture(material, local[rows])
    chest = np.flatnonzero((bones == names.index("chest")) & (materials != outfit.HAIR) & (materials != outfit.BOTTOM))
    forward = _sum_products(
        normal[chest], np.broadcast_to(body.frames["chest"].axes[:, 2].astype(np.float32), (len(chest), 3))
    )
    printed = colour[chest]
    _print_clothes(printed, local[chest], forward, outfit, body.build.trunk)
    colour[chest] = printed
    face = np.flatnonzero((bones == names.index("head")) & (materials == outfit.SKIN))
    printed = colour[face]
    _print_face(printed, local[face], outfit, body.build.head)
    colour[face] = printed
    return colour


def _creased_cloth(local: Floats) -> Floats:
    """Give irregular slanted ripples -1 to 1 at local points [n,3]."""
    x, y, z = local[:, 0], local[:, 1], local[:, 2]
    bend = wave(y * np.float32(4.3) + z * np.float32(5)) * np.float32(0.35)
    fine = wave(y * np.float32(11) + x * np.float32(14) + bend)
    return fine * wave(x * np.float32(5.1) - y * np.float32(3.7) + z * np.float32(6) + bend)


def _lit(colour: Floats, normal: Floats, folds: Floats, sheen: Floats, light: Light) -> Floats:
    """Light unlit colours [n,3]; ``folds`` [n] wobbles the angle of the direct light."""
    d = light.direction.astype(np.float32)
    facing = normal[:, 0] * d[0] + normal[:, 1] * d[1] + normal[:, 2] * d[2]
    direct = np.clip((facing + folds + np.float32(0.15)) / np.float32(1.15), 0, 1) * np.float32(light.direct)
    ambient = np.float32(light.ambient) * (np.float32(0.8) + np.float32(0.2) * normal[:, 1])
    half = unit(light.direction + np.array([0.0, 0.0, 1.0])).astype(np.float32)
    shine = np.clip(normal[:, 0] * half[0] + normal[:, 1] * half[1] + normal[:, 2] * half[2], 0, 1)
    shine = shine * shine * shine * shine
    shine = shine * shine * shine * sheen
    tint = light.colour.astype(np.float32)
    lit: Floats = colour * (ambient[:, None] + direct[:, None] * tint) + (shine * direct)[:, None]
    return lit


def shade(buffer: GBuffer, body: Body, outfit: Outfit, light: Light, *, place: Vector, scale: float) -> Sprite:
    """Shade a drawn figure and average its samples to pixels.

    Args:
        buffer: Holds the figure, drawn with the same ``place`` and ``scale``.
        body: Frames for the textures.
        outfit: Materials.
        light: Light on the figure.
        place: [3] pixels of the pelvis.
        scale: Pixels per body height.
    """
    frames: Mapping[str, Frame] = body.frames
    names = tuple(frames)
    rows, columns = np.nonzero(buffer.owner >= 0)
    owner = buffer.owner[rows, columns]
    materials = np.array([p.material for p in buffer.primitives], np.int16)[owner]
    bones = np.array([names.index(p.bone) for p in buffer.primitives], np.int16)[owner]
    local = _local(buffer.positions(rows, columns), bones, tuple(frames.values()), place, scale)
    normal = buffer.normal[rows, columns]
    colour = _surface_colours(local, normal, (materials, bones), body, outfit)
    sheen = np.array([m.sheen for m in outfit.materials], np.float32)[materials]
    folds = np.array(outfit.folds, np.float32)[materials] * _creased_cloth(local)
    colour = _lit(colour, normal, folds, sheen, light)
    colour *= (np.float32(1) - np.float32(0.6) * _creases(buffer, scale)[rows, columns])[:, None]
    samples = np.zeros((*buffer.owner.shape, 4), np.float32)
    samples[rows, columns, :3] = np.clip(colour, 0, 1)
    samples[rows, columns, 3] = 1
    quarter = np.float32(0.25)
    mean = (samples[0::2, 0::2] + samples[1::2, 0::2] + samples[0::2, 1::2] + samples[1::2, 1::2]) * quarter
    return Sprite(left=buffer.left, top=buffer.top, colour=mean[..., :3], alpha=mean[..., 3])
