"""A second opinion on a ``.pte``: the same program with nothing delegated, run by ExecuTorch's portable kernels.

A file that is delegated to XNNPACK holds graphs of its own kind, which no other kernels can run. Lowered again without
a delegate, the plan's network keeps its quantize and dequantize operators, and between them portable kernels compute in
float: what differs is XNNPACK's arithmetic, and whatever went wrong on the way into its graphs.
"""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from converters.executorch.execute import ExecuTorchExecutor
from converters.executorch.inspect import inspect
from converters.executorch.program import missing
from lspdmobile.artifact import Executor
from lspdmobile.choices import Precision

if TYPE_CHECKING:
    from torch import nn

    from quantization.plan import QuantizationPlan

__all__ = ["open_portable"]


def open_portable(network: "nn.Module", plan: "QuantizationPlan", input_size: tuple[int, int], path: Path) -> Executor:
    """Lower a network by its plan without a delegate, and load it.

    Args:
        network: What the file in question was made from.
        plan: Of that file; fp32 or w8a8.
        input_size: Rows and columns.
        path: Where to write the program.

    Raises:
        ConversionError: The runtime refused it.
        EnvironmentLacksError: executorch is absent.
    """
    import torch

    from converters.executorch.lowering import lower_portable
    from quantization.graph import quantized_module

    if plan.precision is Precision.W8A8:
        network = quantized_module(network, plan, input_size)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            exported = torch.export.export(torch.nn.Sequential(network), (torch.zeros(1, 3, *input_size),))
            path.write_bytes(lower_portable(exported))
    except ImportError as error:
        raise missing(error) from error
    return ExecuTorchExecutor(path, inspect(path), 1)
