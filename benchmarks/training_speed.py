"""How many pictures a second each training network learns, with PyTorch's depthwise gradients and with ours.

    python benchmarks/training_speed.py [--sizes 128,192] [--arms lspd,okdhp] [--rounds 3] [--threads 1] [--json]

Times forward pass, loss and backward pass of a batch of 32 (bfloat16 autocast, channels last) for arms of
benchmarks/distillation.toml, both ways in turns, and takes the fastest of the rounds. With one thread it is CPU time
that is taken, which what else the machine does hardly changes; with several it is wall time, for an idle machine alone.
"""

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

from rich import box
from rich.table import Table

from benchmarks.trials.arms import Arm, read_arms
from harness import printed

FILE: Final = Path(__file__).parent / "distillation.toml"
ARMS: Final = "lspd,lspd-chain,okdhp,okdhp-released,ldcrn,hourglass,hourglass-released"
BATCH: Final = 32


def step_of(arm: Arm, size: int, *, fast: bool) -> Callable[[], object]:
    """Give a step without augmentation and optimizer: heatmaps, loss and gradients."""
    import torch

    from lspdmobile.train.depthwise import FastDepthwise
    from lspdmobile.train.losses import Target, Targets
    from lspdmobile.train.recipes import RECIPES, network_config

    recipe, config = RECIPES[arm.config.recipe], network_config(arm.config)
    network = recipe.training_network(config).train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    inputs = torch.randn(BATCH, 3, size, size).contiguous(memory_format=torch.channels_last)
    cells = size // config.heatmap_stride
    joints = torch.ones(BATCH, config.keypoints)
    targets = Targets(labels=Target(heatmaps=torch.rand(BATCH, config.keypoints, cells, cells), joints=joints))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16), FastDepthwise() if fast else nullcontext():
            outputs = network(inputs)
        network.zero_grad()
        recipe.loss(outputs, targets, arm.config.distill, ramp=1.0).backward()  # type: ignore[no-untyped-call]

    return step


def measured(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time every arm at every size; gives a row each."""
    import torch

    torch.set_num_threads(options.threads)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    arms = read_arms(FILE)
    rows: list[dict[str, Any]] = []
    for name in options.arms.split(","):
        for size in map(int, options.sizes.split(",")):
            steps = {way: step_of(arms[name], size, fast=way == "ours") for way in ("PyTorch's", "ours")}
            best = dict.fromkeys(steps, float("inf"))
            for _ in range(1 + options.rounds):
                for way, step in steps.items():
                    started = clock()
                    step()
                    best[way] = min(best[way], clock() - started)
            speeds = {way: round(BATCH / seconds, 1) for way, seconds in best.items()}
            rows.append({"arm": name, "size": size, "threads": options.threads, **speeds})
    return rows


def table_of(rows: list[dict[str, Any]]) -> Table:
    """Lay the rows out, pictures a second."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("arm")
    for column in ("size", "PyTorch's", "ours", "ratio"):
        table.add_column(column, justify="right")
    for row in rows:
        before, after = row["PyTorch's"], row["ours"]
        table.add_row(row["arm"], str(row["size"]), f"{before:.0f}", f"{after:.0f}", f"{after / before:.2f}")
    return table


def main() -> int:
    """Measure and print; gives the exit code."""
    parser = argparse.ArgumentParser(description="Pictures a second of training.")
    parser.add_argument("--arms", default=ARMS, help="comma list of arms of benchmarks/distillation.toml")
    parser.add_argument("--sizes", default="128,192", help="comma list of pixels, multiples of 64")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return printed(parser.parse_args(), measured, table_of)[1]


if __name__ == "__main__":
    sys.exit(main())
