"""Reads a flatbuffer by its schema text: just what XNNPACK's graph needs, with exact floats and no extra process.

Fields are found by their position in the table, as the format prescribes: field k has the vtable entry ``4 + 2k``; a
union takes two fields, its type and its value; absent fields are 0 or empty.
"""

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Schema", "decode", "parse_schema"]

_SCALARS: Final = {
    "bool": "?",
    "byte": "b",
    "ubyte": "B",
    "short": "h",
    "ushort": "H",
    "int": "i",
    "uint": "I",
    "uint64": "Q",
    "float": "f",
    "double": "d",
}
_BLOCK: Final = re.compile(r"\b(table|union|enum)\s+(\w+)(?:\s*:\s*(\w+))?\s*\{(.*?)\}", re.DOTALL)
_FIELD: Final = re.compile(r"(\w+)\s*:\s*(\[?\s*\w+\s*\]?)")
_ROOT: Final = re.compile(r"\broot_type\s+(\w+)")


@dataclass(frozen=True, kw_only=True)
class Schema:
    """What a ``.fbs`` file declares.

    Attributes:
        root: Name of the table a file starts with.
        tables: Table to its fields in order, each with its type as written.
        unions: Union to its members in order, each with its name and its table; number 1 is the first.
        enums: Enumeration to the scalar type that stores it.
    """

    root: str
    tables: Mapping[str, tuple[tuple[str, str], ...]]
    unions: Mapping[str, tuple[tuple[str, str], ...]]
    enums: Mapping[str, str]


def parse_schema(text: str) -> Schema:
    """Read a flatbuffer schema.

    Raises:
        ValueError: It names no root table.
    """
    text = re.sub(r"//[^\n]*", "", text)
    root = _ROOT.search(text)
    if root is None:
        message = "the schema has no root_type"
        raise ValueError(message)
    blocks = _BLOCK.findall(text)
    return Schema(
        root=root.group(1),
        tables={name: _fields(body) for kind, name, _, body in blocks if kind == "table"},
        unions={name: _members(body) for kind, name, _, body in blocks if kind == "union"},
        enums={name: stored for kind, name, stored, _ in blocks if kind == "enum"},
    )


def decode(data: bytes, schema: Schema) -> dict[str, Any]:
    """Read a flatbuffer into nested dictionaries; a union becomes a dictionary with its type under ``"type"``.

    Raises:
        struct.error, IndexError, UnicodeDecodeError, RecursionError: The bytes do not follow the schema.
    """
    return _table(data, _offset(data, 0), schema.root, schema)


def _fields(body: str) -> tuple[tuple[str, str], ...]:
    declared = (_FIELD.match(part.strip()) for part in body.split(";"))
    return tuple((found.group(1), found.group(2).replace(" ", "")) for found in declared if found)


def _members(body: str) -> tuple[tuple[str, str], ...]:
    pairs = [[word.strip() for word in part.split(":")] for part in body.split(",") if part.strip()]
    return tuple((pair[0], pair[-1]) for pair in pairs)


def _table(data: bytes, at: int, name: str, schema: Schema) -> dict[str, Any]:
    vtable = at - _scalar(data, at, "i")
    length = _scalar(data, vtable, "H")

    def place(number: int) -> int:
        entry = 4 + 2 * number
        return int(_scalar(data, vtable + entry, "H")) if entry < length else 0

    values: dict[str, Any] = {}
    number = 0
    for field, kind in schema.tables[name]:
        if kind in schema.unions:
            chosen, where = place(number), place(number + 1)
            member = int(_scalar(data, at + chosen, "B")) if chosen else 0
            values[field] = _union(data, at + where, schema.unions[kind][member - 1], schema) if member else None
            number += 2
        else:
            where = place(number)
            values[field] = _value(data, at + where, kind, schema) if where else _absent(kind, schema)
            number += 1
    return values


def _union(data: bytes, at: int, member: tuple[str, str], schema: Schema) -> dict[str, Any]:
    return {"type": member[0], **_table(data, at + _offset(data, at), member[1], schema)}


def _value(data: bytes, at: int, kind: str, schema: Schema) -> Any:
    kind = schema.enums.get(kind, kind)
    if kind in _SCALARS:
        return _scalar(data, at, _SCALARS[kind])
    target = at + _offset(data, at)
    if kind == "string":
        return data[target + 4 : target + 4 + _offset(data, target)].decode()
    if kind.startswith("["):
        return _vector(data, target, kind[1:-1], schema)
    return _table(data, target, kind, schema)


def _vector(data: bytes, at: int, kind: str, schema: Schema) -> list[Any]:
    count = _offset(data, at)
    code = _SCALARS.get(schema.enums.get(kind, kind))
    if code is not None:
        return list(struct.unpack_from(f"<{count}{code}", data, at + 4))
    return [_value(data, at + 4 + 4 * index, kind, schema) for index in range(count)]


def _absent(kind: str, schema: Schema) -> Any:
    if schema.enums.get(kind, kind) in _SCALARS:
        return 0
    if kind == "string":
        return ""
    return [] if kind.startswith("[") else None


def _offset(data: bytes, at: int) -> int:
    return int(_scalar(data, at, "I"))


def _scalar(data: bytes, at: int, code: str) -> Any:
    if at < 0:
        message = "offset before the start"
        raise IndexError(message)
    return struct.unpack_from("<" + code, data, at)[0]
