"""Decoding appended to a finished ``.tflite`` model: keypoints as a second output beside the heatmaps.

The decoding is converted by itself, in float, and its operators are put behind those of the model, which stay as they
are: quantized weights, grids and everything that was read back from them.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from converters.tflite.flatbuffer import main_graph, read_model, tensor_name
from lspdmobile.choices import Layout

if TYPE_CHECKING:
    from lspdmobile.decode import HeatmapRule
    from lspdmobile.graph_decode import GraphDecode

__all__ = ["KEYPOINTS", "network_alone", "with_keypoints"]

KEYPOINTS: Final = "keypoints"
_PREFIX: Final = "decode"


def with_keypoints(model: Any, decode: "GraphDecode", layout: Layout) -> None:
    """Append the decoding of a model's one output.

    Args:
        model: As :func:`converters.tflite.flatbuffer.read_model` gives it; changed in place.
        decode: What to append.
        layout: Axis order of the model's heatmaps.
    """
    graph = main_graph(model)
    (heatmaps,) = (int(index) for index in graph.outputs)
    shape = tuple(int(size) for size in graph.tensors[heatmaps].shape)
    tail = read_model(_converted(decode.rule, decode.stride, decode.size, shape, layout))
    added = main_graph(tail)
    places = _tensors_added(model, tail, int(added.inputs[0]), heatmaps)
    codes = [_code_of(model, code) for code in tail.operatorCodes]
    for operator in added.operators:
        operator.opcodeIndex = codes[operator.opcodeIndex]
        operator.inputs = [places.get(int(index), -1) for index in operator.inputs]
        operator.outputs = [places[int(index)] for index in operator.outputs]
        graph.operators.append(operator)
    keypoints = places[int(added.outputs[0])]
    graph.tensors[keypoints].name = KEYPOINTS.encode()
    graph.outputs = [heatmaps, keypoints]
    for signature in model.signatureDefs or []:
        signature.outputs.append(_signature_entry(KEYPOINTS, keypoints))


def network_alone(model: Any) -> Any:
    """Leave out, in place, what computes the keypoints behind a model's heatmaps; gives the model."""
    graph = main_graph(model)
    if [tensor_name(graph.tensors[index]) for index in graph.outputs[1:]] != [KEYPOINTS]:
        return model
    graph.outputs = [int(graph.outputs[0])]
    needed, kept = set(graph.outputs), []
    for operator in reversed(graph.operators):
        if needed.intersection(map(int, operator.outputs)):
            needed.update(map(int, operator.inputs))
            kept.append(operator)
    graph.operators = kept[::-1]
    return model


def _tensors_added(model: Any, tail: Any, source: int, heatmaps: int) -> dict[int, int]:
    """Append the tail's tensors and their constants; gives each one's new place, the heatmaps' for its input."""
    tensors, places = main_graph(model).tensors, {source: heatmaps}
    for index, tensor in enumerate(main_graph(tail).tensors):
        if index == source:
            continue
        places[index] = len(tensors)
        if tail.buffers[tensor.buffer].data is None:
            tensor.buffer = 0
        else:
            model.buffers.append(tail.buffers[tensor.buffer])
            tensor.buffer = len(model.buffers) - 1
        tensor.name = f"{_PREFIX}.{index}".encode()
        tensors.append(tensor)
    return places


def _code_of(model: Any, code: Any) -> int:
    """Find an operator code of the same kind and version, or append it."""
    for index, known in enumerate(model.operatorCodes):
        if (known.builtinCode, known.version, known.customCode) == (code.builtinCode, code.version, code.customCode):
            return index
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _signature_entry(name: str, index: int) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name.encode(), index
    return entry


@lru_cache(maxsize=4)
def _converted(
    rule: "HeatmapRule", stride: float, size: tuple[int, int], shape: tuple[int, ...], layout: Layout
) -> bytes:
    """Convert the decoding of heatmaps of this shape, once for all precisions."""
    from converters.tflite.float_file import converted
    from lspdmobile.graph_decode import GraphDecode

    return converted(GraphDecode(rule, int(stride), size).eval(), shape, layout, outputs=())
