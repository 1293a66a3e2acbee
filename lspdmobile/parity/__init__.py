"""Parity: how far an artifact is from its float student, and whether that may ship.

``metrics`` compares heatmaps, ``task`` and ``oks`` score keypoints against labels, ``drop`` puts an interval on the
loss, ``compare`` gathers the label-free evidence, ``gate`` turns it all into a verdict with reasons.
"""

from lspdmobile.parity.compare import Drift, Parity, compare
from lspdmobile.parity.drop import DEFAULT_CONFIDENCE, MetricDrop, metric_drop
from lspdmobile.parity.gate import DropType, Gate, judge
from lspdmobile.parity.metrics import TENSOR_METRICS, TensorMetric
from lspdmobile.parity.task import JointHits, TaskMetrics, evaluate, pck

__all__ = [
    "DEFAULT_CONFIDENCE",
    "TENSOR_METRICS",
    "Drift",
    "DropType",
    "Gate",
    "JointHits",
    "MetricDrop",
    "Parity",
    "TaskMetrics",
    "TensorMetric",
    "compare",
    "evaluate",
    "judge",
    "metric_drop",
    "pck",
]
