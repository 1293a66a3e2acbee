"""Task metrics: how well predicted keypoints meet the labels.

- ``pck@0.2``: share of labelled joints within 0.2 of the distance left shoulder to right hip.
- ``pckh@0.5``: share of labelled joints within 0.5 of the distance neck to head top, where the skeleton has both.
- ``oks_ap``: COCO's average precision by OKS, with ground-truth boxes.

A PCK is a micro average: correct joints over labelled joints, all joints and persons together. Persons whose reference
length cannot be measured (one of its two joints is not labelled, or both lie on one spot) are left out of that metric;
:attr:`TaskMetrics.left_out` counts them. P is persons, K joints.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from lspdmobile.parity.oks import OksMatches, match_by_oks
from lspdmobile.skeleton import Skeleton

if TYPE_CHECKING:
    from lspdmobile.data.coco import Person

__all__ = ["OKS_AP", "PCK", "PCKH", "JointHits", "TaskMetrics", "evaluate", "pck"]

PCK: Final = "pck@0.2"
PCKH: Final = "pckh@0.5"
OKS_AP: Final = "oks_ap"
_PCK_ALPHA: Final = 0.2
_PCKH_ALPHA: Final = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class JointHits:
    """Which joints count and which of these are right.

    Attributes:
        hits: bool ``[P, K]``: within the threshold; false where the joint does not count.
        counted: bool ``[P, K]``: labelled, and the person has a reference length.
    """

    hits: NDArray[np.bool_]
    counted: NDArray[np.bool_]

    @property
    def fraction(self) -> float:
        """Correct over labelled, all joints together, 0 to 1; NaN where none counts."""
        total = int(self.counted.sum())
        return int(self.hits.sum()) / total if total else float("nan")

    def by_joint(self, names: Sequence[str]) -> dict[str, float]:
        """Give the fraction of every joint that is labelled at all."""
        hits, counted = self.hits.sum(axis=0), self.counted.sum(axis=0)
        return {name: float(hits[i] / counted[i]) for i, name in enumerate(names) if counted[i]}


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskMetrics:
    """Scores of one set of predictions.

    Attributes:
        images, persons: How many pictures and persons were scored.
        metrics: Metric name to a fraction 0 to 1; absent where the labels do not allow it.
        per_joint: PCK name to joint name to fraction.
        left_out: PCK name to the number of persons without a reference length.
        per_person: PCK name to hits and counts ``[P, K]``, for a paired bootstrap.
        oks: The matches behind ``oks_ap``; None where absent.
        picture: int ``[P]``: picture number of each person, 0 to images - 1.
    """

    images: int
    persons: int
    metrics: Mapping[str, float]
    per_joint: Mapping[str, Mapping[str, float]]
    left_out: Mapping[str, int]
    per_person: Mapping[str, JointHits]
    oks: OksMatches | None
    picture: NDArray[np.int64]

    def to_dict(self) -> dict[str, Any]:
        """Give what ``evaluate --json`` prints."""
        return {
            "images": self.images,
            "persons": self.persons,
            "metrics": dict(self.metrics),
            "per_joint": {name: dict(joints) for name, joints in self.per_joint.items()},
            "left_out": dict(self.left_out),
        }


def pck(
    predicted: NDArray[np.float32], labels: NDArray[np.float32], *, reference: NDArray[np.float64], alpha: float
) -> JointHits:
    """Judge each joint: right where ``|predicted - label| <= alpha * reference``.

    Args:
        predicted: float32 ``[P, K, 2 or more]``: x, y in picture pixels. A value that is not finite is a miss.
        labels: float32 ``[P, K, 3]``: x, y in picture pixels, visibility (0 is not labelled).
        reference: ``[P]``: length in picture pixels; NaN or 0 leaves the person out.
        alpha: Share of the reference length.

    Raises:
        ValueError: The shapes do not fit.
    """
    if predicted.shape[:2] != labels.shape[:2] or reference.shape != labels.shape[:1]:
        message = f"shapes do not fit: predicted {predicted.shape}, labels {labels.shape}, reference {reference.shape}"
        raise ValueError(message)
    known = np.nan_to_num(reference, nan=0.0) > 0
    counted = (labels[..., 2] > 0) & known[:, None]
    difference = predicted[..., :2].astype(np.float64) - labels[..., :2]
    with np.errstate(invalid="ignore"):
        near = np.hypot(difference[..., 0], difference[..., 1]) <= alpha * reference[:, None]
    return JointHits(hits=near & counted, counted=counted)


def evaluate(predicted: NDArray[np.float32], persons: "Sequence[Person]", skeleton: Skeleton) -> TaskMetrics:
    """Score predictions against labels.

    Args:
        predicted: float32 ``[P, K, 3]``: x, y in picture pixels, score; one row per person.
        persons: The P labelled persons, whose keypoints follow the skeleton.
        skeleton: Gives the reference joints, the sigmas and the joint names.

    Raises:
        ValueError: The shapes do not fit or there is no person.
        EnvironmentLacksError: pycocotools is not installed.
    """
    if not persons or predicted.shape != (len(persons), skeleton.count, 3):
        message = f"predictions {predicted.shape} do not fit {len(persons)} persons of {skeleton.count} joints"
        raise ValueError(message)
    labels = np.stack([p.keypoints for p in persons])
    picture = np.unique([p.image_id for p in persons], return_inverse=True)[1].astype(np.int64)
    per_person = _pck_metrics(predicted, labels, skeleton)
    scores = {name: hits.fraction for name, hits in per_person.items()}
    oks = match_by_oks(predicted, persons, skeleton, picture=picture) if skeleton.sigmas else None
    if oks is not None:
        scores[OKS_AP] = oks.ap
    metrics = {name: score for name, score in scores.items() if not np.isnan(score)}
    return TaskMetrics(
        images=int(picture.max()) + 1,
        persons=len(persons),
        metrics=metrics,
        per_joint={n: h.by_joint(skeleton.keypoints) for n, h in per_person.items() if n in metrics},
        left_out={n: int((~h.counted.any(axis=1)).sum()) for n, h in per_person.items()},
        per_person={n: h for n, h in per_person.items() if n in metrics},
        oks=oks if OKS_AP in metrics else None,
        picture=picture,
    )


def _pck_metrics(
    predicted: NDArray[np.float32], labels: NDArray[np.float32], skeleton: Skeleton
) -> dict[str, JointHits]:
    asked = ((PCK, skeleton.torso, _PCK_ALPHA), (PCKH, skeleton.head, _PCKH_ALPHA))
    return {
        name: pck(predicted, labels, reference=_length(labels, pair), alpha=alpha)
        for name, pair, alpha in asked
        if pair is not None
    }


def _length(labels: NDArray[np.float32], pair: tuple[int, int]) -> NDArray[np.float64]:
    """Distance between two labelled joints in picture pixels ``[P]``; NaN where one is not labelled."""
    a, b = labels[:, pair[0]].astype(np.float64), labels[:, pair[1]].astype(np.float64)
    length = np.hypot(a[:, 0] - b[:, 0], a[:, 1] - b[:, 1])
    return np.where((a[:, 2] > 0) & (b[:, 2] > 0), length, np.nan)
