"""The main job: load, fuse, calibrate, emit, execute, judge, report.

One float student, one fusion certificate, one quantization plan, one parity table. What is executed is always the file
that was written, read back from disk.
"""

from dataclasses import replace
from pathlib import Path
from typing import Final

import torch

from lspdmobile.artifact import replacing_folder
from lspdmobile.choices import Precision, Verdict
from lspdmobile.data.bundled import bundled_calibration_pictures, bundled_pictures
from lspdmobile.data.views import Views, load_views
from lspdmobile.emission import Job, judged_artifact
from lspdmobile.environment import environment
from lspdmobile.fusion import Fused, fuse
from lspdmobile.measuring import Progress, network_heatmaps, reference_of
from lspdmobile.report.schema import ArtifactEntry, FusionEntry, ReferenceEntry, StudentEntry
from lspdmobile.request import ExportRequest, targets_of
from lspdmobile.run_folder import (
    BUNDLED,
    MANIFEST,
    EvaluationEntry,
    GateEntry,
    RunContents,
    RunReport,
    refuse_to_replace_others,
    write_run,
)
from quantization.calibrate import calibrate
from quantization.plan import QuantizationPlan

__all__ = ["ExportRequest", "export", "targets_of"]

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
    targets, _ = targets_of(request)
    if request.overwrite:
        refuse_to_replace_others(request.output_dir, marker=MANIFEST)
    with replacing_folder(request.output_dir, overwrite=request.overwrite) as folder:
        progress("read pictures", 0, 1)
        evaluation_set, calibration_set = _pictures(request)
        progress("fuse", 0, 1)
        fused = fuse(
            student.network,
            input_size=student.contract.input_size,
            pictures=torch.from_numpy(evaluation_set.inputs(0, _CERTIFIED_PICTURES)),
            seed=request.seed,
        )
        plans = _plans(fused, calibration_set, [p for _, p in targets], progress)
        reference = reference_of(student, evaluation_set, progress)
        job = Job(
            request=request,
            fused=fused,
            plans=plans,
            reference=reference,
            folder=folder,
            progress=progress,
            scanned=calibration_set.inputs(0, _SCANNED),
        )
        fusion = _fusion_entry(job)
        judged = [judged_artifact(job, form, precision) for form, precision in targets]
        report = _report(job, fusion, [j.entry for j in judged])
        progress("write report", 0, 1)
        contents = RunContents(
            report=report,
            certificate=fused.certificate,
            plans={p.value: plan.to_dict() for p, plan in plans.items()},
            artifacts=tuple(j.listed for j in judged if j.listed is not None),
            worst=[shown for j in judged for shown in j.worst],
            reference=reference,
            calibration_sha256=calibration_set.sha256(),
        )
        write_run(folder, contents)
    return report


def _pictures(request: ExportRequest) -> tuple[Views, Views]:
    student = request.student

    def views(path: Path, split: str, limit: int | None) -> Views:
        return load_views(path, student.contract, student.skeleton, split=split, limit=limit, seed=request.seed)

    evaluation_set = views(request.data or bundled_pictures(), "val", request.evaluation_samples)
    calibration_set = views(request.calibration or bundled_calibration_pictures(), "train", request.calibration_samples)
    if request.data is None:
        evaluation_set = replace(evaluation_set, source=BUNDLED)
    if request.calibration is None:
        calibration_set = replace(calibration_set, source=BUNDLED)
    return evaluation_set, calibration_set


def _plans(
    fused: Fused, views: Views, precisions: list[Precision], progress: Progress
) -> dict[Precision, QuantizationPlan]:
    """Calibrate once; every integer precision shares the ranges."""
    plans = {p: QuantizationPlan(precision=p) for p in precisions}
    integer = [p for p in plans if p.is_static_integer]
    if integer:
        progress("calibrate", 0, len(views))
        shared = calibrate(
            fused.network,
            views.inputs(),
            precision=integer[0],
            progress=lambda done, total: progress("calibrate", done, total),
        )
        plans.update({p: replace(shared, precision=p) for p in integer})
    return plans


def _fusion_entry(job: Job) -> FusionEntry:
    reference, certificate = job.reference, job.fused.certificate
    maps = network_heatmaps(job.fused.network, reference.views, "fused", job.progress)
    return FusionEntry(
        params=certificate.after.params,
        macs=certificate.after.macs,
        bytes=4 * certificate.after.params,
        executed_by=f"PyTorch {torch.__version__}",
        parity=reference.entry(reference.compared_with(maps)),
        certificate=certificate.to_dict(),
    )


def _report(job: Job, fusion: FusionEntry, entries: list[ArtifactEntry]) -> RunReport:
    request, student, before = job.request, job.request.student, job.fused.certificate.before
    views, scores = job.reference.views, job.reference.scores
    passed = all(e.verdict is Verdict.PASS for e in entries)
    return RunReport(
        student=StudentEntry(
            name=student.name,
            architecture="lspd",
            skeleton=student.skeleton.name,
            input_size=student.contract.input_size,
            params=before.params,
            macs=before.macs,
            bytes=4 * before.params,
            sha256=student.sha256,
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
        plan={p.value: {k: v for k, v in plan.to_dict().items() if k != "ranges"} for p, plan in job.plans.items()},
        artifacts=tuple(entries),
        verdict=Verdict.PASS if passed else Verdict.FAIL,
        environment=environment(),
        not_taken=tuple(f"{f} {p}" for f, p in targets_of(request)[1]),
        gate=GateEntry(max_drop=request.gate.max_drop, drop_type=request.gate.drop_type),
        evaluation=EvaluationEntry(samples=request.evaluation_samples, seed=request.seed, threads=request.threads),
    )
