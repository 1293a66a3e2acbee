"""Which node of the exported PyTorch program each tensor of a float TFLite file is.

The two have no names in common: both are run on the same noise, and a tensor is the node that holds the same values.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from converters.tflite.flatbuffer import main_graph, tensor_name
from lspdmobile.choices import Layout
from lspdmobile.errors import BadInputError, ConversionError
from quantization.plan import QuantizationPlan, TensorRange

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "MatchedNode",
    "computed_tensors",
    "from_channels_last",
    "layout_of",
    "tensor_nodes",
    "tensor_values",
    "to_layout",
]

_MATCHING_PICTURES: Final = 2
_LEAST_SPREAD: Final = 1e-3
"""Of the noise, where the calibration pictures had one value only."""
_MATCH_TOLERANCE: Final = 1e-4
"""Largest difference over largest value for two tensors to be the same; converters agree with PyTorch to about 1e-6."""


@dataclass(frozen=True, kw_only=True)
class MatchedNode:
    """The node a tensor was found to be.

    Attributes:
        name: In the exported program.
        channels_last: Whether the tensor ``[1, h, w, C]`` is the node's ``[1, C, h, w]``.
    """

    name: str
    channels_last: bool


def tensor_nodes(
    float_content: bytes, model: Any, network: "nn.Module", plan: QuantizationPlan, layout: Layout
) -> dict[str, MatchedNode]:
    """Give the node of every computed tensor that has one, and of the input, by the tensor's name.

    Args:
        float_content: The float ``.tflite`` as bytes.
        model: The same, read.
        network: The network it was converted from, in eval mode.
        plan: Ranges by node of the exported program.
        layout: Axis order of the file's input and output.
    """
    noise = _noise(next(iter(plan.ranges.values())), model, layout)
    values: dict[str, list[NDArray[np.float32]]] = {}
    for run in tensor_values(float_content, model, noise, layout):
        for name, value in run.items():
            values.setdefault(name, []).append(value.copy())
    return _match(values, _node_values(network, noise, plan.ranges))


def computed_tensors(model: Any) -> dict[str, int]:
    """Give the index of the input and of every computed tensor, by name, in the file's order."""
    graph = main_graph(model)
    indices = {i for operator in graph.operators for i in operator.outputs} | set(graph.inputs)
    return {tensor_name(graph.tensors[i]): i for i in sorted(indices)}


def layout_of(path: Path, shape: tuple[int, ...]) -> Layout:
    """Give the axis order of an input of four axes.

    Raises:
        BadInputError: It is no picture of three channels.
    """
    if shape[3] == 3:
        return Layout.NHWC
    if shape[1] == 3:
        return Layout.NCHW
    message = f"{path}: its input {list(shape)} is no picture of three channels"
    raise BadInputError(message)


def to_layout(pictures: NDArray[np.float32], layout: Layout) -> NDArray[np.float32]:
    """Put pictures ``[N, 3, H, W]`` into a file's axis order, contiguous."""
    ordered = pictures.transpose(0, 2, 3, 1) if layout is Layout.NHWC else pictures
    return np.ascontiguousarray(ordered, np.float32)


def from_channels_last(value: NDArray[Any]) -> NDArray[Any]:
    """Give ``[1, C, h, w]`` of ``[1, h, w, C]``; other ranks stay."""
    return value.transpose(0, 3, 1, 2) if value.ndim == 4 else value


def tensor_values(
    content: bytes,
    model: Any,
    pictures: Iterable[NDArray[np.float32]],
    layout: Layout,
    *,
    built_in: bool = False,
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the value of the input and of every computed tensor, for each picture ``[1, 3, H, W]``.

    XNNPACK computes them as it does on a phone, but hands every tensor out instead of joining operators.

    Args:
        content: A ``.tflite`` file's bytes.
        model: The same, read.
        pictures: Normalised.
        layout: Axis order of the file's input.
        built_in: Run TFLite's own kernels even where XNNPACK has one.

    Raises:
        ConversionError: The runtime refuses the file.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if built_in else OpResolverType.AUTO
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        interpreter = Interpreter(
            model_content=content,
            num_threads=1,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=kernels,
        )
    _allocate(interpreter)
    tensors, source = computed_tensors(model), main_graph(model).inputs[0]
    for picture in pictures:
        interpreter.set_tensor(source, to_layout(picture, layout))
        interpreter.invoke()
        yield {name: interpreter.get_tensor(index) for name, index in tensors.items()}


def _allocate(interpreter: Any) -> None:
    try:
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        message = f"LiteRT cannot run the file: {str(error).strip().splitlines()[0]}"
        raise ConversionError(message) from error


def _noise(observed: TensorRange, model: Any, layout: Layout) -> list[NDArray[np.float32]]:
    """Give inputs ``[1, 3, H, W]`` to tell tensors apart by: every value of the input's range equally often."""
    graph, generator = main_graph(model), np.random.default_rng(0)
    shape = tuple(int(n) for n in graph.tensors[graph.inputs[0]].shape)
    size = shape[1:3] if layout is Layout.NHWC else shape[2:4]
    low, high = observed.low, max(observed.high, observed.low + _LEAST_SPREAD)
    return [generator.uniform(low, high, (1, 3, *size)).astype(np.float32) for _ in range(_MATCHING_PICTURES)]


def _match(
    values: Mapping[str, list[NDArray[np.float32]]],
    nodes: Mapping[str, list[NDArray[np.float32]]],
) -> dict[str, MatchedNode]:
    """Pair tensors with the nodes of equal values; of several that fit, the last in program order was kept."""
    matched: dict[str, MatchedNode] = {}
    for name, tensor in values.items():
        for channels_last in (False, True):
            ordered = [from_channels_last(value) for value in tensor] if channels_last else tensor
            if fits := [node for node, wanted in nodes.items() if _same(ordered, wanted)]:
                matched[name] = MatchedNode(name=fits[-1], channels_last=channels_last)
    return matched


def _same(tensor: Sequence[NDArray[np.float32]], node: Sequence[NDArray[np.float32]]) -> bool:
    """Whether two lists of arrays hold the same values; constant ones tell nothing."""
    return all(_same_picture(a, b) for a, b in zip(tensor, node, strict=True))


def _same_picture(tensor: NDArray[np.float32], node: NDArray[np.float32]) -> bool:
    if tensor.shape != node.shape or np.ptp(node) == 0:
        return False
    return float(np.abs(tensor - node).max()) <= _MATCH_TOLERANCE * float(np.abs(node).max())


def _node_values(
    network: "nn.Module", pictures: Sequence[NDArray[np.float32]], names: Iterable[str]
) -> dict[str, list[NDArray[np.float32]]]:
    """Run the exported program and keep the values of the named nodes, in program order."""
    import torch
    from torch.fx import Interpreter, Node

    from quantization.graph import exported_module

    wanted = set(names)
    kept: dict[str, list[NDArray[np.float32]]] = {}

    class Recorder(Interpreter):
        def run_node(self, n: Node) -> Any:
            result = super().run_node(n)
            if n.name in wanted:
                kept.setdefault(n.name, []).append(result.numpy().copy())
            return result

    recorder = Recorder(exported_module(network, (pictures[0].shape[2], pictures[0].shape[3])))
    with torch.no_grad():
        for picture in pictures:
            recorder.run(torch.from_numpy(picture))
    return kept
