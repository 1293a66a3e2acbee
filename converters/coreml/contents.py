"""An ML Program's operators, grids and constants, in the words all formats share."""

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from math import prod
from typing import Any, Final

import numpy as np

from converters.coreml.mil.constants import Constant, TensorType
from converters.coreml.mil.package import Operation, Program
from converters.layer_bytes import Reading, StoredConstant
from lspdmobile.operators import Grid, Operator, StoredBytes, Value

__all__ = [
    "bound_constants",
    "constants",
    "contents",
    "flexible_shape",
    "grids",
    "is_weight",
    "operators",
    "readings",
]

_FLEXIBLE: Final = -1
_PARAMETER_DTYPES: Final = ("bool", "string", "int32", "int64", "uint32")
_FIRST: Final = ("x", "weight")
_LONGEST_OPTION: Final = 12
_UNCOUNTED: Final = (
    "custom_layer",
    "einsum",
    "gru",
    "lstm",
    "rnn",
    "scaled_dot_product_attention",
)
"""Operations that multiply and are not counted."""
_GRIDS: Final = {
    "quantize": ("output", "scale", "zero_point"),
    "dequantize": ("input", "scale", "zero_point"),
    "constexpr_affine_dequantize": ("quantized_data", "scale", "zero_point"),
    "constexpr_blockwise_shift_scale": ("data", "scale", "offset"),
}
"""Kind to the tensor the grid is of, and the parameters that hold scale and zero point."""


def operators(program: Program) -> tuple[Operator, ...]:
    """Give the operations that compute something while the program runs, in execution order.

    What only unpacks constants (``constexpr_…``) is done when a model is loaded, and is left out.
    """
    reader = _Reader(program)
    return tuple(reader.operator(operation) for operation in program.operations if not reader.is_constant(operation))


def grids(program: Program) -> tuple[Grid, ...]:
    """Give the grid of every tensor that is quantized, each once."""
    reader = _Reader(program)
    found: dict[str, Grid] = {}
    for operation in program.operations:
        if operation.kind in _GRIDS:
            grid = reader.grid(operation, *_GRIDS[operation.kind])
            found.setdefault(grid.tensor, grid)
    return tuple(found.values())


def constants(*programs: Program) -> Iterator[StoredBytes]:
    """Yield every stored weight, a record of the weight file that several operations or functions read once."""
    seen: set[str] = set()
    for operation in (operation for program in programs for operation in program.operations):
        for constant in bound_constants(operation):
            if is_weight(constant) and constant.record not in seen:
                seen.update({constant.record} - {""})
                content = np.asarray(constant.value).tobytes()
                name, kind = operation.outputs[0].name, constant.type.dtype.name
                yield StoredBytes(name=name, dtype=kind, content=content, size_bytes=constant.stored_bytes)


def contents(*programs: Program) -> tuple[Counter[str], Counter[str]]:
    """Count operations by kind, without constants, and weight bytes by the dtype they are stored in, each once."""
    kinds: Counter[str] = Counter()
    weights: Counter[str] = Counter()
    seen: set[Hashable] = set()
    for operation in (operation for program in programs for operation in program.operations):
        if operation.kind != "const":
            kinds[operation.kind] += 1
        for constant in _weights(operation):
            if _key(constant) not in seen:
                seen.add(_key(constant))
                weights[constant.type.dtype.name] += constant.stored_bytes
    return kinds, weights


def readings(program: Program, prefix: str = "") -> Iterator[Reading]:
    """Say which values and constants each operation reads; ``prefix`` tells a function's operations from others."""
    for operation in program.operations:
        yield Reading(
            name=prefix + operation.label,
            inputs=[prefix + b for bounds in operation.inputs.values() for b in bounds if isinstance(b, str)],
            outputs=[prefix + made.name for made in operation.outputs],
            constants=[
                StoredConstant(key=_key(each), dtype=each.type.dtype.name, size_bytes=each.stored_bytes)
                for each in _weights(operation)
            ],
        )


def _weights(operation: Operation) -> Iterator[Constant]:
    return filter(is_weight, bound_constants(operation))


def _key(constant: Constant) -> Hashable:
    """Tell a constant from others: by its place in the weight file, which several may read."""
    return constant.record or id(constant)


def is_weight(constant: Constant) -> bool:
    """Tell weights from parameters such as strides."""
    return bool(constant.type.shape) and constant.type.dtype.name not in _PARAMETER_DTYPES


def flexible_shape(kind: TensorType) -> tuple[int, ...]:
    """Give a shape with -1 for lengths that are not fixed."""
    return tuple(_FLEXIBLE if size is None else size for size in kind.shape)


def bound_constants(operation: Operation) -> Iterator[Constant]:
    """Yield the constants written in place of an operation's parameters."""
    for bound in (bound for bounds in operation.inputs.values() for bound in bounds):
        if isinstance(bound, Constant):
            yield bound


