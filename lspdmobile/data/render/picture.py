"""One rendered picture: sample a person and a scene, draw, photograph, label."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lspdmobile.data.render.body import Body, pose_body, sample_build
from lspdmobile.data.render.camera import photograph
from lspdmobile.data.render.figure import draw_body
from lspdmobile.data.render.foreground import cast_shadow, paint_occluder
from lspdmobile.data.render.gbuffer import GBuffer
from lspdmobile.data.render.geometry import Floats, Matrix, Vector, rotate_x, rotate_y, rotate_z
from lspdmobile.data.render.poses import Pose, sample_pose
from lspdmobile.data.render.scenery import Canvas, paint_scene
from lspdmobile.data.render.shading import Light, Sprite, sample_light, shade
from lspdmobile.data.render.wardrobe import Outfit, sample_outfit

__all__ = ["RenderedPicture", "render_picture"]

_BOX_FACTOR: Final = 1.5
_VISIBLE, _OCCLUDED = 2, 1
_WRISTS_AND_ELBOWS: Final = (6, 7, 10, 11)


@dataclass(frozen=True, kw_only=True)
class RenderedPicture:
    """A picture of one person with exact labels.

    Attributes:
        pixels: uint8 [size,size,3] RGB.
        keypoints: float32 [14,3] in LSP order: x, y in pixels (the picture spans 0..size) and visibility, 2 seen or 1
            hidden behind something nearer.
        facing: Share of the chest's forward direction that points at the viewer: 1 seen from the front, -1 from behind.
    """

    pixels: NDArray[np.uint8]
    keypoints: NDArray[np.float32]
    facing: float


@dataclass(frozen=True, kw_only=True)
class _Person:
    body: Body
    outfit: Outfit
    pose: Pose


def _view(rng: np.random.Generator, *, roll: float) -> Matrix:
    """Draw where the camera stands: any yaw, looking a little down, tilted by ``roll`` degrees."""
    yaw = rng.uniform(-180, 180) if rng.random() < 0.6 else rng.normal(0, 45)
    pitch = np.clip(rng.normal(6, 9), -15, 40)
    turned: Matrix = rotate_z(roll) @ rotate_x(pitch) @ rotate_y(yaw)
    return turned


def _arms_clear(body: Body) -> bool:
    """Tell whether elbows and wrists stay out of the trunk (an ellipse around the chest)."""
    chest = body.frames["chest"]
    inward = (body.joints[list(_WRISTS_AND_ELBOWS)] - chest.origin) @ chest.axes
    trunk = body.build.trunk
    reach = np.array([0.42 * body.build.shoulders, 0.7 * trunk, 0.085])
    return bool(np.all(np.sum(((inward - np.array([0, 0.1 * trunk, 0])) / reach) ** 2, axis=1) > 1.0))


def _sample_person(rng: np.random.Generator, *, roll: float) -> _Person:
    build = sample_build(rng)
    for _ in range(8):
        pose = sample_pose(rng)
        body = pose_body(build, pose, _view(rng, roll=roll))
        if _arms_clear(body):
            break
    return _Person(body=body, outfit=sample_outfit(rng, woman=build.bust > 0), pose=pose)


def _placement(rng: np.random.Generator, joints: Vector, size: int) -> tuple[Vector, float]:
    """Give the pelvis's place [3] and the scale so that the joints' box times 1.5 about fills the picture."""
    low, high = joints.min(axis=0)[:2], joints.max(axis=0)[:2]
    side = max(float((high - low).max()), 0.45)
    scale = size / (_BOX_FACTOR * side) * float(rng.uniform(0.88, 1.12))
    centre = 0.5 * (low + high)
    middle = (size - 1) / 2 + rng.uniform(-0.05, 0.05, 2) * size
    return np.array([middle[0] - scale * centre[0], -middle[1] - scale * centre[1], 0.0]), scale


def _render_person(person: _Person, light: Light, place: Vector, scale: float, size: int) -> tuple[Sprite, GBuffer]:
    points = place + scale * person.body.joints
    margin = 0.22 * scale
    left = int(np.clip(np.floor(points[:, 0].min() - margin), 0, size - 2))
    right = int(np.clip(np.ceil(points[:, 0].max() + margin), left + 2, size))
    top = int(np.clip(np.floor(-points[:, 1].max() - margin), 0, size - 2))
    bottom = int(np.clip(np.ceil(-points[:, 1].min() + margin), top + 2, size))
    buffer = GBuffer(left, top, right - left, bottom - top)
    draw_body(buffer, person.body, person.outfit, place=place, scale=scale)
    return shade(buffer, person.body, person.outfit, light, place=place, scale=scale), buffer


def _composite(canvas: Canvas, sprite: Sprite) -> None:
    h, w = sprite.alpha.shape
    window = canvas.pixels[sprite.top : sprite.top + h, sprite.left : sprite.left + w]
    window *= (np.float32(1) - sprite.alpha)[..., None]
    window += sprite.colour


def _add_bystander(canvas: Canvas, rng: np.random.Generator, light: Light, horizon: float) -> None:
    person = _sample_person(rng, roll=0.0)
    size = canvas.size
    scale = float(rng.uniform(0.15, 0.45)) * size
    lowest = float(person.body.joints[:, 1].min())
    row = horizon + float(rng.uniform(0.0, 0.12)) * size
    x = float(rng.choice([rng.uniform(0.0, 0.25), rng.uniform(0.75, 1.0)])) * size
    place = np.array([x, -row - scale * lowest, -4.0 * scale])
    sprite, _ = _render_person(person, light, place, scale, size)
    _composite(canvas, sprite)


def _hidden_by_body(buffer: GBuffer, points: Vector, scale: float) -> NDArray[np.bool_]:
    """Tell which joints lie well behind the surface drawn at their place."""
    hidden = np.zeros(len(points), np.bool_)
    for index, (x, y, z) in enumerate(points):
        row, column = round(2 * (-y - buffer.top)), round(2 * (x - buffer.left))
        if 0 <= row < buffer.depth.shape[0] and 0 <= column < buffer.depth.shape[1]:
            hidden[index] = buffer.depth[row, column] > z + 0.095 * scale
    return hidden


def _label(points: Vector, hidden: NDArray[np.bool_], cover: Floats | None) -> NDArray[np.float32]:
    x, y = points[:, 0] + 0.5, 0.5 - points[:, 1]  # drawing puts pixel centres at integers, labels at halves
    keypoints = np.stack([x, y, np.full(len(points), _VISIBLE)], axis=1).astype(np.float32)
    keypoints[hidden, 2] = _OCCLUDED
    if cover is not None:
        cells = np.clip(np.floor(keypoints[:, :2]).astype(np.intp), 0, len(cover) - 1)
        keypoints[cover[cells[:, 1], cells[:, 0]] > 0.5, 2] = _OCCLUDED
    return keypoints


def render_picture(seed: int, *, size: int = 208) -> RenderedPicture:
    """Render one person in a scene; the same seed gives the same bytes.

    Args:
        seed: Any non-negative integer; every choice follows from it.
        size: Side of the square picture in pixels, even and at least 32.

    Raises:
        ValueError: ``size`` is odd or below 32, or ``seed`` negative.
    """
    if size % 2 or size < 32 or seed < 0:
        message = f"expected an even size of at least 32 and a seed from 0, found size {size}, seed {seed}"
        raise ValueError(message)
    rng = np.random.Generator(np.random.PCG64(seed))
    tilt = float(np.clip(rng.normal(0, 4), -12, 12))
    extra = float(rng.uniform(-180, 180)) if rng.random() < 0.08 else float(np.clip(rng.normal(0, 6), -20, 20))
    person = _sample_person(rng, roll=extra - tilt)
    place, scale = _placement(rng, person.body.joints, size)
    points = place + scale * person.body.joints
    light = sample_light(rng)
    ground = float(points[:, 1].min()) - (0.035 + person.pose.airborne) * scale
    depth_tilt = float(rng.uniform(0.08, 0.4))
    horizon = -ground - float(rng.uniform(0.03, 0.5)) * size * (0.4 + depth_tilt)
    canvas = Canvas(size, tilt)
    paint_scene(canvas, rng, horizon=horizon)
    if rng.random() < 0.2:
        _add_bystander(canvas, rng, light, horizon)
    cast_shadow(canvas, points, light, ground=ground, horizon=horizon, tilt=depth_tilt, scale=scale)
    sprite, buffer = _render_person(person, light, place, scale, size)
    _composite(canvas, sprite)
    hidden = _hidden_by_body(buffer, points, scale)
    keypoints = _label(points, hidden, None)
    if rng.random() < 0.25:
        keypoints = _label(points, hidden, paint_occluder(canvas, rng, keypoints))
    facing = float(person.body.frames["chest"].axes[2, 2])
    return RenderedPicture(pixels=photograph(canvas.pixels, rng), keypoints=keypoints, facing=facing)
