"""From a program as read to steps that run: everything that can be checked or worked out once is done here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from converters.coreml.mil import (
    ops_activation,
    ops_constexpr,
    ops_conv,
    ops_elementwise,
    ops_pooling,
    ops_quantize,
    ops_reduce,
    ops_resize,
    ops_shape,
)
from converters.coreml.mil.arguments import Arguments, Kernel, Planner
from converters.coreml.mil.constants import Constant, TensorType
from converters.coreml.mil.package import NamedType, Operation, Program
from lspdmobile.errors import ConversionError

__all__ = ["PLANNERS", "RUN_DTYPES", "Plan", "Step", "fits", "plan_program"]

PLANNERS: Final[Mapping[str, Planner]] = {
    **ops_activation.PLANNERS,
    **ops_conv.PLANNERS,
    **ops_elementwise.PLANNERS,
    **ops_pooling.PLANNERS,
    **ops_quantize.PLANNERS,
    **ops_reduce.PLANNERS,
    **ops_resize.PLANNERS,
    **ops_shape.PLANNERS,
}
"""Every operation that is implemented, by its MIL name; compressed constants are in ``ops_constexpr``."""

RUN_DTYPES: Final[Mapping[str, torch.dtype]] = {
    "bool": torch.bool,
    "float16": torch.float32,
    "float32": torch.float32,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "int16": torch.int16,
    "uint16": torch.int32,
    "int32": torch.int32,
}
"""The torch type that holds a value of each MIL dtype; float16 values are held, rounded, in float32."""

_MOVES_ONLY: Final = frozenset(ops_shape.PLANNERS) | {
    *("relu", "relu6", "identity", "abs", "maximum", "minimum", "select", "max_pool", "reduce_max", "reduce_min"),
    *("upsample_nearest_neighbor", "resize_nearest_neighbor"),
}
"""Operations whose results are values they were given (or their negatives, or 0 or 6): nothing to round."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One planned operation.

    Attributes:
        label: Its kind and first output, for messages.
        kernel: What runs it.
        operands: Names of values, or tensors of constants.
        outputs: Values it makes.
        rounds: Whether float16 results need rounding.
        frees: Values no later step needs.
    """

    label: str
    kernel: Kernel
    operands: tuple[str | Tensor, ...]
    outputs: tuple[NamedType, ...]
    rounds: bool
    frees: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A program that is ready to run.

    Attributes:
        steps: In execution order.
        types: Of every input and computed value, by name.
    """

    steps: tuple[Step, ...]
    types: Mapping[str, TensorType]


def plan_program(program: Program) -> Plan:
    """Check every operation and prepare it.

    Raises:
        ConversionError: An operation, attribute or dtype is not implemented; the message names it.
    """
    return _Planning(program).plan()


def fits(shape: tuple[int, ...], kind: TensorType) -> bool:
    """Whether a shape agrees with the lengths a type fixes."""
    return len(shape) == len(kind.shape) and all(
        stated in (None, size) for size, stated in zip(shape, kind.shape, strict=True)
    )


class _Planning:
    def __init__(self, program: Program) -> None:
        self._program = program
        self._types: dict[str, TensorType] = {value.name: value.type for value in program.inputs}
        self._constants: dict[str, Constant] = {}
        self._tensors: dict[str, Tensor] = {}

    def plan(self) -> Plan:
        kernels: list[tuple[Operation, Kernel]] = []
        for operation in self._program.operations:
            self._check_order(operation)
            try:
                kernel = self._kernel(operation)
            except (RuntimeError, ValueError, IndexError, TypeError) as error:
                message = f"{operation.label}: its attributes do not go together: {error}"
                raise ConversionError(message) from error
            if kernel is not None:
                kernels.append((operation, kernel))
            self._types.update((value.name, value.type) for value in operation.outputs)
        types = {name: kind for name, kind in self._types.items() if name not in self._constants}
        return Plan(steps=self._steps(kernels), types=types)

    def _kernel(self, operation: Operation) -> Kernel | None:
        """Give what runs the operation, or None for a constant, which is kept."""
        args = Arguments(operation, self._constants, self._types)
        kernel: Kernel | None = None
        if operation.kind == "const" or operation.kind in ops_constexpr.UNPACKERS:
            self._constants[operation.outputs[0].name] = _constant(operation, args)
        elif operation.kind in PLANNERS:
            _check_dtypes(operation)
            kernel = PLANNERS[operation.kind](args)
        else:
            message = f"{operation.label}: operation {operation.kind!r} is not implemented by the MIL executor"
            raise ConversionError(message)
        args.require_all_read()
        return kernel

    def _check_order(self, operation: Operation) -> None:
        for bound in (bound for bounds in operation.inputs.values() for bound in bounds):
            if isinstance(bound, str) and bound not in self._types:
                message = f"{operation.label}: uses {bound!r}, which no earlier operation makes"
                raise ConversionError(message)

    def _steps(self, kernels: list[tuple[Operation, Kernel]]) -> tuple[Step, ...]:
        last_use: dict[str, int] = {}
        for index, (operation, kernel) in enumerate(kernels):
            last_use.update((value.name, index) for value in operation.outputs)
            last_use.update((bound, index) for bound in kernel.operands if isinstance(bound, str))
        ends: dict[int, list[str]] = {}
        for name, index in last_use.items():
            if name not in self._constants:
                ends.setdefault(index, []).append(name)
        return tuple(
            Step(
                label=operation.label,
                kernel=kernel,
                operands=tuple(self._operand(bound, operation) for bound in kernel.operands),
                outputs=operation.outputs,
                rounds=operation.kind not in _MOVES_ONLY,
                frees=tuple(ends.get(index, ())),
            )
            for index, (operation, kernel) in enumerate(kernels)
        )

    def _operand(self, bound: str | Constant, operation: Operation) -> str | Tensor:
        if isinstance(bound, Constant):
            return _tensor(bound, operation)
        if bound not in self._constants:
            return bound
        if bound not in self._tensors:
            self._tensors[bound] = _tensor(self._constants[bound], operation)
        return self._tensors[bound]


def _constant(operation: Operation, args: Arguments) -> Constant:
    output = operation.outputs[0].type
    if operation.kind == "const":
        constant = args.constant("val")
        if constant.type != output:
            message = f"{operation.label}: holds {constant.type} where the file states {output}"
            raise ConversionError(message)
        return constant
    unpacked = ops_constexpr.UNPACKERS[operation.kind](args)
    if not fits(unpacked.shape, output) or output.dtype.storage is None:
        message = f"{operation.label}: gives {list(unpacked.shape)} where the file states {output}"
        raise ConversionError(message)
    return Constant(type=output, value=unpacked.astype(output.dtype.storage), stored_bytes=0)


def _check_dtypes(operation: Operation) -> None:
    for value in operation.outputs:
        if value.type.dtype.name not in RUN_DTYPES:
            message = f"{operation.label}: dtype {value.type.dtype.name} is not implemented"
            raise ConversionError(message)


def _tensor(constant: Constant, operation: Operation) -> Tensor:
    dtype = constant.type.dtype
    if isinstance(constant.value, str) or dtype.name not in RUN_DTYPES:
        message = f"{operation.label}: an operand of dtype {dtype.name} is not implemented"
        raise ConversionError(message)
    array = constant.value
    if dtype.name in ("float16", "uint16"):
        array = array.astype(np.float32 if dtype.is_float else np.int32)
    return torch.from_numpy(np.array(array))
