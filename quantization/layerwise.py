"""A plan layer by layer: what each integer tensor of a file has to hold, given what the file holds before it.

The exported program is run in float with every layer's weights on their int8 grid, and each tensor that is integer in
the file is put on the file's own grid. Which tensors are integer, and which of them share a grid, differs between
formats; the program, its weights and its arithmetic do not. Two ways to go on from an integer tensor:

* with the file's own values (teacher forcing): then a tensor's difference is its own operator's doing;
* with the simulation's: then it is that of everything before it as well, as it adds up over depth.

Runtimes break ties differently (half to even, half up, half away from zero) and float sums differ in their last bits. A
value whose real position is within ``2^-8`` of a step from the middle between two integers may go either way.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node

from lspdmobile.choices import Precision
from quantization.affine import AffineGrid, weight_scales
from quantization.graph import picture_of
from quantization.methods.layers import argument, kind_of, layers_of
from quantization.methods.simulated import weights_only
from quantization.plan import QuantizationPlan

__all__ = ["LayerByLayer", "Positions", "layer_by_layer"]

_TIE: Final = 2.0**-8


@dataclass(frozen=True, kw_only=True)
class Positions:
    """Where the values of one tensor lie on its integer grid.

    Attributes:
        exact: Before rounding and after clipping to the grid's ends, float64, in steps.
    """

    exact: NDArray[np.float64]

    @property
    def integers(self) -> NDArray[np.float64]:
        """Rounded half to even."""
        rounded: NDArray[np.float64] = np.rint(self.exact)
        return rounded

    def allowing_ties(self, found: NDArray[Any]) -> NDArray[np.float64]:
        """Give the integers, those of ``found`` where rounding may go either way."""
        near = np.abs(found - self.exact) <= 0.5 + _TIE
        return np.where(near, found, self.integers)


class LayerByLayer:
    """A network run picture by picture with some of its tensors on integer grids; made by :func:`layer_by_layer`.

    Args:
        module: Exported program, weights already on their grids.
        grids: Node name to the grid of its tensor.
    """

    def __init__(self, module: GraphModule, grids: Mapping[str, AffineGrid]) -> None:
        self._interpreter = _Rounding(module, grids)
        self.picture = picture_of(module)

    def run(
        self, picture: Tensor, given: Mapping[str, NDArray[Any]] | None = None
    ) -> tuple[dict[str, Positions], Tensor]:
        """Run a picture ``[1, 3, H, W]``.

        Args:
            picture: Normalised.
            given: Integers to go on with instead of the computed ones, by node, in the node's shape.

        Returns:
            Position of every integer tensor by node, in the order they are computed in, and the heatmaps.
        """
        self._interpreter.found, self._interpreter.given = {}, given or {}
        with torch.inference_mode():
            heatmaps: Tensor = self._interpreter.run(picture)
        return self._interpreter.found, heatmaps


def layer_by_layer(
    network: nn.Module, plan: QuantizationPlan, input_size: tuple[int, int], grids: Mapping[str, AffineGrid]
) -> LayerByLayer:
    """Prepare a plan for being run layer by layer.

    Args:
        network: Fused float student in eval mode.
        plan: Its weights are int8; made from the same network and input size.
        input_size: Rows and columns H, W.
        grids: Node name to the grid of its tensor in the file; tensors without one stay in float.

    Raises:
        BadInputError: The plan is another network's.
        EnvironmentLacksError: torchao or executorch is absent.
        ValueError: The plan quantizes no weights, or a node is not in the network.
    """
    if plan.precision not in (Precision.W8, Precision.W8A8, Precision.W8A16):
        message = f"a {plan.precision} plan quantizes no weights to int8"
        raise ValueError(message)
    module = weights_only(network, plan, input_size).module
    if unknown := sorted(grids.keys() - {node.name for node in module.graph.nodes}):
        message = f"the network has no {', '.join(unknown)}"
        raise ValueError(message)
    _round_transposed(module, plan)
    _round_biases(module, plan, grids)
    return LayerByLayer(module, grids)


def _round_transposed(module: GraphModule, plan: QuantizationPlan) -> None:
    """Put the weights ``[C_in, C_out, h, w]`` of transposed convolutions on their grids, too."""
    for node in module.graph.nodes:
        if kind_of(node) == "conv_transpose2d" and node.name not in plan.kept_float:
            weight: Tensor = module.get_parameter(str(argument(node, "weight").target)).detach()
            by_channel = weight.transpose(0, 1)
            scales = torch.from_numpy(weight_scales(by_channel.numpy())).float().reshape(-1, 1, 1, 1)
            by_channel.copy_((by_channel / scales).round() * scales)


def _round_biases(module: GraphModule, plan: QuantizationPlan, grids: Mapping[str, AffineGrid]) -> None:
    """Round biases to what an integer of the sum is worth: input scale times weight scale of the channel.

    Where a channel's weights are large beside its result, that is several steps of the result.
    """
    layers = [layer for layer in layers_of(module) if layer.name not in plan.kept_float and layer.source in grids]
    for layer in layers:
        if layer.bias is None or layer.shared:
            continue
        weight, bias = (module.get_parameter(name).detach() for name in (layer.weight, layer.bias))
        steps = grids[layer.source].scale * weight_scales(weight.numpy())
        bias.copy_(torch.from_numpy((bias.double().numpy() / steps).round() * steps))


class _Rounding(Interpreter):
    """Puts tensors on their grids as they are computed."""

    def __init__(self, module: GraphModule, grids: Mapping[str, AffineGrid]) -> None:
        super().__init__(module)
        self.found: dict[str, Positions] = {}
        self.given: Mapping[str, NDArray[Any]] = {}
        self._grids = grids

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        grid = self._grids.get(n.name)
        if grid is None:
            return result
        exact = result.double().numpy() / grid.scale + grid.zero_point
        positions = Positions(exact=np.clip(exact, grid.quant_min, grid.quant_max))
        self.found[n.name] = positions
        integers = self.given.get(n.name, positions.integers)
        reals = (integers.astype(np.float64) - grid.zero_point) * grid.scale
        return torch.from_numpy(reals).to(result.dtype)
