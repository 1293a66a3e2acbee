"""Choosing where to plant a fault."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from numpy.random import Generator

from benchmarks.mutations.package import Package

__all__ = ["Mutation", "one_of", "with_constant"]

T = TypeVar("T")

Mutation = Callable[[Package, Generator], str | None]
"""Changes a package in one place and says where; None where the package has no such place."""


def one_of(choices: Sequence[T], rng: Generator) -> T | None:
    """Draw one; None of none."""
    return choices[int(rng.integers(len(choices)))] if choices else None


def with_constant(package: Package, rng: Generator, parameter: str, *kinds: str) -> tuple[Any, Any] | None:
    """Draw an operation of these kinds whose parameter is a constant, with the constant's value message."""
    pairs = [(op, package.constant(op, parameter)) for op in package.operations(*kinds)]
    return one_of([(op, value) for op, value in pairs if value is not None], rng)
