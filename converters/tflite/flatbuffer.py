"""The ``.tflite`` file itself: read it as objects, check it, name what is in it, write it.

The schema's Python classes come with ``ai-edge-litert``. A model holds buffers (constant data), operator codes and
subgraphs; the first subgraph is the one that runs. A tensor is a constant when its buffer holds data.
"""

import math
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from lspdmobile.errors import BadInputError, EnvironmentLacksError

__all__ = [
    "add_metadata",
    "constant_behind",
    "dtype_name",
    "main_graph",
    "metadata_buffers",
    "missing",
    "named_borders",
    "op_name",
    "operators",
    "read_model",
    "rename",
    "shape_of",
    "signature_of",
    "tensor_name",
    "to_bytes",
]

_IDENTIFIER: Final = b"TFL3"
_BITS: Final = {
    "float64": 64,
    "float32": 32,
    "float16": 16,
    "bfloat16": 16,
    "int64": 64,
    "uint64": 64,
    "int32": 32,
    "uint32": 32,
    "int16": 16,
    "uint16": 16,
    "int8": 8,
    "uint8": 8,
    "bool": 8,
    "int4": 4,
    "uint4": 4,
    "int2": 2,
}


def missing(error: ImportError) -> EnvironmentLacksError:
    """Say which package of the TFLite tool chain is absent and how to get it."""
    distribution = (error.name or "litert-torch").partition(".")[0].replace("_", "-")
    return EnvironmentLacksError(f"TFLite needs the package {distribution}: pip install {distribution}")


def read_model(source: Path | bytes) -> Any:
    """Read a whole model as ``ModelT`` objects and check that everything it points at is there.

    Args:
        source: A ``.tflite`` file, or its bytes.

    Raises:
        BadInputError: The file cannot be read, is no TFLite file, or is truncated or damaged.
        EnvironmentLacksError: ai-edge-litert is absent.
    """
    try:
        from ai_edge_litert.tools import flatbuffer_utils
    except ImportError as error:
        raise missing(error) from error
    where = str(source) if isinstance(source, Path) else "model"
    content = _content(source) if isinstance(source, Path) else source
    if content[4:8] != _IDENTIFIER:
        message = f"{where}: not a TFLite file (the TFL3 mark is absent); give a .tflite file"
        raise BadInputError(message)
    try:
        model = flatbuffer_utils.read_model_from_bytearray(content)
        _require_whole(model)
    except (struct.error, IndexError, ValueError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        message = f"{where}: truncated or damaged TFLite file ({error}); write or download it again"
        raise BadInputError(message) from error
    return model


def to_bytes(model: Any) -> bytes:
    """Serialise ``ModelT`` objects."""
    from ai_edge_litert.tools import flatbuffer_utils

    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def main_graph(model: Any) -> Any:
    """Give the subgraph that runs."""
    return model.subgraphs[0]


def operators(model: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield operator name, operator and its subgraph, over all subgraphs."""
    for graph in model.subgraphs:
        for operator in _list(graph.operators):
            yield op_name(model, operator), operator, graph


def op_name(model: Any, operator: Any) -> str:
    """Name an operator as the schema does, such as ``CONV_2D``; custom operators are ``CUSTOM:<code>``."""
    from ai_edge_litert import schema_py_generated as schema

    code = model.operatorCodes[operator.opcodeIndex]
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    if number == schema.BuiltinOperator.CUSTOM:
        return f"CUSTOM:{(code.customCode or b'?').decode(errors='replace')}"
    return _names(schema.BuiltinOperator).get(number, f"OPERATOR_{number}")


def dtype_name(tensor: Any) -> str:
    """Name a tensor's type in numpy's spelling, such as ``float32``."""
    from ai_edge_litert import schema_py_generated as schema

    return _names(schema.TensorType).get(tensor.type, f"type_{tensor.type}").lower()


def tensor_name(tensor: Any) -> str:
    """Give a tensor's name as text."""
    return (tensor.name or b"").decode(errors="replace")


def shape_of(tensor: Any) -> tuple[int, ...]:
    """Give a tensor's shape, -1 for lengths that are not fixed."""
    return tuple(map(int, _list(tensor.shapeSignature) or _list(tensor.shape)))


def named_borders(model: Any, side: str, number: int = 0) -> list[tuple[str, Any]]:
    """Give the ``"inputs"`` or ``"outputs"`` by their signature names, or tensor names where there is no signature.

    Args:
        model: Read from a file.
        side: Which of them.
        number: Of the subgraph.
    """
    graph, signature = model.subgraphs[number], signature_of(model, number)
    entries = getattr(signature, side) or [] if signature is not None else []
    names = {entry.tensorIndex: (entry.name or b"").decode(errors="replace") for entry in entries}
    tensors = [(int(index), graph.tensors[index]) for index in _list(getattr(graph, side))]
    return [(names.get(index) or tensor_name(tensor), tensor) for index, tensor in tensors]


def signature_of(model: Any, number: int) -> Any | None:
    """Give the first signature that names a subgraph, or None."""
    return next((each for each in model.signatureDefs or [] if each.subgraphIndex == number), None)


def constant_behind(model: Any, graph: Any, index: int) -> Any | None:
    """Give the constant an operand comes from, looking through ``DEQUANTIZE``; None for computed values."""
    producers = {o.outputs[0]: o for o in graph.operators if op_name(model, o) == "DEQUANTIZE"}
    if index in producers:
        index = producers[index].inputs[0]
    tensor = graph.tensors[index]
    return tensor if model.buffers[tensor.buffer].data is not None else None


def rename(model: Any, *, input_name: str, output_name: str) -> None:
    """Give the one input and the one output plain names, and every other tensor its module's dotted path.

    litert-torch names a tensor by the classes and attributes of all modules it passed through, such as
    ``pkg.Student_wrapped/pkg.Stage_stage/torch.nn.modules.conv.Conv2d_heatmap``; it becomes ``stage.heatmap``.
    """
    graph = main_graph(model)
    seen: Counter[str] = Counter()
    taken: set[str] = set()
    for index, tensor in enumerate(graph.tensors):
        name = {graph.inputs[0]: input_name, graph.outputs[0]: output_name}.get(index) or _dotted(tensor_name(tensor))
        free = name if name not in seen else f"{name}_{seen[name]}"
        while free in taken:  # another module may have such a name
            seen[name] += 1
            free = f"{name}_{seen[name]}"
        seen[name] += 1
        taken.add(free)
        tensor.name = free.encode()
    for signature in model.signatureDefs or []:
        signature.inputs[0].name = input_name.encode()
        signature.outputs[0].name = output_name.encode()


def _dotted(name: str) -> str:
    """Shorten a litert-torch name to the attributes of its last module path; other names stay."""
    path = [part for part in name.split(";") if "/" in part]
    if not path:
        return name
    attributes = [segment.rsplit(".", 1)[-1].lstrip("_").partition("_")[2] for segment in path[-1].split("/")]
    return ".".join(attribute for attribute in attributes if attribute not in ("", "wrapped")) or name


def add_metadata(model: Any, entries: Mapping[str, bytes]) -> None:
    """Append buffers that the schema's ``metadata`` table names."""
    from ai_edge_litert import schema_py_generated as schema

    for name, content in entries.items():
        buffer, entry = schema.BufferT(), schema.MetadataT()
        buffer.data = list(content)
        entry.name, entry.buffer = name.encode(), len(model.buffers)
        model.buffers.append(buffer)
        model.metadata = [*(model.metadata or []), entry]


def metadata_buffers(model: Any) -> dict[str, bytes]:
    """Give what the ``metadata`` table names."""
    return {
        (entry.name or b"").decode(errors="replace"): bytes(_list(model.buffers[entry.buffer].data))
        for entry in model.metadata or []
    }


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror or error})"
        raise BadInputError(message) from error


