"""The integer layers of a quantized module, as numbers: what a file that holds the plan has to hold."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.fx import GraphModule, Node

from quantization.affine import AffineGrid
from quantization.graph import activation_grids
from quantization.methods.layers import argument, kind_of

__all__ = ["IntegerLayer", "integer_layers", "largest_multiplier"]

_FUSED: Final = ("relu", "hardtanh", "clamp")
_LAYERS: Final = ("conv2d", "conv_transpose2d", "linear")
_QUANTIZE: Final = "quantize_per_tensor"
_WEIGHTS: Final = "dequantize_per_channel"


@dataclass(frozen=True, kw_only=True)
class IntegerLayer:
    """A convolution or linear layer of int8 weights and input.

    Attributes:
        weights: int8 in PyTorch's order, ``[C_out, C_in / groups, ...]`` or, transposed, ``[C_in, C_out, ...]``.
        scales: Of each output channel ``[C_out]``.
        bias: Real, ``[C_out]``; zeros without one.
        input: Grid of what it reads.
        output: Grid of its result, or of that of the activation it is fused with; None where the result stays float.
    """

    weights: NDArray[np.int8]
    scales: NDArray[np.float32]
    bias: NDArray[np.float32]
    input: AffineGrid
    output: AffineGrid | None


def integer_layers(module: GraphModule) -> dict[str, IntegerLayer]:
    """Give the integer layers of a quantized module by node, in program order.

    Args:
        module: From :func:`quantization.graph.quantized_module`, with weights folded.
    """
    grids = activation_grids(module)
    found: dict[str, IntegerLayer] = {}
    for node in module.graph.nodes:
        if kind_of(node) in _LAYERS and kind_of(argument(node, "weight")) == _WEIGHTS:
            found[node.name] = _layer(module, node, grids)
    return found


def largest_multiplier(module: GraphModule) -> float:
    """Give the largest number by which a layer multiplies its integer sums; 0 where there is no integer layer.

    It is input scale times weight scale over output scale. XNNPACK takes numbers below 256 (``requantization_scale`` in
    its ``create-*-nc-qs8``): a file with a larger one is written, and cannot be run.
    """
    return max(
        (
            float(layer.input.scale * layer.scales.max() / layer.output.scale)
            for layer in integer_layers(module).values()
            if layer.output is not None
        ),
        default=0.0,
    )


def _layer(module: GraphModule, node: Node, grids: Mapping[str, AffineGrid]) -> IntegerLayer:
    weights, scales = (_constant(module, each) for each in argument(node, "weight").args[:2])
    bias = argument(node, "bias")
    source: Node = argument(node, "input")
    return IntegerLayer(
        weights=weights.numpy(),
        scales=scales.float().numpy(),
        bias=np.zeros(len(scales), np.float32) if bias is None else _constant(module, bias).float().numpy(),
        input=grids[source.all_input_nodes[0].all_input_nodes[0].name],
        output=_output(node, grids),
    )


def _output(node: Node, grids: Mapping[str, AffineGrid]) -> AffineGrid | None:
    users = list(node.users)
    if any(kind_of(user) == _QUANTIZE for user in users):
        return grids[node.name]
    return _output(users[0], grids) if len(users) == 1 and kind_of(users[0]) in _FUSED else None


def _constant(module: GraphModule, node: Node) -> Tensor:
    value: Any = module
    for part in str(node.target).split("."):
        value = getattr(value, part)
    tensor: Tensor = value.detach()
    return tensor
