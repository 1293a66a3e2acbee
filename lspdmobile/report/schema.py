"""``report.json``: what one run found, as pydantic models (``manifest.json``'s are re-exported).

Keys are only ever added within one schema version; a reader keeps keys it does not know. Numbers that do not exist (the
SNR of identical heatmaps, the drift of heatmaps with NaN) are ``null``. Fractions are 0 to 1, drops are in points
(hundredths), sizes in bytes, times in the unit their name says.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lspdmobile.choices import Backend, Format, Layout, Precision, Verdict
from lspdmobile.parity.compare import Parity
from lspdmobile.parity.conditions import ConditionDrop
from lspdmobile.parity.drop import MetricDrop
from lspdmobile.report.calibration import CalibrationEntry
from lspdmobile.report.drops import ConditionEntry, MetricEntry
from lspdmobile.report.files import Entry, File, Number, read_file
from lspdmobile.report.inspected import DelegationEntry, DeviationEntry, DiagnosisEntry, SecondOpinionEntry
from lspdmobile.report.manifest import (
    FileEntry,
    GoldenEntry,
    Manifest,
    ManifestArtifact,
    SkeletonEntry,
    TensorEntry,
    file_entries,
    read_manifest,
)
from lspdmobile.report.methods import MethodEntry
from lspdmobile.report.repair import RepairEntry
from lspdmobile.report.shortfalls import ShortfallEntry
from lspdmobile.report.spread import HistogramEntry, LayerEntry, RangesEntry

__all__ = [
    "ArtifactEntry",
    "ConditionEntry",
    "DelegationEntry",
    "DeviationEntry",
    "DiagnosisEntry",
    "DriftEntry",
    "FileEntry",
    "FormEntry",
    "FusionEntry",
    "GoldenEntry",
    "HistogramEntry",
    "LayerEntry",
    "Manifest",
    "ManifestArtifact",
    "MetricEntry",
    "ParityEntry",
    "RangesEntry",
    "ReferenceEntry",
    "Report",
    "SecondOpinionEntry",
    "SkeletonEntry",
    "StudentEntry",
    "TensorEntry",
    "file_entries",
    "read_manifest",
    "read_report",
]

REPORT_SCHEMA_VERSION: Final = 1


class DriftEntry(Entry):
    """Keypoint drift in input pixels; ``worst_image`` counts from 0 in the evaluation order.

    ``worst_joint`` is the joint that moved farthest in it.
    """

    mean: Number
    p95: Number
    max: Number
    worst_image: int
    worst_picture: str | None = None
    worst_joint: str | None = None


class ParityEntry(Entry):
    """What separates a network or artifact from the float student; ``metric`` is null without labels."""

    images: int
    heatmap_snr_db: Number
    heatmap_max_abs: Number
    drift_px: DriftEntry
    metric: MetricEntry | None
    heatmap_relative_error: Number = None
    agreement: float | None = None
    per_joint: dict[str, float] = Field(default_factory=dict)
    per_joint_drift_px: dict[str, Number] = Field(default_factory=dict)
    per_condition: tuple[ConditionEntry, ...] = ()
    agreement_pck: dict[str, float] = Field(default_factory=dict)
    drift_histogram: HistogramEntry | None = None

    @classmethod
    def of(
        cls,
        parity: Parity,
        drop: MetricDrop | None,
        *,
        worst_picture: str | None = None,
        joints: Sequence[str] = (),
        per_joint: Mapping[str, float] | None = None,
        conditions: Sequence[ConditionDrop] = (),
        distances: NDArray[np.float32] | None = None,
    ) -> Self:
        """Enter a comparison.

        Args:
            parity: The comparison.
            drop: None without labels.
            worst_picture: File name of picture ``parity.drift_px.worst_image``.
            joints: Joint names, to enter the mean drift of each.
            per_joint: The artifact's own task metric by joint, fractions.
            conditions: The drop on each group of joints.
            distances: Drift ``[pictures, joints]`` in input pixels; None where heatmaps cannot be decoded.
        """
        drift = parity.drift_px
        farthest = None if distances is None else int(distances[drift.worst_image].argmax())
        return cls(
            images=parity.images,
            heatmap_snr_db=parity.heatmap_snr_db,
            heatmap_max_abs=parity.heatmap_max_abs,
            drift_px=DriftEntry(
                mean=drift.mean,
                p95=drift.p95,
                max=drift.max,
                worst_image=drift.worst_image,
                worst_picture=worst_picture,
                worst_joint=joints[farthest] if joints and farthest is not None else None,
            ),
            metric=None if drop is None else MetricEntry.of(drop),
            heatmap_relative_error=parity.heatmap_relative_error,
            agreement=drift.agreement,
            per_joint=dict(per_joint or {}),
            per_joint_drift_px=dict(zip(joints, drift.per_joint.tolist(), strict=True)) if joints else {},
            per_condition=tuple(map(ConditionEntry.of, conditions)),
            agreement_pck=dict(drift.agreement_pck),
            drift_histogram=None if distances is None else HistogramEntry.of(distances, cell_px=parity.cell_px),
        )


class ArtifactEntry(Entry):
    """One artifact of the run; fields that a failed conversion leaves unknown are null.

    ``backend`` is what an ExecuTorch artifact is delegated to, null for the other formats; ``target`` the cost target
    that the forms of its blocks were chosen for. ``not_honoured`` lists what ``notes`` counts.
    ``weight_bytes_by_layer`` has the bytes of ``weight_bytes_by_dtype`` by the operator that reads them. ``operators``
    has the multiply-accumulates of each operator, in the order of execution; ``delegation`` and ``forecasts`` (of
    targets that cannot be asked here) name those that are left.
    ``diagnosis`` is the likeliest cause where the gate failed what was executed.
    ``second_opinions`` are those of the executors that ``verify --executor`` named.
    ``decode_px`` is how far keypoints that the artifact decodes itself are from what the host decodes of its heatmaps.
    """

    file: str
    format: Format
    precision: Precision
    bytes: int | None
    sha256: str | None
    params: int
    macs: int
    weight_bytes_by_dtype: dict[str, int]
    executed_by: str | None
    export_seconds: float | None
    latency_ms: float | None
    delegation: DelegationEntry | None
    parity: ParityEntry | None
    verdict: Verdict
    reasons: tuple[str, ...]
    layout: Layout | None = None
    deviation: DeviationEntry | None = None
    notes: tuple[str, ...] = ()
    not_honoured: tuple[ShortfallEntry, ...] = ()
    kept_fp32: tuple[str, ...] = ()
    caveat: str = ""
    backend: Backend | None = None
    target: str | None = None
    weight_bytes_by_layer: dict[str, dict[str, int]] = Field(default_factory=dict)
    forecasts: tuple[DelegationEntry, ...] = ()
    operators: dict[str, int] = Field(default_factory=dict)
    diagnosis: DiagnosisEntry | None = None
    decode_px: float | None = None
    second_opinions: tuple[SecondOpinionEntry, ...] = ()

    @property
    def label(self) -> str:
        """What tables and reasons call it, such as ``tflite w8a8`` or ``executorch coreml fp16``."""
        backend = [self.backend.value] if self.backend not in (None, Backend.XNNPACK) else []
        return " ".join([self.format.value, *backend, self.precision.value])


class StudentEntry(Entry):
    """The float student: multiply-accumulates and parameters before fusion; ``teacher`` as its recipe names it."""

    name: str
    architecture: str
    skeleton: str
    input_size: tuple[int, int]
    params: int
    macs: int
    bytes: int
    sha256: str
    teacher: str = ""


class ReferenceEntry(Entry):
    """What the artifacts are measured against: the float student's run over the evaluation pictures."""

    executed_by: str
    data: str
    images: int
    decode_rule: str
    metrics: dict[str, float] = Field(default_factory=dict)
    per_joint: dict[str, dict[str, float]] = Field(default_factory=dict)


