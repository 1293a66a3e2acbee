import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lspdmobile.choices import Precision
from lspdmobile.errors import BadInputError
from quantization.calibrate import calibrate, calibration_hash
from quantization.plan import QuantizationPlan, TensorRange


class Halve(nn.Module):
    """A 1x1 convolution that halves the first channel and subtracts 1, then a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.halve = nn.Conv2d(3, 1, 1)
        nn.init.zeros_(self.halve.weight)
        with torch.no_grad():
            self.halve.weight[0, 0] = 0.5
        nn.init.constant_(self.halve.bias, -1.0) if self.halve.bias is not None else None

    def forward(self, pictures: Tensor) -> Tensor:
        """Map ``[N, 3, H, W]`` to ``[N, 1, H, W]``."""
        return torch.relu(self.halve(pictures))


@pytest.fixture
def pictures() -> NDArray[np.float32]:
    """Two pictures whose first channel runs over 0..6 and -4..2."""
    pictures = np.zeros((2, 3, 4, 4), np.float32)
    pictures[0, 0, 0, 0] = 6.0
    pictures[1, 0, 1, 1] = -4.0
    pictures[1, 0, 2, 2] = 2.0
    return pictures


def test_ranges_are_the_extremes_over_all_pictures(pictures: NDArray[np.float32]) -> None:
    plan = calibrate(Halve().eval(), pictures, precision=Precision.W8A8)
    assert plan.ranges == {
        "pictures": TensorRange(low=-4.0, high=6.0),
        "conv2d": TensorRange(low=-3.0, high=2.0),
        "relu": TensorRange(low=0.0, high=2.0),
    }


def test_the_plan_keeps_the_number_of_pictures_and_their_hash(pictures: NDArray[np.float32]) -> None:
    plan = calibrate(Halve().eval(), pictures, precision=Precision.W8A16)
    assert plan.precision is Precision.W8A16
    assert plan.calibration_pictures == 2
    assert plan.calibration_sha256 == calibration_hash(pictures.copy())


def test_the_hash_tells_values_and_shapes_apart(pictures: NDArray[np.float32]) -> None:
    changed = pictures.copy()
    changed[1, 2, 3, 3] += 1e-6
    hashes = {calibration_hash(each) for each in (pictures, changed, pictures.reshape(2, 3, 2, 8), pictures[:1])}
    assert len(hashes) == 4


def test_the_hash_does_not_depend_on_strides(pictures: NDArray[np.float32]) -> None:
    strided = np.ascontiguousarray(pictures.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert calibration_hash(strided) == calibration_hash(pictures)
    assert calibrate(Halve().eval(), strided, precision=Precision.W8A8).ranges


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16, Precision.W8])
def test_float_activations_need_no_picture(precision: Precision) -> None:
    plan = calibrate(Halve().eval(), np.empty((0, 3, 4, 4), np.float32), precision=precision)
    assert (plan.ranges, plan.calibration_sha256, plan.calibration_pictures) == ({}, "", 0)


def test_progress_is_told_after_each_picture(pictures: NDArray[np.float32]) -> None:
    told: list[tuple[int, int]] = []
    calibrate(
        Halve().eval(), pictures, precision=Precision.W8A8, progress=lambda done, total: told.append((done, total))
    )
    assert told == [(1, 2), (2, 2)]


def test_no_picture_is_bad_input() -> None:
    with pytest.raises(BadInputError, match="no calibration picture"):
        calibrate(Halve().eval(), np.empty((0, 3, 4, 4), np.float32), precision=Precision.W8A8)


def test_a_picture_that_is_not_finite_is_named(pictures: NDArray[np.float32]) -> None:
    pictures[1, 0, 0, 0] = np.nan
    with pytest.raises(BadInputError, match="picture 1: the picture itself"):
        calibrate(Halve().eval(), pictures, precision=Precision.W8A8)


def test_the_first_layer_that_overflows_is_named(pictures: NDArray[np.float32]) -> None:
    overflowing = Halve()
    with torch.no_grad():
        overflowing.halve.weight[0, 0] = torch.inf
    network = nn.Sequential(nn.Conv2d(3, 3, 1), overflowing, nn.ReLU()).eval()
    with pytest.raises(BadInputError, match=r"layer '1\.halve' \(conv2d_1\)"):
        calibrate(network, pictures, precision=Precision.W8A8)


def test_a_training_network_is_refused(pictures: NDArray[np.float32]) -> None:
    with pytest.raises(ValueError, match="training mode"):
        calibrate(Halve().train(), pictures, precision=Precision.W8A8)


def test_pictures_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"float32 \[M, 3, H, W\]"):
        calibrate(Halve().eval(), np.zeros((1, 4, 4, 3), np.float32), precision=Precision.W8A8)


def test_plan_json_says_how_wide_activations_are() -> None:
    said = {p: QuantizationPlan(precision=p).to_dict()["activations"] for p in Precision}
    assert said[Precision.FP16] is None
    assert (said[Precision.W8A8]["bits"], said[Precision.W8A8]["symmetric"]) == (8, False)
    assert (said[Precision.W8A16]["bits"], said[Precision.W8A16]["symmetric"]) == (16, True)
