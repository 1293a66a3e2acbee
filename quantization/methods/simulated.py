"""The network as a plan's files compute it, with weights and biases that can be exchanged while it runs.

* ``w8a8``: the graph of :func:`quantization.graph.quantized_module`, weights kept float before their quantize nodes.
* ``w4``, ``w8``, ``w8a16``: the exported program with every layer's weights on their grid. 16-bit activations have
  steps 256 times finer than 8-bit ones; next to the weights' rounding they are exact.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from lspdmobile.choices import Precision
from quantization.affine import INTEGER_WEIGHTS, largest_weight, weight_bits
from quantization.graph import exported_module, quantized_module, weight_scales_by_node
from quantization.methods.layers import Layer, argument, layers_of
from quantization.plan import QuantizationPlan

__all__ = ["Simulated", "simulated", "weights_only"]


class Simulated:
    """A plan's own graph; made by :func:`simulated`.

    Attributes:
        module: The graph; layers have the names they have in the exported program.
        layers: The layers whose weights are integers, in the program's order.
        scales: Layer name to the scale of each output channel, float32 ``[C_out]``.
        precision: Of the plan.
    """

    def __init__(
        self, module: GraphModule, layers: tuple[Layer, ...], scales: Mapping[str, Tensor], precision: Precision
    ) -> None:
        self.module, self.layers, self.scales, self.precision = module, layers, scales, precision
        self._nodes = {node.name: node for node in module.graph.nodes}

    def node(self, layer: Layer) -> Node:
        """Give a layer's node in this graph."""
        node: Node = self._nodes[layer.name]
        return node

    def largest(self, layer: Layer) -> int:
        """Give the largest integer of a layer's weights."""
        return largest_weight(weight_bits(self.precision, self.tensor(layer, "weight").shape[1]))

    def source(self, layer: Layer) -> str:
        """Name the node that a layer reads in this graph."""
        source: Node = argument(self.node(layer), "input")
        return source.name

    def tensor(self, layer: Layer, which: str) -> Tensor:
        """Give the ``weight`` or ``bias`` of a layer itself, to read or to overwrite.

        Raises:
            ValueError: The layer has none.
        """
        node: Node | None = argument(self.node(layer), which)
        while node is not None and node.op != "get_attr":
            node = node.all_input_nodes[0]
        if node is None:
            message = f"{layer.name} has no {which}"
            raise ValueError(message)
        value: Tensor = _attribute(self.module, str(node.target))
        return value.detach()


def simulated(network: nn.Module, plan: QuantizationPlan, input_size: tuple[int, int]) -> Simulated:
    """Simulate a plan on a copy of a network; layers that the plan keeps in float are none of the result's layers.

    Args:
        network: Float network in eval mode.
        plan: A ``w4``, ``w8``, ``w8a8`` or ``w8a16`` plan made from the same network and input size.
        input_size: Rows and columns H, W.

    Raises:
        BadInputError: The plan is another network's.
        EnvironmentLacksError: torchao or executorch is absent.
        ValueError: The plan quantizes nothing.
    """
    if plan.precision not in INTEGER_WEIGHTS:
        message = f"a {plan.precision} plan quantizes no weights"
        raise ValueError(message)
    network = copy.deepcopy(network)
    program = exported_module(network, input_size)
    layers = layers_of(program)
    if plan.precision is Precision.W8A8:
        module = quantized_module(network, plan, input_size, fold_quantize=False)
        scales = weight_scales_by_node(module)
        return Simulated(module, tuple(each for each in layers if each.name in scales), scales, plan.precision)
    weights = network.state_dict()
    scales = {each.name: _own_scales(plan.precision, weights[each.weight]) for each in layers}
    found = Simulated(program, layers, scales, plan.precision)
    return _rounded(found, layers)


def weights_only(network: nn.Module, plan: QuantizationPlan, input_size: tuple[int, int]) -> Simulated:
    """Simulate what a plan does to weights; activations stay float. Arguments and errors as for :func:`simulated`."""
    scales = simulated(network, plan, input_size).scales
    program = exported_module(copy.deepcopy(network), input_size)
    layers = tuple(layer for layer in layers_of(program) if layer.name in scales)
    return _rounded(Simulated(program, layers, scales, plan.precision), layers)


def _rounded(simulation: Simulated, layers: tuple[Layer, ...]) -> Simulated:
    with torch.no_grad():
        for layer in layers:
            weight, scale = simulation.tensor(layer, "weight"), simulation.scales[layer.name]
            wide = scale.reshape(-1, *[1] * (weight.dim() - 1))
            largest = simulation.largest(layer)
            weight.copy_((weight / wide).round().clamp(-largest, largest) * wide)
    return simulation


def _own_scales(precision: Precision, weight: Tensor) -> Tensor:
    """Give the scale of each output channel of a weight ``[C_out, ...]``; 1 for channels of zeros."""
    largest = weight.detach().abs().flatten(1).amax(1)
    return torch.where(largest > 0, largest / largest_weight(weight_bits(precision, weight.shape[1])), 1.0)


def _attribute(module: GraphModule, path: str) -> Tensor:
    value: object = module
    for part in path.split("."):
        value = getattr(value, part)
    assert isinstance(value, Tensor)
    return value