def _require_whole(model: Any) -> None:
    """Check every index and the size of every constant, so that a runtime never reads outside the file.

    Raises:
        ValueError: Something points outside, or a name is no text.
    """
    if not model.subgraphs or not model.buffers:
        message = "no subgraph"
        raise ValueError(message)
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            (tensor.name or b"").decode()
            _require_constant_size(tensor, model.buffers[_within(tensor.buffer, model.buffers)].data)
            scales = getattr(tensor.quantization and tensor.quantization.details, "scales", None)
            if scales is not None:  # of blocks
                _within(scales, graph.tensors)
        for index in (*_list(graph.inputs), *_list(graph.outputs)):
            _within(index, graph.tensors)
        for operator in _list(graph.operators):
            _within(operator.opcodeIndex, model.operatorCodes)
            for index in (*_list(operator.inputs), *_list(operator.outputs)):
                _within(max(index, 0), graph.tensors)
    for entry in model.metadata or []:
        _within(entry.buffer, model.buffers)


def _require_constant_size(tensor: Any, data: Any) -> None:
    bits = _BITS.get(dtype_name(tensor))
    if data is None or bits is None or tensor.sparsity is not None:
        return
    wanted = -(-math.prod(_list(tensor.shape)) * bits // 8)
    if len(data) < wanted:
        message = f"constant {tensor_name(tensor)!r} has {len(data)} of {wanted} bytes"
        raise ValueError(message)


def _within(index: int, items: Any) -> int:
    if not 0 <= index < len(items):
        message = f"index {index} of {len(items)}"
        raise ValueError(message)
    return index


def _list(values: Any) -> list[Any]:
    return [] if values is None else list(values)


@cache
def _names(enum: type) -> dict[int, str]:
    return {value: name for name, value in vars(enum).items() if isinstance(value, int)}
