"""Bone lengths of a figure and the place of every bone for a pose.

A bone is a frame whose origin is the bone's near joint; the bone runs along the frame's -y (trunk and head: +y), z is
the side a person faces. Lengths are in body heights, so a figure is about one unit tall.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lspdmobile.data.render.geometry import Matrix, Vector, rotate, rotate_x, rotate_y, rotate_z
from lspdmobile.data.render.poses import Limb, Pose

__all__ = ["Body", "Build", "Frame", "pose_body", "sample_build"]


@dataclass(frozen=True, kw_only=True)
class Build:
    """Proportions of one person in body heights, and thickness factors (1 = average)."""

    trunk: float
    shoulders: float
    hips: float
    head: float
    upper_arm: float
    forearm: float
    thigh: float
    shin: float
    foot: float
    girth: float
    muscle: float
    bust: float


@dataclass(frozen=True)
class Frame:
    """A bone's origin [3] and axes [3,3] (columns x, y, z)."""

    origin: Vector
    axes: Matrix

    def at(self, x: float, y: float, z: float) -> Vector:
        """Give the point with these local coordinates."""
        point: Vector = self.origin + self.axes @ np.array([x, y, z])
        return point


@dataclass(frozen=True, kw_only=True)
class Body:
    """A posed body in camera orientation.

    Attributes:
        frames: Bone name to frame: pelvis, waist, chest, head, and right_/left_ upper_arm, forearm, hand, thigh, shin,
            foot.
        joints: float64 [14,3] in LSP order, body heights, y up.
        build: The proportions used.
    """

    frames: Mapping[str, Frame]
    joints: Vector
    build: Build


def sample_build(rng: np.random.Generator) -> Build:
    """Draw proportions: adults of either sex and, one time in eight, a child."""
    wobble = 1.0 + 0.05 * np.clip(rng.standard_normal(9), -2, 2)
    woman = bool(rng.random() < 0.5)
    child = bool(rng.random() < 0.12)
    limbs = 0.94 if child else 1.0
    return Build(
        trunk=0.30 * wobble[0],
        shoulders=(0.195 if woman else 0.222) * wobble[1],
        hips=(0.122 if woman else 0.115) * wobble[2],
        head=(0.195 if child else 0.165) * wobble[3],
        upper_arm=0.172 * wobble[4] * limbs,
        forearm=0.150 * wobble[5] * limbs,
        thigh=0.242 * wobble[6] * limbs,
        shin=0.238 * wobble[7] * limbs,
        foot=0.145 * wobble[8],
        girth=float(np.clip(1.0 + 0.13 * rng.standard_normal(), 0.8, 1.35)),
        muscle=float(rng.uniform(0.88, 1.15)) * (0.93 if woman else 1.05),
        bust=float(rng.uniform(0.4, 1.0)) if woman and not child else 0.0,
    )


def _swing(limb: Limb, side: float) -> Matrix:
    """Rotate a hanging limb to its lift, spread and twist; ``side`` is -1 right, +1 left."""
    spread = np.deg2rad(limb.spread)
    lateral, forward = side * float(np.sin(spread)), float(np.cos(spread))
    return rotate((-forward, 0.0, lateral), limb.lift) @ rotate_y(side * limb.twist)


def _chain(root: Frame, swing: Matrix, limb: Limb, lengths: tuple[float, float], flexion: float) -> tuple[Frame, ...]:
    """Place near bone, far bone and hand or foot; ``flexion`` is -1 for elbows, +1 for knees."""
    near = Frame(root.origin, root.axes @ swing)
    far = Frame(near.at(0, -lengths[0], 0), near.axes @ rotate_x(flexion * limb.bend))
    end = Frame(far.at(0, -lengths[1], 0), far.axes @ rotate_x(limb.end))
    return near, far, end


def _arm(chest: Frame, build: Build, limb: Limb, side: float) -> tuple[Frame, ...]:
    raised = max(0.0, limb.lift - 60.0) / 120.0
    shoulder = chest.at(
        side * (0.5 * build.shoulders - 0.022 * raised), 0.545 * build.trunk - 0.028 + 0.05 * raised, 0.0
    )
    return _chain(Frame(shoulder, chest.axes), _swing(limb, side), limb, (build.upper_arm, build.forearm), -1.0)


def _leg(pelvis: Frame, build: Build, limb: Limb, side: float) -> tuple[Frame, ...]:
    hip = Frame(pelvis.at(side * 0.5 * build.hips, 0.0, 0.0), pelvis.axes)
    return _chain(hip, _swing(limb, side), limb, (build.thigh, build.shin), 1.0)


def _spine(root: Matrix, build: Build, pose: Pose) -> tuple[Frame, Frame, Frame]:
    flex, bend, turn = pose.spine
    half = rotate_y(turn / 2) @ rotate_z(bend / 2) @ rotate_x(flex / 2)
    pelvis = Frame(np.zeros(3), root)
    waist = Frame(pelvis.at(0, 0.16 * build.trunk, 0), root @ half)
    chest = Frame(waist.at(0, 0.29 * build.trunk, 0), waist.axes @ half)
    return pelvis, waist, chest


def pose_body(build: Build, pose: Pose, view: Matrix) -> Body:
    """Place every bone and joint.

    Args:
        build: Proportions.
        pose: Joint angles.
        view: Rotation [3,3] from the tumbled body to the camera.
    """
    root = view @ rotate_x(pose.tumble[0]) @ rotate_z(pose.tumble[1])
    pelvis, waist, chest = _spine(root, build, pose)
    nod, tilt, turn = pose.head
    neck = chest.at(0, 0.55 * build.trunk, 0)
    head = Frame(neck, chest.axes @ rotate_y(turn) @ rotate_z(tilt) @ rotate_x(nod))
    frames = {"pelvis": pelvis, "waist": waist, "chest": chest, "head": head}
    joints = np.zeros((14, 3))
    for index, side in ((0, -1.0), (1, 1.0)):
        name = "left" if index else "right"
        arm = _arm(chest, build, pose.arms[index], side)
        leg = _leg(pelvis, build, pose.legs[index], side)
        frames |= {f"{name}_{bone}": frame for bone, frame in zip(("upper_arm", "forearm", "hand"), arm, strict=True)}
        frames |= {f"{name}_{bone}": frame for bone, frame in zip(("thigh", "shin", "foot"), leg, strict=True)}
        # LSP runs ankle, knee, hip on the right and mirrored on the left; wrists to shoulders likewise.
        rows = ((3, 4, 5), (9, 10, 11)) if index else ((2, 1, 0), (8, 7, 6))
        for row, frame in zip(rows[0], leg, strict=True):
            joints[row] = frame.origin
        for row, frame in zip(rows[1], arm, strict=True):
            joints[row] = frame.origin
    joints[12] = neck
    joints[13] = head.at(0, build.head, 0.01)
    return Body(frames=frames, joints=joints, build=build)
