"""Fused network plus plan to one ``.pte`` that ExecuTorch hands to Core ML; input and output are float32, NCHW.

======== =====================================================================================
fp32     float32 weights and arithmetic
fp16     float16 weights and arithmetic
w8       the fp16 program with int8 weights, per output channel, symmetric (iOS 16)
w8a8     the plan's int8 grids as ``quantize``/``dequantize`` around each layer, int8 weights (iOS 17)
======== =====================================================================================

Core ML Tools converts, with the passes a package gets. The file is read back and compared with what was asked for, as a
package is. It is also made reproducible: the Core ML part holds no date, no random identifiers and no debug mapping.
"""

import json
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final
from uuid import NAMESPACE_URL, uuid5

from converters import coreml, executorch
from converters.coreml.emit import (
    checked,
    compute_precision,
    core_ml_tools,
    exported_program,
    pass_pipeline,
    target_named,
)
from converters.coreml.settling import settle
from converters.executorch.inspect import METADATA_METHOD
from converters.executorch.program import missing, read_program
from converters.executorch_coreml.embedded import METADATA, PACKAGE, written
from converters.executorch_coreml.execute import only_program, planned_name
from converters.executorch_coreml.memory_files import packed, unpacked
from lspdmobile.artifact import Artifact, EmitRequest, sha256_of
from lspdmobile.choices import Format, Layout, Precision
from lspdmobile.errors import BadInputError, ConversionError, LspdmobileError

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["SUFFIX", "WHY_NOT", "emit", "misfit", "supported"]

SUFFIX: str = "_coreml.pte"
WHY_NOT: Mapping[Precision, str] = {
    **coreml.WHY_NOT,
    Precision.W4: "ExecuTorch's compile specs know one dtype for the weights of all layers",
    **dict.fromkeys((Precision.PALETTE6, Precision.PALETTE4), "ExecuTorch's compile specs know integer weights only"),
}
_INT8_WEIGHTS: Final = {
    "mode": "linear_symmetric",
    "dtype": "int8",
    "granularity": "per_channel",
    "weight_threshold": 0,
}


def supported() -> Mapping[Precision, Layout]:
    """Give the precisions this format takes and each one's default layout: those of Core ML but palettes and ``w4``."""
    return {precision: layout for precision, layout in coreml.supported().items() if precision not in WHY_NOT}


def misfit(precision: Precision, layout: Layout, deployment_target: str) -> str | None:
    """Say why a precision cannot be had in this layout or for this lowest iOS, or None."""
    return executorch.misfit(precision, layout) or coreml.misfit(precision, layout, deployment_target)


def emit(request: EmitRequest) -> Artifact:
    """Write the ``.pte`` file.

    Raises:
        BadInputError: Precision, layout and deployment target do not go together, or the plan is of another network.
        ConversionError: The network was refused, or the file does not hold what was asked for.
        EnvironmentLacksError: coremltools, executorch or torchao is absent.
        ValueError: The network is in training mode.
    """
    precision = request.plan.precision
    _check(request)
    tools = core_ml_tools()
    target = target_named(tools, request.deployment_target)
    start = time.perf_counter()
    try:
        module, exported = exported_program(request)
        request.path.write_bytes(_lowered(exported, request, tools, target))
        program = only_program(request.path, read_program(request.path))
        notes, shortfalls = checked(request, program, module, planned_name=planned_name)
    except LspdmobileError:
        request.path.unlink(missing_ok=True)
        raise
    except ImportError as error:
        raise missing(error) from error
    except Exception as error:
        request.path.unlink(missing_ok=True)
        reason = str(error).strip().splitlines() or [type(error).__name__]
        message = f"{request.path.name}: ExecuTorch's Core ML backend refused {precision}: {reason[0][:300]}"
        raise ConversionError(message) from error
    return Artifact(
        path=request.path,
        format=Format.EXECUTORCH,
        precision=precision,
        layout=request.layout,
        seconds=time.perf_counter() - start,
        notes=notes,
        not_honoured=shortfalls,
    )


def _check(request: EmitRequest) -> None:
    precision = request.plan.precision
    if precision not in supported():
        message = f"Core ML inside a .pte has no {precision}; choose from {', '.join(supported())}"
        raise BadInputError(message)
    if fault := misfit(precision, request.layout, request.deployment_target):
        raise BadInputError(fault)
    if request.network.training:
        message = "the network is in training mode; call eval() first"
        raise ValueError(message)


def _lowered(exported: "ExportedProgram", request: EmitRequest, tools: Any, target: Any) -> bytes:
    """Delegate a program to Core ML, all of it, and serialise it."""
    from executorch.backends.apple.coreml.compiler import CoreMLBackend
    from executorch.backends.apple.coreml.partition import CoreMLPartitioner
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    from converters.executorch.shortcuts import replaced

    arithmetic = compute_precision(tools, request)
    specs = CoreMLBackend.generate_compile_specs(
        minimum_deployment_target=target,
        compute_precision=arithmetic if isinstance(arithmetic, tools.precision) else tools.precision.FLOAT16,
        op_linear_quantizer_config=_INT8_WEIGHTS if request.plan.precision is Precision.W8 else None,
        pass_names=list(pass_pipeline(tools).passes),
    )
    with (
        # The specs are text and name one precision for all operations; what is wanted may be a choice among them.
        replaced(CoreMLBackend, "model_compute_precision_from_compile_specs", staticmethod(lambda _: arithmetic)),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        edge = to_edge_transform_and_lower(
            exported,
            partitioner=[CoreMLPartitioner(compile_specs=specs, lower_full_graph=True)],
            constant_methods={METADATA_METHOD: json.dumps(dict(request.metadata), ensure_ascii=False)},
            compile_config=EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True),
        )
        for lowered in edge.exported_program().graph_module.children():
            lowered._processed_bytes = _settled(lowered.processed_bytes)
        return bytes(edge.to_executorch().buffer)


def _settled(blob: bytes) -> bytes:
    """Take out what differs from one emission to the next, and what only a profiler reads.

    The phone keeps compiled models under the identifier, so that follows from the content: equal models share it,
    others never do.
    """
    files = unpacked(blob)
    description = json.loads(files[METADATA])
    with TemporaryDirectory() as folder:
        package = Path(folder) / PACKAGE
        written({name: content for name, content in files.items() if name.startswith(f"{PACKAGE}/")}, Path(folder))
        settle(package, {})
        description["identifier"] = f"executorch_{uuid5(NAMESPACE_URL, sha256_of(package))}"
        kept = {f.relative_to(folder).as_posix(): f.read_bytes() for f in package.rglob("*") if f.is_file()}
    return packed({**kept, METADATA: json.dumps(description, sort_keys=True).encode()})
