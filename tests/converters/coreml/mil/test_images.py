"""Inputs that are images: converted by Core ML Tools with scale and bias, run on pixels, compared with the formula."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from converters.coreml.mil import MilProgram
from lspdmobile.errors import BadInputError

HEIGHT, WIDTH = 6, 4
SCALE, BIAS = 1 / 127.5, (-1.0, -0.9, -0.8)


class Weighted(nn.Module):
    """Another weight for each channel, so that their order matters."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([1.0, 10.0, 100.0])[:channels, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[1, C, H, W]`` to the same shape."""
        return x * self.weights


def saved(folder: Path, tools: Any, colour: str) -> Path:
    """Convert the network with an image of this colour layout as its input."""
    channels = 1 if colour == "GRAYSCALE" else 3
    image = tools.ImageType(
        name="picture",
        shape=(1, channels, HEIGHT, WIDTH),
        scale=SCALE,
        bias=list(BIAS[:channels]) if channels == 3 else BIAS[0],
        color_layout=getattr(tools.colorlayout, colour),
    )
    traced = torch.jit.trace(Weighted(channels).eval(), torch.zeros(1, channels, HEIGHT, WIDTH))
    model = tools.convert(
        traced,
        inputs=[image],
        outputs=[tools.TensorType(name="out")],
        convert_to="mlprogram",
        compute_precision=tools.precision.FLOAT32,
        minimum_deployment_target=tools.target.iOS17,
        skip_model_load=True,
    )
    path = folder / f"{colour}.mlpackage"
    model.save(str(path))
    return path


def pixels(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("colour", ["RGB", "BGR"])
def test_channels_scale_and_bias_are_the_files(colour: str, tmp_path: Path, core_ml_tools: Any) -> None:
    program = MilProgram.load(saved(tmp_path, core_ml_tools, colour))
    picture = pixels(HEIGHT, WIDTH, 3)
    (found,) = program.predict({"picture": picture}).values()
    ordered = picture if colour == "RGB" else picture[..., ::-1]
    wanted = (ordered * SCALE + np.array(BIAS)) * np.array([1, 10, 100])
    np.testing.assert_allclose(found[0], wanted.transpose(2, 0, 1), rtol=1e-5, atol=1e-5)


def test_a_grey_image_has_one_channel(tmp_path: Path, core_ml_tools: Any) -> None:
    program = MilProgram.load(saved(tmp_path, core_ml_tools, "GRAYSCALE"))
    picture = pixels(HEIGHT, WIDTH)
    (found,) = program.predict({"picture": picture}).values()
    np.testing.assert_allclose(found[0, 0], picture * SCALE + BIAS[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "given",
    [pixels(HEIGHT, WIDTH), pixels(WIDTH, HEIGHT, 3), pixels(HEIGHT, WIDTH, 3).astype(np.float32)],
    ids=["grey", "turned", "float"],
)
def test_what_is_no_such_picture_is_refused(given: NDArray[Any], tmp_path: Path, core_ml_tools: Any) -> None:
    program = MilProgram.load(saved(tmp_path, core_ml_tools, "RGB"))
    with pytest.raises(BadInputError, match=r"'picture' is a picture, uint8 \[6, 4, 3\]"):
        program.predict({"picture": given})
