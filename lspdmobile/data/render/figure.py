"""The shapes a posed body is drawn with: a tube of ellipsoids for the trunk, tapered capsules for limbs."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from lspdmobile.data.render.body import Body, Frame
from lspdmobile.data.render.gbuffer import GBuffer, Primitive
from lspdmobile.data.render.geometry import Matrix, Vector
from lspdmobile.data.render.wardrobe import Hair, Outfit

__all__ = ["draw_body"]

_TRUNK_SLICES: Final = 16
_PLACES: Final = (-0.10, 0.02, 0.12, 0.36, 0.60, 0.80, 0.92, 1.0)
# Half-widths are given as (share of hips, share of shoulders, constant), half-depths as constants, in body heights.
_WIDTHS: Final = (
    (0.5, 0.0, 0.020),
    (0.5, 0.0, 0.037),
    (0.5, 0.0, 0.036),
    (0.2, 0.2, 0.018),
    (0.0, 0.5, -0.014),
    (0.0, 0.5, -0.006),
    (0.0, 0.5, -0.022),
    (0.0, 0.25, 0.0),
)
_DEPTHS: Final = (0.055, 0.068, 0.068, 0.057, 0.066, 0.070, 0.054, 0.038)


class _Pen:
    """Adds shapes given in body heights to a buffer in pixels."""

    def __init__(self, buffer: GBuffer, outfit: Outfit, place: Vector, scale: float) -> None:
        self.buffer, self.outfit, self.place, self.scale = buffer, outfit, place, scale

    def ball(
        self, frame: Frame, centre: tuple[float, float, float], radii: tuple[float, float, float], what: Primitive
    ) -> None:
        """An ellipsoid along a frame's axes."""
        point = self.place + self.scale * frame.at(*centre)
        r = self.scale * np.array(radii)
        self.buffer.add_ellipsoid(point, frame.axes, (float(r[0]), float(r[1]), float(r[2])), what)

    def stick(self, a: Vector, b: Vector, radii: tuple[float, float], what: Primitive) -> None:
        """A tapered capsule, closed by balls so that it looks right end-on."""
        ends = self.place + self.scale * a, self.place + self.scale * b
        self.buffer.add_capsule(ends, (self.scale * radii[0], self.scale * radii[1]), what)
        flat = float(np.sqrt(np.sum((ends[1] - ends[0])[:2] ** 2)))
        if flat < 2.0 * self.scale * abs(radii[0] - radii[1]) + 1.5 * self.scale * max(radii):
            for end, radius in zip(ends, radii, strict=True):
                r = self.scale * radius
                self.buffer.add_ellipsoid(end, np.eye(3), (r, r, r), what)


def _blend(a: Matrix, b: Matrix, share: float) -> Matrix:
    """Interpolate two frames and make the result orthonormal again."""
    mixed = a + (b - a) * share
    y = mixed[:, 1] / np.sqrt(np.sum(mixed[:, 1] ** 2))
    x = mixed[:, 0] - y * np.sum(mixed[:, 0] * y)
    x = x / max(float(np.sqrt(np.sum(x * x))), 1e-9)
    z = np.array([x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]])
    return np.stack([x, y, z], axis=1)


def _spine_frame(body: Body, place: float) -> Frame:
    """Give the frame of the trunk's cross-section at a height; 0 is the hips, 1 the neck."""
    trunk = body.build.trunk
    pelvis, waist, chest = (body.frames[name] for name in ("pelvis", "waist", "chest"))
    if place <= 0.16:
        origin = pelvis.at(0, place * trunk, 0)
    elif place <= 0.45:
        origin = waist.at(0, (place - 0.16) * trunk, 0)
    else:
        origin = chest.at(0, (place - 0.45) * trunk, 0)
    if place <= 0.30:
        return Frame(origin, _blend(pelvis.axes, waist.axes, float(np.clip(place / 0.30, 0, 1))))
    return Frame(origin, _blend(waist.axes, chest.axes, float(np.clip((place - 0.30) / 0.30, 0, 1))))


def _trunk_material(outfit: Outfit, place: float) -> tuple[int, float]:
    """Give the material of the trunk at a height and its looseness."""
    if place < outfit.split:
        return outfit.BOTTOM, 0.6 + 0.4 * outfit.looseness[1]
    if outfit.bare_chest or place < outfit.crop:
        return outfit.SKIN, 1.0
    return outfit.TOP, 0.55 + 0.45 * outfit.looseness[0]


