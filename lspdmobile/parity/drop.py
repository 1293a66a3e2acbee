"""The drop of a task metric from float student to artifact, on the same pictures.

Both networks see the same pictures, so what makes a picture hard for both cancels. What a picture brings to the drop is
told by the drop without it; these jackknife values, one per picture, give the interval
(:mod:`lspdmobile.parity.interval`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lspdmobile.parity.interval import ALL_POINTS, paired_interval, pictures_needed
from lspdmobile.parity.oks import weighted_ap
from lspdmobile.parity.task import OKS_AP, TaskMetrics

__all__ = ["DEFAULT_CONFIDENCE", "MetricDrop", "metric_drop"]

DEFAULT_CONFIDENCE: Final = 0.95
_STILL: Final = 0.05
_PICTURES_AT_ONCE: Final = 256


@dataclass(frozen=True, kw_only=True)
class MetricDrop:
    """Float metric minus the artifact's, on the same pictures.

    Attributes:
        name: Metric, such as ``pck@0.2``.
        float_value, artifact_value: Fractions 0 to 1.
        drop: In points (hundredths); negative where the artifact is better.
        joints: Joints that count.
        moved: How many of them are another matter to the metric now than in the float student: by more than 5 % of what
            decides about a joint (:attr:`lspdmobile.parity.task.TaskMetrics.closeness`).
        per_picture: ``[n]``: points that the drop owes to each picture; their mean is the drop.
    """

    name: str
    float_value: float
    artifact_value: float
    drop: float
    joints: int
    moved: int
    per_picture: NDArray[np.float64] = field(compare=False, repr=False)

    @property
    def pictures(self) -> int:
        """Number of pictures."""
        return self.per_picture.size

    @property
    def ci95(self) -> tuple[float, float]:
        """Low and high end of the 95 % interval of the drop, in points."""
        return self.interval(0.95)

    def interval(self, confidence: float) -> tuple[float, float]:
        """Give the interval of the drop, in points."""
        return paired_interval(self.per_picture, confidence)

    def pictures_needed(self, budget: float, confidence: float) -> int | None:
        """Estimate how many pictures would show that the drop is within a budget in points; None where none would."""
        return pictures_needed(self.per_picture, budget, confidence)


def metric_drop(reference: TaskMetrics, artifact: TaskMetrics, name: str) -> MetricDrop:
    """Measure the drop of one metric.

    Args:
        reference: Scores of the float student.
        artifact: Scores of the artifact, on the same persons in the same order.
        name: ``oks_ap`` or a PCK that both have.

    Raises:
        ValueError: A metric is absent or the two were scored on different persons.
    """
    if not all(name in scores.metrics and name in scores.closeness for scores in (reference, artifact)):
        message = f"{name} was not measured on both; float has {', '.join(reference.closeness) or 'none'}"
        raise ValueError(message)
    if not np.array_equal(reference.picture, artifact.picture):
        message = "the drop is paired: both must be scored on the same persons in the same order"
        raise ValueError(message)
    before, after = (scores.closeness[name] for scores in (reference, artifact))
    counts = ~np.isnan(before)
    with np.errstate(invalid="ignore"):
        still = (before == after) | (np.abs(before - after) <= _STILL)
    drop = (reference.metrics[name] - artifact.metrics[name]) * ALL_POINTS
    return MetricDrop(
        name=name,
        float_value=reference.metrics[name],
        artifact_value=artifact.metrics[name],
        drop=drop,
        joints=int(counts.sum()),
        moved=int((counts & ~still).sum()),
        per_picture=_jackknife(reference, artifact, name, drop),
    )


def _jackknife(reference: TaskMetrics, artifact: TaskMetrics, name: str, drop: float) -> NDArray[np.float64]:
    """Points that each picture brings: ``-(n - 1) * drop without it``, moved to have the drop as their mean.

    Pictures of which no joint counts are left out.
    """
    parts = zip(_without_each(reference, name), _without_each(artifact, name), strict=True)
    without = ALL_POINTS * np.concatenate([before - after for before, after in parts])
    counted = np.bincount(reference.picture, ~np.isnan(reference.closeness[name]).all(axis=1), reference.images) > 0
    kept = without[counted]
    if kept.size < 2:
        return np.full(kept.size, drop)
    values: NDArray[np.float64] = drop - (kept.size - 1) * (kept - kept.mean())
    return values


def _without_each(scores: TaskMetrics, name: str) -> Iterator[NDArray[np.float64]]:
    """The metric of all pictures but one, fractions, for stretches of the pictures that are left out."""
    count = scores.images
    if name != OKS_AP:
        joints = scores.per_person[name]
        hits, counted = (np.bincount(scores.picture, each.sum(axis=1), count) for each in (joints.hits, joints.counted))
        with np.errstate(invalid="ignore"):
            yield (hits.sum() - hits) / (counted.sum() - counted)
        return
    assert scores.oks is not None  # the metric is present, so its matches are
    for start in range(0, count, _PICTURES_AT_ONCE):
        left_out = np.arange(start, min(start + _PICTURES_AT_ONCE, count))
        weights = np.ones((left_out.size, count))
        weights[np.arange(left_out.size), left_out] = 0
        yield weighted_ap(scores.oks, weights)
