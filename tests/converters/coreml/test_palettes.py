"""Palettes as emitted, and everything that passes for one without being it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.mutations.package import Package
from converters import coreml
from converters.coreml import deviation
from converters.coreml.compressing import compressed
from converters.coreml.mil.package import read_program
from converters.coreml.palettes import palette_of
from converters.coreml.plan import check_precision, weight_dtypes
from lspdmobile.artifact import EmitRequest
from lspdmobile.choices import Precision
from lspdmobile.deviation import Deviation
from lspdmobile.errors import ConversionError
from quantization.plan import QuantizationPlan

RequestFor = Callable[..., EmitRequest]
Copied = Callable[[Precision], Path]
PALETTES = (Precision.PALETTE6, Precision.PALETTE4)
LAYERS = 6


class Wide(nn.Module):
    """Layers whose output channels are 32, two groups of 16 of very different weights, and 5, which is none."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 32, 3, padding=1)
        self.second = nn.Conv2d(32, 5, 1)
        with torch.no_grad():
            self.first.weight[16:].mul_(10)
            self.second.weight[:, 16:].mul_(0.1)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Map ``[1, 3, H, W]`` to ``[1, 5, H, W]``."""
        heatmaps: torch.Tensor = self.second(torch.relu(self.first(pictures)))
        return heatmaps


def compared(path: Path, precision: Precision, network: nn.Module, pictures: NDArray[np.float32]) -> Deviation:
    return deviation(path, network=network, plan=QuantizationPlan(precision=precision), pictures=pictures)


def tables(path: Path) -> list[tuple[int, ...]]:
    """Shape of every layer's tables."""
    operations = read_program(path).operations
    makers = {value.name: operation for operation in operations for value in operation.outputs}
    palettes = [palette_of(operation, makers) for operation in operations]
    return [palette.table.shape for palette in palettes if palette is not None]


@pytest.mark.parametrize("precision", PALETTES)
def test_the_indices_take_the_bits_of_the_name(
    precision: Precision, packages: Mapping[Precision, Path], tiny_pose: nn.Module
) -> None:
    bits = precision.palette_bits
    assert bits is not None
    weights = sum(parameter.numel() for parameter in tiny_pose.parameters() if parameter.ndim == 4)
    held = coreml.inspect(packages[precision]).weight_bytes_by_dtype
    assert weights * bits / 8 <= held["uint8"] <= weights * bits / 8 + LAYERS
    assert tables(packages[precision]) == [(2**bits,)] * LAYERS
    assert set(weight_dtypes(read_program(packages[precision])).values()) == {precision.value}


