"""A network that is not converted yet, as the operators that rules of delegation look at.

``torch.export`` gives ATen operators; each is entered with its name, the shapes and dtypes of what it reads and makes,
and its arguments by position, keywords put in their places.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from lspdmobile.operators import Operator, Value

if TYPE_CHECKING:
    from torch import fx, nn

__all__ = ["ARGUMENTS", "base_name", "traced_operators"]

ARGUMENTS: Final = "arguments"
"""Attribute with an operator's arguments by position; absent in operators that were read from a file."""


def base_name(kind: str) -> str:
    """Give the name of an ATen operator without its namespace, overload and the suffix of copying forms."""
    name = kind.rsplit("::", 1)[-1].removeprefix("aten.").split(".", 1)[0]
    return name.removesuffix("_copy")


def traced_operators(
    network: "nn.Module", input_size: tuple[int, int], *, whole: frozenset[str] | None = None
) -> tuple[Operator, ...]:
    """Trace a network and give what it computes, in order.

    Args:
        network: In eval mode; maps ``[1, 3, H, W]`` to heatmaps.
        input_size: Rows and columns H, W.
        whole: Operators that are not taken apart into ATen's core set, by :func:`base_name`; None takes nothing apart.
    """
    import torch

    with torch.no_grad():
        program = torch.export.export(network, (torch.zeros(1, 3, *input_size),))
    if whole is not None:
        table = torch.export.default_decompositions()
        kept = [each for each in table if base_name(str(each)) in whole]
        for each in kept:
            table.pop(each)
        program = program.run_decompositions(table)
    held = set(program.graph_signature.inputs_to_parameters) | set(program.graph_signature.inputs_to_buffers)
    held |= set(program.graph_signature.inputs_to_lifted_tensor_constants)
    return tuple(_operators(program.graph.nodes, held))


def _operators(nodes: Any, held: set[str]) -> Iterator[Operator]:
    for node in nodes:
        made = _tensors(node.meta.get("val"))
        if node.op != "call_function" or not made or "getitem" in str(node.target):
            continue
        yield Operator(
            name=str(node.name),
            kind=str(node.target),
            inputs=tuple(_value(each, held) for each in node.all_input_nodes if _tensors(each.meta.get("val"))),
            outputs=tuple(_shown(str(node.name), tensor) for tensor in made),
            attributes={ARGUMENTS: _arguments(node)},
        )


def _value(node: "fx.Node", held: set[str]) -> Value:
    tensor = _tensors(node.meta["val"])[0]
    return _shown(str(node.name), tensor, constant=node.name in held)


def _shown(name: str, tensor: Any, *, constant: bool = False) -> Value:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return Value(name=name, shape=tuple(map(int, tensor.shape)), dtype=dtype, constant=constant)


def _tensors(value: Any) -> list[Any]:
    several = value if isinstance(value, list | tuple) else [value]
    return [each for each in several if hasattr(each, "dtype")]


def _arguments(node: "fx.Node") -> Mapping[int, Any]:
    """Give the arguments by position, with the defaults of the operator's schema for those that were left out."""
    schema = getattr(node.target, "_schema", None)
    given = dict(enumerate(node.args))
    for position, argument in enumerate(schema.arguments if schema is not None else ()):
        if position not in given and argument.name in node.kwargs:
            given[position] = node.kwargs[argument.name]
        elif position not in given and argument.has_default_value():
            given[position] = argument.default_value
    return given
