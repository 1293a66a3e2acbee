"""Networks with norms that no convolution can take, in w8a8 through the real runtimes: integer throughout."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from converters import FORMATS
from lspdmobile.artifact import EmitRequest
from lspdmobile.choices import Format, Precision
from lspdmobile.fusion import fuse, randomise_norms
from lspdmobile.networks.hourglass import HourglassConfig, StackedHourglass
from lspdmobile.networks.ldcrn import Ldcrn, LdcrnConfig
from quantization.calibrate import calibrate
from quantization.graph import quantized_module

SIZE = (64, 64)
SMALLEST_SNR_DB = 20.0
UPSAMPLING = {Format.TFLITE: "RESIZE_NEAREST_NEIGHBOR", Format.EXECUTORCH: "aten::upsample_nearest2d.vec_out"}
DEPTHWISE = {Format.TFLITE: "DEPTHWISE_CONV_2D", Format.EXECUTORCH: "xnnpack::DepthwiseConv2d"}


def hourglass() -> nn.Module:
    """Pre-activation bottlenecks: the first norm of each reads what the shortcut reads too."""
    return StackedHourglass(HourglassConfig(keypoints=3, input_size=SIZE, stacks=1, channels=16))


def dense() -> nn.Module:
    """Dense layers as in the paper: norm and ReLU behind every concatenation."""
    config = LdcrnConfig(
        keypoints=3,
        input_size=SIZE,
        stem=8,
        widths=(8, 8, 12, 16),
        first_modules=1,
        modules=(1, 1, 1),
        layers=1,
        growth=(4, 4, 4, 4),
        bottleneck=2,
    )
    return Ldcrn(config)


@pytest.mark.slow
@pytest.mark.parametrize("form", [Format.TFLITE, Format.EXECUTORCH])
@pytest.mark.parametrize("define", [hourglass, dense])
def test_w8a8_of_networks_with_norms_before_activations(
    define: Callable[[], nn.Module], form: Format, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = define().eval()
    randomise_norms(network, torch.Generator().manual_seed(0))
    fused = fuse(network, input_size=SIZE, dtype="int8")
    alone = Counter(site.rewrite for site in fused.certificate.sites)["affine to 1x1"]
    assert alone > 5
    pictures = np.random.default_rng(0).standard_normal((4, 3, *SIZE)).astype(np.float32)
    plan = calibrate(fused.network, pictures, precision=Precision.W8A8)
    quantized_module(fused.network, plan, SIZE)
    converter = FORMATS[form]
    path = tmp_path / f"network{converter.SUFFIX}"
    layout = converter.supported()[Precision.W8A8]
    request = EmitRequest(
        network=fused.network,
        plan=plan,
        input_size=SIZE,
        layout=layout,
        metadata={},
        deployment_target="iOS17",
        path=path,
    )
    notes = converter.emit(request).notes
    facts = converter.inspect(path)
    assert facts.ops[DEPTHWISE[form]] == alone
    assert facts.delegation is not None
    # Neither runtime's XNNPACK has nearest upsampling; everything else is delegated, and the file's notes say it.
    left = {each.rpartition(" x")[0] for each in facts.delegation.not_delegated}
    assert left == {UPSAMPLING[form]}
    assert form is Format.TFLITE or any(UPSAMPLING[form] in note for note in notes)
    with torch.no_grad():
        wanted = network(torch.from_numpy(pictures)).numpy()
    found = converter.open_executor(path).heatmaps(pictures)
    snr_db = 10 * np.log10(np.square(wanted).sum() / np.square(found - wanted).sum())
    assert snr_db > SMALLEST_SNR_DB
