from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from converters import coreml
from converters.coreml.mil.package import read_program
from converters.coreml.plan import weight_dtypes
from lspdmobile.artifact import EmitRequest, sha256_of, size_in_bytes
from lspdmobile.choices import Format, Layout, Precision
from lspdmobile.data.bundled import bundled_pictures
from lspdmobile.data.views import load_views
from lspdmobile.errors import BadInputError, ConversionError
from lspdmobile.fusion import fuse
from lspdmobile.student import load_student
from quantization.calibrate import calibrate
from quantization.plan import QuantizationPlan

Floats = NDArray[np.float32]
RequestFor = Callable[..., EmitRequest]

# Of random networks. An int8 step is 1/127 of the largest value: each of 6 to 32 layers adds noise of about 1 percent.
# Of 16 entries evenly spaced over the weights' range, which k-means betters, the noise is 7 percent a layer;
# so it is of int4.
LARGEST_ERROR = {
    Precision.FP32: 1e-5,
    Precision.FP16: 5e-3,
    Precision.W8: 0.1,
    Precision.W4: 0.4,
    Precision.W8A8: 0.1,
    Precision.PALETTE6: 0.1,
    Precision.PALETTE4: 0.4,
}


def _relative(result: Floats, reference: Floats) -> float:
    return float(np.linalg.norm(result - reference) / np.linalg.norm(reference))


@pytest.mark.parametrize("precision", list(coreml.supported()))
def test_the_package_gives_what_torch_gives(
    precision: Precision, packages: Mapping[Precision, Path], inputs: Floats, expected: Floats
) -> None:
    heatmaps = coreml.open_executor(packages[precision]).heatmaps(inputs)
    assert heatmaps.dtype == np.float32
    assert _relative(heatmaps, expected) < LARGEST_ERROR[precision]


def test_each_precision_is_farther_from_torch_than_the_one_before(
    packages: Mapping[Precision, Path], inputs: Floats, expected: Floats
) -> None:
    errors = [
        _relative(coreml.open_executor(packages[precision]).heatmaps(inputs), expected)
        for precision in (Precision.FP32, Precision.FP16, Precision.PALETTE6, Precision.PALETTE4)
    ]
    assert errors[0] * 10 < errors[1] < errors[2] < errors[3]


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        (Precision.FP32, "float32"),
        (Precision.FP16, "float16"),
        (Precision.W8, "int8"),
        (Precision.W8A8, "int8"),
        (Precision.PALETTE6, "palette6"),
        (Precision.PALETTE4, "palette4"),
    ],
)
def test_every_layer_is_stored_in_the_precision(
    precision: Precision, dtype: str, packages: Mapping[Precision, Path]
) -> None:
    assert set(weight_dtypes(read_program(packages[precision])).values()) == {dtype}


def test_input_and_output_are_float32_nchw_with_fixed_names(packages: Mapping[Precision, Path]) -> None:
    for path in packages.values():
        facts = coreml.inspect(path)
        assert [(t.name, t.shape, t.dtype) for t in facts.inputs] == [("input", (1, 3, 64, 48), "float32")]
        assert [(t.name, t.shape, t.dtype) for t in facts.outputs] == [("heatmaps", (1, 5, 32, 24), "float32")]


def test_the_artifact_says_what_was_made(request_for: RequestFor, tmp_path: Path) -> None:
    path = tmp_path / "tiny.mlpackage"
    artifact = coreml.emit(request_for(Precision.FP16, path))
    assert (artifact.path, artifact.format, artifact.precision) == (path, Format.COREML, Precision.FP16)
    assert artifact.layout is Layout.NCHW
    assert artifact.notes == ()
    assert artifact.seconds > 0


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.W8, Precision.PALETTE6])
def test_two_emissions_are_the_same_bytes(
    precision: Precision, request_for: RequestFor, packages: Mapping[Precision, Path], tmp_path: Path
) -> None:
    again = tmp_path / "again.mlpackage"
    coreml.emit(request_for(precision, again))
    assert sha256_of(again) == sha256_of(packages[precision])


