"""Ranges by gradient descent on the heatmaps: no labels, only the float network's own answers.

Min-max ranges spend integers on rare extremes; which of them matter only the heatmaps tell. All ranges of a ``w8a8``
plan are moved together, in the graph of :func:`quantization.graph.quantized_module`, to lessen::

    loss = sum |quantized heatmaps - float heatmaps|^2 / sum |float heatmaps|^2

over calibration pictures, by Adam. With ``s = (high - low) / 255``, ``z = -128 - round(low / s)`` and ``q`` the
rounded ``x / s + z`` cut off at -128 and 127, a tensor becomes ``s (q - z)``. Rounding passes gradients through; then
inside the range the derivative by ``x`` is 1 and by ``s`` it is ``(q - z) - x / s``; beyond an end the derivative by
``x`` is 0 and that end moves with the derivative 1. (Esser et al., "Learned Step Size Quantization", arXiv 1902.08153,
equation 3; Bhalgat et al., "LSQ+", arXiv 2004.09576, for grids with a zero point.) Each end is
``start * exp(parameter)``, so one learning rate fits tensors of any size and no end changes sign.

Tensors that interpolation makes share the range of what they are made from, which TFLite demands. The last quarter of
the pictures only judges: the ranges that did best on it are given, the starting ones among them. Only ranges change.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node

from quantization.affine import AffineGrid
from quantization.fixed import fixed_range
from quantization.graph import activation_grids, exported_module, quantized_module
from quantization.methods.layers import kind_of
from quantization.plan import QuantizationPlan, TensorRange, Tuning

__all__ = ["TensorTuning", "Tuned", "TuningSettings", "fake_quantized", "tune_ranges"]

_QUANTIZE: Final = "quantize_per_tensor"
_DEQUANTIZE: Final = "dequantize_per_tensor"
_MOVES_RANGE_ON: Final = frozenset({"upsample_bilinear2d", "upsample_nearest2d", "constant_pad_nd", "pad"})
_FEWEST_PICTURES: Final = 2


@dataclass(frozen=True, kw_only=True)
class TuningSettings:
    """How long and how finely to search.

    Attributes:
        steps: Of Adam.
        batch: Pictures per step.
        learning_rate: Of Adam; about the share by which an end moves per step.
        judged_every: Steps between looks at the pictures left out.
        held_out: Share of the pictures that only judge.
    """

    steps: int = 60
    batch: int = 4
    learning_rate: float = 2e-2
    judged_every: int = 10
    held_out: float = 0.25


@dataclass(frozen=True, kw_only=True)
class TensorTuning:
    """How one tensor's range moved: its ends over what they were; 1 where an end is 0."""

    tensor: str
    low: float
    high: float

    def to_dict(self) -> dict[str, Any]:
        """Give what ``plan.json`` holds."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """The plan with other ranges.

    Attributes:
        plan: The same plan otherwise.
        tensors: Each range that moved.
        before, after: Loss on the pictures left out.
    """

    plan: QuantizationPlan
    tensors: tuple[TensorTuning, ...]
    before: float
    after: float

    def to_dict(self) -> dict[str, Any]:
        """Give what ``plan.json`` holds."""
        return {"before": self.before, "after": self.after, "tensors": [each.to_dict() for each in self.tensors]}


def tune_ranges(
    network: nn.Module,
    plan: QuantizationPlan,
    pictures: NDArray[np.float32],
    *,
    reference: nn.Module | None = None,
    settings: TuningSettings | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Tuned:
    """Tune the ranges of a ``w8a8`` plan.

    Args:
        network: Float network in eval mode that will be quantized.
        plan: Made from it.
        pictures: Normalised inputs float32 ``[M, 3, H, W]``, M at least 2.
        reference: Network whose heatmaps are wanted; the network itself by default.
        settings: How long to search.
        seed: Of the order of the pictures.
        progress: Called with steps done and their number.

    Raises:
        BadInputError: The plan is not ``w8a8`` or is another network's.
        ValueError: There are fewer than two pictures.
    """
    settings = settings or TuningSettings()
    if len(pictures) < _FEWEST_PICTURES:
        message = "range tuning needs at least two pictures: one to search on and one to judge by"
        raise ValueError(message)
    size = (pictures.shape[2], pictures.shape[3])
    inputs = [torch.from_numpy(np.ascontiguousarray(picture[None])) for picture in pictures]
    wanted_by = reference or network
    with torch.no_grad():
        wanted = [wanted_by(each) for each in inputs]
    module = quantized_module(network, plan, size)
    leaders = _leaders(exported_module(network, size), activation_grids(module))
    tuner = _Tuner(module, plan.ranges, leaders)
    judges = max(1, round(settings.held_out * len(inputs)))
    judging = list(zip(inputs, wanted, strict=True))[-judges:]
    searching = list(zip(inputs, wanted, strict=True))[:-judges]
    before = best = _loss(module, judging)
    kept: dict[str, TensorRange] = {}
    optimiser = torch.optim.Adam(tuner.parameters, lr=settings.learning_rate)
    generator = torch.Generator().manual_seed(seed)
    for step in range(settings.steps):
        chosen = torch.randint(len(searching), (settings.batch,), generator=generator).tolist()
        tuner.descend([searching[index] for index in chosen])
        optimiser.step()
        if (step + 1) % settings.judged_every == 0 and (loss := _loss(tuner.run, judging)) < best:
            best, kept = loss, tuner.ends()
        if progress is not None:
            progress(step + 1, settings.steps)
    ranges = {**plan.ranges, **{name: kept[leader] for name, leader in leaders.items() if leader in kept}}
    tuned = replace(plan, ranges=ranges)
    return Tuned(plan=tuned, tensors=_moved(plan.ranges, ranges), before=before, after=best)


def fake_quantized(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Round to the int8 grid of a range, with the gradients of the module's docstring.

    Args:
        x: Any shape.
        low: At most 0, a scalar.
        high: At least 0 and above ``low``, a scalar.
    """
    rounded: Tensor = _FakeQuantized.apply(x, low, high)  # type: ignore[no-untyped-call]
    return rounded


