"""A plan applied to a network: an exported program with quantize and dequantize nodes (PyTorch 2 export, PT2E).

``prepare_pt2e`` places an observer at every tensor that becomes int8. Instead of running the pictures through them
again, the plan's ranges are loaded into the activation observers; weight observers look at the weights themselves. The
result equals what calibration over the same pictures gives, and one plan serves every format.

Weights: int8 per output channel, symmetric, -127..127. Activations: int8 per tensor, asymmetric. Biases, input and
output stay float. Which operators become integer follows the XNNPACK quantizer (convolution, add, each with the ReLU
or clamp after it); the others, such as bilinear resize and ELU, stay float between a dequantize and a quantize node.
"""

import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from lspdmobile.choices import Precision
from lspdmobile.errors import BadInputError, EnvironmentLacksError
from quantization.affine import AffineGrid, smallest_weight_scale
from quantization.annotating import clamps_fused, quantizer_for
from quantization.plan import QuantizationPlan, TensorRange

__all__ = [
    "Move",
    "activation_grids",
    "exported_module",
    "float_layers",
    "moves_of",
    "picture_of",
    "quantized_module",
    "weight_scales_by_node",
    "weights_by_node",
]

_ACTIVATIONS: Final = ("aten.relu", "aten.hardtanh", "aten.clamp")
"""What is fused into the operator before it, by how its name begins."""
_LAYERS: Final = ("aten.conv", "aten.linear")
_MOVES: Final = frozenset(
    getattr(torch.ops.aten, name)
    for name in ("view", "reshape", "_unsafe_view", "flatten", "transpose", "permute", "squeeze", "unsqueeze")
)
"""What moves numbers and computes nothing."""


def picture_of(module: GraphModule) -> str:
    """Name the node of a network's input."""
    name: str = next(node.name for node in module.graph.nodes if node.op == "placeholder")
    return name


def exported_module(network: nn.Module, input_size: tuple[int, int]) -> GraphModule:
    """Export a network for one picture; its node names are the names a plan uses.

    Args:
        network: Float network in eval mode; maps ``[1, 3, H, W]`` to heatmaps.
        input_size: Rows and columns H, W.

    Raises:
        ValueError: The network is in training mode.
    """
    if network.training:
        message = "the network is in training mode; call eval() first"
        raise ValueError(message)
    with torch.no_grad():
        exported = torch.export.export(network, (torch.zeros(1, 3, *input_size),))
    return exported.module(check_guards=False)


def quantized_module(
    network: nn.Module, plan: QuantizationPlan, input_size: tuple[int, int], *, fold_quantize: bool = True
) -> GraphModule:
    """Give the network with the plan's int8 grids as quantize and dequantize nodes.

    Args:
        network: Fused float student in eval mode.
        plan: A ``w8a8`` plan made from the same network and input size.
        input_size: Rows and columns H, W.
        fold_quantize: Store weights as int8 constants; false keeps them float in front of a quantize node.

    Raises:
        BadInputError: The plan has no range for a tensor of the network or is not a ``w8a8`` plan, or the network has
            batch norms.
        EnvironmentLacksError: torchao or executorch is absent.
    """
    if plan.precision is not Precision.W8A8:
        message = f"a {plan.precision} plan cannot be written as int8 weights and activations; use a w8a8 plan"
        raise BadInputError(message)
    exported = exported_module(network, input_size)
    _refuse_batch_norm(exported)
    kept = _with_fused(exported, plan.kept_float)
    try:
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

        quantizer = quantizer_for(kept)
    except ImportError as error:
        message = f"w8a8 needs the package {error.name}: pip install 'lspdmobile[executorch]'"
        raise EnvironmentLacksError(message) from error
    with _quiet(), torch.no_grad():
        with clamps_fused():
            prepared = prepare_pt2e(exported, quantizer)
        _load(prepared, plan)
        converted: GraphModule = convert_pt2e(prepared, fold_quantize=fold_quantize)
    return converted


def activation_grids(module: GraphModule) -> dict[str, AffineGrid]:
    """Read back the grid of every int8 activation of a quantized module, by the name of the node it quantizes."""
    grids: dict[str, AffineGrid] = {}
    for node in module.graph.nodes:
        if node.target is torch.ops.quantized_decomposed.quantize_per_tensor.default:
            source, scale, zero_point, quant_min, quant_max = node.args[:5]
            grids[source.name] = AffineGrid(
                scale=float(scale), zero_point=int(zero_point), quant_min=int(quant_min), quant_max=int(quant_max)
            )
    return grids


@dataclass(frozen=True, kw_only=True)
class Move:
    """A tensor that is another one with its numbers moved: the other one's name, and its own shape."""

    source: str
    shape: tuple[int, ...]


def moves_of(module: GraphModule) -> dict[str, Move]:
    """Give the int8 tensors of a quantized module that are moved ones, by name: views, permutations and the like."""
    grids = activation_grids(module)
    moves: dict[str, Move] = {}
    for node in module.graph.nodes:
        if node.name not in grids or getattr(node.target, "overloadpacket", None) not in _MOVES:
            continue
        rounded = node.args[0]
        while str(rounded.target).startswith("quantized_decomposed."):
            rounded = rounded.args[0]
        if grids.get(rounded.name) == grids[node.name]:
            moves[node.name] = Move(source=rounded.name, shape=tuple(node.meta["val"].shape))
    return moves


