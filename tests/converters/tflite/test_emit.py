import copy
import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from converters import tflite
from converters.tflite.emit import require_precision
from converters.tflite.flatbuffer import dtype_name, main_graph, read_model, tensor_name
from converters.tflite.plan import recipe_for
from lspdmobile.artifact import Artifact, Converter
from lspdmobile.choices import Layout, Precision
from lspdmobile.errors import BadInputError, ConversionError, EnvironmentLacksError
from lspdmobile.networks.architectures import deployed_network
from lspdmobile.networks.presets import preset
from quantization.affine import activation_grid
from quantization.calibrate import calibrate
from quantization.graph import quantized_module
from quantization.plan import QuantizationPlan, TensorRange

if TYPE_CHECKING:
    from tests.converters.tflite.conftest import World

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
INTEGER_WEIGHTS = (Precision.W8, Precision.W8A8, Precision.W8A16)


def test_the_package_is_a_converter() -> None:
    converter: Converter = tflite
    assert set(Precision) - set(converter.supported()) == {Precision.PALETTE6, Precision.PALETTE4}
    assert set(converter.supported().values()) == {Layout.NHWC}


def test_float32_file_equals_the_network(world: "World", emitted: dict[Precision, Artifact]) -> None:
    heatmaps = tflite.open_executor(emitted[Precision.FP32].path).heatmaps(world.pictures)
    assert world.error(heatmaps) <= 1e-5  # float32 sums in another order


def test_float16_weights_cost_no_more_than_their_rounding(world: "World", emitted: dict[Precision, Artifact]) -> None:
    rounded = copy.deepcopy(world.network)
    for parameter in rounded.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.half().float()
    heatmaps = tflite.open_executor(emitted[Precision.FP16].path).heatmaps(world.pictures)
    assert world.error(heatmaps, world.run(rounded)) <= 1e-5


def test_w8_rounds_weights_per_channel_and_nothing_else(world: "World", emitted: dict[Precision, Artifact]) -> None:
    rounded = copy.deepcopy(world.network)
    for parameter in rounded.parameters():
        if parameter.ndim == 4:
            scale = parameter.data.abs().amax(dim=(1, 2, 3), keepdim=True) / 127
            parameter.data = (parameter.data / scale).round() * scale
    heatmaps = tflite.open_executor(emitted[Precision.W8].path).heatmaps(world.pictures)
    assert world.error(heatmaps, world.run(rounded)) <= 1e-5


def test_w8a16_loses_what_its_weights_lose(world: "World", emitted: dict[Precision, Artifact]) -> None:
    weights_only, both = (
        tflite.open_executor(emitted[p].path).heatmaps(world.pictures) for p in (Precision.W8, Precision.W8A16)
    )
    assert world.loss(both) <= 1.05 * world.loss(weights_only)  # 16-bit activations add next to nothing


def test_w8a8_loses_what_the_same_plan_loses_in_pytorch(world: "World", emitted: dict[Precision, Artifact]) -> None:
    reference = world.run(quantized_module(world.network, world.plan(Precision.W8A8), (64, 64)))
    heatmaps = tflite.open_executor(emitted[Precision.W8A8].path).heatmaps(world.pictures)
    assert 0.75 * world.loss(reference) <= world.loss(heatmaps) <= 1.25 * world.loss(reference)


@pytest.mark.parametrize("precision", [Precision.W8A8, Precision.W8A16])
def test_every_activation_scale_is_one_of_the_plan(
    world: "World", emitted: dict[Precision, Artifact], precision: Precision
) -> None:
    plan = world.plan(precision)
    wanted = {
        activation_grid(r).scale if precision is Precision.W8A8 else max(abs(r.low), abs(r.high)) / 32767
        for r in plan.ranges.values()
    }
    scales = _activation_grids(read_model(emitted[precision].path))
    assert len(scales) >= 29
    for name, (scale, _) in scales.items():
        assert min(abs(scale / w - 1) for w in wanted) < 1e-5, name


def test_zero_points_are_the_plan_s(world: "World", emitted: dict[Precision, Artifact]) -> None:
    wanted = {
        (round(g.scale, 7), g.zero_point) for g in map(activation_grid, world.plan(Precision.W8A8).ranges.values())
    }
    grids = _activation_grids(read_model(emitted[Precision.W8A8].path))
    assert {(round(scale, 7), zero_point) for scale, zero_point in grids.values()} <= wanted


