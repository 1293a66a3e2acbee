"""A plan's own network in PyTorch: what a file that holds the plan has to compute.

The arithmetic is float32; every constant is what the file can hold of it: float parameters and scales are rounded to
the format's float type, weights of quantized layers are integers times such a scale.

* ``w8a8``: the graph of :func:`quantization.graph.quantized_module`.
* ``w8``, ``w4``: each layer's weights on their symmetric grid, one scale per output channel (``quantization.affine``).
* ``palette6``, ``palette4``: each layer's weights as the caller read them from the file. The plan does not say what the
  tables hold, only that their entries are near the weights; that is for the reader to see.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node

from lspdmobile.choices import Precision
from quantization.affine import largest_weight, weight_bits
from quantization.graph import activation_grids, exported_module, moves_of, picture_of, quantized_module
from quantization.plan import QuantizationPlan

__all__ = ["IntegerTensor", "Simulation", "layer_weights", "simulation"]

_LAYERS: Final = ("aten.conv2d.default", "aten.linear.default")
_QUANTIZE: Final = "quantized_decomposed.quantize_per_tensor.default"
_DEQUANTIZE: Final = "quantized_decomposed.dequantize_per_tensor.default"
_WEIGHTS: Final = "quantized_decomposed.dequantize_per_channel.default"


@dataclass(frozen=True, kw_only=True)
class IntegerTensor:
    """What an int8 activation stands for.

    Attributes:
        values: Reals on the grid.
        step: The grid's scale.
    """

    values: Tensor
    step: float


class Simulation:
    """A network that is run picture by picture; made by :func:`simulation`.

    Attributes:
        picture: Name of the tensor that holds the picture.
        moves: Integer tensors that are others with their numbers moved.
        names: Of the int8 tensors, in program order.
    """

    def __init__(
        self,
        module: GraphModule,
        *,
        stored: torch.dtype,
        exact: frozenset[str],
        rounded_to: Precision | None = None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._interpreter = _Recorder(module, stored, exact, rounded_to=rounded_to, weights=weights or {})
        self.picture, self.moves = picture_of(module), moves_of(module)
        self.names = tuple(activation_grids(module))

    def run(self, picture: Tensor) -> tuple[dict[str, IntegerTensor], Tensor]:
        """Map a picture ``[1, 3, H, W]`` to its int8 activations, by the node each was made from, and its heatmaps."""
        self._interpreter.integers = {}
        with torch.inference_mode():
            heatmaps: Tensor = self._interpreter.run(picture)
        return self._interpreter.integers, heatmaps


def simulation(
    network: nn.Module,
    plan: QuantizationPlan,
    input_size: tuple[int, int],
    *,
    stored: torch.dtype,
    exact: frozenset[str] = frozenset(),
    weights: Mapping[str, Tensor] | None = None,
) -> Simulation:
    """Simulate a plan.

    Args:
        network: Fused float student in eval mode.
        plan: Of quantized weights; one of integer activations was made from the same network and input size.
        input_size: Rows and columns H, W.
        stored: Float type of the file's parameters.
        exact: Nodes whose parameters the file keeps in float32 nevertheless.
        weights: Under a palette, what each layer's weights are in the file, by the names of :func:`layer_weights`.

    Raises:
        BadInputError: The plan is another network's.
        EnvironmentLacksError: torchao or executorch is absent.
        ValueError: The plan is of another precision.
    """
    if plan.precision in (Precision.W8, Precision.W4):
        return Simulation(exported_module(network, input_size), stored=stored, exact=exact, rounded_to=plan.precision)
    if plan.precision is Precision.W8A8:
        return Simulation(quantized_module(network, plan, input_size), stored=stored, exact=exact)
    if plan.precision.palette_bits:
        return Simulation(exported_module(network, input_size), stored=stored, exact=exact, weights=weights)
    message = f"a {plan.precision} plan has no simulation; w8, w4, w8a8 and palettes have"
    raise ValueError(message)


def layer_weights(network: nn.Module, input_size: tuple[int, int]) -> tuple[dict[str, Tensor], str]:
    """Give the float weights of every layer, by node, and the name of the node that gives the heatmaps."""
    module = exported_module(network, input_size)
    constants = dict(module.named_parameters()) | dict(module.named_buffers())
    weights = {node.name: constants[str(node.args[1].target)].detach() for node in _layers(module)}
    output = next(node for node in module.graph.nodes if node.op == "output")
    return weights, output.all_input_nodes[0].name


def _layers(module: GraphModule) -> list[Any]:
    return [node for node in module.graph.nodes if str(node.target) in _LAYERS]


class _Recorder(Interpreter):
    """Runs a graph with stored constants and keeps what its int8 activations stand for."""

    def __init__(
        self,
        module: GraphModule,
        stored: torch.dtype,
        exact: frozenset[str],
        *,
        rounded_to: Precision | None,
        weights: Mapping[str, Tensor],
    ) -> None:
        super().__init__(module)
        self.integers: dict[str, IntegerTensor] = {}
        self._stored, self._exact = stored, exact
        self._constants: dict[str, Any] = {}
        self._rounded_to, self._weights = rounded_to, {node.args[1] for node in _layers(module)}
        self._given = {node.args[1]: weights[node.name] for node in _layers(module) if node.name in weights}

    def run_node(self, n: Node) -> Any:
        if n.name in self._constants:
            return self._constants[n.name]
        result = super().run_node(n)
        if n.op == "get_attr":
            result = self._constants[n.name] = self._constant(n, result)
        elif str(n.target) == _WEIGHTS:
            result = self._constants[n.name] = self._rounded(result)
        elif str(n.target) == _QUANTIZE:
            arguments: Any = n.args
            step, zero_point = self._rounded(arguments[1]), arguments[2]
            reals = (result.float() - zero_point) * step
            self.integers[n.all_input_nodes[0].name] = IntegerTensor(values=reals, step=float(step))
        return result

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if str(target) in (_QUANTIZE, _DEQUANTIZE):
            args = (args[0], float(self._rounded(args[1])), *args[2:])
        return super().call_function(target, args, kwargs)

    def _constant(self, node: Node, value: Any) -> Any:
        if not (isinstance(value, Tensor) and value.is_floating_point()):
            return value
        if node in self._given:
            return self._given[node]
        exact = any(user.name in self._exact for user in node.users)
        held = value.detach().to(torch.float32 if exact else self._stored)
        if self._rounded_to is None or node not in self._weights:
            return held.float()
        return _on_grid(held, largest_weight(weight_bits(self._rounded_to, held.shape[1])))

    def _rounded(self, value: Tensor | float) -> Tensor:
        return torch.as_tensor(value).to(self._stored).float()


def _on_grid(weight: Tensor, largest: int) -> Tensor:
    """Quantize a layer's weight in its own type's arithmetic, as converters do; gives it back in float32."""
    scale = weight.abs().flatten(1).amax(1).reshape(-1, *[1] * (weight.dim() - 1)) / largest
    integers = torch.where(scale > 0, weight / scale, 0.0).round().clamp(-largest, largest)
    return (integers.float() * scale.float()).to(weight.dtype).float()
