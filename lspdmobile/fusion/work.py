"""The graph while it is rewritten: float64 layers, constants, and what each node stands for.

A node **stands for** a value of the captured graph when it computes exactly that value; the certificate takes the claim
and tests it by executing both. Inner nodes of a rewritten form stand for nothing.
"""

import copy
import operator
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node

from lspdmobile.fusion.graph import constant_of
from lspdmobile.fusion.lifting import layer_of
from lspdmobile.fusion.linear import Linear, conv_of
from lspdmobile.fusion.planner import Choice
from lspdmobile.fusion.quantizability import SiteForecast

__all__ = ["Site", "Work"]


@dataclass(frozen=True, kw_only=True)
class Site:
    """One rewritten place, as the rewrites claim it; names of values, nothing that computes.

    Attributes:
        name: Path of the module that gives the result, or the name of its node.
        rewrites: What was done, in order; the last names the site.
        form: How the result is computed now, such as ``5x5`` or ``3x3 d2 + identity``.
        choice: Why it is computed so; None where there was only one way.
        value: Name in the captured graph of the value it computes.
        sources: Of each value it is computed from, its names in the captured graph: more than one where the network
            computes it more than once.
        node, inputs: The same in the fused graph.
    """

    name: str
    rewrites: tuple[str, ...]
    form: str
    choice: Choice | None
    value: str
    sources: tuple[tuple[str, ...], ...]
    node: str
    inputs: tuple[str, ...]


