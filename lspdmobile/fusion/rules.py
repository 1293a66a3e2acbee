"""Rules of the targets: which operators stay on a runtime's fast path, and what becomes of those that do not.

A :class:`Rule` is read by people (text, source, how it was checked; ``docs/fusion_targets.md`` shows them) and applied
by the cost model: it recognises the operators it is about, and its effect says how they run instead.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from typing import Final

from lspdmobile.fusion.kernel_costs import Features, Kind, features_of, kind_of
from lspdmobile.fusion.operations import AffineOp, ConvOp, Dtype, Op

__all__ = ["COREML_ANE", "COREML_CPU", "EXECUTORCH", "LITERT", "XNNPACK", "Effect", "Rule", "Step", "steps_of"]


class Effect(StrEnum):
    """What a rule means for the operators it is about."""

    FREE = "stays fast"
    SLOW_KERNEL = "slow kernel"
    EXTRA_OPERATOR = "one more operator"
    FALLBACK = "leaves the fast path"
    REFUSED = "cannot be emitted"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule of a target.

    Attributes:
        name: A few words, unique within a target.
        text: What the runtime does, for people.
        source: Where that is written: page, source file, or the command that measures it.
        checked: Whether it was tried with the real runtime here, and how.
        effect: What it means.
        applies: Tells whether an operator in a dtype is one the rule is about.
        runs_as: Kernel such operators take instead of the one of their shape; None where it is that one.
    """

    name: str
    text: str
    source: str
    checked: str
    effect: Effect
    applies: Callable[[Op, Dtype], bool]
    runs_as: Kind | None = None


@dataclass(frozen=True, kw_only=True)
class Step:
    """One kernel that runs for an operator."""

    kind: Kind
    features: Features


def steps_of(op: Op, dtype: Dtype, rules: Sequence[Rule]) -> tuple[Step, ...] | None:
    """Give the kernels that run for an operator under a target's rules, its own first; None where it is refused."""
    kind = kind_of(op)
    extra: tuple[Step, ...] = ()
    for rule in (each for each in rules if each.applies(op, dtype)):
        match rule.effect:
            case Effect.REFUSED:
                return None
            case Effect.EXTRA_OPERATOR:
                extra = (Step(kind=rule.runs_as or Kind.PAD, features=_padded(op)),)
            case Effect.SLOW_KERNEL | Effect.FALLBACK | Effect.FREE:
                kind = rule.runs_as or kind
    return (Step(kind=kind, features=features_of(op)), *extra)


def _padded(op: Op) -> Features:
    """Count what a separate pad writes."""
    assert isinstance(op, ConvOp)
    rows = op.in_size[0] + op.padding[0] + op.padding[1]
    columns = op.in_size[1] + op.padding[2] + op.padding[3]
    return Features(pixels=rows * columns, elements=op.in_channels * rows * columns, macs=0)


_LARGEST_TILE: Final = 25
_ANE_WIDEST_KERNEL: Final = 13
_PROBED: Final = "tests/lspdmobile/fusion/test_rules_hold.py emits such layers and reads the files back"
_TIMED: Final = "timed by benchmarks/fusion_cost.py"
_PUBLISHED: Final = "published; not checked here"


def _beyond_tiles(op: Op, dtype: Dtype) -> bool:  # noqa: ARG001
    return isinstance(op, ConvOp) and op.is_depthwise and op.taps > _LARGEST_TILE


def _multiplies(op: Op, dtype: Dtype) -> bool:  # noqa: ARG001
    return isinstance(op, ConvOp) and op.in_channels == op.groups < op.out_channels


def _dilated(op: Op, dtype: Dtype) -> bool:  # noqa: ARG001
    return isinstance(op, ConvOp) and max(op.dilation) > 1 and op.taps > 1


