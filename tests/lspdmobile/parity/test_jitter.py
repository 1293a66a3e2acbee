"""Jitter: motion that is steady has none, noise has as much as its variance says, and a shaking artifact is seen."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from lspdmobile.errors import BadInputError
from lspdmobile.parity.jitter import acceleration, jitter

FRAMES, JOINTS = 400, 14


@pytest.fixture
def walk() -> NDArray[np.float32]:
    """Joints that each move at their own steady speed."""
    rng = np.random.default_rng(0)
    start, speed = rng.uniform(20, 80, (JOINTS, 2)), rng.uniform(-2, 2, (JOINTS, 2))
    return (start + speed * np.arange(FRAMES)[:, None, None]).astype(np.float32)


def _shaken(walk: NDArray[np.float32], pixels: float, *, seed: int) -> NDArray[np.float32]:
    return (walk + np.random.default_rng(seed).normal(0, pixels, walk.shape)).astype(np.float32)


def test_steady_motion_has_no_acceleration(walk: NDArray[np.float32]) -> None:
    assert acceleration(walk) == pytest.approx(0, abs=1e-3)


def test_falling_joints_have_that_of_their_fall() -> None:
    time = np.arange(10.0)[:, None, None]
    assert acceleration(np.concatenate([3 * time, 2.5 * time**2], axis=2)) == pytest.approx(5.0)


def test_noise_has_the_acceleration_of_its_variance(walk: NDArray[np.float32]) -> None:
    """x[t+1] - 2 x[t] + x[t-1] has 6 times the variance; the mean length of two such numbers is sigma sqrt(pi / 2)."""
    expected = 1.5 * math.sqrt(6) * math.sqrt(math.pi / 2)
    assert acceleration(_shaken(walk, 1.5, seed=1)) == pytest.approx(expected, rel=0.05)


def test_an_artifact_that_shakes_twice_as_much_has_twice_the_ratio(walk: NDArray[np.float32]) -> None:
    found = jitter(_shaken(walk, 1.0, seed=1), _shaken(walk, 2.0, seed=2))
    assert found.ratio == pytest.approx(2.0, rel=0.05)
    assert found.frames == FRAMES
    assert found.apart == pytest.approx(math.hypot(found.reference, found.artifact), rel=0.05)


def test_an_artifact_apart_by_a_constant_does_not_shake(walk: NDArray[np.float32]) -> None:
    shaken = _shaken(walk, 1.0, seed=1)
    found = jitter(shaken, shaken + np.float32(2))
    assert found.ratio == pytest.approx(1.0, rel=1e-4)
    assert found.apart == pytest.approx(0, abs=1e-3)


def test_scores_beside_the_places_do_not_count(walk: NDArray[np.float32]) -> None:
    scored = np.concatenate([walk, np.random.default_rng(1).random((FRAMES, JOINTS, 1))], axis=2)
    assert acceleration(scored) == pytest.approx(0, abs=1e-3)


def test_still_networks_have_a_ratio_too() -> None:
    still = np.ones((5, JOINTS, 2), np.float32)
    assert jitter(still, still).ratio == 1.0
    moved = still.copy()
    moved[2] += 1
    found = jitter(still, moved)
    assert found.ratio == math.inf
    assert found.to_dict()["ratio"] is None


def test_too_few_frames_and_other_joints_are_refused(walk: NDArray[np.float32]) -> None:
    with pytest.raises(BadInputError, match="2 frames"):
        jitter(walk[:2], walk[:2])
    with pytest.raises(ValueError, match="the same frames"):
        jitter(walk, walk[:, :3])
