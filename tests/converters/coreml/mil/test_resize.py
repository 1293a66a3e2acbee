from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from converters.coreml.mil.program import MilProgram
from lspdmobile.errors import ConversionError

Floats = NDArray[np.float32]
SHAPE = (1, 2, 4, 5)


def _positions(mode: str, n: int, m: int) -> list[float]:
    """Where each of m cells looks among n, transcribed from the MIL reference's spacings."""
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if m == 1:
            return [(n - 1) / 2 if mode == "ALIGN_CORNERS" else 0.0]
        return [i * (n - 1) / (m - 1) for i in range(m)]
    if mode == "DEFAULT":
        spacing = (n - n / m) / (m - 1) if m > 1 else 0.0
        return [i * spacing for i in range(m)]
    if mode == "OFFSET_CORNERS":
        delta = max(1, n - 1) / m
        return [0.5 * delta + i * delta for i in range(m)]
    spacing = n / m
    return [i * spacing + 0.5 * spacing - 0.5 for i in range(m)]


def _resized(x: Floats, mode: str, rows: int, columns: int) -> Floats:
    def along(values: Floats, size: int) -> Floats:
        n = values.shape[-1]
        cells = []
        for position in _positions(mode, n, size):
            clamped = min(n - 1, max(0.0, position))
            low = int(clamped)
            high = min(low + 1, n - 1)
            cells.append(values[..., low] * (1 - (clamped - low)) + values[..., high] * (clamped - low))
        return np.stack(cells, -1)

    tall: Floats = along(x.swapaxes(-1, -2), rows).swapaxes(-1, -2)
    return along(tall, columns)


def _run(path: Path, x: Floats) -> NDArray[Any]:
    (result,) = MilProgram.load(path).predict({"x": x}).values()
    return result


@pytest.fixture
def x() -> Floats:
    return np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)