def test_only_the_package_files_are_written(packages: Mapping[Precision, Path]) -> None:
    path = packages[Precision.W8A8]
    files = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
    folder = "Data/com.apple.CoreML"
    assert files == [f"{folder}/model.mlmodel", f"{folder}/weights/weight.bin", "Manifest.json"]


def test_opening_a_package_with_core_ml_tools_changes_no_byte(
    packages: Mapping[Precision, Path], core_ml_tools: Any
) -> None:
    before = sha256_of(packages[Precision.W8A8])
    core_ml_tools.models.MLModel(str(packages[Precision.W8A8]), skip_model_load=True)
    assert sha256_of(packages[Precision.W8A8]) == before


def test_core_ml_tools_reads_the_package_back(packages: Mapping[Precision, Path], core_ml_tools: Any) -> None:
    model = core_ml_tools.models.MLModel(str(packages[Precision.W8A8]), skip_model_load=True)
    assert (model.author, model.license, model.version) == ("someone", "Apache-2.0", "1a2b")
    assert model.short_description == "Finds five joints"
    assert model.input_description["input"] == "a person"
    assert model.output_description["heatmaps"] == "five heatmaps"
    assert model.user_defined_metadata["skeleton"] == "five points"
    assert not [key for key in model.user_defined_metadata if "preview" in key]
    assert model.get_spec().specificationVersion == 8


@pytest.mark.parametrize(
    "case",
    [
        (Precision.FP16, "iOS15", 6),
        (Precision.W8, "iOS16", 7),
        (Precision.W8, "ios18", 9),
        (Precision.W8A8, "iOS18", 9),
        (Precision.PALETTE4, "iOS16", 7),
    ],
)
def test_deployment_targets(
    case: tuple[Precision, str, int], request_for: RequestFor, inputs: Floats, expected: Floats, tmp_path: Path
) -> None:
    precision, target, version = case
    path = tmp_path / "tiny.mlpackage"
    coreml.emit(request_for(precision, path, deployment_target=target))
    assert read_program(path).specification_version == version
    assert _relative(coreml.open_executor(path).heatmaps(inputs), expected) < LARGEST_ERROR[precision]


@pytest.mark.parametrize(
    ("precision", "changes", "complaint"),
    [
        (Precision.W8A8, {"deployment_target": "iOS16"}, "w8a8 needs a minimum deployment target of iOS17 or later"),
        (Precision.W8, {"deployment_target": "iOS15"}, "w8 needs a minimum deployment target of iOS16 or later"),
        (Precision.W4, {}, "w4 needs a minimum deployment target of iOS18 or later"),
        (Precision.PALETTE4, {"deployment_target": "iOS15"}, "palette4 needs a minimum deployment target of iOS16"),
        (Precision.FP16, {"deployment_target": "iOS14"}, "fp16 needs a minimum deployment target of iOS15 or later"),
        (Precision.FP16, {"deployment_target": "Symbian"}, "not 'Symbian'"),
        (Precision.FP16, {"layout": Layout.NHWC}, "written as nchw, not nhwc"),
        (Precision.FP16, {"path": Path("tiny.tflite")}, r"must end in \.mlpackage"),
        (Precision.FP16, {"path": Path(__file__).parent}, "mlpackage"),
        (Precision.W8A16, {"plan": QuantizationPlan(precision=Precision.W8A16)}, "Core ML has no w8a16; choose from"),
    ],
)
def test_what_does_not_go_together_is_refused(
    precision: Precision, changes: dict[str, Any], complaint: str, request_for: RequestFor, tmp_path: Path
) -> None:
    path = tmp_path / "tiny.mlpackage"
    with pytest.raises(BadInputError, match=complaint):
        coreml.emit(request_for(precision, **{"path": path, **changes}))
    assert not path.exists()


def test_an_existing_package_is_never_overwritten(request_for: RequestFor, tmp_path: Path) -> None:
    path = tmp_path / "tiny.mlpackage"
    path.mkdir()
    (path / "precious").touch()
    with pytest.raises(BadInputError, match="already exists"):
        coreml.emit(request_for(Precision.FP16, path))
    assert (path / "precious").exists()


