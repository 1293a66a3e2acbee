"""ExecuTorch's compiler without what costs most and changes no byte of the result, for one call.

Each cut is undone when the block ends, and left out where torch or ExecuTorch look different from what it expects.

================ ===================================================================================================
histories        every pass copies the whole history (``from_node``) of each node; they are shared instead
decompositions   the program is traced anew three times; where no operator has anything to be taken apart or made
                 functional, that gives the same program, and it is given back as it is
retracing        every pass runs every operator on fake tensors to build its graph anew; where the pass hands on all
                 of them as they are, the graph is copied
code             every new or edited graph module writes Python code and compiles it; done when it is called or read
collection       the garbage collector walks all these graphs again and again; it waits for the end
================ ===================================================================================================
"""

import copy
import gc
import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any, Final

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg
from torch.utils._pytree import tree_flatten

__all__ = ["replaced", "shortened"]

Replacement = tuple[Any, str, Any]
"""An object, the name of one of its attributes and that attribute's value meanwhile."""

_BORDER: Final = ("placeholder", "output")
_MAY_DIFFER: Final = frozenset(("_abc_impl", "call", "call_operator", "requires", "ensures"))
"""What a pass may say for itself and still be asked operator by operator whether it changes anything."""


@contextmanager
def shortened() -> Iterator[None]:
    """Take the shortcuts while the block runs."""
    with ExitStack() as undone:
        for cut in (_shared_histories, _needed_decompositions, _needed_retracing, _needed_code):
            try:
                replacements = cut()
            except (ImportError, AttributeError):
                continue
            for owner, name, value in replacements:
                undone.enter_context(replaced(owner, name, value))
        if gc.isenabled():
            gc.disable()
            undone.callback(gc.enable)
        yield


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Give an attribute another value while the block runs."""
    had = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if had is None:
            delattr(owner, name)
        else:
            setattr(owner, name, had)


def _shared_histories() -> list[Replacement]:
    from torch.fx.traceback import NodeSource

    return [(NodeSource, "__deepcopy__", lambda self, _: self)]


def _needed_decompositions() -> list[Replacement]:
    from torch._export.utils import _is_cia_op, _is_preservable_cia_op

    stock: Callable[..., ExportedProgram] = ExportedProgram.run_decompositions

    @cache
    def is_kept(target: torch._ops.OpOverload) -> bool:
        """Tell whether an operator is functional, gives no view and is kept unless a table names it."""
        if target._schema.is_mutable or any(each.alias_info is not None for each in target._schema.returns):
            return False
        return not _is_cia_op(target) or (target.namespace == "aten" and _is_preservable_cia_op(target))

    def stays(node: Node, table: Mapping[Any, Any]) -> bool:
        """Tell whether tracing gives a node again."""
        if node.op in _BORDER:
            return True
        if node.op != "call_function" or not node.users or node.target in table:
            return False
        if isinstance(node.target, torch._ops.OpOverload):
            return is_kept(node.target)
        return node.target is operator.getitem

    def run(self: ExportedProgram, decomp_table: Any = None, *more: Any, **named: Any) -> ExportedProgram:
        # A program fresh from torch.export becomes an ATen one by being taken apart; an empty table comes before that.
        settled = self.dialect == "ATEN" or (self.dialect == "TRAINING" and decomp_table == {})
        if decomp_table is not None and settled and all(stays(node, decomp_table) for node in self.graph.nodes):
            return self
        return stock(self, decomp_table, *more, **named)

    return [(ExportedProgram, "run_decompositions", run)]


def _needed_retracing() -> list[Replacement]:
    from executorch.exir.pass_base import ExportPass
    from torch.fx.passes.infra.pass_base import PassBase, PassResult

    stock_start: Callable[..., Any] = PassBase.__call__
    stock_call: Callable[..., Any] = ExportPass.call
    begun: dict[int, tuple[GraphModule, list[tuple[Any, ...]]]] = {}

    def start(self: Any, module: GraphModule) -> Any:
        begun[id(self)] = module, _rows(module)
        try:
            return stock_start(self, module)
        finally:
            begun.pop(id(self), None)

    def call(self: Any, module: GraphModule) -> Any:
        # Many passes edit the graph and call this to have it traced anew: the edit has to be seen.
        if begun.get(id(self)) == (module, _rows(module)) and _is_idle(self, module):
            made = GraphModule(module, copy.deepcopy(module.graph))
            made.meta = dict(module.meta)
            return PassResult(made, modified=True)
        return stock_call(self, module)

    return [(PassBase, "__call__", start), (ExportPass, "call", call)]


def _rows(module: GraphModule) -> list[tuple[Any, ...]]:
    return [(n, n.op, n.target, n.args, n.kwargs, id(n.meta.get("val"))) for n in module.graph.nodes]


def _is_idle(step: Any, module: GraphModule) -> bool:
    """Tell whether a pass that works operator by operator hands every operator on as it is.

    Its ``call_operator`` is asked for each of them, and what it asks for in turn is noted instead of run.
    """
    from executorch.exir.pass_base import ExportPass, NodeMetadata, ProxyValue

    kind = type(step)
    inherited = (name for name in dir(ExportPass) if not name.startswith("__") and name not in _MAY_DIFFER)
    if any(getattr(kind, name) is not getattr(ExportPass, name) for name in inherited):
        return False
    if not all(_is_plain(node) for node in module.graph.nodes):
        return False
    if kind.call_operator is ExportPass.call_operator:
        return True
    values = {node: ProxyValue(node.meta.get("val"), node) for node in module.graph.nodes}
    asked: list[Any] = []

    def note(*request: Any) -> Any:
        asked.append(request[:4])
        return answer

    state = dict(vars(step))
    step._fx = note
    try:
        for node in module.graph.nodes:
            if node.op not in _BORDER and node.target is not operator.getitem:
                answer = values[node]
                args, kwargs = map_arg((node.args, node.kwargs), values.__getitem__)
                given = step.call_operator(node.target, tuple(args), dict(kwargs), NodeMetadata(node.meta))
                if given is not answer or not _same(asked, [("call_function", node.target, tuple(args), dict(kwargs))]):
                    return False
                asked.clear()
    except Exception:  # what it cannot do here it does, or refuses with its own words, when the graph is traced anew
        return False
    else:
        del step._fx
        return _same(vars(step), state)
    finally:
        vars(step).clear()
        vars(step).update(state)


def _is_plain(node: Node) -> bool:
    """Tell whether a node is an operator or a border whose value is known, and is no constant's."""
    from executorch.exir.dialects.edge._ops import EdgeOpOverload

    if node.op == "output":
        return True
    if "val" not in node.meta:
        return False
    if node.op == "placeholder":
        return getattr(node.meta["val"], "constant", None) is None
    operators = (torch._ops.OpOverload, EdgeOpOverload)
    return node.op == "call_function" and (node.target is operator.getitem or isinstance(node.target, operators))


def _same(first: Any, second: Any) -> bool:
    """Tell whether two nests have the same form and the very same objects in it."""
    (ours, form), (theirs, other_form) = tree_flatten(first), tree_flatten(second)
    return form == other_form and all(a is b for a, b in zip(ours, theirs, strict=True))


def _needed_code() -> list[Replacement]:
    stock: Callable[[GraphModule], Any] = GraphModule.recompile

    def awake(self: GraphModule, *args: Any, **named: Any) -> Any:
        stock(self)
        return self(*args, **named)

    class Source:
        """The text of the code, written when it is asked for."""

        def __get__(self, module: GraphModule | None, _: type) -> Any:
            if module is None:
                return self
            stock(module)
            return vars(module)["_code"]

    def later(self: GraphModule) -> None:
        codegen = self.graph._codegen
        if hasattr(codegen, "pytree_info"):
            self._in_spec, self._out_spec = codegen.pytree_info.in_spec, codegen.pytree_info.out_spec
        vars(self).pop("_code", None)
        type(self).forward = awake

    return [(GraphModule, "recompile", later), (GraphModule, "_code", Source())]
