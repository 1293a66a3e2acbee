"""Running networks and artifacts over the evaluation pictures, and what separates them from the float student.

N is evaluation pictures (views), K joints, h and w rows and columns of a heatmap.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lspdmobile.artifact import Executor
from lspdmobile.choices import Verdict
from lspdmobile.data.views import Views
from lspdmobile.decode import decode
from lspdmobile.errors import BadInputError
from lspdmobile.parity import (
    ConditionDrop,
    Groups,
    MetricDrop,
    Parity,
    TaskMetrics,
    compare,
    condition_drops,
    condition_groups,
    evaluate,
    metric_drop,
)
from lspdmobile.report.schema import ParityEntry
from lspdmobile.student import Student

__all__ = [
    "LARGEST_DECODING_ERROR",
    "Comparison",
    "Progress",
    "Reference",
    "decoding_error",
    "measure",
    "network_heatmaps",
    "reference_of",
    "with_decoding",
]

Maps = NDArray[np.float32]
Progress = Callable[[str, int, int], None]

_BATCH: Final = 8
_TIMED_PICTURES: Final = 20
_FEW_PICTURES: Final = 16
LARGEST_DECODING_ERROR: Final = 0.05
"""Input pixels between keypoints decoded in the graph and on the host."""
_METRIC_ORDER: Final = ("pck@0.2", "oks_ap", "pckh@0.5")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One network or artifact against the float student, on the same pictures.

    Attributes:
        heatmaps: float32 ``[N, K, h, w]``.
        scores: Its own task metrics; None without labels.
        parity: Heatmap errors and drift.
        drop: Loss of the task metric; None without labels.
    """

    heatmaps: Maps
    scores: TaskMetrics | None
    parity: Parity
    drop: MetricDrop | None


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The float student over the evaluation pictures: what everything else is measured against.

    Attributes:
        student: Network, contract, skeleton and decode rule.
        views: What it saw.
        heatmaps: float32 ``[N, K, h, w]``.
        scores: Task metrics; None without labels.
    """

    student: Student
    views: Views
    heatmaps: Maps
    scores: TaskMetrics | None

    def compared_with(self, heatmaps: Maps) -> Comparison:
        """Compare heatmaps of the same views, whatever their shape and values."""
        student = self.student
        parity = compare(self.heatmaps, heatmaps, contract=student.contract, rule=student.decode_rule)
        scores = None if parity.faults else _scores(heatmaps, student, self.views)
        return Comparison(heatmaps=heatmaps, scores=scores, parity=parity, drop=self._drop(scores))

    def drop_of(self, keypoints: Maps) -> MetricDrop | None:
        """Score keypoints ``[N, K, 3]`` of the same views in input pixels; None without labels."""
        return self._drop(_scored(keypoints, self.student, self.views) if self.views.persons else None)

    def _drop(self, scores: TaskMetrics | None) -> MetricDrop | None:
        if self.scores is None or scores is None:
            return None
        shared = (n for n in _METRIC_ORDER if n in self.scores.metrics and n in scores.metrics)
        name = next(shared, None)
        return metric_drop(self.scores, scores, name) if name else None

    def entry(self, found: Comparison) -> ParityEntry:
        """Enter a comparison into a report."""
        per_joint: Mapping[str, float] | None = None
        conditions: tuple[ConditionDrop, ...] = ()
        if self.scores and found.scores and found.drop:
            per_joint = found.scores.per_joint.get(found.drop.name)
            conditions = condition_drops(self.scores, found.scores, self.groups, found.drop.name)
        return ParityEntry.of(
            found.parity,
            found.drop,
            worst_picture=self.views.names[found.parity.drift_px.worst_image],
            joints=self.student.skeleton.keypoints,
            per_joint=per_joint,
            conditions=conditions,
            distances=None if found.parity.faults else self.drift_px(found.heatmaps),
        )

    @cached_property
    def groups(self) -> Groups:
        """The joints of the labelled persons by condition."""
        return condition_groups(self.views.persons, self.student.skeleton, self.views.pixels)

    def drift_px(self, heatmaps: Maps) -> Maps:
        """Give how far each joint ``[N, K]`` is from the float student's, in input pixels."""
        contract, rule = self.student.contract, self.student.decode_rule
        before, after = (decode(maps, contract=contract, rule=rule)[..., :2] for maps in (self.heatmaps, heatmaps))
        distances: Maps = np.linalg.norm(after - before, axis=-1)
        return distances

    def few_inputs(self) -> Maps:
        """Give the first pictures as inputs ``[n, 3, H, W]``, for what looks at layers more than at pictures."""
        return self.views.inputs(0, _FEW_PICTURES)

    def keypoints(self, heatmaps: Maps, index: int) -> Maps:
        """Decode one picture's heatmaps to ``[K, 3]``: x, y in input pixels, score."""
        maps = heatmaps[index : index + 1]
        points: Maps = decode(maps, contract=self.student.contract, rule=self.student.decode_rule)[0]
        return points


