"""One way to test an operation: save a program that holds it, run the file, compare with a reference."""

import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from converters.coreml.mil.program import MilProgram


def assert_entries_are_kept_apart(program: MilProgram, inputs: Mapping[str, NDArray[Any]]) -> None:
    """Where a program takes batches, three entries at once are as each by itself."""
    if not program.takes_batches:
        return
    several = {name: np.concatenate([array, array[:, ::-1], 0.5 * array]) for name, array in inputs.items()}
    found = program.predict_batch(several)
    alone = [program.predict({n: array[i : i + 1] for n, array in several.items()}) for i in range(3)]
    for name, array in found.items():
        np.testing.assert_allclose(array, np.concatenate([one[name] for one in alone]), rtol=1e-5, atol=2e-6)


def assert_core_ml_agrees(path: Path, inputs: Mapping[str, NDArray[Any]], ours: Mapping[str, NDArray[Any]]) -> None:
    """On a Mac, Core ML on its CPU gives what the executor gives; elsewhere there is nothing to ask."""
    if platform.system() != "Darwin":  # of the machine, not of the type checker
        return
    import coremltools

    model = coremltools.models.MLModel(str(path), compute_units=coremltools.ComputeUnit.CPU_ONLY)
    theirs = model.predict(dict(inputs))
    for name, array in ours.items():
        np.testing.assert_allclose(theirs[name], array, rtol=1e-3, atol=1e-4)


@pytest.fixture
def compare(save_program: Callable[..., Path]) -> Callable[..., None]:
    """Give a function that checks ``compare(body, reference, shape)`` on random numbers."""

    def compare(body: Callable[..., Any], reference: Callable[..., Tensor], shape: tuple[int, ...]) -> None:
        path = save_program(body, x=shape)
        program = MilProgram.load(path)
        x = np.random.default_rng(12).standard_normal(shape).astype(np.float32)
        found = program.predict({"x": x})
        (result,) = found.values()
        wanted = reference(torch.from_numpy(x)).numpy()
        assert result.shape == wanted.shape
        np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=2e-6)
        assert_entries_are_kept_apart(program, {"x": x})
        assert_core_ml_agrees(path, {"x": x}, found)

    return compare


@pytest.fixture
def check(save_program: Callable[..., Path]) -> Callable[..., None]:
    """Give a function that checks ``check(body, reference, x, y, ..., target="iOS17")`` on given arrays.

    ``body(mb, x, y, ...)`` and ``reference(x, y, ...)`` give one result or several; the program takes every array as
    float32 under the names x, y, z.
    """

    def check(
        body: Callable[..., Any], reference: Callable[..., Any], *arrays: NDArray[Any], target: str = "iOS17"
    ) -> None:
        inputs = dict(zip("xyz", arrays, strict=False))
        shapes = {name: array.shape for name, array in inputs.items()}
        path = save_program(body, target=target, **shapes)
        program = MilProgram.load(path)
        found = program.predict(inputs)
        results = list(found.values())
        wanted = reference(*arrays)
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        assert len(results) == len(wanted)
        for result, array in zip(results, (np.asarray(one) for one in wanted), strict=True):
            assert result.shape == array.shape
            np.testing.assert_allclose(result, array, rtol=1e-5, atol=2e-6)
        assert_entries_are_kept_apart(program, inputs)
        assert_core_ml_agrees(path, inputs, found)

    return check
