"""From a program as read to steps that run: everything that can be checked or worked out once is done here.

What depends on constants alone is worked out too, so that a shape which the program computes for itself is as good as
one that is written down.
"""

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
    ops_create,
    ops_crop_resize,
    ops_elementwise,
    ops_gather,
    ops_linear,
    ops_normalization,
    ops_pooling,
    ops_quantize,
    ops_reduce,
    ops_resize,
    ops_sample,
    ops_scatter,
    ops_shape,
    ops_slice,
    ops_sort,
    ops_space,
)
from converters.coreml.mil.arguments import Arguments, Kernel, Planner
from converters.coreml.mil.batching import keeps_entries_apart, stacks
from converters.coreml.mil.constants import Constant, TensorType
from converters.coreml.mil.package import Operation, Program
from converters.coreml.mil.steps import RUN_DTYPES, Step, exported, fits, run_step
from lspdmobile.errors import ConversionError

__all__ = ["PLANNERS", "Plan", "constants_of", "plan_program"]

PLANNERS: Final[Mapping[str, Planner]] = {
    **ops_activation.PLANNERS,
    **ops_conv.PLANNERS,
    **ops_create.PLANNERS,
    **ops_crop_resize.PLANNERS,
    **ops_elementwise.PLANNERS,
    **ops_gather.PLANNERS,
    **ops_linear.PLANNERS,
    **ops_normalization.PLANNERS,
    **ops_pooling.PLANNERS,
    **ops_quantize.PLANNERS,
    **ops_reduce.PLANNERS,
    **ops_resize.PLANNERS,
    **ops_sample.PLANNERS,
    **ops_scatter.PLANNERS,
    **ops_shape.PLANNERS,
    **ops_slice.PLANNERS,
    **ops_sort.PLANNERS,
    **ops_space.PLANNERS,
}
"""Every operation that is implemented, by its MIL name; compressed constants are in ``ops_constexpr``."""

_MOVES_ONLY: Final = frozenset(
    {
        *ops_gather.PLANNERS,
        *ops_shape.PLANNERS,
        *ops_slice.PLANNERS,
        *ops_sort.PLANNERS,
        *ops_space.PLANNERS,
        *("relu", "relu6", "identity", "abs", "maximum", "minimum", "select", "max_pool", "reduce_max", "reduce_min"),
        *("upsample_nearest_neighbor", "resize_nearest_neighbor", "fill", "fill_like", "one_hot", "band_part"),
    }
)
"""Operations whose results are values they were given (or their negatives, or 0 or 6): nothing to round."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A program that is ready to run.

    Attributes:
        steps: In execution order.
        types: Of every input and computed value, by name.
        known: Computed values that need no input, and outputs that are constants.
        takes_batches: Whether several entries stacked along the first axis go through as each would by itself.
    """

    steps: tuple[Step, ...]
    types: Mapping[str, TensorType]
    known: Mapping[str, Tensor]
    takes_batches: bool


def plan_program(program: Program) -> Plan:
    """Check every operation and prepare it.

    Raises:
        ConversionError: An operation, attribute or dtype is not implemented; the message names it.
    """
    return _Planning(program).plan()


def constants_of(program: Program) -> dict[str, Constant]:
    """Give every value of a program that needs no input, by name: compressed weights are unpacked.

    Raises:
        ConversionError: An operation, attribute or dtype is not implemented; the message names it.
    """
    planning = _Planning(program)
    planning.plan()
    return planning.constants


