"""Whether a quantized file says what its plan says: every integer tensor it computes beside the plan's own arithmetic.

The file is run as it is, by XNNPACK where that takes it, with all tensors kept. Each is held to what the plan's network
makes of the integers before it in the file (``quantization.layerwise``), so that a wrong weight, bias or grid shows in
its own layer.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from converters.tflite.flatbuffer import main_graph, read_model, tensor_name
from converters.tflite.float_file import float_file
from converters.tflite.matching import (
    MatchedNode,
    computed_tensors,
    from_channels_last,
    layout_of,
    tensor_nodes,
    tensor_values,
)
from converters.tflite.plan import TensorRanges
from converters.tflite.readback import activation_grids, activation_shortfalls, plain_names, unexplained
from lspdmobile.choices import Layout, Precision
from lspdmobile.deviation import Deviation, Tally
from quantization.affine import AffineGrid

if TYPE_CHECKING:
    from torch import nn

    from quantization.plan import QuantizationPlan

__all__ = ["deviation"]

_OWN_ROUNDING: Final = 1.0
"""Steps. Kernels round to fixed-point numbers on the way, so that a channel that hardly varies can be one step off
almost everywhere (XNNPACK's change of grids, the built-in kernels' products)."""


def deviation(
    path: Path,
    *,
    network: "nn.Module",
    plan: "QuantizationPlan",
    pictures: NDArray[np.float32],
    forced: bool = True,
    built_in: bool = False,
) -> Deviation:
    """Compare a file with its plan.

    Args:
        path: The ``.tflite`` file.
        network: Fused float student in eval mode.
        plan: What the file was made from; its weights are quantized.
        pictures: Normalised pictures ``[N, 3, H, W]``, N at least 1.
        forced: Compute every tensor from the file's integers before it, and let values that hang on the rounding go
            either way; otherwise from the plan's own, all the way down.
        built_in: Run TFLite's own kernels instead of XNNPACK's.

    Returns:
        What separates them.

    Raises:
        BadInputError: The file is damaged, or the plan is another network's.
        ConversionError: The network cannot be converted, or the runtime refuses the file.
        EnvironmentLacksError: A package is absent.
    """
    import torch

    from quantization.layerwise import layer_by_layer

    model, size = read_model(path), (pictures.shape[2], pictures.shape[3])
    graph = main_graph(model)
    result = tensor_name(graph.tensors[graph.outputs[0]])
    layout = layout_of(path, tuple(int(n) for n in graph.tensors[graph.inputs[0]].shape))
    nodes = _nodes(network, plan, size, layout)
    tensors, names = _integer_tensors(model, nodes, plan.precision), plain_names(model)
    simulated = layer_by_layer(network, plan, size, {node: grid for node, (_, grid) in tensors.items()})
    tallies, maps_tally = dict[str, Tally](), Tally()
    runs = tensor_values(path.read_bytes(), model, pictures[:, None], layout, built_in=built_in)
    for picture, values in zip(torch.from_numpy(pictures).split(1), runs, strict=True):
        found = {node: _as_node(values[name], nodes[names[name]]) for node, (name, _) in tensors.items()}
        wanted, heatmaps = simulated.run(picture, found if forced else None)
        for node, positions in wanted.items():
            tally = tallies.setdefault(node, Tally(_OWN_ROUNDING if forced else 0.0))
            tally.add(found[node], positions.allowing_ties(found[node]) if forced else positions.integers)
        maps = from_channels_last(values[result]) if layout is Layout.NHWC else values[result]
        maps_tally.add(maps, heatmaps.numpy())
    return Deviation.of(len(pictures), tallies, maps_tally, _faults(model, plan, nodes))


def _nodes(
    network: "nn.Module", plan: "QuantizationPlan", size: tuple[int, int], layout: Layout
) -> dict[str, MatchedNode]:
    """Give the plan's node of each tensor of the float file, by name; none for float activations."""
    if not plan.ranges:
        return {}
    content = float_file(network, size, layout).content
    return tensor_nodes(content, read_model(content), network, plan, layout)


def _integer_tensors(
    model: Any, nodes: Mapping[str, MatchedNode], precision: Precision
) -> dict[str, tuple[str, AffineGrid]]:
    """Give name and grid of the first integer tensor that each node is, in the file's order."""
    ends = (-32768, 32767) if precision is Precision.W8A16 else (-128, 127)
    grids, found = activation_grids(model), dict[str, tuple[str, AffineGrid]]()
    names = plain_names(model)
    for name in computed_tensors(model):
        plain = names.get(name, "")
        if plain in nodes:
            scale, zero_point = grids[plain]
            grid = AffineGrid(scale=scale, zero_point=zero_point, quant_min=ends[0], quant_max=ends[1])
            found.setdefault(nodes[plain].name, (name, grid))
    return found


def _as_node(value: NDArray[Any], node: MatchedNode) -> NDArray[np.int64]:
    ordered = from_channels_last(value) if node.channels_last else value
    return ordered.astype(np.int64)


def _faults(model: Any, plan: "QuantizationPlan", nodes: Mapping[str, MatchedNode]) -> tuple[str, ...]:
    planned = {name: plan.ranges[node.name] for name, node in nodes.items()}
    ranges = TensorRanges(by_name=planned, planned=planned, measured=())
    listed = unexplained(activation_shortfalls(model, plan.precision, ranges))
    return tuple(f"{each.layer} has {each.found} in the file, {each.wanted} in the plan" for each in listed)
