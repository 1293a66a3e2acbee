"""What float16 loses in a package, and which operations Core ML Tools would have to leave in float32."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from converters.coreml.execute import picture_to_heatmaps
from converters.coreml.grids import FLOAT16_SUFFIX
from converters.coreml.keypoints import network_alone
from converters.coreml.mil.package import Program, read_program
from lspdmobile.artifact import PrecisionLoss

__all__ = ["losses_of", "precision_losses", "tools_name"]


def precision_losses(path: Path, pictures: NDArray[np.float32]) -> tuple[PrecisionLoss, ...]:
    """Scan a package on normalised pictures ``[N, 3, H, W]``.

    A package that computes in float16 anywhere is scanned as it is, another one as if it computed in float16.

    Raises:
        BadInputError: The package is damaged or not an ML Program from one picture to one set of heatmaps.
        ConversionError: The program holds something that cannot be executed here.
    """
    return losses_of(network_alone(read_program(path)), pictures)


def losses_of(program: Program, pictures: NDArray[np.float32]) -> tuple[PrecisionLoss, ...]:
    """Give what :func:`precision_losses` gives, of a program that was read already; the errors are the same."""
    from converters.coreml.mil.precision import scan_precision, troubled
    from converters.coreml.mil.program import MilProgram

    name = picture_to_heatmaps(program)[0].name
    compute = MilProgram(program).uses_float16
    scan = scan_precision(program, [{name: p[None]} for p in pictures], compute="stated" if compute else "fp16")
    return tuple(
        PrecisionLoss(
            name=value.name,
            made_by=value.made_by,
            why=value.loss,
            keep_fp32=frozenset(map(tools_name, value.stays_in_fp32)),
        )
        for value in troubled(scan)
    )


def tools_name(name: str) -> str:
    """Give the name a value has where Core ML Tools chooses what becomes float16: without the suffix that it adds."""
    return name.removesuffix(FLOAT16_SUFFIX)
