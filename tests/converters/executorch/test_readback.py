"""A grid that is off is named, and operators that stay in float are listed."""

import struct
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from torch import nn

from converters import executorch
from converters.executorch.plan import check_grids
from converters.executorch.program import XnnGraph, read_program, xnnpack_graphs
from lspdmobile.artifact import Artifact
from lspdmobile.choices import Precision
from lspdmobile.errors import ConversionError
from quantization.calibrate import calibrate
from quantization.graph import activation_grids, quantized_module

if TYPE_CHECKING:
    from pathlib import Path

    from quantization.affine import AffineGrid
    from tests.converters.executorch.conftest import World


@pytest.fixture(scope="module")
def grids(world: "World") -> "dict[str, AffineGrid]":
    return activation_grids(quantized_module(world.network, world.plan, (64, 64)))


def graphs_of(path: "Path") -> tuple[XnnGraph, ...]:
    return tuple(xnnpack_graphs(read_program(path), path))


def test_a_doubled_scale_in_the_file_is_named(
    world: "World", emitted: dict[Precision, Artifact], grids: "dict[str, AffineGrid]"
) -> None:
    path = emitted[Precision.W8A8].path
    check_grids(path, graphs_of(path), grids)
    graph = graphs_of(path)[0]
    scales = [node.output.scale for node in graph.nodes if node.kind == "Add" and node.output is not None]
    scale = next(each for each in scales if each is not None)
    content, old = path.read_bytes(), struct.pack("<f", scale)
    assert content.count(old) == 1
    planted = world.folder / "planted.pte"
    planted.write_bytes(content.replace(old, struct.pack("<f", 2 * scale)))
    (name,) = (n for n, grid in grids.items() if grid.scale == pytest.approx(scale, rel=1e-6))
    with pytest.raises(ConversionError, match=rf"1 of \d+ are not in the file \({name}\), 1 in it are not the plan's"):
        check_grids(planted, graphs_of(planted), grids)


def test_resizing_in_float_is_listed_by_the_tensor_it_makes(emitted: dict[Precision, Artifact]) -> None:
    listed = emitted[Precision.W8A8].not_honoured
    assert listed
    assert {each.reason for each in listed} == {"the XNNPACK quantizer leaves StaticResizeBilinear2D in float"}
    assert all(each.layer.startswith("upsample_bilinear2d") for each in listed)
    assert emitted[Precision.FP32].not_honoured == ()


def test_an_elu_is_integer_and_not_listed(world: "World") -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ELU(), nn.Conv2d(4, 5, 1)).eval()
    plan = calibrate(network, world.pictures, precision=Precision.W8A8)
    request = replace(world.request(Precision.W8A8, "elu.pte", network=network), plan=plan)
    artifact = executorch.emit(request)
    (elu,) = (node for node in graphs_of(artifact.path)[0].nodes if node.kind == "ELU")
    assert elu.output is not None
    assert (elu.output.dtype, artifact.not_honoured) == ("int8", ())


def test_what_xnnpack_does_not_take_is_listed(partly: tuple[nn.Module, Artifact]) -> None:
    listed = partly[1].not_honoured
    assert [(each.layer, each.wanted) for each in listed] == [("aten::cumsum.out x1", "XNNPACK")]