@torch.no_grad()
def _loss(run: Callable[[Tensor], Tensor], pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Give the loss over pictures and the heatmaps wanted of them."""
    missed = sum(float((run(picture) - wanted).square().sum()) for picture, wanted in pairs)
    return missed / sum(float(wanted.square().sum()) for _, wanted in pairs)


class _FakeQuantized(torch.autograd.Function):
    """See :func:`fake_quantized`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Give ``s (q - z)``."""
        scale = (high - low) / 255
        zero = -128 - torch.round(low / scale)
        steps = x * (1 / scale)
        whole = torch.round(steps) + zero
        clipped = whole.clamp(-128, 127) - zero
        ctx.save_for_backward(clipped - steps, whole < -128, whole > 127)
        return clipped * scale

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give the gradients by ``x``, ``low`` and ``high``."""
        (gradient,) = gradients
        missed, below, above = ctx.saved_tensors
        inside = ~(below | above)
        by_scale = (gradient * missed * inside).sum() / 255
        by_low, by_high = (gradient * below).sum(), (gradient * above).sum()
        return gradient * inside, by_low - by_scale, by_high + by_scale


class _Tuner(Interpreter):
    """Runs a quantized module with ranges that can be learned."""

    def __init__(self, module: GraphModule, ranges: Mapping[str, TensorRange], leaders: Mapping[str, str]) -> None:
        super().__init__(module)
        self._leaders, self._grids, self._constants = leaders, activation_grids(module), dict[str, Any]()
        self._starts = {leader: _union(ranges, leaders, leader) for leader in dict.fromkeys(leaders.values())}
        self._moves = {name: torch.zeros(2, requires_grad=True) for name in self._starts}
        self.parameters = list(self._moves.values())

    def ends(self) -> dict[str, TensorRange]:
        """Give the ranges as they are now."""
        now = {name: self._range(name) for name in self._starts}
        return {
            name: TensorRange(low=float(low), high=float(high), estimator=Tuning.HEATMAPS)
            for name, (low, high) in now.items()
        }

    def descend(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Leave the loss' gradient over pictures in the parameters."""
        power = sum(float(wanted.square().sum()) for _, wanted in pairs)
        for parameter in self.parameters:
            parameter.grad = None
        for picture, wanted in pairs:
            ((self.run(picture) - wanted).square().sum() / power).backward()

    def run_node(self, n: Node) -> Any:
        kind = kind_of(n)
        if n.name in self._constants:
            return self._constants[n.name]
        if kind == _QUANTIZE:
            source = n.all_input_nodes[0]
            return fake_quantized(self.env[source], *self._ends_of(source.name))
        if kind == _DEQUANTIZE:
            return self.env[n.all_input_nodes[0]]
        result = super().run_node(n)
        if n.op == "get_attr" or "per_channel" in kind:
            result = self._constants[n.name] = result.detach()
        return result

    def _ends_of(self, name: str) -> tuple[Tensor, Tensor]:
        """Give the ends of a tensor's range: its leader's, or those of its grid where that is fixed."""
        if name in self._leaders:
            return self._range(self._leaders[name])
        fixed = self._grids[name]
        return torch.tensor(fixed.low), torch.tensor(fixed.high)

    def _range(self, name: str) -> tuple[Tensor, Tensor]:
        start, move = self._starts[name], self._moves[name].exp()
        return min(start.low, 0.0) * move[0], max(start.high, 0.0) * move[1]


def _leaders(program: GraphModule, grids: Mapping[str, AffineGrid]) -> dict[str, str]:
    """Give for each quantized tensor the one that speaks for all that share its range.

    A tensor shares the range of what it is interpolated from, and of tensors of the same grid, as the graph has them
    where an operator (concatenation, pooling) reads and gives one grid. Fixed grids are nobody's to move, nor
    are those of tensors that have the same.
    """
    parents: dict[str, str] = {}

    def leader(name: str) -> str:
        return name if parents[name] == name else leader(parents[name])

    of_grid: dict[AffineGrid, str] = {}
    fixed = {grids[node.name] for node in program.graph.nodes if node.name in grids and fixed_range(node) is not None}
    for node in program.graph.nodes:
        if node.name in grids and grids[node.name] not in fixed:
            twin = of_grid.setdefault(grids[node.name], node.name)
            parents[node.name] = node.name if twin == node.name else leader(twin)
            source = node.all_input_nodes[0].name if node.all_input_nodes else node.name
            if kind_of(node) in _MOVES_RANGE_ON and source in parents:
                parents[leader(node.name)] = leader(source)
    return {name: leader(name) for name in parents}


def _union(ranges: Mapping[str, TensorRange], leaders: Mapping[str, str], leader: str) -> TensorRange:
    """Give the smallest range that holds those of all tensors of one leader."""
    members = [ranges[name] for name, its in leaders.items() if its == leader]
    return TensorRange(low=min(each.low for each in members), high=max(each.high for each in members))


def _moved(before: Mapping[str, TensorRange], after: Mapping[str, TensorRange]) -> tuple[TensorTuning, ...]:
    """List the ranges that moved."""

    def share(new: float, old: float) -> float:
        return new / old if old else 1.0

    changed = {name: (now, before[name]) for name, now in after.items() if now != before[name]}
    return tuple(
        TensorTuning(tensor=name, low=share(now.low, old.low), high=share(now.high, old.high))
        for name, (now, old) in changed.items()
    )
