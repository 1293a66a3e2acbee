"""One artifact from plan to verdict: emit it, read it back, execute it, judge it."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from converters import comparison, emitter
from lspdmobile.artifact import Artifact, ArtifactFacts, EmitRequest, PrecisionLoss, sha256_of, size_in_bytes
from lspdmobile.artifact_metadata import metadata_of
from lspdmobile.choices import Backend, Format, Precision, Verdict
from lspdmobile.decode import HEATMAP_RULES, HeatmapRule
from lspdmobile.delegation_gate import delegation_faults, judged_with
from lspdmobile.deviation import Deviation
from lspdmobile.diagnosing import diagnosed
from lspdmobile.diagnosis import Diagnosis
from lspdmobile.errors import BadInputError, LspdmobileError
from lspdmobile.graph_decode import GraphDecode
from lspdmobile.measuring import Comparison, Progress, Reference, decoding_error, measure, with_decoding
from lspdmobile.parity import judge
from lspdmobile.preparing import Prepared
from lspdmobile.report.inspected import delegation_fields
from lspdmobile.report.pictures import WorstPicture
from lspdmobile.report.schema import ArtifactEntry, DeviationEntry, DiagnosisEntry, ManifestArtifact, TensorEntry
from lspdmobile.report.shortfalls import shortfall_entries
from lspdmobile.request import ExportRequest, Pair
from lspdmobile.student import Student
from quantization.pictures import Pictures

__all__ = ["Job", "Judged", "judged_artifact"]

_MOST_REPAIRS: Final = 4


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every artifact of one run shares.

    Attributes:
        request, prepared, reference: What to write from what, and what to compare with.
        folder: Where to.
        progress: Told of every step.
        scanned: Calibration pictures, normalised ``[N, 3, H, W]``, on which float16 arithmetic is looked at.
        calibration: All calibration pictures, normalised.
    """

    request: ExportRequest
    prepared: Mapping[Pair, Prepared]
    reference: Reference
    folder: Path
    progress: Progress
    scanned: NDArray[np.float32]
    calibration: Pictures


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One artifact: entry, line in the manifest and worst picture; a failed conversion has only the entry."""

    entry: ArtifactEntry
    listed: ManifestArtifact | None = None
    worst: tuple[WorstPicture, ...] = ()


def judged_artifact(job: Job, form: Format, precision: Precision) -> Judged:
    """Emit, read back, execute and judge one artifact."""
    blank = _blank_entry(job, form, precision)
    name = blank.label
    converter, reference = emitter(form, job.request.backend), job.reference
    try:
        job.progress(f"emit {name}", 0, 1)
        artifact, losses, kept = _emitted(job, form, precision)
        job.progress(f"execute {name}", 0, len(reference.views))
        facts = converter.inspect(artifact.path)
        executor = converter.open_executor(artifact.path, threads=job.request.threads)
        heatmaps, latency = measure(executor, reference.views, f"execute {name}", job.progress)
        deviation, decoding = _deviation(job, artifact), decoding_error(executor, reference)
    except BadInputError:
        raise
    except LspdmobileError as error:
        _remove(job.folder / blank.file)
        return Judged(entry=blank.model_copy(update={"reasons": (str(error),)}))
    found = reference.compared_with(heatmaps)
    verdict, reasons = judge(found.parity, found.drop, precision, form, deviation=deviation, gate=job.request.gate)
    diagnosis = _diagnosis(job, artifact, found, deviation) if verdict is Verdict.FAIL else None
    verdict, reasons = with_decoding(verdict, reasons, decoding)
    limits = job.request.min_delegated
    verdict, reasons = judged_with(verdict, reasons, delegation_faults(limits, form, facts.delegation, facts.forecasts))
    entry = blank.model_copy(
        update={
            **_file_fields(artifact, facts),
            "executed_by": executor.name,
            "latency_ms": round(latency, 3),
            "parity": reference.entry(found),
            "deviation": DeviationEntry.of(deviation) if deviation else None,
            "diagnosis": DiagnosisEntry.of(diagnosis) if diagnosis else None,
            "verdict": verdict,
            "reasons": reasons,
            "decode_px": decoding,
            "kept_fp32": kept,
            "not_honoured": shortfall_entries(artifact.not_honoured),
            "notes": (*artifact.notes, *_precision_notes(losses, kept)),
            "caveat": executor.caveat,
        }
    )
    listed = _listed(artifact, facts, blank.backend)
    return Judged(entry=entry, listed=listed, worst=_worst(reference, found, name))


def _emitted(
    job: Job, form: Format, precision: Precision
) -> tuple[Artifact, tuple[PrecisionLoss, ...], tuple[str, ...]]:
    """Emit an artifact, again with more operations in float32 as long as its float16 arithmetic loses, if asked to.

    Returns:
        The artifact, what float16 still loses in it, and the operations that were kept in float32.
    """
    converter, request = emitter(form, job.request.backend), _emit_request(job, form, precision)
    artifact = converter.emit(request)
    if not precision.may_compute_in_float16:
        return artifact, (), ()
    losses = converter.precision_losses(artifact.path, job.scanned)
    for _ in range(_MOST_REPAIRS if job.request.repair else 0):
        wanted = request.keep_fp32.union(*(loss.keep_fp32 for loss in losses))
        if wanted == request.keep_fp32:
            break
        _remove(artifact.path)
        request = replace(request, keep_fp32=wanted)
        artifact = converter.emit(request)
        losses = converter.precision_losses(artifact.path, job.scanned)
    return artifact, losses, tuple(sorted(request.keep_fp32))


def _precision_notes(losses: tuple[PrecisionLoss, ...], kept: tuple[str, ...]) -> Iterator[str]:
    if kept:
        yield f"{len(kept)} operations are kept in float32: {', '.join(kept)}"
    if losses:
        first, more = losses[0], f" and {len(losses) - 1} more" if len(losses) > 1 else ""
        mend = "" if kept else "; --repair keeps what is needed in float32"
        yield f"float16 arithmetic loses in {first.made_by}: {first.why}{more}{mend}"


def _deviation(job: Job, artifact: Artifact) -> Deviation | None:
    """Compare the file with its plan, where that can be done."""
    compare = comparison(artifact.format, artifact.precision, job.request.backend)
    if compare is None:
        return None
    source, pictures = job.prepared[artifact.format, artifact.precision], job.reference.few_inputs()
    return compare(artifact.path, network=source.network, plan=source.plan, pictures=pictures)


def _diagnosis(job: Job, artifact: Artifact, found: Comparison, deviation: Deviation | None) -> Diagnosis:
    """Name the likeliest cause of a failure."""
    precision, network = artifact.precision, job.prepared[artifact.format, artifact.precision].fused.network
    if deviation is None and precision.is_static_integer:
        deviation = Deviation(pictures=0, tensor="", steps=0.0, heatmaps=0.0)  # its emitter has read it back
    return diagnosed(found, job.reference, network, precision=precision, deviation=deviation, gate=job.request.gate)


def _remove(path: Path) -> None:
    """Leave no file of a failed conversion in the run folder."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _emit_request(job: Job, form: Format, precision: Precision) -> EmitRequest:
    student, converter, source = job.request.student, emitter(form, job.request.backend), job.prepared[form, precision]
    image_input = job.request.image_input and form is Format.COREML
    return EmitRequest(
        network=source.network,
        plan=source.plan,
        input_size=student.contract.input_size,
        layout=job.request.layout or converter.supported()[precision],
        metadata=metadata_of(student, image_input=image_input, decode=job.request.decode),
        deployment_target=job.request.deployment_target,
        path=job.folder / _file_name(job, form, precision),
        calibration=job.calibration,
        image_input=image_input,
        decode=_decode(student) if job.request.decode else None,
    )


