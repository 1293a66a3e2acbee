import weakref
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from lspdmobile.choices import Estimator, Precision
from lspdmobile.errors import BadInputError
from quantization.calibrate import calibrate, calibration_hash, observe
from quantization.histogram import BINS
from quantization.observe import SHARES
from quantization.plan import Estimation, QuantizationPlan, TensorRange


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


class Batches:
    """Pictures that are made when they are asked for, in batches; counts how often that is."""

    def __init__(self, pictures: NDArray[np.float32], size: int, *, said: int | None = None) -> None:
        self.pictures, self.size, self.said = pictures, size, said
        self.passes = 0

    def __len__(self) -> int:
        return len(self.pictures) if self.said is None else self.said

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        self.passes += 1
        for start in range(0, len(self.pictures), self.size):
            yield self.pictures[start : start + self.size].copy()


class Pose(nn.Module):
    """A convolution, a ReLU, a convolution to heatmaps, and their enlargement."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.side = nn.Conv2d(4, 4, 1)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map ``[N, 3, H, W]`` to ``[N, 2, 2 H, 2 W]``."""
        x = F.relu(self.stem(pictures))
        heatmaps: Tensor = F.interpolate(self.head(x + self.side(x)), scale_factor=2.0, mode="bilinear")
        return heatmaps


OUTPUT = {"conv2d_2", "upsample_bilinear2d"}
"""The heatmaps and their enlargement."""


