"""Packages that take images: what Core ML is told, and that the network behind is the same."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import nn

from converters import coreml
from converters.coreml.image_input import normalised
from converters.coreml.mil.package import read_program, specification_path
from converters.coreml.mil.program import MilProgram
from lspdmobile.artifact import EmitRequest, TensorFacts, sha256_of
from lspdmobile.choices import Precision
from lspdmobile.errors import BadInputError, ConversionError
from lspdmobile.preprocess import PreprocessContract

SIZE = (64, 48)
CONTRACT = PreprocessContract(
    input_size=SIZE, heatmap_stride=8, colour_order="bgr", mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.3)
)
Emit = Callable[..., EmitRequest]


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    """Two RGB pictures ``[2, 64, 48, 3]``."""
    return np.random.default_rng(5).integers(0, 256, (2, *SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def taking_images(request_for: Emit, tmp_path_factory: pytest.TempPathFactory) -> Mapping[Precision, Path]:
    """The tiny network as packages that take images."""
    folder = tmp_path_factory.mktemp("images")
    made = {}
    for precision in (Precision.FP32, Precision.FP16, Precision.W8A8):
        made[precision] = folder / f"{precision}.mlpackage"
        metadata = {"preprocess": json.dumps(CONTRACT.to_dict())}
        coreml.emit(request_for(precision, made[precision], metadata=metadata, image_input=True))
    return made


def pictures_of(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.stack([CONTRACT.normalise(each) for each in pixels])


def changed(path: Path, folder: Path, change: Callable[[Any], object]) -> Path:
    """Copy a package and change its specification."""
    from coremltools.proto import Model_pb2

    copy = folder / path.name
    shutil.copytree(path, copy)
    file = specification_path(copy)
    model = Model_pb2.Model.FromString(file.read_bytes())
    change(model)
    file.write_bytes(model.SerializeToString(deterministic=True))
    return copy


def test_core_ml_is_told_of_an_image(taking_images: Mapping[Precision, Path], core_ml_tools: Any) -> None:
    model = core_ml_tools.models.MLModel(str(taking_images[Precision.FP32]), skip_model_load=True)
    (feature,) = model.get_spec().description.input
    image = feature.type.imageType
    spaces = type(image).ColorSpace
    assert (image.width, image.height, spaces.Name(image.colorSpace)) == (48, 64, "BGR")
    facts = coreml.inspect(taking_images[Precision.FP16])
    assert facts.inputs == (TensorFacts(name="input", shape=(1, 3, 64, 48), dtype="image_bgr"),)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16, Precision.W8A8])
def test_the_network_behind_gives_what_it_gives_for_normalised_pictures(
    taking_images: Mapping[Precision, Path],
    packages: Mapping[Precision, Path],
    pixels: NDArray[np.uint8],
    precision: Precision,
) -> None:
    path, pictures = taking_images[precision], pictures_of(pixels)
    plain = coreml.open_executor(packages[precision]).heatmaps(pictures)
    ours = coreml.open_executor(path).heatmaps(pictures)
    handed = MilProgram(read_program(path)).predict_batch({"input": pixels})["heatmaps"]
    np.testing.assert_allclose(ours, handed, atol=1e-6)
    step = {Precision.FP32: 2e-6, Precision.FP16: 2e-3}.get(precision, 0.02) * float(np.abs(plain).max())
    assert np.abs(ours - plain).max() <= step
    swapped = MilProgram(read_program(path)).predict_batch({"input": np.ascontiguousarray(pixels[..., ::-1])})
    assert np.abs(swapped["heatmaps"] - plain).max() > 10 * step


def test_an_integer_package_still_says_what_its_plan_says(
    request_for: Emit, taking_images: Mapping[Precision, Path], tiny_pose: nn.Module, pixels: NDArray[np.uint8]
) -> None:
    plan = request_for(Precision.W8A8, Path("unused.mlpackage")).plan
    path, pictures = taking_images[Precision.W8A8], pictures_of(pixels)
    assert coreml.deviation(path, network=tiny_pose, plan=plan, pictures=pictures).faults == ()


def test_losses_are_looked_for_behind_the_normalisation(
    taking_images: Mapping[Precision, Path], packages: Mapping[Precision, Path], pixels: NDArray[np.uint8]
) -> None:
    found = coreml.precision_losses(taking_images[Precision.FP16], pictures_of(pixels))
    assert found == coreml.precision_losses(packages[Precision.FP16], pictures_of(pixels))


def test_the_same_request_gives_the_same_bytes(
    request_for: Emit, taking_images: Mapping[Precision, Path], tmp_path: Path
) -> None:
    metadata = {"preprocess": json.dumps(CONTRACT.to_dict())}
    again = coreml.emit(request_for(Precision.FP16, tmp_path / "a.mlpackage", metadata=metadata, image_input=True))
    assert sha256_of(again.path) == sha256_of(taking_images[Precision.FP16])


def test_a_wrong_factor_is_found(taking_images: Mapping[Precision, Path], tmp_path: Path) -> None:
    def change(model: Any) -> None:
        function = model.mlProgram.functions["main"]
        constant = function.block_specializations[function.opset].operations[0]
        constant.attributes["val"].immediateValue.tensor.floats.values[1] *= 1.01

    with pytest.raises(ConversionError, match="does not normalise them as its preprocess contract says"):
        normalised(read_program(changed(taking_images[Precision.FP16], tmp_path, change)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: setattr(m.description.input[0].type.imageType, "colorSpace", 20), "is not what its preprocess"),
        (lambda m: m.description.metadata.userDefined.pop("preprocess"), "has no preprocess contract"),
    ],
)
def test_an_image_that_is_not_the_contract_s_is_refused(
    taking_images: Mapping[Precision, Path], tmp_path: Path, change: Callable[[Any], object], said: str
) -> None:
    with pytest.raises(BadInputError, match=said):
        coreml.open_executor(changed(taking_images[Precision.FP16], tmp_path, change))


def test_inputs_that_no_picture_gives_are_refused(
    taking_images: Mapping[Precision, Path], inputs: NDArray[np.float32]
) -> None:
    executor = coreml.open_executor(taking_images[Precision.FP16])
    with pytest.raises(ValueError, match="not pictures of 256 grey levels"):
        executor.heatmaps(inputs)
    assert executor.heatmaps(inputs[:0]).shape[0] == 0
