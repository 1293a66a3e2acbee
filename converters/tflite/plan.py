"""A quantization plan said in TFLite's words, and read back from the file.

ai-edge-quantizer takes a recipe (which operators, how many bits) and, for integer activations, a range for every
tensor of the float file. The plan's ranges belong to nodes of the exported PyTorch program, so both are run on
the same noise and a tensor takes the range of the node that holds the same values. Converters fuse ReLU into the
operator before it; the tensor then equals the ReLU's node. Operators that only move or interpolate values pass their
input's range on, as the TFLite specification demands.
"""

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from converters.tflite.flatbuffer import main_graph, missing, op_name, tensor_name
from lspdmobile.choices import Layout, Precision
from lspdmobile.errors import BadInputError, ConversionError
from quantization.pictures import Pictures, one_by_one
from quantization.plan import QuantizationPlan, TensorRange

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "PASSES_RANGE_ON",
    "TensorRanges",
    "recipe_for",
    "tensor_ranges",
    "to_layout",
]

_MATCHING_PICTURES: Final = 2
_LEAST_SPREAD: Final = 1e-3
"""Of the noise, where the calibration pictures had one value only."""
_MATCH_TOLERANCE: Final = 1e-4
"""Largest difference over largest value for two tensors to be the same; converters agree with PyTorch to about 1e-6."""
PASSES_RANGE_ON: Final = frozenset({"PAD", "TRANSPOSE", "RESHAPE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"})
"""Operators whose result has the grid of their input."""


@dataclass(frozen=True, kw_only=True)
class TensorRanges:
    """The ranges of the tensors of one float file.

    Attributes:
        by_name: Tensor name to the range that the quantizer is given.
        planned: Tensor name to the range that the plan has for it.
        measured: Names the plan had no node for; their smallest and largest value was measured on the float file over
            the calibration pictures.
        kept_float: Names of the tensors whose operators the plan keeps in float, and of what only pads, resizes or
            reorders for these operators alone.
    """

    by_name: Mapping[str, TensorRange]
    planned: Mapping[str, TensorRange] = field(default_factory=dict)
    measured: tuple[str, ...]
    kept_float: tuple[str, ...] = ()


def recipe_for(precision: Precision, kept_float: Iterable[str] = ()) -> Any:
    """Give ai-edge-quantizer's recipe; weights are symmetric and per channel, input and output stay float32.

    - ``fp16``: convolution weights stored as float16, computed in float.
    - ``w8``: weights stored as int8 and dequantized before use (weight-only), so activations are never rounded.
    - ``w8a8``, ``w8a16``: static; int8 weights, int8 asymmetric or int16 symmetric activations; but for the operators
      that give the tensors of ``kept_float``.

    Raises:
        ValueError: fp32, which needs no recipe.
        EnvironmentLacksError: ai-edge-quantizer is absent.
    """
    try:
        from ai_edge_quantizer.algorithm_manager import AlgorithmName
        from ai_edge_quantizer.qtyping import QuantGranularity, TFLOperationName
        from ai_edge_quantizer.recipe_manager import RecipeManager
    except ImportError as error:
        raise missing(error) from error
    manager = RecipeManager()
    everything = {"regex": ".*", "operation_name": TFLOperationName.ALL_SUPPORTED}
    match precision:
        case Precision.FP16:
            manager.add_weight_only_config(
                **everything,
                num_bits=16,
                granularity=QuantGranularity.TENSORWISE,
                algorithm_key=AlgorithmName.FLOAT_CASTING,
            )
        case Precision.W8:
            manager.add_weight_only_config(**everything, num_bits=8)
        case Precision.W8A8 | Precision.W8A16:
            bits = 8 if precision is Precision.W8A8 else 16
            manager.add_static_config(**everything, activation_num_bits=bits, weight_num_bits=8)
            for border in (TFLOperationName.INPUT, TFLOperationName.OUTPUT):
                manager.add_quantization_config(".*", border, algorithm_key=AlgorithmName.NO_QUANTIZE)
            for name in kept_float:
                manager.add_quantization_config(
                    f"^{re.escape(name)};?$",
                    TFLOperationName.ALL_SUPPORTED,
                    algorithm_key=AlgorithmName.NO_QUANTIZE,
                )
        case _:
            message = f"{precision} needs no recipe"
            raise ValueError(message)
    return manager.get_quantization_recipe()


def tensor_ranges(
    float_content: bytes,
    model: Any,
    network: "nn.Module",
    plan: QuantizationPlan,
    layout: Layout,
    *,
    calibration: Pictures | None = None,
) -> TensorRanges:
    """Give every computed tensor of a float file its range from the plan.

    Args:
        float_content: The float ``.tflite`` as bytes.
        model: The same, read.
        network: The network it was converted from, in eval mode.
        plan: Ranges by node of the exported program.
        layout: Axis order of the file's input and output.
        calibration: Pictures for the tensors that the plan has no node for, where there are any.

    Raises:
        BadInputError: There are such tensors and no pictures.
        ConversionError: An operator that is to stay in float is not one of the file's.
    """
    noise = _noise(next(iter(plan.ranges.values())), model, layout)
    values = _tensor_values(float_content, model, noise, layout)
    nodes = _match(values, _node_values(network, noise, plan.ranges))
    kept = _kept_float(model, nodes, plan)
    planned = {name: plan.ranges[node] for name, node in nodes.items()}
    by_name = dict(planned)
    _pass_on(model, by_name)
    rest = tuple(name for name in values if name not in by_name)
    if rest:
        if calibration is None:
            message = (
                f"{len(rest)} tensors of the TFLite file ({rest[0]} is the first) are not in the plan; "
                "their ranges have to be measured: give the calibration pictures too"
            )
            raise BadInputError(message)
        by_name.update(_measure(float_content, model, rest, one_by_one(calibration), layout))
    return TensorRanges(by_name=by_name, planned=planned, measured=rest, kept_float=kept)


