"""Where a ``.pte`` file keeps its constants: in the program, in XNNPACK's blobs, in named data, or in another file.

XNNPACK's constants, and those of other delegates, can be named data, which methods share; constants can also be left to
a ``.ptd`` file that the app loads beside the program. A constant that two methods share is counted once.
"""

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from math import prod
from typing import Any, Final

from converters.executorch.contents import call_of, dtype_of, held_tensor, is_external, kernel_name, xnn_name
from converters.executorch.program import XNNPACK, XnnGraph, XnnValue
from converters.layer_bytes import Reading, StoredConstant
from lspdmobile.operators import StoredBytes

__all__ = ["Method", "elsewhere", "plain_constants", "readings", "unopened", "weight_bytes"]

_ELSEWHERE: Final = "a .ptd file holds them"

Method = tuple[Any, Sequence[XnnGraph]]
"""An execution plan, and the graphs of its XNNPACK blobs."""


def weight_bytes(methods: Sequence[Method]) -> dict[str, int]:
    """Sum the bytes of constants in the file by dtype: XNNPACK's, with their scales, and those of other operators."""
    total: Counter[str] = Counter()
    for each in {held.key: held for held in _all_stored(methods)}.values():
        total[each.dtype] += each.size_bytes
    return {name: size for name, size in total.most_common() if size}


def elsewhere(methods: Sequence[Method]) -> dict[str, int]:
    """Give the bytes of constants that are in another file, by what is known of it."""
    sizes: dict[Hashable, int] = {}
    for plan, graphs in methods:
        for entry in plan.values:
            if is_external(entry.val):
                sizes[entry.val.extra_tensor_info.fully_qualified_name] = _size(entry.val)
        for value in (value for graph in graphs for value in graph.values if value.external_data):
            sizes[value.data_key] = value.constant_bytes + value.scales_bytes
    return {_ELSEWHERE: sum(sizes.values())} if sizes else {}


def unopened(program: Any, methods: Sequence[Method], held: Mapping[str, bytes]) -> dict[str, int]:
    """Give the bytes of delegates that are not opened here, and of named data that nothing opened here reads."""
    found: Counter[str] = Counter()
    blobs = {
        (str(delegate.id), delegate.processed.index)
        for plan, _ in methods
        for delegate in plan.delegates
        if delegate.id != XNNPACK
    }
    for name, index in sorted(blobs):
        found[name] += len(program.backend_delegate_data[index].data)
    if blobs:
        known = {value.data_key for _, graphs in methods for graph in graphs for value in graph.values}
        known |= {value.scales_key for _, graphs in methods for graph in graphs for value in graph.values}
        found["named data of delegates"] = sum(len(data) for key, data in held.items() if key not in known)
    return dict(+found)


def plain_constants(program: Any, methods: Sequence[Method]) -> Iterator[StoredBytes]:
    """Yield the constants outside of XNNPACK's blobs, each once."""
    seen: set[int] = set()
    for plan, _ in methods:
        for number, entry in enumerate(plan.values):
            if held_tensor(entry.val) and entry.val.data_buffer_idx not in seen:
                seen.add(entry.val.data_buffer_idx)
                data = bytes(program.constant_buffer[entry.val.data_buffer_idx].storage)
                yield StoredBytes(
                    name=f"value {number}", dtype=dtype_of(entry.val)[0], content=data[: _size(entry.val)]
                )


def readings(method: Method, prefix: str = "") -> Iterator[Reading]:
    """Say which constants each operator reads; ``prefix`` tells a method's operators from others."""
    plan, graphs = method
    for blob, graph in enumerate(graphs):
        for number, node in enumerate(graph.nodes):
            read = [value for value in (node.input, node.filter, node.bias, *node.more) if value is not None]
            yield Reading(
                name=prefix + xnn_name(node, blob, number, len(graphs)),
                inputs=[(prefix, blob, value.number) for value in read if not value.constant_bytes],
                outputs=[(prefix, blob, node.output.number)] if node.output is not None else [],
                constants=[constant for value in read for constant in _stored(value)],
            )
    for number, instruction in enumerate(each for chain in plan.chains for each in chain.instructions):
        call, operator = call_of(plan, instruction)
        if operator is None:
            continue
        tensors = [(i, plan.values[i].val) for i in call.args if hasattr(plan.values[i].val, "sizes")]
        held = [each for _, value in tensors for each in _plain(value)]
        yield Reading(
            name=f"{prefix}{kernel_name(operator)} {number}",
            inputs=[(prefix, i) for i, value in tensors if not held_tensor(value) and i != tensors[-1][0]],
            outputs=[(prefix, i) for i, _ in tensors[-1:]],
            constants=held,
        )


def _all_stored(methods: Sequence[Method]) -> Iterator[StoredConstant]:
    for plan, graphs in methods:
        for graph in graphs:
            for value in graph.values:
                yield from _stored(value)
        for entry in plan.values:
            yield from _plain(entry.val)


def _stored(value: XnnValue) -> Iterator[StoredConstant]:
    """Give a constant's elements and the scales beside it."""
    if value.constant_bytes and not value.external_data:
        yield StoredConstant(key=value.data_key or id(value), dtype=value.dtype, size_bytes=value.constant_bytes)
        key = value.scales_key or (id(value), "scales")
        yield StoredConstant(key=key, dtype=value.scales_dtype, size_bytes=value.scales_bytes)


def _plain(value: Any) -> Iterator[StoredConstant]:
    if held_tensor(value):
        yield StoredConstant(key=value.data_buffer_idx, dtype=dtype_of(value)[0], size_bytes=_size(value))


def _size(tensor: Any) -> int:
    return int(prod(tensor.sizes)) * dtype_of(tensor)[1]
