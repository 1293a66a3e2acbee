"""What the user asks an export for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from converters import emitter
from lspdmobile.choices import Backend, Estimator, Format, Layout, Precision
from lspdmobile.decode import HEATMAP_RULES
from lspdmobile.delegation_gate import require_targets
from lspdmobile.errors import BadInputError
from lspdmobile.fusion.targets import target_named
from lspdmobile.parity import Gate
from lspdmobile.student import Student
from quantization.methods import DEFAULT_METHODS, Method

__all__ = ["ExportRequest", "pairs_of"]

Pair = tuple[Format, Precision]


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """What to export and how to judge it.

    Attributes:
        student: The float student.
        formats, precisions: What to write; pairs a format does not take are left out and listed.
        output_dir: Folder to make.
        overwrite: Replace an existing run folder.
        calibration: Labelled set or folder of pictures; None takes the bundled rendered ones.
        calibration_samples: At most this many, drawn by the seed.
        methods: What keeps the accuracy of integer artifacts (``quantization.methods``), in any order.
        estimator: How the ranges of integer activations are made of the values seen in calibration.
        data: Evaluation set; None takes the bundled rendered pictures.
        evaluation_samples: At most this many, drawn by the seed; None for all.
        seed: Of every draw.
        gate: The limits.
        min_delegated: Least delegated share by target (``lspdmobile.delegation_gate``).
        backend: What ExecuTorch artifacts are delegated to.
        layout: Axis order of the artifacts; None for each format's own.
        deployment_target: Lowest iOS version.
        threads: Threads of the executors.
        target: Cost target that the forms of all formats are chosen for; None takes each format's own.
        repair: Keep operations in float32 whose float16 arithmetic loses (Core ML fp16, w8, palettes), and operators in
            float without which the int8 network does not pass (w8a8).
        image_input: Core ML packages take an image and normalise it themselves.
        decode: Artifacts give keypoints besides the heatmaps.
        jobs: Formats made at the same time, a process each.
    """

    student: Student
    formats: tuple[Format, ...]
    precisions: tuple[Precision, ...]
    output_dir: Path
    overwrite: bool = False
    calibration: Path | None = None
    calibration_samples: int = 128
    methods: tuple[Method, ...] = DEFAULT_METHODS
    estimator: Estimator = Estimator.MIN_MAX
    data: Path | None = None
    evaluation_samples: int | None = None
    seed: int = 0
    gate: Gate = field(default_factory=Gate)
    min_delegated: Mapping[str, float] = field(default_factory=dict)
    backend: Backend = Backend.XNNPACK
    layout: Layout | None = None
    deployment_target: str = "iOS17"
    threads: int = 1
    target: str | None = None
    repair: bool = False
    image_input: bool = False
    decode: bool = False
    jobs: int = 1


def pairs_of(request: ExportRequest) -> tuple[list[Pair], list[Pair]]:
    """Split the asked (format, precision) pairs into those the formats take and those they do not.

    Raises:
        BadInputError: The backend or a delegation limit is for a format that was not asked for, no cost target has the
            name given, no pair is left, a precision fits none of the formats, or a format cannot give a precision in
            the layout or for the deployment target asked for.
    """
    if request.backend is not Backend.XNNPACK and Format.EXECUTORCH not in request.formats:
        message = f"--backend {request.backend} is for ExecuTorch artifacts: add executorch to --format"
        raise BadInputError(message)
    require_targets(request.min_delegated, request.formats)
    if request.image_input and Format.COREML not in request.formats:
        message = "--image-input is for Core ML packages: add coreml to --format"
        raise BadInputError(message)
    if request.decode:
        _require_decodable(request)
    if request.target is not None:
        target_named(request.target)
    emitters = {form: emitter(form, request.backend) for form in request.formats}
    asked = [(f, p) for f in request.formats for p in request.precisions]
    taken = [(f, p) for f, p in asked if p in emitters[f].supported()]
    for precision in request.precisions:
        if not any(p is precision for _, p in taken):
            known = {f: e.WHY_NOT.get(precision) for f, e in emitters.items()}
            why = "".join(f"; {reason}" for reason in known.values() if reason)
            names = ", ".join(f"{f} takes {', '.join(e.supported())}" for f, e in emitters.items())
            message = f"no chosen format takes {precision}: {names}{why}"
            raise BadInputError(message)
    for form, precision in taken:
        layout = request.layout or emitters[form].supported()[precision]
        if fault := emitters[form].misfit(precision, layout, request.deployment_target):
            raise BadInputError(fault)
    return taken, [pair for pair in asked if pair not in taken]


def _require_decodable(request: ExportRequest) -> None:
    """Refuse ``--decode`` where there are no heatmaps, or for an artifact whose network is given to Core ML whole."""
    student = request.student
    if student.decode_rule not in HEATMAP_RULES:
        message = f"--decode is for networks that give heatmaps; {student.name}'s rule is {student.decode_rule}"
        raise BadInputError(message)
    if request.backend is Backend.COREML:
        message = "--decode is not made for --backend coreml: leave one of them out, or write a .mlpackage"
        raise BadInputError(message)
