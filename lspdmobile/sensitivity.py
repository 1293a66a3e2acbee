"""``lspdmobile sensitivity``: what each operator, tensor and block of an int8 network costs.

Every part is screened without labels on a few calibration pictures (``quantization.sensitivity``). Those whose noise
matters are then measured on the evaluation pictures, alone and left out, in points of the task metric. Both run on
several cores and give the same on any number of them. What was measured is kept in a file and not measured again.
"""

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from lspdmobile.calibrating import CalibrationPictures, Calibrator
from lspdmobile.choices import Format, Precision
from lspdmobile.data.views import Views
from lspdmobile.errors import BadInputError
from lspdmobile.improving import improved
from lspdmobile.measuring import Progress, Reference, reference_of
from lspdmobile.mixed_drops import drops_of
from lspdmobile.picture_sets import pictures_of
from lspdmobile.preparing import Prepared, prepared
from lspdmobile.report.files import read_file
from lspdmobile.report.sensitivity import SENSITIVITY, PartEntry, SensitivityReport
from lspdmobile.request import ExportRequest
from lspdmobile.run_folder import refuse_to_replace_others
from quantization.mixed import MixedNetwork
from quantization.sensitivity import Candidate, sensitivity

__all__ = ["Granularity", "Screening", "looked_into"]

_PAIR: Final = (Format.TFLITE, Precision.W8A8)
"""Names what the network is fused and planned for, where the request names no cost target."""
_SCREENED: Final = 8
_CERTIFIED: Final = 2
_TOGETHER: Final = 8
"""Parts measured in one pass over the pictures; then the file is written."""
_KINDS: Final[dict[str, Literal["operator", "tensor", "block"]]] = {
    "unit": "operator",
    "tensor": "tensor",
    "block": "block",
}


class Granularity(StrEnum):
    """Which parts are measured and given: operators and the tensors between them, modules, or both."""

    OPERATOR = "op"
    BLOCK = "block"
    ALL = "all"

    def takes(self, part: PartEntry) -> bool:
        """Tell whether a part is of this kind."""
        return self is Granularity.ALL or (part.kind == "block") is (self is Granularity.BLOCK)


@dataclass(frozen=True, kw_only=True)
class Screening:
    """What is measured.

    Attributes:
        granularity: Which parts.
        metric: Whether the task metric is measured at all.
        top: Of how many parts, worst first; None for those that make a hundredth of the noise.
        everything: Measure all of them.
        jobs: Threads; None takes as many as PyTorch has.
    """

    granularity: Granularity = Granularity.ALL
    metric: bool = True
    top: int | None = None
    everything: bool = False
    jobs: int | None = None

    def wanted(self, parts: tuple[PartEntry, ...]) -> list[PartEntry]:
        """Give those that are measured on the metric."""
        if not self.metric:
            return []
        taken = [part for part in parts if self.granularity.takes(part)]
        return taken[: self.top] if self.top else [part for part in taken if self.everything or part.matters]


def looked_into(
    request: ExportRequest, screening: Screening, folder: Path | None, progress: Progress
) -> SensitivityReport:
    """Look into the ``w8a8`` network of a request.

    Args:
        request: Student, calibration, evaluation pictures, estimator, methods, cost target (TFLite's if none is named),
            and whether a file of something else is replaced.
        screening: What is measured.
        folder: Where ``sensitivity.json`` is written, and read if an earlier call left one; None keeps nothing.
        progress: Told of each step.

    Raises:
        BadInputError: The pictures or the student cannot be used, or the folder holds something else.
        GateFailedError: The fusion is not exact.
    """
    known = _earlier(folder)
    progress("read pictures", 0, 1)
    views, calibration = pictures_of(request)
    source = _source(request, views, calibration, progress)
    few = calibration.views.inputs(0, _SCREENED)
    key = _key(source, few, views)
    if known is not None and known.key != key and not request.overwrite:
        message = (
            f"{folder}: holds what was measured of another network, plan or pictures; choose another --output-dir "
            "or add --overwrite"
        )
        raise BadInputError(message)
    network = MixedNetwork(source.network, source.plan, request.student.contract.input_size)
    reference = reference_of(request.student, views, progress)
    if known is None or known.key != key:
        found = sensitivity(
            network, few, jobs=screening.jobs, progress=lambda done, total: progress("screen parts", done, total)
        )
        known = SensitivityReport(
            key=key,
            student=request.student.name,
            target=source.target,
            calibration=calibration.views.source,
            data=views.source,
            pictures=len(views),
            estimator=request.estimator.value,
            operators=len(network.units),
            weight_bytes=sum(unit.weights for unit in network.units.values()),
            snr_db=found.snr_db,
            screening_runs=found.runs,
            parts=tuple(map(_part, found.candidates)),
        )
        _write(known, folder)
    metric = _Metric(network=network, reference=reference, jobs=screening.jobs, folder=folder, progress=progress)
    wanted = screening.wanted(known.parts) if reference.scores is not None else []
    report = metric.of(wanted, known.model_copy(update={"evaluations": 0}))
    return report.model_copy(update={"parts": tuple(p for p in report.parts if screening.granularity.takes(p))})


