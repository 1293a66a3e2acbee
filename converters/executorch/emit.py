"""Fused network plus plan to one ``.pte`` file for XNNPACK; input and output are float32, contiguous NCHW.

======== =====================================================================================
fp32     float32 weights and arithmetic
w8a8     int8 weights per output channel and int8 activations by the plan; resizing computes in float between
======== =====================================================================================

fp16 is not offered: the XNNPACK backend stores convolution weights as float32 whatever the network's type, so such a
file would be as big as fp32 and half precision in name only. The written file is read back and compared with the plan.
"""

import json
import time
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from converters.executorch.inspect import METADATA_METHOD, inspect
from converters.executorch.layers import check_layers
from converters.executorch.plan import before_decoding, check_grids, check_precision, float_operators
from converters.executorch.program import missing, read_with_constants
from lspdmobile.artifact import Artifact, EmitRequest
from lspdmobile.choices import Format, Layout, Precision
from lspdmobile.errors import BadInputError, ConversionError, LspdmobileError
from lspdmobile.shortfall import Shortfall

if TYPE_CHECKING:
    from quantization.affine import AffineGrid
    from quantization.integer_layers import IntegerLayer

__all__ = ["SUFFIX", "WHY_NOT", "emit", "misfit", "supported"]

SUFFIX: str = ".pte"
_MISSING: Final = "Missing out variants: {'quantized_decomposed"
WHY_NOT: Mapping[Precision, str] = {
    Precision.FP16: "XNNPACK stores its weights as float32",
    Precision.W4: "XNNPACK takes 4-bit weights in linear layers only, with activations quantized on the fly",
}
_SUPPORTED: Final = dict.fromkeys((Precision.FP32, Precision.W8A8), Layout.NCHW)


def supported() -> Mapping[Precision, Layout]:
    """Give the precisions this format takes and each one's default layout."""
    return dict(_SUPPORTED)


def misfit(precision: Precision, layout: Layout, deployment_target: str = "") -> str | None:  # noqa: ARG001
    """Say why a precision cannot be had in this layout, or None; an iOS version does not matter here."""
    if layout is Layout.NCHW:
        return None
    return (
        "ExecuTorch artifacts take and give NCHW: the runtime ignores strides, so an NHWC border would need a "
        "transposition in the program; use --layout nchw or leave the option out"
    )


def emit(request: EmitRequest) -> Artifact:
    """Write the ``.pte`` file.

    Raises:
        BadInputError: The precision or the layout is not offered, or the plan is of another network.
        ConversionError: ExecuTorch refused the network, or the file does not hold what was asked for.
        EnvironmentLacksError: executorch or torchao is absent.
        ValueError: The network is in training mode.
    """
    _check(request)
    start = time.perf_counter()
    compiled = _compile(request)
    request.path.write_bytes(compiled.content)
    floats = tuple[Shortfall, ...]()
    try:
        program, constants = read_with_constants(request.path)
        kept = len(compiled.float_layers)
        graphs = check_precision(request.path, program, request.plan.precision, float_layers=kept, constants=constants)
        if request.plan.precision is Precision.W8A8:
            check_grids(request.path, graphs, compiled.grids)
            check_layers(request.path, graphs, compiled.layers)
            of_network = before_decoding(graphs) if request.decode is not None else graphs
            floats = tuple(float_operators(of_network, compiled.grids, kept))
    except LspdmobileError:
        request.path.unlink()
        raise
    outside = _outside(request)
    return Artifact(
        path=request.path,
        format=Format.EXECUTORCH,
        precision=request.plan.precision,
        layout=request.layout,
        seconds=time.perf_counter() - start,
        notes=_notes(outside),
        not_honoured=(*floats, *_left_outside(outside)),
    )


@dataclass(frozen=True, kw_only=True)
class _Compiled:
    """A file's bytes, and what it must hold: grids and integer layers by node, and the layers in float."""

    content: bytes
    grids: "Mapping[str, AffineGrid]"
    layers: "Mapping[str, IntegerLayer]"
    float_layers: tuple[str, ...]


def _check(request: EmitRequest) -> None:
    precision = request.plan.precision
    if precision not in _SUPPORTED:
        why = WHY_NOT.get(precision, "the XNNPACK backend has no such")
        message = f"ExecuTorch artifacts are not offered in {precision} ({why}); choose from {', '.join(_SUPPORTED)}"
        raise BadInputError(message)
    if fault := misfit(precision, request.layout):
        raise BadInputError(fault)
    if request.network.training:
        message = "the network is in training mode; call eval() first"
        raise ValueError(message)


def _compile(request: EmitRequest) -> _Compiled:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _lowered(request)
    except ImportError as error:
        raise missing(error) from error
    except LspdmobileError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        left = (
            "; a quantized layer stayed outside of XNNPACK, which cannot take its kind" if _MISSING in reason[0] else ""
        )
        message = f"{request.path.name}: ExecuTorch refused {request.plan.precision}: {reason[0][:300]}{left}"
        raise ConversionError(message) from error


def _lowered(request: EmitRequest) -> _Compiled:
    import torch
    from torch import nn

    from converters.executorch.lowering import lower
    from quantization.graph import activation_grids, float_layers, quantized_module
    from quantization.integer_layers import integer_layers

    network, grids, floats = request.network, dict[str, "AffineGrid"](), tuple[str, ...]()
    layers = dict[str, "IntegerLayer"]()
    if request.plan.precision is Precision.W8A8:
        network = module = quantized_module(network, request.plan, request.input_size)
        grids, floats, layers = activation_grids(module), float_layers(module), integer_layers(module)
    # The backend names a norm it folds after its path, and refuses names that begin with a digit.
    named: nn.Module = nn.Sequential(OrderedDict(network=network))
    if request.decode is not None:
        from lspdmobile.graph_decode import WithKeypoints

        named = WithKeypoints(network, request.decode)
    with torch.no_grad():
        exported = torch.export.export(named, (torch.zeros(1, 3, *request.input_size),))
    metadata = json.dumps(dict(request.metadata), ensure_ascii=False)
    content = lower(exported, {METADATA_METHOD: metadata})
    return _Compiled(content=content, grids=grids, layers=layers, float_layers=floats)


def _outside(request: EmitRequest) -> tuple[str, ...]:
    """Give the operators that XNNPACK did not take, such as ``aten::cumsum.out x1``."""
    delegation = inspect(request.path).delegation
    return delegation.not_delegated if delegation is not None else ()


def _notes(outside: tuple[str, ...]) -> tuple[str, ...]:
    """Say what the file computes outside of what was asked for."""
    return (f"left to ExecuTorch's portable kernels, which are slow: {', '.join(outside)}",) if outside else ()


def _left_outside(outside: tuple[str, ...]) -> tuple[Shortfall, ...]:
    found, reason = "ExecuTorch's portable kernels", "XNNPACK does not take it"
    return tuple(Shortfall(layer=each, wanted="XNNPACK", found=found, reason=reason) for each in outside)