@pytest.fixture
def many() -> NDArray[np.float32]:
    """Nine pictures with a few far values."""
    return np.random.default_rng(3).standard_t(2, (9, 3, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("size", [1, 2, 5, 9])
@pytest.mark.parametrize("estimator", Estimator)
def test_batches_give_the_plan_of_the_whole_array_and_are_read_once(
    many: NDArray[np.float32], size: int, estimator: Estimator
) -> None:
    network, batches = Pose().eval(), Batches(many, size)
    estimation = Estimation(estimator=estimator)
    whole = calibrate(network, many, precision=Precision.W8A8, estimation=estimation)
    assert calibrate(network, batches, precision=Precision.W8A8, estimation=estimation) == whole
    assert whole.calibration_sha256 == calibration_hash(Batches(many, size)) == calibration_hash(many)
    assert batches.passes == 1


@pytest.mark.parametrize("estimator", [e for e in Estimator if e is not Estimator.MOVING_AVERAGE])
def test_the_order_of_the_pictures_does_not_change_the_ranges(many: NDArray[np.float32], estimator: Estimator) -> None:
    network, estimation = Pose().eval(), Estimation(estimator=estimator)
    plans = [calibrate(network, x, precision=Precision.W8A8, estimation=estimation) for x in (many, many[::-1])]
    assert plans[0].ranges == plans[1].ranges
    assert plans[0].calibration_sha256 != plans[1].calibration_sha256


def test_a_moving_average_is_the_one_worked_out_by_hand(pictures: NDArray[np.float32]) -> None:
    # The input runs over 0..6, then -4..2: with momentum 3/4 that is -1..5. The ReLU reaches 2, then 0: 1.5.
    estimation = Estimation(estimator=Estimator.MOVING_AVERAGE, momentum=0.75, clip_output=True)
    ranges = calibrate(Halve().eval(), pictures, precision=Precision.W8A8, estimation=estimation).ranges
    assert ranges["pictures"] == TensorRange(low=-1.0, high=5.0)
    assert ranges["relu"] == TensorRange(low=0.0, high=1.5)
    turned = calibrate(Halve().eval(), pictures[::-1], precision=Precision.W8A8, estimation=estimation).ranges
    assert turned["pictures"] == TensorRange(low=-3.0, high=3.0)


@pytest.mark.parametrize("estimator", [e for e in Estimator if e is not Estimator.MIN_MAX])
def test_the_network_s_output_keeps_its_extremes_unless_asked_otherwise(
    many: NDArray[np.float32], estimator: Estimator
) -> None:
    network = Pose().eval()
    extremes = calibrate(network, many, precision=Precision.W8A8).ranges
    plan = calibrate(network, many, precision=Precision.W8A8, estimation=Estimation(estimator=estimator))
    kept = {name for name, each in plan.ranges.items() if each.estimator is Estimator.MIN_MAX}
    assert kept == OUTPUT | {"conv2d"}  # and what only a ReLU reads
    assert all((plan.ranges[n].low, plan.ranges[n].high) == (extremes[n].low, extremes[n].high) for n in kept)
    asked = Estimation(estimator=estimator, clip_output=True, percentile=95.0)
    clipped = calibrate(network, many, precision=Precision.W8A8, estimation=asked).ranges
    assert {name for name, each in clipped.items() if each.estimator is not None} == {"conv2d"}
    assert any(clipped[name].high < extremes[name].high for name in OUTPUT)


@pytest.mark.parametrize("estimator", Estimator)
def test_ranges_behind_a_relu_start_at_exactly_zero(many: NDArray[np.float32], estimator: Estimator) -> None:
    plan = calibrate(Pose().eval(), many, precision=Precision.W8A8, estimation=Estimation(estimator=estimator))
    assert plan.ranges["relu"].low == 0.0
    assert plan.ranges["relu"].high > 0


def test_int16_is_not_clipped_for_the_sake_of_int8(many: NDArray[np.float32]) -> None:
    network = Pose().eval()
    extremes = calibrate(network, many, precision=Precision.W8A16)
    for estimator in (Estimator.MSE, Estimator.ENTROPY):
        estimation = Estimation(estimator=estimator)
        assert calibrate(network, many, precision=Precision.W8A16, estimation=estimation) == extremes
        assert calibrate(network, many, precision=Precision.W8A8, estimation=estimation).ranges != extremes.ranges


def test_one_pass_serves_every_precision(many: NDArray[np.float32]) -> None:
    batches = Batches(many, 2)
    calibration = observe(Pose().eval(), batches)
    plans = [calibration.plan(precision) for precision in Precision]
    assert batches.passes == 1
    assert [bool(plan.ranges) for plan in plans] == [p.is_static_integer for p in Precision]


def test_an_operator_that_changes_its_input_does_not_change_what_was_seen_of_it() -> None:
    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(x * 2.0, inplace=True) + 1.0

    x = np.full((1, 3, 2, 2), -1.0, np.float32)
    ranges = calibrate(InPlace().eval(), x, precision=Precision.W8A8).ranges
    assert [each.low for each in ranges.values()] == [-1.0, -2.0, 0.0, 1.0]


@pytest.mark.parametrize("estimator", Estimator)
def test_no_picture_and_no_value_computed_from_it_is_kept(estimator: Estimator) -> None:
    alive: list[weakref.ref[NDArray[np.float32]]] = []
    most = 0

    class Watched(Batches):
        def __iter__(self) -> Iterator[NDArray[np.float32]]:
            nonlocal most
            for batch in super().__iter__():
                alive.append(weakref.ref(batch))
                yield batch
                most = max(most, sum(each() is not None for each in alive))

    pictures = np.random.default_rng(0).normal(size=(20, 3, 8, 8)).astype(np.float32)
    calibration = observe(Pose().eval(), Watched(pictures, 1), estimation=Estimation(estimator=estimator))
    assert most <= 2
    kept = [getattr(seen, name) for seen in calibration.seen.values() for name in ("lows", "highs")]
    assert {array.shape for array in kept} == {(SHARES,)}
    bins = [len(seen.histogram.counts) for seen in calibration.seen.values() if seen.histogram is not None]
    assert max(bins, default=0) <= BINS


def test_pictures_that_are_fewer_or_more_than_said_are_refused(many: NDArray[np.float32]) -> None:
    for said in (8, 10):
        with pytest.raises(ValueError, match=f"{said} calibration pictures were said, 9 given"):
            calibrate(Halve().eval(), Batches(many, 4, said=said), precision=Precision.W8A8)


def test_pictures_of_two_sizes_are_refused(many: NDArray[np.float32]) -> None:
    mixed = [many[0], many[1, :, :4]]
    with pytest.raises(ValueError, match=r"not float32 \[1, 3, 4, 8\]"):
        calibrate(Halve().eval(), mixed, precision=Precision.W8A8)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6])
def test_a_layer_fused_with_what_cuts_it_off_keeps_its_extremes(
    many: NDArray[np.float32], activation: type[nn.Module]
) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), activation(), nn.Conv2d(4, 2, 1)).eval()
    estimation = Estimation(estimator=Estimator.PERCENTILE, percentile=95.0)
    whole = calibrate(network, many, precision=Precision.W8A8)
    clipped = calibrate(network, many, precision=Precision.W8A8, estimation=estimation)
    ends = [(plan.ranges["conv2d"].low, plan.ranges["conv2d"].high) for plan in (whole, clipped)]
    assert ends[0] == ends[1]
