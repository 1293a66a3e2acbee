from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from converters.coreml.mil.program import MilProgram
from lspdmobile.errors import ConversionError


def test_quantize_rounds_to_even_shifts_and_clips(save_program: Callable[..., Path]) -> None:
    x = np.array([[-100.0, -0.75, -0.25, 0.25, 0.5, 0.75, 1.25, 100.0]], np.float32)
    path = save_program(
        lambda mb, x: mb.quantize(input=x, zero_point=np.int8(3), scale=0.5, output_dtype="int8"), x=x.shape
    )
    (result,) = MilProgram.load(path).predict({"x": x}).values()
    assert result.tolist() == [[-128, 3 - 2, 3, 3, 3 + 1, 3 + 2, 3 + 2, 127]]


def test_quantize_without_zero_point_to_uint8(save_program: Callable[..., Path]) -> None:
    x = np.array([[-1.0, 0.0, 0.6, 300.0]], np.float32)
    path = save_program(lambda mb, x: mb.quantize(input=x, scale=1.0, output_dtype="uint8"), x=x.shape)
    (result,) = MilProgram.load(path).predict({"x": x}).values()
    assert result.tolist() == [[0, 0, 1, 255]]


def test_dequantize_inverts_per_channel(save_program: Callable[..., Path]) -> None:
    scales = np.array([0.5, 0.25, 2.0], np.float32)
    zeros = np.array([1, -7, 100], np.int8)
    steps = np.random.default_rng(0).integers(-20, 20, (1, 3, 4, 5)).astype(np.float32)
    x = steps * scales.reshape(3, 1, 1)
    path = save_program(
        lambda mb, x: mb.dequantize(
            input=mb.quantize(input=x, zero_point=zeros, scale=scales, axis=1, output_dtype="int8"),
            zero_point=zeros,
            scale=scales,
            axis=-3,
        ),
        x=x.shape,
    )
    (result,) = MilProgram.load(path).predict({"x": x}).values()
    assert np.array_equal(result, x)


def test_a_scale_of_zero_is_refused(save_program: Callable[..., Path]) -> None:
    scales = np.array([0.5, 0.0], np.float32)
    path = save_program(lambda mb, x: mb.quantize(input=x, scale=scales, axis=1, output_dtype="int8"), x=(1, 2, 3))
    with pytest.raises(ConversionError, match="scale is not positive"):
        MilProgram.load(path)