@pytest.mark.parametrize("size", [(8, 10), (7, 3), (1, 1), (4, 5), (9, 20)])
@pytest.mark.parametrize(
    "mode", ["STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS"]
)
def test_resize_bilinear_samples_where_its_mode_says(
    mode: str, size: tuple[int, int], x: Floats, save_program: Callable[..., Path]
) -> None:
    path = save_program(
        lambda mb, x: mb.resize_bilinear(
            x=x, target_size_height=size[0], target_size_width=size[1], sampling_mode=mode
        ),
        x=SHAPE,
    )
    np.testing.assert_allclose(_run(path, x), _resized(x, mode, *size), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("align", [True, False])
def test_upsample_bilinear_is_torchs(align: bool, x: Floats, save_program: Callable[..., Path]) -> None:
    path = save_program(
        lambda mb, x: mb.upsample_bilinear(x=x, scale_factor_height=2.0, scale_factor_width=3.0, align_corners=align),
        x=SHAPE,
    )
    wanted = F.interpolate(torch.from_numpy(x), size=(8, 15), mode="bilinear", align_corners=align).numpy()
    np.testing.assert_allclose(_run(path, x), wanted, rtol=1e-5, atol=1e-6)


def test_upsample_bilinear_without_half_pixel_centers_starts_at_the_corner(
    x: Floats, save_program: Callable[..., Path]
) -> None:
    path = save_program(
        lambda mb, x: mb.upsample_bilinear(
            x=x, scale_factor_height=2.0, scale_factor_width=2.0, align_corners=False, half_pixel_centers=False
        ),
        x=SHAPE,
    )
    np.testing.assert_allclose(_run(path, x), _resized(x, "DEFAULT", 8, 10), rtol=1e-5, atol=1e-6)


def test_upsample_bilinear_with_both_conventions_is_refused(save_program: Callable[..., Path]) -> None:
    path = save_program(
        lambda mb, x: mb.upsample_bilinear(
            x=x, scale_factor_height=2.0, scale_factor_width=2.0, align_corners=True, half_pixel_centers=True
        ),
        x=SHAPE,
    )
    with pytest.raises(ConversionError, match="half_pixel_centers together with align_corners"):
        MilProgram.load(path)


@pytest.mark.parametrize(
    "body",
    [
        lambda mb, x: mb.upsample_nearest_neighbor(x=x, scale_factor_height=2, scale_factor_width=3),
        lambda mb, x: mb.resize_nearest_neighbor(x=x, target_size_height=8, target_size_width=15),
        lambda mb, x: mb.resize(x=x, shape=[8, 15], resized_dims=np.uint32(2), interpolation_mode="NEAREST_NEIGHBOR"),
    ],
    ids=["upsample", "resize_nearest", "resize"],
)
def test_nearest_repeats_cells(body: Callable[..., Any], x: Floats, save_program: Callable[..., Path]) -> None:
    assert np.array_equal(_run(save_program(body, x=SHAPE), x), x.repeat(2, -2).repeat(3, -1))


def test_resize_keeps_an_axis_whose_target_is_0(x: Floats, save_program: Callable[..., Path]) -> None:
    path = save_program(
        lambda mb, x: mb.resize(x=x, shape=[0, 10], resized_dims=np.uint32(2), sampling_mode="UNALIGN_CORNERS"),
        x=SHAPE,
    )
    np.testing.assert_allclose(_run(path, x), _resized(x, "UNALIGN_CORNERS", 4, 10), rtol=1e-5, atol=1e-6)


def test_nearest_by_a_fraction_is_refused(save_program: Callable[..., Path]) -> None:
    path = save_program(
        lambda mb, x: mb.upsample_nearest_neighbor(x=x, scale_factor_height=1.5, scale_factor_width=2.0), x=SHAPE
    )
    with pytest.raises(ConversionError, match=r"scale_factor_height 1\.5 is not implemented"):
        MilProgram.load(path)


def _nearest(x: Floats, mode: str, size: int) -> Floats:
    """Along the last axis, by the whole number nearest to each position."""
    n = x.shape[-1]
    return np.stack([x[..., min(n - 1, max(0, int(np.rint(at))))] for at in _positions(mode, n, size)], -1)


@pytest.mark.parametrize(
    ("mode", "size"),
    [
        ("UNALIGN_CORNERS", 3),
        ("UNALIGN_CORNERS", 15),
        ("STRICT_ALIGN_CORNERS", 4),
        ("ALIGN_CORNERS", 2),
        ("OFFSET_CORNERS", 6),
    ],
)
def test_resize_takes_the_cell_nearest_to_its_modes_position(
    mode: str, size: int, x: Floats, save_program: Callable[..., Path]
) -> None:
    path = save_program(
        lambda mb, x: mb.resize(
            x=x,
            shape=[size],
            resized_dims=np.uint32(1),
            interpolation_mode="NEAREST_NEIGHBOR",
            sampling_mode=mode,
        ),
        x=SHAPE,
    )
    assert np.array_equal(_run(path, x), _nearest(x, mode, size))


def test_resize_of_one_axis_and_of_three(x: Floats, save_program: Callable[..., Path]) -> None:
    one = save_program(lambda mb, x: mb.resize(x=x, shape=[9, 3], resized_dims=np.uint32(1)), x=SHAPE)
    np.testing.assert_allclose(_run(one, x), _resized(x, "DEFAULT", 4, 3), rtol=1e-5, atol=1e-6)
    three = save_program(
        lambda mb, x: mb.resize(x=x, shape=[1, 3, 6, 7], resized_dims=np.uint32(3), sampling_mode="UNALIGN_CORNERS"),
        x=SHAPE,
    )
    wanted = F.interpolate(torch.from_numpy(x)[None], size=(3, 6, 7), mode="trilinear", align_corners=False)[0]
    np.testing.assert_allclose(_run(three, x), wanted.numpy(), rtol=1e-5, atol=1e-6)


def test_resize_to_a_shape_that_is_computed(x: Floats, save_program: Callable[..., Path]) -> None:
    def body(mb: Any, x: Any, y: Any) -> Any:
        return mb.resize(x=x, shape=mb.shape(x=y), resized_dims=np.uint32(2), sampling_mode="UNALIGN_CORNERS")

    program = MilProgram.load(save_program(body, x=SHAPE, y=(6, 7)))
    (result,) = program.predict({"x": x, "y": np.zeros((6, 7))}).values()
    np.testing.assert_allclose(result, _resized(x, "UNALIGN_CORNERS", 6, 7), rtol=1e-5, atol=1e-6)

    def body_by_value(mb: Any, x: Any, y: Any) -> Any:
        return mb.resize(x=x, shape=mb.cast(x=y, dtype="int32"), resized_dims=np.uint32(2))

    program = MilProgram.load(save_program(body_by_value, x=SHAPE, y=(2,)))
    (result,) = program.predict({"x": x, "y": np.array([6, 0])}).values()
    np.testing.assert_allclose(result, _resized(x, "DEFAULT", 6, 5), rtol=1e-5, atol=1e-6)


REFUSED: dict[str, tuple[Callable[..., Any], str]] = {
    "nearest half way": (
        lambda mb, x: mb.resize(
            x=x,
            shape=[2],
            resized_dims=np.uint32(1),
            interpolation_mode="NEAREST_NEIGHBOR",
            sampling_mode="UNALIGN_CORNERS",
        ),
        "sampling_mode 'UNALIGN_CORNERS' looks half way between two cells, resizing 4 to 2",
    ),
    "nearest by a fraction": (
        lambda mb, x: mb.resize_nearest_neighbor(x=x, target_size_height=5, target_size_width=4),
        "the target size 5 from 3 is not implemented; whole multiples are",
    ),
    "default nearest by a fraction": (
        lambda mb, x: mb.resize(x=x, shape=[5, 4], resized_dims=np.uint32(2), interpolation_mode="NEAREST_NEIGHBOR"),
        "the target size 5 from 3 is not implemented; whole multiples are",
    ),
    "linear of integers": (
        lambda mb, x: mb.resize(x=mb.cast(x=x, dtype="int32"), shape=[5, 4], resized_dims=np.uint32(2)),
        "interpolation_mode 'LINEAR' of integers is not implemented",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_reference_does_not_settle_is_refused(case: str, save_program: Callable[..., Path]) -> None:
    body, complaint = REFUSED[case]
    path = save_program(body, x=(1, 2, 3, 4))
    with pytest.raises(ConversionError, match=complaint):
        MilProgram.load(path).predict({"x": np.zeros((1, 2, 3, 4))})
