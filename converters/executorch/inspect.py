"""What is really inside a ``.pte`` file, ours or not.

Operators inside XNNPACK's blobs are named ``xnnpack::Conv2d``; the others keep their name, such as ``aten::elu.out``.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from converters.executorch.contents import XNN_PREFIX, constants, dtype_of, grids, operators
from converters.executorch.program import XNNPACK, forward_plan, read_with_constants, xnnpack_graphs
from converters.executorch.rules import XNNPACK as XNNPACK_RULES
from converters.executorch.storage import Method, elsewhere, plain_constants, readings, unopened, weight_bytes
from converters.layer_bytes import layer_bytes
from lspdmobile.artifact import ArtifactFacts, Part, TensorFacts
from lspdmobile.delegation import Delegation, divided, reasons
from lspdmobile.errors import BadInputError
from lspdmobile.operators import Operator, duplicates_of, layout_of_shape, leftovers_of

__all__ = ["METADATA_METHOD", "facts_of", "inspect", "is_outside", "kernel_calls"]

METADATA_METHOD: Final = "lspdmobile_metadata"
"""Constant method whose one output is a JSON object of text entries."""

_NO_DELEGATE: Final = "the program was lowered to no delegate"
_LARGEST: Final = "the largest; lengths may change"
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
    methods = [(each, tuple(xnnpack_graphs(program, path, held, each))) for each in program.execution_plan]
    graphs = next(graphs for each, graphs in methods if each is plan)
    working, weights = operators(plan, graphs), weight_bytes(methods)
    inputs = _tensors(plan, plan.inputs, "input")
    reads = (each for method in methods for each in readings(method, _prefix(method[0], plan)))
    kinds = Counter(each.kind for one, inner in methods for each in operators(one, inner))
    return ArtifactFacts(
        inputs=inputs,
        outputs=_tensors(plan, plan.outputs, "output"),
        weight_bytes_by_dtype=weights,
        ops=dict(kinds.most_common()),
        delegation=_delegation(plan, working),
        metadata=_metadata(program),
        weight_bytes_by_layer=layer_bytes(reads, weights),
        operators=working,
        grids=tuple(grid for _, inner in methods for grid in grids(inner)),
        duplicates=duplicates_of(
            (*(each for _, inner in methods for each in constants(inner)), *plain_constants(program, methods))
        ),
        leftovers=leftovers_of(working),
        layout=layout_of_shape(inputs[0].shape) if inputs else None,
        parts=tuple(_parts(methods, plan)),
        elsewhere=elsewhere(methods),
        unopened=unopened(program, methods, held),
    )


def _prefix(method: Any, main: Any) -> str:
    return "" if method is main else f"{method.name}: "


def _parts(methods: Sequence[Method], main: Any) -> Iterator[Part]:
    """Give every method but those that are metadata, where there are several."""
    shown = [(plan, graphs) for plan, graphs in methods if plan is main or not _is_text(plan)]
    for plan, graphs in shown if len(shown) > 1 else ():
        working = operators(plan, graphs)
        yield Part(
            kind="method",
            name=str(plan.name),
            inputs=_tensors(plan, plan.inputs, "input"),
            outputs=_tensors(plan, plan.outputs, "output"),
            operators=len(working),
            macs=sum(each.macs for each in working),
            main=plan is main,
        )


def is_outside(operator: Operator) -> bool:
    """Tell whether no delegate took an operator."""
    return not operator.kind.startswith((XNN_PREFIX, "delegate::"))


def _delegation(plan: Any, working: Sequence[Operator]) -> Delegation:
    names = list(dict.fromkeys(_delegate_name(delegate.id) for delegate in plan.delegates))
    outside = list(filter(is_outside, working))
    said = {} if names else dict.fromkeys((each.name for each in outside), _NO_DELEGATE)
    left = reasons(outside, XNNPACK_RULES if "XNNPACK" in names else (), said)
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
        changing = sizes is not None and value.shape_dynamism.name != "STATIC"
        facts.append(
            TensorFacts(
                name=f"{what}_{position}",
                shape=tuple(map(int, sizes or ())),
                dtype=dtype,
                sizes=_LARGEST if changing else "",
            )
        )
    return tuple(facts)


def _metadata(program: Any) -> dict[str, str]:
    """Read constant methods: ours as its entries, any other by its name."""
    entries: dict[str, str] = {}
    for plan in filter(_is_text, program.execution_plan):
        value = plan.values[plan.outputs[0]].val
        text = str(getattr(value, _TEXT_FIELDS[type(value).__name__]))
        entries.update(_entries(text) if plan.name == METADATA_METHOD else {plan.name: text})
    return entries


def _is_text(plan: Any) -> bool:
    """Tell whether a method takes nothing and gives one text, number or truth value."""
    if plan.inputs or len(plan.outputs) != 1:
        return False
    return type(plan.values[plan.outputs[0]].val).__name__ in _TEXT_FIELDS


def _entries(text: str) -> dict[str, str]:
    try:
        parsed = json.loads(text)
    except json.JSONDecodeError:
        return {METADATA_METHOD: text}
    return {str(k): str(v) for k, v in parsed.items()} if isinstance(parsed, dict) else {METADATA_METHOD: text}
