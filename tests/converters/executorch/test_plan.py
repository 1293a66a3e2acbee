"""The read-back, on real files judged by what they do not hold."""

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from torch import nn

from converters.executorch.plan import activation_grids, check_grids, check_precision
from converters.executorch.program import read_program
from lspdmobile.artifact import Artifact
from lspdmobile.choices import Precision
from lspdmobile.errors import ConversionError
from quantization.affine import activation_grid

if TYPE_CHECKING:
    from tests.converters.executorch.conftest import World


def wanted_grids(world: "World") -> dict[str, object]:
    return {name: activation_grid(each) for name, each in world.plan.ranges.items()}


def test_a_float_file_does_not_pass_as_integers(emitted: dict[Precision, Artifact]) -> None:
    path = emitted[Precision.FP32].path
    with pytest.raises(ConversionError, match="w8a8 was asked for, but the file computes float32 x float32 to float32"):
        check_precision(path, read_program(path), Precision.W8A8)


def test_an_integer_file_does_not_pass_as_float(emitted: dict[Precision, Artifact]) -> None:
    path = emitted[Precision.W8A8].path
    with pytest.raises(ConversionError, match="fp32 was asked for, but the file computes int8 x int8 to int8"):
        check_precision(path, read_program(path), Precision.FP32)


def test_every_grid_in_the_file_is_one_of_the_plan(world: "World", emitted: dict[Precision, Artifact]) -> None:
    path = emitted[Precision.W8A8].path
    graphs = check_precision(path, read_program(path), Precision.W8A8)
    plan = [activation_grid(each) for each in world.plan.ranges.values()]
    for scale, zero_point in activation_grids(graphs):
        assert any(scale == pytest.approx(g.scale, rel=1e-6) and zero_point == g.zero_point for g in plan)


def test_a_grid_that_did_not_arrive_is_found(world: "World", emitted: dict[Precision, Artifact]) -> None:
    path = emitted[Precision.W8A8].path
    graphs = check_precision(path, read_program(path), Precision.W8A8)
    written = {
        f"{scale} {zero_point}": replace(activation_grid(world.plan.ranges["relu"]), scale=scale, zero_point=zero_point)
        for scale, zero_point in activation_grids(graphs)
    }
    check_grids(path, graphs, written)
    name, grid = next(iter(written.items()))
    for planted in (replace(grid, scale=grid.scale * 1.01), replace(grid, zero_point=grid.zero_point + 1)):
        with pytest.raises(ConversionError, match=r"1 of \d+ are not in the file .*, 1 in it are not the plan's"):
            check_grids(path, graphs, {**written, name: planted})


def test_a_file_without_integer_layers_does_not_pass(partly: tuple[nn.Module, Artifact]) -> None:
    path = partly[1].path
    program = read_program(path)
    program.execution_plan[0].delegates.clear()
    with pytest.raises(ConversionError, match="no layer with weights"):
        check_precision(path, program, Precision.W8A8)
