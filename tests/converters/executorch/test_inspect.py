import random
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from converters import executorch
from converters.executorch.program import XNNPACK
from converters.traced import base_name
from lspdmobile.artifact import Artifact, ArtifactFacts
from lspdmobile.choices import Precision
from lspdmobile.errors import BadInputError
from lspdmobile.fusion.cost import macs_of

SIZE = (64, 64)

if TYPE_CHECKING:
    from tests.converters.executorch.conftest import World


class Two(nn.Module):
    """Two outputs from an input of any shape."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give the input squared and its sum."""
        return x * x, x.sum()


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of somebody else: no delegate, two outputs, constant methods of its own."""
    from executorch.exir import EdgeCompileConfig, to_edge

    exported = torch.export.export(Two(), (torch.zeros(1, 3, 4, 5),))
    methods = {"get_eos_id": 7, "get_author": "somebody"}
    edge = to_edge(exported, constant_methods=methods, compile_config=EdgeCompileConfig(_skip_dim_order=True))
    path = tmp_path_factory.mktemp("foreign") / "foreign.pte"
    path.write_bytes(edge.to_executorch().buffer)
    return path


def damaged(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "damaged.pte"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.W8A8])
def test_borders_and_metadata_are_those_of_the_request(
    world: "World", emitted: dict[Precision, Artifact], precision: Precision
) -> None:
    facts = executorch.inspect(emitted[precision].path)
    (source,), (result,) = facts.inputs, facts.outputs
    assert (source.shape, source.dtype) == ((1, *world.pictures.shape[1:]), "float32")
    assert (result.shape, result.dtype) == ((1, *world.heatmaps.shape[1:]), "float32")
    assert facts.metadata == world.metadata


def test_float_weights_are_every_parameter(world: "World", emitted: dict[Precision, Artifact]) -> None:
    count = sum(p.numel() for p in world.network.parameters())
    assert executorch.inspect(emitted[Precision.FP32].path).weight_bytes_by_dtype == {"float32": 4 * count}


def test_integer_weights_are_int8_with_int32_biases_and_a_scale_for_each_channel_of_both(
    world: "World", emitted: dict[Precision, Artifact]
) -> None:
    kernels = sum(p.numel() for p in world.network.parameters() if p.ndim == 4)
    biases = sum(p.numel() for p in world.network.parameters() if p.ndim == 1)
    wanted = {"int8": kernels, "int32": 4 * biases, "float32": 2 * 4 * biases}
    assert executorch.inspect(emitted[Precision.W8A8].path).weight_bytes_by_dtype == wanted


def test_bytes_by_operator_are_each_convolutions_own(world: "World", emitted: dict[Precision, Artifact]) -> None:
    facts = {precision: executorch.inspect(artifact.path) for precision, artifact in emitted.items()}
    for found in facts.values():
        total = sum((Counter(held) for held in found.weight_bytes_by_layer.values()), Counter[str]())
        assert total == Counter(found.weight_bytes_by_dtype)
    layers = [module for module in world.network.modules() if isinstance(module, nn.Conv2d)]
    sizes = [sum(held.values()) for held in facts[Precision.FP32].weight_bytes_by_layer.values()]
    assert sorted(sizes) == sorted(4 * sum(p.numel() for p in layer.parameters()) for layer in layers)
    kernels = facts[Precision.W8A8].weight_bytes_by_layer.values()
    assert sorted(held["int8"] for held in kernels) == sorted(layer.weight.numel() for layer in layers)


def test_every_convolution_is_counted_once(world: "World", emitted: dict[Precision, Artifact]) -> None:
    layers = [module for module in world.network.modules() if isinstance(module, nn.Conv2d)]
    depthwise = sum(layer.groups > 1 for layer in layers)
    for artifact in emitted.values():
        facts = executorch.inspect(artifact.path)
        assert facts.ops["xnnpack::Conv2d"] == len(layers) - depthwise
        assert facts.ops["xnnpack::DepthwiseConv2d"] == depthwise
        assert facts.ops["xnnpack::StaticResizeBilinear2D"] == 1


def test_integer_files_convert_at_the_borders_and_around_the_float_resize(emitted: dict[Precision, Artifact]) -> None:
    assert executorch.inspect(emitted[Precision.W8A8].path).ops["xnnpack::Convert"] == 4


def test_a_student_is_delegated_whole(emitted: dict[Precision, Artifact]) -> None:
    for artifact in emitted.values():
        facts = executorch.inspect(artifact.path)
        assert facts.delegation is not None
        assert (facts.delegation.delegate, facts.delegation.not_delegated) == ("XNNPACK", ())
        assert facts.delegation.delegated == facts.delegation.total == Counter(facts.ops).total()


def test_what_is_left_out_of_the_delegate_is_counted(partly: tuple[nn.Module, Artifact]) -> None:
    facts = executorch.inspect(partly[1].path)
    assert facts.delegation is not None
    assert facts.delegation.not_delegated == ("aten::cumsum.out x1",)
    assert facts.delegation.total == facts.delegation.delegated + 1
    assert facts.ops["xnnpack::Conv2d"] == 2


def test_multiply_accumulates_are_those_of_the_network(world: "World", emitted: dict[Precision, Artifact]) -> None:
    macs = macs_of(world.network, SIZE)
    for artifact in emitted.values():
        facts = executorch.inspect(artifact.path)
        assert sum(operator.macs for operator in facts.operators) == macs
        assert facts.layout == "nchw"
        assert facts.duplicates == ()


def test_every_grid_of_an_integer_file_is_read(world: "World", emitted: dict[Precision, Artifact]) -> None:
    layers = [module for module in world.network.modules() if isinstance(module, nn.Conv2d)]
    grids = executorch.inspect(emitted[Precision.W8A8].path).grids
    kernels = [grid for grid in grids if grid.constant and grid.dtype == "int8"]
    assert sorted(len(grid.scales) for grid in kernels) == sorted(layer.out_channels for layer in layers)
    assert min(scale for grid in kernels for scale in grid.scales) > 0
    assert all(grid.axis is None and len(grid.scales) == 1 for grid in grids if not grid.constant)
    assert executorch.inspect(emitted[Precision.FP32].path).grids == ()


def test_the_float_resize_between_integers_is_a_leftover(emitted: dict[Precision, Artifact]) -> None:
    left = executorch.inspect(emitted[Precision.W8A8].path).leftovers
    assert left is not None
    assert [(each.kind, each.between) for each in left.operators] == [("xnnpack::StaticResizeBilinear2D", True)]
    assert (left.conversions, left.float_weight_bytes) == (4, 0)
    assert executorch.inspect(emitted[Precision.FP32].path).leftovers is None


def test_each_operator_left_behind_has_its_reason(partly: tuple[nn.Module, Artifact]) -> None:
    delegation = executorch.inspect(partly[1].path).delegation
    assert delegation is not None
    (left,) = delegation.left
    assert (left.kind, left.rule) == ("aten::cumsum.out", "no such operator")
    assert delegation.target == "executorch-xnnpack"


def test_the_network_foretells_the_file(
    world: "World", emitted: dict[Precision, Artifact], partly: tuple[nn.Module, Artifact]
) -> None:
    for precision, artifact in emitted.items():
        found = executorch.inspect(artifact.path).delegation
        assert found is not None
        assert executorch.foretell(world.network, SIZE, precision).not_delegated == found.not_delegated
    left = executorch.foretell(partly[0], SIZE, Precision.FP32).left
    assert [base_name(each.kind) for each in left] == ["cumsum"]


def test_this_runtime_keeps_no_profile(emitted: dict[Precision, Artifact], tmp_path: Path) -> None:
    """What docs/delegation.md says of ETDump; where this fails, the profile can confirm the partition."""
    from executorch.extension.pybindings.portable_lib import _load_for_executorch

    module = _load_for_executorch(str(emitted[Precision.FP32].path), enable_etdump=True)
    module.run_method("forward", (torch.zeros(1, 3, 64, 64),))
    profile = tmp_path / "profile.etdp"
    module.write_etdump_result_to_file(str(profile))
    assert not profile.exists()


def test_a_file_of_somebody_else_is_read(foreign: Path) -> None:
    facts = executorch.inspect(foreign)
    assert [tensor.shape for tensor in facts.inputs] == [(1, 3, 4, 5)]
    assert [tensor.shape for tensor in facts.outputs] == [(1, 3, 4, 5), ()]
    assert set(facts.ops) == {"aten::mul.out", "aten::sum.IntList_out"}
    assert facts.delegation is not None
    assert (facts.delegation.delegate, facts.delegation.fraction) == ("none", 0)
    assert facts.metadata == {"get_eos_id": "7", "get_author": "somebody"}
    assert [each.kind for each in facts.delegation.left] == ["aten::mul.out", "aten::sum.IntList_out"]
    assert {each.why for each in facts.delegation.left} == {"the program was lowered to no delegate"}


def test_a_file_of_somebody_else_with_two_outputs_is_not_run(foreign: Path) -> None:
    with pytest.raises(BadInputError, match="2 outputs"):
        executorch.open_executor(foreign)


@pytest.mark.parametrize("content", [b"", b"ET12", b"\0" * 4 + b"TFL3" + b"\0" * 64, b"PK\3\4 a zip archive"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(BadInputError, match="no ExecuTorch program"):
        executorch.inspect(damaged(tmp_path, content))


def test_a_file_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="cannot be read"):
        executorch.inspect(tmp_path / "nowhere.pte")
    with pytest.raises(BadInputError, match="cannot be read"):
        executorch.inspect(tmp_path)


def test_every_truncation_is_refused(emitted: dict[Precision, Artifact], tmp_path: Path) -> None:
    content = emitted[Precision.W8A8].path.read_bytes()
    for share in (0.001, 0.01, 0.1, 0.5, 0.9, 0.99):
        path = damaged(tmp_path, content[: int(share * len(content))])
        with pytest.raises(BadInputError):
            executorch.inspect(path)
        with pytest.raises(BadInputError):
            executorch.open_executor(path)


def test_a_damaged_xnnpack_part_is_named(emitted: dict[Precision, Artifact], tmp_path: Path) -> None:
    content = bytearray(emitted[Precision.W8A8].path.read_bytes())
    start = content.index(b"XH00") - 4
    content[start + 32 : start + 36] = b"\xff\xff\xff\x7f"  # where the graph's root table should be
    with pytest.raises(BadInputError, match="XNNPACK part is damaged"):
        executorch.inspect(damaged(tmp_path, bytes(content)))


def test_flipped_bytes_are_read_or_refused_but_never_crash(emitted: dict[Precision, Artifact], tmp_path: Path) -> None:
    original = emitted[Precision.W8A8].path.read_bytes()
    generator = random.Random(0)
    refused = 0
    for _ in range(60):
        content = bytearray(original)
        for _ in range(8):
            content[generator.randrange(8, 4000)] = generator.randrange(256)
        try:
            facts = executorch.inspect(damaged(tmp_path, bytes(content)))
        except BadInputError:
            refused += 1
        else:
            assert isinstance(facts, ArtifactFacts)
    assert refused > 10


def test_the_delegate_is_called_by_the_name_the_runtime_knows() -> None:
    from executorch.runtime import Runtime

    assert Runtime.get().backend_registry.is_available(XNNPACK)
