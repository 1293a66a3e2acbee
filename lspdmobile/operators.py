"""Operators, constants and quantization grids of a file, in words that all formats share.

A format's ``inspect`` fills them in; what can be told from them alone is told here: multiply-accumulates, constants
that are stored twice, and what still computes in float in a file of integers.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Final

__all__ = [
    "Duplicate",
    "FloatOperator",
    "Grid",
    "Leftovers",
    "Operator",
    "StoredBytes",
    "Value",
    "duplicates_of",
    "layout_of_shape",
    "leftovers_of",
]

_INTEGERS: Final = ("int4", "int8", "uint8", "int16")
_CONVERSIONS: Final = ("quantize", "dequantize", "convert", "cast")
_SAYING: Final = ("quantize", "dequantize")
_CHANNELS: Final = (1, 3, 4)


@dataclass(frozen=True, kw_only=True)
class Value:
    """A tensor that an operator reads or makes.

    Attributes:
        name: As the file names it.
        shape: As the file states it, -1 for lengths that are not fixed.
        dtype: Such as ``int8``.
        constant: Whether the file holds it, or computes it from what it holds.
        stored: Of a constant, the dtype the file stores it in; empty where that is ``dtype``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    constant: bool = False
    stored: str = ""

    @property
    def elements(self) -> int:
        """Number of elements; an axis of unknown length counts as 1."""
        return prod(max(size, 1) for size in self.shape)

    @property
    def is_float(self) -> bool:
        """Whether its elements are floating point."""
        return self.dtype.startswith(("float", "bfloat"))


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One operator of a file.

    Attributes:
        name: No other operator of the file is called so.
        kind: What it does, as the format spells it: ``CONV_2D``, ``conv``, ``xnnpack::Conv2d``, ``aten::cumsum.out``.
        inputs: Operands in the format's order; the weights of those that multiply are the second.
        outputs: What it makes.
        macs: Multiply-accumulates of convolutions and matrix products for the shapes in the file; 0 for all others.
        attributes: Options by name, as far as rules look at them.
        counted: Whether ``macs`` is all it multiplies: nobody here knows what custom operators, recurrent layers, loops
            and branches, or the blobs of unknown delegates do.
    """

    name: str
    kind: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    macs: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)
    counted: bool = True

    @property
    def computed(self) -> tuple[Value, ...]:
        """Operands that are not constants."""
        return tuple(value for value in self.inputs if not value.constant)

    @property
    def converts(self) -> bool:
        """Whether it only changes the type its operand is written in."""
        word = self.kind.rsplit("::", 1)[-1].split(".")[0].lower()
        return word.startswith(_CONVERSIONS)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """How the integers of one tensor are read: ``real = scale * (integer - zero_point)``.

    Attributes:
        tensor: As the file names it.
        dtype: Of the integers.
        scales, zero_points: One for the whole tensor, one for each slice along ``axis``, or one for each block.
        axis: None where one grid serves the whole tensor, or each block has its own.
        constant: Whether the file holds the integers.
        block: Lengths of the blocks that share a scale, one for each axis of the tensor; empty where there are none.
    """

    tensor: str
    dtype: str
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int | None = None
    constant: bool = False
    block: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StoredBytes:
    """A constant, as far as telling it from others goes.

    Attributes:
        name: Of the tensor.
        dtype: It is stored in.
        content: Its elements; of types narrower than a byte they may be one to a byte.
        size_bytes: What it takes in the file; None where that is the length of ``content``.
    """

    name: str
    dtype: str
    content: bytes
    size_bytes: int | None = None

    @property
    def taken(self) -> int:
        """Bytes in the file."""
        return len(self.content) if self.size_bytes is None else self.size_bytes


@dataclass(frozen=True, kw_only=True)
class Duplicate:
    """Constants with the same bytes, stored more than once.

    Attributes:
        tensors: Their names, the first stored first.
        dtype: Of the first.
        bytes_each: Of one of them.
    """

    tensors: tuple[str, ...]
    dtype: str
    bytes_each: int

    @property
    def wasted_bytes(self) -> int:
        """What storing it once would save."""
        return (len(self.tensors) - 1) * self.bytes_each


@dataclass(frozen=True, kw_only=True)
class FloatOperator:
    """An operator that computes in float in a file of integers.

    ``between`` says that integers surround it: a quantized file pays for two conversions there.
    """

    name: str
    kind: str
    macs: int
    between: bool


@dataclass(frozen=True, kw_only=True)
class Leftovers:
    """What a file of integers still does in float.

    Attributes:
        operators: Those that compute in float.
        conversions: Operators that change between dtypes, the two at the borders included; where integers are only
            said by ``quantize`` and ``dequantize``, those are not counted.
        float_weight_bytes: Bytes of the float weights that convolutions and matrix products read.
    """

    operators: tuple[FloatOperator, ...]
    conversions: int
    float_weight_bytes: int


def duplicates_of(constants: Iterable[StoredBytes]) -> tuple[Duplicate, ...]:
    """Find constants of at least one byte that are stored more than once, the most wasteful first.

    Args:
        constants: What several tensors share is given once.
    """
    held: defaultdict[tuple[int, bytes], list[StoredBytes]] = defaultdict(list)
    for constant in constants:
        size = constant.taken
        if size:
            held[size, hashlib.sha256(constant.content).digest()].append(constant)
    found = [
        Duplicate(tensors=tuple(each.name for each in same), dtype=same[0].dtype, bytes_each=size)
        for (size, _), same in held.items()
        if len(same) > 1
    ]
    return tuple(sorted(found, key=lambda each: -each.wasted_bytes))


def leftovers_of(operators: Sequence[Operator], *, simulated: bool = False) -> Leftovers | None:
    """Tell what a file of integers still does in float; None where no operator quantizes what it computes.

    Args:
        operators: In the order of execution.
        simulated: Integers are said by ``dequantize`` in front of an operator and ``quantize`` behind it, as Core ML
            does, and not by the operator's own types.
    """
    quantized = _quantized_values(operators, simulated=simulated)
    if not any(value.name in quantized and not value.constant for each in operators for value in each.outputs):
        return None
    working = [each for each in operators if each.computed and not each.converts]
    found = [each for each in working if not all(value.name in quantized for value in each.computed)]
    found = [each for each in found if any(value.is_float for value in each.outputs)]
    return Leftovers(
        operators=tuple(
            FloatOperator(name=each.name, kind=each.kind, macs=each.macs, between=_surrounded(each, operators))
            for each in found
        ),
        conversions=sum(
            each.converts and bool(each.computed) and not (simulated and each.kind in _SAYING) for each in operators
        ),
        float_weight_bytes=sum(_float_weight_bytes(each) for each in working if each.macs),
    )


def _quantized_values(operators: Sequence[Operator], *, simulated: bool) -> frozenset[str]:
    """Name the values that are integers, or stand for integers."""
    if not simulated:
        values = (value for each in operators for value in (*each.inputs, *each.outputs))
        return frozenset(value.name for value in values if value.dtype in _INTEGERS)
    named: set[str] = set()
    for each in operators:
        known = bool(each.computed) and all(value.name in named for value in each.computed)
        if each.kind == "dequantize" or (known and not each.converts):
            named.update(value.name for value in each.outputs)
    return frozenset(named)


def _surrounded(operator: Operator, operators: Sequence[Operator]) -> bool:
    """Tell whether integers come into the float stretch an operator is in, and integers go out of it."""
    makers = {value.name: each for each in operators for value in each.outputs}
    readers: defaultdict[str, list[Operator]] = defaultdict(list)
    for each in operators:
        for value in each.computed:
            readers[value.name].append(each)

    def meets_integers(start: Operator, *, forwards: bool) -> bool:
        waiting, seen = [start], {start.name}
        while waiting:
            here = waiting.pop()
            values = here.outputs if forwards else here.computed
            beside = [n for v in values for n in (readers[v.name] if forwards else filter(None, [makers.get(v.name)]))]
            for each in beside:
                ends = each.outputs if forwards else each.computed
                if each.converts and any(value.dtype in _INTEGERS for value in ends):
                    return True
                if each.name not in seen:
                    seen.add(each.name)
                    waiting.append(each)
        return False

    return meets_integers(operator, forwards=False) and meets_integers(operator, forwards=True)


def _float_weight_bytes(operator: Operator) -> int:
    sizes = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
    weights = [value for value in operator.inputs[1:2] if value.constant]
    return sum(value.elements * sizes.get(value.stored or value.dtype, 0) for value in weights)


def layout_of_shape(shape: Sequence[int]) -> str | None:
    """Say ``nchw`` or ``nhwc`` of a picture's shape by where its 1, 3 or 4 channels are; None where it is not plain."""
    if len(shape) != 4:
        return None
    first, last = shape[1] in _CHANNELS, shape[3] in _CHANNELS
    return {(True, False): "nchw", (False, True): "nhwc"}.get((first, last))
