"""The part of Apple's Core ML specification that an ML Program is written in, as protobuf messages.

coremltools carries the full specification, but importing it takes about ten seconds and drags in the converters;
reading and running a saved package needs neither. A test compares every field here with coremltools' own.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

__all__ = ["OTHER_MODEL_TYPES", "model_from_bytes"]

_PACKAGE: Final = "lspdmobile.mil"

OTHER_MODEL_TYPES: Final[Mapping[str, int]] = {
    "pipelineClassifier": 200,
    "pipelineRegressor": 201,
    "pipeline": 202,
    "glmRegressor": 300,
    "supportVectorRegressor": 301,
    "treeEnsembleRegressor": 302,
    "neuralNetworkRegressor": 303,
    "bayesianProbitRegressor": 304,
    "glmClassifier": 400,
    "supportVectorClassifier": 401,
    "treeEnsembleClassifier": 402,
    "neuralNetworkClassifier": 403,
    "kNearestNeighborsClassifier": 404,
    "neuralNetwork": 500,
    "itemSimilarityRecommender": 501,
    "customModel": 555,
    "linkedModel": 556,
    "identity": 900,
    "serializedModel": 3000,
}
"""Kinds of model that are not ML Programs, with their field numbers: known only to be refused by name."""

MESSAGES: Final[Mapping[str, Mapping[str, tuple[int, str]]]] = {
    "Opaque": {},
    "Model": {
        "specificationVersion": (1, "int32"),
        "description": (2, "ModelDescription"),
        "mlProgram": (502, "Program"),
        **{name: (number, "Opaque") for name, number in OTHER_MODEL_TYPES.items()},
    },
    "ModelDescription": {
        "input": (1, "repeated FeatureDescription"),
        "output": (10, "repeated FeatureDescription"),
        "state": (13, "repeated FeatureDescription"),
        "functions": (20, "repeated FunctionDescription"),
        "defaultFunctionName": (21, "string"),
        "metadata": (100, "Metadata"),
    },
    "FeatureDescription": {"name": (1, "string"), "shortDescription": (2, "string"), "type": (3, "FeatureType")},
    "FunctionDescription": {
        "name": (1, "string"),
        "input": (2, "repeated FeatureDescription"),
        "output": (3, "repeated FeatureDescription"),
        "state": (6, "repeated FeatureDescription"),
    },
    "FeatureType": {
        "int64Type": (1, "Opaque"),
        "doubleType": (2, "Opaque"),
        "stringType": (3, "Opaque"),
        "imageType": (4, "ImageFeatureType"),
        "multiArrayType": (5, "ArrayFeatureType"),
        "dictionaryType": (6, "Opaque"),
        "sequenceType": (7, "Opaque"),
        "stateType": (8, "StateFeatureType"),
    },
    "ArrayFeatureType": {
        "shape": (1, "repeated int64"),
        "dataType": (2, "int32"),
        "enumeratedShapes": (21, "EnumeratedShapes"),
        "shapeRange": (31, "ShapeRange"),
    },
    "EnumeratedShapes": {"shapes": (1, "repeated Shape")},
    "Shape": {"shape": (1, "repeated int64")},
    "ShapeRange": {"sizeRanges": (1, "repeated SizeRange")},
    "SizeRange": {"lowerBound": (1, "uint64"), "upperBound": (2, "int64")},
    "ImageFeatureType": {
        "width": (1, "int64"),
        "height": (2, "int64"),
        "colorSpace": (3, "int32"),
        "enumeratedSizes": (21, "EnumeratedImageSizes"),
        "imageSizeRange": (31, "ImageSizeRange"),
    },
    "EnumeratedImageSizes": {"sizes": (1, "repeated ImageSize")},
    "ImageSize": {"width": (1, "uint64"), "height": (2, "uint64")},
    "ImageSizeRange": {"widthRange": (1, "SizeRange"), "heightRange": (2, "SizeRange")},
    "StateFeatureType": {"arrayType": (1, "ArrayFeatureType")},
    "Metadata": {
        "shortDescription": (1, "string"),
        "versionString": (2, "string"),
        "author": (3, "string"),
        "license": (4, "string"),
        "userDefined": (100, "map string"),
    },
    "Program": {"version": (1, "int64"), "functions": (2, "map Function")},
    "Function": {
        "inputs": (1, "repeated NamedValueType"),
        "opset": (2, "string"),
        "block_specializations": (3, "map Block"),
    },
    "Block": {
        "inputs": (1, "repeated NamedValueType"),
        "outputs": (2, "repeated string"),
        "operations": (3, "repeated Operation"),
    },
    "Operation": {
        "type": (1, "string"),
        "inputs": (2, "map Argument"),
        "outputs": (3, "repeated NamedValueType"),
        "blocks": (4, "repeated Block"),
        "attributes": (5, "map Value"),
    },
    "Argument": {"arguments": (1, "repeated Binding")},
    "Binding": {"name": (1, "string"), "value": (2, "Value")},
    "NamedValueType": {"name": (1, "string"), "type": (2, "ValueType")},
    "ValueType": {
        "tensorType": (1, "TensorType"),
        "listType": (2, "Opaque"),
        "tupleType": (3, "Opaque"),
        "dictionaryType": (4, "Opaque"),
        "stateType": (5, "StateType"),
    },
    "StateType": {"wrappedType": (1, "ValueType")},
    "TensorType": {"dataType": (1, "int32"), "rank": (2, "int64"), "dimensions": (3, "repeated Dimension")},
    "Dimension": {"constant": (1, "ConstantDimension"), "unknown": (2, "Opaque")},
    "ConstantDimension": {"size": (1, "uint64")},
    "Value": {
        "type": (2, "ValueType"),
        "immediateValue": (3, "ImmediateValue"),
        "blobFileValue": (5, "BlobFileValue"),
    },
    "ImmediateValue": {"tensor": (1, "TensorValue")},
    "BlobFileValue": {"fileName": (1, "string"), "offset": (2, "uint64")},
    "TensorValue": {
        "floats": (1, "Floats"),
        "ints": (2, "Ints"),
        "bools": (3, "Bools"),
        "strings": (4, "Strings"),
        "longInts": (5, "LongInts"),
        "doubles": (6, "Doubles"),
        "bytes": (7, "Bytes"),
    },
    "Floats": {"values": (1, "repeated float")},
    "Ints": {"values": (1, "repeated int32")},
    "Bools": {"values": (1, "repeated bool")},
    "Strings": {"values": (1, "repeated string")},
    "LongInts": {"values": (1, "repeated int64")},
    "Doubles": {"values": (1, "repeated double")},
    "Bytes": {"values": (1, "bytes")},
}
"""Message name to its fields: field name to number and ``[repeated|map] type``; maps are keyed by string.