def _not_tensorflow_padding(op: Op, dtype: Dtype) -> bool:  # noqa: ARG001
    """Tell whether the padding is neither none (VALID) nor what TensorFlow calls SAME, behind more than before."""
    if not isinstance(op, ConvOp) or not any(op.padding):
        return False
    same: list[int] = []
    for size, kernel, dilation, stride in zip(op.in_size, op.kernel, op.dilation, op.stride, strict=True):
        total = max((ceil(size / stride) - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
        same += [total // 2, total - total // 2]
    return op.padding != tuple(same)


def _asymmetric(op: Op, dtype: Dtype) -> bool:  # noqa: ARG001
    return isinstance(op, ConvOp) and (op.padding[0] != op.padding[1] or op.padding[2] != op.padding[3])


def _affine_float(op: Op, dtype: Dtype) -> bool:
    return isinstance(op, AffineOp) and dtype == "fp32"


def _affine_integer(op: Op, dtype: Dtype) -> bool:
    return isinstance(op, AffineOp) and dtype == "int8"


def _wide(op: Op, dtype: Dtype) -> bool:  # noqa: ARG001
    return isinstance(op, ConvOp) and max(op.kernel) > _ANE_WIDEST_KERNEL


def _integer(op: Op, dtype: Dtype) -> bool:  # noqa: ARG001
    return dtype == "int8"


XNNPACK: Final[tuple[Rule, ...]] = (
    Rule(
        name="depthwise of more than 25 taps",
        text=(
            "Depthwise kernels exist for 3, 4, 9 and 25 taps, whatever their shape (5x5 and 1x25 alike; fewer taps use "
            "the next tile). A kernel of more taps, such as 7x7, is still delegated, but runs as a convolution in as "
            "many groups as channels, one channel at a time."
        ),
        source=(
            "XNNPACK src/configs/dwconv-config.c (primary_tile) and src/operators/convolution-nhwc.c "
            "(find_dwconv_ukernel, else igemm); multipass kernels are a build option the released runtimes do without"
        ),
        checked=f"{_PROBED} (delegated); {_TIMED} (5x5, 7x7, 9x9, 11x11)",
        effect=Effect.SLOW_KERNEL,
        applies=_beyond_tiles,
        runs_as=Kind.DEPTHWISE_LARGE,
    ),
    Rule(
        name="depthwise with a channel multiplier",
        text=(
            "Depthwise kernels give one output channel per input channel. With more it is delegated as a grouped "
            "convolution, one input channel at a time, as slow as a kernel of more than 25 taps."
        ),
        source="XNNPACK src/operators/convolution-nhwc.c (depthwise needs one output channel per group)",
        checked=f"{_PROBED} (delegated); {_TIMED} (multiplier 2)",
        effect=Effect.SLOW_KERNEL,
        applies=_multiplies,
        runs_as=Kind.DEPTHWISE_LARGE,
    ),
    Rule(
        name="dilation",
        text="Dilated convolutions run through the same kernels: a table of pointers says where each tap lies.",
        source="M. Dukhan, The Indirect Convolution Algorithm, arXiv 1907.02129, section 3",
        checked=f"{_PROBED} (delegated); {_TIMED} (dilation 1 to 4)",
        effect=Effect.FREE,
        applies=_dilated,
    ),
)
"""Rules of XNNPACK's kernels, in whatever runtime."""

LITERT: Final[tuple[Rule, ...]] = (
    *XNNPACK,
    Rule(
        name="padding that TensorFlow has no word for",
        text=(
            "TFLite convolutions know no padding (VALID) and SAME, which at stride 2 and even sizes pads behind only. "
            "Any other padding, PyTorch's padding=1 at stride 2 too, becomes a PAD in front; it is delegated."
        ),
        source="TFLite schema (enum Padding); TensorFlow's tf.nn documentation, notes on padding",
        checked=_PROBED,
        effect=Effect.EXTRA_OPERATOR,
        applies=_not_tensorflow_padding,
    ),
)

EXECUTORCH: Final[tuple[Rule, ...]] = (
    *XNNPACK,
    Rule(
        name="asymmetric padding",
        text=(
            "aten.convolution pads both sides alike; other padding is a constant pad in front, which is delegated. In "
            "int8 the pad has no integer form and may run in float between two conversions."
        ),
        source=(
            "ExecuTorch backends/xnnpack/partition/config: ConstantPadConfig (FP32 only), "
            "ConvolutionConfig._get_act_deps"
        ),
        checked=_PROBED,
        effect=Effect.EXTRA_OPERATOR,
        applies=_asymmetric,
    ),
    Rule(
        name="batch norm by itself",
        text="A batch norm that was not folded becomes a depthwise 1x1 convolution.",
        source="ExecuTorch backends/xnnpack/_passes/decompose_batch_norm.py",
        checked=_PROBED,
        effect=Effect.FREE,
        applies=_affine_float,
        runs_as=Kind.DEPTHWISE_1,
    ),
    Rule(
        name="batch norm by itself in int8",
        text="int8 programs are made from folded networks only: a norm would be folded behind the calibrated ranges.",
        source="quantization/graph.py (_refuse_batch_norm)",
        checked="tests/quantization/test_graph.py",
        effect=Effect.REFUSED,
        applies=_affine_integer,
    ),
)

COREML_ANE: Final[tuple[Rule, ...]] = (
    Rule(
        name="dilation",
        text=(
            "Dilated convolutions are reported to leave the Neural Engine; newer reports call them native. Treated as "
            "leaving it, so that an undilated form of the same size is preferred."
        ),
        source=(
            "github.com/hollance/neural-engine docs/unsupported-layers.md (leaves); "
            "ane-guide.readthedocs.io, chapter 4 (native)"
        ),
        checked=_PUBLISHED,
        effect=Effect.FALLBACK,
        applies=_dilated,
        runs_as=Kind.FALLBACK,
    ),
    Rule(
        name="kernels wider than 13",
        text="Convolution kernels are at most 13 wide; a wider one is computed elsewhere.",
        source="ane-guide.readthedocs.io, chapter 17 (model-design rules)",
        checked=_PUBLISHED,
        effect=Effect.FALLBACK,
        applies=_wide,
        runs_as=Kind.FALLBACK,
    ),
    Rule(
        name="int8 arithmetic",
        text="W8A8 computes in int8 on A17 Pro, M4 and newer; older engines store int8 and compute in float16.",
        source="coremltools guide, opt-quantization-perf",
        checked=_PUBLISHED,
        effect=Effect.FREE,
        applies=_integer,
    ),
)

COREML_CPU: Final[tuple[Rule, ...]] = (
    Rule(
        name="int8 activations",
        text="The CPU computes in float: int8 activations are expanded at run time, which can slow a network down.",
        source="coremltools guide, opt-quantization-perf",
        checked=_PUBLISHED,
        effect=Effect.SLOW_KERNEL,
        applies=_integer,
    ),
)
