"""What the Neural Engine and the GPU are known not to take of an ML Program: each rule with its source.

Apple publishes no list. Core ML decides on the device, and asks what moving tensors costs too: an operator that no rule
is against can still run elsewhere. ``MLComputePlan`` (Core ML Tools, macOS only) asks Core ML itself.
"""

from typing import Final

from lspdmobile.delegation import DelegationRule, Firmness
from lspdmobile.operators import Operator, Value

__all__ = ["FLEXIBLE", "GPU", "NEURAL_ENGINE"]

FLEXIBLE: Final = "flexible shapes"
"""Name of the rule that is not about sizes which are enumerated."""

_GUIDE: Final = "https://apple.github.io/coremltools/docs-guides/source"
_COMPUTE_PLAN: Final = "https://huggingface.co/mickekringai/kb-whisper-coreml (*.mlcomputeplan.json)"
_RECURRENT: Final = ("lstm", "gru", "rnn")
_WIDEST_KERNEL: Final = 13
_STORED: Final = ("int8", "uint8")


def _values(operator: Operator) -> tuple[Value, ...]:
    return (*operator.computed, *operator.outputs)


def _has_float32(operator: Operator) -> bool:
    return any(value.dtype in ("float32", "float64") for value in _values(operator))


def _has_integers(operator: Operator) -> bool:
    quantizing = operator.kind in ("quantize", "dequantize")
    return any(not value.is_float and not (quantizing and value.dtype in _STORED) for value in _values(operator))


def _is_flexible(operator: Operator) -> bool:
    return any(size < 0 for value in _values(operator) for size in value.shape)


def _gathers(operator: Operator) -> bool:
    return operator.kind.startswith("gather")


def _resamples(operator: Operator) -> bool:
    return operator.kind == "resample"


def _pads_by_copies(operator: Operator) -> bool:
    return operator.kind == "pad" and operator.attributes.get("mode", "constant") != "constant"


def _is_recurrent(operator: Operator) -> bool:
    return operator.kind in _RECURRENT


def _is_dilated(operator: Operator) -> bool:
    return operator.kind.startswith("conv") and max(operator.attributes.get("dilations") or (1,)) > 1


def _is_wide(operator: Operator) -> bool:
    return operator.kind.startswith("conv") and max(operator.inputs[1].shape[2:], default=1) > _WIDEST_KERNEL


_RESAMPLE: Final = DelegationRule(
    name="resample",
    text="sampling at computed places (grid_sample) runs on the CPU",
    source="https://github.com/apple/coremltools/issues/1875",
    firmness=Firmness.OBSERVED,
    applies=_resamples,
)

_RECURRENT_LAYERS: Final = DelegationRule(
    name="recurrent layers",
    text="recurrent layers run on the CPU",
    source="https://github.com/apple/coremltools/issues/337",
    firmness=Firmness.OBSERVED,
    applies=_is_recurrent,
)

NEURAL_ENGINE: Final = (
    DelegationRule(
        name="float32",
        text="the Neural Engine computes in float16; what reads or makes float32 runs on the CPU or the GPU",
        source=f"{_GUIDE}/typed-execution.html; https://github.com/apple/coremltools/issues/1304",
        firmness=Firmness.DOCUMENTED,
        applies=_has_float32,
    ),
    DelegationRule(
        name=FLEXIBLE,
        text="with a range of input sizes only the default one runs on the Neural Engine; enumerated sizes all may",
        source=f"https://developer.apple.com/forums/thread/724930; {_GUIDE}/flexible-inputs.html",
        firmness=Firmness.DOCUMENTED,
        applies=_is_flexible,
    ),
    DelegationRule(
        name="gather",
        text="reading at computed places runs on the CPU",
        source=_COMPUTE_PLAN,
        firmness=Firmness.OBSERVED,
        applies=_gathers,
    ),
    DelegationRule(
        name="padding by copies",
        text="padding by reflection or by the edge runs on the CPU",
        source=f"{_COMPUTE_PLAN}: MelSpectrogram, pad",
        firmness=Firmness.OBSERVED,
        applies=_pads_by_copies,
    ),
    _RESAMPLE,
    _RECURRENT_LAYERS,
    DelegationRule(
        name="integers",
        text="values that are integers are said to leave the Neural Engine, int8 between quantize and dequantize aside",
        source="https://github.com/pytorch/executorch/pull/19252 (a plan with casts and gathers outside of it)",
        firmness=Firmness.REPORTED,
        applies=_has_integers,
    ),
    DelegationRule(
        name="dilation",
        text="dilated convolutions are reported to leave the Neural Engine; newer reports call them native",
        source=(
            "https://github.com/hollance/neural-engine/blob/master/docs/unsupported-layers.md (leaves); "
            "https://ane-guide.readthedocs.io, chapter 4 (native)"
        ),
        firmness=Firmness.REPORTED,
        applies=_is_dilated,
    ),
    DelegationRule(
        name="kernels wider than 13",
        text="convolutions with kernels wider than 13 are reported to leave the Neural Engine",
        source="https://ane-guide.readthedocs.io, chapter 17",
        firmness=Firmness.REPORTED,
        applies=_is_wide,
    ),
)

GPU: Final = (
    _RESAMPLE,
    _RECURRENT_LAYERS,
)
"""The GPU computes in float16 and float32; beyond these two nothing is published that it leaves."""
