"""What is really inside a ``.pte`` file, ours or not.

Operators inside XNNPACK's blobs are named ``xnnpack::Conv2d``; the others keep their name, such as ``aten::elu.out``.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from converters.executorch.contents import XNN_PREFIX, constants, dtype_of, grids, operators, xnn_name
from converters.executorch.program import XNNPACK, XnnGraph, XnnValue, forward_plan, read_with_constants, xnnpack_graphs
from converters.executorch.rules import XNNPACK as XNNPACK_RULES
from converters.layer_bytes import Reading, StoredConstant, layer_bytes
from lspdmobile.artifact import ArtifactFacts, TensorFacts
from lspdmobile.delegation import Delegation, divided, reasons
from lspdmobile.errors import BadInputError
from lspdmobile.operators import Operator, duplicates_of, layout_of_shape, leftovers_of

__all__ = ["METADATA_METHOD", "facts_of", "inspect", "is_outside", "kernel_calls"]

METADATA_METHOD: Final = "lspdmobile_metadata"
"""Constant method whose one output is a JSON object of text entries."""

_TEXT_FIELDS: Final = {"String": "string_val", "Int": "int_val", "Double": "double_val", "Bool": "bool_val"}


def inspect(path: Path) -> ArtifactFacts:
    """Read a program's inputs, outputs, constants, operators, delegates and metadata.

    Inputs and outputs have no names in this format; they are called by position. Blobs of delegates other than XNNPACK
    are not opened: each counts as one operator, and their weights are not in the byte table.

    Raises:
        BadInputError: The file is unreadable, truncated or no ExecuTorch program.
        EnvironmentLacksError: executorch is absent.
    """
    return facts_of(path, *read_with_constants(path))


def facts_of(path: Path, program: Any, held: Mapping[str, bytes]) -> ArtifactFacts:
    """Give what :func:`inspect` gives, of a program that was read from ``path`` with the constants it holds by name.

    Raises:
        BadInputError: The program contradicts itself.
    """
    try:
        return _facts(path, program, held)
    except (LookupError, AttributeError, TypeError, ValueError) as error:
        message = f"{path}: is damaged ({type(error).__name__} while reading its program); export it again"
        raise BadInputError(message) from error


def _facts(path: Path, program: Any, held: Mapping[str, bytes]) -> ArtifactFacts:
    plan = forward_plan(program)
    graphs = tuple(xnnpack_graphs(program, path, held))
    working, weights = operators(plan, graphs), _weight_bytes(plan, graphs)
    inputs = _tensors(plan, plan.inputs, "input")
    return ArtifactFacts(
        inputs=inputs,
        outputs=_tensors(plan, plan.outputs, "output"),
        weight_bytes_by_dtype=weights,
        ops=dict(Counter(each.kind for each in working).most_common()),
        delegation=_delegation(plan, working),
        metadata=_metadata(program),
        weight_bytes_by_layer=layer_bytes(_readings(graphs), weights),
        operators=working,
        grids=grids(graphs),
        duplicates=duplicates_of(constants(graphs)),
        leftovers=leftovers_of(working),
        layout=layout_of_shape(inputs[0].shape) if inputs else None,
    )


def is_outside(operator: Operator) -> bool:
    """Tell whether no delegate took an operator."""
    return not operator.kind.startswith((XNN_PREFIX, "delegate::"))


def _delegation(plan: Any, working: Sequence[Operator]) -> Delegation:
    names = list(dict.fromkeys(_delegate_name(delegate.id) for delegate in plan.delegates))
    left = reasons(filter(is_outside, working), XNNPACK_RULES)
    target = f"executorch-{names[0].lower()}" if len(names) == 1 else ""
    return divided(working, left, delegate=", ".join(names) or "none", target=target)


def _delegate_name(identifier: str) -> str:
    return "XNNPACK" if identifier == XNNPACK else str(identifier)


def kernel_calls(plan: Any) -> Counter[str]:
    """Count the operators that no delegate took."""
    return Counter(each.kind for each in operators(plan, ()) if is_outside(each))


def _tensors(plan: Any, indices: list[int], what: str) -> tuple[TensorFacts, ...]:
    facts = []
    for position, index in enumerate(indices):
        value = plan.values[index].val
        sizes = getattr(value, "sizes", None)
        dtype = dtype_of(value)[0] if sizes is not None else type(value).__name__.lower()
        facts.append(TensorFacts(name=f"{what}_{position}", shape=tuple(map(int, sizes or ())), dtype=dtype))
    return tuple(facts)


def _weight_bytes(plan: Any, graphs: tuple[XnnGraph, ...]) -> dict[str, int]:
    """Sum the bytes of constants by dtype: in XNNPACK's blobs, with their per-channel scales, and outside of them."""
    total: Counter[str] = Counter()
    for graph in graphs:
        for value in graph.values:
            total[value.dtype] += value.constant_bytes
            total["float32"] += value.scales_bytes
    seen: set[int] = set()
    for entry in plan.values:
        buffer = getattr(entry.val, "data_buffer_idx", 0)
        if buffer and buffer not in seen and entry.val.allocation_info is None:
            seen.add(buffer)
            name, size = dtype_of(entry.val)
            count = 1
            for length in entry.val.sizes:
                count *= length
            total[name] += count * size
    return {name: size for name, size in total.most_common() if size}


def _readings(graphs: tuple[XnnGraph, ...]) -> Iterator[Reading]:
    """Say which constants each operator inside XNNPACK's blobs reads; its file has no names for them."""
    for blob, graph in enumerate(graphs):
        for number, node in enumerate(graph.nodes):
            read = [value for value in (node.input, node.filter, node.bias) if value is not None]
            yield Reading(
                name=xnn_name(node, blob, number, len(graphs)),
                inputs=[id(value) for value in read if not value.constant_bytes],
                outputs=[id(node.output)],
                constants=[constant for value in read for constant in _stored(value)],
            )


def _stored(value: XnnValue) -> Iterator[StoredConstant]:
    """Give a constant's elements and the scales beside it."""
    if value.constant_bytes:
        yield StoredConstant(key=id(value), dtype=value.dtype, size_bytes=value.constant_bytes)
        yield StoredConstant(key=(id(value), "scales"), dtype="float32", size_bytes=value.scales_bytes)


def _metadata(program: Any) -> dict[str, str]:
    """Read constant methods: ours as its entries, any other by its name."""
    entries: dict[str, str] = {}
    for plan in program.execution_plan:
        if plan.inputs or len(plan.outputs) != 1:
            continue
        value = plan.values[plan.outputs[0]].val
        field = _TEXT_FIELDS.get(type(value).__name__)
        if field is None:
            continue
        text = str(getattr(value, field))
        entries.update(_entries(text) if plan.name == METADATA_METHOD else {plan.name: text})
    return entries


def _entries(text: str) -> dict[str, str]:
    try:
        parsed = json.loads(text)
    except json.JSONDecodeError:
        return {METADATA_METHOD: text}
    return {str(k): str(v) for k, v in parsed.items()} if isinstance(parsed, dict) else {METADATA_METHOD: text}
