"""The drop of a task metric from float student to artifact, with a paired bootstrap interval.

Pictures are drawn with replacement; each draw scores both networks on the same pictures, so what makes a picture hard
for both cancels. The interval is the 2.5 to 97.5 percentile of the drops.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lspdmobile.parity.oks import weighted_ap
from lspdmobile.parity.task import OKS_AP, TaskMetrics

__all__ = ["MetricDrop", "metric_drop"]

_POINTS: Final = 100.0
_RESAMPLES: Final = 2000


@dataclass(frozen=True, kw_only=True)
class MetricDrop:
    """Float metric minus the artifact's, on the same pictures.

    Attributes:
        name: Metric, such as ``pck@0.2``.
        float_value, artifact_value: Fractions 0 to 1.
        drop: In points (hundredths); negative where the artifact is better.
        ci95: Low and high end of the 95 % bootstrap interval of the drop, in points.
    """

    name: str
    float_value: float
    artifact_value: float
    drop: float
    ci95: tuple[float, float]


def metric_drop(
    reference: TaskMetrics, artifact: TaskMetrics, name: str, *, seed: int = 0, resamples: int = _RESAMPLES
) -> MetricDrop:
    """Measure the drop of one metric.

    Args:
        reference: Scores of the float student.
        artifact: Scores of the artifact, on the same persons in the same order.
        name: A metric both have.
        seed: Makes the interval reproducible.
        resamples: Bootstrap draws.

    Raises:
        ValueError: A metric is absent or the two were scored on different persons.
    """
    if not (name in reference.metrics and name in artifact.metrics):
        message = f"{name} was not measured on both; float has {', '.join(reference.metrics) or 'none'}"
        raise ValueError(message)
    if not np.array_equal(reference.picture, artifact.picture):
        message = "the drop is paired: both must be scored on the same persons in the same order"
        raise ValueError(message)
    pictures = reference.images
    weights = np.random.default_rng(seed).multinomial(pictures, np.full(pictures, 1 / pictures), size=resamples)
    before, after = (_resampled(scores, name, weights.astype(np.float64)) for scores in (reference, artifact))
    drops = (before - after)[np.isfinite(before - after)] * _POINTS
    drop = (reference.metrics[name] - artifact.metrics[name]) * _POINTS
    low, high = np.percentile(drops, (2.5, 97.5)) if drops.size else (drop, drop)
    return MetricDrop(
        name=name,
        float_value=reference.metrics[name],
        artifact_value=artifact.metrics[name],
        drop=drop,
        ci95=(float(low), float(high)),
    )


def _resampled(scores: TaskMetrics, name: str, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The metric under each weighting of the pictures: weights ``[R, pictures]`` to fractions ``[R]``."""
    if name == OKS_AP:
        assert scores.oks is not None  # the metric is present, so its matches are
        return weighted_ap(scores.oks, weights)
    joints = scores.per_person[name]
    hits = np.bincount(scores.picture, joints.hits.sum(axis=1), minlength=scores.images)
    counted = np.bincount(scores.picture, joints.counted.sum(axis=1), minlength=scores.images)
    with np.errstate(invalid="ignore", divide="ignore"):
        fraction: NDArray[np.float64] = (weights @ hits) / (weights @ counted)
    return fraction
