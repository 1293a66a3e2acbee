"""Warps, resampling and crops, compared with torch or with a picture that is padded for real."""

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

Array = NDArray[Any]
PICTURE = np.random.default_rng(1).standard_normal((2, 3, 5, 7)).astype(np.float32)
GRID = np.random.default_rng(2).uniform(-1.9, 1.9, (2, 4, 6, 2)).astype(np.float32)
NUMPYS = {"constant": "constant", "border": "edge", "reflection": "reflect", "symmetric": "symmetric"}


def _resample(mb: Any, x: Any, grid: Any, **changes: Any) -> Any:
    named: dict[str, Any] = {
        "sampling_mode": "bilinear",
        "padding_mode": "constant",
        "padding_value": 0.0,
        "coordinates_mode": "normalized_minus_one_to_one",
        "align_corners": True,
    }
    return mb.resample(x=x, coordinates=grid, **{**named, **changes})


@pytest.mark.parametrize("target", ["iOS15", "iOS18"])
@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("sampling", ["bilinear", "nearest"])
def test_resample_is_torchs_grid_sample(
    sampling: str, padding: str, align: bool, target: str, check: Callable[..., None]
) -> None:
    mode = {"zeros": "constant", "reflection": "reflection" if align else "symmetric"}.get(padding, padding)
    check(
        lambda mb, x, y: _resample(mb, x, y, sampling_mode=sampling, padding_mode=mode, align_corners=align),
        lambda x, y: F.grid_sample(
            torch.from_numpy(x), torch.from_numpy(y), mode=sampling, padding_mode=padding, align_corners=align
        ).numpy(),
        PICTURE,
        GRID,
        target=target,
    )


@pytest.mark.parametrize("mode", NUMPYS)
def test_a_picture_goes_on_as_its_padding_mode_says(mode: str, check: Callable[..., None]) -> None:
    """Places are whole and half rows and columns up to 3 beyond the edge."""
    columns, rows = np.meshgrid(np.arange(-3, 10, 0.5), np.arange(-3, 8, 0.5))
    places = np.stack((columns, rows), -1).astype(np.float32)[None].repeat(2, 0)
    how: dict[str, Any] = {"mode": NUMPYS[mode], **({"constant_values": 0.7} if mode == "constant" else {})}

    def reference(x: Array, _: Array) -> Array:
        padded = np.pad(x, [(0, 0), (0, 0), (4, 4), (4, 4)], **how)
        lower, upper = padded[..., 1:-1, 1:-1], padded[..., 1:, 1:][..., 1:, 1:]
        down, right = padded[..., 2:, 1:-1], padded[..., 1:-1, 2:]
        result = np.zeros((2, 3, 22, 26), np.float32)
        result[..., ::2, ::2] = lower[..., :11, :13]
        result[..., 1::2, ::2] = (lower + down)[..., :11, :13] / 2
        result[..., ::2, 1::2] = (lower + right)[..., :11, :13] / 2
        result[..., 1::2, 1::2] = (lower + down + right + upper)[..., :11, :13] / 4
        return result

    check(
        lambda mb, x, y: _resample(mb, x, y, padding_mode=mode, padding_value=0.7, coordinates_mode="unnormalized"),
        reference,
        PICTURE,
        places,
    )


@pytest.mark.parametrize("align", [True, False])
def test_coordinates_from_0_to_1(align: bool, check: Callable[..., None]) -> None:
    check(
        lambda mb, x, y: _resample(mb, x, y, coordinates_mode="normalized_zero_to_one", align_corners=align),
        lambda x, y: F.grid_sample(torch.from_numpy(x), torch.from_numpy(y) * 2 - 1, align_corners=align).numpy(),
        PICTURE,
        GRID,
    )


