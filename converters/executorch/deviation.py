"""Whether an int8 ``.pte`` holds its plan's numbers: XNNPACK's graphs hand no tensor out, so they are read, not run."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from converters.executorch.layers import layer_faults
from converters.executorch.plan import check_grids, check_precision
from converters.executorch.program import read_with_constants
from lspdmobile.deviation import Deviation
from lspdmobile.errors import ConversionError

if TYPE_CHECKING:
    from torch import nn

    from quantization.plan import QuantizationPlan

__all__ = ["read_back"]


def read_back(
    path: Path, *, network: "nn.Module", plan: "QuantizationPlan", pictures: NDArray[np.float32]
) -> Deviation:
    """Compare every weight, scale, bias and grid of a file with its plan's, as the emitter did when it wrote them.

    Args:
        path: The ``.pte`` file.
        network: Fused float student in eval mode.
        plan: What the file was made from.
        pictures: Give the input's size, ``[N, 3, H, W]``; not run.

    Returns:
        A deviation of no pictures, with a fault for each layer of which a number differs.

    Raises:
        BadInputError: The file is damaged, or the plan is another network's.
        EnvironmentLacksError: A package is absent.
    """
    from quantization.graph import activation_grids, float_layers, quantized_module
    from quantization.integer_layers import integer_layers

    module = quantized_module(network, plan, (pictures.shape[2], pictures.shape[3]))
    program, constants = read_with_constants(path)
    kept, layers = len(float_layers(module)), integer_layers(module)
    try:
        graphs = check_precision(path, program, plan.precision, float_layers=kept, constants=constants)
        faults = layer_faults(path, graphs, layers)
        if not faults:
            check_grids(path, graphs, activation_grids(module))
    except ConversionError as error:
        faults = (str(error).removeprefix(f"{path}: "),)
    return Deviation(pictures=0, tensor="", steps=0.0, heatmaps=0.0, faults=faults, layers=len(layers))
