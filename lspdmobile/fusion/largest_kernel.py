"""What any cost model is asked, and the rule without a target: no depthwise kernel over a largest side."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Final, Protocol

from lspdmobile.fusion.operations import ConvOp, Dtype, Op

__all__ = ["LARGEST_KERNEL", "CostModel", "LargestKernel"]

LARGEST_KERNEL: Final = 5
_INT8_SHARE: Final = 0.25


class CostModel(Protocol):
    """What a target says about operators."""

    @property
    def name(self) -> str:
        """Name of the target."""
        ...

    def cost(self, ops: Sequence[Op], dtype: Dtype) -> float:
        """Give the microseconds that operators take for one picture, one after the other."""
        ...


@dataclass(frozen=True, kw_only=True)
class LargestKernel:
    """Arithmetic, memory traffic, and no depthwise kernel over ``side``.

    Its constants are ratios, not measurements: what decides is that a pass over memory costs as much as a few
    multiply-accumulates per value, so that merging small kernels pays, and that a depthwise kernel over ``side`` loses
    the fast path of one runtime (a 7x7 there costs more than ten times the branches it replaces).
    """

    side: int = LARGEST_KERNEL
    us_per_mac: float = 1e-4
    us_per_value: float = 4e-4
    us_per_operator: float = 5.0
    slowdown: float = 20.0

    @property
    def name(self) -> str:
        """Name of the rule."""
        return f"largest depthwise kernel {self.side}"

    def cost(self, ops: Sequence[Op], dtype: Dtype) -> float:
        """Give microseconds on no machine in particular; int8 values are a quarter as wide."""
        share = _INT8_SHARE if dtype == "int8" else 1.0
        return sum(share * self._work(op) + self.us_per_operator for op in ops)

    def _work(self, op: Op) -> float:
        if not isinstance(op, ConvOp):
            return self.us_per_value * 3 * op.channels * prod(op.size)
        values = op.in_channels * prod(op.in_size) + op.out_channels * prod(op.out_size)
        slow = op.is_depthwise and max(op.kernel) > self.side
        return op.macs * self.us_per_mac * (self.slowdown if slow else 1.0) + values * self.us_per_value
