"""Tensors made from a shape, a range, an order or the places of values."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from converters.coreml.mil.program import MilProgram
from lspdmobile.errors import ConversionError

Array = NDArray[Any]
X = np.random.default_rng(4).standard_normal((2, 5, 4)).astype(np.float32)


@pytest.mark.parametrize("value", [0.25, 2**24 + 1, True])
def test_fill_is_worked_out_when_a_program_is_loaded(value: Any, save_program: Callable[..., Path]) -> None:
    path = save_program(lambda mb, x: [mb.relu(x=x), mb.fill(shape=[2, 3], value=value)], x=(1,))
    program = MilProgram.load(path)
    _, result = program.predict({"x": np.zeros(1)}).values()
    assert result.tolist() == [[value] * 3] * 2


def test_fill_like(check: Callable[..., None]) -> None:
    check(lambda mb, x: mb.fill_like(ref_tensor=x, value=0.25), lambda x: np.full_like(x, 0.25), X)


def test_shapes_are_known_when_a_program_is_loaded(check: Callable[..., None]) -> None:
    def body(mb: Any, x: Any) -> Any:
        lengths = mb.shape(x=x)
        rows = mb.mul(x=mb.gather(x=lengths, indices=0), y=mb.gather(x=lengths, indices=1))
        return mb.reshape(x=x, shape=mb.concat(values=[rows, -1], axis=0))

    check(body, lambda x: x.reshape(10, 4), X)


def test_shape_of_what_has_no_fixed_shape(check: Callable[..., None]) -> None:
    check(
        lambda mb, x: mb.shape(x=mb.non_zero(x=mb.relu(x=x))),
        lambda x: np.array([(x > 0).sum(), 3]),
        X,
    )


def test_non_zero(check: Callable[..., None]) -> None:
    check(lambda mb, x: mb.non_zero(x=mb.relu(x=x)), lambda x: np.argwhere(x > 0), X)


@pytest.mark.parametrize(
    ("start", "end", "step"), [(2, 11, 3), (5, -4, -2), (0.5, 2.0, 0.25), (3.0, 0.4, -0.8), (3, 1, 1)]
)
def test_range_1d(start: float, end: float, step: float, check: Callable[..., None]) -> None:
    def body(mb: Any, x: Any) -> Any:
        kind = "int32" if isinstance(start, int) else "fp32"
        numbers = [
            mb.cast(x=mb.slice_by_index(x=x, begin=[n], end=[n + 1], squeeze_mask=[True]), dtype=kind) for n in range(3)
        ]
        return mb.range_1d(start=numbers[0], end=numbers[1], step=numbers[2])

    check(body, lambda _: np.arange(start, end, step), np.array([start, end, step], np.float32))


@pytest.mark.parametrize("axis", [-1, 0, 1, -2])
def test_one_hot(axis: int, check: Callable[..., None]) -> None:
    def reference(x: Array) -> Array:
        hot = np.where(x.astype(int)[..., None] == np.arange(4), 2.5, -1)
        return np.moveaxis(hot, -1, axis)

    check(
        lambda mb, x: mb.one_hot(
            indices=mb.cast(x=x, dtype="int32"), one_hot_vector_size=4, axis=axis, on_value=2.5, off_value=-1.0
        ),
        reference,
        np.array([[3, 0, 1], [1, 1, 2]], np.float32),
    )


def test_one_hot_of_an_index_out_of_range_stops_the_program(save_program: Callable[..., Path]) -> None:
    path = save_program(
        lambda mb, x: mb.one_hot(
            indices=mb.cast(x=x, dtype="int32"), one_hot_vector_size=4, on_value=1.0, off_value=0.0
        ),
        x=(2,),
    )
    with pytest.raises(ConversionError, match="indices reach from 0 to 4; 0 to 3 are allowed"):
        MilProgram.load(path).predict({"x": np.array([4, 0], np.float32)})


@pytest.mark.parametrize(("lower", "upper"), [(-1, 0), (0, -1), (1, 2), (-1, -1), (0, 0)])
def test_band_part(lower: int, upper: int, check: Callable[..., None]) -> None:
    rows, columns = 5 if lower < 0 else lower, 5 if upper < 0 else upper
    check(
        lambda mb, x: mb.band_part(x=x, lower=lower, upper=upper),
        lambda x: np.triu(np.tril(x, columns), -rows),
        X,
    )


@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_argsort(axis: int, ascending: bool, check: Callable[..., None]) -> None:
    check(
        lambda mb, x: mb.argsort(x=x, axis=axis, ascending=ascending),
        lambda x: np.argsort(x if ascending else -x, axis),
        X,
    )


@pytest.mark.parametrize("target", ["iOS15", "iOS16", "iOS18"])
@pytest.mark.parametrize("ascending", [True, False])
def test_topk(ascending: bool, target: str, check: Callable[..., None]) -> None:
    def reference(x: Array) -> tuple[Array, Array]:
        order = np.argsort(x if ascending else -x, 1)[:, :3]
        return np.take_along_axis(x, order, 1), order

    check(lambda mb, x: mb.topk(x=x, k=3, axis=1, ascending=ascending), reference, X, target=target)


def test_topk_of_all_without_indices(check: Callable[..., None]) -> None:
    check(
        lambda mb, x: mb.topk(x=x, k=5, axis=1, sort=False, return_indices=False),
        lambda x: -np.sort(-x, 1),
        X,
    )


def test_topk_with_short_indices(check: Callable[..., None]) -> None:
    check(
        lambda mb, x: mb.cast(x=mb.topk(x=x, k=2, output_indices_dtype="uint16")[1], dtype="fp32"),
        lambda x: np.argsort(-x, -1)[..., :2],
        X,
    )


def test_a_range_without_steps_stops_the_program(save_program: Callable[..., Path]) -> None:
    path = save_program(lambda mb, x: mb.range_1d(start=0.0, end=3.0, step=mb.reduce_sum(x=x)), x=(2,))
    with pytest.raises(ConversionError, match=r"range_1d .*: step is 0"):
        MilProgram.load(path).predict({"x": np.array([1, -1], np.float32)})


def test_what_no_input_changes_can_be_asked_for(save_program: Callable[..., Path]) -> None:
    def body(mb: Any, x: Any) -> Any:
        halves = mb.mul(x=np.array([1, 3], np.float32), y=0.5, name="halves")
        return mb.add(x=x, y=halves)

    program = MilProgram.load(save_program(body, x=(2,)))
    results = program.predict({"x": np.array([1, 1], np.float32)}, ["halves"])
    assert results["halves"].tolist() == [0.5, 1.5]
    assert [value.tolist() for value in program.predict({"x": np.array([1, 1], np.float32)}).values()] == [[1.5, 2.5]]


def test_constants_worked_out_are_rounded_to_float16(save_program: Callable[..., Path]) -> None:
    path = save_program(
        lambda mb, x: mb.add(x=x, y=mb.mul(x=np.array([0.1, 3], np.float16), y=np.float16(3))), x=(2,), dtype="fp16"
    )
    (result,) = MilProgram.load(path).predict({"x": np.zeros(2, np.float16)}).values()
    assert np.array_equal(result, np.array([0.1, 3], np.float16) * np.float16(3))


@pytest.mark.parametrize(
    ("body", "reference"),
    [
        (lambda mb, x: mb.cumsum(x=x), np.cumsum),
        (lambda mb, x: mb.exp2(x=x), np.exp2),
        (
            lambda mb, x: mb.scatter(data=x, indices=np.arange(50), updates=np.full(50, 0.1, np.float16), mode="add"),
            lambda x: x + np.float32(np.float16(0.1)),
        ),
        (lambda mb, x: mb.reverse(x=x), lambda x: x[::-1]),
    ],
    ids=["cumsum", "exp2", "scatter", "reverse"],
)
def test_float16_results_are_rounded_before_they_are_used(
    body: Callable[..., Any], reference: Callable[[Array], Array], save_program: Callable[..., Path]
) -> None:
    x = np.random.default_rng(7).standard_normal(50).astype(np.float16)
    path = save_program(lambda mb, x: mb.mul(x=body(mb, x), y=np.float16(3)), x=(50,), dtype="fp16")
    (result,) = MilProgram.load(path).predict({"x": x}).values()
    assert np.array_equal(result, reference(x.astype(np.float32)).astype(np.float16) * np.float16(3))
