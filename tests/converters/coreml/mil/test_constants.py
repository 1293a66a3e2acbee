from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from converters.coreml.mil.constants import DTYPES, unpacked
from converters.coreml.mil.package import read_program
from converters.coreml.mil.program import MilProgram

SHAPE = (2, 3, 4)


def _plus_constant(path: Path) -> NDArray[Any]:
    """Run a program that adds a constant of SHAPE to ``x`` on zeros: gives the constant."""
    (result,) = MilProgram.load(path).predict({"x": np.zeros(SHAPE, np.float32)}).values()
    return result


def test_dtype_codes_are_apples() -> None:
    from coremltools.proto import MIL_pb2

    theirs = {value: name.lower() for name, value in MIL_pb2.DataType.items() if value}
    assert {code: dtype.name for code, dtype in DTYPES.items()} == theirs


@given(st.sampled_from([1, 2, 3, 4, 6]), st.lists(st.integers(0, 63), min_size=1, max_size=40), st.booleans())
def test_unpacking_inverts_packing(bits: int, numbers: list[int], signed: bool) -> None:
    values = [number % (1 << bits) for number in numbers]
    stream = sum(value << (index * bits) for index, value in enumerate(values))
    packed = np.frombuffer(stream.to_bytes((len(values) * bits + 7) // 8, "little"), np.uint8)
    wanted = [value - (1 << bits) if signed and value >> (bits - 1) else value for value in values]
    assert unpacked(packed, bits, len(values), signed=signed).tolist() == wanted


@pytest.mark.parametrize("count", [5, 500], ids=["in the specification", "in weight.bin"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int32", "bool"])
def test_constants_come_back_as_they_went(dtype: str, count: int, save_program: Callable[..., Path]) -> None:
    wanted = (np.random.default_rng(0).standard_normal(count) * 50).astype(dtype)
    path = save_program(lambda mb, x: [mb.identity(x=x), mb.identity(x=mb.const(val=wanted, name="kept"))], x=(1,))
    held = {o.outputs[0].name: o.inputs["val"][0] for o in read_program(path).operations if o.kind == "const"}["kept"]
    assert not isinstance(held, str)
    assert np.array_equal(np.asarray(held.value), wanted)
    assert held.type.dtype.name == dtype


@pytest.mark.parametrize("count", [12, 1200], ids=["in the specification", "in weight.bin"])
def test_affine_dequantize_per_channel(count: int, save_program: Callable[..., Path]) -> None:
    generator = np.random.default_rng(1)
    data = generator.integers(-128, 128, (3, count), dtype=np.int8)
    scale, zero = generator.uniform(0.1, 1, 3).astype(np.float32), np.array([0, -5, 7], np.int8)
    path = save_program(
        lambda mb, x: mb.add(
            x=x, y=mb.constexpr_affine_dequantize(quantized_data=data, zero_point=zero, scale=scale, axis=0)
        ),
        x=(3, count),
    )
    (result,) = MilProgram.load(path).predict({"x": np.zeros((3, count), np.float32)}).values()
    wanted = (data.astype(np.float32) - zero[:, None]) * scale[:, None]
    np.testing.assert_allclose(result, wanted, rtol=1e-6)


def test_blockwise_shift_scale_of_int4(save_program: Callable[..., Path]) -> None:
    from coremltools.converters.mil.mil import types

    data = np.arange(24).reshape(SHAPE) % 16 - 8
    scale = np.array([0.5, 2.0], np.float32).reshape(1, 1, 2)
    offset = np.array([1, -3]).reshape(1, 1, 2)
    int4 = types.np_int4_dtype
    path = save_program(
        lambda mb, x: mb.add(
            x=x,
            y=mb.constexpr_blockwise_shift_scale(data=data.astype(int4), scale=scale, offset=offset.astype(int4)),
        ),
        x=SHAPE,
        target="iOS18",
    )
    wanted = (data - offset.repeat(2, -1)) * scale.repeat(2, -1)
    np.testing.assert_allclose(_plus_constant(path), wanted, rtol=1e-6)


def test_lut_to_dense_of_packed_bits(save_program: Callable[..., Path]) -> None:
    table = np.array([-1.5, 0.25, 3.0, 8.0], np.float32)
    indices = np.arange(24) * 7 % 4
    packed = np.packbits((indices[:, None] >> np.arange(2)) & 1, axis=None, bitorder="little")
    path = save_program(
        lambda mb, x: mb.add(
            x=x, y=mb.constexpr_lut_to_dense(indices=packed, lut=table, shape=np.array(SHAPE, np.uint32))
        ),
        x=SHAPE,
    )
    assert np.array_equal(_plus_constant(path), table[indices].reshape(SHAPE))


def test_lut_to_dense_with_one_table_per_group(save_program: Callable[..., Path]) -> None:
    from coremltools.converters.mil.mil import types

    indices = (np.arange(24) * 5 % 4).reshape(SHAPE)
    tables = np.array([[1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 30.0, 40.0]], np.float32)
    path = save_program(
        lambda mb, x: mb.add(
            x=x,
            y=mb.constexpr_lut_to_dense(
                indices=indices.astype(types.np_uint2_dtype), lut=tables.reshape(2, 1, 1, 4, 1)
            ),
        ),
        x=SHAPE,
        target="iOS18",
    )
    wanted = np.stack([tables[group][indices[group]] for group in range(2)])
    assert np.array_equal(_plus_constant(path), wanted)


@pytest.mark.parametrize("target", ["iOS16", "iOS18"])
def test_sparse_to_dense(target: str, save_program: Callable[..., Path]) -> None:
    from coremltools.converters.mil.mil import types

    wanted = np.where(np.arange(24) % 5 == 0, np.arange(24) + 1.0, 0).astype(np.float32).reshape(SHAPE)
    values, mask = wanted[wanted != 0], (wanted != 0).astype(np.uint8)

    def body(mb: Any, x: Any) -> Any:
        if target == "iOS18":
            dense = mb.constexpr_sparse_to_dense(nonzero_data=values, mask=mask.astype(types.np_uint1_dtype))
        else:
            bits = np.packbits(mask, bitorder="little")
            dense = mb.constexpr_sparse_to_dense(nonzero_data=values, mask=bits, shape=np.array(SHAPE, np.uint32))
        return mb.add(x=x, y=dense)

    assert np.array_equal(_plus_constant(save_program(body, x=SHAPE, target=target)), wanted)


def test_constexpr_cast(save_program: Callable[..., Path]) -> None:
    half = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float16)
    path = save_program(
        lambda mb, x: mb.add(x=x, y=mb.constexpr_cast(source_val=half, output_dtype="fp32")), x=SHAPE, target="iOS16"
    )
    assert np.array_equal(_plus_constant(path), half.astype(np.float32))
