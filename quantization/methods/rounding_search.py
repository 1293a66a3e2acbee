"""One layer's part of adaptive rounding (:mod:`quantization.methods.rounding`): which weights go up.

Shapes: G groups of a layer, P output positions, I inputs of one output (channels of a group times taps), O outputs of
a group.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.fx import Node
from torch.nn import functional as F

from quantization.methods.layers import argument, kind_of

__all__ = ["RoundingSettings", "Samples", "WeightGrid", "samples_of", "searched", "stretched_sigmoid"]

_STRETCH: Final = (1.2, -0.1)
_BETA: Final = (20.0, 2.0)
_SAME_SCALE: Final = 1e-4


@dataclass(frozen=True, kw_only=True)
class RoundingSettings:
    """How long and how finely to search.

    Attributes:
        steps: Of Adam, per layer.
        batch: Output positions per step.
        samples: Output positions kept per layer, over all pictures.
        learning_rate: Of Adam.
        regulariser: Weight of the term that makes every choice whole.
        warm_up: Share of the steps before that term sets in.
        held_out: Share of the pictures that only judge.
    """

    steps: int = 300
    batch: int = 256
    samples: int = 16384
    learning_rate: float = 2e-2
    regulariser: float = 1.0
    warm_up: float = 0.2
    held_out: float = 0.25


@dataclass(frozen=True, kw_only=True)
class WeightGrid:
    """The integers of a layer's weight, ``[C_out, ...]``.

    Attributes:
        weight: As trained.
        scale: Of each output channel, ready to multiply the weight.
        floor: Largest integers that are not above the weights over their scale.
        free: Which of them may go up. Not a channel's largest weight, which gives the scale, and nothing of a channel
            of zeros or of one whose scale does not put that weight on the largest integer.
        largest: Integer, 127 for 8 bits.
    """

    weight: Tensor
    scale: Tensor
    floor: Tensor
    free: Tensor
    largest: int

    @classmethod
    def of(cls, weight: Tensor, scales: Tensor, largest: int) -> "WeightGrid":
        """Make the grid of ``[C_out, ...]`` with scales ``[C_out]`` and integers up to ``largest``."""
        scale = scales.reshape(-1, *[1] * (weight.dim() - 1))
        reach = weight.abs().flatten(1).amax(1)
        ours = (reach > 0) & ((scales * largest - reach).abs() <= _SAME_SCALE * reach)
        peak = torch.zeros_like(weight.flatten(1), dtype=torch.bool)
        peak.scatter_(1, weight.abs().flatten(1).argmax(1, keepdim=True), value=True)
        free = ~peak.reshape(weight.shape) & ours.reshape(scale.shape)
        nearest = (weight / scale).round()
        floor = torch.where(free, (weight / scale).floor(), nearest)
        return cls(weight=weight, scale=scale, floor=floor, free=free, largest=largest)

    @property
    def shares(self) -> Tensor:
        """What lies between the weights and their floor, 0 to 1 step."""
        return (self.weight / self.scale - self.floor).clamp(0, 1)

    def integers(self, lifts: Tensor) -> Tensor:
        """Give the integers for lifts of 0 to 1; those that are not free stay."""
        return (self.floor + lifts * self.free).clamp(-self.largest, self.largest)

    def nearest(self) -> Tensor:
        """Give the lifts of rounding to nearest."""
        return ((self.weight / self.scale).round() - self.floor).clamp(0, 1)

    def weights(self, lifts: Tensor) -> Tensor:
        """Give float weights exactly on the grid; the largest integer is the channel's largest weight itself."""
        integers = self.integers(lifts)
        reach = self.weight.abs().flatten(1).amax(1).reshape(self.scale.shape)
        on_grid = torch.where(integers.abs() == self.largest, integers.sign() * reach, integers * self.scale)
        whole = self.free.flatten(1).any(1).reshape(self.scale.shape)
        return torch.where(whole, on_grid, self.weight)


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Some output positions of a layer: what it reads there and what it shall give.

    Attributes:
        inputs: ``[G, P, I]``.
        wanted: ``[G, P, O]``, before the ReLU.
        bias: ``[G, 1, O]``.
        relu: Whether a ReLU follows; then errors count after it.
        judging: How many of the last positions belong to pictures that only judge.
    """

    inputs: Tensor
    wanted: Tensor
    bias: Tensor
    relu: bool
    judging: int

    @property
    def searching(self) -> int:
        """How many of the first positions are searched on."""
        return self.inputs.shape[1] - self.judging

    def by_group(self, weight: Tensor) -> Tensor:
        """Bring a weight ``[C_out, ...]`` into the order ``[G, I, O]``."""
        return weight.reshape(len(self.inputs), -1, self.inputs.shape[2]).transpose(1, 2).contiguous()

    def as_weight(self, by_group: Tensor, like: Tensor) -> Tensor:
        """Undo :meth:`by_group`."""
        return by_group.transpose(1, 2).reshape(like.shape)

    def error(self, weight: Tensor, rows: Tensor | slice) -> Tensor:
        """Give the mean squared error of a weight ``[C_out, ...]`` at some positions."""
        found, wanted = self._outputs(self.by_group(weight), rows)
        return F.mse_loss(found, wanted)

    def slope(self, by_group: Tensor, rows: Tensor) -> Tensor:
        """Give the derivative ``[G, I, O]`` of the mean squared error of a weight ``[G, I, O]`` at some positions."""
        found, wanted = self._outputs(by_group, rows)
        miss = (found - wanted) * (found > 0) if self.relu else found - wanted
        return torch.bmm(self.inputs[:, rows].transpose(1, 2), miss.mul_(2 / miss.numel()))

    def _outputs(self, by_group: Tensor, rows: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Give what a weight gives and what it shall give, both after the ReLU."""
        found, wanted = torch.baddbmm(self.bias, self.inputs[:, rows], by_group), self.wanted[:, rows]
        return (found.relu(), wanted.relu()) if self.relu else (found, wanted)

    def judged(self, weight: Tensor) -> float:
        """Give the mean squared error on the pictures that only judge, over the mean square that is wanted."""
        rows = slice(self.searching, None)
        wanted = self.wanted[:, rows].relu() if self.relu else self.wanted[:, rows]
        power = float(wanted.square().mean())
        return float(self.error(weight, rows)) / power if power > 0 else 0.0