@pytest.mark.parametrize("matrices", [1, 2])
def test_affine_is_torchs(matrices: int, check: Callable[..., None]) -> None:
    matrix = np.random.default_rng(3).uniform(-1, 1, (matrices, 6)).astype(np.float32)

    def reference(x: Array) -> Array:
        theta = torch.from_numpy(matrix).reshape(-1, 2, 3).expand(2, 2, 3)
        grid = F.affine_grid(theta, [2, 3, 6, 4], align_corners=True)
        return F.grid_sample(torch.from_numpy(x), grid, align_corners=True).numpy()

    check(
        lambda mb, x: mb.affine(
            x=x,
            transform_matrix=matrix,
            output_height=6,
            output_width=4,
            sampling_mode="bilinear",
            padding_mode="constant",
            padding_value=0.0,
            coordinates_mode="normalized_minus_one_to_one",
            align_corners=True,
        ),
        reference,
        PICTURE,
    )


BOXES = np.array([[0.5, 1.0, 3.5, 5.0], [1.0, 0.0, 4.0, 6.0], [2.0, 3.0, 1.0, 4.5]], np.float32)


def _crop(picture: Array, box: Array, sizes: tuple[int, int], mode: str, pad: float) -> Array:
    """Cut one box ``[top, left, bottom, right]`` out of ``[C, H, W]``, cell by cell."""
    result = np.full((picture.shape[0], *sizes), pad, np.float64)
    for cell in np.ndindex(*sizes):
        places = []
        for index, size, first, last in zip(cell, sizes, box[:2].astype(float), box[2:].astype(float), strict=True):
            if mode == "OFFSET_CORNERS":
                places.append(first + (index + 0.5) * (last - first) / size)
            elif size == 1:
                places.append((first + last) / 2 if mode == "ALIGN_CORNERS" else first)
            else:
                places.append(first + index * (last - first) / (size - 1))
        (y, x), (height, width) = places, picture.shape[1:]
        if 0 <= y <= height - 1 and 0 <= x <= width - 1:
            top, left = min(int(y), height - 2), min(int(x), width - 2)
            corners = picture[:, top : top + 2, left : left + 2].astype(float)
            result[:, cell[0], cell[1]] = np.einsum(
                "crk,r,k->c", corners, [1 - y + top, y - top], [1 - x + left, x - left]
            )
    return result


