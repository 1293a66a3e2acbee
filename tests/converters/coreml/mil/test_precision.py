"""Emulated float16, and the scan that names the operation that loses: each kind of loss is planted and found."""

from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.coreml.mil import MilProgram
from converters.coreml.mil.package import read_program
from converters.coreml.mil.precision import LARGEST_FP16, TensorPrecision, scan_precision, troubled
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


def test_values_below_the_normal_range_are_found(save_program: SaveProgram) -> None:
    def body(mb: Any, x: Any) -> Any:
        return mb.mul(x=mb.mul(x=x, y=np.float32(3e-6), name="tiny"), y=np.float32(3e5), name="back")

    scan = scanned(save_program(body, x=SHAPE), numbers())
    assert "tiny" in culprits(scan)
    assert scan["tiny"].subnormals == scan["tiny"].elements
    assert scan["back"].subnormals == 0


def test_cancellation_loses_in_what_came_before_it_not_by_itself(save_program: SaveProgram) -> None:
    """1000 + x rounds x to whole eighths or so: the sum by itself is good to 60 dB, the difference has lost x."""

    def body(mb: Any, x: Any) -> Any:
        high = mb.add(x=x, y=np.float32(1000.0), name="high")
        return mb.sub(x=high, y=np.float32(1000.0), name="low")

    scan = scanned(save_program(body, x=SHAPE), numbers(0.1))
    assert scan["high"].own_snr_db > 60
    assert scan["low"].snr_db < 20


def test_what_float16_holds_exactly_loses_nothing(save_program: SaveProgram) -> None:
    path = save_program(lambda mb, x: mb.relu(x=mb.mul(x=x, y=np.float32(2.0), name="twice"), name="cut"), x=SHAPE)
    scan = scanned(path, np.float32(numbers() > 0.75), np.zeros(SHAPE, np.float32))
    assert list(scan) == ["twice", "cut"]
    assert all(t.snr_db == t.own_snr_db == inf for t in scan.values())
    assert culprits(scan) == []
    assert scan["twice"].elements == 2 * int(np.prod(SHAPE))


def test_a_program_scanned_on_no_picture_gives_nothing(save_program: SaveProgram) -> None:
    assert scanned(save_program(lambda mb, x: mb.relu(x=x), x=SHAPE)) == {}
