"""What fusion saves at conversion: seconds and nodes of lowering to ExecuTorch, fused beside unfused.

    python benchmarks/lowering_time.py [--students lspd-s,lspd-m,okdhp-s,ldcrn-s] [--rounds 3]
    python benchmarks/lowering_time.py --phases [--students lspd-s]

Unfused is what ``whole_networks.unfused`` gives, fused what ``fuse`` gives for ExecuTorch. Every round quantizes (int8
alone), exports and lowers each of them, fused and unfused in turns, by the code of the emitter; a round's seconds are
CPU time of one thread, and the median over the rounds counts. Nodes are the operators of the exported program that is
lowered, which for int8 include quantize and dequantize. ``fuse`` itself, done once for all precisions, is apart.

``--phases`` says instead where the time of lowering the fused network goes, as ExecuTorch lowers it and as the emitter
does. A phase is without those inside it; finding out takes time of its own.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Final, TypeVar

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.export import ExportedProgram

from benchmarks.fusion_cost import PRECISIONS, progress
from benchmarks.lowering_phases import phases_of
from benchmarks.whole_networks import STUDENTS, network_named, unfused
from converters.executorch.lowering import lower
from lspdmobile.fusion import fuse
from lspdmobile.fusion.operations import Dtype
from lspdmobile.fusion.targets import target_named
from quantization.calibrate import calibrate
from quantization.graph import quantized_module
from quantization.plan import QuantizationPlan

__all__ = ["Lowering", "compared", "phases"]

FORMS: Final = ("unfused", "fused")

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Lowering:
    """One network in one number type: operators to lower, and median seconds to export and to lower them."""

    nodes: int
    export_seconds: float
    lower_seconds: float


def compared(network: nn.Module, size: tuple[int, int], dtype: Dtype, rounds: int) -> tuple[float, dict[str, Lowering]]:
    """Give the seconds of fusing, and what lowering takes fused and unfused."""
    seconds, fused = _timed(
        lambda: fuse(network, input_size=size, target=target_named("executorch-xnnpack"), dtype=dtype).network
    )
    picture = np.random.default_rng(0).standard_normal((1, 3, *size)).astype(np.float32)
    networks = dict(zip(FORMS, (unfused(network, dtype), fused), strict=True))
    plans = {form: calibrate(each, picture, precision=PRECISIONS[dtype]) for form, each in networks.items()}
    lower(torch.export.export(nn.ReLU(), (torch.zeros(1, 3, *size),)), {})  # loads packages
    times: dict[str, list[tuple[float, float]]] = {form: [] for form in FORMS}
    nodes = {}
    for number in range(rounds):
        for form, each in networks.items():
            progress(f"{dtype}, round {number + 1}/{rounds}: {form}")
            export_seconds, program = _timed(partial(_exported, each, plans[form], size, dtype))
            nodes[form] = sum(node.op == "call_function" for node in program.graph.nodes)
            lower_seconds, _ = _timed(partial(lower, program, {}))
            times[form].append((export_seconds, lower_seconds))
    progress("")
    return seconds, {
        form: Lowering(
            nodes=nodes[form],
            export_seconds=median(first for first, _ in times[form]),
            lower_seconds=median(second for _, second in times[form]),
        )
        for form in FORMS
    }


def phases(network: nn.Module, size: tuple[int, int], dtype: Dtype) -> Table:
    """Lower a network's fused form twice, and lay out where the time went."""
    fused = fuse(network, input_size=size, target=target_named("executorch-xnnpack"), dtype=dtype).network
    picture = np.random.default_rng(0).standard_normal((1, 3, *size)).astype(np.float32)
    plan = calibrate(fused, picture, precision=PRECISIONS[dtype])
    lower(torch.export.export(nn.ReLU(), (torch.zeros(1, 3, *size),)), {}, keep_all_passes=True)  # loads packages
    whole, lean = (phases_of(_exported(fused, plan, size, dtype), keep_all_passes=each) for each in (True, False))
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("phase", "stock, s", "share", "times", "ours, s", "share", "times"):
        table.add_column(column, justify="left" if column == "phase" else "right")
    totals = [sum(each.seconds.values()) for each in (whole, lean)]
    for name in sorted(whole.seconds, key=whole.seconds.__getitem__, reverse=True):
        cells = (
            (f"{each.seconds[name]:.2f}", f"{each.seconds[name] / total:.0%}", str(each.calls[name]))
            for each, total in zip((whole, lean), totals, strict=True)
        )
        table.add_row(name, *(cell for row in cells for cell in row))
    table.add_section()
    table.add_row("total", *(cell for total in totals for cell in (f"{total:.2f}", "", "")))
    return table


def _exported(network: nn.Module, plan: QuantizationPlan, size: tuple[int, int], dtype: Dtype) -> ExportedProgram:
    if dtype == "int8":
        network = quantized_module(network, plan, size)
    with torch.no_grad():
        return torch.export.export(network, (torch.zeros(1, 3, *size),))


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    started = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = work()
    return time.process_time() - started, found


def main() -> int:
    """Measure and print; gives the exit code."""
    parser = argparse.ArgumentParser(description="Seconds and nodes of lowering to ExecuTorch, fused and unfused.")
    parser.add_argument("--students", default=",".join(STUDENTS))
    parser.add_argument("--rounds", type=int, default=3, help="times each program is exported and lowered")
    parser.add_argument("--phases", action="store_true", help="where the time of lowering the fused network goes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.phases:
        for name in options.students.split(","):
            for dtype in PRECISIONS:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    laid_out = phases(*network_named(name), dtype)
                laid_out.title, laid_out.title_justify = f"lowering {name} {dtype} to ExecuTorch, CPU seconds", "left"
                Console(width=120).print(laid_out)
        return 0
    table = Table(box=box.SIMPLE_HEAD, title="lowering to ExecuTorch: unfused, fused (ratio)", title_justify="left")
    for column in ("network", "type", "nodes", "export, s", "lower, s", "both", "fuse, s"):
        table.add_column(column, justify="left" if column in ("network", "type") else "right")
    for name in options.students.split(","):
        for dtype in PRECISIONS:
            seconds, found = compared(*network_named(name), dtype, options.rounds)
            kept, own = (found[form] for form in FORMS)
            both = (own.export_seconds + own.lower_seconds) / (kept.export_seconds + kept.lower_seconds)
            table.add_row(
                name,
                dtype,
                f"{kept.nodes}, {own.nodes} ({own.nodes / kept.nodes:.2f})",
                *(
                    f"{a:.1f}, {b:.1f} ({b / a:.2f})"
                    for a, b in ((kept.export_seconds, own.export_seconds), (kept.lower_seconds, own.lower_seconds))
                ),
                f"{both:.2f}",
                f"{seconds:.1f}",
            )
    Console(width=140).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