class Work:
    """A captured graph with its layers lifted to modules, to be edited in place.

    Attributes:
        graph: One node per operator; layers are ``call_module`` nodes whose target is a key of ``modules``. A node's
            ``meta`` holds ``shape``, ``value`` (what it stands for), ``same`` (others it equals), ``paths`` (names it
            may take) and ``rewrites``.
        modules: Layers, float64.
        constants: Tensors that ``get_attr`` nodes name.
        removed: Operators that were removed as idle or duplicate, by name.
        int8: How well each merged kernel survives int8, by the path it takes.
    """

    def __init__(self, captured: GraphModule) -> None:
        self.graph = Graph()
        self.modules: dict[str, nn.Module] = {}
        self.constants: dict[str, Tensor] = {}
        self._refused: dict[tuple[Node, str], str] = {}
        self.removed: Counter[str] = Counter()
        self.int8: dict[str, SiteForecast] = {}
        self._shared = _shared_weights(captured)
        self._parameters = {name for name, _ in captured.named_parameters(remove_duplicate=False)}
        self._codegen = captured.graph._codegen
        copies: dict[Node, Node] = {}
        for node in captured.graph.nodes:
            copies[node] = self._lifted(node, captured, copies)
        self.sweep()

    def layer(self, node: Any) -> nn.Module | None:
        """Give the module a node calls; None for any other node."""
        return self.modules[str(node.target)] if isinstance(node, Node) and node.op == "call_module" else None

    def constant(self, node: Any) -> Tensor | None:
        """Give the tensor a ``get_attr`` node names; None for anything else."""
        return self.constants[str(node.target)] if isinstance(node, Node) and node.op == "get_attr" else None

    def shared(self, node: Node) -> str | None:
        """Say which places share a layer's weights; None where the layer has them for itself."""
        said: str | None = node.meta.get("shared")
        return said

    def conv_node(self, source: Node, linear: Linear, *, paths: list[str], shape: tuple[int, ...] | None) -> Node:
        """Add a convolution of a node's value; the caller has set where.

        Raises:
            NotExactError: No convolution module does this.
        """
        return self.call(conv_of(linear), source, paths=paths, shape=shape)

    def call(
        self,
        module: nn.Module,
        source: Node,
        *,
        paths: list[str],
        shape: tuple[int, ...] | None,
        name: str | None = None,
    ) -> Node:
        """Add a call of a layer."""
        key = f"layer_{len(self.modules)}"
        self.modules[key] = module
        name = name or paths[0].replace(".", "_")
        node = self.graph.create_node("call_module", key, (source,), name=name)
        node.meta = {"shape": shape, "modules": (), "value": None, "paths": paths, "rewrites": ()}
        return node

    def operator(self, target: Any, args: tuple[Any, ...], *, like: Node) -> Node:
        """Add a call of an operator whose result has the shape of another node's."""
        node = self.graph.create_node("call_function", target, args)
        node.meta = {**like.meta, "value": None, "paths": [], "rewrites": ()}
        return node

    def add_constant(self, name: str, value: Tensor) -> Node:
        """Add a tensor under a name of its own."""
        unique = name
        while unique in self.constants:
            unique += "_"
        self.constants[unique] = value
        node = self.graph.create_node("get_attr", unique)
        node.meta = {"shape": tuple(value.shape), "modules": (), "value": None, "paths": [], "rewrites": ()}
        return node

    def replace(self, old: Node, new: Node, *rewrites: str, form: str = "", choice: Choice | None = None) -> None:
        """Let a node take another one's place and stand for the same; what nobody reads any more is removed."""
        old.replace_all_uses_with(new)
        new.meta["value"], new.meta["same"] = old.meta["value"], old.meta.get("same", ())
        new.meta["shape"] = old.meta["shape"]
        new.meta["modules"] = old.meta["modules"]
        new.meta["rewrites"] = tuple(dict.fromkeys((*old.meta["rewrites"], *new.meta["rewrites"], *rewrites)))
        new.meta["form"] = form or new.meta.get("form", "")
        new.meta["choice"] = choice or new.meta.get("choice") or old.meta.get("choice")
        self.sweep()

    def bypass(self, idle: Node, source: Node) -> None:
        """Let the readers of an idle node read its source."""
        kind = type(self.layer(idle)).__name__ if idle.op == "call_module" else getattr(idle.target, "__name__", "")
        self.removed[kind.partition(".")[0]] += 1
        source.meta["same"] = (*source.meta.get("same", ()), idle.meta["value"], *idle.meta.get("same", ()))
        idle.replace_all_uses_with(source)
        self.sweep()

    def refuse(self, node: Node, rewrite: str, reason: str) -> None:
        """Note why a rewrite was not done."""
        self._refused[node, rewrite] = reason

    def hand_on_refusals(self, old: Node, new: Node) -> None:
        """Let what was not done to a node be said of the one that takes its place."""
        self._refused.update({(new, what): why for (node, what), why in self._refused.items() if node is old})

    @property
    def refused(self) -> dict[tuple[str, str], str]:
        """Give the reasons, by place and rewrite, of what was not done to the operators that are left."""
        left = set(self.graph.nodes)
        return {(_place_of(node), what): why for (node, what), why in self._refused.items() if node in left}

    def sweep(self) -> None:
        """Remove nodes that nobody reads."""
        for node in reversed(list(self.graph.nodes)):
            if not node.users and node.op not in ("placeholder", "output"):
                self.graph.erase_node(node)

    def finished(self, dtype: torch.dtype) -> tuple[GraphModule, tuple[Site, ...]]:
        """Give the graph as a module in a float type, and what was rewritten in it; the work can go on."""
        root, targets = self._named(dtype)
        graph, copies = Graph(), dict[Node, Node]()
        for node in self.graph.nodes:
            copies[node] = twin = graph.node_copy(node, copies.__getitem__)
            twin.target = targets.get(node, node.target)
            twin.meta = {}
        graph.set_codegen(copy.deepcopy(self._codegen))
        sites = tuple(self._sites(copies, targets))
        module = GraphModule(root, graph, class_name="Fused")
        return module.eval(), sites

    def _lifted(self, node: Node, captured: GraphModule, copies: dict[Node, Node]) -> Node:
        if node.op == "get_attr" and (value := constant_of(captured, node)) is not None:
            self.constants[str(node.target)] = value.detach().double() if value.is_floating_point() else value
        if node.target is operator.getitem and copies[node.args[0]].meta.get("first"):  # type: ignore[index]
            return copies[node.args[0]]  # type: ignore[index]
        found = layer_of(node, self._reads(copies)) if node.op == "call_function" else None
        twin: Node
        if found is None:
            twin = self.graph.node_copy(node, copies.__getitem__)
        else:
            module, paths = found
            source = copies[node.args[0]]  # type: ignore[index]  # a layer's first argument is the node it reads
            twin = self.call(module, source, paths=paths, shape=None, name=node.name)
            if node.target is torch.ops.aten._native_batch_norm_legit_no_training.default:
                return self._norm_with_statistics(node, twin)
        twin.meta = {**node.meta, "value": node.name, "rewrites": (), "paths": [] if found is None else found[1]}
        twin.meta["shared"] = self._shared.get(node.name)
        return twin

    def _norm_with_statistics(self, node: Node, twin: Node) -> Node:
        """The operator gives three values, of which ``operator.getitem`` takes the first: the layer stands for that."""
        taken = next(iter(node.users))
        twin.meta = {**taken.meta, "value": taken.name, "rewrites": (), "paths": twin.meta["paths"], "first": True}
        return twin

    def _reads(self, copies: dict[Node, Node]) -> Any:
        return lambda argument: self.constant(copies.get(argument)) if isinstance(argument, Node) else None

    def _named(self, dtype: torch.dtype) -> tuple[dict[str, Any], dict[Node, str]]:
        """Give every layer and constant a path: its own where that is free, else one beside it."""
        root: dict[str, Any] = {}
        targets: dict[Node, str] = {}
        for node in self.graph.nodes:
            if node.op == "get_attr":
                name = str(node.target)
                root[name], targets[node] = self._as_attribute(name, dtype), name
        layers = [node for node in self.graph.nodes if node.op == "call_module"]
        keys: dict[str, str] = {}
        for node in sorted(layers, key=lambda n: len(n.meta["paths"])):
            key = str(node.target)
            if key not in keys:
                keys[key] = path = _free(node.meta["paths"] or [node.name], root)
                root[path] = copy.deepcopy(self.modules[key]).to(dtype)
            targets[node] = keys[key]
        return root, targets

    def _as_attribute(self, name: str, dtype: torch.dtype) -> Tensor:
        value = self.constants[name]
        value = value.to(dtype) if value.is_floating_point() else value
        return nn.Parameter(value, requires_grad=False) if name in self._parameters else value

    def _sites(self, copies: dict[Node, Node], targets: dict[Node, str]) -> Iterator[Site]:
        for node in self.graph.nodes:
            if node.meta["rewrites"] and node.meta["value"] is not None:
                sources = _sources(node)
                yield Site(
                    name=targets.get(node) or _place_of(node),
                    rewrites=node.meta["rewrites"],
                    form=node.meta.get("form", ""),
                    choice=node.meta.get("choice"),
                    value=node.meta["value"],
                    sources=tuple((each.meta["value"], *each.meta.get("same", ())) for each in sources),
                    node=copies[node].name,
                    inputs=tuple(copies[each].name for each in sources),
                )


