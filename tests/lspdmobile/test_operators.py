"""What is told of operators alone: constants stored twice, float leftovers, layouts."""

import pytest

from lspdmobile.operators import (
    Operator,
    StoredBytes,
    Value,
    duplicates_of,
    layout_of_shape,
    leftovers_of,
)


def value(name: str, dtype: str = "int8", *, constant: bool = False, stored: str = "") -> Value:
    return Value(name=name, shape=(1, 4, 4, 8), dtype=dtype, constant=constant, stored=stored)


def step(kind: str, read: Value, made: Value, weights: Value | None = None) -> Operator:
    inputs = (read,) if weights is None else (read, weights)
    return Operator(name=f"{kind} {made.name}", kind=kind, inputs=inputs, outputs=(made,), macs=64 if weights else 0)


def test_equal_bytes_are_found_and_what_they_waste_is_counted() -> None:
    constants = [
        StoredBytes(name="a", dtype="int8", content=b"12345678"),
        StoredBytes(name="b", dtype="int8", content=b"12345678"),
        StoredBytes(name="c", dtype="int8", content=b"1234567"),
        StoredBytes(name="d", dtype="int8", content=b"12345678"),
        StoredBytes(name="e", dtype="int4", content=b"xy", size_bytes=1),
        StoredBytes(name="f", dtype="int4", content=b"xy", size_bytes=1),
        StoredBytes(name="g", dtype="int8", content=b""),
        StoredBytes(name="h", dtype="int8", content=b""),
    ]
    first, second = duplicates_of(constants)
    assert (first.tensors, first.bytes_each, first.wasted_bytes) == (("a", "b", "d"), 8, 16)
    assert (second.tensors, second.wasted_bytes) == (("e", "f"), 1)
    assert duplicates_of(constants[:1]) == ()


def test_a_float_operator_between_integers_is_a_leftover() -> None:
    operators = [
        step("QUANTIZE", value("in", "float32"), value("q")),
        step("CONV_2D", value("q"), value("c"), value("w", constant=True)),
        step("DEQUANTIZE", value("c"), value("d", "float32")),
        step("CONV_2D", value("d", "float32"), value("e", "float32"), value("v", "float32", constant=True)),
        step("QUANTIZE", value("e", "float32"), value("f")),
        step("ADD", value("f"), value("g")),
        step("DEQUANTIZE", value("g"), value("h", "float32")),
        step("SOFTMAX", value("h", "float32"), value("out", "float32")),
    ]
    left = leftovers_of(operators)
    assert left is not None
    assert [(each.name, each.macs, each.between) for each in left.operators] == [
        ("CONV_2D e", 64, True),
        ("SOFTMAX out", 0, False),
    ]
    assert left.conversions == 4
    assert left.float_weight_bytes == 4 * value("v").elements


def test_integers_throughout_leave_nothing_and_float_files_are_not_asked() -> None:
    integers = [
        step("QUANTIZE", value("in", "float32"), value("q")),
        step("CONV_2D", value("q"), value("c"), value("w", constant=True)),
        step("DEQUANTIZE", value("c"), value("out", "float32")),
    ]
    left = leftovers_of(integers)
    assert left is not None
    assert (left.operators, left.conversions, left.float_weight_bytes) == ((), 2, 0)
    halves = value("w", "float32", constant=True, stored="float16")
    assert leftovers_of([step("CONV_2D", value("in", "float32"), value("out", "float32"), halves)]) is None


def test_where_integers_are_only_said_what_lies_between_is_no_leftover() -> None:
    said = [
        step("quantize", value("in", "float16"), value("q")),
        step("dequantize", value("q"), value("d", "float16")),
        step("conv", value("d", "float16"), value("c", "float16"), value("w", "float16", constant=True, stored="int8")),
        step("relu", value("c", "float16"), value("r", "float16")),
        step("quantize", value("r", "float16"), value("q2")),
        step("dequantize", value("q2"), value("d2", "float16")),
    ]
    left = leftovers_of(said, simulated=True)
    assert left is not None
    assert (left.operators, left.conversions, left.float_weight_bytes) == ((), 0, 0)
    plain = step("conv", value("in", "float16"), value("k", "float16"), value("u", "float16", constant=True))
    missed = leftovers_of([plain, *said], simulated=True)
    assert missed is not None
    assert [each.name for each in missed.operators] == ["conv k"]
    assert missed.float_weight_bytes == 2 * value("u").elements


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((1, 3, 192, 192), "nchw"),
        ((1, 192, 192, 3), "nhwc"),
        ((-1, 192, 192, 1), "nhwc"),
        ((1, 3, 192, 3), None),
        ((1, 8, 8, 8), None),
        ((1, 3), None),
    ],
)
def test_the_layout_is_seen_from_the_channels(shape: tuple[int, ...], layout: str | None) -> None:
    assert layout_of_shape(shape) == layout
