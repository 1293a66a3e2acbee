"""Other kernels than XNNPACK on the same file."""

from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import pytest

from converters.tflite.execute import Kernels, open_executor
from lspdmobile.artifact import Artifact
from lspdmobile.choices import Precision
from lspdmobile.errors import EnvironmentLacksError

if TYPE_CHECKING:
    from tests.converters.tflite.conftest import World

OTHERS = [
    Kernels.REFERENCE,
    pytest.param(
        Kernels.TENSORFLOW,
        marks=pytest.mark.skipif(find_spec("tensorflow") is None, reason="the tensorflow extra is not installed"),
    ),
]


@pytest.mark.parametrize("kernels", OTHERS)
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.W8A8])
def test_reference_kernels_agree_with_xnnpack(
    world: "World", emitted: dict[Precision, Artifact], precision: Precision, kernels: Kernels
) -> None:
    path = emitted[precision].path
    usual, other = open_executor(path), open_executor(path, kernels=kernels)

    assert other.name != usual.name
    assert other.name.endswith("(reference kernels)")
    ours, theirs = usual.heatmaps(world.pictures), other.heatmaps(world.pictures)
    apart = float(np.sqrt(np.square(ours - theirs).mean() / np.square(ours).mean()))
    assert apart < (1e-6 if precision is Precision.FP32 else 0.03)


def test_the_reference_kernels_are_named(emitted: dict[Precision, Artifact]) -> None:
    executor = open_executor(emitted[Precision.FP32].path, kernels=Kernels.REFERENCE)

    assert executor.name == f"LiteRT {version('ai-edge-litert')} (reference kernels)"
    assert executor.heatmaps(np.empty((0, 3, 64, 64), np.float32)).shape == (0, 5, 8, 8)


@pytest.mark.skipif(find_spec("tensorflow") is not None, reason="the tensorflow extra is installed")
def test_an_absent_tensorflow_is_named(emitted: dict[Precision, Artifact]) -> None:
    with pytest.raises(EnvironmentLacksError, match=r"lspdmobile\[tensorflow\]"):
        open_executor(emitted[Precision.FP32].path, kernels=Kernels.TENSORFLOW)