def weight_scales_by_node(module: GraphModule) -> dict[str, Tensor]:
    """Read back the per-channel scales ``[C_out]`` of every int8 weight, by the name of the node that uses it."""
    scales: dict[str, Tensor] = {}
    for node in module.graph.nodes:
        if node.target is torch.ops.quantized_decomposed.dequantize_per_channel.default:
            for user in node.users:
                scales[user.name] = _constant(module, node.args[1])
    return scales


def weights_by_node(module: GraphModule) -> dict[str, Tensor]:
    """Read back what every int8 weight of a quantized module stands for, by the name of the node that uses it."""
    weights: dict[str, Tensor] = {}
    for node in module.graph.nodes:
        if node.target is torch.ops.quantized_decomposed.dequantize_per_channel.default:
            integers, scales, zero_points = (_constant(module, argument) for argument in node.args[:3])
            value = node.target(integers, scales, zero_points, *node.args[3:])
            weights.update({user.name: value for user in node.users})
    return weights


def float_layers(module: GraphModule) -> tuple[str, ...]:
    """Name the nodes of a quantized module that compute with float weights."""
    integer = weight_scales_by_node(module)
    layers = (node.name for node in module.graph.nodes if str(node.target).startswith(_LAYERS))
    return tuple(name for name in layers if name not in integer)


def _with_fused(exported: GraphModule, kept_float: Collection[str]) -> frozenset[str]:
    """Add to the names of operators that stay in float those they are fused with: the operator before a ReLU.

    Raises:
        BadInputError: A name is not in the network.
    """
    nodes = {node.name: node for node in exported.graph.nodes}
    if unknown := sorted(set(kept_float) - nodes.keys()):
        message = f"the plan keeps {', '.join(unknown)} in float, which the network does not have; plan it again"
        raise BadInputError(message)
    activations = [nodes[name] for name in kept_float if str(nodes[name].target).startswith(_ACTIVATIONS)]
    sources = (source for node in activations for source in node.all_input_nodes)
    return frozenset((*kept_float, *(source.name for source in sources if len(source.users) == 1)))


def _refuse_batch_norm(exported: GraphModule) -> None:
    """PT2E folds norms itself, after which a convolution's values are no longer those the plan was calibrated on."""
    norms = [node.name for node in exported.graph.nodes if "batch_norm" in str(node.target)]
    if norms:
        message = f"{len(norms)} batch norms are not folded ({norms[0]} is the first): fuse the network, then quantize"
        raise BadInputError(message)


def _load(prepared: GraphModule, plan: QuantizationPlan) -> None:
    """Fill every observer: activations from the plan, constants from their own values; shared observers merge."""
    missing: list[str] = []
    for observer, source in _observed(prepared):
        if source.op == "get_attr":
            observer(_constant(prepared, source))
        elif source.name in plan.ranges:
            _merge(observer, plan.ranges[source.name])
        else:
            missing.append(source.name)
    if missing:
        message = (
            f"the plan has no range for {', '.join(missing)}: it was made from another network; "
            "calibrate again with this network"
        )
        raise BadInputError(message)
    _make_room_for_biases(prepared)


def _make_room_for_biases(prepared: GraphModule) -> None:
    """Widen the weight observers of channels whose bias would not fit into int32 (``smallest_weight_scale``)."""
    observers = _observers(prepared)
    for node in prepared.graph.nodes:
        source, weight, bias = (*node.all_input_nodes, None, None, None)[:3]
        if source in observers and weight in observers and bias is not None and bias.op == "get_attr":
            scale = float(observers[source].calculate_qparams()[0])
            floor = smallest_weight_scale(_constant(prepared, bias).double().numpy(), scale)
            observer = observers[weight]
            highest = torch.from_numpy(floor * observer.quant_max).to(observer.max_val)
            observer.max_val = torch.maximum(observer.max_val, highest)


def _observers(prepared: GraphModule) -> dict[Node, Any]:
    """Give each observer's node and module."""
    modules = dict(prepared.named_modules(remove_duplicate=False))
    return {
        node: modules[str(node.target)]
        for node in prepared.graph.nodes
        if node.op == "call_module" and hasattr(modules[str(node.target)], "calculate_qparams")
    }


def _observed(prepared: GraphModule) -> Iterator[tuple[Any, Node]]:
    """Yield each observer module with the node whose values it sees."""
    observers = _observers(prepared)
    for node, observer in observers.items():
        source = node.all_input_nodes[0]
        while source in observers:
            source = source.all_input_nodes[0]
        yield observer, source


def _merge(observer: Any, observed: TensorRange) -> None:
    """Widen a min-max observer's range; a fresh one holds +inf and -inf."""
    observer.min_val = torch.minimum(observer.min_val, torch.tensor(observed.low))
    observer.max_val = torch.maximum(observer.max_val, torch.tensor(observed.high))


def _constant(module: GraphModule, node: Node) -> Tensor:
    value: Any = module
    for part in str(node.target).split("."):
        value = getattr(value, part)
    if not isinstance(value, Tensor):
        message = f"{node.name} is not a tensor constant"
        raise TypeError(message)
    return value.detach()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the deprecation notices of the quantization packages for one call."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
