"""Emulated float16, and the scan that names the operation that loses: each kind of loss is planted and found."""

import re
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.coreml.mil import MilProgram
from converters.coreml.mil.package import read_program
from converters.coreml.mil.precision import LARGEST_FP16, TensorPrecision, kept_in_fp32, scan_precision, troubled
from converters.coreml.mil.program import Compute

SHAPE = (1, 3, 5, 4)
SaveProgram = Callable[..., Path]


def numbers(scale: float = 1.0) -> Any:
    return scale * np.random.default_rng(5).uniform(0.5, 1, SHAPE).astype(np.float32)


def scanned(path: Path, *pictures: Any) -> dict[str, TensorPrecision]:
    return {t.name: t for t in scan_precision(read_program(path), [{"x": p} for p in pictures])}


def culprits(scan: dict[str, TensorPrecision]) -> list[str]:
    return [t.name for t in troubled(scan.values())]


def test_fp16_rounds_every_result_and_fp32_none(save_program: SaveProgram) -> None:
    path = save_program(lambda mb, x: mb.mul(x=x, y=np.float32(1 / 3), name="third"), x=SHAPE)
    x = numbers()
    half = (x.astype(np.float16) * np.float16(1 / 3).astype(np.float32)).astype(np.float16).astype(np.float32)
    expected: dict[Compute, Any] = {"stated": x / 3, "fp32": x / 3, "fp16": half}
    for compute, wanted in expected.items():
        (found,) = MilProgram.load(path, compute=compute).predict({"x": x}).values()
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert not np.allclose(half, x / 3, rtol=1e-5)


def test_a_float16_program_can_be_run_in_float32(save_program: SaveProgram) -> None:
    def body(mb: Any, x: Any) -> Any:
        half = mb.cast(x=x, dtype="fp16")
        return mb.cast(x=mb.square(x=mb.add(x=half, y=np.float16(64.0))), dtype="fp32")

    path, x = save_program(body, x=SHAPE), numbers(1e-3)
    exact = np.square(x.astype(np.float64) + 64)
    errors = {}
    computes: tuple[Compute, ...] = ("stated", "fp32")
    for compute in computes:
        program = MilProgram.load(path, compute=compute)
        assert program.uses_float16 is (compute == "stated")
        (found,) = program.predict({"x": x}).values()
        errors[compute] = float(np.abs(found / exact - 1).max())
    assert errors["fp32"] < 1e-6
    assert errors["stated"] > 1e-5


def test_an_inside_value_of_a_float16_program_is_given_unrounded(save_program: SaveProgram) -> None:
    def body(mb: Any, x: Any) -> Any:
        return mb.cast(x=mb.mul(x=mb.cast(x=x, dtype="fp16"), y=np.float16(3.0), name="inside"), dtype="fp32")

    path, x = save_program(body, x=SHAPE), numbers()
    wanted: dict[Compute, type] = {"stated": np.float16, "fp32": np.float32}
    for compute, dtype in wanted.items():
        assert MilProgram.load(path, compute=compute).predict({"x": x}, ["inside"])["inside"].dtype == dtype


def test_an_unknown_compute_is_refused(save_program: SaveProgram) -> None:
    with pytest.raises(ValueError, match="unknown compute 'bf16'"):
        MilProgram.load(save_program(lambda mb, x: mb.relu(x=x), x=SHAPE), compute="bf16")  # type: ignore[arg-type]


def test_an_overflow_is_laid_to_the_operation_that_makes_it(save_program: SaveProgram) -> None:
    def body(mb: Any, x: Any) -> Any:
        large = mb.mul(x=x, y=np.float32(400.0), name="large")
        larger = mb.mul(x=large, y=np.float32(400.0), name="larger")
        return mb.mul(x=larger, y=np.float32(1e-5), name="small")

    scan = scanned(save_program(body, x=SHAPE), numbers())
    assert culprits(scan) == ["larger"]
    assert scan["larger"].overflows == int((numbers() * 160_000 > LARGEST_FP16).sum()) == scan["larger"].elements
    assert scan["larger"].snr_db == scan["small"].snr_db == -inf
    assert scan["small"].own_snr_db > 40
    assert scan["larger"].largest == pytest.approx(float(numbers().max()) * 160_000)
    assert scan["larger"].made_by == "mul 'larger'"
    assert scan["larger"].stays_in_fp32 == ("larger", "small")
    assert scan["larger"].loss == "60 of 60 numbers overflow float16 (largest 1.6e+05)"


