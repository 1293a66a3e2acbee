"""The MIL executor: runs a saved ML Program with torch, on any operating system.

It reads nothing but the package on disk. What it computes is what the file says, in float32: a value that the program
types as float16 is rounded to float16 after each operation, while sums inside an operation (a convolution's, say) are
accumulated in float32. Apple's Neural Engine accumulates in its own way, so its results agree only up to rounding;
whether the *file* says the right thing is settled here.

Every operation is planned once, when the program is loaded: attributes checked, constants decoded, compressed weights
unpacked. Operations and attributes that are not implemented are refused by name then, never skipped.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from converters.coreml.mil.constants import Dtype
from converters.coreml.mil.package import NamedType, Program, read_program
from converters.coreml.mil.planning import RUN_DTYPES, Step, fits, plan_program
from lspdmobile.errors import BadInputError, ConversionError

__all__ = ["MilProgram"]


class MilProgram:
    """An ML Program ready to run; usually made by :meth:`load`.

    Args:
        program: The program as read.

    Raises:
        ConversionError: An operation, attribute or dtype is not implemented; the message names it.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        try:
            self._plan = plan_program(program)
        except ConversionError as error:
            message = f"{program.path}: {error}"
            raise ConversionError(message) from error

    @classmethod
    def load(cls, path: Path) -> "MilProgram":
        """Read and plan a package.

        Raises:
            BadInputError: The package is damaged or not an ML Program.
            ConversionError: An operation, attribute or dtype is not implemented; the message names it.
        """
        return cls(read_program(path))

    @property
    def inputs(self) -> tuple[NamedType, ...]:
        """What :meth:`predict` needs."""
        return self.program.inputs

    @property
    def outputs(self) -> tuple[NamedType, ...]:
        """What :meth:`predict` gives."""
        return self.program.outputs

    @property
    def uses_float16(self) -> bool:
        """Whether any value that is computed is float16."""
        return any(value.type.dtype.name == "float16" for step in self._plan.steps for value in step.outputs)

    def predict(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Run the program.

        Args:
            inputs: Every input by name, in the shape the file states; values are converted to the file's dtype.
            outputs: Names of values to give, also ones inside the program; the program's outputs if None.

        Returns:
            The values by name, in the file's own dtypes.

        Raises:
            BadInputError: An input is missing, unknown or of another shape; or a wanted value does not exist.
            ConversionError: An operation cannot run, or its result has not the shape the file states.
        """
        types = self._plan.types
        wanted = [value.name for value in self.outputs] if outputs is None else list(outputs)
        for name in wanted:
            if name not in types:
                message = f"{self.program.path}: the program computes no value {name!r}"
                raise BadInputError(message)
        values = self._fed(inputs)
        with torch.inference_mode():
            for step in self._plan.steps:
                self._run(step, values)
                for name in step.frees:
                    if name not in wanted:
                        del values[name]
        return {name: _exported(values[name], types[name].dtype) for name in wanted}

    def _fed(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
        expected = {value.name: value.type for value in self.inputs}
        if set(inputs) != set(expected):
            message = f"{self.program.path}: takes {sorted(expected)}, was given {sorted(inputs)}"
            raise BadInputError(message)
        values: dict[str, Tensor] = {}
        for name, kind in expected.items():
            if not fits(inputs[name].shape, kind):
                message = f"{self.program.path}: {name!r} is {kind}, was given shape {list(inputs[name].shape)}"
                raise BadInputError(message)
            values[name] = _stored(torch.from_numpy(np.array(inputs[name], order="C")), kind.dtype, rounds=True)
        return values

    def _run(self, step: Step, values: dict[str, Tensor]) -> None:
        operands = [values[operand] if isinstance(operand, str) else operand for operand in step.operands]
        try:
            results = step.kernel.run(*operands)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            message = f"{self.program.path}: {step.label}: cannot run: {str(error).splitlines()[0]}"
            raise ConversionError(message) from error
        results = results if isinstance(results, tuple) else (results,)
        if len(results) != len(step.outputs):
            message = f"{self.program.path}: {step.label}: gives {len(results)} values, not {len(step.outputs)}"
            raise ConversionError(message)
        for value, result in zip(step.outputs, results, strict=True):
            if not fits(tuple(result.shape), value.type):
                stated = f"gives {list(result.shape)} where the file states {value.type}"
                message = f"{self.program.path}: {step.label}: {stated}"
                raise ConversionError(message)
            values[value.name] = _stored(result, value.type.dtype, rounds=step.rounds)


def _stored(value: Tensor, dtype: Dtype, *, rounds: bool) -> Tensor:
    """Hold a value as its MIL dtype does."""
    if dtype.name == "float16" and rounds:
        return value.to(torch.float16).to(torch.float32)
    return value.to(RUN_DTYPES[dtype.name])


def _exported(value: Tensor, dtype: Dtype) -> NDArray[Any]:
    array: NDArray[Any] = value.numpy().astype(dtype.storage)
    return array
