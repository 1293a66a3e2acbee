import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from converters import tflite
from converters.tflite.rules import XNNPACK
from lspdmobile.artifact import Artifact, TensorFacts
from lspdmobile.choices import Precision
from lspdmobile.errors import BadInputError
from lspdmobile.fusion.cost import macs_of

SIZE = (64, 64)

if TYPE_CHECKING:
    from tests.converters.tflite.conftest import World

PEERS = Path(__file__).parents[4] / "shared" / "data" / "peers"
needs_peers = pytest.mark.skipif(not PEERS.is_dir(), reason="networks from outside (shared/data/peers) are not here")


@pytest.mark.parametrize("precision", list(tflite.supported()))
def test_borders_are_named_float32_and_nhwc(emitted: dict[Precision, Artifact], precision: Precision) -> None:
    facts = tflite.inspect(emitted[precision].path)
    assert facts.inputs == (TensorFacts(name="input", shape=(1, 64, 64, 3), dtype="float32", description="a person"),)
    assert facts.outputs == (
        TensorFacts(name="heatmaps", shape=(1, 8, 8, 5), dtype="float32", description="five heatmaps"),
    )


def test_nchw_shapes_are_told_as_they_are(nchw: Artifact) -> None:
    facts = tflite.inspect(nchw.path)
    assert facts.inputs[0].shape == (1, 3, 64, 64)
    assert facts.outputs[0].shape == (1, 5, 8, 8)


def test_operators_are_counted_by_name(emitted: dict[Precision, Artifact]) -> None:
    assert dict(tflite.inspect(emitted[Precision.FP32].path).ops) == {
        "CONV_2D": 18,
        "DEPTHWISE_CONV_2D": 1,
        "ADD": 5,
        "PAD": 4,  # PyTorch pads strided convolutions on both sides, TFLite's SAME does not
        "RESIZE_BILINEAR": 1,
    }


def test_weight_bytes_follow_from_the_parameters(world: "World", emitted: dict[Precision, Artifact]) -> None:
    weights = sum(p.numel() for p in world.network.parameters() if p.ndim == 4)
    biases = sum(p.numel() for p in world.network.parameters() if p.ndim == 1)
    bytes_of = {p: tflite.inspect(a.path).weight_bytes_by_dtype for p, a in emitted.items()}
    assert bytes_of[Precision.FP32]["float32"] == 4 * (weights + biases)
    assert bytes_of[Precision.FP16]["float16"] == 2 * weights
    assert bytes_of[Precision.FP16]["float32"] == 4 * biases
    assert bytes_of[Precision.W8]["int8"] == weights
    depthwise = sum(p.numel() for p in world.network.parameters() if p.ndim == 4 and p.shape[1] == 1)
    assert bytes_of[Precision.W4]["int4"] == (weights - depthwise) // 2
    assert bytes_of[Precision.W4]["int8"] == depthwise
    assert bytes_of[Precision.W4]["float32"] == 4 * biases
    assert bytes_of[Precision.W8A16]["int64"] == 8 * biases


def test_bytes_by_operator_are_each_convolutions_own(world: "World", emitted: dict[Precision, Artifact]) -> None:
    facts = {precision: tflite.inspect(artifact.path) for precision, artifact in emitted.items()}
    for found in facts.values():
        total = sum((Counter(held) for held in found.weight_bytes_by_layer.values()), Counter[str]())
        assert total == Counter(found.weight_bytes_by_dtype)
    layers = [module for module in world.network.modules() if isinstance(module, nn.Conv2d)]
    for precision, wanted in (
        (Precision.FP32, [4 * sum(p.numel() for p in layer.parameters()) for layer in layers]),
        (Precision.FP16, [2 * layer.weight.numel() + 4 * layer.out_channels for layer in layers]),
    ):
        of = facts[precision].weight_bytes_by_layer
        assert sorted(sum(held.values()) for name, held in of.items() if "CONV_2D" in name) == sorted(wanted)


def test_metadata_is_read_back_whole(world: "World", emitted: dict[Precision, Artifact]) -> None:
    for artifact in emitted.values():
        found = tflite.inspect(artifact.path).metadata
        assert {key: found[key] for key in world.metadata} == world.metadata
        assert found["associated_files"] == "joints.txt, lspdmobile.json"
        assert json.loads(found["TFLITE_METADATA"])["name"] == "tiny"


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16, Precision.W8, Precision.W8A8])
def test_xnnpack_takes_every_operator(emitted: dict[Precision, Artifact], precision: Precision) -> None:
    facts = tflite.inspect(emitted[precision].path)
    assert facts.delegation is not None
    assert facts.delegation.delegated == facts.delegation.total == sum(facts.ops.values())
    assert facts.delegation.not_delegated == ()