@dataclass(frozen=True, kw_only=True)
class _Metric:
    """Measures parts on the evaluation pictures, some in every pass, and keeps them as soon as a pass is done."""

    network: MixedNetwork
    reference: Reference
    jobs: int | None
    folder: Path | None
    progress: Progress

    def of(self, wanted: list[PartEntry], report: SensitivityReport) -> SensitivityReport:
        """Measure those that are not known yet."""
        todo = [part for part in wanted if part.drop_alone is None]
        report = report.model_copy(update={"reused": 2 * (len(wanted) - len(todo))})
        for start in range(0, len(todo), _TOGETHER):
            parts = todo[start : start + _TOGETHER]
            step = f"measure parts {start + 1} to {start + len(parts)} of {len(todo)}"
            report = self._pass(parts, report, step)
            _write(report, self.folder)
        return report

    def _pass(self, parts: list[PartEntry], report: SensitivityReport, step: str) -> SensitivityReport:
        """Measure parts alone and left out, and the integer network itself."""
        everything = frozenset(self.network.units)
        kept = [each for part in parts for each in (everything - set(part.units), frozenset(part.units))]
        whole, *drops = drops_of(
            self.network,
            self.reference,
            [frozenset(), *kept],
            jobs=self.jobs,
            progress=lambda done, total: self.progress(step, done, total),
        )
        points = iter([None if drop is None else drop.drop for drop in drops])
        measured = {
            part.units: part.model_copy(update={"drop_alone": next(points), "drop_left_out": next(points)})
            for part in parts
        }
        changes: dict[str, object] = {
            "evaluations": report.evaluations + len(kept),
            "parts": tuple(measured.get(part.units, part) for part in report.parts),
        }
        if whole is not None:
            changes |= {"metric": whole.name, "float_value": whole.float_value, "drop": whole.drop}
        return report.model_copy(update=changes)


def _source(request: ExportRequest, views: Views, calibration: CalibrationPictures, progress: Progress) -> Prepared:
    calibrator = Calibrator(calibration, request.estimator, progress)
    tried = torch.from_numpy(views.inputs(0, _CERTIFIED))
    sources = prepared(request, [_PAIR], tried, calibrator, progress)
    calibrator.entry(views)
    return improved(sources, calibration, request.methods, seed=request.seed, progress=progress)[_PAIR]


def _part(candidate: Candidate) -> PartEntry:
    return PartEntry(
        name=candidate.name,
        kind=_KINDS[candidate.kind],
        units=tuple(sorted(candidate.units)),
        extra_bytes=candidate.extra_bytes,
        snr_alone_db=candidate.alone_db,
        snr_left_out_db=candidate.left_out_db,
        share=candidate.share,
        gain=candidate.gain,
        cause=candidate.cause,
    )


def _key(source: Prepared, few: NDArray[np.float32], views: Views) -> str:
    """Hash all that the figures depend on."""
    digest = hashlib.sha256(torch.__version__.encode())
    for name, tensor in source.network.state_dict().items():
        digest.update(name.encode() + np.ascontiguousarray(tensor.detach().numpy()).tobytes())
    digest.update(json.dumps(source.plan.to_dict(), sort_keys=True).encode())
    digest.update(np.ascontiguousarray(few).tobytes() + views.sha256().encode())
    for person in views.persons:
        digest.update(person.keypoints.tobytes())
    return digest.hexdigest()


def _earlier(folder: Path | None) -> SensitivityReport | None:
    """Read what an earlier call left.

    Raises:
        BadInputError: The folder holds something else, or the file is damaged.
    """
    if folder is None:
        return None
    refuse_to_replace_others(folder, marker=SENSITIVITY)
    path = folder / SENSITIVITY
    return read_file(path, SensitivityReport, version=1) if path.exists() else None


def _write(report: SensitivityReport, folder: Path | None) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{SENSITIVITY}.partial"
        report.write(partial)
        partial.replace(folder / SENSITIVITY)
