"""Options and arguments that several commands share, defined once."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "ArchOpt",
    "DataOpt",
    "JsonOpt",
    "OverwriteOpt",
    "SeedOpt",
    "StudentArg",
    "ThreadsOpt",
    "VerboseOpt",
]

StudentArg = Annotated[
    str, typer.Argument(metavar="STUDENT", help="A bundled name (lspd-s), a .safetensors file, or a .pth with --arch.")
]
ArchOpt = Annotated[str | None, typer.Option("--arch", help="Preset that shapes a .pth state dict, such as lspd-s.")]
DataOpt = Annotated[
    Path | None,
    typer.Option(
        "--data", help="Labelled set (COCO-keypoint JSON and pictures) or folder of pictures; default: bundled."
    ),
]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print JSON on standard output instead of a table.")]
OverwriteOpt = Annotated[bool, typer.Option("--overwrite/--no-overwrite", help="Replace an existing output.")]
SeedOpt = Annotated[int, typer.Option("--seed", min=0, help="Seed of every random draw.")]
ThreadsOpt = Annotated[int, typer.Option("--threads", min=1, help="Threads of the runtimes that execute artifacts.")]
VerboseOpt = Annotated[bool, typer.Option("--verbose", help="Show what the converters and runtimes print.")]
