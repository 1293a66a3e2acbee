import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from converters import coreml
from converters.coreml.execute import MilExecutor
from converters.coreml.mil.package import read_program
from lspdmobile import __version__
from lspdmobile.choices import Precision
from lspdmobile.errors import BadInputError

Packages = Mapping[Precision, Path]
Floats = NDArray[np.float32]


@pytest.mark.skipif(sys.platform == "darwin", reason="on macOS Core ML itself runs packages")
def test_off_a_mac_our_executor_runs_and_says_so(packages: Packages) -> None:
    executor = coreml.open_executor(packages[Precision.FP16])
    assert executor.name == f"MIL executor {__version__} (emulated fp16; not the Neural Engine)"
    assert "(fp32;" in coreml.open_executor(packages[Precision.FP32]).name


@pytest.mark.skipif(sys.platform != "darwin", reason="Core ML runs on macOS only")
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16, Precision.W8, Precision.W8A8])
def test_on_a_mac_our_executor_agrees_with_core_ml(precision: Precision, packages: Packages, inputs: Floats) -> None:
    theirs = coreml.open_executor(packages[precision]).heatmaps(inputs)
    ours = MilExecutor(read_program(packages[precision])).heatmaps(inputs)
    assert np.linalg.norm(theirs - ours) < 2e-2 * np.linalg.norm(theirs)


def test_pictures_are_independent_of_their_batch(packages: Packages, inputs: Floats) -> None:
    executor = MilExecutor(read_program(packages[Precision.FP32]))
    together = executor.heatmaps(inputs)
    np.testing.assert_allclose(together[1:], executor.heatmaps(inputs[1:]), rtol=1e-5, atol=1e-6)
    assert not np.array_equal(together[0], together[1])


def test_no_picture_gives_no_heatmaps(packages: Packages, inputs: Floats) -> None:
    assert MilExecutor(read_program(packages[Precision.FP16])).heatmaps(inputs[:0]).shape == (0, 5, 32, 24)


def test_the_thread_count_is_put_back(packages: Packages, inputs: Floats) -> None:
    before = torch.get_num_threads()
    MilExecutor(read_program(packages[Precision.FP16]), threads=before + 1).heatmaps(inputs)
    assert torch.get_num_threads() == before


def test_inputs_are_left_alone(packages: Packages, inputs: Floats) -> None:
    mine = inputs.copy()
    MilExecutor(read_program(packages[Precision.FP16])).heatmaps(mine)
    assert np.array_equal(mine, inputs)


def test_pictures_of_another_size_are_refused(packages: Packages) -> None:
    with pytest.raises(BadInputError, match=r"'input' is float32\[1, 3, 64, 48\]"):
        MilExecutor(read_program(packages[Precision.FP16])).heatmaps(np.zeros((1, 3, 64, 64), np.float32))


def test_a_program_that_is_no_pose_network_is_refused(save_program: Callable[..., Path]) -> None:
    path = save_program(lambda mb, x, y: mb.add(x=x, y=y), x=(1, 3, 4, 4), y=(1, 3, 4, 4))
    with pytest.raises(BadInputError, match=r"not a program from one picture .* to heatmaps"):
        MilExecutor(read_program(path))
