"""A ``.tflite`` file's operators, grids and constants, in the words all formats share."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any, Final

import numpy as np

from converters.tflite.flatbuffer import dtype_name, op_name, shape_of, tensor_name
from lspdmobile.operators import Grid, Operator, StoredBytes, Value

__all__ = ["constants", "graph_operators", "grids"]

_LONGEST_PARAMETER: Final = 32
_UNCOUNTED: Final = (
    "CUSTOM:",
    "IF",
    "WHILE",
    "CALL",
    "LSTM",
    "RNN",
    "SVDF",
    "BIDIRECTIONAL_",
    "UNIDIRECTIONAL_",
    "CONV_3D_TRANSPOSE",
    "STABLEHLO_",
)
"""How the names of operators begin that may multiply and are not counted: what IF and WHILE run is a subgraph."""


def graph_operators(model: Any, graph: Any) -> tuple[Operator, ...]:
    """Give the operators of a subgraph in its order, those that only unpack constants among them."""
    names = _names(graph)
    held = {i: "" for i, tensor in enumerate(graph.tensors) if model.buffers[tensor.buffer].data is not None}
    seen: Counter[str] = Counter()
    found: list[Operator] = []
    for operator in _list(graph.operators):
        kind = op_name(model, operator)
        read = [int(i) for i in _list(operator.inputs) if i >= 0]
        made = [int(i) for i in _list(operator.outputs) if i >= 0]
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
                counted=not kind.startswith(_UNCOUNTED) or kind == "CALL_ONCE",
            )
        )
    return tuple(found)


def grids(model: Any) -> tuple[Grid, ...]:
    """Give the grid of every tensor that has one, over all subgraphs."""
    return tuple(
        _block_grid(model, graph, tensor) if _has_blocks(tensor) else _grid(model, tensor)
        for graph in model.subgraphs
        for tensor in graph.tensors
        if tensor.quantization is not None and (_has_blocks(tensor) or len(_list(tensor.quantization.scale)))
    )


def _has_blocks(tensor: Any) -> bool:
    return getattr(tensor.quantization.details, "blockSize", None) is not None


def _grid(model: Any, tensor: Any) -> Grid:
    scales = tuple(float(scale) for scale in tensor.quantization.scale)
    return Grid(
        tensor=tensor_name(tensor),
        dtype=dtype_name(tensor),
        scales=scales,
        zero_points=tuple(int(point) for point in _list(tensor.quantization.zeroPoint)),
        axis=int(tensor.quantization.quantizedDimension) if len(scales) > 1 else None,
        constant=model.buffers[tensor.buffer].data is not None,
    )


def _block_grid(model: Any, graph: Any, tensor: Any) -> Grid:
    """Read a grid whose scales are a float16 tensor of the file, one for each block; blocks are centred on 0."""
    held = graph.tensors[tensor.quantization.details.scales]
    data = model.buffers[held.buffer].data
    kind = {"float16": "<f2", "float32": "<f4"}.get(dtype_name(held))
    scales = np.frombuffer(bytes(data), kind).tolist() if data is not None and kind else []
    shape, counts = _list(tensor.shape), _list(held.shape)
    fits = len(shape) == len(counts) and all(counts)
    block = tuple(-(-size // n) for size, n in zip(shape, counts, strict=True)) if fits else ()
    return Grid(
        tensor=tensor_name(tensor),
        dtype=dtype_name(tensor),
        scales=tuple(scales),
        zero_points=(0,),
        constant=model.buffers[tensor.buffer].data is not None,
        block=block or (int(tensor.quantization.details.blockSize),),
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
    return Value(
        name=name,
        shape=shape_of(tensor),
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
        "CONV_3D": lambda: made * prod(filters[:4]),
        "DEPTHWISE_CONV_2D": lambda: made * prod(filters[1:3]),
        "TRANSPOSE_CONV": lambda: inputs[2].elements * prod(filters[:3]),
        "FULLY_CONNECTED": lambda: made * filters[-1],
        "BATCH_MATMUL": lambda: made * inputs[0].shape[-2 if getattr(options, "adjX", False) else -1],
    }
    return counts[kind]() if kind in counts else 0


def _list(values: Any) -> list[Any]:
    return [] if values is None else list(values)
