"""Running whole graphs, and the part of a graph between some values and another one: what the certificate compares."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.fx import Graph, Interpreter, Node

__all__ = ["MissingValueError", "outputs_of", "side_of", "tensors_in", "value_between"]

_ANY_SIZE: Final = (
    "conv", "batch_norm", "getitem", "relu", "hardtanh", "clamp", "add", "sub", "mul", "div", "neg", "avg_pool2d",
    "pad", "constant_pad_nd", "cat",
)  # fmt: skip
_SITE_SIDE: Final = (13, 16)  # odd and even


class MissingValueError(Exception):
    """A value was asked for that does not follow from the values given."""


def tensors_in(found: Any) -> list[Tensor]:
    """Flatten what a network gave: a tensor, or tensors in lists, tuples and mappings."""
    if isinstance(found, Tensor):
        return [found]
    if isinstance(found, Mapping):
        return [tensor for part in found.values() for tensor in tensors_in(part)]
    return [tensor for part in found for tensor in tensors_in(part)] if isinstance(found, list | tuple) else []


@torch.no_grad()
def outputs_of(network: nn.Module, args: Sequence[Any], keywords: Mapping[str, Any]) -> list[Tensor]:
    """Run a network and flatten what it gives."""
    return tensors_in(network(*args, **keywords))


@torch.no_grad()
def value_between(interpreter: Interpreter, given: Mapping[str, Tensor], wanted: str) -> Tensor:
    """Compute the value of one node from the values of others.

    Raises:
        MissingValueError: It depends on an input of the graph that is not given.
    """
    for node in _between(interpreter.graph, given, wanted):
        value = given[node.name] if node.name in given else interpreter.run_node(node)
        interpreter.env[node] = value
        if node.name == wanted and node.name not in given:
            interpreter.env.clear()
            assert isinstance(value, Tensor)
            return value
    message = f"{wanted} is not computed by the graph"
    raise MissingValueError(message)


def side_of(parts: Sequence[tuple[Interpreter, Sequence[str], str]], shape: Sequence[int]) -> tuple[int, ...]:
    """Give the shape to try a site on: smaller than ``shape`` where no operator in between names a size.

    Both spatial sides stay larger than every kernel, so that some pixels see no border.
    """
    if len(shape) != 4:
        return tuple(shape)
    largest = 0
    for interpreter, sources, wanted in parts:
        for node in _between(interpreter.graph, dict.fromkeys(sources), wanted):
            if node.op == "call_function" and node.name not in sources and not _takes_any_size(node):
                return tuple(shape)
            largest = max(largest, _reach(interpreter, node))
    return (*shape[:2], *(min(have, side + largest) for have, side in zip(shape[2:], _SITE_SIDE, strict=True)))


def _reach(interpreter: Interpreter, node: Node) -> int:
    """Pixels between the first and the last tap of a node's kernel, rounded up to even."""
    sides = [
        interpreter.fetch_attr(str(each.target)).shape[2:]
        for each in node.all_input_nodes
        if each.op == "get_attr" and interpreter.fetch_attr(str(each.target)).ndim == 4
    ]
    dilations = [1]
    if node.op == "call_module":
        layer = interpreter.submodules[str(node.target)]
        sides = [layer.kernel_size] if isinstance(layer, nn.Conv2d) else []
        dilations = list(layer.dilation) if isinstance(layer, nn.Conv2d) else [1]
    elif "conv2d" in str(node.target) and len(node.args) > 5 and isinstance(node.args[5], list):
        dilations = [int(step) for step in node.args[5]]
    reach = max((max(each) - 1 for each in sides), default=0) * max(dilations)
    return int(reach + reach % 2)


def _takes_any_size(node: Node) -> bool:
    return getattr(node.target, "__name__", "").partition(".")[0].rstrip("123d") in {
        name.rstrip("123d") for name in _ANY_SIZE
    } | {"_native_batch_norm_legit_no_training"}


def _between(graph: Graph, given: Mapping[str, Any], wanted: str) -> list[Node]:
    """List the nodes that a value needs, in order; what is given needs nothing."""
    needed: set[str] = {wanted}
    for node in reversed(list(graph.nodes)):
        if node.name in needed and node.name not in given:
            if node.op == "placeholder":
                message = f"{wanted} also depends on the input {node.name}"
                raise MissingValueError(message)
            needed.update(each.name for each in node.all_input_nodes)
    return [node for node in graph.nodes if node.name in needed]