def test_values_below_the_normal_range_are_found(save_program: SaveProgram) -> None:
    def body(mb: Any, x: Any) -> Any:
        return mb.mul(x=mb.mul(x=x, y=np.float32(3e-6), name="tiny"), y=np.float32(3e5), name="back")

    scan = scanned(save_program(body, x=SHAPE), numbers())
    assert "tiny" in culprits(scan)
    assert scan["tiny"].subnormals == scan["tiny"].elements
    assert scan["back"].subnormals == 0
    assert scan["tiny"].stays_in_fp32 == ("tiny", "back")
    assert scan["tiny"].loss == "60 of 60 numbers are below float16's normal range"


def test_small_values_beside_large_ones_do_no_harm(save_program: SaveProgram) -> None:
    """Nine of ten elements are below the normal range, but the tenth is what the value is about."""
    faint = np.where(np.arange(60).reshape(SHAPE) % 10 == 0, np.float32(1), np.float32(1e-6))
    path = save_program(lambda mb, x: mb.mul(x=mb.mul(x=x, y=faint, name="faint"), y=np.float32(0.3)), x=SHAPE)
    scan = scanned(path, numbers())
    assert scan["faint"].subnormals == 54
    assert culprits(scan) == []


def test_cancellation_is_laid_to_the_difference_and_to_what_it_takes(save_program: SaveProgram) -> None:
    """1000 + x rounds x to whole eighths or so: the sum by itself is good to 60 dB, the difference has lost x."""

    def body(mb: Any, x: Any) -> Any:
        high = mb.add(x=x, y=np.float32(1000.0), name="high")
        return mb.sub(x=high, y=np.float32(1000.0), name="low")

    scan = scanned(save_program(body, x=SHAPE), numbers(0.1))
    assert scan["high"].own_snr_db > 60
    assert scan["low"].snr_db < 20
    assert scan["low"].own_snr_db < 20
    assert culprits(scan) == ["low"]
    assert kept_in_fp32(troubled(scan.values())) == {"high", "low"}
    assert re.fullmatch(r"rounding to float16 leaves \d+\.\d dB", scan["low"].loss)


def test_what_float16_holds_exactly_loses_nothing(save_program: SaveProgram) -> None:
    path = save_program(lambda mb, x: mb.relu(x=mb.mul(x=x, y=np.float32(2.0), name="twice"), name="cut"), x=SHAPE)
    scan = scanned(path, np.float32(numbers() > 0.75), np.zeros(SHAPE, np.float32))
    assert list(scan) == ["twice", "cut"]
    assert all(t.snr_db == t.own_snr_db == inf for t in scan.values())
    assert culprits(scan) == []
    assert scan["twice"].elements == 2 * int(np.prod(SHAPE))


def test_what_the_file_keeps_in_float32_does_not_overflow(save_program: SaveProgram) -> None:
    """The same program twice; in the second the large values and their user are float32."""

    def body(mb: Any, x: Any, large: str) -> Any:
        half = mb.mul(x=mb.cast(x=x, dtype="fp16"), y=np.float16(400.0), name="before")
        number = np.float16 if large == "fp16" else np.float32
        high = mb.mul(x=mb.cast(x=half, dtype=large), y=number(400.0), name="high")
        back = mb.mul(x=high, y=number(2.0**-10), name="back")
        return mb.cast(x=mb.relu(x=mb.cast(x=back, dtype="fp16")), dtype="fp32")

    found = {}
    for large in ("fp16", "fp32"):
        program = read_program(save_program(lambda mb, x, large=large: body(mb, x, large), x=SHAPE))
        found[large] = troubled(scan_precision(program, [{"x": numbers()}], compute="stated"))
    assert [t.name for t in found["fp16"]] == ["high"]
    assert kept_in_fp32(found["fp16"]) == {"high", "back"}
    assert found["fp32"] == ()


def test_a_program_scanned_on_no_picture_gives_nothing(save_program: SaveProgram) -> None:
    assert scanned(save_program(lambda mb, x: mb.relu(x=x), x=SHAPE)) == {}
