"""The mistakes, each as what it makes of a student's network; the real converters then make files of that.

Shapes are those of a student: pictures ``[N, 3, H, W]``, heatmaps ``[N, K, h, w]``.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from lspdmobile.diagnosis import Cause
from lspdmobile.student import Student

__all__ = ["FAULTS", "Fault", "faulty"]

_SQUEEZE: Final = 0.75
_STALE: Final = 0.1


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One mistake.

    Attributes:
        told: In words.
        causes: What a diagnosis may call it.
        make: The student's own network (a copy) to one with the mistake.
    """

    told: str
    causes: tuple[Cause, ...]
    make: Callable[[nn.Module, Student], nn.Module]


def faulty(name: str, student: Student) -> nn.Module:
    """Give a student's network with a mistake in it, in eval mode."""
    return FAULTS[name].make(copy.deepcopy(student.network), student).eval()


def _linear(network: nn.Module, kernel: Tensor, bias: Tensor | None = None) -> nn.Module:
    """Put a convolution ``[3, 3, 1, 1]`` before a network, as a converter that folds preprocessing in does."""
    before = nn.Conv2d(3, 3, 1)
    with torch.no_grad():
        before.weight.copy_(kernel[:, :, None, None])
        before.bias.copy_(torch.zeros(3) if bias is None else bias)  # type: ignore[union-attr]
    return nn.Sequential(before, network)


def _bgr(network: nn.Module, _: Student) -> nn.Module:
    return _linear(network, torch.eye(3).flip(0))


def _not_normalised(network: nn.Module, student: Student) -> nn.Module:
    mean, std = torch.tensor(student.contract.mean), torch.tensor(student.contract.std)
    return _linear(network, torch.diag(std), mean)


def _normalised_twice(network: nn.Module, student: Student) -> nn.Module:
    mean, std = torch.tensor(student.contract.mean), torch.tensor(student.contract.std)
    return _linear(network, torch.diag(1 / std), -mean / std)


class _HalfPixel(nn.Module):
    """Every pixel becomes the mean of itself and its neighbours to the left and above: half a pixel right and down."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.blend = nn.Conv2d(3, 3, 2, groups=3, bias=False)
        with torch.no_grad():
            self.blend.weight.fill_(0.25)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures to heatmaps."""
        heatmaps: Tensor = self.network(self.blend(functional.pad(x, (1, 0, 1, 0))))
        return heatmaps


class _Squeezed(nn.Module):
    """The picture is made narrower, with bars at its sides."""

    def __init__(self, network: nn.Module, width: int) -> None:
        super().__init__()
        self.network = network
        self.inner = round(width * _SQUEEZE / 2) * 2
        self.bar = (width - self.inner) // 2

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures to heatmaps."""
        small = functional.interpolate(x, (x.shape[2], self.inner), mode="bilinear", align_corners=False)
        heatmaps: Tensor = self.network(functional.pad(small, (self.bar, self.bar)))
        return heatmaps


class _Mirrored(nn.Module):
    """Columns of the heatmaps in reverse order."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures to heatmaps."""
        heatmaps: Tensor = self.network(x)
        return torch.flip(heatmaps, (3,))


class _Misread(nn.Module):
    """Numbers that lie as NHWC, read as NCHW."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures to heatmaps."""
        heatmaps: Tensor = self.network(x.permute(0, 2, 3, 1).reshape(x.shape))
        return heatmaps


def _head(network: nn.Module, student: Student) -> nn.Conv2d:
    """Find the last layer, whose channels are the joints."""
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.out_channels == student.skeleton.count]
    return layers[-1]


def _pair_swapped(network: nn.Module, student: Student) -> nn.Module:
    head, order = _head(network, student), list(range(student.skeleton.count))
    order[0], order[1] = 1, 0
    with torch.no_grad():
        for values in head.parameters():
            values.copy_(values[order])
    return network


def _scaled(network: nn.Module, student: Student) -> nn.Module:
    with torch.no_grad():
        for values in _head(network, student).parameters():
            values.mul_(2)
    return network


def _one_weight(network: nn.Module, student: Student) -> nn.Module:
    """Let the largest weight of the head have the other sign and four times its size."""
    weight = _head(network, student).weight
    with torch.no_grad():
        weight.view(-1)[weight.abs().argmax()].mul_(-4)
    return network


def _stale(network: nn.Module, _: Student) -> nn.Module:
    """Let every weight be as far from what it is as some more training takes it."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for values in network.parameters():
            if values.dim() > 1:
                values.add_(_STALE * values.std() * torch.randn(values.shape, generator=generator))
    return network


FAULTS: Final[Mapping[str, Fault]] = {
    "bgr": Fault(told="colour channels exchanged", causes=(Cause.COLOUR,), make=_bgr),
    "not normalised": Fault(told="normalisation left out", causes=(Cause.NORMALISATION,), make=_not_normalised),
    "normalised twice": Fault(told="normalisation in twice", causes=(Cause.NORMALISATION,), make=_normalised_twice),
    "half a pixel": Fault(
        told="pictures half a pixel off", causes=(Cause.SHIFT,), make=lambda network, _: _HalfPixel(network)
    ),
    "letterbox": Fault(
        told="pictures squeezed between bars",
        causes=(Cause.GEOMETRY,),
        make=lambda network, student: _Squeezed(network, student.contract.input_size[1]),
    ),
    "mirrored heatmaps": Fault(
        told="heatmaps mirrored", causes=(Cause.MIRROR,), make=lambda network, _: _Mirrored(network)
    ),
    "layout": Fault(
        told="NHWC numbers read as NCHW", causes=(Cause.LAYOUT,), make=lambda network, _: _Misread(network)
    ),
    "swapped pair": Fault(told="two joints exchanged", causes=(Cause.JOINTS,), make=_pair_swapped),
    "scale x2": Fault(told="a scale off by 2", causes=(Cause.SCALE, Cause.LAYER), make=_scaled),
    "one weight": Fault(told="one weight corrupted", causes=(Cause.WEIGHT, Cause.LAYER), make=_one_weight),
    "stale checkpoint": Fault(told="weights of another training", causes=(Cause.CHECKPOINT,), make=_stale),
}