def _place_of(node: Node) -> str:
    """Say where a node is: its layer's path, or the innermost module it comes from and its name."""
    paths: list[str] = node.meta["paths"]
    if paths:
        return paths[0]
    modules = node.meta["modules"]
    return f"{modules[-1][0]}.{node.name}".lstrip(".") if modules else node.name


def _sources(node: Node) -> list[Node]:
    """Find the nearest nodes above that stand for a value; constants are part of the site."""
    found: dict[Node, None] = {}
    waiting = list(node.all_input_nodes)
    while waiting:
        each = waiting.pop(0)
        if each.op == "get_attr":
            continue
        if each.meta["value"] is not None:
            found[each] = None
        else:
            waiting += each.all_input_nodes
    return list(found)


def _free(paths: list[str], root: dict[str, Any]) -> str:
    """Choose the first path that neither is, holds, nor lies in another one; beside the last where none is free."""
    candidates = [*paths, *(f"{paths[-1]}_{number}" for number in range(2, len(root) + 3))]
    return next(path for path in candidates if path and all(_apart(path, other) for other in root))


def _apart(one: str, other: str) -> bool:
    return one != other and not one.startswith(f"{other}.") and not other.startswith(f"{one}.")


def _shared_weights(captured: GraphModule) -> dict[str, str]:
    """Find layers that read a storage which another layer reads too; node name to what is shared."""
    readers: dict[int, dict[str, str]] = {}
    for node in captured.graph.nodes:
        if node.op != "call_function" or not any(word in str(node.target) for word in ("conv", "batch_norm", "linear")):
            continue
        for argument in node.all_input_nodes:
            value = constant_of(captured, argument)
            if value is not None and value.numel():
                readers.setdefault(value.untyped_storage().data_ptr(), {})[node.name] = str(argument.target)
    return {
        name: " = ".join(f"{target} of {reader}" for reader, target in by_node.items())
        for by_node in readers.values()
        if len(by_node) > 1
        for name in by_node
    }
