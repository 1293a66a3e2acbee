import json
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
import pytest
from torch import nn

from converters import executorch
from lspdmobile.artifact import Artifact
from lspdmobile.choices import Precision
from quantization.graph import activation_grids, quantized_module

if TYPE_CHECKING:
    from tests.converters.executorch.conftest import World

_FLOAT_TOLERANCE = 1e-5


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def test_the_float_file_gives_the_networks_heatmaps(world: "World", emitted: dict[Precision, Artifact]) -> None:
    found = executorch.open_executor(emitted[Precision.FP32].path).heatmaps(world.pictures)
    assert found.dtype == np.float32
    assert found.shape == world.heatmaps.shape
    assert relative(found, world.heatmaps) < _FLOAT_TOLERANCE


def test_the_integer_file_errs_like_its_simulation(world: "World", emitted: dict[Precision, Artifact]) -> None:
    simulated = world.run(quantized_module(world.network, world.plan, world.pictures.shape[2:]))
    found = executorch.open_executor(emitted[Precision.W8A8].path).heatmaps(world.pictures)
    # Roundings that differ by one step in one layer spread in the next ones, so the errors agree in size only.
    assert relative(found, world.heatmaps) < 1.5 * relative(simulated, world.heatmaps)
    assert relative(found, simulated) < 1.5 * relative(simulated, world.heatmaps)


def test_integer_heatmaps_lie_on_the_plans_grid(world: "World", emitted: dict[Precision, Artifact]) -> None:
    found = executorch.open_executor(emitted[Precision.W8A8].path).heatmaps(world.pictures)
    grids = activation_grids(quantized_module(world.network, world.plan, world.pictures.shape[2:]))
    steps = found / list(grids.values())[-1].scale
    assert np.abs(steps - np.rint(steps)).max() < 1e-3


def test_strides_do_not_matter(world: "World", emitted: dict[Precision, Artifact]) -> None:
    executor = executorch.open_executor(emitted[Precision.FP32].path)
    strided = np.ascontiguousarray(world.pictures.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert not strided.flags["C_CONTIGUOUS"]
    assert np.array_equal(executor.heatmaps(strided), executor.heatmaps(world.pictures))


def test_results_are_not_overwritten_by_the_next_run(world: "World", emitted: dict[Precision, Artifact]) -> None:
    executor = executorch.open_executor(emitted[Precision.FP32].path)
    first = executor.heatmaps(world.pictures[:1])
    kept = first.copy()
    executor.heatmaps(world.pictures[1:2])
    assert np.array_equal(first, kept)


def test_no_picture_gives_no_heatmap(world: "World", emitted: dict[Precision, Artifact]) -> None:
    executor = executorch.open_executor(emitted[Precision.FP32].path)
    assert executor.heatmaps(world.pictures[:0]).shape == (0, *world.heatmaps.shape[1:])


def test_pictures_of_another_size_are_refused(world: "World", emitted: dict[Precision, Artifact]) -> None:
    executor = executorch.open_executor(emitted[Precision.FP32].path)
    with pytest.raises(ValueError, match=r"takes \[1, 3, 64, 64\]"):
        executor.heatmaps(world.pictures[:, :, :32])


def test_executors_of_different_threads_can_take_turns(world: "World", emitted: dict[Precision, Artifact]) -> None:
    from executorch.extension.pybindings.portable_lib import _threadpool_get_thread_count

    path = emitted[Precision.FP32].path
    executors = {threads: executorch.open_executor(path, threads=threads) for threads in (1, 2, 3)}
    for _ in range(3):
        for threads, executor in executors.items():
            assert relative(executor.heatmaps(world.pictures), world.heatmaps) < _FLOAT_TOLERANCE
            assert _threadpool_get_thread_count() == threads


def test_less_than_one_thread_is_refused(emitted: dict[Precision, Artifact]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        executorch.open_executor(emitted[Precision.FP32].path, threads=0)


def test_the_name_says_runtime_version_and_kernels(
    emitted: dict[Precision, Artifact], partly: tuple[nn.Module, Artifact]
) -> None:
    runtime = f"ExecuTorch {version('executorch')}"
    assert executorch.open_executor(emitted[Precision.FP32].path).name == f"{runtime} (XNNPACK)"
    assert executorch.open_executor(partly[1].path).name == f"{runtime} (XNNPACK + portable kernels)"


def test_a_file_that_is_delegated_in_part_runs(world: "World", partly: tuple[nn.Module, Artifact]) -> None:
    network, artifact = partly
    found = executorch.open_executor(artifact.path).heatmaps(world.pictures)
    assert relative(found, world.run(network)) < _FLOAT_TOLERANCE


def test_the_metadata_is_readable_on_the_device(world: "World", emitted: dict[Precision, Artifact]) -> None:
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(emitted[Precision.W8A8].path).load_method("lspdmobile_metadata")
    assert json.loads(method.execute([])[0]) == world.metadata
