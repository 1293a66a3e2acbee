"""Slices, windows and axes turned around, compared with NumPy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from converters.coreml.mil.program import MilProgram
from lspdmobile.errors import ConversionError

Array = NDArray[Any]

_DRAWN = 8
"""Slices for one program; about half of them are none."""
_quick = settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _floats(*shape: int) -> Array:
    return np.random.default_rng(2).standard_normal(shape).astype(np.float32)


def _slices(data: st.DataObject, shape: list[int]) -> list[tuple[dict[str, Any], tuple[slice | int, ...]]]:
    """Draw arguments of ``slice_by_index``, each with the index NumPy takes for them; none is empty or a scalar."""
    drawn = [_slice(data, shape) for _ in range(_DRAWN)]
    nothing = np.zeros(shape)
    found = [(a, index) for a, index in drawn if nothing[index].size and not all(a["squeeze_mask"])]
    assume(found)
    return found


def _slice(data: st.DataObject, shape: list[int]) -> tuple[dict[str, Any], tuple[slice | int, ...]]:
    """Draw arguments of ``slice_by_index``, and the index NumPy takes for them."""
    fields = ("begin", "end", "stride", "begin_mask", "end_mask", "squeeze_mask")
    drawn: dict[str, Any] = {name: [] for name in fields}
    index: list[slice | int] = []
    for size in shape:
        place = st.integers(-size, size - 1)
        first, last, stride = data.draw(place), data.draw(place), data.draw(st.sampled_from([-3, -2, -1, 1, 2, 3]))
        open_first, open_last, single = (data.draw(st.booleans()) for _ in range(3))
        along = slice(None if open_first else first, None if open_last else last, stride)
        index.append((0 if open_first else first) if single else along)
        for name, value in zip(fields, (first, last, stride, open_first, open_last, single), strict=True):
            drawn[name].append(value)
    return drawn, tuple(index)


@_quick
@given(data=st.data())
def test_slice_by_index_is_numpys(data: st.DataObject, check: Callable[..., None]) -> None:
    shape = data.draw(st.lists(st.integers(2, 6), min_size=1, max_size=3))
    drawn = _slices(data, shape)
    check(
        lambda mb, x: [mb.slice_by_index(x=x, **arguments) for arguments, _ in drawn],
        lambda x: tuple(x[index] for _, index in drawn),
        _floats(*shape),
        target=data.draw(st.sampled_from(["iOS15", "iOS18"])),
    )


@_quick
@given(data=st.data())
def test_slice_update_replaces_numpys_slice(data: st.DataObject, check: Callable[..., None]) -> None:
    shape = data.draw(st.lists(st.integers(2, 5), min_size=1, max_size=3))
    drawn = _slices(data, shape)

    def reference(x: Array) -> tuple[Array, ...]:
        changed = tuple(x.copy() for _ in drawn)
        for array, (_, index) in zip(changed, drawn, strict=True):
            array[index] = 7
        return changed

    def body(mb: Any, x: Any) -> list[Any]:
        values = [np.full_like(_floats(*shape)[index], 7) for _, index in drawn]
        return [mb.slice_update(x=x, update=v, **a) for v, (a, _) in zip(values, drawn, strict=True)]

    check(body, reference, _floats(*shape), target="iOS18")


def test_a_squeezed_axis_with_an_open_begin_gives_its_first_cell(check: Callable[..., None]) -> None:
    check(
        lambda mb, x: mb.slice_by_index(
            x=x, begin=[2, 0], end=[3, 4], begin_mask=[True, False], squeeze_mask=[True, False]
        ),
        lambda x: x[0],
        _floats(3, 4),
    )


def test_ends_may_be_computed_while_the_program_runs(check: Callable[..., None]) -> None:
    def body(mb: Any, x: Any, y: Any) -> list[Any]:
        numbers = mb.cast(x=y, dtype="int32")
        return [
            mb.slice_by_index(x=x, begin=[0, 1], end=numbers),
            mb.slice_by_size(x=x, begin=[0, 0], size=numbers),
        ]

    check(body, lambda x, _: (x[:2, 1:3], x[:2, :3]), _floats(3, 4), np.array([2, 3], np.float32))


@pytest.mark.parametrize("target", ["iOS15", "iOS18"])
def test_slice_by_size(target: str, check: Callable[..., None]) -> None:
    check(
        lambda mb, x: mb.slice_by_size(x=x, begin=[0, 1, 2, -2], size=[1, 4, -1, 2]),
        lambda x: x[:, 1:5, 2:, -2:],
        _floats(1, 8, 9, 7),
        target=target,
    )


@pytest.mark.parametrize(("axes", "index"), [([0, -1], np.s_[::-1, :, ::-1]), (None, np.s_[::-1, ::-1, ::-1])])
def test_reverse(axes: list[int] | None, index: tuple[slice, ...], check: Callable[..., None]) -> None:
    named = {} if axes is None else {"axes": axes}
    check(lambda mb, x: mb.reverse(x=x, **named), lambda x: x[index], _floats(2, 3, 4))


@pytest.mark.parametrize(("along", "batch"), [(1, 0), (0, 2), (-1, 1)])
def test_reverse_sequence(along: int, batch: int, check: Callable[..., None]) -> None:
    x = _floats(4, 4, 4)
    lengths = np.array([3, 0, 4, 1], np.int32)

    def reference(x: Array) -> Array:
        rows = np.moveaxis(x, (batch, along), (0, 1)).copy()
        for row, length in zip(rows, lengths, strict=True):
            row[:length] = row[:length][::-1].copy()
        return np.moveaxis(rows, (0, 1), (batch, along))

    check(lambda mb, x: mb.reverse_sequence(x=x, lengths=lengths, seq_axis=along, batch_axis=batch), reference, x)


@pytest.mark.parametrize(("axis", "size", "stride"), [(1, 3, 2), (-1, 4, 1), (0, 2, 1)])
def test_sliding_windows(axis: int, size: int, stride: int, check: Callable[..., None]) -> None:
    x = _floats(2, 7, 5)

    def reference(x: Array) -> Array:
        firsts = range(0, x.shape[axis] - size + 1, stride)
        return np.stack([np.take(x, range(first, first + size), axis) for first in firsts], axis % 3)

    check(lambda mb, x: mb.sliding_windows(x=x, axis=axis, size=size, stride=stride), reference, x)


def test_a_step_of_0_is_refused(save_program: Callable[..., Path], edit: Callable[..., None]) -> None:
    path = save_program(lambda mb, x: mb.slice_by_index(x=x, begin=[0], end=[3], stride=[2]), x=(4,))

    def halt(model: Any) -> None:
        function = model.mlProgram.functions["main"]
        operations = function.block_specializations[function.opset].operations
        name = next(o for o in operations if o.type == "slice_by_index").inputs["stride"].arguments[0].name
        held = next(o for o in operations if o.outputs[0].name == name).attributes["val"]
        held.immediateValue.tensor.ints.values[:] = [0]

    edit(path, halt)
    with pytest.raises(ConversionError, match="stride is 0"):
        MilProgram.load(path)


def test_sequences_along_their_batch_are_refused(save_program: Callable[..., Path]) -> None:
    path = save_program(lambda mb, x: mb.reverse_sequence(x=x, lengths=[1, 2], seq_axis=0, batch_axis=0), x=(2, 3))
    with pytest.raises(ConversionError, match="seq_axis 0 is the batch axis too"):
        MilProgram.load(path)
