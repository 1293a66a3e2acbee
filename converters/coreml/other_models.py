"""What is inside a Core ML model that is no ML Program: neural networks of the first kind, pipelines, trees and others.

They are read with coremltools' own specification. Layers of neural networks are named by their kind; of other models
the kind is all that is told. Weights are found wherever the specification has its ``WeightParams`` message.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from converters.coreml.contents import constants
from converters.coreml.mil.features import COLOURS, ELEMENTS, allowed_sizes
from converters.coreml.mil.functions import functions_of
from converters.coreml.mil.package import metadata_of
from converters.coreml.mil.schema import OTHER_MODEL_TYPES, model_from_bytes
from lspdmobile.artifact import ArtifactFacts, Part, TensorFacts
from lspdmobile.errors import BadInputError, EnvironmentLacksError
from lspdmobile.operators import StoredBytes, duplicates_of, layout_of_shape

__all__ = ["inspect_other", "is_other"]

_NETWORKS: Final = ("neuralNetwork", "neuralNetworkClassifier", "neuralNetworkRegressor")
_CONST: Final = "const"
_PLAIN_TYPES: Final = {
    "int64Type": "int64",
    "doubleType": "float64",
    "stringType": "string",
    "dictionaryType": "dictionary",
    "sequenceType": "sequence",
    "stateType": "state",
}


def is_other(model: Any) -> bool:
    """Tell whether a specification holds something else than an ML Program, and says what."""
    return any(model.HasField(name) for name in OTHER_MODEL_TYPES)


def inspect_other(path: Path, file: Path) -> ArtifactFacts:
    """Read such a model.

    Args:
        path: The package.
        file: The specification in it.

    Raises:
        BadInputError: It cannot be parsed.
        EnvironmentLacksError: coremltools is absent.
    """
    try:
        from coremltools.proto import Model_pb2
    except ImportError as error:
        message = "models that are no ML Programs need the package coremltools: pip install coremltools"
        raise EnvironmentLacksError(message) from error
    from google.protobuf.message import DecodeError

    model = Model_pb2.Model()
    try:
        model.ParseFromString(file.read_bytes())
    except DecodeError as error:
        message = f"{path}: not a Core ML specification or cut short; export it again"
        raise BadInputError(message) from error
    return _facts(path, file, model)


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """One layer: its kind, its name in the file, and its weights."""

    kind: str
    name: str
    weights: Sequence[StoredBytes]


def _facts(path: Path, file: Path, model: Any) -> ArtifactFacts:
    models = dict(_models(model))
    layers = {name: list(_layers(path, file, each)) for name, each in models.items()}
    bytes_of: dict[str, Counter[str]] = {}
    for name, layer in ((name, layer) for name, some in layers.items() for layer in some):
        for each in layer.weights:
            label = f"{name}: {layer.name}" if name else layer.name
            bytes_of.setdefault(label, Counter())[each.dtype] += each.taken
    inputs = _borders(model.description.input)
    return ArtifactFacts(
        inputs=inputs,
        outputs=_borders(model.description.output),
        weight_bytes_by_dtype=dict(sum(bytes_of.values(), Counter[str]()).most_common()),
        ops=dict(
            Counter(layer.kind for some in layers.values() for layer in some if layer.kind != _CONST).most_common()
        ),
        undelegated=f"Core ML decides on the device; this is a {_kind(model)}, not an ML Program",
        metadata=metadata_of(model),
        weight_bytes_by_layer={name: dict(held) for name, held in bytes_of.items()},
        duplicates=duplicates_of(each for some in layers.values() for layer in some for each in layer.weights),
        layout=layout_of_shape(inputs[0].shape) if inputs else None,
        parts=tuple(_parts(models, layers)),
    )


def _parts(models: Mapping[str, Any], layers: Mapping[str, Sequence[_Layer]]) -> Iterator[Part]:
    for name, model in models.items():
        if name:
            yield Part(
                kind=_kind(model),
                name=name,
                inputs=_borders(model.description.input),
                outputs=_borders(model.description.output),
                operators=sum(layer.kind != _CONST for layer in layers[name]),
                macs=None,
            )


def _kind(model: Any) -> str:
    return str(model.WhichOneof("Type"))


def _models(model: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield a model and, of a pipeline, those it calls, under their names there."""
    yield name, model
    kind = _kind(model)
    if kind.startswith("pipeline"):
        pipeline = model.pipeline if kind == "pipeline" else getattr(model, kind).pipeline
        for number, each in enumerate(pipeline.models):
            told = pipeline.names[number] if number < len(pipeline.names) else f"model {number}"
            yield from _models(each, f"{name}.{told}" if name else told)


def _layers(path: Path, file: Path, model: Any) -> Iterator[_Layer]:
    """Yield a network's layers or a program's operations; any other model that calls none is one layer."""
    kind = _kind(model)
    if kind in _NETWORKS:
        for layer in getattr(model, kind).layers:
            told = str(layer.WhichOneof("layer"))
            yield _Layer(kind=told, name=f"{told} {layer.name}", weights=list(_weights(layer, layer.name)))
    elif kind == "mlProgram":
        programs = functions_of(path, file, model_from_bytes(model.SerializeToString()))
        for operation in (operation for program in programs.values() for operation in program.operations):
            if operation.kind != _CONST:
                yield _Layer(kind=operation.kind, name=operation.label, weights=[])
        for each in constants(*programs.values()):
            yield _Layer(kind=_CONST, name=each.name, weights=[each])
    elif not kind.startswith("pipeline"):
        yield _Layer(kind=kind, name=kind, weights=[])


def _weights(message: Any, name: str) -> Iterator[StoredBytes]:
    """Find the weights anywhere in a message."""
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for each in value if field.is_repeated else (value,):
            if field.message_type.name == "WeightParams":
                yield from _stored(each, f"{name} {field.name}")
            else:
                yield from _weights(each, name)


def _stored(weights: Any, name: str) -> Iterator[StoredBytes]:
    """Give what a ``WeightParams`` holds: numbers, or packed integers with their scales or palette."""
    if len(weights.floatValue):
        import numpy as np

        yield StoredBytes(name=name, dtype="float32", content=np.array(weights.floatValue, "<f4").tobytes())
    if weights.float16Value:
        yield StoredBytes(name=name, dtype="float16", content=weights.float16Value)
    if weights.rawValue:
        yield StoredBytes(name=name, dtype=f"uint{weights.quantization.numberOfBits or 8}", content=weights.rawValue)
    if weights.int8RawValue:
        yield StoredBytes(name=name, dtype="int8", content=weights.int8RawValue)


def _borders(features: Any) -> tuple[TensorFacts, ...]:
    return tuple(
        TensorFacts(
            name=feature.name,
            shape=_shape(feature),
            dtype=_dtype(feature),
            description=feature.shortDescription,
            sizes=allowed_sizes(feature),
        )
        for feature in features
    )


def _shape(feature: Any) -> tuple[int, ...]:
    if feature.type.HasField("imageType"):
        image = feature.type.imageType
        return (1, 1 if image.colorSpace in (10, 40) else 3, int(image.height), int(image.width))
    return tuple(map(int, feature.type.multiArrayType.shape))


def _dtype(feature: Any) -> str:
    kind = str(feature.type.WhichOneof("Type"))
    if kind == "imageType":
        colour = feature.type.imageType.colorSpace
        return f"image_{COLOURS.get(colour, f'colour_{colour}')}"
    if kind == "multiArrayType":
        element = feature.type.multiArrayType.dataType
        return ELEMENTS.get(element, f"type {element}")
    return _PLAIN_TYPES.get(kind, kind)
