"""What a network costs: parameters, and plain multiply-accumulates of its convolutions and matrix products.

One MAC is one multiplication with its addition; a bias is not counted. From shapes alone::

    convolution             numel(output) * C_in / groups * k_y * k_x
    transposed convolution  numel(input) * C_out / groups * k_y * k_x
    matrix product          rows * inner * columns

The network runs once on the meta device, where tensors have shapes and no values, under a dispatch mode that sees every
operator, functional ones too. Operators that are not counted are part of the answer.
"""

import copy
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["Cost", "cost_of", "dtype_of", "macs_of", "params_of"]

_TRANSPOSED: Final = 6  # position of that flag among the arguments of aten::convolution


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Parameters and MACs of one pass over one picture.

    Attributes:
        params: Learnt numbers, each counted once; running statistics are not parameters.
        macs: Plain multiply-accumulates.
        uncounted_ops: Operator name to how often it ran without being counted.
    """

    params: int
    macs: int
    uncounted_ops: Mapping[str, int]


def cost_of(network: nn.Module, input_size: tuple[int, int], *, in_channels: int = 3) -> Cost:
    """Count one pass over a picture ``[1, in_channels, H, W]``; the network is not touched."""
    on_meta = copy.deepcopy(network).to("meta").eval()
    with torch.no_grad(), _Counting() as counting:  # type: ignore[no-untyped-call]  # torch leaves it untyped
        on_meta(torch.empty(1, in_channels, *input_size, device="meta", dtype=dtype_of(network)))
    return Cost(params=params_of(network), macs=counting.macs, uncounted_ops=dict(sorted(counting.uncounted.items())))


def macs_of(network: nn.Module, input_size: tuple[int, int], *, in_channels: int = 3) -> int:
    """Count the multiply-accumulates of one pass over a picture ``[1, in_channels, H, W]``."""
    return cost_of(network, input_size, in_channels=in_channels).macs


def params_of(network: nn.Module) -> int:
    """Count the parameters, each tensor once."""
    return sum(parameter.numel() for parameter in network.parameters())


class _Counting(TorchDispatchMode):
    macs = 0

    @cached_property
    def uncounted(self) -> Counter[str]:
        return Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        macs = _macs(name, args, out)
        if macs is not None:
            self.macs += macs
        elif not func.is_view and name != "empty":
            self.uncounted[name] += 1
        return out


def _macs(name: str, args: tuple[Any, ...], out: Any) -> int | None:
    """Count one operator; None for those that are not counted."""
    match name:
        case "convolution":
            picture: Tensor = args[0]
            weight: Tensor = args[1]
            return (picture if args[_TRANSPOSED] else out).numel() * prod(weight.shape[1:])
        case "mm" | "bmm":
            return int(out.numel() * args[0].shape[-1])
        case "addmm":
            return int(out.numel() * args[1].shape[-1])
        case _:
            return None


def dtype_of(network: nn.Module) -> torch.dtype:
    """Give the float type a network computes in: that of its first float parameter, float32 where it has none."""
    return next((p.dtype for p in network.parameters() if p.is_floating_point()), torch.float32)
