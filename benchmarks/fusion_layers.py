"""Networks that hold one kind of layer, for ``fusion_cost.py``.

The layers stand between a 1x1 stem and a 1x1 head, so that every network takes a picture and gives one heatmap, through
the same emitters and executors as a student.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor, nn

from lspdmobile.fusion.operations import AddOp, AffineOp, ConvOp, Dtype, Op

LAYERS: Final = 4
ADDS: Final = (2, 12)
BOTH: Final = ("litert-xnnpack", "executorch-xnnpack")
SHAPES: Final = ((16, 32), (64, 16), (64, 32), (192, 16))


class Framed(nn.Module):
    """1x1 stem with ReLU, the layers, 1x1 head."""

    def __init__(self, channels: int, layers: Sequence[nn.Module], out_channels: int | None = None) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 1)
        self.layers = nn.Sequential(*layers)
        self.head = nn.Conv2d(out_channels or channels, 1, 1)

    def forward(self, picture: Tensor) -> Tensor:
        """Map ``[N, 3, H, W]`` to ``[N, 1, h, w]``."""
        result: Tensor = self.head(self.layers(torch.relu(self.stem(picture))))
        return result


class Additions(nn.Module):
    """Two stems, whose results are added time and again."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, channels, 1), nn.Conv2d(3, channels, 1)
        self.head = nn.Conv2d(channels, 1, 1)
        self.count = count

    def forward(self, picture: Tensor) -> Tensor:
        """Map ``[N, 3, H, W]`` to ``[N, 1, H, W]``."""
        total, other = torch.relu(self.first(picture)), torch.relu(self.second(picture))
        for _ in range(self.count):
            total = total + other
        result: Tensor = self.head(total)
        return result


class Summed(nn.Module):
    """Parallel branches, summed one after the other, then a ReLU."""

    def __init__(self, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to the same shape."""
        total: Tensor = self.branches[0](x)
        for branch in list(self.branches)[1:]:
            total = total + branch(x)
        return torch.relu(total)


@dataclass(frozen=True, kw_only=True)
class Case:
    """Two networks whose difference in time is some layers.

    Attributes:
        name: For the table.
        ops: What one layer (or one block) consists of.
        count: How many of them the network has more than the reference.
        size: Rows and columns of the picture.
        key, network: Name of the network, and what builds it.
        reference_key, reference: The same of the one to subtract.
        targets: Which targets can run it.
        dtypes: What it can be computed in.
    """

    name: str
    ops: tuple[Op, ...]
    count: int
    size: tuple[int, int]
    key: str
    network: Callable[[], nn.Module]
    reference_key: str
    reference: Callable[[], nn.Module]
    targets: tuple[str, ...] = field(default=BOTH)
    dtypes: tuple[Dtype, ...] = ("fp32", "int8")


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A network to time: what builds it, its picture's rows and columns, and where it is to run."""

    network: Callable[[], nn.Module]
    size: tuple[int, int]
    targets: tuple[str, ...] = BOTH
    dtypes: tuple[Dtype, ...] = ("fp32", "int8")


def contenders_of(cases: Sequence[Case]) -> dict[str, Contender]:
    """Give the networks of cases and of their references by name; a reference runs wherever one of its cases does."""
    found: dict[str, Contender] = {}
    for case in cases:
        found[case.key] = Contender(network=case.network, size=case.size, targets=case.targets, dtypes=case.dtypes)
        before = found.get(case.reference_key)
        found[case.reference_key] = Contender(
            network=case.reference,
            size=case.size,
            targets=tuple({*case.targets, *(before.targets if before else ())}),
            dtypes=tuple({*case.dtypes, *(before.dtypes if before else ())}),
        )
    return found


def module_of(op: ConvOp) -> nn.Module:
    """Build a convolution with random weights, behind a pad of its own where PyTorch's cannot say it."""
    top, bottom, left, right = op.padding
    symmetric = (top, left) == (bottom, right)
    conv = nn.Conv2d(
        op.in_channels,
        op.out_channels,
        op.kernel,
        stride=op.stride,
        padding=(top, left) if symmetric else 0,
        dilation=op.dilation,
        groups=op.groups,
        bias=op.bias,
    )
    return conv if symmetric else nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), conv)


def conv_case(name: str, op: ConvOp, count: int = LAYERS) -> Case:
    """Time a chain of equal convolutions against stem and head alone."""
    channels, side = op.in_channels, op.in_size[0]
    return Case(
        name=name,
        ops=(op,),
        count=count,
        size=op.in_size,
        key=f"{name} {channels} {side}",
        network=lambda: Framed(channels, [module_of(op) for _ in range(count)], op.out_channels),
        **_frame(channels, side),
    )


def add_case(channels: int, side: int) -> Case:
    """Time twelve additions against two."""
    few, many = ADDS
    return Case(
        name="add",
        ops=(AddOp(channels=channels, size=(side, side)),),
        count=many - few,
        size=(side, side),
        key=f"add {channels} {side} {many}",
        network=lambda: Additions(channels, many),
        reference_key=f"add {channels} {side} {few}",
        reference=lambda: Additions(channels, few),
    )


