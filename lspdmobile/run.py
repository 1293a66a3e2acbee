"""The main job: load, fuse, calibrate, emit, execute, judge, report.

One float student, a certificate for each form it is fused into, one calibration, one parity table. What is executed is
always the file that was written, read back from disk.
"""

from collections.abc import Iterator
from typing import Any, Final

import torch

from lspdmobile.abreast import judged_abreast
from lspdmobile.calibrating import Calibrator
from lspdmobile.choices import Verdict
from lspdmobile.emission import Job
from lspdmobile.environment import environment
from lspdmobile.fusion_entries import fusion_entry, fusion_file
from lspdmobile.improving import improved, method_entries
from lspdmobile.measuring import Progress, reference_of
from lspdmobile.picture_sets import pictures_of
from lspdmobile.plans import write_plans
from lspdmobile.preparing import prepared
from lspdmobile.repairing import repaired
from lspdmobile.replacing import replacing_folder
from lspdmobile.report.causes import likeliest_cause
from lspdmobile.report.model_card import teacher_of
from lspdmobile.report.repair import RepairEntry
from lspdmobile.report.schema import ArtifactEntry, FusionEntry, RangesEntry, ReferenceEntry, StudentEntry
from lspdmobile.request import ExportRequest, pairs_of
from lspdmobile.run_folder import (
    MANIFEST,
    EvaluationEntry,
    GateEntry,
    RunContents,
    RunReport,
    refuse_to_replace_others,
    write_run,
)
from quantization.plan import QuantizationPlan

__all__ = ["ExportRequest", "export", "pairs_of"]

_RANGES: Final = ("ranges", "range_estimators")
_SCANNED: Final = 8
_CERTIFIED_PICTURES: Final = 2
"""Real pictures that the fusion is tried on, besides the certificate's own inputs."""


def export(request: ExportRequest, progress: Progress) -> RunReport:
    """Do the main job; gives the report that was written.

    A conversion that fails is entered as a failed artifact and does not stop the others.

    Raises:
        BadInputError: Something the user gave cannot be used; nothing is left behind.
        GateFailedError: The fusion is not exact.
    """
    student = request.student
    targets, _ = pairs_of(request)
    if request.overwrite:
        refuse_to_replace_others(request.output_dir, marker=MANIFEST)
    with replacing_folder(request.output_dir, overwrite=request.overwrite) as folder:
        progress("read pictures", 0, 1)
        evaluation_set, calibration_set = pictures_of(request)
        tried = torch.from_numpy(evaluation_set.inputs(0, _CERTIFIED_PICTURES))
        calibrator = Calibrator(calibration_set, request.estimator, progress)
        sources = prepared(request, targets, tried, calibrator, progress)
        calibration = calibrator.entry(evaluation_set)
        sources = improved(sources, calibration_set, request.methods, seed=request.seed, progress=progress)
        reference = reference_of(student, evaluation_set, progress)
        scanned = calibration_set.views.inputs(0, _SCANNED)
        repairs: tuple[RepairEntry, ...] = ()
        if request.repair:
            sources, repairs = repaired(sources, reference, scanned, request.gate, progress)
        job = Job(
            request=request,
            prepared=sources,
            reference=reference,
            folder=folder,
            progress=progress,
            scanned=scanned,
            calibration=calibration_set,
        )
        judged = judged_abreast(job, targets, jobs=request.jobs)
        entries = [j.entry for j in judged]
        fusion = fusion_entry(job, entries)
        report = _report(job, fusion, entries, repairs).model_copy(update={"calibration": calibration})
        report = report.model_copy(update={"likeliest_cause": likeliest_cause(report)})
        progress("write report", 0, 1)
        write_plans(folder, [(e.file, source) for e, source in zip(entries, sources.values(), strict=True)])
        contents = RunContents(
            report=report,
            fusion=fusion_file(fusion),
            artifacts=tuple(j.listed for j in judged if j.listed is not None),
            worst=[shown for j in judged for shown in j.worst],
            reference=reference,
            calibration_sha256=calibration_set.sha256(),
        )
        write_run(folder, contents)
    return report


def _report(job: Job, fusion: FusionEntry, entries: list[ArtifactEntry], repairs: tuple[RepairEntry, ...]) -> RunReport:
    request, student, sources = job.request, job.request.student, list(job.prepared.values())
    before = sources[0].fused.certificate.before
    views, scores = job.reference.views, job.reference.scores
    return RunReport(
        student=StudentEntry(
            name=student.name,
            architecture=student.architecture,
            skeleton=student.skeleton.name,
            input_size=student.contract.input_size,
            params=before.params,
            macs=before.macs,
            bytes=4 * before.params,
            sha256=student.sha256,
            teacher=teacher_of(student.provenance),
        ),
        reference=ReferenceEntry(
            executed_by=f"PyTorch {torch.__version__}",
            data=views.source,
            images=len(views),
            decode_rule=student.decode_rule,
            metrics=dict(scores.metrics) if scores else {},
            per_joint={k: dict(v) for k, v in scores.per_joint.items()} if scores else {},
        ),
        fusion=fusion,
        plan={s.plan.precision.value: _without_ranges(s.plan) for s in reversed(sources)},
        artifacts=tuple(entries),
        verdict=Verdict.overall(e.verdict for e in entries),
        environment=environment(),
        methods=method_entries(job.prepared),
        repairs=repairs,
        ranges=tuple(_ranges(job, entries)),
        not_taken=tuple(f"{f} {p}" for f, p in pairs_of(request)[1]),
        gate=GateEntry.of(request.gate, request.min_delegated),
        evaluation=EvaluationEntry(samples=request.evaluation_samples, seed=request.seed, threads=request.threads),
    )


def _ranges(job: Job, entries: list[ArtifactEntry]) -> Iterator[RangesEntry]:
    """Enter the ranges of each plan that has any, once."""
    plans: dict[int, tuple[QuantizationPlan, list[str]]] = {}
    for entry, source in zip(entries, job.prepared.values(), strict=True):
        plans.setdefault(id(source.plan), (source.plan, []))[1].append(entry.label)
    for plan, labels in plans.values():
        if plan.ranges:
            yield RangesEntry(
                artifacts=tuple(labels), ranges={name: (r.low, r.high) for name, r in plan.ranges.items()}
            )


def _without_ranges(plan: QuantizationPlan) -> dict[str, Any]:
    return {key: value for key, value in plan.to_dict().items() if key not in _RANGES}