def to_layout(pictures: NDArray[np.float32], layout: Layout) -> NDArray[np.float32]:
    """Put pictures ``[N, 3, H, W]`` into a file's axis order, contiguous."""
    ordered = pictures.transpose(0, 2, 3, 1) if layout is Layout.NHWC else pictures
    return np.ascontiguousarray(ordered, np.float32)


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
) -> dict[str, str]:
    """Pair tensors with the nodes of equal values; of several that fit, the last in program order was kept."""
    matched: dict[str, str] = {}
    for name, tensor in values.items():
        fits = [node for node, wanted in nodes.items() if _same(tensor, wanted)]
        if fits:
            matched[name] = fits[-1]
    return matched


def _same(tensor: Sequence[NDArray[np.float32]], node: Sequence[NDArray[np.float32]]) -> bool:
    """Whether two lists of arrays hold the same values, the first in either axis order; constant ones tell nothing."""
    return all(_same_picture(a, b) for a, b in zip(tensor, node, strict=True))


def _same_picture(tensor: NDArray[np.float32], node: NDArray[np.float32]) -> bool:
    if tensor.ndim != node.ndim or np.ptp(node) == 0:
        return False
    orders = [tensor, tensor.transpose(0, 3, 1, 2)] if tensor.ndim == 4 else [tensor]
    limit = _MATCH_TOLERANCE * float(np.abs(node).max())
    return any(a.shape == node.shape and float(np.abs(a - node).max()) <= limit for a in orders)


def _pass_on(model: Any, by_name: dict[str, TensorRange]) -> None:
    """Give the outputs of operators that keep their input's grid the range of that input."""
    graph = main_graph(model)
    for operator in graph.operators:
        if op_name(model, operator) in PASSES_RANGE_ON:
            source, target = (tensor_name(graph.tensors[i]) for i in (operator.inputs[0], operator.outputs[0]))
            if source in by_name:
                by_name[target] = by_name[source]


def _kept_float(model: Any, nodes: Mapping[str, str], plan: QuantizationPlan) -> tuple[str, ...]:
    """Name the tensors whose operators stay in float.

    Raises:
        ConversionError: An operator that is to stay in float is not one of the file's.
    """
    kept = {name for name, node in nodes.items() if node in plan.kept_float}
    if lost := sorted(plan.kept_float - {nodes[name] for name in kept}):
        message = f"the plan keeps {', '.join(lost)} in float, which is no operator of its own in the TFLite file"
        raise ConversionError(message)
    graph = main_graph(model)
    readers: dict[int, list[str]] = {}
    for operator in graph.operators:
        for index in operator.inputs:
            readers.setdefault(index, []).append(tensor_name(graph.tensors[operator.outputs[0]]))
    for operator in reversed(graph.operators):
        result = operator.outputs[0]
        if op_name(model, operator) in PASSES_RANGE_ON and result in readers and kept.issuperset(readers[result]):
            kept.add(tensor_name(graph.tensors[result]))
    return tuple(sorted(kept))


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


def _tensor_values(
    float_content: bytes, model: Any, pictures: Iterable[NDArray[np.float32]], layout: Layout
) -> dict[str, list[NDArray[np.float32]]]:
    """Run the float file and keep the values of every computed tensor."""
    kept: dict[str, list[NDArray[np.float32]]] = {}
    for values in _runs(float_content, model, pictures, layout):
        for name, value in values.items():
            kept.setdefault(name, []).append(value.copy())
    return kept


def _measure(
    float_content: bytes, model: Any, names: Iterable[str], pictures: Iterable[NDArray[np.float32]], layout: Layout
) -> dict[str, TensorRange]:
    """Measure min-max ranges on the float file itself."""
    wanted = set(names)
    found: dict[str, TensorRange] = {}
    for values in _runs(float_content, model, pictures, layout):
        for name in wanted:
            low, high = float(values[name].min()), float(values[name].max())
            before = found.get(name, TensorRange(low=low, high=high))
            found[name] = TensorRange(low=min(low, before.low), high=max(high, before.high))
    return found


def _runs(
    float_content: bytes, model: Any, pictures: Iterable[NDArray[np.float32]], layout: Layout
) -> Iterable[dict[str, NDArray[np.float32]]]:
    """Yield the value of every computed float tensor, for each picture ``[1, 3, H, W]``."""
    from ai_edge_litert.interpreter import Interpreter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        interpreter = Interpreter(model_content=float_content, num_threads=1, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    graph = main_graph(model)
    computed = {i for operator in graph.operators for i in operator.outputs} | set(graph.inputs)
    for picture in pictures:
        interpreter.set_tensor(graph.inputs[0], to_layout(picture, layout))
        interpreter.invoke()
        yield {tensor_name(graph.tensors[i]): interpreter.get_tensor(i) for i in sorted(computed)}
