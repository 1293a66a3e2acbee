"""What a package's description tells apps about inputs and outputs; it has to be what the program says."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from converters.coreml.mil.constants import TensorType
from lspdmobile.errors import BadInputError, ConversionError

__all__ = ["COLOURS", "ELEMENTS", "ImageInput", "NamedType", "allowed_sizes", "check_features", "image_inputs"]

COLOURS: Final = {10: "grey", 20: "rgb", 30: "bgr"}
"""ColorSpace of Apple's FeatureTypes.proto; float16 grey (40) is left out: no picture file holds it."""
ELEMENTS: Final = {0x10010: "float16", 0x10020: "float32", 0x10040: "float64", 0x20008: "int8", 0x20020: "int32"}
"""ArrayDataType of the same file."""


@dataclass(frozen=True, kw_only=True)
class NamedType:
    """A value's name and type."""

    name: str
    type: TensorType


@dataclass(frozen=True, kw_only=True)
class ImageInput:
    """What Core ML makes of an input that is an image: the program sees ``[1, C, height, width]``, values 0 to 255.

    Attributes:
        colour: ``rgb``, ``bgr`` or ``grey``: order and number of the channels C.
        height, width: In pixels. Scale and bias, where wanted, are operations of the program.
    """

    colour: str
    height: int
    width: int


def image_inputs(description: Any, path: Path) -> dict[str, ImageInput]:
    """Give the inputs that are images, by name.

    Raises:
        ConversionError: A feature is neither an image nor a multi-array, an output is an image, or the colour space is
            not implemented.
    """
    images: dict[str, ImageInput] = {}
    for feature in description.input:
        if feature.type.HasField("imageType"):
            image = feature.type.imageType
            if image.colorSpace not in COLOURS:
                message = f"{path}: image {feature.name!r} has colour space {image.colorSpace}: not implemented"
                raise ConversionError(message)
            colour = COLOURS[image.colorSpace]
            images[feature.name] = ImageInput(colour=colour, height=int(image.height), width=int(image.width))
    for feature in (*description.input, *description.output):
        if feature.name not in images and not feature.type.HasField("multiArrayType"):
            message = f"{path}: {feature.name!r} is not a multi-array; other types, and images as outputs, are refused"
            raise ConversionError(message)
    return images


def check_features(
    description: Any, *, inputs: Iterable[NamedType], outputs: Iterable[NamedType], images: Mapping[str, ImageInput]
) -> None:
    """Compare names, element types and shapes, as far as the description gives them, with the program's.

    Raises:
        BadInputError: They differ, so that Core ML would not load the package.
    """
    for kind, features, values in (("input", description.input, inputs), ("output", description.output, outputs)):
        stated, computed = [feature.name for feature in features], [value.name for value in values]
        if sorted(stated) != sorted(computed):
            message = f"the description names the {kind}s {stated}, the program {computed}"
            raise BadInputError(message)
        types = {value.name: value.type for value in values}
        for feature in features:
            if feature.name not in images and not _agrees(feature.type.multiArrayType, types[feature.name]):
                array = feature.type.multiArrayType
                element = ELEMENTS.get(array.dataType, f"type {array.dataType}")
                found = f"{element}{list(array.shape)}"
                message = (
                    f"the description has {kind} {feature.name!r} as {found}, the program as {types[feature.name]}"
                )
                raise BadInputError(message)


def _agrees(array: Any, kind: TensorType) -> bool:
    shape = list(array.shape) or list(kind.shape)
    sizes = len(shape) == len(kind.shape) and all(b in (None, a) for a, b in zip(shape, kind.shape, strict=True))
    return sizes and ELEMENTS.get(array.dataType) == kind.dtype.name


def allowed_sizes(feature: Any) -> str:
    """Say which sizes an input or output takes where they are not fixed; empty where they are."""
    if feature.type.HasField("imageType"):
        image = feature.type.imageType
        if image.HasField("enumeratedSizes"):
            sizes = (f"{size.height}x{size.width}" for size in image.enumeratedSizes.sizes)
            return f"height x width {' or '.join(sizes)}"
        if image.HasField("imageSizeRange"):
            ranges = image.imageSizeRange
            return f"height {_range(ranges.heightRange)}, width {_range(ranges.widthRange)}"
    array = feature.type.multiArrayType
    if array.HasField("enumeratedShapes"):
        return " or ".join("x".join(map(str, each.shape)) for each in array.enumeratedShapes.shapes)
    if array.HasField("shapeRange"):
        return " x ".join(map(_range, array.shapeRange.sizeRanges))
    return ""


def _range(sizes: Any) -> str:
    if sizes.upperBound < 0:
        return f"{sizes.lowerBound} or more"
    return (
        str(sizes.lowerBound) if sizes.lowerBound == sizes.upperBound else f"{sizes.lowerBound} to {sizes.upperBound}"
    )
