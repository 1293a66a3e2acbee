"""Fused network plus plan to one ``.tflite`` file.

litert-torch converts the float network; ai-edge-quantizer then rewrites the float file with the plan's ranges. What was
written is read back: a file whose convolution weights did not get the precision that was asked for, or whose numbers
are neither the plan's nor follow from a rule of the quantizer, is an error.
"""

import json
import time
import warnings
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from converters.tflite.flatbuffer import (
    add_metadata,
    constant_behind,
    dtype_name,
    main_graph,
    named_borders,
    operators,
    read_model,
    tensor_name,
    to_bytes,
)
from converters.tflite.float_file import float_file
from converters.tflite.grafting import network_alone, with_keypoints
from converters.tflite.plan import TensorRanges, recipe_for, tensor_ranges
from converters.tflite.readback import (
    BORDER,
    CONVOLUTIONS,
    activation_grids,
    activation_shortfalls,
    float_shortfalls,
    require_plan,
    weight_shortfalls,
)
from converters.tflite.room import make_room
from converters.tflite.standard_metadata import NAME as STANDARD
from converters.tflite.standard_metadata import OURS, standard_metadata, with_files
from converters.tflite.weights import channels_of, of_one_channel, require_weights
from lspdmobile.artifact import Artifact, EmitRequest
from lspdmobile.choices import Format, Layout, Precision
from lspdmobile.errors import BadInputError, ConversionError, LspdmobileError
from lspdmobile.shortfall import Shortfall
from quantization.affine import weight_bits

__all__ = ["SUFFIX", "WHY_NOT", "emit", "misfit", "require_precision", "supported"]

SUFFIX: str = ".tflite"
WHY_NOT: Mapping[Precision, str] = dict.fromkeys(
    (Precision.PALETTE6, Precision.PALETTE4), "TFLite has no weights in tables"
)

_FLOATS: Final = {Precision.FP32: "float32", Precision.FP16: "float16"}
_RESULTS: Final = {
    Precision.FP32: "float32",
    Precision.FP16: "float32",
    Precision.W8: "float32",
    Precision.W4: "float32",
    Precision.W8A8: "int8",
    Precision.W8A16: "int16",
}


def supported() -> Mapping[Precision, Layout]:
    """Give the precisions and each one's default layout; TFLite kernels are NHWC throughout."""
    return dict.fromkeys(_RESULTS, Layout.NHWC)


def misfit(precision: Precision, layout: Layout, deployment_target: str) -> str | None:  # noqa: ARG001
    """Give None: every precision can be had in both layouts, and an iOS version does not matter here."""
    return None


def emit(request: EmitRequest) -> Artifact:
    """Write the ``.tflite`` file; its input is ``input``, its output ``heatmaps``, both float32.

    Raises:
        ConversionError: The converter or the quantizer refused, or the file does not hold what was asked for.
        BadInputError: An integer plan without ranges, or one that needs the calibration pictures and has none.
        EnvironmentLacksError: litert-torch or ai-edge-quantizer is absent.
        ValueError: The network is in training mode.
    """
    precision = request.plan.precision
    _check(request)
    start = time.perf_counter()
    try:
        converted = float_file(request.network, request.input_size, request.layout)
        content = converted.content
        ranges = TensorRanges(by_name={}, measured=())
        if precision is not Precision.FP32:
            if precision.is_static_integer:
                ranges = tensor_ranges(
                    content,
                    read_model(content),
                    request.network,
                    request.plan,
                    request.layout,
                    calibration=request.calibration,
                )
            content = _quantize(content, precision, ranges)
    except LspdmobileError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        message = f"{request.path.name}: the TFLite tool chain refused {precision}: {reason[0][:300]}"
        raise ConversionError(message) from error
    model = read_model(content)
    if precision.is_static_integer:
        make_room(model, read_model(converted.content))
    if request.decode is not None:
        with_keypoints(model, request.decode, request.layout)
    request.path.write_bytes(_with_metadata(model, request.metadata))
    written, float_model = network_alone(read_model(request.path)), read_model(converted.content)
    require_precision(written, precision, request.path, kept_float=ranges.kept_float)
    not_honoured = _not_honoured(written, float_model, precision, ranges)
    require_plan(not_honoured, request.path)
    if precision in (Precision.W8, Precision.W4):
        require_weights(written, float_model, precision, request.path)
    return Artifact(
        path=request.path,
        format=Format.TFLITE,
        precision=precision,
        layout=request.layout,
        seconds=time.perf_counter() - start + converted.seconds_before,
        notes=_notes(written, precision, ranges),
        not_honoured=not_honoured,
    )


def _with_metadata(model: Any, entries: Mapping[str, str]) -> bytes:
    """Serialise a model with our text entries, and with the format's own metadata that follow from them."""
    standard, files = standard_metadata(entries, [name for name, _ in named_borders(model, "outputs")])
    ours = json.dumps(dict(entries), ensure_ascii=False).encode()
    add_metadata(model, {OURS: ours, STANDARD: standard})
    return with_files(to_bytes(model), files)


