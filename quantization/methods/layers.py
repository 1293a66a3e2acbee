"""The layers of a network by their names in its exported program, and networks like it with other weights.

A plan names tensors by the nodes of the exported program; the program's constants carry the names of the network's own
parameters. So a method finds its way around in the program and writes what it found into a copy of the network, whose
program has the same nodes.
"""

import copy
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

__all__ = ["Layer", "activation_of", "argument", "kind_of", "layers_of", "renewed"]

_RELU: Final = "relu"


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A convolution or a linear layer whose weights are the network's own.

    Attributes:
        name: Its node in the exported program.
        weight: Name of the parameter ``[C_out, C_in / groups, ...]``.
        bias: Name of the parameter ``[C_out]``; None without one.
        source: Node that it reads.
        axis: Where the channels of its output lie.
        groups: 1 for linear layers.
        shared: Whether another layer uses the same weight or bias.
        relu: Node of the ReLU that alone reads its output; None where there is none.
    """

    name: str
    weight: str
    bias: str | None
    source: str
    axis: int
    groups: int
    shared: bool
    relu: str | None


def kind_of(node: Node) -> str:
    """Give an operator's name without namespace, overload and in-place mark (``conv2d``); empty for what is none."""
    packet = getattr(node.target, "overloadpacket", None)
    if node.op != "call_function" or packet is None:
        return ""
    return str(packet).rpartition(".")[2].removesuffix("_")


def argument(node: Node, name: str) -> Any:
    """Give the value of an operator's argument, or its default."""
    target: Any = node.target
    for place, declared in enumerate(target._schema.arguments):
        if declared.name == name:
            given = node.args[place] if place < len(node.args) else node.kwargs.get(name)
            return declared.default_value if given is None and declared.has_default_value() else given
    message = f"{node.name}: {node.target} has no argument {name}"
    raise ValueError(message)


def layers_of(program: GraphModule) -> tuple[Layer, ...]:
    """List the layers of an exported program in its order; those whose weight is computed are left out."""
    uses = Counter(str(each.target) for node in program.graph.nodes for each in _constants(node))
    found = []
    for node in program.graph.nodes:
        if kind_of(node) not in ("conv2d", "linear"):
            continue
        source, weight, bias = (argument(node, name) for name in ("input", "weight", "bias"))
        if weight.op != "get_attr" or (bias is not None and bias.op != "get_attr"):
            continue
        names = [str(each.target) for each in (weight, bias) if each is not None]
        layer = Layer(
            name=node.name,
            weight=names[0],
            bias=names[1] if bias is not None else None,
            source=source.name,
            axis=1 if kind_of(node) == "conv2d" else -1,
            groups=argument(node, "groups") if kind_of(node) == "conv2d" else 1,
            shared=any(uses[name] > 1 for name in names),
            relu=activation_of(node),
        )
        found.append(layer)
    return tuple(found)


def activation_of(node: Node) -> str | None:
    """Give the ReLU that is the only reader of a node, or None."""
    users = list(node.users)
    return users[0].name if len(users) == 1 and kind_of(users[0]) == _RELU else None


def renewed(network: nn.Module, values: Mapping[str, Tensor]) -> nn.Module:
    """Copy a network and give some of its parameters other values; the network itself is not touched.

    Args:
        network: In eval mode.
        values: Parameter name to a tensor of the same shape.

    Raises:
        ValueError: A name is not a parameter's, a shape differs, or a number is not finite.
    """
    copied = copy.deepcopy(network)
    tensors = copied.state_dict(keep_vars=True)
    with torch.no_grad():
        for name, value in values.items():
            if name not in tensors or tensors[name].shape != value.shape:
                message = f"{name}: the network has no parameter of that name and shape {tuple(value.shape)}"
                raise ValueError(message)
            if not math.isfinite(float(value.abs().sum())):
                message = f"{name}: new values must be finite"
                raise ValueError(message)
            tensors[name].copy_(value)
    return copied


def _constants(node: Node) -> list[Node]:
    return [each for each in node.all_input_nodes if each.op == "get_attr"]