class _Reader:
    """Looks names up.

    Args:
        program: Whose operations are read.
    """

    def __init__(self, program: Program) -> None:
        self._types = {value.name: value.type for value in (*program.inputs, *program.inner)}
        self._held: dict[str, Constant | None] = {}
        self._stored: dict[str, str] = {}
        for operation in program.operations:
            self._types.update({made.name: made.type for made in operation.outputs})
            if self.is_constant(operation):
                value = next(bound_constants(operation), None) if operation.kind == "const" else None
                self._held.update(dict.fromkeys((made.name for made in operation.outputs), value))
                self._stored.update(dict.fromkeys((made.name for made in operation.outputs), self._dtype(operation)))

    def is_constant(self, operation: Operation) -> bool:
        """Tell whether an operation reads nothing that is computed."""
        names = [bound for bounds in operation.inputs.values() for bound in bounds if isinstance(bound, str)]
        return all(name in self._held for name in names)

    def operator(self, operation: Operation) -> Operator:
        """Describe an operation, its data and its weights first."""
        first = [name for name in _FIRST if name in operation.inputs]
        order = [*first, *(name for name in operation.inputs if name not in _FIRST)]
        inputs = tuple(self._value(bound, name) for name in order for bound in operation.inputs[name])
        outputs = tuple(
            Value(name=made.name, shape=flexible_shape(made.type), dtype=made.type.dtype.name)
            for made in operation.outputs
        )
        options = {name: self._option(operation, name) for name in operation.inputs}
        told = {name: value for name, value in options.items() if value is not None}
        return Operator(
            name=operation.label,
            kind=operation.kind,
            inputs=inputs,
            outputs=outputs,
            macs=_macs(operation.kind, inputs, outputs, told),
            attributes=told,
            counted=operation.kind not in _UNCOUNTED,
        )

    def grid(self, operation: Operation, tensor: str, scale: str, zero_point: str) -> Grid:
        """Read a grid from an operation's parameters."""
        scales, points = (self._numbers(operation, name) for name in (scale, zero_point))
        bound = operation.inputs.get(tensor, ("",))[0]
        name = operation.outputs[0].name if tensor == "output" or isinstance(bound, Constant) else str(bound)
        kind = bound.type if isinstance(bound, Constant) else self._types[name]
        axis, block = self._spread(operation, scale, kind)
        return Grid(
            tensor=name,
            dtype=kind.dtype.name,
            scales=tuple(scales),
            zero_points=tuple(int(point) for point in points) or (0,),
            axis=axis,
            constant=isinstance(bound, Constant) or name in self._held,
            block=block,
        )

    def _spread(self, operation: Operation, scale: str, kind: TensorType) -> tuple[int | None, tuple[int, ...]]:
        """Tell along which axis the scales of a grid go, or which blocks of the tensor share one."""
        scales = self._constant(operation, scale)
        counts = scales.type.shape if scales is not None else ()
        if not counts or prod(size or 1 for size in counts) == 1:
            return None, ()
        if len(counts) != len(kind.shape) or len(counts) == 1:
            axis = self._option(operation, "axis")
            return int(axis) if axis is not None else 0, ()
        spread = [axis for axis, count in enumerate(counts) if count != 1]
        if len(spread) == 1 and counts[spread[0]] == kind.shape[spread[0]]:
            return spread[0], ()
        return None, tuple((size or 1) // (count or 1) for size, count in zip(kind.shape, counts, strict=True))

    def _value(self, bound: str | Constant, parameter: str) -> Value:
        if isinstance(bound, Constant):
            kind, name = bound.type, parameter
        else:
            kind, name = self._types[bound], bound
        constant = isinstance(bound, Constant) or bound in self._held
        stored = self._stored.get(name, "") if constant else ""
        return Value(name=name, shape=flexible_shape(kind), dtype=kind.dtype.name, constant=constant, stored=stored)

    def _dtype(self, operation: Operation) -> str:
        """Give the dtype that the largest of the constants behind an unpacking operation is stored in."""
        own = [(constant.stored_bytes, constant.type.dtype.name) for constant in bound_constants(operation)]
        named = (bound for bounds in operation.inputs.values() for bound in bounds if isinstance(bound, str))
        behind = ((value.stored_bytes, value.type.dtype.name) for name in named if (value := self._held.get(name)))
        return max([*own, *behind], default=(0, ""))[1]

    def _constant(self, operation: Operation, parameter: str) -> Constant | None:
        bound = next(iter(operation.inputs.get(parameter, ())), None)
        return bound if isinstance(bound, Constant) else self._held.get(bound or "")

    def _numbers(self, operation: Operation, parameter: str) -> list[float]:
        constant = self._constant(operation, parameter)
        return [] if constant is None else [float(value) for value in np.asarray(constant.value).reshape(-1)]

    def _option(self, operation: Operation, parameter: str) -> Any:
        """Give a short constant as plain Python, None for all else."""
        constant = self._constant(operation, parameter)
        if constant is None or isinstance(constant.value, str):
            return constant and constant.value
        return constant.value.tolist() if constant.value.size <= _LONGEST_OPTION else None


def _macs(kind: str, inputs: tuple[Value, ...], outputs: tuple[Value, ...], options: Mapping[str, Any]) -> int:
    """Count multiply-accumulates: filters are ``[out, in, …]``, of transposed convolutions ``[in, out, …]``."""
    if len(inputs) < 2:
        return 0
    counts = {
        "conv": lambda: outputs[0].elements * prod(inputs[1].shape[1:]),
        "conv_transpose": lambda: inputs[0].elements * prod(inputs[1].shape[1:]),
        "linear": lambda: outputs[0].elements * inputs[1].shape[-1],
        "matmul": lambda: outputs[0].elements * inputs[0].shape[-2 if options.get("transpose_x") else -1],
    }
    return counts[kind]() if kind in counts else 0