def test_xnnpack_takes_nothing_of_an_int16_file(emitted: dict[Precision, Artifact]) -> None:
    delegation = tflite.inspect(emitted[Precision.W8A16].path).delegation
    assert delegation is not None
    assert delegation.delegated == 0
    assert "CONV_2D x18" in delegation.not_delegated


def test_operators_left_behind_are_named(half_elu: tuple[nn.Module, Artifact]) -> None:
    facts = tflite.inspect(half_elu[1].path)
    assert facts.delegation is not None
    assert set(facts.delegation.not_delegated) == {"GREATER_EQUAL x1", "SELECT x1"}
    assert facts.delegation.delegated == sum(facts.ops.values()) - 2 > 0


def test_delegation_is_unknown_where_the_runtime_cannot_load_the_file(with_custom_operator: Path) -> None:
    facts = tflite.inspect(with_custom_operator)
    assert facts.ops["CUSTOM:NobodyKnows"] == 5
    assert facts.delegation is None


def test_a_truncated_file_is_refused_wherever_it_ends(emitted: dict[Precision, Artifact], tmp_path: Path) -> None:
    content = emitted[Precision.W8A8].path.read_bytes()
    path, whole = tmp_path / "cut.tflite", content[: content.index(b"PK\x03\x04")]
    for length in [0, 3, 7, 8, 40, *range(1000, len(whole), len(whole) // 25), len(whole) - 8]:
        path.write_bytes(whole[:length])
        with pytest.raises(BadInputError, match=r"cut\.tflite"):
            tflite.inspect(path)
    path.write_bytes(content[:-8])
    assert tflite.inspect(path).metadata["associated_files"] == "joints.txt (missing), lspdmobile.json (missing)"


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 a zip, perhaps", b"\x00" * 64, b"\x1c\x00\x00\x00TFL3" + b"\xff" * 64]
)
def test_files_of_another_kind_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.tflite"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=r"other\.tflite"):
        tflite.inspect(path)


def test_absent_files_and_folders_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.tflite", tmp_path):
        with pytest.raises(BadInputError, match="cannot be read"):
            tflite.inspect(path)


def test_an_operand_outside_the_file_is_refused(emitted: dict[Precision, Artifact], tmp_path: Path) -> None:
    from converters.tflite.flatbuffer import main_graph, read_model, to_bytes

    model = read_model(emitted[Precision.FP32].path)
    main_graph(model).operators[3].inputs[0] = 9999
    path = tmp_path / "planted.tflite"
    path.write_bytes(to_bytes(model))
    with pytest.raises(BadInputError, match="index 9999"):
        tflite.inspect(path)


def test_multiply_accumulates_are_those_of_the_network(world: "World", emitted: dict[Precision, Artifact]) -> None:
    macs = macs_of(world.network, SIZE)
    for artifact in emitted.values():
        facts = tflite.inspect(artifact.path)
        assert sum(operator.macs for operator in facts.operators) == macs
        assert facts.layout == "nhwc"


def test_every_grid_of_an_integer_file_is_read(world: "World", emitted: dict[Precision, Artifact]) -> None:
    layers = [module for module in world.network.modules() if isinstance(module, nn.Conv2d)]
    grids = tflite.inspect(emitted[Precision.W8A8].path).grids
    kernels = [grid for grid in grids if grid.constant and grid.dtype == "int8"]
    assert sorted(len(grid.scales) for grid in kernels) == sorted(layer.out_channels for layer in layers)
    assert all(set(grid.zero_points) == {0} for grid in kernels)
    assert {grid.axis for grid in kernels} == {0, 3}  # of depthwise kernels the channels come last
    assert all(grid.axis is None and len(grid.scales) == 1 for grid in grids if not grid.constant)
    assert tflite.inspect(emitted[Precision.FP16].path).grids == ()


def test_our_integer_file_computes_nothing_in_float(emitted: dict[Precision, Artifact]) -> None:
    left = tflite.inspect(emitted[Precision.W8A8].path).leftovers
    assert left is not None
    assert (left.operators, left.conversions, left.float_weight_bytes) == ((), 2, 0)
    assert tflite.inspect(emitted[Precision.W8].path).leftovers is None


def test_a_constant_stored_twice_is_found(emitted: dict[Precision, Artifact], tmp_path: Path) -> None:
    from converters.tflite.flatbuffer import main_graph, read_model, to_bytes

    assert tflite.inspect(emitted[Precision.FP32].path).duplicates == ()
    model = read_model(emitted[Precision.FP32].path)
    first, second = (o for o in main_graph(model).operators[-3:] if len(o.inputs) == 3)  # the last two convolutions
    tensors = main_graph(model).tensors
    content = model.buffers[tensors[first.inputs[2]].buffer].data
    model.buffers[tensors[second.inputs[2]].buffer].data = content
    tensors[second.inputs[2]].shape = tensors[first.inputs[2]].shape
    path = tmp_path / "twice.tflite"
    path.write_bytes(to_bytes(model))
    (found,) = tflite.inspect(path).duplicates
    assert found.wasted_bytes == len(content)


def test_each_operator_left_behind_has_its_reason(half_elu: tuple[nn.Module, Artifact]) -> None:
    facts = tflite.inspect(half_elu[1].path)
    assert facts.delegation is not None
    assert {(each.kind, each.rule) for each in facts.delegation.left} == {
        ("GREATER_EQUAL", "no such operator"),
        ("SELECT", "no such operator"),
    }
    assert facts.delegation.macs_fraction == 1.0


@pytest.mark.parametrize("precision", list(tflite.supported()))
def test_rules_foretell_the_partition_operator_by_operator(
    emitted: dict[Precision, Artifact], precision: Precision
) -> None:
    assert_rules_hold(emitted[precision].path)


def assert_rules_hold(path: Path) -> None:
    """Apply XNNPACK's rules to each operator of a file and compare with what the interpreter did."""
    facts = tflite.inspect(path)
    assert facts.delegation is not None
    left = {each.operator for each in facts.delegation.left}
    told = {each.name for each in facts.operators if any(rule.applies(each) for rule in XNNPACK)}
    assert told == left


def test_the_network_foretells_the_file(
    world: "World", emitted: dict[Precision, Artifact], half_elu: tuple[nn.Module, Artifact]
) -> None:
    for precision in (Precision.FP32, Precision.W8A8, Precision.W4):
        found = tflite.inspect(emitted[precision].path).delegation
        assert found is not None
        assert set(tflite.foretell(world.network, SIZE, precision).not_delegated) == set(found.not_delegated)
    pieces = tflite.inspect(half_elu[1].path).delegation
    assert pieces is not None
    assert set(tflite.foretell(half_elu[0], SIZE, Precision.FP32).not_delegated) == set(pieces.not_delegated)
    assert tflite.foretell(world.network, SIZE, Precision.W8A16).delegated == 0


def test_the_gpu_is_foretold_by_litert_s_own_check_and_by_types(emitted: dict[Precision, Artifact]) -> None:
    for precision, artifact in emitted.items():
        (found,) = tflite.inspect(artifact.path).forecasts
        assert (found.target, found.basis) == ("litert-gpu", "rules")
        if precision is Precision.W8A16:
            assert {each.rule for each in found.left} == {"types"}
        else:
            assert found.left == ()


class Plain(nn.Module):
    """Converted as it is: a normalisation in the network, a position and padding that repeats."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[1, 3, H, W]`` to the positions of the largest channel, ``[1, H, W]``."""
        places: torch.Tensor = self.conv(x / 255).argmax(dim=1)
        return places


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that litert-torch's own function wrote."""
    import litert_torch

    path = tmp_path_factory.mktemp("plain") / "plain.tflite"
    litert_torch.convert(Plain().eval(), (torch.zeros(1, 3, 16, 12),)).export(str(path))
    return path


def test_a_file_of_the_plain_library_is_read_whole(plain: Path) -> None:
    facts = tflite.inspect(plain)
    assert facts.layout == "nchw"
    assert sum(each.macs for each in facts.operators) == 16 * 12 * 4 * 3 * 9
    assert facts.leftovers is None
    assert facts.delegation is not None
    assert {each.kind for each in facts.delegation.left} >= {"ARG_MAX", "MIRROR_PAD"}
    assert_rules_hold(plain)
    (gpu,) = facts.forecasts
    refused = {each.kind: each.rule for each in gpu.left}
    assert refused["ARG_MAX"] in ("types", "LiteRT's own check")


@needs_peers
def test_networks_from_outside_are_read() -> None:
    facts = tflite.inspect(PEERS / "EfficientPoseRT_LITE.tflite")
    assert facts.inputs == (TensorFacts(name="input_1_0", shape=(1, 224, 224, 3), dtype="float32"),)
    assert facts.outputs[0].shape == (1, 224, 224, 16)
    assert facts.weight_bytes_by_dtype["float16"] > 700_000
    assert facts.ops["DEPTHWISE_CONV_2D"] == 14
    assert facts.metadata["min_runtime_version"] == "1.9.0"
    assert facts.delegation is not None
    assert facts.delegation.total == sum(facts.ops.values())


@needs_peers
def test_a_network_from_outside_runs_if_it_has_one_output() -> None:
    import numpy as np

    executor = tflite.open_executor(PEERS / "EfficientPoseRT_LITE.tflite")
    assert executor.heatmaps(np.zeros((1, 3, 224, 224), np.float32)).shape == (1, 16, 224, 224)
    with pytest.raises(BadInputError, match="has 4 outputs"):
        tflite.open_executor(PEERS / "EfficientPoseI.tflite")
