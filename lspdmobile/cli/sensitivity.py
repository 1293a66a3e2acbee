"""``lspdmobile sensitivity``: what each part of an int8 network costs."""

from pathlib import Path
from typing import Annotated

import typer

from lspdmobile.choices import Estimator
from lspdmobile.cli.app import app
from lspdmobile.cli.options import (
    ArchArgsOpt,
    ArchOpt,
    CalibOpt,
    ContractOpt,
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
    VerboseOpt,
)
from lspdmobile.cli.terminal import relative, working
from lspdmobile.errors import BadInputError

__all__ = ["sensitivity"]


@app.command()
def sensitivity(
    student: StudentArg,
    *,
    calib: CalibOpt = None,
    samples: SamplesOpt = 128,
    methods: MethodsOpt = "default",
    estimator: EstimatorOpt = Estimator.MIN_MAX,
    data: DataOpt = None,
    evaluation_samples: EvaluationSamplesOpt = None,
    granularity: Annotated[
        str, typer.Option("--granularity", help="op (operators and the tensors between them), block (modules), or all.")
    ] = "all",
    metric: Annotated[
        bool, typer.Option("--metric/--no-metric", help="Measure the task metric, or look at heatmaps alone.")
    ] = True,
    top: Annotated[
        int | None,
        typer.Option("--top", min=1, help="Measure the metric of so many; default: of what makes 1% of the noise."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Measure and print every part.")] = False,
    jobs: Annotated[int | None, typer.Option("--jobs", min=1, help="Threads; default: one for each core.")] = None,
    cost_target: TargetOpt = None,
    seed: SeedOpt = 0,
    output_dir: Annotated[
        Path | None,
        typer.Option("--output-dir", "-o", help="Folder for sensitivity.json; what it holds is not measured again."),
    ] = None,
    arch: ArchOpt = None,
    arch_args: ArchArgsOpt = None,
    contract: ContractOpt = None,
    overwrite: OverwriteOpt = False,
    json: JsonOpt = False,
    verbose: VerboseOpt = False,
) -> None:
    """Say what every operator, tensor and block of the int8 network costs, alone and left out, and why; worst first.

    [bold]Example:[/bold] lspdmobile sensitivity lspd-s --calib train/ --data val/ -o runs/sensitivity
    """
    with working(verbose=verbose) as terminal:
        from lspdmobile.choices import Format, Precision
        from lspdmobile.opening import open_student
        from lspdmobile.report.sensitivity import SENSITIVITY, cause_lines, sensitivity_table
        from lspdmobile.request import ExportRequest
        from lspdmobile.sensitivity import Granularity, Screening, looked_into
        from quantization.methods import parse_methods

        if granularity not in {g.value for g in Granularity}:
            message = f"unknown --granularity {granularity!r}: choose op, block or all"
            raise BadInputError(message)
        request = ExportRequest(
            student=open_student(student, arch=arch, arch_args=arch_args, contract=contract),
            formats=(Format.TFLITE,),
            precisions=(Precision.W8A8,),
            output_dir=output_dir or Path(),
            overwrite=overwrite,
            calibration=calib,
            calibration_samples=samples,
            methods=parse_methods(methods),
            estimator=estimator,
            data=data,
            evaluation_samples=evaluation_samples,
            seed=seed,
            target=cost_target,
        )
        screening = Screening(
            granularity=Granularity(granularity), metric=metric, top=top, everything=everything, jobs=jobs
        )
        report = looked_into(request, screening, output_dir, terminal.progress)
        terminal.close()
        if json:
            terminal.show_json(report.model_dump(mode="json"))
            return
        terminal.show(sensitivity_table(report, everything=everything), *cause_lines(report))
        if output_dir is not None:
            terminal.show(f"report: {relative(output_dir / SENSITIVITY)}")