@pytest.mark.parametrize("precision", PALETTES)
def test_ios_18_has_a_table_for_every_sixteen_channels_where_they_are_whole_groups(
    precision: Precision, request_for: RequestFor, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    network = Wide().eval()
    pictures = np.random.default_rng(0).standard_normal((1, 3, 64, 48)).astype(np.float32)
    errors = {}
    for target in ("iOS16", "iOS18"):
        path = tmp_path / f"{target}.mlpackage"
        coreml.emit(request_for(precision, path, network=network, deployment_target=target))
        found = coreml.open_executor(path).heatmaps(pictures)
        with torch.inference_mode():
            errors[target] = float(np.abs(found - network(torch.from_numpy(pictures)).numpy()).mean())
        assert compared(path, precision, network, pictures).faults == ()
    entries = 2 ** (precision.palette_bits or 0)
    assert tables(tmp_path / "iOS18.mlpackage") == [(2, 1, 1, 1, entries), (1, 1, 1, 1, entries)]
    assert errors["iOS18"] < errors["iOS16"]


@pytest.mark.parametrize("precision", PALETTES)
def test_it_passes_its_own_check_and_no_other(precision: Precision, packages: Mapping[Precision, Path]) -> None:
    for held, path in packages.items():
        if held is precision:
            check_precision(read_program(path), precision, integer_layers=0)
        else:
            with pytest.raises(ConversionError, match=f"{precision} was asked for, but 6 layers are not {precision}"):
                check_precision(read_program(path), precision, integer_layers=0)


def test_one_layer_left_in_float16_is_named(core_ml_tools: Any, request_for: RequestFor, tmp_path: Path) -> None:
    fp16 = tmp_path / "fp16.mlpackage"
    coreml.emit(request_for(Precision.FP16, fp16))
    optimize = core_ml_tools.optimize.coreml
    model = core_ml_tools.models.MLModel(str(fp16), skip_model_load=True)
    names = [
        name
        for name, weight in optimize.get_weights_metadata(model, weight_threshold=0).items()
        if weight.val.ndim == 4
    ]
    palettes = optimize.OpPalettizerConfig(mode="uniform", nbits=6, weight_threshold=0)
    config = optimize.OptimizationConfig(global_config=palettes, op_name_configs={names[2]: None})
    path = tmp_path / "skipped.mlpackage"
    optimize.palettize_weights(model, config).save(str(path))
    with pytest.raises(ConversionError, match=r"1 layers are not palette6: conv2d_2_cast_fp16 \(float16\)"):
        check_precision(read_program(path), Precision.PALETTE6, integer_layers=0)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_palette_of_other_bits_is_refused(
    bits: int, core_ml_tools: Any, packages: Mapping[Precision, Path], tmp_path: Path
) -> None:
    optimize = core_ml_tools.optimize.coreml
    model = core_ml_tools.models.MLModel(str(packages[Precision.FP16]), skip_model_load=True)
    config = optimize.OpPalettizerConfig(mode="uniform", nbits=bits, weight_threshold=0)
    path = tmp_path / "other.mlpackage"
    optimize.palettize_weights(model, optimize.OptimizationConfig(global_config=config)).save(str(path))
    with pytest.raises(ConversionError, match=rf"6 layers are not palette6: conv2d.* \(palette{bits}\)"):
        check_precision(read_program(path), Precision.PALETTE6, integer_layers=0)


def test_any_number_of_threads_gives_the_same_weights(core_ml_tools: Any, packages: Mapping[Precision, Path]) -> None:
    from threadpoolctl import threadpool_limits

    made = []
    for threads in (1, 4):
        model = core_ml_tools.models.MLModel(str(packages[Precision.FP16]), skip_model_load=True)
        with threadpool_limits(limits=threads):
            palettes = compressed(core_ml_tools, model, Precision.PALETTE4, core_ml_tools.target.iOS17)
        weights = core_ml_tools.optimize.coreml.decompress_weights(palettes)
        held = core_ml_tools.optimize.coreml.get_weights_metadata(weights, weight_threshold=0)
        made.append({name: weight.val.tobytes() for name, weight in held.items()})
    assert made[0] == made[1]


@pytest.mark.parametrize("precision", PALETTES)
def test_an_emitted_palette_says_what_its_plan_says(
    precision: Precision, packages: Mapping[Precision, Path], tiny_pose: nn.Module, inputs: NDArray[np.float32]
) -> None:
    found = compared(packages[precision], precision, tiny_pose, inputs)
    assert (found.faults, found.tensor, found.steps) == ((), "", 0.0)
    assert found.heatmaps < 1e-5


def test_layers_kept_in_float32_have_palettes_too(
    request_for: RequestFor, tiny_pose: nn.Module, inputs: NDArray[np.float32], tmp_path: Path
) -> None:
    path = tmp_path / "kept.mlpackage"
    coreml.emit(request_for(Precision.PALETTE6, path, keep_fp32=frozenset({"conv2d", "conv2d_2"})))
    found = compared(path, Precision.PALETTE6, tiny_pose, inputs)
    assert found.faults == ()
    assert found.heatmaps < 1e-5


def _table(package: Package, layer: int) -> Any:
    return package.constant(package.operations("constexpr_lut_to_dense")[layer], "lut")


def _doubled(table: NDArray[Any]) -> NDArray[Any]:
    return 2 * table


def _emptied(table: NDArray[Any]) -> NDArray[Any]:
    return np.zeros_like(table)


def _turned(table: NDArray[Any]) -> NDArray[Any]:
    return np.roll(table, 1)


@pytest.mark.parametrize("change", [_doubled, _emptied, _turned])
def test_a_table_that_is_not_the_layer_s_is_named(
    change: Callable[[NDArray[Any]], NDArray[Any]],
    copied: Copied,
    tiny_pose: nn.Module,
    inputs: NDArray[np.float32],
) -> None:
    path = copied(Precision.PALETTE4)
    package = Package(path)
    value = _table(package, 3)
    package.write(value, change(package.numbers(value)))
    package.save()
    (fault,) = compared(path, Precision.PALETTE4, tiny_pose, inputs).faults
    assert fault.startswith("conv2d_3: ")


def test_one_index_that_points_elsewhere_is_counted(
    copied: Copied, tiny_pose: nn.Module, inputs: NDArray[np.float32]
) -> None:
    path = copied(Precision.PALETTE4)
    package = Package(path)
    value = package.constant(package.operations("constexpr_lut_to_dense")[1], "indices")
    indices = package.numbers(value)
    indices[5] ^= 0b1000
    package.write(value, indices)
    package.save()
    found = compared(path, Precision.PALETTE4, tiny_pose, inputs)
    assert found.faults == ("conv2d_1: 1 of 864 weights did not take the nearest entry of their palette",)


def test_a_lost_bias_shows_in_the_heatmaps(copied: Copied, tiny_pose: nn.Module, inputs: NDArray[np.float32]) -> None:
    path = copied(Precision.PALETTE6)
    package = Package(path)
    value = package.constant(package.operations("conv")[1], "bias")
    package.write(value, 0 * package.numbers(value))
    package.save()
    found = compared(path, Precision.PALETTE6, tiny_pose, inputs)
    assert found.faults == ()
    assert found.heatmaps > 5e-3


def test_a_float_file_is_none(
    packages: Mapping[Precision, Path], tiny_pose: nn.Module, inputs: NDArray[np.float32]
) -> None:
    found = compared(packages[Precision.FP16], Precision.PALETTE6, tiny_pose, inputs)
    assert len(found.faults) == LAYERS
    assert found.faults[0] == "conv2d: its weights are no palette in the file"
