"""Running a ``.pte`` delegated to Core ML: ExecuTorch itself on macOS, our MIL executor everywhere else."""

import re
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from converters.coreml.deviation import deviation_of
from converters.coreml.execute import MilExecutor
from converters.coreml.losses import losses_of
from converters.coreml.mil.package import Program
from converters.executorch.execute import ExecuTorchExecutor, check_borders
from converters.executorch.inspect import kernel_calls
from converters.executorch.program import forward_plan, missing, read_program
from converters.executorch_coreml.embedded import CORE_ML, core_ml_files, mil_program
from converters.executorch_coreml.inspect import inspect
from lspdmobile.artifact import ArtifactFacts, Executor, PrecisionLoss
from lspdmobile.deviation import Deviation
from lspdmobile.errors import BadInputError, ConversionError

if TYPE_CHECKING:
    from torch import nn

    from quantization.plan import QuantizationPlan

__all__ = ["deviation", "only_program", "open_executor", "planned_name", "precision_losses"]

_LOWERED_NAME: Final = re.compile(r"aten_(\w+?)_(?:default|tensor|vec)(_\d+)?", re.IGNORECASE)
_WHAT: Final = "the Core ML program inside the .pte"


def open_executor(path: Path, *, threads: int = 1) -> Executor:
    """Load a ``.pte`` whose whole network is one Core ML program, one picture in and one set of heatmaps out.

    On macOS, where the ExecuTorch runtime has its Core ML backend, that runs the file (this way has not been tested);
    elsewhere our MIL executor runs the program inside it, which leaves out ExecuTorch's own part: handing over the
    tensors.

    Args:
        path: The file.
        threads: For the MIL executor; Core ML chooses for itself.

    Raises:
        BadInputError: The file is damaged, or its input or output is of another kind.
        ConversionError: Part of the network is outside of Core ML, or the program cannot be executed here.
        EnvironmentLacksError: executorch is absent.
    """
    if threads < 1:
        message = f"threads must be at least 1, not {threads}"
        raise ValueError(message)
    facts = inspect(path)
    check_borders(path, facts)
    if sys.platform == "darwin" and _runtime_has_core_ml():
        return ExecuTorchExecutor(path, facts, threads)
    program = only_program(path, read_program(path))
    _check_shapes(program, facts)
    return MilExecutor(program, threads=threads, what=_WHAT)


def precision_losses(path: Path, pictures: NDArray[np.float32]) -> tuple[PrecisionLoss, ...]:
    """Scan the Core ML program inside a file on normalised pictures ``[N, 3, H, W]``, as a package is scanned.

    Raises:
        BadInputError: The file is damaged, or takes something else than a picture.
        ConversionError: Part of the network is outside of Core ML, or the program cannot be executed here.
        EnvironmentLacksError: executorch is absent.
    """
    return losses_of(only_program(path, read_program(path)), pictures)


def deviation(
    path: Path, *, network: "nn.Module", plan: "QuantizationPlan", pictures: NDArray[np.float32]
) -> Deviation:
    """Compare the Core ML program inside a file with its plan, as a package is compared.

    Args:
        path: The ``.pte``.
        network: Fused float student in eval mode.
        plan: What the file was made from, ``w8`` or ``w8a8``.
        pictures: Normalised pictures ``[N, 3, H, W]``, N at least 1.

    Raises:
        BadInputError: The file is damaged, or the plan is another network's.
        ConversionError: Part of the network is outside of Core ML, or the program cannot be executed here.
        EnvironmentLacksError: torchao or executorch is absent.
    """
    program = only_program(path, read_program(path))
    return deviation_of(program, network=network, plan=plan, pictures=pictures, planned_name=planned_name)


def planned_name(name: str) -> str:
    """Give the name that a tensor has before ExecuTorch lowers: ``aten_relu_default_1`` is ``relu_1`` there."""
    lowered = _LOWERED_NAME.fullmatch(name)
    return f"{lowered[1]}{lowered[2] or ''}" if lowered else name


def only_program(path: Path, program: Any) -> Program:
    """Give the one Core ML program that is a file's whole network.

    Args:
        path: For messages.
        program: Read back from ``path``.

    Raises:
        BadInputError: The Core ML part is damaged.
        ConversionError: There are other delegates or operators, or the Core ML model is compiled.
    """
    plan = forward_plan(program)
    parts = Counter(str(delegate.id) for delegate in plan.delegates) + kernel_calls(plan)
    if parts != Counter([CORE_ML]):
        found = ", ".join(f"{name} x{count}" for name, count in parts.items()) or "nothing"
        message = f"{path}: only a network that is one {CORE_ML} delegate can be executed here; this one is {found}"
        raise ConversionError(message)
    return mil_program(next(core_ml_files(program, path)), path)


def _check_shapes(program: Program, facts: ArtifactFacts) -> None:
    """Compare the shapes ExecuTorch hands over with those Core ML takes and gives."""
    inside = [value.type.shape for value in (*program.inputs, *program.outputs)]
    outside = [tensor.shape for tensor in (*facts.inputs, *facts.outputs)]
    if inside != outside:
        message = f"{program.path}: ExecuTorch hands over {outside}, but its Core ML part has {inside}; export it again"
        raise BadInputError(message)


def _runtime_has_core_ml() -> bool:
    try:
        from executorch.runtime import Runtime
    except ImportError as error:
        raise missing(error) from error
    return bool(Runtime.get().backend_registry.is_available(CORE_ML))