@pytest.mark.parametrize("sizes", [(4, 3), (1, 1), (2, 9)])
@pytest.mark.parametrize("mode", ["STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "OFFSET_CORNERS"])
def test_crop_resize(mode: str, sizes: tuple[int, int], check: Callable[..., None]) -> None:
    boxes = BOXES[:2] if mode == "OFFSET_CORNERS" else BOXES
    pictures = np.array([1, 0, 1], np.int32)[: len(boxes)]
    check(
        lambda mb, x: mb.crop_resize(
            x=x,
            boxes=boxes,
            box_indices=pictures,
            target_height=sizes[0],
            target_width=sizes[1],
            sampling_mode=mode,
        ),
        lambda x: np.stack([_crop(x[i], box, sizes, mode, 0) for i, box in zip(pictures, boxes, strict=True)]),
        PICTURE,
    )


def test_crop_resize_beyond_the_picture_pads(check: Callable[..., None]) -> None:
    boxes = np.array([[-1.5, 1.0, 5.0, 9.0], [0.0, -2.0, 4.0, 6.0]], np.float32)
    check(
        lambda mb, x: mb.crop_resize(
            x=x, boxes=boxes, target_height=5, target_width=6, sampling_mode="ALIGN_CORNERS", pad_value=0.3
        ),
        lambda x: np.stack([_crop(x[n], boxes[n], (5, 6), "ALIGN_CORNERS", 0.3) for n in range(2)]),
        PICTURE,
    )


def test_crop_resize_of_scaled_and_normalized_boxes(check: Callable[..., None]) -> None:
    unit = np.array([4, 6, 4, 6], np.float32)
    check(
        lambda mb, x: mb.crop_resize(
            x=x,
            boxes=(BOXES[:2] / unit * 2)[:, [1, 0, 3, 2]],
            target_height=3,
            target_width=4,
            normalized_coordinates=True,
            spatial_scale=0.5,
            box_coordinate_mode="CORNERS_WIDTH_FIRST",
            sampling_mode="ALIGN_CORNERS",
        ),
        lambda x: np.stack([_crop(x[n], BOXES[n], (3, 4), "ALIGN_CORNERS", 0) for n in range(2)]),
        PICTURE,
    )


@pytest.mark.parametrize("target", ["iOS15", "iOS16"])
def test_crop_resize_before_ios_17_takes_every_box_from_every_picture(target: str, check: Callable[..., None]) -> None:
    check(
        lambda mb, x: mb.crop_resize(
            x=x, roi=BOXES[:, None, :, None, None], target_height=3, target_width=4, sampling_mode="ALIGN_CORNERS"
        ),
        lambda x: np.stack([np.stack([_crop(one, box, (3, 4), "ALIGN_CORNERS", 0) for one in x]) for box in BOXES]),
        PICTURE,
        target=target,
    )


def test_crop_resize_before_ios_17_of_boxes_that_name_their_picture(check: Callable[..., None]) -> None:
    rois = np.concatenate((np.zeros((3, 1), np.float32), BOXES), 1)[:, None, :, None, None]
    check(
        lambda mb, x: mb.crop_resize(
            x=x, roi=rois, target_height=3, target_width=4, sampling_mode="STRICT_ALIGN_CORNERS"
        ),
        lambda x: np.stack([_crop(x[0], box, (3, 4), "STRICT_ALIGN_CORNERS", 0) for box in BOXES])[:, None],
        PICTURE[:1],
        target="iOS15",
    )


REFUSED: dict[str, tuple[Callable[..., Any], str, str]] = {
    "default mode": (lambda mb, x: mb.crop_resize(x=x, boxes=BOXES[:2]), "iOS17", "sampling_mode 'DEFAULT' is not"),
    "unaligned mode": (
        lambda mb, x: mb.crop_resize(x=x, boxes=BOXES[:2], sampling_mode="UNALIGN_CORNERS"),
        "iOS17",
        "sampling_mode 'UNALIGN_CORNERS' is not implemented",
    ),
    "boxes by centre": (
        lambda mb, x: mb.crop_resize(
            x=x, boxes=BOXES[:2], sampling_mode="ALIGN_CORNERS", box_coordinate_mode="CENTER_SIZE_HEIGHT_FIRST"
        ),
        "iOS17",
        "box_coordinate_mode 'CENTER_SIZE_HEIGHT_FIRST' is not implemented",
    ),
    "short boxes": (
        lambda mb, x: mb.crop_resize(x=x, boxes=BOXES[2:], sampling_mode="OFFSET_CORNERS"),
        "iOS17",
        "OFFSET_CORNERS of a box shorter than 1",
    ),
    "beyond the picture": (
        lambda mb, x: mb.crop_resize(
            x=x, roi=BOXES[:, None, :, None, None] + 3, target_height=2, sampling_mode="ALIGN_CORNERS"
        ),
        "iOS15",
        "a box reaches beyond the picture, and there is no pad_value",
    ),
    "outer edges of plain coordinates": (
        lambda mb, x: _resample(mb, x, GRID, coordinates_mode="unnormalized", align_corners=False),
        "iOS17",
        "align_corners False with 'unnormalized' is not implemented",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_settled_is_refused(case: str, save_program: Callable[..., Path]) -> None:
    body, target, complaint = REFUSED[case]
    path = save_program(body, x=PICTURE.shape, target=target)
    with pytest.raises(ConversionError, match=complaint):
        MilProgram.load(path).predict({"x": PICTURE})


@pytest.mark.parametrize(
    ("width", "align", "complaint"), [(1, True, "output_width below 2"), (4, False, "align_corners False")]
)
def test_warps_that_are_not_settled_are_refused(
    width: int, align: bool, complaint: str, save_program: Callable[..., Path]
) -> None:
    path = save_program(
        lambda mb, x: mb.affine(
            x=x,
            transform_matrix=np.ones((1, 6), np.float32),
            output_height=6,
            output_width=width,
            sampling_mode="bilinear",
            padding_mode="constant",
            padding_value=0.0,
            coordinates_mode="normalized_minus_one_to_one",
            align_corners=align,
        ),
        x=PICTURE.shape,
    )
    with pytest.raises(ConversionError, match=complaint):
        MilProgram.load(path)