def test_a_range_of_the_plan_reaches_exactly_its_tensor(world: "World", emitted: dict[Precision, Artifact]) -> None:
    request = world.request(Precision.W8A8, "doubled.tflite")
    last = list(request.plan.ranges)[-1]
    ranges = dict(request.plan.ranges)
    ranges[last] = TensorRange(low=2 * ranges[last].low, high=2 * ranges[last].high)
    doubled = tflite.emit(replace(request, plan=replace(request.plan, ranges=ranges)))
    before, after = (_activation_grids(read_model(a.path)) for a in (emitted[Precision.W8A8], doubled))
    assert after["heatmaps"][0] == pytest.approx(2 * before["heatmaps"][0])
    assert {n: g for n, g in after.items() if n != "heatmaps"} == {n: g for n, g in before.items() if n != "heatmaps"}


def test_ranges_the_plan_lacks_are_measured_and_said(world: "World", emitted: dict[Precision, Artifact]) -> None:
    request = world.request(Precision.W8A8, "measured.tflite")
    only_input = dict([next(iter(request.plan.ranges.items()))])
    request = replace(request, plan=replace(request.plan, ranges=only_input), calibration=world.pictures)
    measured = tflite.emit(request)
    assert any("28 of 30 activation ranges were measured" in note for note in measured.notes)
    assert not any("were measured" in note for note in emitted[Precision.W8A8].notes)
    assert len([each for each in measured.not_honoured if each.wanted == "a range of the plan"]) == 28
    before, after = (_activation_grids(read_model(a.path)) for a in (emitted[Precision.W8A8], measured))
    for name, (scale, _) in before.items():
        assert after[name][0] == pytest.approx(scale, rel=1e-4)


@pytest.mark.parametrize("precision", INTEGER_WEIGHTS)
def test_convolution_weights_are_int8_per_channel_and_symmetric(
    world: "World", emitted: dict[Precision, Artifact], precision: Precision
) -> None:
    model = read_model(emitted[precision].path)
    graph = main_graph(model)
    wanted = sorted(
        scale
        for p in world.network.parameters()
        if p.ndim == 4
        for scale in (p.abs().amax(dim=(1, 2, 3)) / 127).tolist()
    )
    weights = [t for t in graph.tensors if dtype_name(t) == "int8" and len(t.shape) == 4 and _is_constant(model, t)]
    assert len(weights) == 19
    assert all(np.all(np.asarray(t.quantization.zeroPoint) == 0) for t in weights)
    assert sorted(s for t in weights for s in t.quantization.scale) == pytest.approx(wanted, rel=1e-5)


def test_int8_files_hold_no_float_weights(world: "World", emitted: dict[Precision, Artifact]) -> None:
    weights = sum(p.numel() for p in world.network.parameters() if p.ndim == 4)
    facts = tflite.inspect(emitted[Precision.W8A8].path)
    assert weights <= facts.weight_bytes_by_dtype["int8"] <= weights + 8
    assert "float32" not in facts.weight_bytes_by_dtype


def test_a_file_that_is_not_what_was_asked_for_is_refused(emitted: dict[Precision, Artifact]) -> None:
    for precision, artifact in emitted.items():
        for asked in tflite.supported():
            model = read_model(artifact.path)
            if asked is precision:
                require_precision(model, asked, artifact.path)
            else:
                with pytest.raises(ConversionError, match=f"{_others(precision, asked)} convolutions are not {asked}"):
                    require_precision(model, asked, artifact.path)


def _others(held: Precision, asked: Precision) -> int:
    """How many of the 19 convolutions of a file are not what was asked for; the depthwise one is int8 in w4 and w8."""
    return 18 if {held, asked} == {Precision.W4, Precision.W8} else 19


def test_one_skipped_convolution_is_enough_to_refuse(emitted: dict[Precision, Artifact]) -> None:
    from ai_edge_quantizer.quantizer import Quantizer

    quantizer = Quantizer(emitted[Precision.FP32].path.read_bytes(), recipe_for(Precision.W8))
    quantizer.update_quantization_recipe("heatmaps", "CONV_2D", algorithm_key="no_quantize")
    model = read_model(bytes(quantizer.quantize(enable_progress_report=False).quantized_model))
    with pytest.raises(ConversionError, match=r"1 convolutions are not w8, first heatmaps \(float32 weights"):
        require_precision(model, Precision.W8, emitted[Precision.W8].path)


def test_metadata_is_a_named_buffer_any_schema_reader_finds(world: "World", emitted: dict[Precision, Artifact]) -> None:
    from ai_edge_litert.schema_py_generated import Model

    model = Model.GetRootAs(emitted[Precision.W8A8].path.read_bytes(), 0)
    entries = {model.Metadata(i).Name(): model.Metadata(i).Buffer() for i in range(model.MetadataLength())}
    text = bytes(model.Buffers(entries[b"lspdmobile"]).DataAsNumpy())
    assert json.loads(text) == world.metadata


