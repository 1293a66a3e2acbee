"""From a network, or an exported program, to the graph of operators that the rewrites read.

``torch.export`` gives one node per ATen operator, with weights as named constants. A network that changes values in
place (``nn.ReLU(inplace=True)``, ``x += y``) is made functional first: afterwards a node's value never changes, so a
rewrite may read it at any later point. Nothing else is decomposed.
"""

import copy
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_aggregate

from lspdmobile.errors import BadInputError
from lspdmobile.fusion.linear import Linear
from lspdmobile.fusion.preconditions import (
    refuse_changing_buffers,
    refuse_unfusable,
    refuse_unfusable_program,
)
from lspdmobile.fusion.rewrites.preprocess import normalisation

__all__ = ["Captured", "Inputs", "batch_norms", "capture", "constant_of", "widened", "with_preprocess"]

Inputs = tuple[Any, ...]
_WIDER: Final = {torch.float32: torch.float64}
_VIEWS: Final = (torch.ops.aten.view.default, torch.ops.aten.reshape.default, torch.ops.aten._unsafe_view.default)
NORMS: Final = (
    torch.ops.aten.batch_norm.default,
    torch.ops.aten._native_batch_norm_legit_no_training.default,
)


@dataclass(frozen=True, kw_only=True)
class Captured:
    """One network, ready to be rewritten and compared with.

    Attributes:
        module: The exported program as it is, in-place operators included: what the certificate compares with.
        graph: The same without in-place operators; its node names name values.
        inputs: Positional inputs it was exported for.
        keywords: Keyword inputs.
    """

    module: GraphModule
    graph: GraphModule
    inputs: Inputs
    keywords: Mapping[str, Any]


def capture(network: nn.Module | ExportedProgram, inputs: Inputs | None = None) -> Captured:
    """Export a network, or take a program that was exported before.

    Args:
        network: In eval mode; not touched.
        inputs: What to export for; a program brings its own.

    Raises:
        BadInputError: It cannot be fused exactly (``preconditions``), cannot be exported, or has no inputs to try.
    """
    program = network if isinstance(network, ExportedProgram) else _exported(network, inputs)
    refuse_unfusable_program(program)
    module = _unlifted(program)
    graph = module
    if _changes_values(module):
        functional = _functional(program)
        refuse_changing_buffers(functional)
        graph = _unlifted(functional)
    if inputs is None and program.example_inputs is None:
        message = "the exported program holds no example inputs; export it again or pass inputs"
        raise BadInputError(message)
    args, keywords = (tuple(inputs), {}) if inputs is not None else program.example_inputs or ((), {})
    return Captured(module=module, graph=graph, inputs=tuple(args), keywords=dict(keywords))


def with_preprocess(captured: Captured, mean: Sequence[float], std: Sequence[float]) -> Captured:
    """Give the network that takes raw pictures, with ``(x - mean) / std`` in front of its picture input.

    Raises:
        BadInputError: It has not exactly one input, a picture of as many channels as there are means.
    """
    affine = normalisation(mean, std)
    shapes = [tuple(value.shape) for value in captured.inputs if isinstance(value, Tensor)]
    if len(shapes) != 1 or captured.keywords or len(shapes[0]) != 4 or shapes[0][1] != affine.in_channels:
        message = f"the preprocess of {affine.in_channels} channels needs a network of one such input, not {shapes}"
        raise BadInputError(message)
    module = _in_front(captured.module, affine)
    graph = module if captured.graph is captured.module else _in_front(captured.graph, affine)
    return replace(captured, module=module, graph=graph)


def _in_front(module: GraphModule, affine: Linear) -> GraphModule:
    module = copy.deepcopy(module)
    picture = next(node for node in module.graph.nodes if node.op == "placeholder")
    last = picture
    assert affine.bias is not None
    constants = {"mul": affine.scale, "add": affine.bias}
    for number, (name, values) in enumerate(constants.items()):
        module.register_buffer(f"preprocess_{name}", values.reshape(1, -1, 1, 1).float())
        with module.graph.inserting_after(last):
            constant = module.graph.create_node("get_attr", f"preprocess_{name}")
        with module.graph.inserting_after(constant):
            target = (torch.ops.aten.mul.Tensor, torch.ops.aten.add.Tensor)[number]
            new = module.graph.create_node("call_function", target, (last, constant), name=f"preprocessed_{name}")
        constant.meta = {"shape": (1, len(values), 1, 1), "modules": (), "same_type": False}
        new.meta = {**picture.meta, "modules": (), "same_type": True}
        last.replace_all_uses_with(new, delete_user_cb=lambda user, new=new: user is not new)
        last = new
    module.recompile()
    return module


def batch_norms(module: GraphModule) -> Iterator[tuple[Tensor | None, Tensor | None, Tensor, Tensor, float]]:
    """Give weight, bias, running mean, running variance (the module's own tensors) and eps of every batch norm."""
    for node in module.graph.nodes:
        if node.target in NORMS:
            weight, bias, mean, variance = (constant_of(module, argument) for argument in node.args[1:5])
            if mean is not None and variance is not None:
                yield weight, bias, mean, variance, float(node.args[-2] if len(node.args) == 9 else node.args[-1])


