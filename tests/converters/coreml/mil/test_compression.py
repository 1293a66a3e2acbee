"""Compressed constants of iOS 18: every width, vectors as entries, sparse ones, and chains of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from converters.coreml.mil.program import MilProgram
from lspdmobile.errors import ConversionError

Array = NDArray[Any]
Given = Callable[[Callable[[Any, Any], Any], tuple[int, ...]], Array]

RANDOM = np.random.default_rng(9)


@pytest.fixture
def given(save_program: Callable[..., Path]) -> Given:
    """Give a function that saves a program which adds ``body(mb, types)`` to zeros: gives what it holds."""

    def given(body: Callable[[Any, Any], Any], shape: tuple[int, ...]) -> Array:
        from coremltools.converters.mil.mil import types

        path = save_program(lambda mb, x: mb.add(x=x, y=body(mb, types)), x=shape, target="iOS18")
        (result,) = MilProgram.load(path).predict({"x": np.zeros(shape, np.float32)}).values()
        return np.asarray(result)

    return given


def _table(*shape: int) -> Array:
    return RANDOM.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("rows", [2, 60], ids=["few", "many"])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8])
def test_indices_of_every_width(bits: int, rows: int, given: Given) -> None:
    indices, table = RANDOM.integers(0, 2**bits, (rows, 7)), _table(1, 1, 2**bits, 1)
    result = given(
        lambda mb, types: mb.constexpr_lut_to_dense(
            indices=indices.astype(np.uint8 if bits == 8 else getattr(types, f"np_uint{bits}_dtype")), lut=table
        ),
        (rows, 7),
    )
    assert np.array_equal(result, table.reshape(-1)[indices])


@pytest.mark.parametrize("rows", [2, 60], ids=["few", "many"])
@pytest.mark.parametrize("kind", ["int4", "uint4", "int8", "uint8"])
def test_data_of_every_width_in_blocks(kind: str, rows: int, given: Given) -> None:
    bits, signed = int(kind[-1]), kind.startswith("i")
    low = -(2 ** (bits - 1)) if signed else 0
    data, offset = (RANDOM.integers(low, low + 2**bits, shape) for shape in ((rows, 6), (2, 3)))
    scale = RANDOM.uniform(0.1, 1, (2, 3)).astype(np.float32)

    def body(mb: Any, types: Any) -> Any:
        held = getattr(types, f"np_{kind}_dtype") if bits == 4 else np.dtype(kind)
        return mb.constexpr_blockwise_shift_scale(data=data.astype(held), scale=scale, offset=offset.astype(held))

    blocks = np.ones((rows // 2, 2))
    wanted = (data - np.kron(offset, blocks)) * np.kron(scale, blocks)
    np.testing.assert_allclose(given(body, (rows, 6)), wanted, rtol=1e-6)


def test_float_offset_of_integers(given: Given) -> None:
    data = RANDOM.integers(-8, 8, (4, 6))
    wanted = (data - 0.25) * 0.5
    result = given(
        lambda mb, types: mb.constexpr_blockwise_shift_scale(
            data=data.astype(types.np_int4_dtype),
            scale=np.full((1, 1), 0.5, np.float32),
            offset=np.full((1, 1), 0.25, np.float32),
        ),
        (4, 6),
    )
    assert np.array_equal(result, wanted)


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2])
@pytest.mark.parametrize("groups", [(1, 1, 1), (2, 1, 1), (1, 2, 4), (2, 2, 2)])
def test_entries_may_be_vectors(groups: tuple[int, ...], axis: int, given: Given) -> None:
    """One index at a time: the entry of its group fills three cells along the axis."""
    indices, table = RANDOM.integers(0, 4, (2, 4, 4)), _table(*groups, 4, 3)
    shape = [2, 4, 4]
    shape[axis] *= 3
    wanted = np.zeros(shape, np.float32)
    for place in np.ndindex(2, 4, 4):
        group = tuple(n * count // size for n, count, size in zip(place, groups, (2, 4, 4), strict=True))
        cells: list[Any] = list(place)
        cells[axis] = slice(place[axis] * 3, place[axis] * 3 + 3)
        wanted[tuple(cells)] = table[(*group, indices[place])]
    result = given(
        lambda mb, types: mb.constexpr_lut_to_dense(
            indices=indices.astype(types.np_uint2_dtype), lut=table, vector_axis=axis
        ),
        tuple(shape),
    )
    assert np.array_equal(result, wanted)


MASK = np.array([[1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 1], [0, 1, 1, 0, 1, 0], [0, 0, 0, 1, 0, 0]])
INDICES = np.array([0, 1, 1, 0, 1, 1, 0, 0, 1])
"""The example of the MIL reference."""


def _dense(values: Array) -> Array:
    dense = np.zeros(MASK.shape, np.float32)
    dense[MASK == 1] = values
    return dense


def test_sparse_palettes(given: Given) -> None:
    def body(mb: Any, types: Any) -> Any:
        mask, values = mb.constexpr_lut_to_sparse(
            indices_mask=MASK.astype(types.np_uint1_dtype),
            indices_nonzero_data=INDICES.astype(types.np_uint1_dtype),
            lut=np.array([2.0, 3.0], np.float32).reshape(1, 1, 2, 1),
        )
        return mb.constexpr_sparse_to_dense(nonzero_data=values, mask=mask)

    assert np.array_equal(given(body, (4, 6)), _dense(INDICES + 2.0))


def test_sparse_palettes_of_vectors(given: Given) -> None:
    def body(mb: Any, types: Any) -> Any:
        mask, values = mb.constexpr_lut_to_sparse(
            indices_mask=MASK.astype(types.np_uint1_dtype),
            indices_nonzero_data=INDICES.astype(types.np_uint1_dtype),
            lut=np.array([[2.0, 20.0], [3.0, 30.0]], np.float32).reshape(1, 1, 2, 2),
            vector_axis=0,
        )
        return mb.constexpr_sparse_to_dense(nonzero_data=values, mask=mask)

    wanted = np.zeros((8, 6), np.float32)
    wanted[::2], wanted[1::2] = _dense(INDICES + 2.0), _dense((INDICES + 2.0) * 10)
    assert np.array_equal(given(body, (8, 6)), wanted)


def test_sparse_data_in_blocks(given: Given) -> None:
    data = RANDOM.integers(-8, 8, int(MASK.sum()))
    scale, offset = np.array([[0.5, 0.25, 2.0]], np.float32), np.array([[1, -3, 2]])

    def body(mb: Any, types: Any) -> Any:
        mask, values = mb.constexpr_sparse_blockwise_shift_scale(
            data_mask=MASK.astype(types.np_uint1_dtype),
            nonzero_data=data.astype(types.np_int4_dtype),
            scale=scale,
            offset=offset.astype(types.np_int4_dtype),
        )
        return mb.constexpr_sparse_to_dense(nonzero_data=values, mask=mask)

    wanted = (_dense(data) - offset.repeat(2, 1)) * scale.repeat(2, 1) * MASK
    assert np.array_equal(given(body, (4, 6)), wanted)


def test_a_palette_of_integers_that_are_scaled_by_scales_that_are_scaled(given: Given) -> None:
    indices, table = RANDOM.integers(0, 16, (4, 6)), RANDOM.integers(-128, 128, (2, 1, 16, 1), dtype=np.int8)
    steps = np.array([[1, 2, 4], [8, 16, 32]], np.uint8)

    def body(mb: Any, types: Any) -> Any:
        whole = mb.constexpr_lut_to_dense(indices=indices.astype(types.np_uint4_dtype), lut=table)
        scale = mb.constexpr_blockwise_shift_scale(data=steps, scale=np.array([[0.25]], np.float32))
        return mb.constexpr_blockwise_shift_scale(data=whole, scale=scale)

    groups = np.arange(4)[:, None] // 2
    wanted = table[groups, 0, indices, 0] * np.kron(steps, np.ones((2, 2))) / 4
    assert np.array_equal(given(body, (4, 6)), wanted)


def test_sparse_palettes_of_integers_that_are_scaled(given: Given) -> None:
    def body(mb: Any, types: Any) -> Any:
        mask, values = mb.constexpr_lut_to_sparse(
            indices_mask=MASK.astype(types.np_uint1_dtype),
            indices_nonzero_data=INDICES.astype(types.np_uint1_dtype),
            lut=np.array([-7, 9], np.int8).reshape(1, 1, 2, 1),
        )
        mask, values = mb.constexpr_sparse_blockwise_shift_scale(
            data_mask=mask, nonzero_data=values, scale=np.array([[0.5]], np.float32)
        )
        return mb.constexpr_sparse_to_dense(nonzero_data=values, mask=mask)

    assert np.array_equal(given(body, (4, 6)), _dense(np.where(INDICES == 1, 4.5, -3.5)))


def _drop(name: str) -> Callable[[Any], None]:
    def drop(model: Any) -> None:
        function = model.mlProgram.functions["main"]
        operations = function.block_specializations[function.opset].operations
        operation = next(o for o in operations if o.type.startswith("constexpr"))
        (operation.inputs if name in operation.inputs else operation.attributes).pop(name)

    return drop


def test_vectors_without_an_axis_are_refused(save_program: Callable[..., Path], edit: Callable[..., None]) -> None:
    from coremltools.converters.mil.mil import types

    path = save_program(
        lambda mb, x: mb.add(
            x=x,
            y=mb.constexpr_lut_to_dense(
                indices=np.zeros((2, 3)).astype(types.np_uint1_dtype), lut=_table(1, 1, 2, 2), vector_axis=0
            ),
        ),
        x=(4, 3),
        target="iOS18",
    )
    edit(path, _drop("vector_axis"))
    with pytest.raises(ConversionError, match="vector_axis is missing"):
        MilProgram.load(path)
