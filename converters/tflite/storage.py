"""How a ``.tflite`` file stores its constants: bytes by dtype and by operator, sparse ones, and expanded ones.

A sparse constant's buffer holds what is not left out; where it stands is in the tensor's own tables, which take room
too: they are counted under the type of their integers.
"""

from collections import Counter
from collections.abc import Iterator
from math import prod
from typing import Any, Final

from converters.layer_bytes import Reading, StoredConstant
from converters.tflite.flatbuffer import dtype_name, op_name, operators, tensor_name
from lspdmobile.encodings import Encoding

__all__ = ["encodings", "readings", "weight_bytes"]

_EXPANDING: Final = ("DENSIFY", "DEQUANTIZE")
_PLACES: Final = {"Int32VectorT": ("int32", 4), "Uint16VectorT": ("uint16", 2), "Uint8VectorT": ("uint8", 1)}


def weight_bytes(model: Any) -> dict[str, int]:
    """Sum the bytes of constants by dtype, a buffer that several tensors share once."""
    total: Counter[str] = Counter()
    held = {each.key: each for graph in model.subgraphs for each in _all_stored(model, graph)}
    for each in held.values():
        total[each.dtype] += each.size_bytes
    return dict(total.most_common())


def readings(model: Any) -> Iterator[Reading]:
    """Say which values and constants each operator of all subgraphs reads."""
    numbers = {id(graph): number for number, graph in enumerate(model.subgraphs)}
    for name, operator, graph in operators(model):
        read = [int(i) for i in operator.inputs if i >= 0] if operator.inputs is not None else []
        outputs = [int(i) for i in operator.outputs if i >= 0] if operator.outputs is not None else []
        held = {i: list(_stored(model, graph, i)) for i in read}
        label = f"{name} {tensor_name(graph.tensors[outputs[0]])}" if outputs else name
        number = numbers[id(graph)]
        yield Reading(
            name=f"subgraph {number}: {label}" if number else label,
            inputs=[(number, i) for i in read if not held[i]],
            outputs=[(number, i) for i in outputs],
            constants=[each for some in held.values() for each in some],
        )


def encodings(model: Any) -> tuple[Encoding, ...]:
    """Give the constants that are sparse, or that operators expand before others read them."""
    return tuple(found for graph in model.subgraphs for found in _encodings(model, graph))


def _encodings(model: Any, graph: Any) -> Iterator[Encoding]:
    expanding: dict[int, tuple[str, int]] = {}
    for operator in graph.operators if graph.operators is not None else ():
        kind = op_name(model, operator)
        if kind in _EXPANDING and len(operator.inputs) and len(operator.outputs):
            expanding[int(operator.inputs[0])] = kind, int(operator.outputs[0])
    for index, tensor in enumerate(graph.tensors):
        held = list(_stored(model, graph, index))
        if not held:
            continue
        steps = [_sparse(tensor, held[0])] if tensor.sparsity is not None else []
        seen, at = {index}, index
        while at in expanding:
            kind, at = expanding[at]
            steps += [kind] if kind == "DEQUANTIZE" else []
            if at in seen:
                break
            seen.add(at)
        if steps:
            yield Encoding(
                tensor=tensor_name(tensor),
                how=", ".join(steps),
                stored=held[0].dtype,
                read_as=dtype_name(graph.tensors[at]),
                size_bytes=sum(each.size_bytes for each in held),
            )


def _sparse(tensor: Any, held: StoredConstant) -> str:
    """Say how much a sparse constant leaves out; its elements are whole bytes."""
    sizes = {"float32": 4, "float16": 2, "int32": 4, "int16": 2}
    elements = prod(tensor.shape if tensor.shape is not None else ())
    kept = held.size_bytes / sizes.get(held.dtype, 1)
    return f"sparse, {1 - kept / elements:.0%} left out" if elements else "sparse"


def _all_stored(model: Any, graph: Any) -> Iterator[StoredConstant]:
    for index in range(len(graph.tensors)):
        yield from _stored(model, graph, index)


def _stored(model: Any, graph: Any, index: int) -> Iterator[StoredConstant]:
    """Give what the file holds of a constant: its elements, the places of sparse ones, the scales of its blocks."""
    tensor = graph.tensors[index]
    data = model.buffers[tensor.buffer].data
    if data is None:
        return
    yield StoredConstant(key=tensor.buffer, dtype=dtype_name(tensor), size_bytes=len(data))
    for number, axis in enumerate((tensor.sparsity and tensor.sparsity.dimMetadata) or ()):
        for what, places in (("segments", axis.arraySegments), ("indices", axis.arrayIndices)):
            if places is not None and places.values is not None:
                dtype, size = _PLACES[type(places).__name__]
                yield StoredConstant(
                    key=(tensor.buffer, number, what), dtype=dtype, size_bytes=size * len(places.values)
                )
    scales = getattr(tensor.quantization and tensor.quantization.details, "scales", None)
    if scales is not None and (held := model.buffers[graph.tensors[scales].buffer].data) is not None:
        kind = dtype_name(graph.tensors[scales])
        yield StoredConstant(key=graph.tensors[scales].buffer, dtype=kind, size_bytes=len(held))
