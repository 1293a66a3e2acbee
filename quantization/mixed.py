"""A ``w8a8`` plan of which some operators stay in float: which operators there are, and what the network then gives.

A **unit** is what becomes one integer operator: a convolution or an addition with the ReLU after it. An integer unit
reads its inputs from their grids, computes with weights from their grids, and rounds its result. A unit that stays in
float reads what is there: the rounded result of an integer unit, or the exact one of a float unit. So a tensor escapes
rounding only where its producer and all its readers stay in float.

The network is run as the exported float program with that rounding put in between, on any number of pictures at once.
On one picture it gives what :func:`quantization.graph.quantized_module` gives of the same plan, bit for bit, but it
needs no new graph when other units stay in float.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from quantization.affine import AffineGrid
from quantization.graph import activation_grids, exported_module, quantized_module, weights_by_node
from quantization.plan import QuantizationPlan

__all__ = ["MixedNetwork", "Unit", "Values"]

_INTEGER: Final = ("conv", "linear", "add.", "mul.", "cat.", "adaptive_avg_pool2d.")
"""Operators the quantizer makes integer, by how their names begin."""
_QUANTIZERS: Final = ("quantize_per_tensor", "dequantize_per_tensor", "quantize_per_channel", "dequantize_per_channel")
Values = Mapping[str, Any]
"""Node name to what it computed."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """An operator that a plan makes integer.

    Attributes:
        name: Of the node that gives its result; the name a plan's ``kept_float`` uses.
        nodes: All its nodes, in order.
        inputs: Nodes whose values it reads from their grids.
        layer: Dotted path of the module it comes from; empty where there is none.
        weights: Number of its weights.
    """

    name: str
    nodes: tuple[str, ...]
    inputs: tuple[str, ...]
    layer: str
    weights: int


class MixedNetwork:
    """A network and its ``w8a8`` plan, to be run with any units in float.

    Args:
        network: Fused float student in eval mode.
        plan: Made from the same network and input size.
        input_size: Rows and columns H, W.

    Raises:
        BadInputError: The plan is another network's, or batch norms are not folded.
        EnvironmentLacksError: torchao or executorch is absent.

    Attributes:
        units: By name, in the order of the program.
        grids: Of every tensor an integer unit reads or gives, by node.
    """

    def __init__(self, network: nn.Module, plan: QuantizationPlan, input_size: tuple[int, int]) -> None:
        quantized = quantized_module(network, plan, input_size)
        self.grids = activation_grids(quantized)
        self._module = exported_module(network, input_size)
        self._weights = weights_by_node(quantized)
        self.units = {unit.name: unit for unit in _units(quantized, self._module, self._weights)}
        self._unit_of = {node: unit for unit in self.units.values() for node in unit.nodes}

    @property
    def readers(self) -> dict[str, tuple[str, ...]]:
        """Give every tensor with a grid and the units that read it from there."""
        found: dict[str, list[str]] = {name: [] for name in self.grids}
        for unit in self.units.values():
            for name in unit.inputs:
                found[name].append(unit.name)
        return {name: tuple(units) for name, units in found.items()}

    def weights(self, unit: str) -> tuple[Tensor, Tensor] | None:
        """Give a unit's weights ``[C_out, ...]`` in float and as its integers stand for; None where it has none."""
        first = self.units[unit].nodes[0]
        node = next(node for node in self._module.graph.nodes if node.name == first)
        rounded = self._weights.get(first)
        return None if rounded is None else (_constant(self._module, node.args[1]), rounded)

    def heatmaps(self, pictures: NDArray[np.float32], *, kept: Iterable[str] = ()) -> NDArray[np.float32]:
        """Map normalised pictures ``[N, 3, H, W]`` to heatmaps ``[N, K, h, w]``, some units in float."""
        values = self.run(torch.from_numpy(np.ascontiguousarray(pictures)), kept=kept)
        maps: NDArray[np.float32] = self.result(values).numpy()
        return maps

    def result(self, values: Values) -> Tensor:
        """Give the heatmaps of a run."""
        node = next(node for node in self._module.graph.nodes if node.op == "output")
        heatmaps: Tensor = values[node.all_input_nodes[0].name]
        return heatmaps

    @torch.inference_mode()
    def run(
        self, pictures: Tensor, *, kept: Iterable[str] = (), like: tuple[Values, Iterable[str]] | None = None
    ) -> Values:
        """Run the network and keep every value.

        Args:
            pictures: Normalised ``[N, 3, H, W]``.
            kept: Names of the units that stay in float.
            like: An earlier run on the same pictures and what it kept: only what can differ is computed again.

        Raises:
            KeyError: There is no unit of that name.
        """
        float_units = {self.units[name].name for name in kept}
        before, changed = (like[0], float_units ^ set(like[1])) if like else ({}, set(self.units))
        values: dict[str, Any] = {}
        dirty: set[str] = set()
        for node in self._module.graph.nodes:
            unit = self._unit_of.get(node.name)
            again = not like or (unit is not None and unit.name in changed) or _reads(node, dirty)
            if not again and node.name in before:
                values[node.name] = before[node.name]
                continue
            dirty.add(node.name)
            integer = unit is not None and unit.name not in float_units
            values[node.name] = self._value(node, values, pictures, unit if integer else None)
        return values

    def _value(self, node: Node, values: Mapping[str, Any], pictures: Tensor, unit: Unit | None) -> Any:
        """Compute a node; ``unit`` is the integer unit it belongs to."""
        match node.op:
            case "placeholder":
                return pictures
            case "get_attr":
                return _constant(self._module, node)
            case "output":
                return None
        weight = self._weights.get(node.name) if unit is not None else None

        def read(argument: Node) -> Any:
            if weight is not None and argument is node.args[1]:
                return weight
            value = values[argument.name]
            return self._rounded(argument.name, value) if unit is not None and argument.name in unit.inputs else value

        args, keywords = torch.fx.map_arg((node.args, node.kwargs), read)
        value = node.target(*args, **keywords)  # type: ignore[operator]  # every other node calls a function
        return self._rounded(node.name, value) if unit is not None and node.name == unit.name else value

    def _rounded(self, name: str, value: Tensor) -> Tensor:
        grid = self.grids.get(name)
        return value if grid is None else _on_grid(value, grid)


