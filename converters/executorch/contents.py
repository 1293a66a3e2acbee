"""A ``.pte`` file's operators, grids and constants, in the words all formats share.

Operators are given in the order of execution: those of a delegate blob stand where the program calls the delegate.
"""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, Final

from converters.executorch.program import XNNPACK, XnnGraph, XnnNode, XnnValue
from lspdmobile.operators import Grid, Operator, StoredBytes, Value

__all__ = [
    "XNN_PREFIX",
    "call_of",
    "constants",
    "dtype_of",
    "grids",
    "held_tensor",
    "is_external",
    "kernel_name",
    "operators",
    "xnn_name",
]

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
    "UINT16": ("uint16", 2),
    "UINT32": ("uint32", 4),
    "UINT64": ("uint64", 8),
    "COMPLEX32": ("complex32", 4),
    "COMPLEX64": ("complex64", 8),
    "COMPLEX128": ("complex128", 16),
}
_KNOWN: Final = ("aten::", "prim::", "executorch_prim::", "dim_order_ops::", "quantized_decomposed::")
"""Whose operators multiply only where :func:`_kernel_macs` counts it, or are counted below as unknown."""
_UNCOUNTED: Final = ("attention", "lstm", "gru", "rnn", "einsum", "conv3d", "cdist", "addbmm", "baddbmm", "addmv")
_TRANSPOSED: Final = 6
"""Which argument of ``aten::convolution`` says whether it is transposed."""


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
    for number, instruction in enumerate(each for chain in plan.chains for each in chain.instructions):
        call, operator = call_of(plan, instruction)
        if getattr(call, "delegate_index", None) in numbers:
            blob = numbers.index(call.delegate_index)
            found += _inside(graphs[blob], blob, len(graphs), call.args)
        elif hasattr(call, "delegate_index"):
            kind = f"delegate::{plan.delegates[call.delegate_index].id}"
            found.append(_called(plan, kind, call.args, number))
        elif operator is not None:
            found.append(_called(plan, kernel_name(operator), call.args, number))
    return tuple(found)


def call_of(plan: Any, instruction: Any) -> tuple[Any, Any | None]:
    """Give what an instruction calls with, and the operator it calls; None for delegates, jumps and moves."""
    call = instruction.instr_args
    return call, plan.operators[call.op_index] if hasattr(call, "op_index") else None


def kernel_name(operator: Any) -> str:
    """Name an operator with its overload, such as ``aten::add.out``."""
    return f"{operator.name}.{operator.overload}" if operator.overload else str(operator.name)


def held_tensor(value: Any) -> bool:
    """Tell whether a program's value is a constant that the file holds."""
    stored = bool(getattr(value, "data_buffer_idx", 0)) and value.allocation_info is None
    return stored and not is_external(value)


def is_external(value: Any) -> bool:
    """Tell whether a program's value is a constant that another file holds."""
    told = getattr(value, "extra_tensor_info", None)
    return told is not None and told.location.name == "EXTERNAL" and value.allocation_info is None


def grids(graphs: Sequence[XnnGraph]) -> tuple[Grid, ...]:
    """Give the grid of every quantized tensor inside XNNPACK's blobs; programs have none outside of them."""
    return tuple(
        Grid(
            tensor=_inner_name(blob, value),
            dtype=value.dtype,
            scales=value.scales or ((value.scale,) if value.scale is not None else ()),
            zero_points=(value.zero_point or 0,) if value.scale is not None else (0,) * len(value.scales),
            axis=value.channel_axis if value.scales and not value.group_size else None,
            constant=bool(value.constant_bytes),
            block=_block(value),
        )
        for blob, graph in enumerate(graphs)
        for value in graph.values
        if value.scale is not None or value.scales
    )


def _block(value: XnnValue) -> tuple[int, ...]:
    """Groups of an XNNPACK weight lie along its last axis."""
    return (*(1,) * (len(value.shape) - 1), value.group_size) if value.group_size else ()


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
            constant=held_tensor(tensor) or is_external(tensor),
        )
        for index, tensor in tensors
    ]
    made = values[-1:]  # out variants are handed their result as an argument too
    read = [value for value in values[:-1] if value not in made]
    return Operator(
        name=f"{kind} {number}",
        kind=kind,
        inputs=tuple(read),
        outputs=tuple(made),
        macs=_kernel_macs(plan, kind, read, made, arguments),
        counted=kind.startswith(_KNOWN) and not any(word in kind for word in _UNCOUNTED),
    )


def _kernel_macs(plan: Any, kind: str, read: Sequence[Value], made: Sequence[Value], arguments: Sequence[int]) -> int:
    """Count multiply-accumulates of ATen's convolution and matrix products."""
    if len(read) < 2 or not made:
        return 0
    word, elements = kind.removeprefix("aten::").split(".")[0], made[-1].elements
    if word == "convolution":
        flag = plan.values[arguments[_TRANSPOSED]].val if len(arguments) > _TRANSPOSED else None
        transposed = bool(getattr(flag, "bool_val", False))
        return (read[0].elements if transposed else elements) * prod(read[1].shape[1:])
    depths = {"mm": read[0], "bmm": read[0], "linear": read[0], "addmm": read[min(1, len(read) - 1)]}
    return elements * depths[word].shape[-1] if word in depths and depths[word].shape else 0


def _outer_name(index: int) -> str:
    return f"value {index}"
