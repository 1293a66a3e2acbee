"""Artifacts that decode their heatmaps themselves: delegated whole, equal to the host, and checked as before."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from converters import FORMATS, comparison
from lspdmobile.artifact import EmitRequest
from lspdmobile.choices import Backend, Format, Precision
from lspdmobile.decode import decode
from lspdmobile.graph_decode import GraphDecode
from lspdmobile.preprocess import PreprocessContract
from quantization.calibrate import calibrate

CONTRACT = PreprocessContract(input_size=(64, 48), heatmap_stride=8)
METADATA = {"keypoints_description": "five joints"}
ALL = [
    (Format.TFLITE, Precision.W8A8),
    (Format.EXECUTORCH, Precision.W8A8),
    pytest.param(Format.COREML, Precision.FP16, marks=pytest.mark.slow),
    pytest.param(Format.TFLITE, Precision.FP16, marks=pytest.mark.slow),
    pytest.param(Format.EXECUTORCH, Precision.FP32, marks=pytest.mark.slow),
    pytest.param(Format.COREML, Precision.W8A8, marks=pytest.mark.slow),
    pytest.param(Format.COREML, Precision.PALETTE6, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("form", "precision"), ALL)
def test_an_artifact_decodes_as_the_host_does(form: Format, precision: Precision, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU(), nn.Conv2d(8, 5, 3, 2, 1)).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (6, 64, 48, 3), dtype=np.uint8)
    pictures = np.stack([CONTRACT.normalise(each) for each in pixels])
    converter, plan = FORMATS[form], calibrate(network, pictures, precision=precision)
    path = tmp_path / f"tiny{converter.SUFFIX}"
    artifact = converter.emit(
        EmitRequest(
            network=network,
            plan=plan,
            input_size=CONTRACT.input_size,
            layout=converter.supported()[precision],
            metadata=METADATA,
            deployment_target="iOS17",
            path=path,
            decode=GraphDecode("quarter", CONTRACT.heatmap_stride, CONTRACT.heatmap_size).eval(),
        )
    )
    executor, facts = converter.open_executor(path), converter.inspect(path)
    heatmaps, keypoints = executor.heatmaps(pictures), executor.keypoints(pictures)
    assert keypoints is not None
    assert heatmaps.shape == (6, 5, 8, 6)
    np.testing.assert_allclose(keypoints, decode(heatmaps, contract=CONTRACT, rule="quarter"), atol=1e-4)
    assert facts.outputs[1].shape == (1, 5, 3)
    assert artifact.not_honoured == ()
    if facts.delegation is not None:
        assert facts.delegation.not_delegated == ()
    compare = comparison(form, precision, Backend.XNNPACK)
    if compare is not None:
        deviation = compare(path, network=network, plan=plan, pictures=pictures)
        assert deviation.faults == ()
        assert deviation.steps < 0.25
