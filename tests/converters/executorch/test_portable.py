"""The same program without a delegate: what XNNPACK's arithmetic amounts to."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from converters import executorch
from converters.executorch.portable import open_portable
from lspdmobile.artifact import Artifact
from lspdmobile.choices import Precision

if TYPE_CHECKING:
    from tests.converters.executorch.conftest import World


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.W8A8])
def test_portable_kernels_agree_with_xnnpack(
    world: "World", emitted: dict[Precision, Artifact], precision: Precision, tmp_path: Path
) -> None:
    request = world.request(precision, "unused.pte")
    other = open_portable(request.network, request.plan, request.input_size, tmp_path / "portable.pte")
    usual = executorch.open_executor(emitted[precision].path)

    assert other.name.endswith("(portable kernels)")
    assert "XNNPACK" in usual.name
    ours, theirs = usual.heatmaps(world.pictures), other.heatmaps(world.pictures)
    apart = float(np.sqrt(np.square(ours - theirs).mean() / np.square(ours).mean()))
    assert apart < (1e-6 if precision is Precision.FP32 else 0.03)