def samples_of(
    node: Node,
    kernel: Sequence[int],
    bias: Tensor | None,
    read: Sequence[Tensor],
    gives: Sequence[Tensor],
    *,
    relu: bool,
    settings: RoundingSettings,
    generator: torch.Generator,
) -> Samples:
    """Draw output positions of a layer, equally many of each picture.

    Args:
        node: The convolution or linear layer.
        kernel: Rows and columns of its taps; empty for a linear layer.
        bias: ``[C_out]`` or None.
        read: What it reads on each picture, in the quantized network.
        gives: What it gives on each picture, in the float network.
        relu: Whether a ReLU follows.
        settings: How many.
        generator: Draws them.
    """
    groups = argument(node, "groups") if kind_of(node) == "conv2d" else 1
    count = max(1, settings.samples // len(read))
    inputs, wanted = [], []
    for source, output in zip(read, gives, strict=True):
        rows, outputs = (
            _rows(node, kernel, source),
            output.movedim(1 if kind_of(node) == "conv2d" else -1, 0).flatten(1).T,
        )
        chosen = torch.randperm(len(rows), generator=generator)[:count]
        inputs.append(rows[chosen])
        wanted.append(outputs[chosen])
    judges = max(1, round(settings.held_out * len(read)))
    gathered, targets = torch.cat(inputs), torch.cat(wanted)
    offset = torch.zeros(targets.shape[1]) if bias is None else bias
    return Samples(
        inputs=gathered.reshape(len(gathered), groups, -1).transpose(0, 1).contiguous(),
        wanted=targets.reshape(len(targets), groups, -1).transpose(0, 1).contiguous(),
        bias=offset.reshape(groups, 1, -1),
        relu=relu,
        judging=sum(len(each) for each in inputs[-judges:]),
    )


def stretched_sigmoid(v: Tensor) -> Tensor:
    """Give ``clip(1.2 sigmoid(v) - 0.1, 0, 1)``, which reaches 0 and 1 at finite ``v``."""
    return (torch.sigmoid(v) * _STRETCH[0] + _STRETCH[1]).clamp(0, 1)


@torch.no_grad()
def searched(samples: Samples, grid: WeightGrid, settings: RoundingSettings, generator: torch.Generator) -> Tensor:
    """Search a layer's lifts; gives 0 or 1 for each weight.

    Args:
        samples: Of the layer.
        grid: Of its weight.
        settings: How long.
        generator: Draws the batches.
    """
    unit = float(samples.error(grid.scale * grid.integers(grid.nearest()), slice(0, samples.searching)))
    if unit == 0 or not grid.free.any():
        return grid.nearest()
    floor, scale, free = (samples.by_group(each) for each in (grid.floor, grid.scale.expand_as(grid.floor), grid.free))
    v = torch.logit((samples.by_group(grid.shares) - _STRETCH[1]) / _STRETCH[0])
    descent = _Adam(v, settings.learning_rate)
    weight = settings.regulariser / float(free.sum())
    start = int(settings.warm_up * settings.steps)
    for step in range(settings.steps):
        batch = torch.randint(samples.searching, (settings.batch,), generator=generator)
        whole = torch.sigmoid(v)
        lifts = (whole * _STRETCH[0] + _STRETCH[1]).clamp_(0, 1)
        gradient = samples.slope(scale * (floor + lifts * free), batch).mul_(scale).div_(unit)
        if step >= start:
            beta = _even_beta((step - start) / max(1, settings.steps - 1 - start))
            gradient.sub_((2 * lifts - 1).pow_(beta - 1), alpha=2 * beta * weight)
        inside = (lifts > 0) & (lifts < 1) & free
        descent.step(gradient.mul_(whole * (1 - whole) * _STRETCH[0] * inside))
    return samples.as_weight((stretched_sigmoid(v) > 0.5).float(), grid.weight)


def _even_beta(progress: float) -> int:
    """Let the exponent fall from 20 to 2; ``|t|^beta`` has the slope ``beta t^(beta - 1)`` where it is even."""
    return 2 * round((_BETA[0] + (_BETA[1] - _BETA[0]) * progress) / 2)


class _Adam:
    """Adam (arXiv 1412.6980) on one tensor, in place."""

    def __init__(self, values: Tensor, rate: float) -> None:
        self._values, self._rate, self._steps = values, rate, 0
        self._mean, self._square = torch.zeros_like(values), torch.zeros_like(values)

    def step(self, gradient: Tensor) -> None:
        """Go one step against a gradient."""
        self._steps += 1
        self._mean.lerp_(gradient, 0.1)
        self._square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        root = self._square.sqrt().div_((1 - 0.999**self._steps) ** 0.5).add_(1e-12)
        self._values.addcdiv_(self._mean, root, value=-self._rate / (1 - 0.9**self._steps))


def _rows(node: Node, kernel: Sequence[int], source: Tensor) -> Tensor:
    """Give what each output position of a layer reads, ``[positions, channels times taps]``."""
    if kind_of(node) == "linear":
        return source.flatten(0, -2)
    stride, padding, dilation = (argument(node, name) for name in ("stride", "padding", "dilation"))
    stride, dilation = (tuple(each) * (2 // len(each)) for each in (stride, dilation))
    columns = F.unfold(F.pad(source, _frame(padding, kernel, dilation)), tuple(kernel), dilation, 0, stride)
    return columns[0].T


def _frame(padding: Any, kernel: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """Give the zeros around a picture: left, right, top, bottom."""
    if isinstance(padding, str):
        total = [step * (side - 1) if padding == "same" else 0 for side, step in zip(kernel, dilation, strict=True)]
        return [total[1] // 2, total[1] - total[1] // 2, total[0] // 2, total[0] - total[0] // 2]
    rows, columns = list(padding) * (2 // len(padding))
    return [columns, columns, rows, rows]
