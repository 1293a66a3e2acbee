"""Task metrics: how well predicted keypoints meet the labels.

- ``pck@0.2``: share of labelled joints within 0.2 of the distance left shoulder to right hip.
- ``pck-box@0.05``: the same within 0.05 of the longer side of the person's box.
- ``pckh@0.5``, ``pckh@0.1``: within 0.5 or 0.1 of the head: 0.6 of the diagonal of the labelled head box, where the
  label file has it (MPII), else the distance neck to head top, where the skeleton has both. Of MPII's 16 joints pelvis
  and thorax are left out, as its own evaluation does. (What publications call Mean@0.1 is read at 0.11.)
- ``pck-auc``, ``pckh-auc``: area under the curve of PCK over alpha from 0 to 0.5, by 0.5. It is taken exactly: a
  joint ``d`` reference lengths away brings ``max(0, 1 - d / 0.5)``; MPII's evaluation steps by 0.01.
- ``oks_ap``, ``oks_ap50``, ``oks_ap75``, ``oks_ar``: COCO's average precision and recall by OKS, with labelled boxes.

A PCK is a micro average: correct joints over labelled joints, all joints and persons together. Persons whose reference
length cannot be measured (one of its two joints is not labelled, or both lie on one spot) are left out of that metric;
:attr:`TaskMetrics.left_out` counts them. P is persons, K joints.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from lspdmobile.parity.oks import OksMatches, match_by_oks, similarity
from lspdmobile.skeleton import Skeleton

if TYPE_CHECKING:
    from lspdmobile.data.coco import Person

__all__ = ["OKS_AP", "PCK", "PCKH", "PCK_BOX", "JointHits", "TaskMetrics", "evaluate", "pck"]

PCK: Final = "pck@0.2"
PCKH: Final = "pckh@0.5"
PCK_BOX: Final = "pck-box@0.05"
OKS_AP: Final = "oks_ap"
_LONGEST_ALPHA: Final = 0.5
_HEAD_OF_BOX: Final = 0.6
_NOT_IN_PCKH: Final = {"mpii-16": ("pelvis", "thorax")}
_OKS_STEP: Final = 0.05


@dataclass(frozen=True, kw_only=True, eq=False)
class JointHits:
    """Which joints count and which of these are right.

    Attributes:
        hits: bool ``[P, K]``: within the threshold; false where the joint does not count.
        counted: bool ``[P, K]``: labelled, and the person has a reference length.
        distance: ``[P, K]``: from the label, in thresholds (right is 1 or less); infinite where the prediction is not
            finite, NaN where the joint does not count.
    """

    hits: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    distance: NDArray[np.float64]

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
        per_person: PCK name to hits and counts ``[P, K]``.
        closeness: Metric to ``[P, K]``: what decides about each joint, in units of which a small part is a small
            matter: of a PCK the distance in thresholds, of OKS-AP the joint's part in OKS over 0.05, the step from one
            OKS threshold to the next. NaN where the joint does not count.
        oks: The matches behind ``oks_ap``; None where absent.
        picture: int ``[P]``: picture number of each person, 0 to images - 1.
    """

    images: int
    persons: int
    metrics: Mapping[str, float]
    per_joint: Mapping[str, Mapping[str, float]]
    left_out: Mapping[str, int]
    per_person: Mapping[str, JointHits]
    closeness: Mapping[str, NDArray[np.float64]]
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
    with np.errstate(invalid="ignore", divide="ignore"):
        away = np.hypot(difference[..., 0], difference[..., 1])
        near = away <= alpha * reference[:, None]
        distance = np.where(np.isfinite(away), away / (alpha * reference[:, None]), np.inf)
    return JointHits(hits=near & counted, counted=counted, distance=np.where(counted, distance, np.nan))


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
    per_person = _pck_metrics(predicted, persons, labels, skeleton)
    oks = match_by_oks(predicted, persons, skeleton, picture=picture) if skeleton.sigmas else None
    scores = {name: hits.fraction for name, hits in per_person.items()}
    curves = (("pck-auc", PCK, 0.2), ("pckh-auc", PCKH, 0.5))
    scores |= {curve: _auc(per_person[name], alpha) for curve, name, alpha in curves if name in per_person}
    if oks is not None:
        scores |= {OKS_AP: oks.ap, "oks_ap50": oks.ap50, "oks_ap75": oks.ap75, "oks_ar": oks.ar}
    metrics = {name: score for name, score in scores.items() if not np.isnan(score)}
    measured = {name: hits for name, hits in per_person.items() if name in metrics}
    closeness = {name: hits.distance for name, hits in measured.items()}
    if OKS_AP in metrics:
        closeness[OKS_AP] = similarity(predicted, persons, skeleton) / _OKS_STEP
    return TaskMetrics(
        images=int(picture.max()) + 1,
        persons=len(persons),
        metrics=metrics,
        per_joint={name: hits.by_joint(skeleton.keypoints) for name, hits in measured.items()},
        left_out={n: int((~h.counted.any(axis=1)).sum()) for n, h in per_person.items()},
        per_person=measured,
        closeness=closeness,
        oks=oks if OKS_AP in metrics else None,
        picture=picture,
    )


def _pck_metrics(
    predicted: NDArray[np.float32], persons: "Sequence[Person]", labels: NDArray[np.float32], skeleton: Skeleton
) -> dict[str, JointHits]:
    found: dict[str, JointHits] = {}
    if skeleton.torso is not None:
        found[PCK] = pck(predicted, labels, reference=_length(labels, skeleton.torso), alpha=0.2)
    head = _head(persons, labels, skeleton)
    if head is not None:
        left_out = [skeleton.keypoints.index(name) for name in _NOT_IN_PCKH.get(skeleton.name, ())]
        judged = labels.copy()
        judged[:, left_out, 2] = 0
        found[PCKH] = pck(predicted, judged, reference=head, alpha=0.5)
        found["pckh@0.1"] = pck(predicted, judged, reference=head, alpha=0.1)
    side = np.array([max(person.box[2:]) for person in persons], np.float64)
    found[PCK_BOX] = pck(predicted, labels, reference=side, alpha=0.05)
    return found


def _head(persons: "Sequence[Person]", labels: NDArray[np.float32], skeleton: Skeleton) -> NDArray[np.float64] | None:
    """Head size in picture pixels ``[P]``, NaN where it is not known; None where no label could tell."""
    boxes = np.array([person.head_box[2:] if person.head_box else (np.nan, np.nan) for person in persons], np.float64)
    if np.isnan(boxes).all():
        return _length(labels, skeleton.head) if skeleton.head is not None else None
    return _HEAD_OF_BOX * np.hypot(boxes[:, 0], boxes[:, 1])


def _auc(hits: JointHits, alpha: float) -> float:
    """Area under PCK over alpha from 0 to 0.5, by 0.5; NaN where no joint counts."""
    if not hits.counted.any():
        return float("nan")
    lengths = alpha * hits.distance[hits.counted]
    return float(np.maximum(0.0, 1 - lengths / _LONGEST_ALPHA).mean())


def _length(labels: NDArray[np.float32], pair: tuple[int, int]) -> NDArray[np.float64]:
    """Distance between two labelled joints in picture pixels ``[P]``; NaN where one is not labelled."""
    a, b = labels[:, pair[0]].astype(np.float64), labels[:, pair[1]].astype(np.float64)
    length = np.hypot(a[:, 0] - b[:, 0], a[:, 1] - b[:, 1])
    return np.where((a[:, 2] > 0) & (b[:, 2] > 0), length, np.nan)
