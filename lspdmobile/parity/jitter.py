"""Jitter: how much keypoints shake from frame to frame of a film, in the float student and in an artifact.

The measure is the acceleration ``|x[t + 1] - 2 x[t] + x[t - 1]|``, meant over frames and joints, in picture pixels per
frame squared: steady motion has none, whatever its speed. The film's own acceleration is in both networks' numbers, so
the ratio is what to look at: above 1 the artifact shakes more.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lspdmobile.errors import BadInputError

__all__ = ["Jitter", "acceleration", "jitter"]

_FEWEST_FRAMES: Final = 3


@dataclass(frozen=True, kw_only=True)
class Jitter:
    """Mean accelerations over the same frames, in pixels per frame squared.

    Attributes:
        frames: Their number.
        reference, artifact: Of the float student's and of the artifact's keypoints.
        apart: The same of the difference between the two, joint by joint: what the artifact adds.
    """

    frames: int
    reference: float
    artifact: float
    apart: float

    @property
    def ratio(self) -> float:
        """The artifact's over the float student's; 1 where both stand still."""
        if self.reference == 0:
            return 1.0 if self.artifact == 0 else math.inf
        return self.artifact / self.reference

    def to_dict(self) -> dict[str, Any]:
        """Give the numbers by name; a ratio that is infinite is null."""
        return {**asdict(self), "ratio": self.ratio if math.isfinite(self.ratio) else None}


def acceleration(keypoints: NDArray[np.floating[Any]]) -> float:
    """Give the mean acceleration of keypoints ``[T, K, 2 or more]`` (x and y first) in consecutive frames.

    Raises:
        BadInputError: There are fewer than three frames.
    """
    if len(keypoints) < _FEWEST_FRAMES:
        message = f"{len(keypoints)} frames have no acceleration: give at least three, in the order of their names"
        raise BadInputError(message)
    second = np.diff(keypoints[..., :2].astype(np.float64), n=2, axis=0)
    return float(np.hypot(second[..., 0], second[..., 1]).mean())


def jitter(reference: NDArray[np.float32], artifact: NDArray[np.float32]) -> Jitter:
    """Compare keypoints ``[T, K, 2 or more]`` of both networks in the same frames.

    Raises:
        BadInputError: There are fewer than three frames.
        ValueError: The two are not of the same frames and joints.
    """
    if reference.shape[:2] != artifact.shape[:2]:
        message = f"the same frames and joints are needed, got {reference.shape} and {artifact.shape}"
        raise ValueError(message)
    between = artifact[..., :2].astype(np.float64) - reference[..., :2]
    return Jitter(
        frames=len(reference),
        reference=acceleration(reference),
        artifact=acceleration(artifact),
        apart=acceleration(between),
    )
