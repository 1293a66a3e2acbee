"""``lspdmobile export``: the main job."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lspdmobile.choices import Backend, Estimator, Layout, Verdict, parse_formats, parse_precisions
from lspdmobile.cli.app import app
from lspdmobile.cli.options import (
    ArchOpt,
    CalibOpt,
    DataOpt,
    EstimatorOpt,
    EvaluationSamplesOpt,
    JsonOpt,
    MethodsOpt,
    OverwriteOpt,
    SamplesOpt,
    SeedOpt,
    StudentArg,
    TargetOpt,
    ThreadsOpt,
    VerboseOpt,
)
from lspdmobile.cli.terminal import Terminal, relative, working
from lspdmobile.errors import BadInputError

if TYPE_CHECKING:
    from lspdmobile.request import ExportRequest
    from lspdmobile.run_folder import RunReport

__all__ = ["export", "finish"]

_CONVERSION_FAILED = 4
_GATE_FAILED = 3


@app.command()
def export(
    student: StudentArg,
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
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="Folder to make.")] = Path("runs/export"),
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
    arch: ArchOpt = None,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Keep in float what does not pass otherwise: operations float16 does not hold (Core ML fp16, w8, "
            "palettes), operators that cost int8 its accuracy (w8a8).",
        ),
    ] = False,
    overwrite: OverwriteOpt = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and stop.")] = False,
    json: JsonOpt = False,
    verbose: VerboseOpt = False,
) -> None:
    """Fuse, quantize, write the mobile files, execute each one and judge it against the float student.

    [bold]Example:[/bold] lspdmobile export lspd-s -f all -p fp16,w8a8 --calib train/ --data val/ -o runs/lspd-s
    """
    chosen = parse_formats(formats), parse_precisions(precisions)
    with working(verbose=verbose) as terminal:
        from lspdmobile.parity import DropType, Gate
        from lspdmobile.run import ExportRequest, pairs_of
        from lspdmobile.run import export as run
        from lspdmobile.student import load_student, resized
        from quantization.methods import parse_methods

        if drop_type not in {d.value for d in DropType}:
            message = f"unknown --drop-type {drop_type!r}: choose absolute or relative"
            raise BadInputError(message)
        loaded = load_student(student, arch=arch)
        request = ExportRequest(
            student=resized(loaded, input_size) if input_size else loaded,
            formats=chosen[0],
            precisions=chosen[1],
            output_dir=output_dir,
            overwrite=overwrite,
            calibration=calib,
            calibration_samples=samples,
            methods=parse_methods(methods),
            estimator=estimator,
            data=data,
            evaluation_samples=evaluation_samples,
            seed=seed,
            gate=Gate(max_drop=max_drop, drop_type=DropType(drop_type)),
            backend=backend,
            layout=layout,
            deployment_target=deployment_target,
            threads=threads,
            repair=repair,
            target=cost_target,
        )
        if dry_run:
            taken, left = pairs_of(request)
            terminal.show(_intention(request, [f"{f} {p}" for f, p in taken], [f"{f} {p}" for f, p in left]))
            return
        report = run(request, terminal.progress)
        finish(terminal, report, output_dir, json=json)


def finish(terminal: Terminal, report: "RunReport", folder: Path, *, json: bool) -> None:
    """Print the parity table and leave with the exit code the verdict asks for."""
    from lspdmobile.report.calibration import calibration_lines
    from lspdmobile.report.explanations import form_lines, repair_lines
    from lspdmobile.report.methods import method_lines
    from lspdmobile.report.tables import note_lines, parity_table, reason_lines

    terminal.close()
    if json:
        terminal.show_json(report.model_dump(mode="json", by_alias=True))
    else:
        terminal.show(parity_table(report), *reason_lines(report, only_failures=True))
        for pair in report.not_taken:
            terminal.show(f"not written: {pair} (the format does not take this precision)")
        terminal.show(*form_lines(report), *repair_lines(report))
        terminal.show(*method_lines(report.methods))
        terminal.show(*calibration_lines(report.calibration), *note_lines(report))
        terminal.show(f"verdict: {report.verdict}", f"report: {relative(folder / 'report.html')}")
    if any(a.sha256 is None for a in report.artifacts):
        raise typer.Exit(_CONVERSION_FAILED)
    if report.verdict is not Verdict.PASS:
        raise typer.Exit(_GATE_FAILED)


def _intention(request: "ExportRequest", taken: list[str], left: list[str]) -> str:
    rows, columns = request.student.contract.input_size
    budget = f"max drop {request.gate.max_drop:g} {request.gate.drop_type}"
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