def test_the_same_request_gives_the_same_bytes(world: "World", emitted: dict[Precision, Artifact]) -> None:
    request = world.request(Precision.W8A8, "again.tflite")
    again = tflite.emit(replace(request, network=copy.deepcopy(world.network)))
    assert again.path.read_bytes() == emitted[Precision.W8A8].path.read_bytes()


def test_a_network_that_cannot_be_exported_is_refused_with_its_file_and_precision(world: "World") -> None:
    class Moody(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ConversionError, match=r"moody\.tflite: the TFLite tool chain refused fp32"):
        world.emit_network(Moody(), "moody.tflite")


def test_operators_left_in_float_are_said(world: "World") -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ELU(), nn.Conv2d(4, 5, 1)).eval()
    request = replace(
        world.request(Precision.FP32, "mixed.tflite"),
        network=network,
        plan=calibrate(network, world.pictures, precision=Precision.W8A8),
    )
    assert tflite.emit(request).notes == ("computed in float between dequantize and quantize: 1 ELU",)


def test_w8a16_says_that_xnnpack_leaves_it(emitted: dict[Precision, Artifact]) -> None:
    assert any("XNNPACK has no int16 kernels" in note for note in emitted[Precision.W8A16].notes)


def test_an_integer_plan_without_ranges_is_refused(world: "World") -> None:
    request = replace(world.request(Precision.FP32, "x.tflite"), plan=QuantizationPlan(precision=Precision.W8A8))
    with pytest.raises(BadInputError, match="calibrate the network first"):
        tflite.emit(request)


@pytest.mark.parametrize("precision", [Precision.PALETTE6, Precision.PALETTE4])
def test_a_palette_is_refused(world: "World", precision: Precision) -> None:
    with pytest.raises(BadInputError, match=f"TFLite has no {precision}; choose from fp32, fp16, w8, w4, w8a8, w8a16"):
        tflite.emit(world.request(precision, "palette.tflite"))


def test_train_mode_is_a_programmer_s_mistake(world: "World") -> None:
    request = replace(world.request(Precision.FP32, "x.tflite"), network=copy.deepcopy(world.network).train())
    with pytest.raises(ValueError, match="training mode"):
        tflite.emit(request)


@pytest.mark.parametrize(
    ("module", "package", "precision"),
    [
        ("litert_torch", "litert-torch", Precision.FP32),
        ("ai_edge_quantizer.algorithm_manager", "ai-edge-quantizer", Precision.W8),
    ],
)
def test_an_absent_package_is_named(
    world: "World", monkeypatch: pytest.MonkeyPatch, module: str, package: str, precision: Precision
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    network = world.network if module.startswith("ai") else nn.Conv2d(3, 2, 1).eval()
    request = replace(world.request(precision, "x.tflite"), network=network)
    with pytest.raises(EnvironmentLacksError, match=f"pip install {package}"):
        tflite.emit(request)


@pytest.mark.slow
def test_the_architecture_that_ships(world: "World") -> None:
    from lspdmobile.fusion import fuse, randomise_norms

    student = deployed_network(preset("lspd-s"))
    randomise_norms(student, torch.Generator().manual_seed(1))
    network = fuse(student, input_size=(192, 192)).network
    pictures = np.random.default_rng(0).normal(size=(2, 3, 192, 192)).astype(np.float32)
    files = {}
    for precision in (Precision.FP32, Precision.W8A8):
        plan = calibrate(network, pictures, precision=precision)
        request = world.request(Precision.FP32, f"shipping_{precision}.tflite")
        files[precision] = tflite.emit(replace(request, network=network, plan=plan, input_size=(192, 192))).path
    with torch.no_grad():
        wanted = np.concatenate([network(torch.from_numpy(p[None])).numpy() for p in pictures])
    assert world.error(tflite.open_executor(files[Precision.FP32]).heatmaps(pictures), wanted) <= 1e-5
    assert files[Precision.W8A8].stat().st_size <= 0.32 * files[Precision.FP32].stat().st_size
    delegation = tflite.inspect(files[Precision.W8A8]).delegation
    assert delegation is not None
    assert delegation.fraction == 1


def _is_constant(model: Any, tensor: Any) -> bool:
    return model.buffers[tensor.buffer].data is not None


def _activation_grids(model: Any) -> dict[str, tuple[float, int]]:
    """Scale and zero point of every computed integer tensor, read straight from the schema."""
    return {
        tensor_name(t).removesuffix("_quantized"): (float(t.quantization.scale[0]), int(t.quantization.zeroPoint[0]))
        for t in main_graph(model).tensors
        if dtype_name(t) in ("int8", "int16") and not _is_constant(model, t)
    }
