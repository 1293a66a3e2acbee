import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lspdmobile.fusion.kernel_costs import Coefficients, Features, Kind, features_of, fitted, kind_of
from lspdmobile.fusion.operations import AddOp, ConvOp

SHAPES = [Features(pixels=p, elements=e, macs=m) for p, e, m in [(9, 90, 500), (64, 800, 9000), (900, 1800, 70000)]]


def depthwise(kernel: tuple[int, int], out_channels: int = 8) -> ConvOp:
    """Describe a depthwise kernel on an 8-channel picture, unpadded."""
    return ConvOp(
        in_channels=8,
        out_channels=out_channels,
        groups=8,
        kernel=kernel,
        dilation=(1, 1),
        stride=(1, 1),
        padding=(0, 0, 0, 0),
        in_size=(32, 32),
        bias=True,
    )


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ((1, 1), Kind.DEPTHWISE_1),
        ((3, 1), Kind.DEPTHWISE_9),
        ((3, 3), Kind.DEPTHWISE_9),
        ((2, 5), Kind.DEPTHWISE_25),
        ((5, 5), Kind.DEPTHWISE_25),
        ((1, 25), Kind.DEPTHWISE_25),
        ((2, 13), Kind.DEPTHWISE_LARGE),
        ((7, 7), Kind.DEPTHWISE_LARGE),
    ],
)
def test_taps_not_sides_decide_a_depthwise_kernel(kernel: tuple[int, int], kind: Kind) -> None:
    assert kind_of(depthwise(kernel)) is kind


def test_a_channel_multiplier_is_no_depthwise_kernel() -> None:
    assert kind_of(depthwise((3, 3), out_channels=16)) is Kind.GROUPED


def test_an_addition_reads_two_and_writes_one() -> None:
    assert features_of(AddOp(channels=5, size=(2, 3))) == Features(pixels=6, elements=90, macs=0)


@given(
    prices=st.tuples(*[st.floats(0.01, 100)] * 3),
    kind=st.sampled_from([Kind.DEPTHWISE_LARGE, Kind.DENSE, Kind.GROUPED]),
)
def test_a_fit_gives_back_the_prices_that_made_the_times(prices: tuple[float, float, float], kind: Kind) -> None:
    second = "element_ns" if kind is Kind.DEPTHWISE_LARGE else "pixel_ns"
    made = Coefficients(op_us=prices[0] + 0.5, mac_ns=prices[1], **{second: prices[2]})
    found = fitted(kind, [(shape, made.microseconds(shape)) for shape in SHAPES])
    for shape in SHAPES:
        assert found.microseconds(shape) == pytest.approx(made.microseconds(shape), rel=1e-6)


def test_a_fit_weighs_errors_by_the_time_and_never_gives_a_negative_price() -> None:
    times = [4.0, 900.0, 2.0]
    found = fitted(Kind.DENSE, list(zip(SHAPES, times, strict=True)))
    assert min(found.op_us, found.pixel_ns, found.element_ns, found.mac_ns) >= 0


def test_one_sample_is_met_exactly() -> None:
    assert fitted(Kind.ADD, [(SHAPES[0], 7.0)]).microseconds(SHAPES[0]) == pytest.approx(7.0)


@pytest.mark.parametrize("kind", [Kind.AFFINE, Kind.GROUPED, Kind.DEPTHWISE_1, Kind.DENSE])
def test_prices_grow_with_the_work_even_if_there_is_but_one_sample_or_noise_hides_it(kind: Kind) -> None:
    small, _, large = SHAPES
    for samples in ([(small, 7.0)], [(small, 7.0), (large, 6.0)]):
        found = fitted(kind, samples)
        assert found.microseconds(large) > found.microseconds(small)


def test_noise_below_zero_still_gives_a_price() -> None:
    assert fitted(Kind.ADD, [(SHAPES[0], -3.0), (SHAPES[1], 5.0)]).microseconds(SHAPES[1]) > 0


def test_no_sample_no_price() -> None:
    with pytest.raises(ValueError, match="no measurement of add"):
        fitted(Kind.ADD, [])


@pytest.mark.parametrize("price", [-1.0, math.nan, math.inf])
def test_prices_that_are_none_are_refused(price: float) -> None:
    with pytest.raises(ValueError, match="finite and not negative"):
        Coefficients(mac_ns=price)


@given(st.lists(st.integers(0, 10**6), min_size=6, max_size=6), st.tuples(*[st.floats(0, 10)] * 4))
def test_more_of_anything_never_costs_less(counts: list[int], prices: tuple[float, float, float, float]) -> None:
    price = Coefficients(op_us=prices[0], pixel_ns=prices[1], element_ns=prices[2], mac_ns=prices[3])
    small = Features(pixels=counts[0], elements=counts[1], macs=counts[2])
    large = Features(pixels=counts[0] + counts[3], elements=counts[1] + counts[4], macs=counts[2] + counts[5])
    assert price.microseconds(small) <= price.microseconds(large)
