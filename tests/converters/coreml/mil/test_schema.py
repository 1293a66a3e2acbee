from typing import Any

import pytest

from converters.coreml.mil.schema import MESSAGES, OTHER_MODEL_TYPES, model_from_bytes

_NESTED = {
    "Binding": "Argument.Binding",
    "ConstantDimension": "Dimension.ConstantDimension",
    "ImmediateValue": "Value.ImmediateValue",
    "BlobFileValue": "Value.BlobFileValue",
    **{name: f"TensorValue.Repeated{name}" for name in ("Floats", "Ints", "Bools", "Strings", "LongInts", "Doubles")},
    "Bytes": "TensorValue.RepeatedBytes",
    **{name: f"ArrayFeatureType.{name}" for name in ("EnumeratedShapes", "Shape", "ShapeRange")},
    **{name: f"ImageFeatureType.{name}" for name in ("EnumeratedImageSizes", "ImageSize", "ImageSizeRange")},
}
_ENUMERATIONS = {("TensorType", "dataType"), ("ArrayFeatureType", "dataType"), ("ImageFeatureType", "colorSpace")}


def _descriptor(name: str) -> Any:
    from coremltools.proto import FeatureTypes_pb2, MIL_pb2, Model_pb2

    parts = _NESTED.get(name, name).split(".")
    for file in (MIL_pb2, Model_pb2, FeatureTypes_pb2):
        found = file.DESCRIPTOR.message_types_by_name.get(parts[0])
        if found is not None:
            return found if len(parts) == 1 else found.nested_types_by_name[parts[1]]
    message = f"Core ML Tools knows no message {name}"
    raise AssertionError(message)


def _kind(field: Any) -> str:
    names = {getattr(field, key): key.removeprefix("TYPE_").lower() for key in dir(field) if key.startswith("TYPE_")}
    entry = field.message_type is not None and field.message_type.GetOptions().map_entry
    if entry:
        return f"map {_element(field.message_type.fields_by_name['value'], names)}"
    return f"{'repeated ' if field.is_repeated else ''}{_element(field, names)}"


def _element(field: Any, names: dict[int, str]) -> str:
    if field.message_type is None:
        return names[field.type]
    full: str = field.message_type.full_name.split("Specification.")[-1].removeprefix("MILSpec.")
    return {apple: ours for ours, apple in _NESTED.items()}.get(full, full)


@pytest.mark.parametrize("name", [name for name in MESSAGES if name != "Opaque"])
def test_every_field_is_apples_field(name: str) -> None:
    theirs = _descriptor(name).fields_by_name
    for field, (number, kind) in MESSAGES[name].items():
        assert theirs[field].number == number
        if kind.endswith("Opaque"):
            assert theirs[field].message_type is not None
        elif (name, field) not in _ENUMERATIONS:
            assert _kind(theirs[field]) == kind


def test_other_model_types_are_apples() -> None:
    theirs = _descriptor("Model").fields_by_name
    assert {name: theirs[name].number for name in OTHER_MODEL_TYPES} == dict(OTHER_MODEL_TYPES)


def test_bytes_that_are_no_specification_are_refused() -> None:
    with pytest.raises(ValueError, match="pars"):
        model_from_bytes(b"\xff" * 40)
