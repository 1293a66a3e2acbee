from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from torch import nn

from converters import FORMATS
from lspdmobile.artifact import Artifact
from lspdmobile.choices import Format, Precision
from lspdmobile.errors import BadInputError

if TYPE_CHECKING:
    from tests.converters.executorch_coreml.conftest import Files, Refile, Repack, World

Emitted = Mapping[Precision, Artifact]
Lower = Callable[..., Path]

inspect = FORMATS[Format.EXECUTORCH].inspect


def test_borders_and_metadata_are_those_of_the_request(world: "World", emitted: Emitted) -> None:
    for precision, artifact in emitted.items():
        facts = inspect(artifact.path)
        (source,), (result,) = facts.inputs, facts.outputs
        assert (source.shape, source.dtype) == ((1, *world.pictures.shape[1:]), "float32")
        assert (result.shape, result.dtype) == ((1, *world.heatmaps.shape[1:]), "float32")
        assert facts.metadata == world.request(precision, "any.pte").metadata


def test_float_weights_are_every_parameter(world: "World", emitted: Emitted) -> None:
    count = sum(p.numel() for p in world.network.parameters())
    weights = {p: inspect(emitted[p].path).weight_bytes_by_dtype for p in (Precision.FP32, Precision.FP16)}
    assert weights == {Precision.FP32: {"float32": 4 * count}, Precision.FP16: {"float16": 2 * count}}


@pytest.mark.parametrize("precision", [Precision.W8, Precision.W8A8])
def test_integer_weights_are_every_kernel(world: "World", emitted: Emitted, precision: Precision) -> None:
    kernels = sum(p.numel() for p in world.network.parameters() if p.ndim == 4)
    channels = sum(p.numel() for p in world.network.parameters() if p.ndim == 1)
    weights = inspect(emitted[precision].path).weight_bytes_by_dtype
    # One zero point for each channel lies beside the kernels under w8a8; a scale and a bias for each are float16.
    assert kernels <= weights["int8"] <= kernels + channels
    assert weights["float16"] == 2 * 2 * channels


def test_bytes_by_operation_add_up_to_those_by_dtype(emitted: Emitted) -> None:
    for artifact in emitted.values():
        facts = inspect(artifact.path)
        total = sum((Counter(held) for held in facts.weight_bytes_by_layer.values()), Counter[str]())
        assert total == Counter(facts.weight_bytes_by_dtype)
        assert all(name.startswith("coreml 0: conv ") for name in facts.weight_bytes_by_layer)


def test_every_operation_is_in_the_delegate_and_named(world: "World", emitted: Emitted) -> None:
    layers = sum(isinstance(module, nn.Conv2d) for module in world.network.modules())
    for artifact in emitted.values():
        facts = inspect(artifact.path)
        assert facts.ops["coreml::conv"] == layers
        assert all(name.startswith("coreml::") for name in facts.ops)
        assert facts.delegation is not None
        assert (facts.delegation.delegate, facts.delegation.not_delegated) == ("CoreMLBackend", ())
        assert facts.delegation.delegated == facts.delegation.total == Counter(facts.ops).total()


def test_what_is_left_out_of_the_delegate_is_counted(lower: Lower, block: nn.Module) -> None:
    facts = inspect(lower(block, skip_ops_for_coreml_delegation=["aten.relu.default"]))
    assert facts.ops["coreml::conv"] == 2
    assert facts.delegation is not None
    assert facts.delegation.not_delegated == ("aten::relu.out x1",)
    assert facts.delegation.total == facts.delegation.delegated + 1 == Counter(facts.ops).total()


def test_a_compiled_model_is_one_closed_operation(emitted: Emitted, refile: "Refile") -> None:
    def compile_it(files: "Files") -> "Files":
        return {"metadata.json": files["metadata.json"], "model.mlmodelc/model.mil": b"program(1.0) {}"}

    facts = inspect(refile(emitted[Precision.FP16].path, compile_it))
    assert facts.ops == {"delegate::CoreMLBackend (compiled model)": 1}
    assert facts.weight_bytes_by_dtype == {}
    assert facts.delegation is not None
    assert (facts.delegation.delegated, facts.delegation.total) == (1, 1)


def test_a_damaged_core_ml_part_is_named(emitted: Emitted, repack: "Repack") -> None:
    path = repack(emitted[Precision.W8A8].path, lambda blob: blob[: len(blob) // 2])
    with pytest.raises(BadInputError, match="Core ML part is damaged or cut short"):
        inspect(path)
