"""Operators that a ``w8a8`` plan keeps in float are float in every format's file, and no others."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from converters import FORMATS
from converters.executorch.plan import check_precision
from converters.executorch.program import read_program
from converters.tflite.emit import require_precision
from converters.tflite.flatbuffer import read_model
from lspdmobile.artifact import Artifact, EmitRequest
from lspdmobile.choices import Format, Precision
from lspdmobile.errors import ConversionError
from quantization.calibrate import calibrate
from quantization.mixed import MixedNetwork
from quantization.plan import QuantizationPlan, TensorRange

SIZE = (64, 64)
Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class World:
    """A fused network, its pictures, its plan with two layers in float, and the simulation of plans.

    The tensor between these two has a range that clips most of it, so that int8 there is easily seen.
    """

    network: nn.Module
    pictures: Array
    plan: QuantizationPlan
    mixed: MixedNetwork
    float_weights: int

    def emit(self, form: Format, folder: Path, *, plan: QuantizationPlan | None = None) -> Artifact:
        """Write a file."""
        converter = FORMATS[form]
        return converter.emit(
            EmitRequest(
                network=self.network,
                plan=plan or self.plan,
                input_size=SIZE,
                layout=converter.supported()[Precision.W8A8],
                metadata={},
                deployment_target="iOS17",
                path=folder / f"x{converter.SUFFIX}",
            )
        )


class Residual(nn.Module):
    """A stem, a convolution, a depthwise residual block and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, stride=2)
        self.down = nn.Conv2d(8, 12, 3, padding=1, stride=2)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.project = nn.Conv2d(12, 12, 1)
        self.head = nn.Conv2d(12, 5, 1)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Map ``[1, 3, H, W]`` to ``[1, 5, H/4, W/4]``."""
        x = torch.relu(self.down(torch.relu(self.stem(pictures))))
        heatmaps: torch.Tensor = self.head(torch.relu(x + self.project(torch.relu(self.depthwise(x)))))
        return heatmaps


@pytest.fixture(scope="module")
def world() -> World:
    torch.manual_seed(0)
    network = Residual().eval()
    pictures = np.random.default_rng(0).normal(size=(4, 3, *SIZE)).astype(np.float32)
    plan = calibrate(network, pictures, precision=Precision.W8A8)
    units = MixedNetwork(network, plan, SIZE).units
    first, second = list(units.values())[:2]
    assert second.inputs == (first.name,)
    clipped = TensorRange(low=0.0, high=plan.ranges[first.name].high / 20)
    plan = replace(plan, ranges={**plan.ranges, first.name: clipped})
    return World(
        network=network,
        pictures=pictures,
        plan=replace(plan, kept_float=frozenset((first.name, second.name))),
        mixed=MixedNetwork(network, plan, SIZE),
        float_weights=first.weights + second.weights,
    )


@pytest.fixture(scope="module")
def artifacts(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[Format, Artifact]:
    """The plan in every format."""
    folder = tmp_path_factory.mktemp("kept")
    return {form: world.emit(form, folder) for form in Format}


@pytest.mark.parametrize("form", list(Format))
def test_they_are_float_in_the_file_and_it_computes_what_the_plan_says(
    form: Format, world: World, artifacts: dict[Format, Artifact]
) -> None:
    artifact = artifacts[form]
    held = FORMATS[form].inspect(artifact.path).weight_bytes_by_dtype
    wide, size = ("float16", 2) if form is Format.COREML else ("float32", 4)
    assert held[wide] >= size * world.float_weights
    found = FORMATS[form].open_executor(artifact.path).heatmaps(world.pictures)
    wanted = np.concatenate([world.mixed.heatmaps(p[None], kept=world.plan.kept_float) for p in world.pictures])
    all_int8 = np.concatenate([world.mixed.heatmaps(p[None]) for p in world.pictures])

    def distance(one: Array, other: Array) -> float:
        return float(np.sqrt(np.square(one - other).mean()))

    assert distance(found, wanted) < 0.2 * distance(found, all_int8)


def test_a_tflite_file_that_is_int8_there_is_refused(world: World, tmp_path: Path) -> None:
    whole = world.emit(Format.TFLITE, tmp_path, plan=replace(world.plan, kept_float=frozenset()))
    model = read_model(whole.path)
    require_precision(model, Precision.W8A8, whole.path)
    graph = model.subgraphs[0]
    name = next(
        graph.tensors[op.outputs[0]].name.decode() for op in graph.operators if len(op.inputs) == 3
    )  # the first convolution
    with pytest.raises(ConversionError, match="1 convolutions are not w8a8"):
        require_precision(model, Precision.W8A8, whole.path, kept_float=[name])


@pytest.mark.parametrize("told", [0, 1, 3])  # of two
def test_a_pte_with_other_float_layers_than_planned_is_refused(told: int, artifacts: dict[Format, Artifact]) -> None:
    path = artifacts[Format.EXECUTORCH].path
    check_precision(path, read_program(path), Precision.W8A8, float_layers=2)
    with pytest.raises(ConversionError, match="w8a8 was asked for"):
        check_precision(path, read_program(path), Precision.W8A8, float_layers=told)


def test_a_plan_that_leaves_nothing_integer_is_refused(world: World, tmp_path: Path) -> None:
    plan = replace(world.plan, kept_float=frozenset(world.mixed.units))
    for form in (Format.COREML, Format.EXECUTORCH):
        with pytest.raises(ConversionError):
            world.emit(form, tmp_path, plan=plan)
    assert list(tmp_path.iterdir()) == []
