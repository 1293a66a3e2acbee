"""One way to test an operation: save a program that holds it, run the file, compare with a reference."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from converters.coreml.mil.program import MilProgram


@pytest.fixture
def compare(save_program: Callable[..., Path]) -> Callable[..., None]:
    """Give a function that checks ``compare(body, reference, shape)`` on random numbers."""

    def compare(body: Callable[..., Any], reference: Callable[..., Tensor], shape: tuple[int, ...]) -> None:
        program = MilProgram.load(save_program(body, x=shape))
        x = np.random.default_rng(12).standard_normal(shape).astype(np.float32)
        (result,) = program.predict({"x": x}).values()
        wanted = reference(torch.from_numpy(x)).numpy()
        assert result.shape == wanted.shape
        np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=2e-6)

    return compare
