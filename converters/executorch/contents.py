"""A ``.pte`` file's operators, grids and constants, in the words all formats share.

Operators are given in the order of execution: those of a delegate blob stand where the program calls the delegate.
"""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, Final

from converters.executorch.program import XNNPACK, XnnGraph, XnnNode, XnnValue
from lspdmobile.operators import Grid, Operator, StoredBytes, Value

__all__ = ["XNN_PREFIX", "constants", "dtype_of", "grids", "operators", "xnn_name"]

XNN_PREFIX: Final = "xnnpack::"

_DTYPES: Final = {
    "BYTE": ("uint8", 1),
    "CHAR": ("int8", 1),
    "SHORT": ("int16", 2),
    "INT": ("int32", 4),
    "LONG": ("int64", 8),
    "HALF": ("float16", 2),
    "FLOAT": ("float32", 4),
    "DOUBLE": ("float64", 8),
    "BOOL": ("bool", 1),
    "BFLOAT16": ("bfloat16", 2),
}


def dtype_of(tensor: Any) -> tuple[str, int]:
    """Give name and element bytes of a program's tensor."""
    name = tensor.scalar_type.name
    return _DTYPES.get(name, (name.lower(), 1))


def xnn_name(node: XnnNode, blob: int, number: int, blobs: int) -> str:
    """Name an operator inside an XNNPACK blob; the file has no names for them."""
    return f"{node.kind} {blob}.{number}" if blobs > 1 else f"{node.kind} {number}"


def operators(plan: Any, graphs: Sequence[XnnGraph]) -> tuple[Operator, ...]:
    """Give the operators of a plan and of the XNNPACK blobs it calls; any other blob is one operator.

    Args:
        plan: Of the main method.
        graphs: Of its XNNPACK blobs, in the order of the plan's delegates; of none, they are one operator each too.
    """
    numbers = [i for i, delegate in enumerate(plan.delegates) if delegate.id == XNNPACK][: len(graphs)]
    found: list[Operator] = []
    for chain in plan.chains:
        for instruction in chain.instructions:
            call = instruction.instr_args
            if getattr(call, "delegate_index", None) in numbers:
                blob = numbers.index(call.delegate_index)
                found += _inside(graphs[blob], blob, len(graphs), call.args)
            elif hasattr(call, "delegate_index"):
                kind = f"delegate::{plan.delegates[call.delegate_index].id}"
                found.append(_called(plan, kind, call.args, len(found)))
            elif hasattr(call, "op_index"):
                operator = plan.operators[call.op_index]
                kind = f"{operator.name}.{operator.overload}" if operator.overload else operator.name
                found.append(_called(plan, kind, call.args, len(found)))
    return tuple(found)


def grids(graphs: Sequence[XnnGraph]) -> tuple[Grid, ...]:
    """Give the grid of every quantized tensor inside XNNPACK's blobs; programs have none outside of them."""
    return tuple(
        Grid(
            tensor=_inner_name(blob, value),
            dtype=value.dtype,
            scales=value.scales or ((value.scale,) if value.scale is not None else ()),
            zero_points=(value.zero_point or 0,) if value.scale is not None else (0,) * len(value.scales),
            axis=value.channel_axis if value.scales else None,
            constant=bool(value.constant_bytes),
        )
        for blob, graph in enumerate(graphs)
        for value in graph.values
        if value.scale is not None or value.scales
    )


def constants(graphs: Sequence[XnnGraph]) -> Iterator[StoredBytes]:
    """Yield the constants of XNNPACK's blobs, what several tensors share once."""
    seen: set[int] = set()
    for blob, graph in enumerate(graphs):
        for value in graph.values:
            if value.constant and id(value.constant) not in seen:
                seen.add(id(value.constant))
                yield StoredBytes(name=_inner_name(blob, value), dtype=value.dtype, content=value.constant)


def _inner_name(blob: int, value: XnnValue) -> str:
    return f"tensor {blob}.{value.number}"


def _inside(graph: XnnGraph, blob: int, blobs: int, arguments: Sequence[int]) -> Iterator[Operator]:
    def shown(value: XnnValue) -> Value:
        outer = value.external is not None and value.external < len(arguments) and not value.constant_bytes
        name = _outer_name(arguments[value.external or 0]) if outer else _inner_name(blob, value)
        return Value(name=name, shape=value.shape, dtype=value.dtype, constant=bool(value.constant_bytes))

    for number, node in enumerate(graph.nodes):
        read = [each for each in (node.input, node.filter, node.bias, *node.more) if each is not None]
        yield Operator(
            name=xnn_name(node, blob, number, blobs),
            kind=XNN_PREFIX + node.kind,
            inputs=tuple(map(shown, read)),
            outputs=(shown(node.output),) if node.output is not None else (),
            macs=_macs(node),
            attributes=node.fields,
        )


def _macs(node: XnnNode) -> int:
    """Count multiply-accumulates of what has a filter, and of matrix products."""
    if node.input is None or node.output is None:
        return 0
    made, told = prod(node.output.shape), node.fields
    taps = told.get("kernel_height", 0) * told.get("kernel_width", 0)
    width = ((node.filter or node.input).shape or (0,))[-1]
    counts = {
        "Conv2d": made * taps * told.get("group_input_channels", 0),
        "DepthwiseConv2d": made * taps * told.get("group_input_channels", 0),
        "ConvTranspose2d": prod(node.input.shape) * taps * told.get("group_output_channels", 0),
        "FullyConnected": made * width,
        "BatchMatrixMultiply": made * width,
    }
    return int(counts.get(node.kind, 0))


def _called(plan: Any, kind: str, arguments: Sequence[int], number: int) -> Operator:
    """Describe a call: tensors it reads come first, the one it writes last."""
    tensors = [(i, plan.values[i].val) for i in arguments if hasattr(plan.values[i].val, "sizes")]
    values = [
        Value(
            name=_outer_name(index),
            shape=tuple(map(int, tensor.sizes)),
            dtype=dtype_of(tensor)[0],
            constant=bool(tensor.data_buffer_idx) and tensor.allocation_info is None,
        )
        for index, tensor in tensors
    ]
    made = values[-1:]  # out variants are handed their result as an argument too
    read = [value for value in values[:-1] if value not in made]
    return Operator(name=f"{kind} {number}", kind=kind, inputs=tuple(read), outputs=tuple(made))


def _outer_name(index: int) -> str:
    return f"value {index}"