class _Planning:
    def __init__(self, program: Program) -> None:
        self._program = program
        self._types: dict[str, TensorType] = {value.name: value.type for value in program.inputs}
        self.constants: dict[str, Constant] = {}
        self._tensors: dict[str, Tensor] = {}
        self._worked_out: set[str] = set()
        self._takes_batches = not program.images and all(stacks(value.type) for value in program.inputs)

    def plan(self) -> Plan:
        kernels: list[tuple[Operation, Kernel]] = []
        for operation in self._program.operations:
            self._check_order(operation)
            args = Arguments(operation, self.constants, self._types)
            try:
                kernel = self._kernel(operation, args)
            except (RuntimeError, ValueError, IndexError, TypeError) as error:
                message = f"{operation.label}: its attributes do not go together: {error}"
                raise ConversionError(message) from error
            self._types.update((value.name, value.type) for value in operation.outputs)
            if kernel is not None and all(self._is_constant(bound) for bound in kernel.operands):
                self._work_out(operation, kernel)
            elif kernel is not None:
                self._takes_batches = self._takes_batches and keeps_entries_apart(args, kernel)
                kernels.append((operation, kernel))
        known = self._known()
        types = {name: kind for name, kind in self._types.items() if name in known or name not in self.constants}
        return Plan(steps=self._steps(kernels), types=types, known=known, takes_batches=self._takes_batches)

    def _kernel(self, operation: Operation, args: Arguments) -> Kernel | None:
        """Give what runs the operation, or None for a constant, which is kept."""
        kernel: Kernel | None = None
        if operation.kind == "const" or operation.kind in ops_constexpr.UNPACKERS:
            constants = _constants(operation, args)
            self.constants.update(zip((value.name for value in operation.outputs), constants, strict=True))
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

    def _is_constant(self, bound: str | Constant) -> bool:
        return isinstance(bound, Constant) or bound in self.constants

    def _work_out(self, operation: Operation, kernel: Kernel) -> None:
        """Run an operation on constants; its results are constants from here on."""
        step = self._step(operation, kernel, frees=())
        with torch.inference_mode():
            results = run_step(step, [operand for operand in step.operands if isinstance(operand, Tensor)])
        for value, result in zip(operation.outputs, results, strict=True):
            kind = TensorType(dtype=value.type.dtype, shape=tuple(result.shape))
            array = exported(result, kind.dtype)
            self.constants[value.name] = Constant(type=kind, value=array, stored_bytes=0)
            self._tensors[value.name] = result
            self._types[value.name] = kind
            self._worked_out.add(value.name)

    def _known(self) -> dict[str, Tensor]:
        outputs = [value for value in self._program.outputs if value.name in self.constants]
        for value in outputs:
            if value.name not in self._tensors:
                self._tensors[value.name] = _tensor(self.constants[value.name], f"output {value.name!r}")
        return {name: self._tensors[name] for name in (*self._worked_out, *(value.name for value in outputs))}

    def _steps(self, kernels: list[tuple[Operation, Kernel]]) -> tuple[Step, ...]:
        last_use: dict[str, int] = {}
        for index, (operation, kernel) in enumerate(kernels):
            last_use.update((value.name, index) for value in operation.outputs)
            last_use.update((bound, index) for bound in kernel.operands if isinstance(bound, str))
        ends: dict[int, list[str]] = {}
        for name, index in last_use.items():
            if name not in self.constants:
                ends.setdefault(index, []).append(name)
        return tuple(
            self._step(operation, kernel, frees=tuple(ends.get(index, ())))
            for index, (operation, kernel) in enumerate(kernels)
        )

    def _step(self, operation: Operation, kernel: Kernel, *, frees: tuple[str, ...]) -> Step:
        return Step(
            label=operation.label,
            kernel=kernel,
            operands=tuple(self._operand(bound, operation) for bound in kernel.operands),
            outputs=operation.outputs,
            rounds=operation.kind not in _MOVES_ONLY,
            frees=frees,
        )

    def _operand(self, bound: str | Constant, operation: Operation) -> str | Tensor:
        if isinstance(bound, Constant):
            return _tensor(bound, operation.label)
        if bound not in self.constants:
            return bound
        if bound not in self._tensors:
            self._tensors[bound] = _tensor(self.constants[bound], operation.label)
        return self._tensors[bound]


def _constants(operation: Operation, args: Arguments) -> tuple[Constant, ...]:
    if operation.kind == "const":
        constant = args.constant("val")
        if constant.type != operation.outputs[0].type:
            message = f"{operation.label}: holds {constant.type} where the file states {operation.outputs[0].type}"
            raise ConversionError(message)
        return (constant,)
    unpacked = ops_constexpr.UNPACKERS[operation.kind](args)
    if len(unpacked) != len(operation.outputs):
        message = f"{operation.label}: gives {len(unpacked)} values, not {len(operation.outputs)}"
        raise ConversionError(message)
    constants = []
    for value, array in zip(operation.outputs, unpacked, strict=True):
        if not fits(array.shape, value.type) or value.type.dtype.storage is None:
            message = f"{operation.label}: gives {list(array.shape)} where the file states {value.type}"
            raise ConversionError(message)
        constants.append(Constant(type=value.type, value=array.astype(value.type.dtype.storage), stored_bytes=0))
    return tuple(constants)


def _check_dtypes(operation: Operation) -> None:
    for value in operation.outputs:
        if value.type.dtype.name not in RUN_DTYPES:
            message = f"{operation.label}: dtype {value.type.dtype.name} is not implemented"
            raise ConversionError(message)


def _tensor(constant: Constant, where: str) -> Tensor:
    dtype = constant.type.dtype
    if isinstance(constant.value, str) or dtype.name not in RUN_DTYPES:
        message = f"{where}: an operand of dtype {dtype.name} is not implemented"
        raise ConversionError(message)
    wider = {"float16": np.float32, "uint16": np.int32, "uint32": np.int64}
    return torch.from_numpy(np.array(constant.value, dtype=wider.get(dtype.name)))
