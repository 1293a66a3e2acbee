"""Joint angles of a figure in degrees, drawn from a mixture of everyday and gymnastic poses.

A limb's ``lift`` is its angle from hanging straight down the trunk (negative: to the back),
``spread`` the direction of that lift (0 forward, 90 outward, negative across the body), ``twist`` the turn about the
limb's own axis and ``bend`` the elbow's or knee's flexion.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

__all__ = ["Limb", "Pose", "sample_pose"]


@dataclass(frozen=True, kw_only=True)
class Limb:
    """Angles of one arm or leg in degrees; ``end`` is the flexion of hand or foot."""

    lift: float
    spread: float = 90.0
    twist: float = 0.0
    bend: float = 0.0
    end: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Angles of a whole body in degrees.

    Attributes:
        arms: Right, left.
        legs: Right, left.
        spine: Forward flexion, bend to the right, turn to the left.
        head: Nod forward, tilt to the right, turn to the left, relative to the chest.
        tumble: Rotation of the whole body about its x (forwards) and z (to its right) axes before the camera's yaw.
        airborne: Height of the lowest joint above the ground in body heights.
    """

    arms: tuple[Limb, Limb]
    legs: tuple[Limb, Limb]
    spine: tuple[float, float, float] = (0.0, 0.0, 0.0)
    head: tuple[float, float, float] = (0.0, 0.0, 0.0)
    tumble: tuple[float, float] = (0.0, 0.0)
    airborne: float = 0.0


