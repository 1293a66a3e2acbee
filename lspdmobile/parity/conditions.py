"""Conditions: which joints belong to small persons, hidden limbs, dark pictures or bodies upside down.

An artifact may lose nothing on the whole and much where it is hard. P is persons, K joints.

- ``size``: thirds of the set by the person's area in its picture. In the network's input all persons are of about one
  size, since the crop follows them; one that is small in the picture is enlarged, and has little detail.
- ``visibility``: joints labelled as seen (2) or hidden (1).
- ``unlabelled``: persons by how many of their joints have no label (outside the picture, or not to be told).
- ``light``: persons by the mean luminance of their crop, 0.299 R + 0.587 G + 0.114 B (BT.601), of 255.
- ``rotation``: persons by the angle in degrees of the axis from the middle of the hips to the neck (or the middle of
  the shoulders) from upright, in the picture's plane; 180 is upside down. Persons without these labels are in no group.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from lspdmobile.parity.drop import MetricDrop, metric_drop
from lspdmobile.parity.task import PCK_BOX, JointHits, TaskMetrics
from lspdmobile.skeleton import Skeleton

if TYPE_CHECKING:
    from lspdmobile.data.coco import Person

__all__ = ["ConditionDrop", "Groups", "condition_drops", "condition_groups", "condition_scores", "rotation"]

Mask = NDArray[np.bool_]
Groups = Mapping[str, Mapping[str, Mask]]
"""Condition to group to the joints ``[P, K]`` that are in it."""

_LUMINANCE: Final = (299, 587, 114)
_THIRDS: Final = ("smallest third", "middle third", "largest third")
_LIGHT: Final = {"dark, below 64": (0, 64), "64 to 128": (64, 128), "bright, above 128": (128, 256)}
_UNLABELLED: Final = {"none": (0, 1), "1 to 3": (1, 4), "4 and more": (4, 1000)}
_ROTATION: Final = {"0 to 45": (0, 45), "45 to 90": (45, 90), "90 to 135": (90, 135), "135 to 180": (135, 181)}
_FAMILY: Final = 0.05


@dataclass(frozen=True, kw_only=True)
class ConditionDrop:
    """The drop on one group.

    Attributes:
        condition, group: What its joints have in common.
        persons: How many of them have a joint that counts.
        drop: Of PCK on these joints.
        beyond_chance: The drop is more than chance: its interval lies above 0, with a confidence that allows for the
            number of groups (95 % for all of them together, by Bonferroni).
    """

    condition: str
    group: str
    persons: int
    drop: MetricDrop
    beyond_chance: bool


def condition_groups(persons: "Sequence[Person]", skeleton: Skeleton, pixels: NDArray[np.uint8]) -> Groups:
    """Sort the joints of labelled persons into groups; groups without a labelled joint are left out.

    Args:
        persons: The P persons.
        skeleton: Of their keypoints.
        pixels: uint8 ``[P, rows, columns, 3]`` RGB: the crop of each.
    """
    seen = np.stack([person.keypoints[:, 2] for person in persons])
    area = np.array([person.area for person in persons])
    third = np.searchsorted(np.quantile(area, (1 / 3, 2 / 3)), area)
    light = np.array([float((crop.reshape(-1, 3).mean(axis=0) * _LUMINANCE).sum()) / 1000 for crop in pixels])
    angle = rotation(np.stack([person.keypoints for person in persons]), skeleton)
    found: dict[str, dict[str, Mask]] = {
        "size": {name: _of_persons(third == number, skeleton) for number, name in enumerate(_THIRDS)},
        "visibility": {"seen": seen == 2, "hidden": seen == 1},
        "unlabelled": _binned((seen == 0).sum(axis=1), _UNLABELLED, skeleton),
        "light": _binned(light, _LIGHT, skeleton),
        "rotation": _binned(angle, _ROTATION, skeleton),
    }
    labelled = seen > 0
    return {
        condition: {name: mask & labelled for name, mask in groups.items() if (mask & labelled).any()}
        for condition, groups in found.items()
    }


def rotation(labels: NDArray[np.float32], skeleton: Skeleton) -> NDArray[np.float64]:
    """Give the angle of each body from upright in degrees, 0 to 180 ``[P]``; NaN where it is not labelled."""
    hips = _middle(labels, skeleton, ("left_hip", "right_hip"))
    neck = _middle(labels, skeleton, ("neck",))
    shoulders = _middle(labels, skeleton, ("left_shoulder", "right_shoulder"))
    across, down = (np.where(np.isnan(neck), shoulders, neck) - hips).T
    length = np.hypot(across, down)
    with np.errstate(invalid="ignore"):
        return np.where(length > 0, np.degrees(np.arctan2(np.abs(across), -down)), np.nan)


def condition_scores(scores: TaskMetrics, groups: Groups) -> dict[str, dict[str, dict[str, Any]]]:
    """Give every PCK on every group: ``{"persons": 12, "joints": 150, "metrics": {"pck@0.2": 0.7}}``."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for condition, members in groups.items():
        found[condition] = {}
        for name, mask in members.items():
            kept = {metric: _only(hits, mask) for metric, hits in scores.per_person.items()}
            metrics = {metric: hits.fraction for metric, hits in kept.items() if hits.counted.any()}
            counts = {"persons": int(mask.any(axis=1).sum()), "joints": int(mask.sum())}
            found[condition][name] = {**counts, "metrics": metrics}
    return found


