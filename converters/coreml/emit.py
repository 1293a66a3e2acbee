"""From the fused student to a ``.mlpackage``: an ML Program that takes ``input`` and gives ``heatmaps``, both float32.

======== =====================================================================================
fp32     float32 weights and arithmetic
fp16     float16 weights and arithmetic; input and output stay float32
w8       the fp16 program with int8 weights, per output channel, symmetric (iOS 16)
w4       the same with int4 weights, but int8 ones in depthwise and transposed convolutions (iOS 18)
w8a8     the plan's int8 grids as ``quantize``/``dequantize`` around each layer, int8 weights (iOS 17)
palette6 the fp16 program with weights from tables of 64 values (iOS 16; finer with iOS 18)
palette4 the same with tables of 16 values
======== =====================================================================================

The package is read back from disk and compared with what was asked for. It is also made reproducible: no date, no
random identifiers, maps serialised in a fixed order.
"""

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from converters.coreml.compressing import compressed
from converters.coreml.image_input import take_images
from converters.coreml.keypoints import KEYPOINTS, is_of_network, network_alone
from converters.coreml.mil.package import Program, read_program
from converters.coreml.plan import check_precision, check_scales, coarse_scales, too_large_for_float16
from converters.coreml.readback import check_grids
from converters.coreml.settling import settle
from lspdmobile.artifact import Artifact, EmitRequest
from lspdmobile.choices import Format, Layout, Precision
from lspdmobile.errors import BadInputError, ConversionError, EnvironmentLacksError, LspdmobileError
from lspdmobile.preprocess import PreprocessContract
from lspdmobile.shortfall import Shortfall

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import GraphModule

__all__ = [
    "INPUT_NAME",
    "OUTPUT_NAME",
    "SUFFIX",
    "WHY_NOT",
    "checked",
    "compute_precision",
    "core_ml_tools",
    "emit",
    "exported_program",
    "misfit",
    "pass_pipeline",
    "supported",
    "target_named",
]

SUFFIX: str = ".mlpackage"
WHY_NOT: Mapping[Precision, str] = {Precision.W8A16: "Core ML computes with no int16"}
INPUT_NAME: Final = "input"
OUTPUT_NAME: Final = "heatmaps"
_LOWEST_TARGET: Final = {
    Precision.FP32: 15,
    Precision.FP16: 15,
    Precision.W8: 16,
    Precision.W4: 18,
    Precision.W8A8: 17,
    Precision.PALETTE6: 16,
    Precision.PALETTE4: 16,
}
_SUPPORTED: Final = dict.fromkeys(_LOWEST_TARGET, Layout.NCHW)
_RESCALES_ADDITIONS: Final = "common::distributive_quantized_binary_op_scale_normalization"


def supported() -> Mapping[Precision, Layout]:
    """Give the precisions this format takes and each one's default layout."""
    return dict(_SUPPORTED)


def misfit(precision: Precision, layout: Layout, deployment_target: str) -> str | None:
    """Say why a precision cannot be had in this layout or for this lowest iOS, or None."""
    if layout is not Layout.NCHW:
        return f"Core ML packages are written as nchw, not {layout}; leave --layout out for this format"
    version, lowest = re.fullmatch(r"ios(\d+)", deployment_target.lower()), _LOWEST_TARGET[precision]
    if version is None or int(version[1]) < lowest:
        needed = f"a minimum deployment target of iOS{lowest} or later"
        return f"Core ML {precision} needs {needed}, not {deployment_target!r}"
    return None


def emit(request: EmitRequest) -> Artifact:
    """Write a ``.mlpackage``.

    Raises:
        BadInputError: Precision, layout, deployment target or path do not go together.
        ConversionError: Core ML Tools refused the network, or the file does not hold what was asked for.
        EnvironmentLacksError: coremltools is absent.
    """
    precision = request.plan.precision
    _check_request(request)
    tools = core_ml_tools()
    target = target_named(tools, request.deployment_target)
    start = time.perf_counter()
    try:
        module, exported = exported_program(request)
        model = _converted(tools, exported, target, request)
        model.save(str(request.path))
        settle(request.path, request.metadata)
        if request.image_input:
            take_images(request.path, PreprocessContract.from_dict(json.loads(request.metadata["preprocess"])))
        notes, shortfalls = checked(request, network_alone(read_program(request.path)), module)
    except LspdmobileError:
        shutil.rmtree(request.path, ignore_errors=True)
        raise
    except Exception as error:
        shutil.rmtree(request.path, ignore_errors=True)
        reason = str(error).strip().splitlines()
        message = f"Core ML {precision}: conversion failed: {reason[0] if reason else type(error).__name__}"
        raise ConversionError(message) from error
    return Artifact(
        path=request.path,
        format=Format.COREML,
        precision=precision,
        layout=request.layout,
        seconds=time.perf_counter() - start,
        notes=notes,
        not_honoured=shortfalls,
    )


def _check_request(request: EmitRequest) -> None:
    precision = request.plan.precision
    if precision not in _SUPPORTED:
        message = f"Core ML has no {precision}; choose from {', '.join(_SUPPORTED)}"
        raise BadInputError(message)
    if fault := misfit(precision, request.layout, request.deployment_target):
        raise BadInputError(fault)
    if request.path.suffix != SUFFIX:
        message = f"{request.path}: a Core ML package's name must end in {SUFFIX}"
        raise BadInputError(message)
    if request.path.exists():
        message = f"{request.path}: already exists; choose another name"
        raise BadInputError(message)


