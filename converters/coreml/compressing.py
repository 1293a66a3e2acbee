"""Weights made smaller by Core ML Tools: 8- or 4-bit integers, or palettes of 64 or 16 values.

A palette is a table of float values and, for every weight, the index of one of them. The tables are found by k-means:
one for each layer, or, where iOS 18 is the lowest system, one for every 16 output channels of a layer whose channels
are a multiple of 16.
"""

import warnings
from typing import Any, Final

from lspdmobile.choices import Precision
from quantization.affine import weight_bits

__all__ = ["compressed"]

_GROUP: Final = 16
_NARROW: Final = 4
_GROUPED_PALETTES_SINCE: Final = "iOS18"
_OUTPUTS_FIRST: Final = ("conv", "linear")
"""Operations whose weights have the output channels along the first axis."""


def compressed(tools: Any, model: Any, precision: Precision, target: Any) -> Any:
    """Compress every layer's weights as a precision asks; a model whose precision asks for nothing is given back.

    Args:
        tools: Core ML Tools, with ``optimize.coreml`` imported.
        model: As converted.
        precision: What was asked for.
        target: Core ML Tools' constant of the lowest system.
    """
    optimize = tools.optimize.coreml
    if precision in (Precision.W8, Precision.W4):
        narrow = _narrow(optimize, model) if precision is Precision.W4 else ()
        config = optimize.OptimizationConfig(
            global_config=_integers(optimize, "int8"),
            op_name_configs=dict.fromkeys(narrow, _integers(optimize, "int4")),
        )
        return optimize.linear_quantize_weights(model, config)
    if (bits := precision.palette_bits) is None:
        return model
    grouped = _grouped(optimize, model) if target >= getattr(tools.target, _GROUPED_PALETTES_SINCE) else ()
    config = optimize.OptimizationConfig(
        global_config=optimize.OpPalettizerConfig(mode="kmeans", nbits=bits, weight_threshold=0),
        op_name_configs={
            name: optimize.OpPalettizerConfig(
                mode="kmeans",
                nbits=bits,
                granularity="per_grouped_channel",
                group_size=_GROUP,
                channel_axis=0,
                weight_threshold=0,
            )
            for name in grouped
        },
    )
    return _palettized(optimize, model, config)


def _integers(optimize: Any, dtype: str) -> Any:
    return optimize.OpLinearQuantizerConfig(
        mode="linear_symmetric", dtype=dtype, granularity="per_channel", weight_threshold=0
    )


def _narrow(optimize: Any, model: Any) -> tuple[str, ...]:
    """Name the weights of 4 bits: transposed convolutions have none."""
    return tuple(
        name
        for name, weight in optimize.get_weights_metadata(model, weight_threshold=0).items()
        if weight_bits(Precision.W4, weight.val.shape[1] if weight.val.ndim > 1 else 1) == _NARROW
        and any(child.op_type in _OUTPUTS_FIRST for child in weight.child_ops)
    )


def _grouped(optimize: Any, model: Any) -> tuple[str, ...]:
    """Name the weights whose first axis, the output channels, is several whole groups."""
    return tuple(
        name
        for name, weight in optimize.get_weights_metadata(model, weight_threshold=0).items()
        if any(child.op_type in _OUTPUTS_FIRST for child in weight.child_ops) and weight.val.shape[0] % _GROUP == 0
    )


def _palettized(optimize: Any, model: Any, config: Any) -> Any:
    """Palettize in one thread: the partial sums of several add up in no fixed order."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a layer of fewer weights than the table has entries
        return optimize.palettize_weights(model, config)