def affine_case(channels: int, side: int) -> Case:
    """Time batch norms that cannot be folded, each behind a ReLU, against stem and head alone."""

    def norm() -> nn.Module:
        made = nn.BatchNorm2d(channels)
        nn.init.uniform_(made.weight, 0.5, 1.5)
        nn.init.normal_(made.bias)
        return nn.Sequential(made, nn.ReLU())

    return Case(
        name="batch norm",
        ops=(AffineOp(channels=channels, size=(side, side)),),
        count=LAYERS,
        size=(side, side),
        key=f"norm {channels} {side}",
        network=lambda: Framed(channels, [norm() for _ in range(LAYERS)]),
        **_frame(channels, side),
        targets=("litert-xnnpack",),
    )


def form_case(name: str, branches: Sequence[ConvOp]) -> Case:
    """Time two blocks of summed branches against stem and head alone."""
    channels, side = branches[0].in_channels, branches[0].in_size[0]
    adds = [AddOp(channels=channels, size=(side, side))] * (len(branches) - 1)
    return Case(
        name=name,
        ops=(*branches, *adds),
        count=2,
        size=(side, side),
        key=f"form {name} {channels} {side}",
        network=lambda: Framed(channels, [Summed([module_of(op) for op in branches]) for _ in range(2)]),
        **_frame(channels, side),
    )


def _frame(channels: int, side: int) -> dict[str, Any]:
    return {"reference_key": f"frame {channels} {side}", "reference": lambda: Framed(channels, [])}


def calibration_cases() -> list[Case]:
    """Give what prices are fitted to."""
    cases = [conv_case(f"depthwise {k}x{k}", ConvOp.same_size(c, (k, k), side=s)) for k in (3, 5) for c, s in SHAPES]
    cases += [conv_case("dense 1x1", ConvOp.same_size(c, (1, 1), side=s, groups=1)) for c, s in SHAPES]
    cases += [conv_case("dense 3x3", ConvOp.same_size(c, (3, 3), side=s, groups=1)) for c, s in SHAPES[:3]]
    cases += [conv_case("depthwise 1x1", ConvOp.same_size(c, (1, 1), side=s)) for c, s in SHAPES]
    cases += [conv_case("grouped 3x3", ConvOp.same_size(c, (3, 3), side=s, groups=4)) for c, s in SHAPES[1:3]]
    cases += [conv_case("depthwise 7x7", ConvOp.same_size(c, (7, 7), side=s), 2) for c, s in SHAPES[1:3]]
    cases += [conv_case(f"depthwise {k}x{k}", ConvOp.same_size(64, (k, k), side=16), 2) for k in (9, 11)]
    cases += [conv_case("multiplier 2", ConvOp.same_size(64, (3, 3), side=16, out_channels=128), 1)]
    cases += [conv_case(f"depthwise 3x3 d{d}", ConvOp.same_size(64, (3, 3), side=32, dilation=d)) for d in (2, 3, 4)]
    cases += [conv_case("depthwise 5x5 d2", ConvOp.same_size(64, (5, 5), side=32, dilation=2))]
    cases += [
        conv_case("padded 3x3", ConvOp.same_size(c, (3, 3), side=s, padding=(0, 2, 0, 2))) for c, s in SHAPES[1:3]
    ]
    cases += [add_case(c, s) for c, s in ((64, 32), (192, 16))]
    return [*cases, affine_case(64, 32)]


def held_out_cases() -> list[Case]:
    """Give layers of shapes that no price was fitted to."""
    cases = [
        conv_case(f"depthwise {k}x{k}", ConvOp.same_size(96, (k, k), side=24), LAYERS if k < 7 else 2)
        for k in (3, 5, 7)
    ]
    cases += [conv_case("depthwise 5x3", ConvOp.same_size(96, (5, 3), side=24))]
    return [*cases, *(conv_case(f"dense {k}x{k}", ConvOp.same_size(96, (k, k), side=24, groups=1)) for k in (1, 3))]


def form_groups() -> dict[str, list[Case]]:
    """Give groups of forms of one block: all equal in what they compute, one of them the planner's choice."""
    groups: dict[str, list[Case]] = {}
    for channels, side in ((64, 24), (64, 32)):
        three, two = (
            ConvOp.same_size(channels, (3, 3), side=side),
            ConvOp.same_size(channels, (3, 3), side=side, dilation=2),
        )
        third, one = (
            ConvOp.same_size(channels, (3, 3), side=side, dilation=3),
            ConvOp.same_size(channels, (1, 1), side=side),
        )
        five, seven = ConvOp.same_size(channels, (5, 5), side=side), ConvOp.same_size(channels, (7, 7), side=side)
        groups[f"3x3 + 3x3 d2 + 1x1, {channels} channels, {side}x{side}"] = [
            form_case("3x3 + 3x3d2 + 1x1", (three, two, one)),
            form_case("3x3 + 3x3d2", (three, two)),
            form_case("5x5", (five,)),
        ]
        groups[f"3x3 + 3x3 d2 + 3x3 d3, {channels} channels, {side}x{side}"] = [
            form_case("3x3 + 3x3d2 + 3x3d3", (three, two, third)),
            form_case("5x5 + 3x3d3", (five, third)),
            form_case("7x7", (seven,)),
        ]
    return groups