def reference_of(student: Student, views: Views, progress: Progress) -> Reference:
    """Run the float student over the views.

    Raises:
        BadInputError: Its heatmaps are not finite.
    """
    heatmaps = network_heatmaps(student.network, views, "float", progress)
    if not np.isfinite(heatmaps).all():
        message = f"{student.name}: the float student gives heatmaps with NaN or infinity; its weights overflow"
        raise BadInputError(message)
    return Reference(student=student, views=views, heatmaps=heatmaps, scores=_scores(heatmaps, student, views))


def network_heatmaps(network: nn.Module, views: Views, name: str, progress: Progress) -> Maps:
    """Run a PyTorch network over the views; gives heatmaps ``[N, K, h, w]``."""
    maps: list[Maps] = []
    progress(f"run {name} PyTorch", 0, len(views))
    with torch.inference_mode():
        for i in range(0, len(views), _BATCH):
            maps.append(network(torch.from_numpy(views.inputs(i, i + _BATCH))).numpy())
            progress(f"run {name} PyTorch", min(i + _BATCH, len(views)), len(views))
    return np.concatenate(maps)


def measure(executor: Executor, views: Views, step: str, progress: Progress) -> tuple[Maps, float]:
    """Run an artifact over the views.

    Returns:
        Heatmaps ``[N, K, h, w]`` and the median milliseconds per picture of up to 20 single-picture calls.
    """
    times: list[float] = []
    maps: list[Maps] = []
    alone = min(len(views), _TIMED_PICTURES)
    for i in range(alone):
        inputs = views.inputs(i, i + 1)
        start = time.perf_counter()
        maps.append(executor.heatmaps(inputs))
        times.append(1e3 * (time.perf_counter() - start))
        progress(step, i + 1, len(views))
    for i in range(alone, len(views), _BATCH):
        maps.append(executor.heatmaps(views.inputs(i, i + _BATCH)))
        progress(step, min(i + _BATCH, len(views)), len(views))
    return np.concatenate(maps), float(np.median(times))


def decoding_error(executor: Executor, reference: Reference) -> float | None:
    """Give how far, in input pixels, an artifact's own keypoints are from what the host decodes of its heatmaps.

    A few pictures are looked at, the largest distance on either axis is given; None where it gives heatmaps only.
    """
    pictures, student = reference.few_inputs(), reference.student
    found = executor.keypoints(pictures)
    if found is None:
        return None
    host = decode(executor.heatmaps(pictures), contract=student.contract, rule=student.decode_rule)
    return float(np.abs(found - host)[..., :2].max())


def with_decoding(verdict: Verdict, reasons: tuple[str, ...], error: float | None) -> tuple[Verdict, tuple[str, ...]]:
    """Fail an artifact whose own keypoints are not what the host decodes."""
    if error is None or error <= LARGEST_DECODING_ERROR:
        return verdict, reasons
    said = f"its own keypoints are up to {error:.3g} px from what its heatmaps say, at most {LARGEST_DECODING_ERROR:g}"
    return Verdict.FAIL, (*reasons, said)


def _scores(heatmaps: Maps, student: Student, views: Views) -> TaskMetrics | None:
    """Decode, map to picture pixels and score where there are labels."""
    if not views.persons:
        return None
    points = decode(heatmaps, contract=student.contract, rule=student.decode_rule)
    return _scored(points, student, views)


def _scored(keypoints: Maps, student: Student, views: Views) -> TaskMetrics:
    return evaluate(views.to_pictures(keypoints), views.persons, student.skeleton)