class _Draw:
    """Short names for the draws below."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def near(self, centre: float, spread: float) -> float:
        return centre + spread * max(-2.2, min(2.2, float(self._rng.standard_normal())))

    def between(self, low: float, high: float) -> float:
        return float(self._rng.uniform(low, high))

    def maybe(self, chance: float) -> bool:
        return bool(self._rng.random() < chance)

    def limb(self, lift: float, spread: float, bend: float, *, loose: float = 1.0, twist: float = 0.0) -> Limb:
        """An arm or leg near the given angles."""
        return Limb(
            lift=self.near(lift, 11 * loose),
            spread=self.near(spread, 18 * loose),
            twist=self.near(twist, 20 * loose),
            bend=abs(self.near(bend, 12 * loose)),
            end=self.near(0, 15),
        )

    def pair(self, lift: float, spread: float, bend: float, *, loose: float = 1.0) -> tuple[Limb, Limb]:
        """Both arms or both legs near the same angles."""
        return self.limb(lift, spread, bend, loose=loose), self.limb(lift, spread, bend, loose=loose)

    def free_arm(self) -> Limb:
        """An arm anywhere it can go."""
        return Limb(
            lift=self.between(-30, 178),
            spread=self.between(0, 115),
            twist=self.between(-70, 70),
            bend=self.between(0, 130) if self.maybe(0.7) else self.between(0, 15),
            end=self.near(0, 20),
        )

    def free_leg(self) -> Limb:
        """A leg anywhere it can go."""
        lift = self.between(-35, 115)
        bend = self.between(0, 130) if self.maybe(0.6) else self.between(0, 15)
        return Limb(lift=lift, spread=self.between(-5, 90), twist=self.near(0, 20), bend=bend, end=self.near(10, 20))


def _standing(d: _Draw) -> Pose:
    arms = d.limb(14, 70, 20, loose=1.3), d.limb(14, 70, 20, loose=1.3)
    if d.maybe(0.4):
        arms = arms[0], d.free_arm()
    if d.maybe(0.15):
        akimbo = Limb(lift=d.near(40, 5), spread=d.near(100, 8), twist=d.near(-75, 8), bend=d.near(95, 8))
        arms = akimbo, akimbo
    return Pose(arms=arms, legs=d.pair(6, 85, 5, loose=0.5), head=(d.near(4, 10), d.near(0, 6), d.near(0, 20)))


def _running(d: _Draw) -> Pose:
    stride = d.between(0.35, 1.2)
    return Pose(
        arms=(d.limb(-45 * stride, 15, 85 * stride), d.limb(45 * stride, 5, 90 * stride)),
        legs=(d.limb(55 * stride, 8, 75 * stride, loose=0.8), d.limb(-24 * stride, 5, 55 * stride, loose=0.8)),
        spine=(d.near(10, 6), d.near(0, 4), d.near(0, 10)),
        airborne=max(0.0, d.near(0.0, 0.04)),
    )


def _squat(d: _Draw) -> Pose:
    arms = d.pair(60, 20, 40, loose=2.2)
    return Pose(arms=arms, legs=d.pair(95, 28, 115, loose=1.1), spine=(d.near(28, 12), d.near(0, 5), d.near(0, 8)))


def _sitting(d: _Draw) -> Pose:
    legs = d.pair(85, 15, d.between(5, 115), loose=0.9)
    arms = d.pair(35, 25, 45, loose=2.0)
    return Pose(arms=arms, legs=legs, spine=(d.near(10, 15), d.near(0, 6), d.near(0, 12)))


def _arms_up(d: _Draw) -> Pose:
    return Pose(
        arms=d.pair(152, 65, 22, loose=1.7),
        legs=d.pair(10, 85, 8, loose=0.9),
        spine=(d.near(-6, 9), d.near(0, 8), d.near(0, 8)),
        airborne=max(0.0, d.near(0.0, 0.1)),
    )


def _handstand(d: _Draw) -> Pose:
    legs = d.pair(8, 60, 10, loose=1.2)
    if d.maybe(0.6):
        legs = d.limb(d.between(0, 70), 15, d.between(0, 90)), d.limb(d.between(-35, 20), 20, d.between(0, 90))
    if d.maybe(0.2):
        legs = d.pair(65, 85, 8)
    turn = d.near(180, 16)
    tumble = (turn, d.near(0, 12)) if d.maybe(0.5) else (d.near(0, 12), turn)
    spine = (d.near(-8, 14), d.near(0, 7), d.near(0, 10))
    return Pose(arms=d.pair(168, 70, 8, loose=0.7), legs=legs, spine=spine, head=(d.near(-20, 18), 0, 0), tumble=tumble)


def _cartwheel(d: _Draw) -> Pose:
    return Pose(
        arms=d.pair(142, 80, 10, loose=1.3),
        legs=d.pair(48, 85, 15, loose=1.4),
        spine=(d.near(0, 12), d.near(0, 14), d.near(0, 14)),
        tumble=(d.near(0, 12), d.between(50, 310)),
        airborne=max(0.0, d.near(0.0, 0.1)),
    )


def _lunge(d: _Draw) -> Pose:
    return Pose(
        arms=(d.free_arm(), d.free_arm()),
        legs=(d.limb(70, 18, 75, loose=1.2), d.limb(-25, 15, 30, loose=1.0)),
        spine=(d.near(8, 14), d.near(0, 10), d.near(0, 14)),
    )


def _jump(d: _Draw) -> Pose:
    legs = (d.pair(100, 12, 115, loose=1.2), d.pair(40, 80, 15, loose=1.5), d.pair(80, 25, 10, loose=1.4))
    pick = int(d.between(0, 3))
    return Pose(
        arms=d.pair(95, 70, 25, loose=3.0),
        legs=legs[min(pick, 2)],
        spine=(d.near(15, 18), d.near(0, 7), d.near(0, 9)),
        tumble=(d.near(0, 22), d.near(0, 22)),
        airborne=d.between(0.05, 0.4),
    )


def _flip(d: _Draw) -> Pose:
    pose = _jump(d)
    turn = d.between(40, 320)
    tumble = (turn, d.near(0, 20)) if d.maybe(0.7) else (d.near(0, 20), turn)
    return replace(pose, tumble=tumble, airborne=d.between(0.1, 0.5))


def _lying(d: _Draw) -> Pose:
    legs = d.pair(15, 60, 25, loose=1.8)
    tumble = (90.0 if d.maybe(0.5) else -90.0) + d.near(0, 10), d.near(0, 25)
    spine = (d.near(0, 12), d.near(0, 8), d.near(0, 8))
    return Pose(arms=(d.free_arm(), d.free_arm()), legs=legs, spine=spine, tumble=tumble)


def _plank(d: _Draw) -> Pose:
    legs = d.limb(5, 40, 10, loose=0.8), d.limb(d.between(-5, 70), 15, d.between(0, 90))
    spine = (d.near(-4, 9), 0.0, 0.0)
    return Pose(
        arms=d.pair(85, 20, 10), legs=legs, spine=spine, head=(d.near(-25, 12), 0, 0), tumble=(d.near(78, 9), 0.0)
    )


def _bending(d: _Draw) -> Pose:
    return Pose(
        arms=d.pair(80, 15, 15, loose=1.8),
        legs=d.pair(45, 25, 20, loose=1.2),
        spine=(d.near(65, 18), d.near(0, 10), d.near(0, 12)),
        head=(d.near(-10, 18), 0, 0),
        tumble=(d.near(28, 12), 0.0),
    )


def _bridge(d: _Draw) -> Pose:
    legs = d.pair(-20, 40, 60, loose=0.9)
    spine = d.near(-75, 14), 0.0, d.near(0, 6)
    return Pose(arms=d.pair(165, 50, 15), legs=legs, spine=spine, tumble=(d.near(-92, 16), d.near(0, 8)))


def _kick(d: _Draw) -> Pose:
    legs = d.limb(d.between(60, 135), d.between(0, 90), 15), d.limb(0, 40, 8, loose=0.6)
    spine = (d.near(-5, 14), d.near(0, 10), d.near(0, 14))
    return Pose(arms=(d.free_arm(), d.free_arm()), legs=legs, spine=spine, tumble=(d.near(-5, 14), 0.0))


def _arabesque(d: _Draw) -> Pose:
    legs = d.limb(-45, 15, 12, loose=1.0), d.limb(45, 5, 8, loose=0.7)
    arms = d.pair(100, 70, 12, loose=2.0)
    return Pose(arms=arms, legs=legs, spine=(d.near(-12, 12), 0.0, 0.0), tumble=(d.near(45, 18), d.near(0, 8)))


def _vault(d: _Draw) -> Pose:
    legs = d.pair(95, d.between(10, 70), d.between(10, 110), loose=1.2)
    tumble = (d.near(35, 30), d.near(0, 30))
    arms = d.limb(50, 40, 10, loose=1.5), d.free_arm()
    return Pose(arms=arms, legs=legs, spine=(d.near(20, 14), d.near(0, 10), d.near(0, 12)), tumble=tumble, airborne=0.2)


def _anything(d: _Draw) -> Pose:
    return Pose(
        arms=(d.free_arm(), d.free_arm()),
        legs=(d.free_leg(), d.free_leg()),
        spine=(d.near(8, 22), d.near(0, 14), d.near(0, 18)),
        head=(d.near(0, 16), d.near(0, 12), d.near(0, 28)),
        tumble=(d.near(0, 25), d.near(0, 25)) if d.maybe(0.7) else (d.between(-180, 180), d.near(0, 30)),
        airborne=d.between(0.0, 0.3) if d.maybe(0.5) else 0.0,
    )


_MIXTURE: Final[tuple[tuple[Callable[[_Draw], Pose], float], ...]] = (
    (_standing, 0.15),
    (_running, 0.12),
    (_squat, 0.06),
    (_sitting, 0.06),
    (_arms_up, 0.08),
    (_handstand, 0.09),
    (_cartwheel, 0.06),
    (_lunge, 0.06),
    (_jump, 0.06),
    (_flip, 0.05),
    (_lying, 0.03),
    (_plank, 0.02),
    (_bending, 0.04),
    (_bridge, 0.01),
    (_kick, 0.04),
    (_arabesque, 0.02),
    (_vault, 0.04),
    (_anything, 0.10),
)


def _limited_arm(arm: Limb) -> Limb:
    return replace(arm, lift=float(np.clip(arm.lift, -60, 180)), bend=float(np.clip(arm.bend, 0, 145)))


def _limited_leg(leg: Limb) -> Limb:
    spread = float(np.clip(leg.spread, -15, 100))
    lift = float(np.clip(leg.lift, -50, 140 if spread < 45 else 95))
    twist = float(np.clip(leg.twist, -35, 35))
    return replace(leg, lift=lift, spread=spread, twist=twist, bend=float(np.clip(leg.bend, 0, 145)))


def sample_pose(rng: np.random.Generator) -> Pose:
    """Draw a pose within human limits; half of them are mirrored, so neither side leads."""
    weights = np.cumsum([weight for _, weight in _MIXTURE])
    pick = int(np.searchsorted(weights, rng.random() * weights[-1], side="right"))
    draw = _Draw(rng)
    pose = _MIXTURE[min(pick, len(_MIXTURE) - 1)][0](draw)
    jitter = tuple(draw.near(0, 4) for _ in range(6))
    pose = replace(
        pose,
        arms=(_limited_arm(pose.arms[0]), _limited_arm(pose.arms[1])),
        legs=(_limited_leg(pose.legs[0]), _limited_leg(pose.legs[1])),
        spine=(pose.spine[0] + jitter[0], pose.spine[1] + jitter[1], pose.spine[2] + jitter[2]),
        head=(pose.head[0] + 2 * jitter[3], pose.head[1] + 2 * jitter[4], pose.head[2] + 2 * jitter[5]),
    )
    if draw.maybe(0.5):
        pose = replace(
            pose,
            arms=pose.arms[::-1],
            legs=pose.legs[::-1],
            spine=(pose.spine[0], -pose.spine[1], -pose.spine[2]),
            tumble=(pose.tumble[0], -pose.tumble[1]),
        )
    return pose
