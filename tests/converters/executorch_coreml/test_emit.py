import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from torch import Tensor, nn

from converters import coreml, executorch_coreml
from converters.coreml.plan import check_scales, weight_dtypes
from converters.executorch.program import read_program
from converters.executorch_coreml.embedded import core_ml_files
from converters.executorch_coreml.execute import only_program
from lspdmobile.artifact import Artifact
from lspdmobile.choices import Format, Layout, Precision
from lspdmobile.errors import BadInputError, ConversionError
from quantization.graph import activation_grids, quantized_module
from quantization.plan import TensorRange

if TYPE_CHECKING:
    from tests.converters.executorch_coreml.conftest import World

Emitted = Mapping[Precision, Artifact]


class SumOnly(nn.Module):
    """An addition, and no layer that has weights."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[1, 3, H, W]`` to the same shape."""
        return x.relu() + x


class Asinh(nn.Module):
    """What Core ML Tools cannot convert."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[1, 3, H, W]`` to the same shape."""
        return x.asinh()


def embedded(artifact: Artifact) -> Any:
    return only_program(artifact.path, read_program(artifact.path))


def test_what_is_offered_is_what_core_ml_takes_but_palettes_and_w4() -> None:
    offered = executorch_coreml.supported()
    assert set(coreml.supported()) - set(offered) == {Precision.W4, Precision.PALETTE6, Precision.PALETTE4}
    assert offered == {p: layout for p, layout in coreml.supported().items() if p in offered}


def test_the_artifact_says_what_was_written(world: "World", emitted: Emitted) -> None:
    for precision, artifact in emitted.items():
        assert (artifact.format, artifact.precision, artifact.layout) == (Format.EXECUTORCH, precision, Layout.NCHW)
        assert artifact.path.parent == world.folder
        assert artifact.path.is_file()
        assert artifact.seconds > 0


def test_every_layer_has_the_weights_that_were_asked_for(emitted: Emitted) -> None:
    wanted = {Precision.FP32: "float32", Precision.FP16: "float16", Precision.W8: "int8", Precision.W8A8: "int8"}
    assert {p: set(weight_dtypes(embedded(a)).values()) for p, a in emitted.items()} == {
        p: {wanted[p]} for p in emitted
    }


def test_the_plans_activation_scales_are_in_the_file(world: "World", emitted: Emitted) -> None:
    module = quantized_module(world.network, world.plan, world.pictures.shape[2:])
    scales = {name: grid.scale for name, grid in activation_grids(module).items()}
    program = embedded(emitted[Precision.W8A8])
    assert len(scales) > 5
    check_scales(program, scales)
    name = next(iter(scales))
    with pytest.raises(ConversionError, match=f"the calibrated ranges of {name}"):
        check_scales(program, {**scales, name: 1.01 * scales[name]})


def test_two_emissions_are_the_same_bytes(world: "World", block: nn.Module) -> None:
    requests = [replace(world.request(Precision.FP16, f"{i}.pte"), network=block) for i in range(2)]
    first, second = (executorch_coreml.emit(request).path.read_bytes() for request in requests)
    assert first == second


def test_models_that_differ_are_kept_apart_on_the_phone(emitted: Emitted) -> None:
    names = []
    for artifact in emitted.values():
        (files,) = core_ml_files(read_program(artifact.path), artifact.path)
        names.append(json.loads(files["metadata.json"])["identifier"])
        assert {name.split("/")[0] for name in files} == {"metadata.json", "model.mlpackage"}
    assert len(set(names)) == len(emitted)
    assert all(name.startswith("executorch_") for name in names)


@pytest.mark.parametrize(("target", "version"), [("iOS15", 6), ("iOS18", 9)])
def test_the_deployment_target_reaches_the_program(world: "World", block: nn.Module, target: str, version: int) -> None:
    request = replace(world.request(Precision.FP16, f"{target}.pte"), network=block, deployment_target=target)
    assert embedded(executorch_coreml.emit(request)).specification_version == version


@pytest.mark.parametrize(
    ("precision", "changes", "fault"),
    [
        (Precision.W8A16, {}, "has no w8a16; choose from fp32, fp16, w8, w8a8"),
        (Precision.PALETTE6, {}, "has no palette6; choose from fp32, fp16, w8, w8a8"),
        (Precision.W8A8, {"deployment_target": "iOS16"}, "needs a minimum deployment target of iOS17"),
        (Precision.FP16, {"deployment_target": "Symbian"}, "not 'Symbian'"),
        (Precision.FP16, {"layout": Layout.NHWC}, "use --layout nchw"),
    ],
)
def test_what_cannot_be_had_is_refused_with_the_reason(
    world: "World", precision: Precision, changes: dict[str, Any], fault: str
) -> None:
    request = replace(world.request(precision, "refused.pte"), **changes)
    with pytest.raises(BadInputError, match=fault):
        executorch_coreml.emit(request)
    assert not request.path.exists()


def test_a_training_network_is_refused(world: "World") -> None:
    request = replace(world.request(Precision.FP32, "training.pte"), network=nn.Conv2d(3, 2, 1).train())
    with pytest.raises(ValueError, match="training mode"):
        executorch_coreml.emit(request)


def test_a_plan_of_another_network_is_refused(world: "World") -> None:
    plan = replace(world.plan, ranges={"x": TensorRange(low=0.0, high=1.0)})
    with pytest.raises(BadInputError, match="no range for"):
        executorch_coreml.emit(replace(world.request(Precision.W8A8, "stranger.pte"), plan=plan))


@pytest.mark.parametrize(
    ("network", "fault"),
    [(Asinh, r"refused fp32: .*asinh"), (SumOnly, "no layer has weights")],
)
def test_what_is_refused_is_a_conversion_error_of_one_line_and_leaves_nothing(
    world: "World", network: Callable[[], nn.Module], fault: str
) -> None:
    request = replace(world.request(Precision.FP32, "refused.pte"), network=network().eval())
    with pytest.raises(ConversionError, match=fault) as caught:
        executorch_coreml.emit(request)
    assert "\n" not in str(caught.value)
    assert not request.path.exists()


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16, Precision.W8, Precision.W8A8])
def test_the_program_inside_holds_and_computes_what_the_package_of_that_precision_does(
    world: "World", emitted: Emitted, precision: Precision
) -> None:
    package = coreml.emit(world.request(precision, f"tiny_{precision.file_suffix}.mlpackage"))
    wanted = coreml.open_executor(package.path).heatmaps(world.pictures)
    path = emitted[precision].path
    found = executorch_coreml.open_executor(path).heatmaps(world.pictures)
    assert np.array_equal(found, wanted)
    weights = [c.inspect(p).weight_bytes_by_dtype for c, p in ((coreml, package.path), (executorch_coreml, path))]
    assert weights[0] == weights[1]
