"""Gathering and scattering, compared with NumPy or one cell at a time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from converters.coreml.mil.program import MilProgram
from lspdmobile.errors import ConversionError

Array = NDArray[Any]

TARGETS = ["iOS15", "iOS18"]
MODES: dict[str, Callable[[Any, Any], Any]] = {
    "update": lambda _, new: new,
    "add": lambda old, new: old + new,
    "sub": lambda old, new: old - new,
    "mul": lambda old, new: old * new,
    "div": lambda old, new: old / new,
    "max": max,
    "min": min,
}
_quick = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _floats(*shape: int) -> Array:
    return np.random.default_rng(2).standard_normal(shape).astype(np.float32) + 2


def _indices(data: st.DataObject, shape: tuple[int, ...], size: int, *, negatives: bool) -> Array:
    count = int(np.prod(shape))
    values = data.draw(st.lists(st.integers(-size if negatives else 0, size - 1), min_size=count, max_size=count))
    return np.array(values, np.int32).reshape(shape)


@_quick
@given(data=st.data())
def test_gather_takes_what_numpy_takes(data: st.DataObject, check: Callable[..., None]) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    target = data.draw(st.sampled_from(TARGETS))
    wanted = tuple(data.draw(st.lists(st.integers(1, 3), max_size=2)))
    indices = _indices(data, wanted, shape[axis], negatives=target == "iOS15")
    check(
        lambda mb, x: mb.gather(x=x, indices=indices if wanted else indices.item(), axis=axis),
        lambda x: np.take(x, indices, axis),
        _floats(*shape),
        target=target,
    )


@pytest.mark.parametrize(("batch", "axis"), [(1, 1), (1, 2), (2, 2)])
def test_gather_in_batches(batch: int, axis: int, check: Callable[..., None]) -> None:
    x, indices = _floats(2, 3, 4), np.random.default_rng(0).integers(0, 3, (2, 3, 2), dtype=np.int32)

    def reference(x: Array) -> Array:
        rows = [np.take(x[place], indices[place], axis - batch) for place in np.ndindex(*x.shape[:batch])]
        return np.stack(rows).reshape(*x.shape[:batch], *rows[0].shape)

    check(lambda mb, x: mb.gather(x=x, indices=indices, axis=axis, batch_dims=batch), reference, x, target="iOS16")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_along_axis(axis: int, target: str, check: Callable[..., None]) -> None:
    shape = [2, 3, 4]
    shape[axis] = 5
    low = -2 if target == "iOS15" else 0
    indices = np.random.default_rng(1).integers(low, 2, shape, dtype=np.int32)
    check(
        lambda mb, x: mb.gather_along_axis(x=x, indices=indices, axis=axis),
        lambda x: np.take_along_axis(x, indices, axis),
        _floats(2, 3, 4),
        target=target,
    )


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_gather_nd(depth: int, target: str, check: Callable[..., None]) -> None:
    low = -2 if target == "iOS15" else 0
    indices = np.random.default_rng(1).integers(low, 2, (4, 2, depth), dtype=np.int32)
    check(
        lambda mb, x: mb.gather_nd(x=x, indices=indices),
        lambda x: np.stack([np.stack([x[tuple(index)] for index in row]) for row in indices]),
        _floats(2, 3, 4),
        target=target,
    )


@pytest.mark.parametrize("batch", [1, 2])
def test_gather_nd_in_batches(batch: int, check: Callable[..., None]) -> None:
    indices = np.random.default_rng(1).integers(0, 2, (2, 3, 5, 1), dtype=np.int32)

    def reference(x: Array) -> Array:
        picked = [x[(*place[:batch], *indices[place])] for place in np.ndindex(*indices.shape[:-1])]
        return np.stack(picked).reshape(*indices.shape[:-1], *picked[0].shape)

    check(lambda mb, x: mb.gather_nd(x=x, indices=indices, batch_dims=batch), reference, _floats(2, 3, 4, 2))


def test_indices_may_be_computed(check: Callable[..., None]) -> None:
    check(
        lambda mb, x, y: mb.gather(x=x, indices=mb.cast(x=y, dtype="uint16"), axis=1),
        lambda x, y: x[:, y.astype(int)],
        _floats(2, 5),
        np.array([4, 0, 3], np.float32),
    )


def _scattered(data: Array, cells: Array, updates: Array, mode: str) -> Array:
    """One update after another, into flat cells."""
    result = data.astype(np.float64).reshape(-1)
    for cell, value in zip(cells.reshape(-1), updates.reshape(-1), strict=True):
        result[cell] = MODES[mode](result[cell], value)
    return result.reshape(data.shape)


def _distinct(mode: str, indices: list[int]) -> list[int]:
    return indices if mode != "update" else list(dict.fromkeys(indices))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("mode", MODES)
def test_scatter(mode: str, target: str, check: Callable[..., None]) -> None:
    x = _floats(3, 4, 2)
    numbers = np.array(_distinct(mode, [2, 0, 2, 2]), np.int32)
    updates = np.random.default_rng(8).uniform(0.5, 3, (3, len(numbers), 2)).astype(np.float32)
    check(
        lambda mb, x: mb.scatter(
            data=x, indices=numbers - 4 if target == "iOS15" else numbers, updates=updates, axis=1, mode=mode
        ),
        lambda x: _scattered(x, np.arange(x.size).reshape(x.shape)[:, numbers], updates, mode),
        x,
        target=target,
    )


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("mode", MODES)
def test_scatter_along_axis(mode: str, target: str, check: Callable[..., None]) -> None:
    numbers = np.array([_distinct(mode, [3, 1, 1]), _distinct(mode, [0, 1, 0])], np.int32)
    updates = np.random.default_rng(8).uniform(0.5, 3, numbers.shape).astype(np.float32)
    check(
        lambda mb, x: mb.scatter_along_axis(data=x, indices=numbers, updates=updates, axis=-1, mode=mode),
        lambda x: _scattered(x, np.take_along_axis(np.arange(x.size).reshape(x.shape), numbers, 1), updates, mode),
        _floats(2, 4),
        target=target,
    )


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("mode", MODES)
def test_scatter_nd(mode: str, target: str, check: Callable[..., None]) -> None:
    numbers = np.array([[0, 2], [1, 1], [0, 2]][: 2 if mode == "update" else 3], np.int32)
    updates = np.random.default_rng(8).uniform(0.5, 3, (len(numbers), 2)).astype(np.float32)
    check(
        lambda mb, x: mb.scatter_nd(data=x, indices=numbers, updates=updates, mode=mode),
        lambda x: _scattered(x, np.arange(x.size).reshape(x.shape)[tuple(numbers.T)], updates, mode),
        _floats(2, 3, 2),
        target=target,
    )


def test_scatter_of_integers(save_program: Callable[..., Path]) -> None:
    def body(mb: Any, x: Any) -> Any:
        whole = mb.cast(x=x, dtype="int32")
        return [mb.scatter(data=whole, indices=[1, 1], updates=[4, 7], mode=mode) for mode in ("add", "mul", "max")]

    x = np.array([1, 2, 3], np.float32)
    results = MilProgram.load(save_program(body, x=(3,))).predict({"x": x}).values()
    assert [result.tolist() for result in results] == [[1, 13, 3], [1, 56, 3], [1, 7, 3]]


REFUSED: dict[str, tuple[Callable[..., Any], str]] = {
    "beyond the end": (
        lambda mb, x, y: mb.gather(x=x, indices=mb.cast(x=y, dtype="int32")),
        r"gather .*: cannot run: indices reach from 0 to 3; 0 to 2 are allowed",
    ),
    "negative since iOS 17": (
        lambda mb, x, y: mb.gather_along_axis(x=x, indices=mb.cast(x=mb.sub(x=y, y=3.0), dtype="int32")),
        r"gather_along_axis .*: indices reach from -3 to 0",
    ),
    "several updates of a cell": (
        lambda mb, x, y: mb.scatter(data=x, indices=[1, 1, 0], updates=y, mode="update"),
        r"scatter .*: mode 'update' of one cell by several updates is not defined",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_defined_stops_the_program(case: str, save_program: Callable[..., Path]) -> None:
    body, complaint = REFUSED[case]
    program = MilProgram.load(save_program(body, x=(3,), y=(3,)))
    with pytest.raises(ConversionError, match=complaint):
        program.predict({"x": np.zeros(3), "y": np.array([0, 1, 3])})


def test_division_of_integers_is_refused(save_program: Callable[..., Path]) -> None:
    path = save_program(
        lambda mb, x: mb.scatter(data=mb.cast(x=x, dtype="int32"), indices=[0], updates=[2], mode="div"), x=(3,)
    )
    with pytest.raises(ConversionError, match="mode 'div' of integers is not implemented"):
        MilProgram.load(path)


def test_a_scatter_must_state_its_mode(save_program: Callable[..., Path], edit: Callable[..., None]) -> None:
    path = save_program(lambda mb, x: mb.scatter(data=x, indices=[0], updates=[2.0], mode="add"), x=(3,))

    def drop(model: Any) -> None:
        function = model.mlProgram.functions["main"]
        operations = function.block_specializations[function.opset].operations
        next(o for o in operations if o.type == "scatter").inputs.pop("mode")

    edit(path, drop)
    with pytest.raises(ConversionError, match="mode is missing"):
        MilProgram.load(path)