def _decode(student: Student) -> GraphDecode:
    rule = cast("HeatmapRule", student.decode_rule)  # the request was refused if it is another one
    return GraphDecode(rule, student.contract.heatmap_stride, student.contract.heatmap_size).eval()


def _file_name(job: Job, form: Format, precision: Precision) -> str:
    return f"{job.request.student.name}_{precision.file_suffix}{emitter(form, job.request.backend).SUFFIX}"


def _backend(job: Job, form: Format) -> Backend | None:
    return job.request.backend if form is Format.EXECUTORCH else None


def _blank_entry(job: Job, form: Format, precision: Precision) -> ArtifactEntry:
    """Enter an artifact that could not be made."""
    source = job.prepared[form, precision]
    after = source.fused.certificate.after
    return ArtifactEntry(
        file=_file_name(job, form, precision),
        format=form,
        precision=precision,
        bytes=None,
        sha256=None,
        params=after.params,
        macs=after.macs,
        weight_bytes_by_dtype={},
        executed_by=None,
        export_seconds=None,
        latency_ms=None,
        delegation=None,
        parity=None,
        verdict=Verdict.FAIL,
        reasons=(),
        backend=_backend(job, form),
        target=source.target,
    )


def _file_fields(artifact: Artifact, facts: ArtifactFacts) -> dict[str, object]:
    return {
        "bytes": size_in_bytes(artifact.path),
        "sha256": sha256_of(artifact.path),
        "weight_bytes_by_dtype": dict(facts.weight_bytes_by_dtype),
        "weight_bytes_by_layer": {name: dict(held) for name, held in facts.weight_bytes_by_layer.items()},
        "export_seconds": round(artifact.seconds, 2),
        **delegation_fields(facts),
        "layout": artifact.layout,
    }


def _listed(artifact: Artifact, facts: ArtifactFacts, backend: Backend | None) -> ManifestArtifact:
    return ManifestArtifact(
        file=artifact.path.name,
        format=artifact.format,
        precision=artifact.precision,
        layout=artifact.layout,
        input=TensorEntry.of(facts.inputs[0]),
        output=TensorEntry.of(facts.outputs[0]),
        keypoints=TensorEntry.of(facts.outputs[1]) if len(facts.outputs) > 1 else None,
        backend=backend,
    )


def _worst(reference: Reference, found: Comparison, name: str) -> tuple[WorstPicture, ...]:
    """Show the picture that drifted most; none where the heatmaps cannot be decoded."""
    if found.parity.faults:
        return ()
    index = found.parity.drift_px.worst_image
    joint = int(reference.drift_px(found.heatmaps)[index].argmax())
    maps = (reference.heatmaps[index, joint], found.heatmaps[index, joint])
    shown = WorstPicture(
        title=f"{name}: {reference.views.names[index]}",
        picture=reference.views.pixels[index],
        float_keypoints=reference.keypoints(reference.heatmaps, index),
        artifact_keypoints=reference.keypoints(found.heatmaps, index),
        skeleton=reference.student.skeleton,
        drift_px=float(found.parity.drift_px.per_image[index]),
        joint=reference.student.skeleton.keypoints[joint],
        heatmaps=maps if reference.student.decode_rule in HEATMAP_RULES else None,
    )
    return (shown,)