def _check(request: EmitRequest) -> None:
    precision = request.plan.precision
    if precision not in _RESULTS:
        message = f"TFLite has no {precision}; choose from {', '.join(_RESULTS)}"
        raise BadInputError(message)
    if request.network.training:
        message = "the network is in training mode; call eval() first"
        raise ValueError(message)
    if precision.is_static_integer and not request.plan.ranges:
        message = f"{precision} needs calibrated ranges and the plan holds none; calibrate the network first"
        raise BadInputError(message)


def require_precision(model: Any, precision: Precision, path: Path, *, kept_float: Collection[str] = ()) -> None:
    """Check that every convolution's weights, its arithmetic, and the borders are what a precision promises.

    Args:
        model: Read back from disk.
        precision: What was asked for.
        path: For messages.
        kept_float: Tensors whose operators have to be in float32 instead.

    Raises:
        ConversionError: A convolution kept other weights or computes in another type, or a border is not float32.
    """
    wrong = [
        fault
        for name, op, graph in operators(model)
        if (fault := _fault(model, name, op, graph, _promised(graph, op, precision, kept_float)))
    ]
    if wrong:
        message = (
            f"{path.name}: {len(wrong)} convolutions are not {precision}, first {wrong[0]}; "
            "the quantizer skipped them, so the file must not pass for what was asked"
        )
        raise ConversionError(message)
    graph = main_graph(model)
    for index in (*graph.inputs, *graph.outputs):
        if (found := dtype_name(graph.tensors[index])) != "float32":
            message = f"{path.name}: {tensor_name(graph.tensors[index])} is {found}, not float32"
            raise ConversionError(message)


def _promised(graph: Any, operator: Any, precision: Precision, kept_float: Collection[str]) -> Precision:
    """Give the precision of one operator."""
    kept = any(tensor_name(graph.tensors[index]) in kept_float for index in operator.outputs)
    return Precision.FP32 if kept else precision


def _fault(model: Any, name: str, operator: Any, graph: Any, precision: Precision) -> str | None:
    """Say what is wrong with one operator; None where it is right or no convolution."""
    if name not in CONVOLUTIONS or (weight := constant_behind(model, graph, operator.inputs[1])) is None:
        return None
    result = graph.tensors[operator.outputs[0]]
    found = dtype_name(weight), dtype_name(result)
    stored = _FLOATS.get(precision) or f"int{weight_bits(precision, channels_of(name, weight))}"
    wanted = stored, _RESULTS[precision]
    if found == wanted:
        return None
    return f"{tensor_name(result)} ({found[0]} weights and {found[1]} results, not {wanted[0]} and {wanted[1]})"


def _quantize(float_content: bytes, precision: Precision, ranges: TensorRanges) -> bytes:
    """Rewrite a float file with ai-edge-quantizer; give the file's bytes."""
    recipe = recipe_for(precision, ranges.kept_float, eight_bits=of_one_channel(read_model(float_content)))
    from ai_edge_quantizer.quantizer import Quantizer

    statistics = {
        name: {"min": np.full((1,), r.low, np.float32), "max": np.full((1,), r.high, np.float32)}
        for name, r in ranges.by_name.items()
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = Quantizer(float_content, recipe).quantize(
            statistics or None, enable_progress_bar=False, enable_progress_report=False
        )
    return bytes(result.quantized_model)


def _notes(model: Any, precision: Precision, ranges: TensorRanges) -> tuple[str, ...]:
    """Say what the file does not honour of a static integer plan, and which kernels it needs."""
    if precision is Precision.W4:
        return ("XNNPACK takes no int4 weights: these layers run on TFLite's built-in kernels, slower on a CPU",)
    if not precision.is_static_integer:
        return ()
    notes: list[str] = []
    if ranges.measured:
        notes.append(
            f"{len(ranges.measured)} of {len(ranges.by_name)} activation ranges were measured on the float TFLite file "
            "over the same pictures, smallest and largest value: the plan has no node with their values"
        )
    other = [each for each in activation_shortfalls(model, precision, ranges) if each.layer not in ranges.measured]
    if other:
        notes.append(
            f"{len(other)} of {len(activation_grids(model))} activation grids differ from the plan's: "
            "the quantizer shares a grid between tensors or does not go below a smallest scale"
        )
    floats = Counter(
        name
        for name, operator, graph in operators(model)
        if name not in BORDER and dtype_name(graph.tensors[operator.outputs[0]]) == "float32"
    )
    if floats:
        kept = ", ".join(f"{count} {name}" for name, count in sorted(floats.items()))
        notes.append(f"computed in float between dequantize and quantize: {kept}")
    if precision is Precision.W8A16:
        notes.append(
            "XNNPACK has no int16 kernels: int16 operators run on TFLite's built-in ones, many times slower on a CPU"
        )
    return tuple(notes)


def _not_honoured(model: Any, float_model: Any, precision: Precision, ranges: TensorRanges) -> tuple[Shortfall, ...]:
    """Say the same layer by layer."""
    if not precision.is_static_integer:
        return ()
    return (
        *activation_shortfalls(model, precision, ranges),
        *weight_shortfalls(model, float_model),
        *float_shortfalls(model, precision, ranges.kept_float),
    )
