"""A ``.tflite`` file's operators, grids and constants, in the words all formats share."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any, Final

import numpy as np

from converters.tflite.flatbuffer import dtype_name, main_graph, op_name, tensor_name
from lspdmobile.operators import Grid, Operator, StoredBytes, Value

__all__ = ["constants", "grids", "main_operators"]

_LONGEST_PARAMETER: Final = 32


def main_operators(model: Any) -> tuple[Operator, ...]:
    """Give the operators of the subgraph that runs, in its order, those that only unpack constants among them."""
    graph = main_graph(model)
    names = _names(graph)
    held = {i: "" for i, tensor in enumerate(graph.tensors) if model.buffers[tensor.buffer].data is not None}
    seen: Counter[str] = Counter()
    found: list[Operator] = []
    for operator in graph.operators:
        kind = op_name(model, operator)
        read = [int(i) for i in (operator.inputs if operator.inputs is not None else []) if i >= 0]
        made = [int(i) for i in operator.outputs]
        if read and held.keys() >= set(read):
            held.update(dict.fromkeys(made, held[read[0]] or dtype_name(graph.tensors[read[0]])))
        inputs, outputs = (tuple(_value(graph, i, names[i], held) for i in each) for each in (read, made))
        name = f"{kind} {outputs[0].name}" if outputs else kind
        seen[name] += 1
        found.append(
            Operator(
                name=name if seen[name] == 1 else f"{name} #{seen[name]}",
                kind=kind,
                inputs=inputs,
                outputs=outputs,
                macs=_macs(kind, inputs, outputs, operator.builtinOptions),
                attributes=_parameters(model, graph, read)
                | {
                    key: value
                    for key, value in (vars(operator.builtinOptions) if operator.builtinOptions else {}).items()
                    if isinstance(value, int | float)
                },
            )
        )
    return tuple(found)


def grids(model: Any) -> tuple[Grid, ...]:
    """Give the grid of every tensor that has one, over all subgraphs."""
    return tuple(
        Grid(
            tensor=tensor_name(tensor),
            dtype=dtype_name(tensor),
            scales=tuple(float(scale) for scale in tensor.quantization.scale),
            zero_points=tuple(int(point) for point in _list(tensor.quantization.zeroPoint)),
            axis=int(tensor.quantization.quantizedDimension) if len(tensor.quantization.scale) > 1 else None,
            constant=model.buffers[tensor.buffer].data is not None,
        )
        for graph in model.subgraphs
        for tensor in graph.tensors
        if tensor.quantization is not None and len(_list(tensor.quantization.scale))
    )


def constants(model: Any) -> Iterator[StoredBytes]:
    """Yield every stored constant, a buffer that several tensors share once."""
    seen: set[int] = set()
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            data = model.buffers[tensor.buffer].data
            if data is not None and tensor.buffer not in seen:
                seen.add(tensor.buffer)
                yield StoredBytes(name=tensor_name(tensor), dtype=dtype_name(tensor), content=bytes(data))


def _parameters(model: Any, graph: Any, read: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Give short int32 operands, such as the steps of a slice, as ``input3``."""
    found: dict[str, tuple[int, ...]] = {}
    for position, index in enumerate(read):
        data = model.buffers[graph.tensors[index].buffer].data
        if data is not None and dtype_name(graph.tensors[index]) == "int32" and len(data) <= _LONGEST_PARAMETER:
            found[f"input{position}"] = tuple(np.frombuffer(bytes(data), "<i4").tolist())
    return found


def _names(graph: Any) -> tuple[str, ...]:
    told = [tensor_name(tensor) for tensor in graph.tensors]
    often = Counter(told)
    return tuple(name if name and often[name] == 1 else f"{name}#{i}" for i, name in enumerate(told))


def _value(graph: Any, index: int, name: str, held: Mapping[int, str]) -> Value:
    tensor = graph.tensors[index]
    signature = _list(tensor.shapeSignature) or _list(tensor.shape)
    return Value(
        name=name,
        shape=tuple(map(int, signature)),
        dtype=dtype_name(tensor),
        constant=index in held,
        stored=held.get(index, ""),
    )


def _macs(kind: str, inputs: tuple[Value, ...], outputs: tuple[Value, ...], options: Any) -> int:
    """Count multiply-accumulates; filters are ``[out, rows, columns, in]``, depthwise ``[1, rows, columns, out]``."""
    if len(inputs) < 2 or not outputs:
        return 0
    filters, made = inputs[1].shape, outputs[0].elements
    counts = {
        "CONV_2D": lambda: made * prod(filters[1:]),
        "DEPTHWISE_CONV_2D": lambda: made * prod(filters[1:3]),
        "TRANSPOSE_CONV": lambda: inputs[2].elements * prod(filters[:3]),
        "FULLY_CONNECTED": lambda: made * filters[-1],
        "BATCH_MATMUL": lambda: made * inputs[0].shape[-2 if getattr(options, "adjX", False) else -1],
    }
    return counts[kind]() if kind in counts else 0


def _list(values: Any) -> list[Any]:
    return [] if values is None else list(values)
