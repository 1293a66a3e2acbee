"""TFLite's metadata tables, to and from plain values: a table is a mapping of field names.

The tables, slots and numbers are those of ``metadata_schema.fbs`` (TensorFlow Lite Support, schema 1.5.0, file mark
``M001``); no kept package has Python classes for them that can be installed beside current runtimes. A field of a union
holds a mapping of one entry, from the name of the table that was chosen to its fields.
"""

import struct
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["IDENTIFIER", "TABLES", "UNIONS", "decoded", "encoded"]

IDENTIFIER: Final = b"M001"
_ROOT: Final = "ModelMetadata"
_SCALARS: Final = {"byte": "Int8", "uint": "Uint32", "int": "Int32", "float": "Float32"}

TABLES: Final[Mapping[str, Mapping[str, tuple[int, str]]]] = {
    "ModelMetadata": {
        "name": (0, "string"),
        "description": (1, "string"),
        "version": (2, "string"),
        "subgraph_metadata": (3, "[SubGraphMetadata]"),
        "author": (4, "string"),
        "license": (5, "string"),
        "associated_files": (6, "[AssociatedFile]"),
        "min_parser_version": (7, "string"),
    },
    "SubGraphMetadata": {
        "name": (0, "string"),
        "description": (1, "string"),
        "input_tensor_metadata": (2, "[TensorMetadata]"),
        "output_tensor_metadata": (3, "[TensorMetadata]"),
        "associated_files": (4, "[AssociatedFile]"),
        "input_process_units": (5, "[ProcessUnit]"),
        "output_process_units": (6, "[ProcessUnit]"),
    },
    "TensorMetadata": {
        "name": (0, "string"),
        "description": (1, "string"),
        "dimension_names": (2, "[string]"),
        "content": (3, "Content"),
        "process_units": (4, "[ProcessUnit]"),
        "stats": (5, "Stats"),
        "associated_files": (6, "[AssociatedFile]"),
    },
    "AssociatedFile": {
        "name": (0, "string"),
        "description": (1, "string"),
        "type": (2, "byte"),
        "locale": (3, "string"),
        "version": (4, "string"),
    },
    "Content": {"content_properties": (0, "union ContentProperties"), "range": (2, "ValueRange")},
    "ValueRange": {"min": (0, "int"), "max": (1, "int")},
    "FeatureProperties": {},
    "ImageProperties": {"color_space": (0, "byte"), "default_size": (1, "ImageSize")},
    "ImageSize": {"width": (0, "uint"), "height": (1, "uint")},
    "BoundingBoxProperties": {"index": (0, "[uint]"), "type": (1, "byte"), "coordinate_type": (2, "byte")},
    "AudioProperties": {"sample_rate": (0, "uint"), "channels": (1, "uint")},
    "ProcessUnit": {"options": (0, "union ProcessUnitOptions")},
    "NormalizationOptions": {"mean": (0, "[float]"), "std": (1, "[float]")},
    "ScoreCalibrationOptions": {"score_transformation": (0, "byte"), "default_score": (1, "float")},
    "ScoreThresholdingOptions": {"global_score_threshold": (0, "float")},
    "Stats": {"max": (0, "[float]"), "min": (1, "[float]")},
}
"""Table to its fields: name to slot and kind. Tables of text and audio models are left out."""

UNIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "ContentProperties": ("FeatureProperties", "ImageProperties", "BoundingBoxProperties", "AudioProperties"),
    "ProcessUnitOptions": ("NormalizationOptions", "ScoreCalibrationOptions", "ScoreThresholdingOptions"),
}
"""Union to its members, numbered from 1 in this order."""