def _on_grid(value: Tensor, grid: AffineGrid) -> Tensor:
    """Round reals to the nearest values of a grid."""
    return torch.fake_quantize_per_tensor_affine(value, grid.scale, grid.zero_point, grid.quant_min, grid.quant_max)


def _reads(node: Node, dirty: set[str]) -> bool:
    return any(source.name in dirty for source in node.all_input_nodes)


def _is_quantizer(node: Node) -> bool:
    return any(str(node.target).startswith(f"quantized_decomposed.{name}.") for name in _QUANTIZERS)


def _units(quantized: GraphModule, exported: GraphModule, weights: Mapping[str, Tensor]) -> list[Unit]:
    """Find what lies between dequantize and quantize nodes."""
    layers = {node.name: _layer_of(node) for node in exported.graph.nodes}
    constants = {node.name for node in quantized.graph.nodes if node.op == "get_attr"}
    units: list[Unit] = []
    for node in quantized.graph.nodes:
        sources = [s for s in node.all_input_nodes if s.name not in constants and "per_channel" not in str(s.target)]
        name = str(node.target).removeprefix("aten.")
        if node.op != "call_function" or not name.startswith(_INTEGER) or not sources:
            continue
        if not all("dequantize_per_tensor" in str(source.target) for source in sources):
            continue
        after = next(iter(node.users))
        nodes = [node] if _is_quantizer(after) else [node, after]
        weight = weights.get(node.name)
        units.append(
            Unit(
                name=nodes[-1].name,
                nodes=tuple(each.name for each in nodes),
                inputs=tuple(source.all_input_nodes[0].all_input_nodes[0].name for source in sources),
                layer=layers.get(node.name, ""),
                weights=0 if weight is None else weight.numel(),
            )
        )
    return units


def _layer_of(node: Node) -> str:
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]) if stack else ""


def _constant(module: GraphModule, node: Node) -> Any:
    value: Any = module
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return value
