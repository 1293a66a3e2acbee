"""Parity: how far an artifact is from its float student, and whether that may ship.

``metrics`` compares heatmaps, ``task`` and ``oks`` score keypoints against labels, ``drop`` and ``interval`` say what
is lost and how sure that is, ``conditions`` where it is lost, ``compare`` gathers the label-free evidence, ``gate``
turns it all into a verdict with reasons; ``jitter`` is about films.
"""

from lspdmobile.parity.compare import Drift, Parity, compare
from lspdmobile.parity.conditions import (
    ConditionDrop,
    Groups,
    condition_drops,
    condition_groups,
    condition_scores,
)
from lspdmobile.parity.drop import DEFAULT_CONFIDENCE, MetricDrop, metric_drop
from lspdmobile.parity.gate import DropType, Gate, judge
from lspdmobile.parity.metrics import TENSOR_METRICS, TensorMetric
from lspdmobile.parity.task import JointHits, TaskMetrics, evaluate, pck

__all__ = [
    "DEFAULT_CONFIDENCE",
    "TENSOR_METRICS",
    "ConditionDrop",
    "Drift",
    "DropType",
    "Gate",
    "Groups",
    "JointHits",
    "MetricDrop",
    "Parity",
    "TaskMetrics",
    "TensorMetric",
    "compare",
    "condition_drops",
    "condition_groups",
    "condition_scores",
    "evaluate",
    "judge",
    "metric_drop",
    "pck",
]