Enumerations are read as int32, which is how they travel.
"""


def model_from_bytes(raw: bytes) -> Any:
    """Parse a ``.mlmodel`` file.

    Raises:
        ValueError: The bytes are not a Core ML specification, or are cut short.
    """
    from google.protobuf.message import DecodeError

    model = _model_class()()
    try:
        model.ParseFromString(raw)
    except DecodeError as error:
        raise ValueError(str(error)) from error
    return model


@cache
def _model_class() -> Any:
    from google.protobuf import descriptor_pool, message_factory
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    file = FileDescriptorProto(name="lspdmobile_mil.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            _add_field(message, field_name, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Model"))


def _add_field(message: Any, name: str, number: int, kind: str) -> None:
    label, _, element = kind.rpartition(" ")
    field = message.field.add(name=name, number=number, label=3 if label else 1)
    if label == "map":
        entry = message.nested_type.add(name=_entry_name(name))
        entry.options.map_entry = True
        _add_field(entry, "key", 1, "string")
        _add_field(entry, "value", 2, element)
        field.type = field.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{message.name}.{entry.name}"
    elif element in MESSAGES:
        field.type = field.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{element}"
    else:
        field.type = getattr(field, f"TYPE_{element.upper()}")


def _entry_name(field_name: str) -> str:
    """Name a map's entry message as protobuf demands: camel case plus ``Entry``."""
    return "".join(part[:1].upper() + part[1:] for part in field_name.split("_")) + "Entry"
