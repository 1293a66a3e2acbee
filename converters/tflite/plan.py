"""A quantization plan said in TFLite's words, and read back from the file.

ai-edge-quantizer takes a recipe (which operators, how many bits) and, for integer activations, a range for every
tensor of the float file. The plan's ranges belong to nodes of the exported PyTorch program, so both are run on
the same noise and a tensor takes the range of the node that holds the same values. Converters fuse ReLU into the
operator before it; the tensor then equals the ReLU's node. Operators that only move or interpolate values pass their
input's range on, as the TFLite specification demands.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from converters.tflite.flatbuffer import main_graph, missing, op_name, tensor_name
from converters.tflite.matching import computed_tensors, tensor_nodes, tensor_values
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
]

PASSES_RANGE_ON: Final = frozenset(
    {"PAD", "PADV2", "TRANSPOSE", "RESHAPE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"}
)
"""Operators that only move or interpolate; their result has the grid of their input.

PADV2 fills with minus infinity in front of a max-pool, which is the grid's lower end then.
"""


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


def recipe_for(precision: Precision, kept_float: Iterable[str] = (), *, eight_bits: Iterable[str] = ()) -> Any:
    """Give ai-edge-quantizer's recipe; weights are symmetric and per channel, input and output stay float32.

    - ``fp16``: convolution weights stored as float16, computed in float.
    - ``w8``: weights stored as int8 and dequantized before use (weight-only), so activations are never rounded.
    - ``w4``: the same with int4 in ``CONV_2D`` and ``FULLY_CONNECTED``, the only layers that the quantizer has it for;
      but for those that give the tensors of ``eight_bits``.
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
        case Precision.W4:
            manager.add_weight_only_config(**everything, num_bits=8)
            for kind in (TFLOperationName.CONV_2D, TFLOperationName.FULLY_CONNECTED):
                manager.add_weight_only_config(regex=".*", operation_name=kind, num_bits=4)
                for name in eight_bits:
                    manager.add_weight_only_config(regex=_only(name), operation_name=kind, num_bits=8)
        case Precision.W8A8 | Precision.W8A16:
            bits = 8 if precision is Precision.W8A8 else 16
            manager.add_static_config(**everything, activation_num_bits=bits, weight_num_bits=8)
            for border in (TFLOperationName.INPUT, TFLOperationName.OUTPUT):
                manager.add_quantization_config(".*", border, algorithm_key=AlgorithmName.NO_QUANTIZE)
            for name in kept_float:
                manager.add_quantization_config(
                    _only(name), TFLOperationName.ALL_SUPPORTED, algorithm_key=AlgorithmName.NO_QUANTIZE
                )
        case _:
            message = f"{precision} needs no recipe"
            raise ValueError(message)
    return manager.get_quantization_recipe()


def _only(name: str) -> str:
    """Give the pattern of the operator whose result has this name."""
    return f"^{re.escape(name)};?$"


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
    matched = tensor_nodes(float_content, model, network, plan, layout)
    nodes = {name: node.name for name, node in matched.items()}
    kept = _kept_float(model, nodes, plan)
    planned = {name: plan.ranges[node] for name, node in nodes.items()}
    by_name = dict(planned)
    _pass_on(model, by_name)
    rest = tuple(name for name in computed_tensors(model) if name not in by_name)
    if rest:
        if calibration is None:
            message = (
                f"{len(rest)} tensors of the TFLite file ({rest[0]} is the first) are not in the plan; "
                "their ranges have to be measured: give the calibration pictures too"
            )
            raise BadInputError(message)
        by_name.update(_measure(float_content, model, rest, one_by_one(calibration), layout))
    return TensorRanges(by_name=by_name, planned=planned, measured=rest, kept_float=kept)


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


def _measure(
    float_content: bytes, model: Any, names: Iterable[str], pictures: Iterable[NDArray[np.float32]], layout: Layout
) -> dict[str, TensorRange]:
    """Measure min-max ranges on the float file itself."""
    wanted = set(names)
    found: dict[str, TensorRange] = {}
    for values in tensor_values(float_content, model, pictures, layout):
        for name in wanted:
            low, high = float(values[name].min()), float(values[name].max())
            before = found.get(name, TensorRange(low=low, high=high))
            found[name] = TensorRange(low=min(low, before.low), high=max(high, before.high))
    return found