def _draw_trunk(pen: _Pen, body: Body) -> None:
    build, outfit = body.build, pen.outfit
    widths = [a * build.hips + b * build.shoulders + c for a, b, c in _WIDTHS]
    for place in np.linspace(-0.06, 0.96, _TRUNK_SLICES):
        frame = _spine_frame(body, float(place))
        material, loose = _trunk_material(outfit, float(place))
        width = float(np.interp(place, _PLACES, widths)) * (0.6 + 0.4 * build.girth) * loose
        depth = float(np.interp(place, _PLACES, _DEPTHS)) * build.girth * loose
        height = min(0.085, 0.035 + build.trunk * min(place + 0.06, 1.0 - place))
        pen.ball(frame, (0, 0, 0), (width, float(height), depth), Primitive(material=material, bone="chest"))
    lower = Primitive(material=outfit.BOTTOM, bone="pelvis")
    upper = Primitive(material=outfit.SKIN if outfit.bare_chest else outfit.TOP, bone="chest")
    g = build.girth
    for side in (-1.0, 1.0):
        pen.ball(body.frames["pelvis"], (side * 0.040, -0.022, -0.030 * g), (0.050 * g, 0.056, 0.046 * g), lower)
        chest = body.frames["chest"]
        if build.bust:
            size = 0.030 + 0.016 * build.bust
            pen.ball(chest, (side * 0.042, 0.30 * build.trunk, 0.045 * g + 0.01), (size, size * 1.1, size), upper)
        else:
            pen.ball(chest, (side * 0.045, 0.36 * build.trunk, 0.03 * g), (0.052, 0.035, 0.042 * g), upper)


@dataclass(frozen=True, kw_only=True)
class _Sleeve:
    """A garment that covers a limb from its root: material, reach in bones, looseness."""

    material: int
    reach: float
    loose: float


def _point(joints: tuple[Vector, Vector, Vector], place: float) -> Vector:
    """Give the point on a two-bone limb; 0 is its root, 1 the elbow or knee, 2 the wrist or ankle."""
    bone = 0 if place <= 1.0 else 1
    point: Vector = joints[bone] + (joints[bone + 1] - joints[bone]) * (place - bone)
    return point


def _draw_limb(
    pen: _Pen,
    joints: tuple[Vector, Vector, Vector],
    bones: tuple[str, str],
    profile: tuple[tuple[float, float], ...],
    sleeve: _Sleeve,
) -> None:
    """Draw a two-bone limb; ``profile`` pairs a place (0 to 2) with a radius in body heights."""
    for (start, r0), (stop, r1) in pairwise(profile):
        far = int(stop > 1.0)
        a, b = _point(joints, start), _point(joints, stop)
        if stop > sleeve.reach:
            pen.stick(a, b, (r0, r1), Primitive(material=pen.outfit.SKIN, bone=bones[far]))
        if start < sleeve.reach:
            share = min(1.0, (sleeve.reach - start) / (stop - start))
            loose = sleeve.loose
            radii = r0 * loose, (r0 + (r1 - r0) * share) * loose
            pen.stick(a, a + (b - a) * share, radii, Primitive(material=sleeve.material, bone=bones[far]))


def _draw_arm(pen: _Pen, body: Body, side: str) -> None:
    build, outfit = body.build, pen.outfit
    upper, fore, hand = (body.frames[f"{side}_{bone}"] for bone in ("upper_arm", "forearm", "hand"))
    thick = build.girth * build.muscle
    profile = ((0.0, 0.031), (0.4, 0.030), (1.0, 0.023), (1.25, 0.0255), (2.0, 0.0165))
    scaled = tuple((place, radius * thick) for place, radius in profile)
    sleeve = _Sleeve(material=outfit.TOP, reach=outfit.sleeves, loose=outfit.looseness[0])
    joints = upper.origin, fore.origin, hand.origin
    bones = f"{side}_upper_arm", f"{side}_forearm"
    _draw_limb(pen, joints, bones, scaled, sleeve)
    chest = body.frames["chest"]
    bare = outfit.bare_chest or outfit.sleeves == 0
    shoulder = Primitive(material=outfit.SKIN if bare else outfit.TOP, bone=bones[0])
    strap = Primitive(material=outfit.SKIN if outfit.bare_chest else outfit.TOP, bone="chest")
    lift = 1.0 if bare else 0.8 + 0.2 * outfit.looseness[0]
    pen.ball(upper, (0, -0.004, 0), (0.034 * thick * lift, 0.036 * thick * lift, 0.035 * thick * lift), shoulder)
    inner = chest.at(0.0, 0.53 * build.trunk, -0.008)
    pen.stick(inner, inner + (upper.origin - inner) * 0.75, (0.036, 0.033 * thick), strap)
    palm = Primitive(material=outfit.SKIN, bone=f"{side}_hand")
    pen.ball(hand, (0, -0.030, 0), (0.013, 0.036, 0.021), palm)
    pen.ball(hand, (0, -0.066, 0.004), (0.010, 0.026, 0.017), palm)
    pen.ball(hand, (0.0, -0.036, 0.022), (0.008, 0.024, 0.009), palm)