def core_ml_tools() -> Any:
    """Import Core ML Tools.

    Raises:
        EnvironmentLacksError: It is absent.
    """
    try:
        import coremltools
        import coremltools.optimize.coreml
    except ImportError as error:
        message = f"Core ML needs the package {error.name}: pip install coremltools"
        raise EnvironmentLacksError(message) from error
    return coremltools


def target_named(tools: Any, name: str) -> Any:
    """Give Core ML Tools' constant of a deployment target such as ``iOS17``.

    Raises:
        BadInputError: It knows none of that name.
    """
    names = {target.name.lower(): target for target in tools.target if target.name.startswith("iOS")}
    try:
        return names[name.lower()]
    except KeyError:
        message = f"this Core ML Tools knows no deployment target {name!r}; choose from {', '.join(names)}"
        raise BadInputError(message) from None


def exported_program(request: EmitRequest) -> tuple["GraphModule | None", "ExportedProgram"]:
    """Give the exported program, and under ``w8a8`` the quantized module it came from."""
    import torch

    network: Any = request.network
    module: GraphModule | None = None
    if request.plan.precision is Precision.W8A8:
        from quantization.graph import quantized_module

        network = module = quantized_module(request.network, request.plan, request.input_size)
    if request.decode is not None:
        from lspdmobile.graph_decode import WithKeypoints

        network = WithKeypoints(network, request.decode)
    with torch.no_grad():
        exported = torch.export.export(network, (torch.zeros(1, 3, *request.input_size),))
    return module, exported.run_decompositions({})


def _converted(tools: Any, exported: "ExportedProgram", target: Any, request: EmitRequest) -> Any:
    import numpy as np

    outputs = [OUTPUT_NAME] if request.decode is None else [OUTPUT_NAME, KEYPOINTS]
    model = tools.convert(
        exported,
        convert_to="mlprogram",
        minimum_deployment_target=target,
        compute_precision=compute_precision(tools, request),
        inputs=[tools.TensorType(name=INPUT_NAME, shape=(1, 3, *request.input_size), dtype=np.float32)],
        outputs=[tools.TensorType(name=name, dtype=np.float32) for name in outputs],
        pass_pipeline=pass_pipeline(tools),
        skip_model_load=True,
    )
    return compressed(tools, model, request.plan.precision, target)


def compute_precision(tools: Any, request: EmitRequest) -> Any:
    """Give Core ML Tools' ``compute_precision``: one for all operations, or a choice where some stay in float32.

    Raises:
        BadInputError: The precision has no such choice.
    """
    precision = request.plan.precision
    if request.keep_fp32 and not precision.may_compute_in_float16:
        message = f"Core ML {precision}: operations can be kept in float32 in fp16, w8, w4 and palettes only"
        raise BadInputError(message)
    if precision is Precision.FP32:
        return tools.precision.FLOAT32
    if not request.keep_fp32 and request.decode is None:
        return tools.precision.FLOAT16
    of_network = is_of_network() if request.decode is not None else lambda _: True
    return tools.transform.FP16ComputePrecision(
        op_selector=lambda operation: (
            of_network(operation) and not any(value.name in request.keep_fp32 for value in operation.outputs)
        )
    )


def _check_kept(request: EmitRequest, program: Program) -> None:
    """Refuse a file in which an operation that was to stay in float32 did not."""
    types = {value.name: value.type for o in program.operations for value in o.outputs}
    lost = sorted(n for n in request.keep_fp32 if n not in types or types[n].dtype.name == "float16")
    if lost:
        message = f"{request.path}: {', '.join(lost)} did not stay in float32"
        raise ConversionError(message)


def pass_pipeline(tools: Any) -> Any:
    """Give Core ML Tools' passes without the one that rescales additions.

    It divides both inputs of an addition by one input's scale; where the scales differ more than some 250 times, the
    int8 value times their ratio overflows float16.
    """
    pipeline = tools.PassPipeline.DEFAULT
    pipeline.remove_passes({_RESCALES_ADDITIONS})
    return pipeline


def checked(
    request: EmitRequest, program: Program, module: "GraphModule | None", *, planned_name: Callable[[str], str] = str
) -> tuple[tuple[str, ...], tuple[Shortfall, ...]]:
    """Compare a program read back from disk with what was asked for; gives notes for the report, and layers.

    Args:
        request: What was asked for.
        program: What the file holds.
        module: Under ``w8a8``, the quantized module that was converted.
        planned_name: Gives the module's name of a tensor that Core ML Tools was given under another one.

    Raises:
        ConversionError: The file holds something else.
    """
    integer_layers, shortfalls = 0, tuple[Shortfall, ...]()
    if module is not None:
        from quantization.graph import activation_grids, weight_scales_by_node

        integer_layers = len(weight_scales_by_node(module))
        if integer_layers == 0:
            message = f"{program.path}: the plan quantizes no layer; w8a8 would be a float file in disguise"
            raise ConversionError(message)
        check_scales(program, {name: grid.scale for name, grid in activation_grids(module).items()})
        shortfalls = check_grids(program, module, planned_name=planned_name)
    large = too_large_for_float16(program) if request.plan.precision is Precision.FP16 else ()
    kept = request.keep_fp32.union(large)
    check_precision(program, request.plan.precision, integer_layers=integer_layers, float32_layers=kept)
    _check_kept(request, program)
    return tuple(_notes(coarse_scales(program), large)), shortfalls


def _notes(coarse: int, large: Sequence[str]) -> Iterator[str]:
    if coarse:
        yield f"{coarse} weight scales are so small that float16 rounds them by 1% or more"
    if large:
        yield f"weights beyond float16's range stay in float32: {', '.join(large)}"
