"""Which form a sum of linear branches takes: every partition of its terms is a candidate, the cheapest is taken.

A site is an input and the **terms** that are summed: each term is one linear map of the input. A **form** shares the
terms out into parts; the terms of a part are merged into the smallest kernel that holds them
(``rewrites.branch_sum``), and a part of one term may also stay the operators it was. All of them are exact, so cost
alone decides. Plans are made from shapes; no weight is touched.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from lspdmobile.fusion.largest_kernel import CostModel
from lspdmobile.fusion.linear import Linear, NotExactError
from lspdmobile.fusion.operations import AddOp, AffineOp, ConvOp, Dtype, Op
from lspdmobile.fusion.rewrites.branch_sum import merged

__all__ = ["Choice", "Form", "Part", "Planner", "Term", "conv_op", "described", "operation", "partitions"]

_MOST_TERMS: Final = 7  # 877 partitions; more terms are merged where one kernel holds another
_TIE: Final = 1e-9


@dataclass(frozen=True, kw_only=True)
class Term:
    """One summand of a site.

    Attributes:
        linear: As one map of the site's input; weights may be on the meta device.
        kept: Operators it costs to leave it as it is; None where that is impossible.
    """

    linear: Linear
    kept: tuple[Op, ...] | None


@dataclass(frozen=True, kw_only=True)
class Part:
    """Numbers of the terms that become one operator, or the one term that stays as it is."""

    terms: tuple[int, ...]
    stays: bool
    operators: tuple[Op, ...]
    text: str


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Why a form was chosen: what it costs beside the others, in the model's microseconds.

    Attributes:
        cost: Of the chosen form.
        apart: Of every branch by itself; None where a branch cannot be left by itself.
        one_kernel: Of all branches in one kernel; None where they do not merge.
        forms: Number of exact forms that were priced.
    """

    cost: float
    apart: float | None
    one_kernel: float | None
    forms: int


@dataclass(frozen=True, kw_only=True)
class Form:
    """The cheapest way to compute a site, and why it is."""

    parts: tuple[Part, ...]
    choice: Choice

    @property
    def is_unchanged(self) -> bool:
        """Whether every term stays what it was."""
        return all(part.stays for part in self.parts)

    @cached_property
    def text(self) -> str:
        """Say the form in words, such as ``5x5 + 3x3 d3``."""
        return " + ".join(part.text for part in self.parts)


@dataclass(frozen=True, kw_only=True)
class Planner:
    """Chooses forms by a cost model.

    Attributes:
        model: What operators cost.
        dtype: What they will compute in.
    """

    model: CostModel
    dtype: Dtype = "fp32"

    def cost(self, operators: Sequence[Op]) -> float:
        """Give the model's cost of operators."""
        return self.model.cost(operators, self.dtype)

    def best(self, terms: Sequence[Term], in_size: tuple[int, int]) -> Form | None:
        """Choose the cheapest form of a sum, of equal ones the one with fewer operators; None where there is none."""
        parts: dict[tuple[int, ...], Part | None] = {}
        best: tuple[float, int, tuple[Part, ...]] | None = None
        groups = _groups(terms)
        costs: list[tuple[int, float]] = []
        for partition in partitions(groups):
            for group in partition:
                if group not in parts:
                    parts[group] = self._part(terms, group, in_size)
            chosen = tuple(part for group in partition if (part := parts[group]) is not None)
            if len(chosen) < len(partition):
                continue
            sums = [_addition(terms[0].linear, in_size)] * (len(chosen) - 1)
            operators = [op for part in chosen for op in part.operators] + sums
            cost = self.cost(operators)
            costs.append((len(partition), cost))
            if best is None or (cost, len(operators)) < (best[0] * (1 - _TIE), best[1]):
                best = cost, len(operators), chosen
        if best is None:
            return None
        of = dict(costs)  # only one partition has one part, only one has all groups apart
        choice = Choice(cost=best[0], apart=of.get(len(groups)), one_kernel=of.get(1), forms=len(costs))
        return Form(parts=best[2], choice=choice)

    def _part(self, terms: Sequence[Term], group: tuple[int, ...], in_size: tuple[int, int]) -> Part | None:
        """Merge a group of terms, or leave a single one where that is cheaper; None where they do not merge exactly."""
        kept = terms[group[0]].kept if len(group) == 1 else None
        try:
            linear = merged([terms[index].linear for index in group])
        except NotExactError:
            linear = None
        if linear is None or not linear.is_symmetric:
            text = described(terms[group[0]].linear)
            return None if kept is None else Part(terms=group, stays=True, operators=kept, text=text)
        op = conv_op(linear, in_size)
        stays = kept is not None and self.cost(kept) <= self.cost([op])
        return Part(terms=group, stays=stays, operators=(kept or ()) if stays else (op,), text=described(linear))


def conv_op(linear: Linear, in_size: tuple[int, int]) -> ConvOp:
    """Write a linear map as data for a cost model."""
    return ConvOp(
        in_channels=linear.in_channels,
        out_channels=linear.out_channels,
        groups=linear.groups,
        kernel=linear.kernel,
        dilation=linear.dilation,
        stride=linear.stride,
        padding=linear.padding,
        in_size=in_size,
        bias=linear.bias is not None,
    )


def operation(linear: Linear, in_size: tuple[int, int]) -> Op:
    """Write an operator of a graph as data for a cost model: an affine one as that, any other as a convolution."""
    return AffineOp(channels=linear.out_channels, size=in_size) if linear.is_affine else conv_op(linear, in_size)


def described(linear: Linear) -> str:
    """Say a map in words: kernel, dilation, stride and groups, as far as they are not 1."""
    words = ["{}x{}".format(*linear.kernel)]
    words += [
        f"{letter}{value[0]}" if value[0] == value[1] else f"{letter}{value[0]}x{value[1]}"
        for letter, value in (("d", linear.dilation), ("s", linear.stride))
        if value != (1, 1)
    ]
    if linear.groups > 1:
        words.append("depthwise" if linear.is_channelwise else f"g{linear.groups}")
    return " ".join(words)


def _addition(linear: Linear, in_size: tuple[int, int]) -> AddOp:
    return AddOp(channels=linear.out_channels, size=conv_op(linear, in_size).out_size)


def _groups(terms: Sequence[Term]) -> list[tuple[int, ...]]:
    """Give each term a group of its own; of very many, put those into one that have the same kernel."""
    if len(terms) <= _MOST_TERMS:
        return [(index,) for index in range(len(terms))]
    by_kind: dict[object, list[int]] = {}
    for index, term in enumerate(terms):
        linear = term.linear
        by_kind.setdefault((linear.kernel, linear.dilation, linear.padding, linear.groups), []).append(index)
    groups = sorted(tuple(group) for group in by_kind.values())
    while len(groups) > _MOST_TERMS:
        groups = [groups[0] + groups[1], *groups[2:]]
    return groups


def partitions(groups: Sequence[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
    """Give every way to put groups together."""
    if not groups:
        yield []
        return
    first, rest = groups[0], groups[1:]
    for partition in partitions(rest):
        yield [first, *partition]
        for index, group in enumerate(partition):
            yield [*partition[:index], tuple(sorted(first + group)), *partition[index + 1 :]]
