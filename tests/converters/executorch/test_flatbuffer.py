"""The schema-driven reader, on buffers made with the flatbuffers library."""

import struct
from importlib import import_module
from typing import Any

import pytest

from converters.executorch.flatbuffer import Schema, decode, parse_schema

flatbuffers: Any = import_module("flatbuffers")

TEXT = """
// A comment with table Fake { x:int; }
namespace test;
enum Colour : short { red = 0, green = 1 }
union Shape { Circle, Square: Box }
table Circle { radius:float; }
table Box { side:int; }
table Item { name:string; }
table Root {
  colour:Colour;
  old:int (deprecated);
  shape:Shape;
  scales:[float];
  items:[Item];
  size:uint64;  // the last one
}
root_type Root;
"""


@pytest.fixture
def schema() -> Schema:
    return parse_schema(TEXT)


def full() -> bytes:
    """A root with every field; a union takes fields 2 and 3."""
    builder = flatbuffers.Builder(0)
    name = builder.CreateString("tête")
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, name, 0)
    item = builder.EndObject()
    builder.StartVector(4, 1, 4)
    builder.PrependUOffsetTRelative(item)
    items = builder.EndVector()
    builder.StartVector(4, 2, 4)
    builder.PrependFloat32(0.25)
    builder.PrependFloat32(1e-7)
    scales = builder.EndVector()
    builder.StartObject(1)
    builder.PrependInt32Slot(0, 7, 0)
    box = builder.EndObject()
    builder.StartObject(7)
    builder.PrependInt16Slot(0, 1, 0)
    builder.PrependUint8Slot(2, 2, 0)
    builder.PrependUOffsetTRelativeSlot(3, box, 0)
    builder.PrependUOffsetTRelativeSlot(4, scales, 0)
    builder.PrependUOffsetTRelativeSlot(5, items, 0)
    builder.PrependUint64Slot(6, 2**40, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def test_every_kind_of_field_is_read(schema: Schema) -> None:
    assert decode(full(), schema) == {
        "colour": 1,
        "old": 0,
        "shape": {"type": "Square", "side": 7},
        "scales": [struct.unpack("<f", struct.pack("<f", 1e-7))[0], 0.25],
        "items": [{"name": "tête"}],
        "size": 2**40,
    }


def test_absent_fields_are_empty(schema: Schema) -> None:
    builder = flatbuffers.Builder(0)
    builder.StartObject(7)
    builder.Finish(builder.EndObject())
    empty: dict[str, Any] = {"colour": 0, "old": 0, "shape": None, "scales": [], "items": [], "size": 0}
    assert decode(bytes(builder.Output()), schema) == empty


def test_a_truncated_buffer_is_an_error(schema: Schema) -> None:
    content = full()
    for length in range(0, len(content) - 8, 3):
        with pytest.raises((struct.error, IndexError, UnicodeDecodeError)):
            decode(content[:length], schema)


def test_a_schema_without_a_root_is_an_error() -> None:
    with pytest.raises(ValueError, match="root_type"):
        parse_schema("table A { x:int; }")