def encoded(fields: Mapping[str, Any]) -> bytes:
    """Serialise a ``ModelMetadata``.

    Raises:
        KeyError: A field is none of the schema's.
    """
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(_built(builder, _ROOT, fields), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def _built(builder: Any, table: str, fields: Mapping[str, Any]) -> int:
    """Write a table's children, then the table; gives its offset."""
    scalars: list[tuple[str, int, Any]] = []
    offsets: list[tuple[int, int]] = []
    for name, value in fields.items():
        slot, kind = TABLES[table][name]
        if kind in _SCALARS:
            scalars.append((_SCALARS[kind], slot, value))
        elif kind.startswith("union "):
            ((member, inner),) = value.items()
            scalars.append(("Uint8", slot, 1 + UNIONS[kind.removeprefix("union ")].index(member)))
            offsets.append((slot + 1, _built(builder, member, inner)))
        else:
            offsets.append((slot, _child(builder, kind, value)))
    builder.StartObject(2 + max((slot for slot, _ in TABLES[table].values()), default=0))
    for type_name, slot, value in scalars:
        getattr(builder, f"Prepend{type_name}Slot")(slot, value, 0)
    for slot, offset in offsets:
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    return int(builder.EndObject())


def _child(builder: Any, kind: str, value: Any) -> int:
    if kind == "string":
        return int(builder.CreateString(value))
    if not kind.startswith("["):
        return _built(builder, kind, value)
    element = kind[1:-1]
    items = value if element in _SCALARS else [_child(builder, element, each) for each in value]
    builder.StartVector(4, len(items), 4)
    for item in reversed(items):
        getattr(builder, f"Prepend{_SCALARS.get(element, 'UOffsetTRelative')}")(item)
    return int(builder.EndVector())


def decoded(content: bytes) -> dict[str, Any]:
    """Read a ``ModelMetadata``; fields that this tool has no table for are left out.

    Raises:
        ValueError: The bytes are no TFLite metadata, or damaged.
    """
    from flatbuffers import encode, number_types
    from flatbuffers.table import Table

    if content[4:8] != IDENTIFIER:
        message = f"no TFLite metadata: the mark is {content[4:8]!r}, not {IDENTIFIER!r}"
        raise ValueError(message)
    try:
        start = encode.Get(number_types.UOffsetTFlags.packer_type, content, 0)
        return _read(Table(content, start), _ROOT)
    except (struct.error, IndexError, TypeError) as error:
        message = f"TFLite metadata cut short or damaged ({error})"
        raise ValueError(message) from error


def _read(table: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field, (slot, kind) in TABLES[name].items():
        if kind.startswith("union "):
            found.update(_read_union(table, field, slot, UNIONS[kind.removeprefix("union ")]))
        elif position := table.Offset(4 + 2 * slot):
            found[field] = _value(table, kind, table.Pos + position)
    return found


def _read_union(table: Any, field: str, slot: int, members: tuple[str, ...]) -> dict[str, Any]:
    """Read the member that a union holds; nothing where it has none, or one that is not in the table."""
    from flatbuffers import number_types
    from flatbuffers.table import Table

    number = table.Offset(4 + 2 * slot) and table.Get(number_types.Uint8Flags, table.Pos + table.Offset(4 + 2 * slot))
    position = table.Offset(6 + 2 * slot)
    if not position or not 1 <= number <= len(members):
        return {}
    member = members[number - 1]
    return {field: {member: _read(Table(table.Bytes, table.Indirect(table.Pos + position)), member)}}


def _value(table: Any, kind: str, position: int) -> Any:
    from flatbuffers import number_types
    from flatbuffers.table import Table

    if kind in _SCALARS:
        value = table.Get(getattr(number_types, f"{_SCALARS[kind]}Flags"), position)
        return value if kind == "float" else int(value)
    if kind == "string":
        return table.String(position).decode()
    if not kind.startswith("["):
        return _read(Table(table.Bytes, table.Indirect(position)), kind)
    vector = position + table.Get(number_types.UOffsetTFlags, position)
    length, first = table.Get(number_types.UOffsetTFlags, vector), vector + 4
    return [_value(table, kind[1:-1], first + 4 * i) for i in range(length)]