def condition_drops(
    reference: TaskMetrics, artifact: TaskMetrics, groups: Groups, name: str
) -> tuple[ConditionDrop, ...]:
    """Give the drop of a PCK on every group that has a joint which counts.

    Args:
        reference: Scores of the float student.
        artifact: Scores of the artifact, on the same persons.
        groups: From :func:`condition_groups`.
        name: The metric; of one that joints do not count for one by one (OKS-AP), ``pck-box@0.05`` instead.
    """
    name = name if name in reference.per_person else PCK_BOX
    measured = [
        (condition, group, mask)
        for condition, members in groups.items()
        for group, mask in members.items()
        if name in reference.per_person and (mask & reference.per_person[name].counted).any()
    ]
    found = []
    for condition, group, mask in measured:
        drop = metric_drop(_masked(reference, name, mask), _masked(artifact, name, mask), name)
        low, _ = drop.interval(1 - _FAMILY / len(measured))
        persons = int((mask & reference.per_person[name].counted).any(axis=1).sum())
        found.append(ConditionDrop(condition=condition, group=group, persons=persons, drop=drop, beyond_chance=low > 0))
    return tuple(found)


def _masked(scores: TaskMetrics, name: str, mask: Mask) -> TaskMetrics:
    hits = _only(scores.per_person[name], mask)
    return replace(scores, metrics={name: hits.fraction}, per_person={name: hits}, closeness={name: hits.distance})


def _only(hits: JointHits, mask: Mask) -> JointHits:
    counted = hits.counted & mask
    return JointHits(hits=hits.hits & mask, counted=counted, distance=np.where(counted, hits.distance, np.nan))


def _of_persons(chosen: NDArray[Any], skeleton: Skeleton) -> Mask:
    return np.repeat(chosen[:, None], skeleton.count, axis=1)


def _binned(values: NDArray[Any], bins: Mapping[str, tuple[int, int]], skeleton: Skeleton) -> dict[str, Mask]:
    """Groups of persons by the bin their value lies in, from its low end to below its high end."""
    return {
        name: _of_persons(np.logical_and(values >= low, values < high), skeleton) for name, (low, high) in bins.items()
    }


def _middle(labels: NDArray[np.float32], skeleton: Skeleton, names: tuple[str, ...]) -> NDArray[np.float64]:
    """Mean place of some joints ``[P, 2]``; NaN where one of them is not labelled or not in the skeleton."""
    if not set(names) <= set(skeleton.keypoints):
        return np.full((len(labels), 2), np.nan)
    joints = labels[:, [skeleton.keypoints.index(name) for name in names]].astype(np.float64)
    known = np.all(joints[..., 2:] > 0, axis=1)
    return np.where(known, joints[..., :2].mean(axis=1), np.nan)
