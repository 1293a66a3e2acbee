"""Bytes by operator, of operators made by hand: constants are counted once, for the first that computes with them."""

from converters.layer_bytes import UNREAD, Reading, StoredConstant, layer_bytes


def constant(key: str, size_bytes: int, dtype: str = "int8") -> StoredConstant:
    return StoredConstant(key=key, dtype=dtype, size_bytes=size_bytes)


def reading(name: str, inputs: str, outputs: str, *constants: StoredConstant) -> Reading:
    return Reading(name=name, inputs=inputs.split(), outputs=outputs.split(), constants=constants)


def test_each_operator_has_what_it_reads() -> None:
    operators = [
        reading("conv a", "x", "y", constant("w", 36), constant("b", 16, "int32")),
        reading("relu", "y", "z"),
        reading("conv b", "z", "out", constant("v", 9)),
    ]
    found = layer_bytes(operators, {"int8": 45, "int32": 16})
    assert found == {"conv a": {"int8": 36, "int32": 16}, "conv b": {"int8": 9}}


def test_what_is_made_of_constants_alone_counts_for_the_operator_that_computes_with_it() -> None:
    operators = [
        reading("const", "", "packed", constant("w", 10)),
        reading("dequantize", "packed", "wide", constant("s", 4, "float16")),
        reading("conv", "x wide", "y"),
        reading("again", "y wide", "z"),
    ]
    assert layer_bytes(operators, {"int8": 10, "float16": 4}) == {"conv": {"int8": 10, "float16": 4}}


def test_a_constant_of_two_operators_counts_for_the_first() -> None:
    shared = constant("w", 7)
    operators = [reading("first", "x", "y", shared), reading("second", "y", "z", shared)]
    assert layer_bytes(operators, {"int8": 7}) == {"first": {"int8": 7}}


def test_what_no_operator_computes_with_is_told() -> None:
    operators = [reading("const", "", "lost", constant("w", 5)), reading("conv", "x", "y", constant("v", 3))]
    assert layer_bytes(operators, {"int8": 10}) == {"conv": {"int8": 3}, UNREAD: {"int8": 7}}


def test_operators_of_one_name_are_added() -> None:
    operators = [reading("conv", "x", "y", constant("w", 5)), reading("conv", "y", "z", constant("v", 3))]
    assert layer_bytes(operators, {"int8": 8}) == {"conv": {"int8": 8}}