def _draw_leg(pen: _Pen, body: Body, side: str) -> None:
    build, outfit = body.build, pen.outfit
    thigh, shin, foot = (body.frames[f"{side}_{bone}"] for bone in ("thigh", "shin", "foot"))
    thick = build.girth * (0.5 + 0.5 * build.muscle)
    profile = ((0.0, 0.058), (0.35, 0.052), (1.0, 0.034), (1.3, 0.0375), (1.75, 0.024), (2.0, 0.0205))
    scaled = tuple((place, radius * thick) for place, radius in profile)
    sleeve = _Sleeve(material=outfit.BOTTOM, reach=max(outfit.legs, 0.1), loose=outfit.looseness[1])
    joints = thigh.origin, shin.origin, foot.origin
    _draw_limb(pen, joints, (f"{side}_thigh", f"{side}_shin"), scaled, sleeve)
    if outfit.socks and outfit.shoes:
        top = 2.0 - outfit.socks
        radius = float(np.interp(top, [p for p, _ in scaled], [r for _, r in scaled])) * 1.06
        sock = Primitive(material=outfit.SOCKS, bone=f"{side}_shin")
        pen.stick(_point(joints, top), joints[2], (radius, scaled[-1][1] * 1.12), sock)
    sole = Primitive(material=outfit.SHOES if outfit.shoes else outfit.SKIN, bone=f"{side}_foot")
    size = 1.18 if outfit.shoes else 1.0
    half = 0.5 * build.foot
    pen.ball(foot, (0, -0.016, -0.008), (0.025 * size, 0.030 * size, 0.032 * size), sole)
    pen.ball(foot, (0, -0.022, 0.55 * half), (0.027 * size, 0.020 * size, 0.75 * half * size), sole)
    pen.ball(foot, (0, -0.027, 1.15 * half), (0.032 * size, 0.014 * size, 0.5 * half * size), sole)


def _draw_head(pen: _Pen, body: Body) -> None:
    outfit, head, chest = pen.outfit, body.frames["head"], body.frames["chest"]
    h = body.build.head
    skin = Primitive(material=outfit.SKIN, bone="head")
    pen.stick(chest.at(0, 0.46 * body.build.trunk, -0.004), head.at(0, 0.42 * h, 0.004), (0.036, 0.031), skin)
    pen.ball(head, (0, 0.63 * h, 0.012), (0.32 * h, 0.37 * h, 0.40 * h), skin)
    pen.ball(head, (0, 0.42 * h, 0.09 * h), (0.24 * h, 0.22 * h, 0.28 * h), skin)
    pen.ball(head, (0, 0.54 * h, 0.47 * h), (0.045 * h, 0.09 * h, 0.075 * h), skin)
    for side in (-1.0, 1.0):
        pen.ball(head, (side * 0.32 * h, 0.58 * h, 0.02 * h), (0.03 * h, 0.09 * h, 0.055 * h), skin)
    _draw_hair(pen, body)


def _draw_hair(pen: _Pen, body: Body) -> None:
    outfit, head, chest = pen.outfit, body.frames["head"], body.frames["chest"]
    h = body.build.head
    hair = Primitive(material=outfit.HAIR, bone="head")
    if outfit.hair is Hair.BALD:
        return
    if outfit.hair is Hair.CAP:
        cap = Primitive(material=outfit.SHOES, bone="head")
        pen.ball(head, (0, 0.74 * h, -0.01), (0.34 * h, 0.29 * h, 0.40 * h), cap)
        pen.ball(head, (0, 0.76 * h, 0.42 * h), (0.22 * h, 0.03 * h, 0.24 * h), cap)
        pen.ball(head, (0, 0.58 * h, -0.14 * h), (0.33 * h, 0.30 * h, 0.31 * h), hair)
        return
    pen.ball(head, (0, 0.70 * h, -0.10 * h), (0.345 * h, 0.335 * h, 0.40 * h), hair)
    pen.ball(head, (0, 0.82 * h, 0.08 * h), (0.30 * h, 0.20 * h, 0.34 * h), hair)
    nape = head.at(0, 0.62 * h, -0.30 * h)
    if outfit.hair is Hair.LONG:
        pen.ball(head, (0, 0.50 * h, -0.18 * h), (0.36 * h, 0.44 * h, 0.28 * h), hair)
        pen.stick(nape, chest.at(0, 0.36 * body.build.trunk, -0.075), (0.045, 0.035), hair)
    elif outfit.hair is Hair.PONYTAIL:
        knot = head.at(0, 0.80 * h, -0.55 * h)
        pen.stick(head.at(0, 0.74 * h, -0.4 * h), knot, (0.016, 0.020), hair)
        # The tail hangs half along the body and half along gravity.
        tail = 0.5 * (head.at(0, 0.05 * h, -0.75 * h) + knot + np.array([0.0, -0.1, 0.0]))
        pen.stick(knot, tail, (0.022, 0.010), hair)
    elif outfit.hair is Hair.BUN:
        pen.ball(head, (0, 0.86 * h, -0.46 * h), (0.15 * h, 0.15 * h, 0.15 * h), hair)


def draw_body(buffer: GBuffer, body: Body, outfit: Outfit, *, place: Vector, scale: float) -> None:
    """Add a figure to a buffer.

    Args:
        buffer: Where to draw.
        body: The posed body, in body heights.
        outfit: Its clothes; their material indices are written.
        place: [3] pixels (x right, y up, z near) of the body's pelvis.
        scale: Pixels per body height.
    """
    pen = _Pen(buffer, outfit, place, scale)
    _draw_trunk(pen, body)
    for side in ("right", "left"):
        _draw_leg(pen, body, side)
        _draw_arm(pen, body, side)
    _draw_head(pen, body)
