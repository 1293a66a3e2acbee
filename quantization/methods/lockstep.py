"""A graph run node by node, every picture through one node before the next.

So a method can look at what a layer reads and gives on all calibration pictures, change the layer, and let everything
after it see the change, in a single pass. What no later node reads is let go at once.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node
from torch.fx.node import map_arg

__all__ = ["Lockstep"]


class Lockstep:
    """Runs one graph over pictures, as far as it is told to.

    Args:
        module: Graph of one input.
        pictures: Inputs ``[1, 3, H, W]``.
    """

    def __init__(self, module: GraphModule, pictures: Sequence[Tensor]) -> None:
        self._interpreter = Interpreter(module)
        self._pictures = pictures
        self._values: dict[Node, list[Any]] = {}
        self._nodes = list(module.graph.nodes)
        self._constant = _constants(module)
        self._done = 0
        place = {node: index for index, node in enumerate(self._nodes)}
        self._last_use = {node: max((place[user] for user in node.users), default=-1) for node in self._nodes}

    def values(self, name: str) -> list[Any]:
        """Run as far as needed and give what a node gives on each picture.

        Raises:
            ValueError: The graph has no such node, or its values were let go.
        """
        while not any(node.name == name for node in self._values):
            if self._done == len(self._nodes):
                message = f"{name} is not a node whose values are still needed"
                raise ValueError(message)
            self._step()
        return next(values for node, values in self._values.items() if node.name == name)

    def replace(self, name: str, values: Sequence[Any]) -> None:
        """Give what later nodes shall read in place of a node's own values."""
        node = next(node for node in self._values if node.name == name)
        self._values[node] = list(values)

    @torch.no_grad()
    def _step(self) -> None:
        node = self._nodes[self._done]
        self._done += 1
        if node.op == "placeholder":
            self._values[node] = list(self._pictures)
        elif node.op != "output" and node not in self._constant:
            held = {each: self._fixed(each) for each in node.all_input_nodes if each in self._constant}
            self._values[node] = [self._run(node, held, index) for index in range(len(self._pictures))]
        for each in [each for each in self._values if self._last_use[each] < self._done and each is not node]:
            del self._values[each]

    def _run(self, node: Node, held: dict[Node, Any], index: int) -> Any:
        def value(each: Node) -> Any:
            return held[each] if each in held else self._values[each][index]

        args, keywords = map_arg(node.args, value), map_arg(node.kwargs, value)
        return getattr(self._interpreter, node.op)(node.target, args, keywords)

    def _fixed(self, node: Node) -> Any:
        """Compute a value that follows from constants alone, as they are now."""
        held = {each: self._fixed(each) for each in node.all_input_nodes}
        args, keywords = map_arg(node.args, held.__getitem__), map_arg(node.kwargs, held.__getitem__)
        return getattr(self._interpreter, node.op)(node.target, args, keywords)


def _constants(module: GraphModule) -> set[Node]:
    """Give the nodes that no input reaches."""
    constant: set[Node] = set()
    for node in module.graph.nodes:
        if node.op == "get_attr" or (node.op == "call_function" and set(node.all_input_nodes) <= constant):
            constant.add(node)
    return constant
