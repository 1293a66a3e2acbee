"""Operators that change nothing, are computed twice, or compute with constants alone."""

import math
from collections.abc import Hashable
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.fx.node import map_arg

from lspdmobile.fusion.rewrites.activations import UNBOUNDED, clamps_in_a_row
from lspdmobile.fusion.work import Work

__all__ = ["MERGE_CLAMPS", "clamp_once", "fold_constants", "remove_idle"]

MERGE_CLAMPS: Final = "merge clamps"
_ATEN: Final = torch.ops.aten
_SAME: Final = frozenset(("clone", "alias", "detach", "dropout", "feature_dropout", "lift_fresh_copy"))
_RESHAPES: Final = frozenset(("view", "reshape", "expand", "flatten", "_unsafe_view"))
_NEUTRAL: Final = {"mul": 1, "div": 1, "add": 0, "sub": 0}
_PADS: Final = frozenset(("pad", "constant_pad_nd"))
_CASTS: Final = frozenset(("to", "_to_copy"))
_CLAMPS: Final[dict[Any, tuple[Any, Any]]] = {
    _ATEN.relu.default: (0.0, None),
    _ATEN.relu6.default: (0.0, 6.0),
    _ATEN.hardtanh.default: (-1.0, 1.0),
    _ATEN.clamp.default: (None, None),
    _ATEN.clamp_min.default: (None, None),
}
"""Bounds where none are given as arguments."""
_SMALL: Final = 4096


def remove_idle(work: Work) -> None:
    """Remove operators that give what they read, and operators that repeat another one."""
    for node in list(work.graph.nodes):
        if node.op == "call_function" and node.users and _is_idle(node):
            source = node.args[0] if node.target is not _ATEN.cat.default else node.args[0][0]
            work.bypass(node, source)
    seen: dict[Hashable, Node] = {}
    for node in list(work.graph.nodes):
        key = _key(node)
        if key is None:
            continue
        first = seen.setdefault(key, node)
        if first is not node:
            work.bypass(node, first)


def fold_constants(work: Work) -> None:
    """Compute what depends on constants alone, where the result is no larger than what it is computed from."""
    for node in list(work.graph.nodes):
        inputs = node.all_input_nodes
        if node.op != "call_function" or not inputs or any(each.op != "get_attr" for each in inputs):
            continue
        if "rand" in str(node.target) or not node.users:
            continue
        tensors = [work.constants[str(each.target)] for each in inputs]
        value = node.target(
            *map_arg(node.args, lambda each: work.constants[str(each.target)]),
            **map_arg(node.kwargs, lambda each: work.constants[str(each.target)]),
        )
        if not isinstance(value, Tensor) or value.numel() > max(_SMALL, *(tensor.numel() for tensor in tensors)):
            continue
        with work.graph.inserting_before(node):
            modules = node.meta["modules"]
            owner = f"{modules[-1][0]}." if modules and modules[-1][0] else ""
            new = work.add_constant(f"{owner}{node.name}", value.contiguous())
        work.bypass(node, new)


def clamp_once(work: Work) -> None:
    """Make one clamp of two in a row; leave out one that changes nothing."""
    for node in list(work.graph.nodes):
        second = _clamp(work, node)
        before = node.args[0] if node.args else None
        first = _clamp(work, before) if isinstance(before, Node) else None
        if second is None or first is None or not isinstance(before, Node):
            continue
        both = clamps_in_a_row(first, second)
        if both == first:
            work.bypass(node, before)
        elif both == second:
            node.replace_input_with(before, before.args[0])
            node.meta["rewrites"], node.meta["form"] = (*node.meta["rewrites"], MERGE_CLAMPS), "one clamp"
            work.sweep()
        elif len(before.users) == 1:
            with work.graph.inserting_before(node):
                args = (before.args[0], *(None if math.isinf(bound) else bound for bound in both))
                new = work.operator(_ATEN.clamp.default, args, like=node)
            work.replace(node, new, MERGE_CLAMPS, form=f"clamp {both[0]:g} to {both[1]:g}")


def _is_idle(node: Node) -> bool:
    name = getattr(node.target, "__name__", "").partition(".")[0]
    source = node.args[0] if node.args else None
    if name == "cat" and isinstance(source, list | tuple):
        return len(source) == 1
    if not isinstance(source, Node) or node.kwargs.get("memory_format") is not None:
        return False  # a later view may need the memory in the order that was asked for
    same_shape = node.meta["shape"] is not None and source.meta["shape"] == node.meta["shape"]
    given = node.args[1] if len(node.args) == 2 else None
    return (
        name in _SAME
        or (same_shape and name in _RESHAPES)
        or (same_shape and name in _CASTS and node.meta["same_type"])
        or (same_shape and isinstance(given, int | float) and given == _NEUTRAL.get(name))
        or (name in _PADS and isinstance(node.args[1], list | tuple) and not any(node.args[1]))
    )


def _key(node: Node) -> Hashable | None:
    """Give what decides a node's value; None where two of a kind may differ, or need not be looked for."""
    if node.op not in ("call_function", "call_module", "get_attr") or "rand" in str(node.target):
        return None
    return node.op, node.target, repr(node.args), repr(node.kwargs)


def _clamp(work: Work, node: Node) -> tuple[float, float] | None:
    """Give the bounds between which a node keeps its input; None where it is no clamp."""
    layer = work.layer(node)
    if isinstance(layer, nn.Hardtanh):  # ReLU6 is one
        return float(layer.min_val), float(layer.max_val)
    if isinstance(layer, nn.ReLU):
        return 0.0, math.inf
    if node.target not in _CLAMPS:
        return None
    low, high = _CLAMPS[node.target]
    given = [*node.args[1:], *(low, high)[len(node.args) - 1 :]]
    return _bounds(*given[:2])


def _bounds(low: Any, high: Any) -> tuple[float, float] | None:
    if not all(bound is None or isinstance(bound, int | float) for bound in (low, high)):
        return None
    return float(UNBOUNDED[0] if low is None else low), float(UNBOUNDED[1] if high is None else high)
