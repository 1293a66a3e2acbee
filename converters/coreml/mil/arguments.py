"""The inputs of one operation while it is being planned, and the kernel that planning gives.

A planner reads every input its operation has. What it cannot honour it refuses, and an input that it never reads is
refused too, so that nothing in a file is skipped silently.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from converters.coreml.mil.constants import Constant, TensorType
from converters.coreml.mil.package import Binding, Operation
from lspdmobile.errors import ConversionError

__all__ = ["Arguments", "Kernel", "Planner", "whole_numbers"]


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """What runs an operation.

    Attributes:
        operands: Values it needs when it runs, in the order ``run`` takes them.
        run: Maps the operands' tensors to the output tensor, or to a tuple of them.
    """

    operands: tuple[Binding, ...]
    run: Callable[..., Any]


class Arguments:
    """Inputs of one operation.

    Args:
        operation: The operation.
        constants: Every constant known so far, by value name.
        types: Type of every value known so far, by value name.
    """

    def __init__(
        self, operation: Operation, constants: Mapping[str, Constant], types: Mapping[str, TensorType]
    ) -> None:
        self.operation = operation
        self._constants = constants
        self._types = types
        self._unread = set(operation.inputs)

    def refuse(self, attribute: str, why: str) -> NoReturn:
        """Refuse the operation because of one attribute.

        Raises:
            ConversionError: Always; names the operation, its first output and the attribute.
        """
        message = f"{self.operation.label}: {attribute} {why}"
        raise ConversionError(message)

    def has(self, name: str) -> bool:
        """Whether the input is given."""
        return name in self.operation.inputs

    def require_all_read(self) -> None:
        """Refuse inputs that no planner looked at.

        Raises:
            ConversionError: There is one.
        """
        if self._unread:
            self.refuse(sorted(self._unread)[0], "is not implemented")

    def bindings(self, name: str) -> tuple[Binding, ...]:
        """Give what a variadic input is bound to.

        Raises:
            ConversionError: The input is missing.
        """
        self._unread.discard(name)
        bound = self.operation.inputs.get(name, ())
        if not bound:
            self.refuse(name, "is missing")
        return bound

    def kernel(self, run: Callable[..., Any], *names: str) -> Kernel:
        """Give a kernel over the named inputs; those ending in ``?`` may be absent and are then passed as None.

        ``run`` takes one tensor per name.
        """
        operands: list[Binding] = []
        given: list[bool] = []
        for name in names:
            plain = name.removesuffix("?")
            given.append(plain == name or self.has(plain))
            if given[-1]:
                operands.append(self._only(plain))
        if all(given):
            return Kernel(operands=tuple(operands), run=run)

        def run_with_gaps(*tensors: Any) -> Any:
            present = iter(tensors)
            return run(*(next(present) if here else None for here in given))

        return Kernel(operands=tuple(operands), run=run_with_gaps)

    def type_of(self, name: str) -> TensorType:
        """Give the type of an input."""
        return self.type_of_bound(self._only(name))

    def type_of_bound(self, bound: Binding) -> TensorType:
        """Give the type of what an input is bound to."""
        return bound.type if isinstance(bound, Constant) else self._types[bound]

    def rank(self, name: str) -> int:
        """Give the number of axes of an input."""
        return len(self.type_of(name).shape)

    def constant(self, name: str) -> Constant:
        """Give an input that must be constant.

        Raises:
            ConversionError: It is missing, or only known when the program runs.
        """
        return self._known(name, self._only(name))

    def is_constant(self, name: str) -> bool:
        """Whether an input is known before the program runs."""
        return self.known(self._only(name)) is not None

    def known(self, bound: Binding) -> Constant | None:
        """Give what an input is bound to, or None where it is computed while the program runs."""
        return bound if isinstance(bound, Constant) else self._constants.get(bound)

    def array(self, name: str) -> NDArray[Any]:
        """Give a constant numeric input."""
        value = self.constant(name).value
        if isinstance(value, str):
            self.refuse(name, f"is the text {value!r}, not numbers")
        return value

    def integers(self, name: str, *, default: Sequence[int] | None = None, count: int | None = None) -> tuple[int, ...]:
        """Give a constant list of integers, of ``count`` entries if that is given."""
        if default is not None and not self.has(name):
            return tuple(default)
        values = tuple(int(value) for value in self.array(name).reshape(-1))
        if count is not None and len(values) != count:
            self.refuse(name, f"has {len(values)} entries, not {count}")
        return values

    def all_integers(self, name: str) -> tuple[int, ...]:
        """Give a variadic input of constant integers."""
        return tuple(self._whole(name, bound) for bound in self.bindings(name))

    def integer(self, name: str, *, default: int | None = None) -> int:
        """Give a constant integer."""
        return self.integers(name, default=None if default is None else (default,), count=1)[0]

    def number(self, name: str, *, default: float | None = None) -> float:
        """Give a constant number."""
        if default is not None and not self.has(name):
            return default
        values = self.array(name)
        if values.size != 1:
            self.refuse(name, f"has {values.size} entries, not 1")
        return float(values.reshape(()))

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Give a constant truth value."""
        return bool(self.integer(name, default=int(default)))

    def flags(self, name: str, *, count: int) -> tuple[bool, ...]:
        """Give a constant list of truth values; all false where absent."""
        return tuple(bool(value) for value in self.integers(name, default=(0,) * count, count=count))

    def text(self, name: str, allowed: Sequence[str], *, default: str | None = None) -> str:
        """Give a constant text out of those that are implemented."""
        if default is not None and not self.has(name):
            return default
        value = self.constant(name).value
        if not isinstance(value, str):
            self.refuse(name, "is a number, not text")
        if value not in allowed:
            self.refuse(name, f"{value!r} is not implemented; implemented: {', '.join(allowed)}")
        return value

    def axis(self, name: str, rank: int, *, default: int | None = None) -> int:
        """Give a constant axis, counted from the front."""
        value = self.integer(name, default=default)
        return self._normal(name, value, rank)

    def axes(self, name: str, rank: int) -> tuple[int, ...]:
        """Give constant axes, counted from the front; every axis where absent."""
        return tuple(self._normal(name, value, rank) for value in self.integers(name, default=range(rank)))

    def _normal(self, name: str, axis: int, rank: int) -> int:
        if not -rank <= axis < max(rank, 1):
            self.refuse(name, f"{axis} is no axis of a tensor of rank {rank}")
        return int(np.mod(axis, rank)) if rank else 0

    def _known(self, name: str, bound: Binding) -> Constant:
        constant = self.known(bound)
        if constant is None:
            self.refuse(name, "is computed while the program runs; only constants are implemented")
        return constant

    def _whole(self, name: str, bound: Binding) -> int:
        value = self._known(name, bound).value
        if isinstance(value, str) or value.size != 1:
            self.refuse(name, "is not one number each")
        return int(value.reshape(()))

    def _only(self, name: str) -> Binding:
        bound = self.bindings(name)
        if len(bound) != 1:
            self.refuse(name, f"is bound to {len(bound)} values, not 1")
        return bound[0]


Planner = Callable[[Arguments], Kernel]
"""Checks an operation's attributes and gives its kernel."""


def whole_numbers(values: Tensor) -> tuple[int, ...]:
    """Give the entries of a tensor of integers."""
    return tuple(int(value) for value in values.reshape(-1).tolist())
