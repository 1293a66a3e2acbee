"""Reads a ``.pte`` file from disk: its program, and the XNNPACK graphs inside its delegate blobs."""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from converters.executorch.flatbuffer import Schema, decode, parse_schema
from lspdmobile.errors import BadInputError, EnvironmentLacksError

__all__ = [
    "XNNPACK",
    "XnnGraph",
    "XnnNode",
    "XnnValue",
    "forward_plan",
    "missing",
    "read_program",
    "read_with_constants",
    "xnnpack_graphs",
]

XNNPACK: Final = "XnnpackBackend"

_MAGIC: Final = b"ET12"
_SHORTEST_FILE: Final = 8
_OTHERS: Final = {
    b"BP08": "a bundled program: give the program it was made from",
    b"FT01": "the data of a program, a .ptd file: give the program",
}
_XNN_MAGIC: Final = b"XH00"
_XNN_OFFSETS: Final = struct.Struct("<II")
_XNN_OFFSETS_AT: Final = 10
_INVALID_ID: Final = 0xFFFFFFFF
_DTYPES: Final = {
    1: "float32",
    2: "float16",
    3: "int8",
    4: "uint8",
    5: "int32",
    6: "int8",
    7: "int32",
    8: "int4",
    9: "int8 (made while it runs)",
    10: "int4",
    11: "int8 (made while it runs)",
    12: "int32",
    13: "float32",
    14: "bfloat16",
}
"""XNNDatatype to the type of the stored elements; 9 and 11 are quantized dynamically and never stored."""


@dataclass(frozen=True, kw_only=True)
class XnnValue:
    """A tensor of an XNNPACK graph.

    Attributes:
        dtype: Type of the stored elements, such as ``int8``.
        constant_bytes: Bytes the file holds for it; 0 where it is computed.
        scales_bytes: Bytes of the per-channel scales the file holds beside it.
        scale, zero_point: Per-tensor grid; None where it has none.
        constant: These bytes; empty where they were not asked for.
        scales: Of each channel; empty where they were not asked for or there are none.
        number: Which of its graph's values it is.
        shape: Pictures are ``[N, rows, columns, channels]`` inside XNNPACK.
        external: Which argument of the delegate call it is; None inside the graph.
        channel_axis: Along which ``scales`` go.
        scales_dtype: Type these are stored in.
        group_size: How many neighbours along the last axis share a scale; 0 where all do.
        data_key, scales_key: Named data that hold elements and scales; empty where the blob does.
        external_data: Whether the file itself has not got them.
    """

    dtype: str
    constant_bytes: int = 0
    scales_bytes: int = 0
    scale: float | None = None
    zero_point: int | None = None
    constant: bytes = b""
    scales: tuple[float, ...] = ()
    number: int = 0
    shape: tuple[int, ...] = ()
    external: int | None = None
    channel_axis: int = 0
    scales_dtype: str = "float32"
    group_size: int = 0
    data_key: str = ""
    scales_key: str = ""
    external_data: bool = False