class Unconvertible(torch.nn.Module):
    """Holds an operation Core ML Tools does not know."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Give something."""
        values: torch.Tensor = torch.special.bessel_j0(pictures)
        return values


def test_a_refusal_of_core_ml_tools_names_the_precision_and_leaves_nothing(
    request_for: RequestFor, tmp_path: Path
) -> None:
    path = tmp_path / "tiny.mlpackage"
    with pytest.raises(ConversionError, match=r"Core ML fp16: conversion failed: .*bessel"):
        coreml.emit(request_for(Precision.FP16, path, network=Unconvertible().eval()))
    assert list(tmp_path.iterdir()) == []


class Weightless(torch.nn.Module):
    """Has nothing to quantize."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Halve."""
        return torch.relu(pictures)


def test_nothing_quantized_is_never_passed_off_as_w8(request_for: RequestFor, tmp_path: Path) -> None:
    path = tmp_path / "tiny.mlpackage"
    with pytest.raises(ConversionError, match=r"w8 was asked for.*no layer has weights"):
        coreml.emit(request_for(Precision.W8, path, network=Weightless().eval()))
    assert not path.exists()


@pytest.mark.slow
def test_the_shipping_architecture_keeps_its_sizes_and_errors(tmp_path: Path) -> None:
    student = load_student("lspd-s")
    views = load_views(bundled_pictures(), student.contract, student.skeleton, limit=18, seed=0)
    pictures, seen = views.inputs(0, 2), views.inputs(2, 18)
    network = fuse(student.network, input_size=(192, 192)).network
    with torch.inference_mode():
        wanted = network(torch.from_numpy(pictures)).numpy()
    sizes: dict[Precision, int] = {}
    for precision in coreml.supported():
        path = tmp_path / f"{precision}.mlpackage"
        coreml.emit(
            EmitRequest(
                network=network,
                plan=calibrate(network, seen, precision=precision),
                input_size=(192, 192),
                layout=Layout.NCHW,
                metadata={},
                deployment_target="iOS18",
                path=path,
            )
        )
        sizes[precision] = size_in_bytes(path)
        assert _relative(coreml.open_executor(path).heatmaps(pictures), wanted) < LARGEST_ERROR[precision]
    assert sizes[Precision.FP16] <= 0.55 * sizes[Precision.FP32]
    assert sizes[Precision.W8A8] <= 0.32 * sizes[Precision.FP32]
    assert sizes[Precision.W8] <= 0.32 * sizes[Precision.FP32]
    assert sizes[Precision.PALETTE6] <= 0.25 * sizes[Precision.FP32]
    assert sizes[Precision.PALETTE4] <= 0.18 * sizes[Precision.FP32]


class _UnevenAddition(torch.nn.Module):
    """Adds two branches whose values differ a thousand times."""

    def __init__(self) -> None:
        super().__init__()
        self.large = torch.nn.Conv2d(3, 16, 3, padding=1)
        self.small = torch.nn.Conv2d(3, 16, 3, padding=1)
        self.heatmap = torch.nn.Conv2d(16, 4, 1)
        with torch.no_grad():
            self.small.weight.mul_(1e-3)
            self.small.bias.mul_(1e-3)  # type: ignore[union-attr]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.heatmap(self.large(x) + self.small(x))
        return y


def test_an_addition_of_very_different_scales_stays_exact(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = _UnevenAddition().eval()
    pictures = np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype(np.float32)
    request = EmitRequest(
        network=network,
        plan=calibrate(network, pictures, precision=Precision.W8A8),
        input_size=(32, 32),
        layout=Layout.NCHW,
        metadata={},
        deployment_target="iOS17",
        path=tmp_path / "uneven.mlpackage",
    )
    coreml.emit(request)
    found = coreml.open_executor(request.path).heatmaps(pictures)
    with torch.inference_mode():
        expected = network(torch.from_numpy(pictures)).numpy()
    assert _relative(found, expected) < LARGEST_ERROR[Precision.W8A8]