def constant_of(module: nn.Module, node: Any) -> Tensor | None:
    """Give the tensor that a ``get_attr`` node reads; None for anything else."""
    if not (isinstance(node, Node) and node.op == "get_attr"):
        return None
    value: Any = module
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return value if isinstance(value, Tensor) else None


def widened(module: GraphModule) -> GraphModule:
    """Give a copy that computes in float64, also where the graph names float32."""
    graph = Graph()
    copies: dict[Node, Node] = {}
    for node in module.graph.nodes:
        copies[node] = twin = graph.node_copy(node, copies.__getitem__)
        twin.args, twin.kwargs = map_aggregate(twin.args, _wider), map_aggregate(twin.kwargs, _wider)
    graph.set_codegen(copy.deepcopy(module.graph._codegen))
    root = {
        str(node.target): _part(module, node) for node in module.graph.nodes if node.op in ("get_attr", "call_module")
    }
    return GraphModule(root, graph).eval()


def _part(module: GraphModule, node: Node) -> Any:
    """Give a copy of the layer or tensor that a node names, in float64."""
    if node.op == "call_module":
        return copy.deepcopy(module.get_submodule(str(node.target))).double()
    value = constant_of(module, node)
    if value is None:
        return getattr(module, str(node.target))
    wide = value.detach().to(_wider(value.dtype))
    return nn.Parameter(wide, requires_grad=False) if isinstance(value, nn.Parameter) else wide


def _wider(argument: Any) -> Any:
    return _WIDER.get(argument, argument) if isinstance(argument, torch.dtype) else argument


def _exported(network: nn.Module, inputs: Inputs | None) -> ExportedProgram:
    refuse_unfusable(network)
    if inputs is None:
        message = "example inputs are needed to export a network for fusion"
        raise ValueError(message)
    try:
        with torch.no_grad(), _quiet():
            program: ExportedProgram = torch.export.export(network, inputs)
    except Exception as error:  # torch raises many kinds; every one means the network cannot be exported
        reason = str(error).strip().splitlines() or [type(error).__name__]
        message = f"cannot fuse: torch.export refused the network: {reason[0][:200]}"
        raise BadInputError(message) from error
    return program


def _unlifted(program: ExportedProgram) -> GraphModule:
    """Give the program with its weights as attributes; of what export notes per node only the needed is kept."""
    module = program.module(check_guards=False)
    assert isinstance(module, GraphModule)
    graph = Graph()
    copies: dict[Node, Node] = {}
    for node in module.graph.nodes:
        copies[node] = graph.node_copy(node, copies.__getitem__)
        copies[node].meta = {
            "shape": _shape(node.meta.get("val")),
            "modules": _modules(node),
            "same_type": _keeps_type(node),
        }
        _open_batch(copies[node])
    graph.set_codegen(copy.deepcopy(module.graph._codegen))
    return GraphModule(module, graph).eval()


def _open_batch(node: Node) -> None:
    """Let a view whose first axis is the picture, and whose other sizes are numbers, take any number of pictures.

    ``torch.export`` writes the batch it was given into every view (a channel shuffle has two of them).
    """
    if node.target not in _VIEWS or len(node.all_input_nodes) > 1:  # sizes that are nodes are no numbers
        return
    source, result = node.all_input_nodes[0].meta["shape"], node.meta["shape"]
    if source and result and len(source) > 1 and len(result) > 1 and source[0] == result[0] == 1:
        node.args = (node.args[0], [-1, *result[1:]])


def _shape(value: Any) -> tuple[int, ...] | None:
    """Give a tensor's shape, with the size it was exported for where it may vary; None for anything else."""
    if not isinstance(value, Tensor):
        return None
    sides: list[Any] = list(value.shape)
    return tuple(side if isinstance(side, int) else int(side.node.hint) for side in sides)


def _keeps_type(node: Node) -> bool:
    """Whether a node gives the number type and place of the first node it reads."""
    value, source = (each.meta.get("val") for each in (node, next(iter(node.all_input_nodes), node)))
    if not (isinstance(value, Tensor) and isinstance(source, Tensor)):
        return False
    return value.dtype == source.dtype and value.device == source.device


def _modules(node: Node) -> tuple[tuple[str, str], ...]:
    """Give path and class of the modules a node comes from, outermost first."""
    stack = (node.meta.get("nn_module_stack") or {}).values()
    return tuple((str(path), str(kind)) for path, kind in stack)


def _functional(program: ExportedProgram) -> ExportedProgram:
    with torch.no_grad(), _quiet():
        functional: ExportedProgram = program.run_decompositions({})
    return functional


def _changes_values(module: GraphModule) -> bool:
    return any(
        node.op == "call_function" and hasattr(node.target, "_schema") and node.target._schema.is_mutable
        for node in module.graph.nodes
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's notices and dumps of a failing export off the terminal; its exception says what went wrong."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
