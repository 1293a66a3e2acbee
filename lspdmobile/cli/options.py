"""Options and arguments that several commands share, defined once."""

from pathlib import Path
from typing import Annotated

import typer

from lspdmobile.choices import Estimator

__all__ = [
    "ArchArgsOpt",
    "ArchOpt",
    "CalibOpt",
    "ConfidenceOpt",
    "ContractOpt",
    "DataOpt",
    "EstimatorOpt",
    "EvaluationSamplesOpt",
    "JsonOpt",
    "MethodsOpt",
    "MinDelegatedOpt",
    "OverwriteOpt",
    "SamplesOpt",
    "SeedOpt",
    "StudentArg",
    "TargetOpt",
    "ThreadsOpt",
    "VerboseOpt",
]

StudentArg = Annotated[
    str,
    typer.Argument(
        metavar="STUDENT",
        help="A bundled name (lspd-s), a .safetensors file, a .pth with --arch, or a .pt2 with --contract.",
    ),
]
ArchOpt = Annotated[
    str | None,
    typer.Option("--arch", help="What shapes a state dict: a preset (lspd-s), or package.module:factory, imported."),
]
ArchArgsOpt = Annotated[
    str | None,
    typer.Option("--arch-args", metavar="KEY=VALUE,…|JSON", help="What the factory of --arch is called with."),
]
ContractOpt = Annotated[
    Path | None,
    typer.Option("--contract", help="How a network that was not made here is used (docs/bring_your_own.md)."),
]
DataOpt = Annotated[
    Path | None,
    typer.Option(
        "--data", help="Labelled set (COCO-keypoint JSON and pictures) or folder of pictures; default: bundled."
    ),
]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print JSON on standard output instead of a table.")]
MinDelegatedOpt = Annotated[
    str | None,
    typer.Option(
        "--min-delegated",
        metavar="SHARE,TARGET=SHARE,…",
        help="Fail (exit 3) where the fast path takes less of the operators or of the MACs: 0.98 for real partitions, "
        "coreml-ane=0.9 for a target that is foretold (docs/delegation.md).",
    ),
]
OverwriteOpt = Annotated[bool, typer.Option("--overwrite/--no-overwrite", help="Replace an existing output.")]
SeedOpt = Annotated[int, typer.Option("--seed", min=0, help="Seed of every random draw.")]
ThreadsOpt = Annotated[int, typer.Option("--threads", min=1, help="Threads of the runtimes that execute artifacts.")]
VerboseOpt = Annotated[bool, typer.Option("--verbose", help="Show what the converters and runtimes print.")]
CalibOpt = Annotated[
    Path | None,
    typer.Option("--calib", help="Pictures to calibrate on: labelled set or folder; default: bundled."),
]
ConfidenceOpt = Annotated[
    float,
    typer.Option("--confidence", help="Of the drop's interval, which has to end inside the budget: 0.5 to 0.999."),
]
SamplesOpt = Annotated[int, typer.Option("--num-calibration-samples", min=1, help="Draw at most this many.")]
MethodsOpt = Annotated[
    str,
    typer.Option(
        "--methods",
        help="What keeps the accuracy of integer artifacts: comma list of equalization, rounding, bias-correction, "
        "range-tuning; default (all but the third) takes a minute or two, none no time.",
    ),
]
EstimatorOpt = Annotated[
    Estimator, typer.Option("--estimator", help="How calibrated ranges are made of the values seen.")
]
EvaluationSamplesOpt = Annotated[
    int | None, typer.Option("--num-evaluation-samples", min=1, help="Judge on at most this many; default: all.")
]
TargetOpt = Annotated[
    str | None,
    typer.Option(
        "--target",
        help="Choose every format's forms for this target (docs/fusion_targets.md); default: each format's own.",
    ),
]