class FormEntry(Entry):
    """How a block is computed and why: prices are the target's, in microseconds, null where there is no such form.

    ``apart`` is the price of every branch by itself, ``one_kernel`` of all in one, ``forms`` how many were priced.
    """

    target: str
    dtype: str
    site: str
    form: str
    cost: Number
    apart: Number
    one_kernel: Number
    forms: int


class FusionEntry(Entry):
    """A fused float network and the certificate that it equals the student.

    ``artifacts`` are the labels of what was made from it; ``others`` are the networks, differently fused, that the
    remaining artifacts were made from.
    """

    params: int
    macs: int
    bytes: int
    executed_by: str
    parity: ParityEntry | None
    certificate: dict[str, Any]
    artifacts: tuple[str, ...] = ()
    forms: tuple[FormEntry, ...] = ()
    others: tuple["FusionEntry", ...] = ()
    layers: tuple[LayerEntry, ...] = ()


class Report(File):
    """``report.json``; ``likeliest_cause`` is null where no artifact failed."""

    schema_version: Literal[1] = REPORT_SCHEMA_VERSION
    student: StudentEntry
    reference: ReferenceEntry
    fusion: FusionEntry | None
    plan: dict[str, Any]
    artifacts: tuple[ArtifactEntry, ...]
    verdict: Verdict
    environment: dict[str, str]
    likeliest_cause: str | None = None
    calibration: CalibrationEntry | None = None
    methods: tuple[MethodEntry, ...] = ()
    repairs: tuple[RepairEntry, ...] = ()
    ranges: tuple[RangesEntry, ...] = ()

    @property
    def fused_networks(self) -> tuple[FusionEntry, ...]:
        """Every fused network of the run."""
        return (self.fusion, *self.fusion.others) if self.fusion else ()


def read_report(path: Path) -> Report:
    """Read a ``report.json``.

    Raises:
        BadInputError: It is missing, not JSON, of another schema version or lacks a key.
    """
    return read_file(path, Report, version=REPORT_SCHEMA_VERSION)
