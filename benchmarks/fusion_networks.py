"""Whole networks: fused for a target beside what one gets who exports them without fusion.

    python benchmarks/fusion_networks.py [--students lspd-s,lspd-m,okdhp-s,ldcrn-s] [--rounds 31]

Unfused is what ``whole_networks.unfused`` gives: every branch kept, norms folded as the converters do it by themselves.
Fused is what ``fuse`` gives for the target and number type. All files of a network are emitted first; then they take
turns, each turn the fastest of three calls, one thread, CPU time. The ratio is the median over the rounds of fused over
unfused in the same round, in brackets the 95 % interval of that median; exits with 1 where a whole interval lies above
1, so that fusion made a network slower. Only ``lspd-s`` is trained; random weights change no time.
"""

import argparse
import sys
from dataclasses import dataclass
from functools import partial
from math import ceil, sqrt
from statistics import median
from typing import Final, Self

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks.fusion_cost import PRECISIONS, RUNTIMES, progress, turns
from benchmarks.fusion_layers import Contender
from benchmarks.whole_networks import STUDENTS, network_named, unfused
from lspdmobile.fusion import fuse
from lspdmobile.fusion.operations import Dtype
from lspdmobile.fusion.targets import target_named

__all__ = ["Ratio", "contenders_for"]

_Z_95: Final = 1.96


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Median of ratios, and the 95 % interval of the median (order statistics, binomial by its normal limit)."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, over: list[float], under: list[float]) -> Self:
        """Divide the times of one network by those of another, round by round."""
        ratios = sorted(a / b for a, b in zip(over, under, strict=True))
        reach = _Z_95 * sqrt(len(ratios)) / 2
        first = max(ceil(len(ratios) / 2 - reach) - 1, 0)
        return cls(median=median(ratios), low=ratios[first], high=ratios[-1 - first])

    @property
    def is_slower(self) -> bool:
        """Whether noise cannot explain that the ratio is above 1."""
        return self.low > 1.0


def _as_is(network: nn.Module) -> nn.Module:
    return network


def contenders_for(network: nn.Module, size: tuple[int, int]) -> dict[str, Contender]:
    """Give a network unfused and fused for every target and number type."""
    found: dict[str, Contender] = {}
    for dtype in PRECISIONS:
        kept = partial(_as_is, unfused(network, dtype))
        found[f"unfused {dtype}"] = Contender(network=kept, size=size, dtypes=(dtype,))
        for target in RUNTIMES:
            progress(f"fuse for {target} {dtype}")
            fused = fuse(network, input_size=size, target=target_named(target), dtype=dtype).network
            found[f"{target} {dtype}"] = Contender(
                network=partial(_as_is, fused), size=size, targets=(target,), dtypes=(dtype,)
            )
    return found


def measured(network: nn.Module, size: tuple[int, int], rounds: int) -> dict[tuple[str, Dtype], tuple[float, Ratio]]:
    """Give the median microseconds of the fused network and its ratio, by target and number type."""
    times = turns(contenders_for(network, size), rounds)
    found = {}
    for target in RUNTIMES:
        for dtype in PRECISIONS:
            own, other = (times[target, dtype, f"{name} {dtype}"] for name in (target, "unfused"))
            found[target, dtype] = median(own), Ratio.of(own, other)
    return found


def main() -> int:
    """Measure and print; gives the exit code."""
    parser = argparse.ArgumentParser(description="Whole networks, fused and unfused.")
    parser.add_argument("--students", default=",".join(STUDENTS))
    parser.add_argument("--rounds", type=int, default=31, help="turns each file takes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = Table(box=box.SIMPLE_HEAD, title="fused: ms (fused / unfused)", title_justify="left")
    table.add_column("network")
    for target in RUNTIMES:
        for dtype in PRECISIONS:
            table.add_column(f"{target.split('-')[0]} {dtype}", justify="right")
    slower = []
    for name in options.students.split(","):
        found = measured(*network_named(name), options.rounds)
        slower += [f"{name} {target} {dtype}" for (target, dtype), (_, ratio) in found.items() if ratio.is_slower]
        cells = (
            f"{us / 1000:.2f} ({ratio.median:.2f} [{ratio.low:.2f}, {ratio.high:.2f}])" for us, ratio in found.values()
        )
        table.add_row(name, *(cell.replace("[", "\\[") for cell in cells))
    Console(width=160).print(table)
    for case in slower:
        print(f"slower than unfused: {case}")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
