"""Weight bytes by operator: which operator of a file reads which of its constants.

A constant counts for the first operator that computes something from it. Operators that read nothing but constants
(a ``DEQUANTIZE`` of float16 weights, ``constexpr_affine_dequantize``) compute nothing: what they read counts for the
operator that reads their result.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["UNREAD", "Reading", "StoredConstant", "layer_bytes"]

UNREAD: Final = "constants of no operator"


@dataclass(frozen=True, kw_only=True)
class StoredConstant:
    """One stored constant: what tells it from others, the dtype it is stored in, and its bytes."""

    key: Hashable
    dtype: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Reading:
    """An operator, as far as constants go.

    Attributes:
        name: What it is called; no other operator of the file is.
        inputs: Values it reads that operators or the caller made.
        outputs: Values it makes.
        constants: What it reads of the file itself.
    """

    name: str
    inputs: Sequence[Hashable]
    outputs: Sequence[Hashable]
    constants: Sequence[StoredConstant] = ()


def layer_bytes(operators: Iterable[Reading], total: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Give the bytes by operator and dtype, in the order of execution; they add up to the whole.

    Args:
        operators: In the order of execution.
        total: All weight bytes by dtype; what no operator reads is entered as :data:`UNREAD`.
    """
    seen: set[Hashable] = set()
    unclaimed: dict[Hashable, Counter[str]] = {}
    layers: dict[str, Counter[str]] = {}
    for operator in operators:
        held: Counter[str] = Counter()
        for constant in operator.constants:
            if constant.key not in seen:
                seen.add(constant.key)
                held[constant.dtype] += constant.size_bytes
        computes = any(value not in unclaimed for value in operator.inputs)
        for value in operator.inputs:
            held += unclaimed.get(value, Counter())
            if value in unclaimed:
                unclaimed[value] = Counter()
        if computes:
            layers.setdefault(operator.name, Counter()).update(held)
        else:
            unclaimed.update({value: Counter() for value in operator.outputs})
            unclaimed[next(iter(operator.outputs), operator.name)] = held
    claimed = sum(layers.values(), Counter[str]())
    layers[UNREAD] = Counter({dtype: size - claimed[dtype] for dtype, size in total.items()})
    return {name: dict(sizes) for name, held in layers.items() if (sizes := +held)}
