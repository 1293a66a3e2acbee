"""The multiscale stage by itself: the form that fusion chooses beside every other form, and beside no fusion at all.

    python benchmarks/fusion_forms.py [--students lspd-s,lspd-m] [--parts branches,blocks] [--rounds 15]

A student's multiscale blocks, or their branches alone, stand between a 1x1 stem and a 1x1 head, whose own time is
subtracted. The forms: every branch and norm as trained (float32 only, the runtimes fold what they can), every way to
share the branches out among merged kernels (norms folded), and what ``fuse`` makes for the target. Each is emitted and
timed as in ``fusion_cost.py``: in turns, one thread, CPU time. ``lspd-m`` has random weights; that changes no time.
"""

import argparse
import copy
import sys
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Final

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from benchmarks.fusion_cost import PRECISIONS, RUNTIMES, timed
from benchmarks.fusion_layers import Case, Framed
from benchmarks.whole_networks import network_named, norm_as_conv
from lspdmobile.fusion import fuse
from lspdmobile.fusion.linear import conv_of, linear_of_conv
from lspdmobile.fusion.planner import described, partitions
from lspdmobile.fusion.rewrites.branch_sum import merged
from lspdmobile.fusion.targets import target_named
from lspdmobile.networks.blocks import ConvNormAct, LinearBranches

AS_TRAINED: Final = "as trained"
CHOSEN: Final = "chosen for "


class Sum(nn.Module):
    """Layers of one input, summed."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to the same shape."""
        total: Tensor = self.layers[0](x)
        for layer in list(self.layers)[1:]:
            total = total + layer(x)
        return total


def stage_of(name: str, part: str) -> tuple[nn.Module, int, int]:
    """Give a student's multiscale blocks or their branches, the channels and the side of the picture they work on."""
    network: Any
    network, size = network_named(name)
    shapes: list[torch.Size] = []
    hook = network.stage.blocks.register_forward_pre_hook(lambda _, given: shapes.append(given[0].shape))
    with torch.no_grad():
        network(torch.zeros(1, 3, *size))
    hook.remove()
    blocks, side = network.stage.blocks, shapes[0][2]
    if part == "blocks":
        return blocks, shapes[0][1], side
    branches = [layer for block in blocks for layer in (block.multiscale, block.mid_act)]
    return nn.Sequential(*branches), blocks[0].project.conv.in_channels, side


def branch_convs(branches: LinearBranches) -> list[nn.Conv2d]:
    """Write every branch as one convolution; the identity is a 1x1."""
    convs = []
    for branch in branches.branches:
        if isinstance(branch, ConvNormAct):
            assert isinstance(branch.norm, nn.BatchNorm2d)
            convs.append(fuse_conv_bn_eval(branch.conv, branch.norm))
        else:
            assert isinstance(branch, nn.BatchNorm2d)
            convs.append(norm_as_conv(branch))
    return convs


def with_form(blocks: nn.Module, partition: list[tuple[int, ...]]) -> tuple[str, nn.Module]:
    """Fold every norm and merge the branches of each multiscale block by a partition; gives its kernels in words."""
    blocks, words = copy.deepcopy(blocks), ""
    with torch.no_grad():
        for module in list(blocks.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, LinearBranches):
                    linears = [linear_of_conv(conv) for conv in branch_convs(child)]
                    sums = [merged([linears[index] for index in part]) for part in partition]
                    words = " + ".join(sorted(described(each).removesuffix(" depthwise") for each in sums))
                    setattr(module, name, Sum([conv_of(each).float() for each in sums]))
        for module in list(blocks.modules()):
            if isinstance(module, ConvNormAct) and isinstance(module.norm, nn.BatchNorm2d):
                module.conv, module.norm = fuse_conv_bn_eval(module.conv, module.norm), nn.Identity()
    return words, blocks.eval()


def forms_of(blocks: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Give the stage in every form; partitions that give the same kernels only once."""
    branches = next(module for module in blocks.modules() if isinstance(module, LinearBranches))
    terms = [(index,) for index in range(len(branches.branches))]
    seen = set()
    for partition in partitions(terms):
        words, form = with_form(blocks, partition)
        if words not in seen:
            seen.add(words)
            yield words, form


def cases_of(student: str, part: str) -> list[Case]:
    """Give every form of a part of a student's stage as something to time."""
    blocks, channels, side = stage_of(student, part)
    numbers = count()

    def case(name: str, network: Callable[[], nn.Module], **fields: Any) -> Case:
        return Case(
            name=name,
            ops=(),
            count=1,
            size=(side, side),
            key=f"{student} {next(numbers)} {name}",
            network=network,
            reference_key=f"frame {channels} {side}",
            reference=lambda: Framed(channels, []),
            **fields,
        )

    def framed(stage: nn.Module) -> Callable[[], nn.Module]:
        return lambda: Framed(channels, [stage])

    cases = [case(AS_TRAINED, framed(blocks), dtypes=("fp32",))]
    cases += [case(words, framed(form)) for words, form in forms_of(blocks)]
    for target in RUNTIMES:
        for dtype in PRECISIONS:
            network = fuse(
                Framed(channels, [blocks]).eval(), input_size=(side, side), target=target_named(target), dtype=dtype
            ).network
            cases.append(
                case(f"{CHOSEN}{target} {dtype}", lambda made=network: made, targets=(target,), dtypes=(dtype,))
            )
    return cases


def show(title: str, cases: list[Case], rounds: int) -> None:
    """Time forms and print them: microseconds, and how the chosen one stands beside the others."""
    times = timed(cases, rounds)
    columns = [(target, dtype) for target in RUNTIMES for dtype in PRECISIONS]
    table = Table(box=box.SIMPLE_HEAD, title=f"{title}: microseconds", title_justify="left")
    table.add_column("form")
    for target, dtype in columns:
        table.add_column(f"{target.split('-')[0]} {dtype}", justify="right")
    forms = [number for number, case in enumerate(cases) if not case.name.startswith(CHOSEN)]
    for number in forms:
        cells = (times.get((*column, number)) for column in columns)
        table.add_row(cases[number].name, *("-" if found is None else f"{found:.0f}" for found in cells))
    table.add_section()
    rows: dict[str, list[str]] = {"chosen": [], "apart / chosen": [], "best of all forms / chosen": []}
    names = [case.name for case in cases]
    apart = max(forms[1:], key=lambda number: names[number].count("+"))
    for target, dtype in columns:
        chosen = times[target, dtype, names.index(f"{CHOSEN}{target} {dtype}")]
        kept = times.get((target, dtype, 0), times[target, dtype, apart])
        best = min(times[target, dtype, number] for number in forms[1:])
        texts = f"{chosen:.0f}", f"{kept / chosen:.2f}", f"{best / chosen:.2f}"
        for row, text in zip(rows.values(), texts, strict=True):
            row.append(text)
    for name, cells in rows.items():
        table.add_row(name, *cells)
    Console(width=120).print(table)
    print(f"apart: every branch kept; in float32 {AS_TRAINED}, in int8 {names[apart]}\n")


def main() -> int:
    """Measure; gives the exit code."""
    parser = argparse.ArgumentParser(description="The multiscale stage in every form.")
    parser.add_argument("--students", default="lspd-s,lspd-m")
    parser.add_argument("--parts", default="branches,blocks", help="summed branches alone, whole multiscale blocks")
    parser.add_argument("--rounds", type=int, default=15, help="turns each executor takes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for student in options.students.split(","):
        for part in options.parts.split(","):
            show(f"{student}, {part}", cases_of(student, part), options.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
