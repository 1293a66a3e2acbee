from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from converters import tflite
from lspdmobile.artifact import Artifact
from lspdmobile.choices import Precision
from lspdmobile.errors import BadInputError, ConversionError

if TYPE_CHECKING:
    from tests.converters.tflite.conftest import World


def test_the_name_says_runtime_version_and_kernels(emitted: dict[Precision, Artifact]) -> None:
    runtime = f"LiteRT {version('ai-edge-litert')}"
    assert tflite.open_executor(emitted[Precision.W8A8].path).name == f"{runtime} (XNNPACK)"
    assert tflite.open_executor(emitted[Precision.W8A16].path).name == f"{runtime} (built-in kernels)"


def test_each_picture_gets_its_own_heatmaps(world: "World", emitted: dict[Precision, Artifact]) -> None:
    executor = tflite.open_executor(emitted[Precision.W8A8].path)
    together = executor.heatmaps(world.pictures)
    assert together.shape == world.heatmaps.shape
    assert together.dtype == np.float32
    alone = np.concatenate([executor.heatmaps(world.pictures[i : i + 1]) for i in (3, 1, 0, 2)])
    np.testing.assert_array_equal(alone, together[[3, 1, 0, 2]])
    assert np.abs(together[0] - together[1]).max() > 0


def test_heatmaps_come_back_nchw_and_are_not_overwritten_by_the_next_call(
    world: "World", nchw: Artifact, emitted: dict[Precision, Artifact]
) -> None:
    for artifact in (nchw, emitted[Precision.FP32]):
        executor = tflite.open_executor(artifact.path)
        first = executor.heatmaps(world.pictures[:1])
        kept = first.copy()
        executor.heatmaps(world.pictures[1:2])
        np.testing.assert_array_equal(first, kept)
        assert first.shape == (1, 5, 8, 8)
        assert world.error(first, world.heatmaps[:1]) < 0.1


def test_pictures_that_are_views_are_read_right(world: "World", emitted: dict[Precision, Artifact]) -> None:
    executor = tflite.open_executor(emitted[Precision.FP32].path)
    flipped = world.pictures[:, :, :, ::-1]
    np.testing.assert_array_equal(executor.heatmaps(flipped), executor.heatmaps(flipped.copy()))


def test_no_picture_gives_no_heatmap(emitted: dict[Precision, Artifact]) -> None:
    executor = tflite.open_executor(emitted[Precision.FP32].path)
    assert executor.heatmaps(np.empty((0, 3, 64, 64), np.float32)).shape == (0, 5, 8, 8)


def test_two_threads_agree_with_one(world: "World", emitted: dict[Precision, Artifact]) -> None:
    path = emitted[Precision.W8A8].path
    one, two = (tflite.open_executor(path, threads=n).heatmaps(world.pictures) for n in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_pictures_of_another_size_are_refused(emitted: dict[Precision, Artifact]) -> None:
    with pytest.raises(ValueError, match=r"takes \[1, 64, 64, 3\]"):
        tflite.open_executor(emitted[Precision.FP32].path).heatmaps(np.zeros((1, 3, 64, 32), np.float32))


def test_integer_borders_are_refused(world: "World", emitted: dict[Precision, Artifact], tmp_path: Path) -> None:
    from ai_edge_quantizer import recipe
    from ai_edge_quantizer.quantizer import Quantizer

    from converters.tflite.flatbuffer import read_model
    from converters.tflite.plan import tensor_ranges
    from lspdmobile.choices import Layout

    content = emitted[Precision.FP32].path.read_bytes()
    plan = world.plan(Precision.W8A8)
    ranges = tensor_ranges(content, read_model(content), world.network, plan, Layout.NHWC).by_name
    statistics = {
        n: {"min": np.array([r.low], np.float32), "max": np.array([r.high], np.float32)} for n, r in ranges.items()
    }
    quantized = Quantizer(content, recipe.static_wi8_ai8()).quantize(statistics, enable_progress_report=False)
    path = tmp_path / "full_integer.tflite"
    path.write_bytes(bytes(quantized.quantized_model))
    with pytest.raises(BadInputError, match="its input is int8, not float32"):
        tflite.open_executor(path)


def test_a_custom_operator_is_a_conversion_error(with_custom_operator: Path) -> None:
    with pytest.raises(ConversionError, match="LiteRT cannot run this file"):
        tflite.open_executor(with_custom_operator)


def test_a_file_of_another_kind_is_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "notes.tflite"
    path.write_text("this is no model")
    with pytest.raises(BadInputError, match="not a TFLite file"):
        tflite.open_executor(path)
