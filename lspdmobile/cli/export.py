"""``lspdmobile export``: the main job."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lspdmobile.choices import Backend, Estimator, Layout, parse_formats, parse_precisions
from lspdmobile.cli.app import app
from lspdmobile.cli.options import (
    ArchArgsOpt,
    ArchOpt,
    CalibOpt,
    ConfidenceOpt,
    ContractOpt,
    DataOpt,
    EstimatorOpt,
    EvaluationSamplesOpt,
    JsonOpt,
    MethodsOpt,
    MinDelegatedOpt,
    OverwriteOpt,
    SamplesOpt,
    SeedOpt,
    TargetOpt,
    ThreadsOpt,
    VerboseOpt,
)
from lspdmobile.cli.outcome import finish
from lspdmobile.cli.terminal import Terminal, working
from lspdmobile.errors import BadInputError, LspdmobileError

if TYPE_CHECKING:
    from lspdmobile.request import ExportRequest
    from lspdmobile.run_folder import RunReport
    from lspdmobile.student import Student

__all__ = ["export"]

_GATE_FAILED = 3

StudentsArg = Annotated[
    list[str],
    typer.Argument(
        metavar="STUDENT…",
        help="Bundled names (lspd-s), .safetensors files, a .pth with --arch, or a .pt2 with --contract.",
    ),
]


@app.command()
def export(
    students: StudentsArg,
    *,
    formats: Annotated[
        str, typer.Option("--format", "-f", help="Comma list of coreml (mlpackage), tflite (litert), executorch (pte).")
    ] = "all",
    precisions: Annotated[
        str,
        typer.Option(
            "--precision", "-p", help="Comma list of fp32, fp16, w8, w4, w8a8 (int8), w8a16, palette6, palette4."
        ),
    ] = "fp16,w8a8",
    backend: Annotated[
        Backend, typer.Option("--backend", help="What ExecuTorch artifacts are delegated to.")
    ] = Backend.XNNPACK,
    output_dir: Annotated[
        Path, typer.Option("--output-dir", "-o", help="Folder to make; of several students one inside it for each.")
    ] = Path("runs/export"),
    calib: CalibOpt = None,
    samples: SamplesOpt = 128,
    methods: MethodsOpt = "default",
    estimator: EstimatorOpt = Estimator.MIN_MAX,
    data: DataOpt = None,
    evaluation_samples: EvaluationSamplesOpt = None,
    max_drop: Annotated[
        float, typer.Option("--max-drop", help="Largest drop that passes, in points or percent.")
    ] = 1.0,
    drop_type: Annotated[
        str, typer.Option("--drop-type", help="absolute (points) or relative (percent).")
    ] = "absolute",
    confidence: ConfidenceOpt = 0.95,
    min_delegated: MinDelegatedOpt = None,
    input_size: Annotated[
        tuple[int, int] | None, typer.Option("--input-size", metavar="H W", help="Rows and columns, multiples of 32.")
    ] = None,
    layout: Annotated[Layout | None, typer.Option("--layout", help="Axis order; default: each format's own.")] = None,
    deployment_target: Annotated[
        str, typer.Option("--minimum-deployment-target", help="Lowest iOS version.")
    ] = "iOS17",
    cost_target: TargetOpt = None,
    seed: SeedOpt = 0,
    threads: ThreadsOpt = 1,
    jobs: Annotated[
        int, typer.Option("--jobs", min=1, help="Make so many formats at a time, a process each (not on macOS).")
    ] = 1,
    arch: ArchOpt = None,
    arch_args: ArchArgsOpt = None,
    contract: ContractOpt = None,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Keep in float what does not pass otherwise: operations float16 does not hold (Core ML fp16, w8, "
            "palettes), operators that cost int8 its accuracy (w8a8).",
        ),
    ] = False,
    image_input: Annotated[
        bool, typer.Option("--image-input", help="Core ML packages take an image and normalise it themselves.")
    ] = False,
    decode: Annotated[
        bool, typer.Option("--decode", help="Artifacts give keypoints [K, 3] in input pixels besides the heatmaps.")
    ] = False,
    overwrite: OverwriteOpt = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would be done, and foretell --min-delegated."),
    ] = False,
    json: JsonOpt = False,
    verbose: VerboseOpt = False,
) -> None:
    """Fuse, quantize, write the mobile files, execute each one and judge it against the float student.

    [bold]Example:[/bold] lspdmobile export lspd-s -f all -p fp16,w8a8 --calib train/ --data val/ -o runs/lspd-s
    """
    chosen = parse_formats(formats), parse_precisions(precisions)
    with working(verbose=verbose) as terminal:
        from lspdmobile.delegation_gate import parse_min_delegated
        from lspdmobile.parity import DropType, Gate
        from lspdmobile.run import ExportRequest
        from lspdmobile.student import resized
        from quantization.methods import parse_methods

        if drop_type not in {d.value for d in DropType}:
            message = f"unknown --drop-type {drop_type!r}: choose absolute or relative"
            raise BadInputError(message)
        limits = parse_min_delegated(min_delegated)
        loaded = _opened(students, arch, arch_args, contract)
        requests = [
            ExportRequest(
                student=resized(student, input_size) if input_size else student,
                formats=chosen[0],
                precisions=chosen[1],
                output_dir=output_dir / student.name if len(loaded) > 1 else output_dir,
                overwrite=overwrite,
                calibration=calib,
                calibration_samples=samples,
                methods=parse_methods(methods),
                estimator=estimator,
                data=data,
                evaluation_samples=evaluation_samples,
                seed=seed,
                gate=Gate(max_drop=max_drop, drop_type=DropType(drop_type), confidence=confidence),
                min_delegated=limits,
                backend=backend,
                layout=layout,
                deployment_target=deployment_target,
                threads=threads,
                jobs=jobs,
                repair=repair,
                image_input=image_input,
                decode=decode,
                target=cost_target,
            )
            for student in loaded
        ]
        if dry_run:
            terminal.show(*map(_intention, requests))
            _foretold(requests, terminal)
            return
        _exported(requests, terminal, json=json)


def _opened(sources: list[str], arch: str | None, arch_args: str | None, contract: Path | None) -> "list[Student]":
    """Open all students before any work is done.

    Raises:
        BadInputError: One cannot be opened, two have one name, or an option for one student is given for several.
    """
    from lspdmobile.opening import open_student

    if len(sources) > 1 and (arch or contract):
        message = f"--arch and --contract are of one network, {len(sources)} students are given: export it by itself"
        raise BadInputError(message)
    found = [open_student(source, arch=arch, arch_args=arch_args, contract=contract) for source in sources]
    names = [student.name for student in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        message = f"two students are called {', '.join(twice)}, and one folder cannot hold both: export them one by one"
        raise BadInputError(message)
    return found


def _exported(requests: "list[ExportRequest]", terminal: Terminal, *, json: bool) -> None:
    """Do one export after the other; what stops one of several does not stop the others."""
    from lspdmobile.replacing import refuse_existing
    from lspdmobile.run import export as run

    for request in requests:
        refuse_existing(request.output_dir, overwrite=request.overwrite)
    reports: dict[Path, RunReport] = {}
    stopped: dict[str, LspdmobileError] = {}
    for request in requests:
        try:
            reports[request.output_dir] = run(request, terminal.progress)
        except LspdmobileError as error:
            if len(requests) == 1:
                raise
            stopped[request.student.name] = error
    finish(terminal, reports, json=json, stopped=stopped)


def _foretold(requests: "list[ExportRequest]", terminal: Terminal) -> None:
    """Say what the rules foretell of delegation, where a share of it is asked for; fail where it will be missed."""
    from lspdmobile.foretelling import foretold, foretold_faults
    from lspdmobile.report.delegations import delegation_line
    from lspdmobile.report.inspected import DelegationEntry

    faults: list[str] = []
    for request in (each for each in requests if each.min_delegated):
        told = foretold(request)
        for (form, precision), found in told.items():
            terminal.show(f"foretold     {form} {precision} on {delegation_line(DelegationEntry.of(found))}")
        faults += foretold_faults(request, told)
    for fault in faults:
        terminal.err.print(f"error: {fault}", soft_wrap=True)
    if faults:
        raise typer.Exit(_GATE_FAILED)


def _intention(request: "ExportRequest") -> str:
    from lspdmobile.run import pairs_of

    taken, left = ([f"{form} {precision}" for form, precision in pairs] for pairs in pairs_of(request))
    rows, columns = request.student.contract.input_size
    gate = request.gate
    budget = f"max drop {gate.max_drop:g} {gate.drop_type}, confidence {gate.confidence:g}"
    lines = [
        f"student      {request.student.name}, {rows}x{columns}, {request.student.skeleton.name}",
        f"write        {', '.join(taken)}",
        f"calibrate on {request.calibration or 'bundled pictures'}, {request.estimator}",
        f"judge on     {request.data or 'bundled pictures'}, {budget}",
        f"into         {request.output_dir}{' (exists)' if request.output_dir.exists() else ''}",
    ]
    if left:
        lines.insert(2, f"not taken    {', '.join(left)}")
    return "\n".join(lines)
