"""Why ExecuTorch's XNNPACK partitioner leaves an operator to the portable kernels: each rule with its source.

Operators are known by ATen's names: ``aten::cumsum.out`` of a file and ``aten.cumsum.default`` of a network that is not
lowered yet are both ``cumsum``. A file does not keep the arguments of a call: there, an operator that is taken under a
condition only is one that broke it.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from converters.traced import ARGUMENTS, base_name
from lspdmobile.delegation import DelegationRule, Firmness
from lspdmobile.operators import Operator

__all__ = ["XNNPACK"]

_SOURCE: Final = "https://github.com/pytorch/executorch/blob/v1.4.1/backends/xnnpack/partition/config"
_NAMES: Final = """
abs add addmm avg_pool2d _native_batch_norm_legit_no_training bmm cat ceil clamp clone constant_pad_nd convolution cos
div elu exp floor gelu hardswish hardtanh leaky_relu linear log max maximum max_pool2d mean minimum mm mul neg permute
pow prelu relu rsqrt sigmoid sin slice _softmax sqrt sub tanh to_dim_order unsqueeze upsample_bilinear2d view
"""
_KNOWN: Final = frozenset(_NAMES.split())
"""The partitioner's own entries, and ELU, which ``converters.executorch.lowering`` adds to them."""


def _is_unknown(operator: Operator) -> bool:
    return base_name(operator.kind) not in _KNOWN


def _has_other_types(operator: Operator) -> bool:
    values = (*operator.computed, *operator.outputs)
    return any(value.dtype not in ("float32", "float16", "int8", "uint8") for value in values)


def _is_stock_elu(operator: Operator) -> bool:
    return base_name(operator.kind) == "elu" and ARGUMENTS not in operator.attributes


def _rounds(operator: Operator) -> bool:
    return base_name(operator.kind) == "div" and "mode" in operator.kind


def _averages_padding(arguments: Mapping[int, Any]) -> bool:
    return bool(arguments.get(4, False) or arguments.get(5, True) or arguments.get(6) is not None)


def _is_not_last(arguments: Mapping[int, Any], rank: int) -> bool:
    return arguments.get(1) not in (-1, rank - 1)


def _is_no_global_mean(arguments: Mapping[int, Any], rank: int) -> bool:
    axes = sorted(axis % rank for axis in arguments.get(1) or ()) if rank else []
    return rank != 4 or axes != [2, 3] or not arguments.get(2, False)


def _is_no_square(arguments: Mapping[int, Any]) -> bool:
    return bool(arguments.get(1) != 2 or not isinstance(arguments.get(1), int))


def _skips(arguments: Mapping[int, Any]) -> bool:
    return bool(arguments.get(4, 1) != 1)


def _crops(arguments: Mapping[int, Any]) -> bool:
    return any(amount < 0 for amount in arguments.get(1) or ())


def _strides_beyond(arguments: Mapping[int, Any]) -> bool:
    kernel, stride = arguments.get(1) or (), arguments.get(2) or arguments.get(1) or ()
    return any(step > size for step, size in zip(stride, kernel, strict=False))


def _is_3d(arguments: Mapping[int, Any]) -> bool:
    return len(arguments.get(3) or ()) > 2


def _condition(base: str, text: str, broken: Callable[[Mapping[int, Any], int], bool]) -> DelegationRule:
    def applies(operator: Operator) -> bool:
        if base_name(operator.kind) != base:
            return False
        arguments = operator.attributes.get(ARGUMENTS)
        rank = len(operator.inputs[0].shape) if operator.inputs else 0
        return arguments is None or broken(arguments, rank)

    return DelegationRule(
        name=f"{base} under a condition",
        text=text,
        source=f"{_SOURCE}/{'gemm_configs.py' if base == 'convolution' else 'generic_node_configs.py'}",
        firmness=Firmness.DOCUMENTED,
        applies=applies,
    )


XNNPACK: Final = (
    DelegationRule(
        name="no such operator",
        text="the XNNPACK partitioner has no entry for this operator",
        source=f"{_SOURCE}/__init__.py",
        firmness=Firmness.DOCUMENTED,
        applies=_is_unknown,
    ),
    DelegationRule(
        name="types",
        text="XNNPACK computes in float and 8-bit integers; other integers and booleans are left",
        source=f"{_SOURCE}/xnnpack_config.py",
        firmness=Firmness.DOCUMENTED,
        applies=_has_other_types,
    ),
    DelegationRule(
        name="ELU",
        text="XNNPACK has ELU, but the partitioner's stock list of 1.4 does not; files made here have it delegated",
        source=f"{_SOURCE}/__init__.py",
        firmness=Firmness.DOCUMENTED,
        applies=_is_stock_elu,
    ),
    DelegationRule(
        name="rounded division",
        text="division is taken without rounding",
        source=f"{_SOURCE}/generic_node_configs.py",
        firmness=Firmness.DOCUMENTED,
        applies=_rounds,
    ),
    _condition(
        "avg_pool2d",
        "average pooling is taken where padding is not averaged, and without ceil_mode and divisor_override",
        lambda arguments, _: _averages_padding(arguments),
    ),
    _condition("_softmax", "softmax is taken along the last axis", _is_not_last),
    _condition("mean", "mean is taken over rows and columns of four axes, with keepdim", _is_no_global_mean),
    _condition("pow", "of powers only the square is taken", lambda arguments, _: _is_no_square(arguments)),
    _condition("slice", "slices are taken with step 1", lambda arguments, _: _skips(arguments)),
    _condition("constant_pad_nd", "padding is taken, cropping is not", lambda arguments, _: _crops(arguments)),
    _condition(
        "max_pool2d", "pooling is taken with strides up to the kernel", lambda arguments, _: _strides_beyond(arguments)
    ),
    _condition("convolution", "convolutions are taken in one and two dimensions", lambda a, _: _is_3d(a)),
)