@dataclass(frozen=True, kw_only=True)
class XnnNode:
    """An operator of an XNNPACK graph.

    Attributes:
        kind: Such as ``Conv2d``.
        input, output: Its first input and its output.
        filter: Its weights; None for operators without any.
        bias: Its biases; None for operators without any.
        more: Its other inputs.
        fields: What the file says of it besides, by name.
    """

    kind: str
    input: XnnValue | None
    output: XnnValue | None
    filter: XnnValue | None = None
    bias: XnnValue | None = None
    more: tuple[XnnValue, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class XnnGraph:
    """What one XNNPACK delegate blob holds."""

    nodes: tuple[XnnNode, ...]
    values: tuple[XnnValue, ...]


def read_program(path: Path) -> Any:
    """Read a ``.pte`` file into ExecuTorch's ``Program``, its delegate blobs and constants restored into it.

    Raises: as for :func:`read_with_constants`.
    """
    return read_with_constants(path)[0]


def read_with_constants(path: Path) -> tuple[Any, dict[str, bytes]]:
    """Read a ``.pte`` file's program, and the constants that its delegates refer to by name.

    Raises:
        BadInputError: The file is unreadable, truncated or no ExecuTorch program.
        EnvironmentLacksError: executorch is absent.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror or error})"
        raise BadInputError(message) from error
    if len(data) < _SHORTEST_FILE or data[4:8] != _MAGIC:
        known = f"; it is {_OTHERS[data[4:8]]}" if data[4:8] in _OTHERS else ""
        message = f"{path}: is no ExecuTorch program (the mark ET12 is missing at byte 4){known}"
        raise BadInputError(message)
    try:
        from executorch.exir._serialize._program import deserialize_pte_binary
    except ImportError as error:
        raise missing(error) from error
    try:
        file = deserialize_pte_binary(data)
        program, named = file.program, file.named_data
        forward_plan(program)
        entries = named.pte_data.items() if named is not None else ()
        constants = {key: bytes(named.buffers[entry.buffer_index]) for key, entry in entries}
    except Exception as error:  # the reader states no errors of its own: damage shows as whatever it trips over
        message = f"{path}: is damaged or truncated ({type(error).__name__} while reading it); export it again"
        raise BadInputError(message) from error
    return program, constants


def forward_plan(program: Any) -> Any:
    """Give the execution plan of ``forward``, else of the first method that takes an input, else of the first.

    Raises:
        LookupError: There is none.
    """
    plans = program.execution_plan
    named = [plan for plan in plans if plan.name == "forward"] or [plan for plan in plans if plan.inputs]
    return (named or plans)[0]


def xnnpack_graphs(
    program: Any, path: Path, constants: Mapping[str, bytes] | None = None, plan: Any = None
) -> Iterator[XnnGraph]:
    """Yield the graph of each XNNPACK blob of a method.

    Args:
        program: Read back from ``path``.
        path: For messages.
        constants: From :func:`read_with_constants`, for the numbers as well; without them only their sizes are given.
        plan: Of the method; the main one's if left out.

    Raises:
        BadInputError: A blob cannot be read, or a constant is absent.
    """
    for delegate in (plan or forward_plan(program)).delegates:
        if delegate.id == XNNPACK:
            blob = bytes(program.backend_delegate_data[delegate.processed.index].data)
            try:
                graph = decode(_graph_bytes(blob), _schema())
                yield _graph(graph, constants or {})
            except (struct.error, LookupError, ValueError, TypeError, RecursionError) as error:
                message = f"{path}: its XNNPACK part is damaged ({error}); export it again"
                raise BadInputError(message) from error


def missing(error: ImportError) -> EnvironmentLacksError:
    """Name the package an import failed for, and how to get it."""
    message = f"ExecuTorch artifacts need the package {error.name}: pip install executorch"
    return EnvironmentLacksError(message)


@cache
def _schema() -> Schema:
    schema = files("executorch.backends.xnnpack.serialization").joinpath("runtime_schema.fbs")
    return parse_schema(schema.read_text(encoding="utf-8"))


def _graph_bytes(blob: bytes) -> bytes:
    """Cut the graph out of a blob; older files have no header and hold the graph alone."""
    if blob[4:8] != _XNN_MAGIC:
        return blob
    start, size = _XNN_OFFSETS.unpack_from(blob, _XNN_OFFSETS_AT)
    if start + size > len(blob):
        message = "the graph ends behind the file"
        raise ValueError(message)
    return blob[start : start + size]


def _graph(graph: dict[str, Any], constants: Mapping[str, bytes]) -> XnnGraph:
    entries = graph["constant_data"]
    sizes = [entry["size"] for entry in entries] or [len(entry["storage"]) for entry in graph["constant_buffer"]]
    keys = [str(entry["named_key"]) for entry in entries] or [""] * len(sizes)
    held = [constants.get(key, b"")[:size] for key, size in zip(keys, sizes, strict=True)]
    blobs = _Constants(sizes=sizes, held=held, keys=keys, absent=[bool(key) and key not in constants for key in keys])
    values: dict[int, XnnValue] = {}
    for entry in graph["xvalues"]:
        union = entry["xvalue_union"]
        base = union.get("tensor_value", union)
        values[base["id_out"]] = _value(base, union.get("quant_params") or {}, blobs)
    return XnnGraph(
        nodes=tuple(_node(entry["xnode_union"], values) for entry in graph["xnodes"]), values=tuple(values.values())
    )


@dataclass(frozen=True, kw_only=True)
class _Constants:
    """A blob's constants by their numbers: bytes, content, name in the file's named data, whether it is not there."""

    sizes: list[int]
    held: list[bytes]
    keys: list[str]
    absent: list[bool]


def _value(base: dict[str, Any], grid: dict[str, Any], blobs: _Constants) -> XnnValue:
    constant, scales = base["constant_buffer_idx"], grid.get("scale_buffer_idx", 0)
    per_tensor, grouped = (grid.get("type") == name for name in ("PerTensorQuant", "PerChannelGroupQuant"))
    stored = () if per_tensor else tuple(grid.get("scale", ()))
    if scales:
        stored = _scales(blobs.held[scales], halved=grouped)
    return XnnValue(
        dtype=_DTYPES.get(base["datatype"], f"datatype {base['datatype']}"),
        constant_bytes=blobs.sizes[constant] if constant else 0,
        scales_bytes=(blobs.sizes[scales] if scales else 4 * len(grid.get("scale", []))) if not per_tensor else 0,
        scale=float(grid["scale"]) if per_tensor else None,
        zero_point=int(grid["zero_point"]) if per_tensor else None,
        constant=blobs.held[constant] if constant else b"",
        scales=stored,
        number=int(base["id_out"]),
        shape=tuple(int(size) for size in base["dims"]),
        external=int(base["external_id"]) if base["external_id"] != _INVALID_ID else None,
        channel_axis=int(grid.get("channel_dim", 0)),
        scales_dtype="bfloat16" if grouped and scales else "float32",
        group_size=int(grid.get("group_size", 0)),
        data_key=blobs.keys[constant] if constant else "",
        scales_key=blobs.keys[scales] if scales else "",
        external_data=bool(constant) and blobs.absent[constant],
    )


def _scales(held: bytes, *, halved: bool) -> tuple[float, ...]:
    """Unpack scales; those of groups are bfloat16, the upper half of a float32."""
    if not halved:
        return struct.unpack(f"<{len(held) // 4}f", held[: len(held) // 4 * 4])
    words = struct.unpack(f"<{len(held) // 2}H", held[: len(held) // 2 * 2])
    return struct.unpack(f"<{len(words)}f", struct.pack(f"<{len(words)}I", *(word << 16 for word in words)))


def _node(union: dict[str, Any], values: dict[int, XnnValue]) -> XnnNode:
    first = union.get("input1_id", union.get("input_id"))
    kind = union["type"].removeprefix("XNN")
    inputs = int(kind[-1]) if kind.startswith("Concatenate") else 2  # absent numbers read as 0, which is a value's too
    return XnnNode(
        kind=kind,
        input=values.get(first) if first is not None else None,
        output=values.get(union["output_id"]) if "output_id" in union else None,
        filter=values.get(union["filter_id"]) if "filter_id" in union else None,
        bias=values.get(union["bias_id"]) if "bias_id" in union else None,
        more=tuple(values[union[f"input{i}_id"]] for i in range(2, inputs + 1) if union.get(f"input{i}_id") in values),
        fields={name: value for name, value in union.items() if isinstance(value, int | float)},
    )
