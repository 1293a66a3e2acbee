"""``quantize`` and ``dequantize`` of activations (iOS 17).

``q = clip(round(x / scale) + zero_point)`` and ``x = scale * (q - zero_point)``; ties round to even. Scale and zero
point are scalars, or vectors along ``axis``.
"""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from converters.coreml.mil.arguments import Arguments, Kernel, Planner

__all__ = ["PLANNERS"]

_LIMITS: Final[Mapping[str, tuple[int, int, torch.dtype]]] = {
    "int8": (-128, 127, torch.int8),
    "uint8": (0, 255, torch.uint8),
}


def _grid(args: Arguments) -> tuple[Tensor, Tensor]:
    """Give scale and zero point, shaped to broadcast against the input."""
    scale = torch.tensor(args.array("scale").astype("float32"))
    zero_point = torch.tensor(args.array("zero_point").astype("float32")) if args.has("zero_point") else scale * 0
    if not bool((scale > 0).all()):
        args.refuse("scale", "is not positive")
    axis = args.axis("axis", args.rank("input")) if args.has("axis") else None
    if scale.dim() > 1 or (scale.dim() == 1 and axis is None) or zero_point.shape != scale.shape:
        shapes = f"{list(scale.shape)} with zero_point {list(zero_point.shape)} and axis {axis}"
        args.refuse("scale", f"of shape {shapes} is not implemented")
    if scale.dim() == 1 and axis is not None:
        shape = [-1 if place == axis else 1 for place in range(args.rank("input"))]
        return scale.reshape(shape), zero_point.reshape(shape)
    return scale, zero_point


def _quantize(args: Arguments) -> Kernel:
    scale, zero_point = _grid(args)
    low, high, dtype = _LIMITS[args.text("output_dtype", tuple(_LIMITS))]
    return args.kernel(lambda x: (x / scale).round_().add_(zero_point).clamp_(low, high).to(dtype), "input")


def _dequantize(args: Arguments) -> Kernel:
    scale, zero_point = _grid(args)
    return args.kernel(lambda q: q.to(torch.float32, copy=True).sub_(zero_point).mul_(scale), "input")


PLANNERS: Final[Mapping[str, Planner]] = {"quantize": _quantize, "dequantize": _dequantize}
